"""`client.chat.completions.stream(...)`: its events, the state they are made from, and the stream.

The events come in the official order, however a server cuts its deltas. Names are the official ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeGuard, TypeVar, cast

from ..core.codec.accumulate import ChatAccumulator, ToolCalls
from ..core.codec.decode import keep
from ..core.model.base import BaseModel
from ..core.model.mixins import text_of
from ..engine.sealing import sealing
from ..lazy import resolve_annotations
from ..types.chat import ChatCompletionChunk, ChatCompletionTokenLogprob
from .helper_stream import HelperStream, HelperStreamManager
from .parsed_chat import ParsedChatCompletion, check_finished, parsed_completion
from .parsing import ParseSpec, PartialArguments, chat_spec, list_of

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..engine import AsyncStream, Engine

__all__ = [
    "AsyncChatCompletionStream",
    "AsyncChatCompletionStreamManager",
    "ChatCompletionStreamEvent",
    "ChatCompletionStreamState",
    "ChunkEvent",
    "ContentDeltaEvent",
    "ContentDoneEvent",
    "FunctionToolCallArgumentsDeltaEvent",
    "FunctionToolCallArgumentsDoneEvent",
    "LogprobsContentDeltaEvent",
    "LogprobsContentDoneEvent",
    "LogprobsRefusalDeltaEvent",
    "LogprobsRefusalDoneEvent",
    "RefusalDeltaEvent",
    "RefusalDoneEvent",
]

T = TypeVar("T")
E = TypeVar("E", bound=BaseModel)


# ---------------------------------------------------------------- events


def _sourced(event: E, source: Any) -> E:
    """Attach the function that makes the values of an event at first access."""
    vars(event)["_source"] = source
    return event


def _from_source(event: BaseModel, *given: Any) -> Any:
    source = vars(event).get("_source")
    return None if source is None else source(*given)


class ChunkEvent(BaseModel, kw_only=True, tag_field="type", tag="chunk"):
    """A received chunk, before the other events that are made from it."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    chunk: ChatCompletionChunk

    @property
    def snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far, at the moment of access; a new object each time."""
        snapshot: ParsedChatCompletion[Any] = _from_source(self)
        return snapshot


class ContentDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="content.delta"):
    """More text: `delta`, and the text so far, `snapshot`."""

    type: ClassVar[Literal["content.delta"]] = "content.delta"
    delta: str
    snapshot: str

    @property
    def parsed(self) -> Any:
        """The value of the text so far, in plain types; `None` if no type was requested, or no value is certain yet.

        It is the same object each time and grows with the stream: copy it to keep a state.
        """
        return _from_source(self, self.snapshot)


class ContentDoneEvent(BaseModel, Generic[T], kw_only=True, tag_field="type", tag="content.done"):
    """The text is complete; `parsed` is its value, of the requested type."""

    type: ClassVar[Literal["content.done"]] = "content.done"
    content: str
    parsed: T | None = None


class RefusalDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="refusal.delta"):
    """More of the refusal that the model gives instead of an answer."""

    type: ClassVar[Literal["refusal.delta"]] = "refusal.delta"
    delta: str
    snapshot: str


class RefusalDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="refusal.done"):
    """The refusal is complete."""

    type: ClassVar[Literal["refusal.done"]] = "refusal.done"
    refusal: str


class FunctionToolCallArgumentsDeltaEvent(
    BaseModel, kw_only=True, tag_field="type", tag="tool_calls.function.arguments.delta"
):
    """More arguments of a call: `arguments_delta`, and the arguments so far, `arguments`; both are JSON text."""

    type: ClassVar[Literal["tool_calls.function.arguments.delta"]] = "tool_calls.function.arguments.delta"
    name: str
    index: int
    arguments: str
    arguments_delta: str

    @property
    def parsed_arguments(self) -> Any:
        """The value of the arguments so far, in plain types, for a strict function; it grows with the stream."""
        return _from_source(self, self.arguments)


class FunctionToolCallArgumentsDoneEvent(
    BaseModel, kw_only=True, tag_field="type", tag="tool_calls.function.arguments.done"
):
    """The arguments of a call are complete; `parsed_arguments` is their value, for a strict function."""

    type: ClassVar[Literal["tool_calls.function.arguments.done"]] = "tool_calls.function.arguments.done"
    name: str
    index: int
    arguments: str
    parsed_arguments: Any = None


class LogprobsContentDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.content.delta"):
    """Log probabilities of more text, and of the text so far."""

    type: ClassVar[Literal["logprobs.content.delta"]] = "logprobs.content.delta"
    content: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]


class LogprobsContentDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.content.done"):
    """Log probabilities of the whole text."""

    type: ClassVar[Literal["logprobs.content.done"]] = "logprobs.content.done"
    content: list[ChatCompletionTokenLogprob]


class LogprobsRefusalDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.refusal.delta"):
    """Log probabilities of more of a refusal, and of the refusal so far."""

    type: ClassVar[Literal["logprobs.refusal.delta"]] = "logprobs.refusal.delta"
    refusal: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]


class LogprobsRefusalDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.refusal.done"):
    """Log probabilities of the whole refusal."""

    type: ClassVar[Literal["logprobs.refusal.done"]] = "logprobs.refusal.done"
    refusal: list[ChatCompletionTokenLogprob]


ChatCompletionStreamEvent: TypeAlias = (
    ChunkEvent
    | ContentDeltaEvent
    | ContentDoneEvent[T]
    | RefusalDeltaEvent
    | RefusalDoneEvent
    | FunctionToolCallArgumentsDeltaEvent
    | FunctionToolCallArgumentsDoneEvent
    | LogprobsContentDeltaEvent
    | LogprobsContentDoneEvent
    | LogprobsRefusalDeltaEvent
    | LogprobsRefusalDoneEvent
)


# ---------------------------------------------------------------- state

_CONTENT_DONE: type[ContentDoneEvent[Any]] = ContentDoneEvent


class ChatCompletionStreamState(Generic[T]):
    """Makes events from chunks and accumulates them: for code that reads ``create(stream=True)`` itself.

    `response_format` is a type, or a value of the API; `input_tools` are the tools that were sent.
    """

    def __init__(self, *, response_format: type[T] | Any = None, input_tools: Iterable[Any] | None = None) -> None:
        self._spec = chat_spec(response_format, list_of(input_tools))
        self._sum = ChatAccumulator()
        self._choices: dict[int, _ChoiceSnapshot] = {}

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far; a value is there once its text is complete."""
        answer = parsed_completion(self._sum.partial(), self._spec, whole=False)
        for choice in answer.choices:
            state = self._choices.get(choice.index)
            if state is not None and state.text_done:
                choice.message.parsed = state.value
        return answer

    def get_final_completion(self) -> ParsedChatCompletion[T]:
        """Return the whole answer with its values, once every chunk was handled.

        Raises `LengthFinishReasonError`, `ContentFilterFinishReasonError`, and `StructuredOutputError`.
        """
        return parsed_completion(self._sum.final(), self._spec)

    def handle_chunk(self, chunk: ChatCompletionChunk) -> list[ChatCompletionStreamEvent[T]]:
        """Return the events for a chunk, beginning with the chunk itself.

        Raises the errors of `get_final_completion` as soon as the reason is known.
        """
        self._sum.add(chunk)
        came: Any = chunk.choices
        choices: list[Any] = [one for one in came if isinstance(one, BaseModel)] if _is_list(came) else []
        if self._spec:
            for choice in choices:
                if choice.finish_reason in ("length", "content_filter"):
                    check_finished(self.current_completion_snapshot, choice.finish_reason)
        first = _sourced(ChunkEvent(chunk=chunk), lambda: self.current_completion_snapshot)
        events: list[Any] = [first]
        for choice in choices:
            index = choice.index if type(choice.index) is int else 0
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _ChoiceSnapshot(self)
            state.add(choice, events)
        return events

    @property
    def snapshot(self) -> ParsedChatCompletion[Any]:
        """Same as `current_completion_snapshot`."""
        return self.current_completion_snapshot

    @property
    def spec(self) -> ParseSpec:
        """The specification for parsing the answer."""
        return self._spec


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return type(value) is list


