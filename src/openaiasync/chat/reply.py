"""What a turn gives: pieces while it goes, a `Reply` at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import msgspec

from ..errors import OpenAIError, Side

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..types import CompletionUsage
    from ..types.chat import ChatCompletion, ChatCompletionMessage

__all__ = [
    "PartialObject",
    "Piece",
    "ReasoningPiece",
    "RepairStarted",
    "Reply",
    "TextPiece",
    "TooManyRoundsError",
    "ToolCall",
    "ToolError",
    "ToolFinished",
    "ToolResult",
    "ToolStarted",
]

T = TypeVar("T")


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call that the model asks for, as a `permit` hook and a `ToolStarted` event see it.

    `id` is the one in the history: where the server gave none, or one twice, it was made here. `arguments` is the
    JSON text that the model wrote, whatever it may be.
    """

    id: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one tool call.

    `value` is what the function returned, `content` what the model was told. `error` is what went wrong, `None` if
    nothing did; `denied` says that the `permit` hook refused. `seconds` is how long the function ran.
    """

    call: ToolCall
    content: str | list[dict[str, Any]]
    value: Any = None
    error: Exception | None = None
    denied: bool = False
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The id of the call that this answers."""
        return self.call.id

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.call.name

    @property
    def ok(self) -> bool:
        """Whether the function ran and returned."""
        return self.error is None and not self.denied

    def message(self) -> dict[str, Any]:
        """The message of role ``tool`` that tells the model."""
        return {"role": "tool", "tool_call_id": self.call.id, "content": self.content}


class Reply(msgspec.Struct, Generic[T], kw_only=True):
    """A turn's outcome: one answer, or several with tool calls or repairs between them.

    `answers` holds each `ChatCompletion` in order; `text`, `reasoning`, `message` and `finish_reason` are those of the
    last. `messages` is what the turn adds to the history, valid for the API as it stands: assistant messages, each tool
    call answered once and in order; the user's message and rounds of repair are not in it. `tool_calls` says what every
    tool did, in the order of the calls. `parsed` is the object asked for with ``into=``, `None` without.

    On an error, `error.partial` is a `Reply` of what had come: `messages` then holds the finished rounds, and the last
    of `answers` may be cut short.
    """

    answers: list[ChatCompletion] = msgspec.field(default_factory=list["ChatCompletion"])
    messages: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    tool_calls: list[ToolResult] = msgspec.field(default_factory=list[ToolResult])
    text: str = ""
    reasoning: str = ""
    parsed: T | None = None

    @property
    def answer(self) -> ChatCompletion:
        """The last answer as it came; `LookupError` if a failed turn's partial reply has none."""
        if not self.answers:
            raise LookupError("no answer had come when this turn failed")
        return self.answers[-1]

    @property
    def message(self) -> ChatCompletionMessage | None:
        """The last answer's message as it came; `None` if there is none."""
        return self.answers[-1].message if self.answers else None

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped: ``"stop"``, ``"length"``, …; `None` if it had not."""
        choices: Any = self.answers[-1].choices if self.answers else None
        # Servers have sent other shapes than a list.
        if not isinstance(choices, list):
            return None
        known: list[Any] = cast("Any", choices)
        return getattr(known[0], "finish_reason", None) if known else None

    @property
    def usage(self) -> CompletionUsage | None:
        """The tokens of all answers that the server counted, together; `None` if it counted none.

        A stream is counted where the server is known to grant it, which may not be before its second answer.
        """
        return total_usage([answer.usage for answer in self.answers])

    @property
    def meta(self) -> Meta:
        """What is known of the last call; raises like `answer`, and `AttributeError` where none ended."""
        return self.answer.meta


def total_usage(counted: Sequence[Any]) -> CompletionUsage | None:
    """The sum of several calls' usage, details included; what a server left out or garbled counts as nothing."""
    from ..types import CompletionUsage

    known = [usage for usage in counted if isinstance(usage, CompletionUsage)]
    if not known:
        return None
    total: dict[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for usage in known:
        _add(total, usage.to_dict())
    from ..core.model.lenient import builder_for

    build = cast("Callable[[Any], CompletionUsage]", builder_for(CompletionUsage))
    return build(total)


def _add(total: dict[str, Any], part: dict[str, Any]) -> None:
    for name, value in part.items():
        before = total.get(name)
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", before) if isinstance(before, dict) else {}
            total[name] = inner
            _add(inner, cast("dict[str, Any]", value))
        elif type(value) in (int, float):
            try:
                total[name] = value + (before if type(before) in (int, float) else 0)
            except OverflowError:  # an integer that no float holds
                continue


class ToolError(OpenAIError):
    """A tool call failed. Raise it in a tool to tell the model just the text; a turn raises it if told to.

    A turn with ``on_tool_error="raise"`` raises it for whatever goes wrong with a call: a tool that does not exist,
    arguments that do not fit, a result that JSON cannot carry, or an exception of the tool, which is the `__cause__`.
    `call` is the call, `partial` the `Reply` so far.
    """

    call: ToolCall | None = None

    def __init__(self, message: str, *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.call = call


class TooManyRoundsError(OpenAIError):
    """The model still asked for tools after `max_rounds` answers; the last calls were not run.

    `partial` is the `Reply` so far. Its `messages` are the finished rounds, so that a later turn can go on from there.
    """

    side: Side = "server"

    def __init__(self, max_rounds: int) -> None:
        super().__init__(f"The model still asks for tools after {max_rounds} answers; allow more with max_rounds.")
        self.max_rounds: int = max_rounds


class TextPiece(msgspec.Struct, frozen=True):
    """A piece of the answer's text, never empty; reasoning is not in it."""

    reasoning: ClassVar[str] = ""
    text: str


class ReasoningPiece(msgspec.Struct, frozen=True):
    """A piece of the model's reasoning, in `.reasoning`; `.text` is "", so that printing texts leaves it out."""

    text: ClassVar[str] = ""
    reasoning: str


class ToolStarted(msgspec.Struct, frozen=True):
    """The model has asked for a call, whole; it is about to be permitted and run."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    call: ToolCall


class ToolFinished(msgspec.Struct, frozen=True):
    """A call has ended, well or not; calls of one round end in any order."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    result: ToolResult


class PartialObject(msgspec.Struct, frozen=True):
    """The object asked for with ``into=`` so far: plain dicts, lists and scalars, not yet held to the type.

    The `TextPiece` that made it grow came just before. It is the same object each time: copy what has to stay.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    value: Any


class RepairStarted(msgspec.Struct, frozen=True):
    """The answer did not fit the type asked for; the model was shown the `problem` and answers anew.

    The text and objects of the rejected answer are void: what follows takes their place.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    problem: str


Piece: TypeAlias = TextPiece | ReasoningPiece | ToolStarted | ToolFinished | PartialObject | RepairStarted
