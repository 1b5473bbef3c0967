"""The events of `client.chat.completions.stream(...)`, under their official names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from ..core.model.base import BaseModel
from ..types.chat import ChatCompletionChunk, ChatCompletionTokenLogprob

if TYPE_CHECKING:
    from .parsed_chat import ParsedChatCompletion

__all__ = [
    "ChatCompletionStreamEvent",
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
    "sourced",
]

T = TypeVar("T")
E = TypeVar("E", bound=BaseModel)


def sourced(event: E, source: Any) -> E:
    """Give an event what it asks for the values that are made only when they are looked at."""
    vars(event)["_source"] = source
    return event


def _from_source(event: BaseModel, *given: Any) -> Any:
    source = vars(event).get("_source")
    return None if source is None else source(*given)


class ChunkEvent(BaseModel, kw_only=True, tag_field="type", tag="chunk"):
    """A chunk as it came; each comes before the other events that it brings."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    chunk: ChatCompletionChunk

    @property
    def snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far, as of the moment when this is asked: made anew each time."""
        snapshot: ParsedChatCompletion[Any] = _from_source(self)
        return snapshot


class ContentDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="content.delta"):
    """More text: `delta`, and all of it so far, `snapshot`."""

    type: ClassVar[Literal["content.delta"]] = "content.delta"
    delta: str
    snapshot: str

    @property
    def parsed(self) -> Any:
        """What the text so far makes, as plain values; `None` where no type was asked for, and before anything is sure.

        The same object each time, which grows with the stream: copy what has to stay.
        """
        return _from_source(self, self.snapshot)


class ContentDoneEvent(BaseModel, Generic[T], kw_only=True, tag_field="type", tag="content.done"):
    """The text is whole; `parsed` is its value of the type asked for."""

    type: ClassVar[Literal["content.done"]] = "content.done"
    content: str
    parsed: T | None = None


class RefusalDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="refusal.delta"):
    """More of what the model says instead of an answer."""

    type: ClassVar[Literal["refusal.delta"]] = "refusal.delta"
    delta: str
    snapshot: str


class RefusalDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="refusal.done"):
    """The refusal is whole."""

    type: ClassVar[Literal["refusal.done"]] = "refusal.done"
    refusal: str


class FunctionToolCallArgumentsDeltaEvent(
    BaseModel, kw_only=True, tag_field="type", tag="tool_calls.function.arguments.delta"
):
    """More of the arguments of a call: `arguments_delta`, and all so far, `arguments`; both are JSON text."""

    type: ClassVar[Literal["tool_calls.function.arguments.delta"]] = "tool_calls.function.arguments.delta"
    name: str
    index: int
    arguments: str
    arguments_delta: str

    @property
    def parsed_arguments(self) -> Any:
        """What the arguments so far make, as plain values, of a strict function; it grows with the stream."""
        return _from_source(self, self.arguments)


class FunctionToolCallArgumentsDoneEvent(
    BaseModel, kw_only=True, tag_field="type", tag="tool_calls.function.arguments.done"
):
    """The arguments of a call are whole; `parsed_arguments` is their value, of a strict function."""

    type: ClassVar[Literal["tool_calls.function.arguments.done"]] = "tool_calls.function.arguments.done"
    name: str
    index: int
    arguments: str
    parsed_arguments: Any = None


class LogprobsContentDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.content.delta"):
    """The log probabilities of more text, and of all so far."""

    type: ClassVar[Literal["logprobs.content.delta"]] = "logprobs.content.delta"
    content: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]


class LogprobsContentDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.content.done"):
    """The log probabilities of the whole text."""

    type: ClassVar[Literal["logprobs.content.done"]] = "logprobs.content.done"
    content: list[ChatCompletionTokenLogprob]


class LogprobsRefusalDeltaEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.refusal.delta"):
    """The log probabilities of more of a refusal, and of all so far."""

    type: ClassVar[Literal["logprobs.refusal.delta"]] = "logprobs.refusal.delta"
    refusal: list[ChatCompletionTokenLogprob]
    snapshot: list[ChatCompletionTokenLogprob]


class LogprobsRefusalDoneEvent(BaseModel, kw_only=True, tag_field="type", tag="logprobs.refusal.done"):
    """The log probabilities of the whole refusal."""

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