class _ChoiceSnapshot:
    """The received part of one choice."""

    def __init__(self, whole: ChatCompletionStreamState[Any]) -> None:
        self._whole = whole
        self._spec = whole.spec
        self._text: str | None = None
        self._refusal: str | None = None
        self._logprobs: dict[str, list[Any]] = {}
        self._calls = ToolCalls()
        self._partial = PartialArguments(self._spec.shape) if self._spec.shape is not None else None
        self._partial_calls: dict[int, PartialArguments | None] = {}
        self._call: int | None = None  # the index of the call that grows
        self._calls_done: set[int] = set()
        self._done: set[str] = set()
        self.value: Any = None

    @property
    def text_done(self) -> bool:
        """Whether the text is known to be complete."""
        return "content" in self._done

    def add(self, choice: Any, events: list[Any]) -> None:
        """Add the next piece of the choice, and its events to `events`."""
        delta = choice.delta
        if isinstance(delta, BaseModel):
            self._add_text(delta, events)
        entries: Any = getattr(delta, "tool_calls", None)
        entries = cast("Sequence[Any]", entries) if type(entries) is list else ()
        calls = [self._add_call(entry, events) for entry in entries if isinstance(entry, BaseModel)]
        self._add_logprobs(choice.logprobs, events)
        if choice.finish_reason:
            self._end_text(events)
            self._end_call(self._call, events)
        for place in calls:
            if place is None:
                continue
            if place != self._call:
                self._end_text(events)
                self._end_call(self._call, events)
            self._call = place
        if choice.finish_reason:
            self._end_call(self._call, events)

    def _add_text(self, delta: Any, events: list[Any]) -> None:
        content, refusal = getattr(delta, "content", None), getattr(delta, "refusal", None)
        if content is not None:
            piece = content if isinstance(content, str) else text_of(content)
            self._text = (self._text or "") + piece
            event = ContentDeltaEvent(delta=piece, snapshot=self._text)
            if self._partial is not None and not self._refusal:
                _sourced(event, self._partial.value)
            events.append(event)
        if isinstance(refusal, str):
            self._refusal = (self._refusal or "") + refusal
            events.append(RefusalDeltaEvent(delta=refusal, snapshot=self._refusal))

    def _add_call(self, entry: Any, events: list[Any]) -> int | None:
        place = self._calls.take(entry)
        if place is None or not isinstance(entry.function, BaseModel):
            return place
        name, arguments = self._calls.so_far(place)
        piece: Any = getattr(entry.function, "arguments", None)
        event = FunctionToolCallArgumentsDeltaEvent(
            name=name, index=place, arguments=arguments, arguments_delta=piece if isinstance(piece, str) else ""
        )
        if place not in self._partial_calls:
            self._partial_calls[place] = self._spec.partial_arguments(name)
        partial = self._partial_calls[place]
        events.append(event if partial is None else _sourced(event, partial.value))
        return place

    def _add_logprobs(self, logprobs: Any, events: list[Any]) -> None:
        for name in ("content", "refusal"):
            tokens: Any = getattr(logprobs, name, None)
            if not _is_list(tokens):
                continue
            so_far = self._logprobs.setdefault(name, [])  # one list, which events show as it grows
            so_far += tokens
            if not tokens:
                continue
            if name == "content":
                events.append(LogprobsContentDeltaEvent(content=tokens, snapshot=so_far))
            else:
                events.append(LogprobsRefusalDeltaEvent(refusal=tokens, snapshot=so_far))

    def _end_text(self, events: list[Any]) -> None:
        """Add, once, the events for the completion of everything except calls."""
        if self._text and self._first("content"):
            if not self._refusal:
                self.value = self._spec.value(self._text, self._so_far)
            events.append(_CONTENT_DONE(content=self._text, parsed=self.value))
        if self._refusal is not None and self._first("refusal"):
            events.append(RefusalDoneEvent(refusal=self._refusal))
        if "content" in self._logprobs and self._first("logprobs"):
            events.append(LogprobsContentDoneEvent(content=self._logprobs["content"]))
        if "refusal" in self._logprobs and self._first("logprobs of a refusal"):
            events.append(LogprobsRefusalDoneEvent(refusal=self._logprobs["refusal"]))

    def _so_far(self) -> Any:
        """Return the answer so far, for errors only, since making it costs as much as the whole answer."""
        return self._whole.current_completion_snapshot

    def _first(self, what: str) -> bool:
        if what in self._done:
            return False
        self._done.add(what)
        return True

    def _end_call(self, place: int | None, events: list[Any]) -> None:
        if place is None or place in self._calls_done or place not in self._partial_calls:
            return
        self._calls_done.add(place)
        name, arguments = self._calls.so_far(place)
        value = self._spec.arguments(name, arguments, self._so_far)
        events.append(
            FunctionToolCallArgumentsDoneEvent(name=name, index=place, arguments=arguments, parsed_arguments=value)
        )


