"""Streams of assistants' runs: a handler whose methods are called for events, and which is the stream itself."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from ..core.codec.accumulate import grow, settled
from ..core.model.base import BaseModel
from ..core.model.closing import refuse_second_pass
from ..core.model.lenient import builder_for
from ..errors import APITimeoutError
from ..lazy import resolve_annotations
from ..types.beta.threads import Message, MessageContent
from ..types.beta.threads.runs import RunStep, ToolCall
from .parsing import upgraded

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..engine import AsyncStream, Engine
    from ..types.beta import AssistantStreamEvent
    from ..types.beta.threads import ImageFile, MessageDelta, Run, Text, TextDelta
    from ..types.beta.threads.runs import RunStepDelta, ToolCallDelta

__all__ = ["AsyncAssistantEventHandler", "AsyncAssistantEventHandlerT", "AsyncAssistantStreamManager"]


class AsyncAssistantEventHandler:
    """Subclass it and override the ``on_…`` methods you need, or iterate it for the events, or both.

    A handler serves one stream. An exception from one of its methods ends the stream and is raised to the reader.
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
        self._place: int | None = None  # index of the block of content that grows
        self._call_place: int | None = None
        self._call: Any = None
        self._ended = False

    # ---------------------------------------------------------------- reading

    def begin(self, stream: AsyncStream[Any]) -> None:
        """Handle this stream; called by the manager. Raises `RuntimeError` for a handler that was used before."""
        if self._stream is not None:
            raise RuntimeError("an event handler serves one stream: make a new one for each")
        self._stream = stream
        self._iterator = self._events(stream)

    def __aiter__(self) -> Self:
        refuse_second_pass(self._ended, "its get_final_…() have the results")
        return self

    async def __anext__(self) -> AssistantStreamEvent:
        if self._iterator is None:
            raise RuntimeError("the stream has not begun: use `async with`")
        try:
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise

    async def close(self) -> None:
        """Free the connection and the slot in flight at once. Idempotent."""
        if self._stream is not None:
            await self._stream.close()
        if self._iterator is not None:
            # RuntimeError: called from one of the handler's own methods, after which the iterator ends anyway.
            with contextlib.suppress(RuntimeError):
                await self._iterator.aclose()

    async def until_done(self) -> None:
        """Read the rest of the stream, so that every method is called. Raises the errors of reading."""
        if not self._ended:
            async for _ in self:
                pass

    @property
    def text_deltas(self) -> AsyncIterator[str]:
        """The text of messages, piece by piece; iterating it reads the stream."""
        return self._text_deltas()

    @property
    def current_event(self) -> AssistantStreamEvent | None:
        """The event that is being handled."""
        return self._event

    @property
    def current_run(self) -> Run | None:
        """The run as it was last received."""
        return self._run

    @property
    def current_run_step_snapshot(self) -> RunStep | None:
        """The current step, with the deltas received so far."""
        return self._steps[self._step_id].step if self._step_id in self._steps else None

    @property
    def current_message_snapshot(self) -> Message | None:
        """The last message, with the deltas received so far."""
        return None if self._message is None else self._message.message

    async def get_final_run(self) -> Run:
        """Read the rest of the stream and return the run at its end. Raises `RuntimeError` if there was no run."""
        await self.until_done()
        if self._run is None:
            raise RuntimeError("the stream had no run")
        return self._run

    async def get_final_run_steps(self) -> list[RunStep]:
        """Read the rest of the stream and return the run's steps. Raises `RuntimeError` if there were none."""
        await self.until_done()
        if not self._steps:
            raise RuntimeError("the stream had no steps of a run")
        return [one.step for one in self._steps.values()]

    async def get_final_messages(self) -> list[Message]:
        """Read the rest of the stream and return the run's messages. Raises `RuntimeError` if there were none."""
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

    # ---------------------------------------------------------------- dispatch of events to methods

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
                raise RuntimeError("a delta of a message was received before the message")
            await self._of_delta(self._message, data.delta)
        elif what in ("completed", "incomplete"):
            self._message = self._messages.setdefault(_name(data), MessageAccumulator(data))
            self._message.end(data)
            if self._place is not None:
                await self._block_done(self._message.block(self._place))
            await self.on_message_done(data)

    async def _of_delta(self, whole: MessageAccumulator, delta: Any) -> None:
        ended = whole.block(self._place) if self._place is not None else None
        for started in whole.add(delta):
            block = whole.block(started)
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
                raise RuntimeError("a delta of a step was received before the step")
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
        """Called for every event, before the more specific method."""

    async def on_end(self) -> None:
        """Called when the stream was read to its end, or reading it failed."""

    async def on_exception(self, exception: Exception) -> None:
        """Called when reading failed; the exception is raised afterwards."""

    async def on_timeout(self) -> None:
        """Called when a timeout expired, before `on_exception`."""

    async def on_run_step_created(self, run_step: RunStep) -> None:
        """Called when a step of the run begins."""

    async def on_run_step_delta(self, delta: RunStepDelta, snapshot: RunStep) -> None:
        """Called for a delta of a step; `snapshot` is the step with it."""

    async def on_run_step_done(self, run_step: RunStep) -> None:
        """Called when a step has ended, successfully or not."""

    async def on_tool_call_created(self, tool_call: ToolCall) -> None:
        """Called when a tool call begins."""

    async def on_tool_call_delta(self, delta: ToolCallDelta, snapshot: ToolCall) -> None:
        """Called for a delta of a tool call; `snapshot` is the call with it."""

    async def on_tool_call_done(self, tool_call: ToolCall) -> None:
        """Called when a tool call is complete."""

    async def on_message_created(self, message: Message) -> None:
        """Called when a message begins."""

    async def on_message_delta(self, delta: MessageDelta, snapshot: Message) -> None:
        """Called for a delta of a message; `snapshot` is the message with it."""

    async def on_message_done(self, message: Message) -> None:
        """Called when a message has ended."""

    async def on_text_created(self, text: Text) -> None:
        """Called when a block of text begins."""

    async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
        """Called for a delta of text; `snapshot` is the block with it."""

    async def on_text_done(self, text: Text) -> None:
        """Called when a block of text is complete."""

    async def on_image_file_done(self, image_file: ImageFile) -> None:
        """Called when an image of a message is complete."""


