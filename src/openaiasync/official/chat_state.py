"""From the chunks of a chat stream to its events, in the official order, whatever way a server cuts its deltas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, cast

from ..core.codec.accumulate import ChatAccumulator, ToolCalls
from ..core.model.base import BaseModel
from ..core.model.mixins import text_of
from ..core.model.omitted import is_omitted
from ..core.schema.structured import shape_of
from .chat_events import (
    ChatCompletionStreamEvent,
    ChunkEvent,
    ContentDeltaEvent,
    ContentDoneEvent,
    FunctionToolCallArgumentsDeltaEvent,
    FunctionToolCallArgumentsDoneEvent,
    LogprobsContentDeltaEvent,
    LogprobsContentDoneEvent,
    LogprobsRefusalDeltaEvent,
    LogprobsRefusalDoneEvent,
    RefusalDeltaEvent,
    RefusalDoneEvent,
    sourced,
)
from .parse_spec import ParseSpec, PartialArguments, list_of
from .parsed_chat import ParsedChatCompletion, check_finished, parsed_completion

if TYPE_CHECKING:
    from ..types.chat import ChatCompletionChunk

__all__ = ["ChatCompletionStreamState", "wanted_of_chat"]

T = TypeVar("T")

_CONTENT_DONE: type[ContentDoneEvent[Any]] = ContentDoneEvent


def wanted_of_chat(response_format: Any, tools: list[Any]) -> ParseSpec:
    """What is to be made of a chat answer. A `response_format` that is a dict is the API's own: its text stays text."""
    plain = response_format is None or is_omitted(response_format) or isinstance(response_format, dict)
    functions = {tool["function"].get("name"): tool["function"] for tool in tools if tool.get("type") == "function"}
    return ParseSpec(None if plain else shape_of(response_format), functions)