# ---------------------------------------------------------------- stream


class AsyncChatCompletionStream(HelperStream[ChatCompletionStreamEvent[T]], Generic[T]):
    """The chat completion as events; see `HelperStream`. `current_completion_snapshot` is the answer so far."""

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], state: ChatCompletionStreamState[T]) -> None:
        super().__init__(stream, state)
        self._state = state
        self._events: deque[ChatCompletionStreamEvent[T]] = deque()

    async def _next(self) -> ChatCompletionStreamEvent[T]:
        while not self._events:
            chunk = await self._stream.__anext__()
            kind: Any = chunk.object
            if kind != "":  # Azure's content filter sends additional events between the chunks, with an empty `object`
                self._events.extend(self._state.handle_chunk(chunk))
        return self._events.popleft()

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far, a new object each time."""
        return self._state.current_completion_snapshot

    @sealing
    async def get_final_completion(self) -> ParsedChatCompletion[T]:
        """Read the rest of the stream and return the whole answer with its values. Raises the errors of reading.

        Raises `LengthFinishReasonError` and `ContentFilterFinishReasonError` for a choice that was cut, even if it is
        not parsed; `StructuredOutputError` for one that does not fit its type.
        """
        await self.until_done()
        return keep(self._state.get_final_completion(), None, self.meta)


class AsyncChatCompletionStreamManager(HelperStreamManager[AsyncChatCompletionStream[T]], Generic[T]):
    """Returned by ``chat.completions.stream(...)``: enter it with ``async with`` for the stream."""

    def __init__(self, calls: Engine, request: Request, state: ChatCompletionStreamState[T]) -> None:
        super().__init__(calls, request, lambda stream: AsyncChatCompletionStream(stream, state))


resolve_annotations(__name__)
