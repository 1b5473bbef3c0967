"""The results of a turn: pieces while it runs, a `Reply` at its end, and its errors.

Every piece has `.text` and `.reasoning`, either of which may be "", so that printing is easy:

    async for piece in stream:
        print(piece.text, end="")

Tell pieces apart with `isinstance` or ``match``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import msgspec

from ..core.model.notebook import calls_and_text
from ..errors import OpenAIError, Side
from ..lazy import resolve_annotations

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
    """A call that the model asks for, as the `permit` hook and `ToolStarted` show it.

    `id` is the id in the history: a new one if the server sent none, or one that is in use. `arguments` is the JSON
    text that the model wrote, valid or not.
    """

    id: str
    name: str
    arguments: str

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Iterate over the fields as pairs, for ``dict(call)``."""
        yield from (("id", self.id), ("name", self.name), ("arguments", self.arguments))


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one tool call.

    `value` is the function's result, `content` the text (or parts) sent to the model. `error` is the exception if the
    call failed, otherwise `None`; `denied` is True if the `permit` hook refused the call. `seconds` is its duration.
    """

    call: ToolCall
    content: str | list[dict[str, Any]]
    value: Any = None
    error: Exception | None = None
    denied: bool = False
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The id of the call."""
        return self.call.id

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.call.name

    @property
    def ok(self) -> bool:
        """Whether the function ran and returned."""
        return self.error is None and not self.denied

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over pairs for ``dict(result)`` and JSON: the call, what the model was sent, the error's text."""
        yield "call", dict(self.call)
        yield "content", self.content
        yield "error", None if self.error is None else str(self.error) or type(self.error).__name__
        yield "denied", self.denied
        yield "seconds", self.seconds

    def message(self) -> dict[str, Any]:
        """Return the message of role ``tool`` that tells the model the result."""
        return {"role": "tool", "tool_call_id": self.call.id, "content": self.content}


class ToolError(OpenAIError):
    """A tool call failed. A tool may raise it to choose the text that is sent to the model.

    A turn with ``on_tool_error="raise"`` raises it for every failure of a call: a tool that does not exist, arguments
    that do not fit, a result that is not JSON, or an exception of the tool, which is the `__cause__`. `call` is the
    call, `partial` the `Reply` so far.
    """

    call: ToolCall | None = None

    def __init__(self, message: str, *, call: ToolCall | None = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.call = call


class TooManyRoundsError(OpenAIError):
    """The model still asked for tools after `max_rounds` answers; the last calls were not run.

    `partial` is the `Reply` so far. Its `messages` are the finished rounds, from which another turn can continue.
    """

    side: Side = "server"

    def __init__(self, max_rounds: int) -> None:
        super().__init__(f"The model still asks for tools after {max_rounds} answers; allow more with max_rounds.")
        self.max_rounds: int = max_rounds


class Reply(msgspec.Struct, Generic[T], kw_only=True):
    """The outcome of a turn: one answer, or several with tool calls or repairs in between.

    `answers` holds every `ChatCompletion` in order; `text`, `reasoning`, `message` and `finish_reason` are those of the
    last. `messages` are those that the turn adds to the history, valid as input of the API: assistant messages, and
    each tool call answered once and in order; the user's message and rounds of repair are not in it. `tool_calls` holds
    the results of all tool calls, in the order of the calls. `parsed` is the value requested with ``into=``: a turn
    that has none raises. Without ``into=`` it is `None`.

    After an error, `error.partial` is the `Reply` so far: `messages` then holds the finished rounds, the last of
    `answers` may be incomplete, and `parsed` is `None`.
    """

    answers: list[ChatCompletion] = msgspec.field(default_factory=list["ChatCompletion"])
    messages: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    tool_calls: list[ToolResult] = msgspec.field(default_factory=list[ToolResult])
    text: str = ""
    reasoning: str = ""
    parsed: T = cast("Any", None)

    @property
    def answer(self) -> ChatCompletion:
        """The last answer; `LookupError` if the partial reply of a failed turn has none."""
        if not self.answers:
            raise LookupError("no answer was received before this turn failed")
        return self.answers[-1]

    @property
    def message(self) -> ChatCompletionMessage | None:
        """The message of the last answer; `None` before the first one."""
        return self.answers[-1].message if self.answers else None

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped: ``"stop"``, ``"length"``, …; `None` if it had not stopped yet."""
        choices: Any = self.answers[-1].choices if self.answers else None
        if not isinstance(choices, list):  # servers have sent other types
            return None
        known: list[Any] = cast("Any", choices)
        return getattr(known[0], "finish_reason", None) if known else None

    @property
    def usage(self) -> CompletionUsage | None:
        """The sum of the tokens that the server counted for all answers; `None` if it counted none.

        The usage of a stream is requested once the server is known to support that, which may be from its second
        answer on.
        """
        return total_usage([answer.usage for answer in self.answers])

    @property
    def meta(self) -> Meta:
        """Metadata of the last call. Raises `LookupError` like `answer`, and `AttributeError` if no call ended."""
        return self.answer.meta

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the fields as pairs, for ``dict(reply)`` and frameworks that turn an object into JSON by it.

        Parts stay objects, which can be iterated in the same way; a Struct in `parsed` becomes plain values.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            plain = name == "parsed" and isinstance(value, msgspec.Struct) and not hasattr(value, "__iter__")
            yield name, msgspec.to_builtins(value) if plain else value

    def _repr_markdown_(self) -> str | None:
        """Return what a notebook shows: the tools that were called, and the text; `None` without either."""
        calls = [
            (result.name, result.call.arguments, "" if result.ok else f": {'denied' if result.denied else 'failed'}")
            for result in self.tool_calls
        ]
        structured = self.parsed is not None and self.text.lstrip().startswith(("{", "["))
        return calls_and_text(calls, f"```json\n{self.text}\n```" if structured else self.text)


def total_usage(counted: Sequence[Any]) -> CompletionUsage | None:
    """Return the sum of the usage of several calls, details included; missing and malformed numbers count as 0."""
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


class TextPiece(msgspec.Struct, frozen=True):
    """A piece of the answer's text, never empty, without reasoning."""

    reasoning: ClassVar[str] = ""
    text: str


class ReasoningPiece(msgspec.Struct, frozen=True):
    """A piece of the model's reasoning, in `.reasoning`. Its `.text` is "", so that printing texts leaves it out."""

    text: ClassVar[str] = ""
    reasoning: str


class ToolStarted(msgspec.Struct, frozen=True):
    """The model has finished writing a call, which is about to be permitted and run."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    call: ToolCall


class ToolFinished(msgspec.Struct, frozen=True):
    """A call has ended, successfully or not. The calls of one round end in any order."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    result: ToolResult


class PartialObject(msgspec.Struct, frozen=True):
    """The received part of the value requested with ``into=``: dicts, lists and scalars, not yet validated.

    It follows the `TextPiece` that extended it. All pieces share one growing object: copy it to keep a state.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    value: Any


class RepairStarted(msgspec.Struct, frozen=True):
    """The answer did not fit the requested type; the model was shown the `problem` and answers again.

    Discard the text and objects of the rejected answer: the following pieces replace them.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    problem: str


Piece: TypeAlias = TextPiece | ReasoningPiece | ToolStarted | ToolFinished | PartialObject | RepairStarted

resolve_annotations(__name__)