class ChatCompletionStreamState(Generic[T]):
    """Makes events of chunks, and keeps their sum: for those who read ``create(stream=True)`` themselves.

    `response_format` is a type or what the API takes, `input_tools` the tools as they were sent.
    """

    def __init__(self, *, response_format: type[T] | Any = None, input_tools: Iterable[Any] | None = None) -> None:
        self._wanted = wanted_of_chat(response_format, list_of(input_tools))
        self._sum = ChatAccumulator()
        self._choices: dict[int, _ChoiceSnapshot] = {}

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far; values are there once their text is whole."""
        answer = parsed_completion(self._sum.partial(), self._wanted, whole=False)
        for choice in answer.choices:
            state = self._choices.get(choice.index)
            if state is not None and state.text_done:
                choice.message.parsed = state.value
        return answer

    def get_final_completion(self) -> ParsedChatCompletion[T]:
        """The whole answer with its values, once all chunks came.

        Raises `LengthFinishReasonError`, `ContentFilterFinishReasonError`, and `StructuredOutputError`.
        """
        return parsed_completion(self._sum.final(), self._wanted)

    def handle_chunk(self, chunk: ChatCompletionChunk) -> list[ChatCompletionStreamEvent[T]]:
        """The events that a chunk brings; first of all the chunk itself.

        Raises what `get_final_completion` does, as soon as it is known.
        """
        self._sum.add(chunk)
        came: Any = chunk.choices
        choices: list[Any] = [one for one in came if isinstance(one, BaseModel)] if _is_list(came) else []
        if self._wanted:
            for choice in choices:
                if choice.finish_reason in ("length", "content_filter"):
                    check_finished(self.current_completion_snapshot, choice.finish_reason)
        first = sourced(ChunkEvent(chunk=chunk), lambda: self.current_completion_snapshot)
        events: list[Any] = [first]
        for choice in choices:
            index = choice.index if type(choice.index) is int else 0
            state = self._choices.get(index)
            if state is None:
                state = self._choices[index] = _ChoiceSnapshot(self)
            state.take(choice, events)
        return events

    @property
    def wanted(self) -> ParseSpec:
        """What is to be made of the answer."""
        return self._wanted


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return type(value) is list


class _ChoiceSnapshot:
    """What came of one choice."""

    def __init__(self, whole: ChatCompletionStreamState[Any]) -> None:
        self._whole = whole
        self._wanted = whole.wanted
        self._text: str | None = None
        self._refusal: str | None = None
        self._logprobs: dict[str, list[Any]] = {}
        self._calls = ToolCalls()
        self._growing = PartialArguments(self._wanted.shape) if self._wanted.shape is not None else None
        self._call_growing: dict[int, PartialArguments | None] = {}
        self._call: int | None = None  # the one that is under way
        self._calls_done: set[int] = set()
        self._done: set[str] = set()
        self.value: Any = None

    @property
    def text_done(self) -> bool:
        """Whether the text was whole, as far as can be told."""
        return "content" in self._done

    def take(self, choice: Any, events: list[Any]) -> None:
        """Add the events of a choice's next piece."""
        delta = choice.delta
        if isinstance(delta, BaseModel):
            self._take_text(delta, events)
        entries: Any = getattr(delta, "tool_calls", None)
        entries = cast("Sequence[Any]", entries) if type(entries) is list else ()
        calls = [self._take_call(entry, events) for entry in entries if isinstance(entry, BaseModel)]
        self._take_logprobs(choice.logprobs, events)
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

    def _take_text(self, delta: Any, events: list[Any]) -> None:
        content, refusal = getattr(delta, "content", None), getattr(delta, "refusal", None)
        if content is not None:
            piece = content if isinstance(content, str) else text_of(content)
            self._text = (self._text or "") + piece
            event = ContentDeltaEvent(delta=piece, snapshot=self._text)
            if self._growing is not None and not self._refusal:
                sourced(event, self._growing.value)
            events.append(event)
        if isinstance(refusal, str):
            self._refusal = (self._refusal or "") + refusal
            events.append(RefusalDeltaEvent(delta=refusal, snapshot=self._refusal))

    def _take_call(self, entry: Any, events: list[Any]) -> int | None:
        place = self._calls.take(entry)
        if place is None or not isinstance(entry.function, BaseModel):
            return place
        name, arguments = self._calls.so_far(place)
        piece: Any = getattr(entry.function, "arguments", None)
        event = FunctionToolCallArgumentsDeltaEvent(
            name=name, index=place, arguments=arguments, arguments_delta=piece if isinstance(piece, str) else ""
        )
        if place not in self._call_growing:
            self._call_growing[place] = self._wanted.growing_arguments(name)
        growing = self._call_growing[place]
        events.append(event if growing is None else sourced(event, growing.value))
        return place

    def _take_logprobs(self, logprobs: Any, events: list[Any]) -> None:
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
        """Say of all but calls, once, that it is whole."""
        if self._text and self._first("content"):
            if not self._refusal:
                self.value = self._wanted.value(self._text, self._so_far)
            events.append(_CONTENT_DONE(content=self._text, parsed=self.value))
        if self._refusal is not None and self._first("refusal"):
            events.append(RefusalDoneEvent(refusal=self._refusal))
        if "content" in self._logprobs and self._first("logprobs"):
            events.append(LogprobsContentDoneEvent(content=self._logprobs["content"]))
        if "refusal" in self._logprobs and self._first("logprobs of a refusal"):
            events.append(LogprobsRefusalDoneEvent(refusal=self._logprobs["refusal"]))

    def _so_far(self) -> Any:
        """The answer so far, for an error: made only if there is one, since it costs as much as the whole answer."""
        return self._whole.current_completion_snapshot

    def _first(self, what: str) -> bool:
        if what in self._done:
            return False
        self._done.add(what)
        return True

    def _end_call(self, place: int | None, events: list[Any]) -> None:
        if place is None or place in self._calls_done or place not in self._call_growing:
            return
        self._calls_done.add(place)
        name, arguments = self._calls.so_far(place)
        value = self._wanted.arguments(name, arguments, self._so_far)
        events.append(
            FunctionToolCallArgumentsDoneEvent(name=name, index=place, arguments=arguments, parsed_arguments=value)
        )
