"""Streams of assistants' runs: a handler whose methods are called as events come, and which is the stream itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ..core.model.base import BaseModel
from ..errors import APITimeoutError
from .assistant_accumulators import MessageAccumulator, StepAccumulator, objects_of

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..engine import AsyncStream, Engine
    from ..types.beta import AssistantStreamEvent
    from ..types.beta.threads import ImageFile, Message, MessageDelta, Run, Text, TextDelta
    from ..types.beta.threads.runs import RunStep, RunStepDelta, ToolCall, ToolCallDelta

__all__ = ["AsyncAssistantEventHandler", "AsyncAssistantEventHandlerT", "AsyncAssistantStreamManager"]


class AsyncAssistantEventHandler:
    """Subclass it and override the ``on_…`` methods that matter; or iterate it for the events, or both.

    A handler is of one stream. An exception in one of its methods ends the stream and is raised where it is read.
    """

    def __init__(self) -> None:
        self._stream: AsyncStream[Any] | None = None
        self._iterator: AsyncGenerator[AssistantStreamEvent, None] | None = None
        self._event: AssistantStreamEvent | None = None
        self._run: Run | None = None
        self._messages: dict[str, MessageAccumulator] = {}
        self._message: MessageAccumulator | None = None
        self._steps: dict[str, StepAccumulator] = {}
        self._step_id: str | None = None
        self._place: int | None = None  # of the block of content that grows
        self._call_place: int | None = None
        self._call: Any = None

    # ---------------------------------------------------------------- reading

    def begin(self, stream: AsyncStream[Any]) -> None:
        """Be the handler of this stream; called by the manager. `RuntimeError` for a handler that had one."""
        if self._stream is not None:
            raise RuntimeError("an event handler is of one stream: make a new one for each")
        self._stream = stream
        self._iterator = self._events(stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AssistantStreamEvent:
        if self._iterator is None:
            raise RuntimeError("the stream has not begun: use `async with`")
        return await self._iterator.__anext__()

    async def close(self) -> None:
        """Free the connection and the place in flight at once. Idempotent."""
        if self._stream is not None:
            await self._stream.close()
        if self._iterator is not None:
            with contextlib.suppress(RuntimeError):  # asked for by one of our own methods: it ends with that
                await self._iterator.aclose()

    async def until_done(self) -> None:
        """Read what is left, so that every method is called; raises what reading raises."""
        async for _ in self:
            pass

    @property
    def text_deltas(self) -> AsyncIterator[str]:
        """The texts of messages, piece by piece; reads the stream."""
        return self._text_deltas()

    @property
    def current_event(self) -> AssistantStreamEvent | None:
        """The event for which a method is called just now."""
        return self._event

    @property
    def current_run(self) -> Run | None:
        """The run as it came last."""
        return self._run

    @property
    def current_run_step_snapshot(self) -> RunStep | None:
        """The step under way, with what came of it."""
        return self._steps[self._step_id].step if self._step_id in self._steps else None

    @property
    def current_message_snapshot(self) -> Message | None:
        """The last message, with what came of it."""
        return None if self._message is None else self._message.message

    async def get_final_run(self) -> Run:
        """The run at its end; reads what is left. `RuntimeError` for a stream without one."""
        await self.until_done()
        if self._run is None:
            raise RuntimeError("the stream had no run")
        return self._run

    async def get_final_run_steps(self) -> list[RunStep]:
        """The steps of the run; reads what is left. `RuntimeError` for a stream without one."""
        await self.until_done()
        if not self._steps:
            raise RuntimeError("the stream had no steps of a run")
        return [one.step for one in self._steps.values()]

    async def get_final_messages(self) -> list[Message]:
        """The messages of the run; reads what is left. `RuntimeError` for a stream without one."""
        await self.until_done()
        if not self._messages:
            raise RuntimeError("the stream had no messages")
        return [one.message for one in self._messages.values()]

    async def _text_deltas(self) -> AsyncIterator[str]:
        async for event in self:
            if event.event == "thread.message.delta":
                for part in objects_of(event.data, "delta", "content"):
                    value = getattr(getattr(part, "text", None), "value", None)
                    if isinstance(value, str) and value:
                        yield value

    async def _events(self, stream: AsyncStream[Any]) -> AsyncGenerator[AssistantStreamEvent, None]:
        try:
            async for event in stream:
                self._event = event
                await self.on_event(event)
                await self._dispatch(event)
                self._event = None
                yield event
        except Exception as error:
            await stream.close()
            if isinstance(error, APITimeoutError):
                await self.on_timeout()
            await self.on_exception(error)
            raise
        finally:
            await self.on_end()

    # ---------------------------------------------------------------- who is told of what

    async def _dispatch(self, event: Any) -> None:
        kind = getattr(event, "event", None)
        data = getattr(event, "data", None)
        if not isinstance(kind, str) or not kind.startswith("thread.") or not isinstance(data, BaseModel):
            return
        if kind.startswith("thread.run.step."):
            await self._of_step(kind.rpartition(".")[2], event.data)
        elif kind.startswith("thread.run."):
            self._run = event.data
            if kind.rpartition(".")[2] in _RUN_ENDS and self._call is not None:
                await self.on_tool_call_done(self._call)
        elif kind.startswith("thread.message."):
            await self._of_message(kind.rpartition(".")[2], event.data)

    async def _of_message(self, what: str, data: Any) -> None:
        if what == "created":
            self._message = self._messages[_name(data)] = MessageAccumulator(data)
            self._place = None
            await self.on_message_created(data)
        elif what == "delta":
            if self._message is None:
                raise RuntimeError("a piece of a message came before the message")
            await self._of_delta(self._message, data.delta)
        elif what in ("completed", "incomplete"):
            self._message = self._messages.setdefault(_name(data), MessageAccumulator(data))
            self._message.end(data)
            if self._place is not None:
                await self._block_done(self._message.block(self._place))
            await self.on_message_done(data)

    async def _of_delta(self, whole: MessageAccumulator, delta: Any) -> None:
        ended = whole.block(self._place) if self._place is not None else None
        for begun in whole.add(delta):
            block = whole.block(begun)
            if getattr(block, "type", None) == "text":
                await self.on_text_created(block.text)
        for part in objects_of(delta, "content"):
            place, delta_text = getattr(part, "index", None), getattr(part, "text", None)
            text = getattr(whole.block(place), "text", None)
            if part.type == "text" and delta_text is not None and text is not None:
                await self.on_text_delta(delta_text, text)
            if place != self._place:
                if ended is not None:
                    await self._block_done(ended)
                self._place, ended = place, whole.block(place)
        await self.on_message_delta(delta, whole.message)

    async def _block_done(self, block: Any) -> None:
        kind = getattr(block, "type", None)
        if kind == "text":
            await self.on_text_done(block.text)
        elif kind == "image_file":
            await self.on_image_file_done(block.image_file)

    async def _of_step(self, what: str, data: Any) -> None:
        if what == "created":
            self._step_id = _name(data)
            self._steps[self._step_id] = StepAccumulator(data)
            self._call_place = self._call = None
            await self.on_run_step_created(data)
        elif what == "in_progress":
            self._step_id = _name(data)
        elif what == "delta":
            if _name(data) not in self._steps:
                raise RuntimeError("a piece of a step came before the step")
            await self._of_step_delta(self._steps[_name(data)], data.delta)
        elif what in _STEP_ENDS:
            if _name(data) in self._steps:
                self._steps[_name(data)].end(data)
            if self._call is not None:
                await self.on_tool_call_done(self._call)
            self._call_place = self._call = None
            await self.on_run_step_done(data)
            self._step_id = None

    async def _of_step_delta(self, whole: StepAccumulator, delta: Any) -> None:
        whole.add(delta)
        for part in objects_of(delta, "step_details", "tool_calls"):
            place = getattr(part, "index", None)
            call = whole.call(place)
            if place == self._call_place:
                await self.on_tool_call_delta(part, call)
            else:
                if self._call is not None:
                    await self.on_tool_call_done(self._call)
                self._call_place = place
                await self.on_tool_call_created(call)
            self._call = call
        await self.on_run_step_delta(delta, whole.step)

    # ---------------------------------------------------------------- to be overridden

    async def on_event(self, event: AssistantStreamEvent) -> None:
        """Any event came; called before the method that is more specific."""

    async def on_end(self) -> None:
        """The stream was read to its end, or reading it failed."""

    async def on_exception(self, exception: Exception) -> None:
        """Reading failed; the exception is raised after this."""

    async def on_timeout(self) -> None:
        """A clock ran out; called before `on_exception`."""

    async def on_run_step_created(self, run_step: RunStep) -> None:
        """A step of the run begins."""

    async def on_run_step_delta(self, delta: RunStepDelta, snapshot: RunStep) -> None:
        """More of a step came; `snapshot` is the step with it."""

    async def on_run_step_done(self, run_step: RunStep) -> None:
        """A step has ended, well or not."""

    async def on_tool_call_created(self, tool_call: ToolCall) -> None:
        """A tool call begins."""

    async def on_tool_call_delta(self, delta: ToolCallDelta, snapshot: ToolCall) -> None:
        """More of a tool call came; `snapshot` is the call with it."""

    async def on_tool_call_done(self, tool_call: ToolCall) -> None:
        """A tool call is whole."""

    async def on_message_created(self, message: Message) -> None:
        """A message begins."""

    async def on_message_delta(self, delta: MessageDelta, snapshot: Message) -> None:
        """More of a message came; `snapshot` is the message with it."""

    async def on_message_done(self, message: Message) -> None:
        """A message has ended."""

    async def on_text_created(self, text: Text) -> None:
        """A block of text begins."""

    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        """More text came; `snapshot` is the block with it."""

    async def on_text_done(self, text: Text) -> None:
        """A block of text is whole."""

    async def on_image_file_done(self, image_file: ImageFile) -> None:
        """An image of a message is there."""


def _name(data: Any) -> str:
    """The id of an object, whatever a server has put there."""
    return str(getattr(data, "id", None))


_RUN_ENDS = frozenset({"completed", "cancelled", "expired", "failed", "requires_action", "incomplete"})
_STEP_ENDS = frozenset({"completed", "cancelled", "expired", "failed"})

AsyncAssistantEventHandlerT = TypeVar("AsyncAssistantEventHandlerT", bound=AsyncAssistantEventHandler)


class AsyncAssistantStreamManager(Generic[AsyncAssistantEventHandlerT]):
    """What the helpers that stream answer: ``async with`` it for the handler. Nothing is sent before."""

    def __init__(self, calls: Engine, request: Request, event_handler: AsyncAssistantEventHandlerT) -> None:
        self._calls = calls
        self._request = request
        self._handler = event_handler

    async def __aenter__(self) -> AsyncAssistantEventHandlerT:
        stream = await self._calls.open(self._request)
        try:
            self._handler.begin(stream)
        except BaseException:
            await stream.close()
            raise
        return self._handler

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._handler.close()