def _name(data: Any) -> str:
    """Return the id of an object as text, also if a server sent another type."""
    return str(getattr(data, "id", None))


_RUN_ENDS = frozenset({"completed", "cancelled", "expired", "failed", "requires_action", "incomplete"})
_STEP_ENDS = frozenset({"completed", "cancelled", "expired", "failed"})

AsyncAssistantEventHandlerT = TypeVar("AsyncAssistantEventHandlerT", bound=AsyncAssistantEventHandler)


class AsyncAssistantStreamManager(Generic[AsyncAssistantEventHandlerT]):
    """Returned by the helpers that stream: enter it with ``async with`` for the handler. Nothing is sent before."""

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


# ---------------------------------------------------------------- messages and steps, accumulated from deltas


def objects_of(value: Any, *names: str) -> list[Any]:
    """Return the objects in the list that a path of field names leads to; an empty list for anything else."""
    for name in names:
        value = getattr(value, name, None)
    return [one for one in cast("Sequence[Any]", value) if isinstance(one, BaseModel)] if type(value) is list else []


def _built(kind: Any, value: Any) -> Any:
    build = builder_for(kind)
    return value if build is None else build(value)


class MessageAccumulator:
    """A message and the blocks of its content.

    The message is one object that grows, so that the cost of a delta depends on its own size alone.
    """

    def __init__(self, message: Message) -> None:
        self.message: Message = message
        self._places: list[int] = []  # indexes of the blocks in the message, ascending
        self._blocks: dict[int, dict[str, Any]] = {}
        self._built: dict[int, Any] = {}
        self._content: list[Any] = []
        self._grows = False
        for place, block in enumerate(objects_of(message, "content")):
            self._grow(place, block)

    def add(self, delta: Any) -> list[int]:
        """Add the delta of a message. Return the indexes of the blocks that begin with it."""
        if not self._grows:
            self._grows = True
            self.message = upgraded(self.message, Message)
            self.message.content = self._content
        new: list[int] = []
        for part in objects_of(delta, "content"):
            place: Any = getattr(part, "index", None)
            if type(place) is not int:
                continue
            if place not in self._blocks:
                new.append(place)
            self._grow(place, part)
        return new

    def block(self, place: Any) -> Any:
        """Return the block with that index, or `None`."""
        if self._grows or type(place) is not int:
            return self._built.get(place) if type(place) is int else None
        content = objects_of(self.message, "content")
        at = bisect_left(self._places, place) if self._places else place
        there = at < len(self._places) and self._places[at] == place if self._places else at >= 0
        return content[at] if there and at < len(content) else None

    def end(self, message: Message) -> None:
        """Replace the message with the complete one that the server sends at its end."""
        self.message, self._grows = message, False

    def _grow(self, place: int, part: Any) -> None:
        fields = self._blocks.get(place)
        new = fields is None
        if fields is None:
            fields = self._blocks[place] = {}
        for name, value in part.to_dict().items():
            if name != "index":
                grow(fields, name, value)
        block = self._built[place] = self._block(place)
        at = bisect_left(self._places, place)
        if new:
            self._places.insert(at, place)
            self._content.insert(at, block)
        else:
            self._content[at] = block

    def _block(self, place: int) -> Any:
        fields: dict[str, Any] = settled(self._blocks[place])
        if fields.get("type") == "text" and isinstance(fields.get("text"), dict):
            fields["text"] = {"value": "", "annotations": [], **fields["text"]}
        return _built(MessageContent, fields)


class StepAccumulator:
    """A step of a run and its tool calls. Only the calls that a delta changes are rebuilt."""

    def __init__(self, step: RunStep) -> None:
        self.step: RunStep = step
        self._fields: dict[str, Any] = {}
        self._indexes: dict[Any, int] | None = None  # position of calls by index; `None` after `step` was replaced
        for name, value in step.to_dict().items():
            grow(self._fields, name, value)

    def add(self, delta: Any) -> None:
        """Add the delta of a step."""
        if not isinstance(delta, BaseModel):
            return
        fields = delta.to_dict()
        # A delta adds to the last call, or begins others behind it.
        first = max(0, len(_calls_in(self._fields)) - 1)
        adds_calls = self._indexes is not None and self._adds_calls(fields)
        for name, value in fields.items():
            grow(self._fields, name, value)
        if not adds_calls:
            step: RunStep = _built(RunStep, settled(self._fields))
            self.step, self._indexes = step, None
            return
        calls = self._built_calls()
        calls[first:] = [_built(ToolCall, settled(call)) for call in _calls_in(self._fields)[first:]]
        self._mark(calls, first)

    def end(self, step: RunStep) -> None:
        """Replace the step with the complete one that the server sends at its end."""
        self.step, self._indexes = step, None

    def call(self, index: Any) -> Any:
        """Return the tool call with that index, or `None`."""
        calls = self._built_calls()
        if self._indexes is None:
            self._indexes = {}
            self._mark(calls, 0)
        place = self._indexes.get(index, index) if type(index) is int else None
        call = calls[place] if place is not None and 0 <= place < len(calls) else None
        return call if isinstance(call, BaseModel) else None

    def _built_calls(self) -> list[Any]:
        calls: Any = getattr(getattr(self.step, "step_details", None), "tool_calls", None)
        found: list[Any] = cast("Any", calls) if isinstance(calls, list) else []
        return found

    def _adds_calls(self, fields: dict[str, Any]) -> bool:
        """Return whether a delta only adds to the tool calls of a step that has some."""
        sent, held = fields.get("step_details"), self._fields.get("step_details")
        if len(fields) != 1 or not isinstance(sent, dict) or not isinstance(held, dict):
            return False
        details = cast("dict[str, Any]", sent)
        known = cast("dict[str, Any]", held)
        return (
            all(name == "tool_calls" or value == known.get(name) for name, value in details.items())
            and len(_calls_in(self._fields)) == len(self._built_calls()) > 0
        )

    def _mark(self, calls: list[Any], first: int) -> None:
        assert self._indexes is not None
        for place in range(first, len(calls)):
            index = getattr(calls[place], "index", None)
            if type(index) is int:
                self._indexes.setdefault(index, place)


def _calls_in(fields: dict[str, Any]) -> list[Any]:
    """Return the tool calls among the fields of a step."""
    details: Any = fields.get("step_details")
    calls: Any = cast("dict[str, Any]", details).get("tool_calls") if isinstance(details, dict) else None
    found: list[Any] = cast("Any", calls) if isinstance(calls, list) else []
    return found


resolve_annotations(__name__)
