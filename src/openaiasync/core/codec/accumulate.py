"""Puts the chunks of a stream together: what came so far at any time, the whole answer at last.

Adding a chunk only notes it; chunks are worked in when somebody asks, or a few hundred at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..model.base import BaseModel
from ..model.dump import extras_of
from ..model.lenient import builder_for
from ..model.mixins import text_of
from .tool_calls import (
    ToolCalls,
    as_index,
    grow,
    settled,
)

if TYPE_CHECKING:
    from ...types import Completion, CompletionUsage
    from ...types.chat import ChatCompletion, ChatCompletionChunk  # noqa: F401 (named in the string of a base)

__all__ = ["ChatAccumulator", "CompletionAccumulator"]

C = TypeVar("C")
A = TypeVar("A")

BACKLOG = 256  # chunks noted and not worked in: bounds the memory that a long stream takes
_FIRST_WINS = ("id", "created", "model")  # of a chunk: the first that is not empty is the answer's
_STEADY = frozenset({*_FIRST_WINS, "system_fingerprint", "service_tier"})  # said again by every chunk
_DROPPED = frozenset({"choices", "object", "obfuscation"})  # handled apart, or of no use in an answer
_CONCATENATED = frozenset({"token_ids", "prompt_token_ids"})


class _Fields:
    """The fields of a class that are looked at together: nearly always all of them are `None`, and then skipped."""

    __slots__ = ("get", "names", "none")

    def __init__(self, cls: type[BaseModel], skip: Iterable[str]) -> None:
        self.names = tuple(name for name in cls.__struct_fields__ if name not in skip)
        self.get: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.names)
        self.none = (None,) * len(self.names)


_fields: dict[type[BaseModel], _Fields] = {}


def _fields_of(model: BaseModel, skip: Iterable[str]) -> _Fields:
    cls = type(model)
    fields = _fields.get(cls)
    if fields is None:
        fields = _fields[cls] = _Fields(cls, skip)
    return fields


class _ChoiceAccumulator:
    """One choice of the answer so far."""

    __slots__ = ("calls", "content", "fields", "finish_reason", "logprobs", "more", "role")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.finish_reason: Any = None
        self.role: Any = None
        self.calls: ToolCalls | None = None
        self.fields: dict[str, Any] = {}  # of the choice: the last value wins
        self.logprobs: dict[str, Any] = {}  # lists of tokens, one after another
        self.more: dict[str, Any] = {}  # of the delta: texts and lists grow

    def take(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Fields of a choice in a chunk."""
        for name, value in pairs:
            if value is None or name in ("message", "delta"):
                continue
            if name == "finish_reason":
                self.finish_reason = value or None  # some servers send "" until the end
            elif name == "logprobs" and isinstance(value, BaseModel):
                for kind in value.__struct_fields__:
                    grow(self.logprobs, kind, getattr(value, kind))
                for kind, tokens in extras_of(value).items():
                    grow(self.logprobs, kind, tokens)
            elif name in _CONCATENATED:
                grow(self.fields, name, value)
            else:
                self.fields[name] = value

    def take_delta(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Fields of a delta but its content."""
        for name, value in pairs:
            if value is None:
                continue
            if name == "tool_calls":
                if self.calls is None:
                    self.calls = ToolCalls()
                self.calls.add(value)
            elif name == "role":
                self.role = self.role or value
            elif isinstance(value, BaseModel):  # `function_call`, the predecessor of tool calls
                grow(self.more, name, value.to_dict())
            else:
                grow(self.more, name, value)


class _ChoicesAccumulator(Generic[C, A]):
    """What both kinds of answers have in common."""

    _last_wins: tuple[str, ...] = ("system_fingerprint",)  # of the fields that every chunk says again

    def __init__(self) -> None:
        self._pending: list[Any] = []
        self._top: dict[str, Any] = {}
        self._missing = [*_FIRST_WINS]
        self._choices: dict[int, _ChoiceAccumulator] = {}

    def add(self, chunk: C) -> None:
        """Note the next chunk."""
        self._pending.append(chunk)
        if len(self._pending) >= BACKLOG:
            self._fold()

    @property
    def text(self) -> str:
        """The text so far of the choice with index 0; "" before any."""
        choice = self._current().get(0)
        return "".join(choice.content) if choice is not None else ""

    @property
    def usage(self) -> CompletionUsage | None:
        """The tokens counted, once the server told."""
        self._fold()
        usage: CompletionUsage | None = self._top.get("usage")
        return usage

    @property
    def complete(self) -> bool:
        """Whether every choice seen has its finish reason."""
        choices = self._current()
        return bool(choices) and all(choice.finish_reason is not None for choice in choices.values())

    def partial(self) -> A:
        """An answer of what came so far; the finish reason of a choice that goes on is `None`."""
        choices = self._current()
        fields: dict[str, Any] = {
            **settled(self._top),
            "choices": [self._built(index, choices[index]) for index in sorted(choices)],
        }
        return self._answer(fields)

    def final(self) -> A:
        """The whole answer: the same as `partial`, for when nothing more comes."""
        return self.partial()

    def _current(self) -> dict[int, _ChoiceAccumulator]:
        self._fold()
        return self._choices

    def _fold(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            for chunk in pending:
                self._take_chunk(chunk)

    def _take_chunk(self, chunk: Any) -> None:
        kind: Any = chunk.__class__
        fields = _fields.get(kind) or _fields_of(chunk, _DROPPED | _STEADY)
        top = self._top
        if self._missing:
            top.update((name, value) for name in self._missing if (value := getattr(chunk, name)))
            self._missing = [name for name in self._missing if name not in top]
        for name in self._last_wins:
            if (value := getattr(chunk, name)) is not None:
                top[name] = value
        if (values := fields.get(chunk)) != fields.none:
            self._take_top(zip(fields.names, values, strict=True))
        if chunk.__dict__:
            self._take_top(extras_of(chunk).items())
        choices = chunk.choices
        if type(choices) is list:
            for choice in choices:  # pyright: ignore[reportUnknownVariableType] (a cast costs a call per token)
                if isinstance(choice, BaseModel):
                    self._take_choice(choice)

    def _take_top(self, pairs: Iterable[tuple[str, Any]]) -> None:
        for name, value in pairs:
            if value is not None:
                self._top[name] = value

    def _choice_at(self, index: Any) -> _ChoiceAccumulator:
        place = as_index(index) or 0
        choice = self._choices.get(place)
        if choice is None:
            choice = self._choices[place] = _ChoiceAccumulator()
        return choice

    def _take_choice(self, choice: Any) -> None:
        raise NotImplementedError

    def _built(self, index: int, choice: _ChoiceAccumulator) -> dict[str, Any]:
        raise NotImplementedError

    def _answer(self, fields: dict[str, Any]) -> A:
        raise NotImplementedError


class ChatAccumulator(_ChoicesAccumulator["ChatCompletionChunk", "ChatCompletion"]):
    """Makes a `ChatCompletion` of `ChatCompletionChunk`s, however a server cuts text, reasoning and tool calls."""

    _last_wins = ("system_fingerprint", "service_tier")

    @property
    def reasoning(self) -> str:
        """The reasoning so far of the choice with index 0, under either name; "" without."""
        choice = self._current().get(0)
        if choice is None:
            return ""
        more: dict[str, Any] = settled(
            {name: value for name, value in choice.more.items() if name in ("reasoning_content", "reasoning")}
        )
        return text_of(more.get("reasoning_content") or more.get("reasoning"))

    def _take_choice(self, choice: Any) -> None:
        into = self._choices.get(choice.index) if type(choice.index) is int else None
        if into is None:
            into = self._choice_at(choice.index)
        kind: Any = choice.__class__
        fields = _fields.get(kind) or _fields_of(choice, ("index", "delta"))
        if (values := fields.get(choice)) != fields.none:
            into.take(zip(fields.names, values, strict=True))
        if choice.__dict__:
            into.take(extras_of(choice).items())
        delta = choice.delta
        if not isinstance(delta, BaseModel):
            return
        content: Any = getattr(delta, "content", None)
        if content is not None:
            into.content.append(content if type(content) is str else text_of(content))
        fields = _fields.get(type(delta)) or _fields_of(delta, ("content",))
        if (values := fields.get(delta)) != fields.none:
            into.take_delta(zip(fields.names, values, strict=True))
        if delta.__dict__:
            into.take_delta(extras_of(delta).items())

    def _built(self, index: int, choice: _ChoiceAccumulator) -> dict[str, Any]:
        message = {
            **settled(choice.more),
            "role": choice.role or "assistant",
            "content": "".join(choice.content) if choice.content else None,
        }
        if choice.calls is not None:
            message["tool_calls"] = choice.calls.built()
        built = {**settled(choice.fields), "index": index, "finish_reason": choice.finish_reason, "message": message}
        if choice.logprobs:
            built["logprobs"] = settled(choice.logprobs)
        return built

    def _answer(self, fields: dict[str, Any]) -> ChatCompletion:
        from ...types.chat import ChatCompletion

        build = cast("Callable[[Any], ChatCompletion]", builder_for(ChatCompletion))
        return build({**fields, "object": "chat.completion"})


class CompletionAccumulator(_ChoicesAccumulator["Completion", "Completion"]):
    """Makes a whole `Completion` of those that a stream sends as its chunks."""

    @property
    def reasoning(self) -> str:
        """Always "": completions have none."""
        return ""

    def _take_choice(self, choice: Any) -> None:
        into = self._choice_at(choice.index)
        if choice.text is not None:
            into.content.append(text_of(choice.text))
        fields = _fields_of(choice, ("index", "text"))
        values = fields.get(choice)
        if values != fields.none:
            into.take(zip(fields.names, values, strict=True))
        if vars(choice):
            into.take(extras_of(choice).items())

    def _built(self, index: int, choice: _ChoiceAccumulator) -> dict[str, Any]:
        built = {
            **settled(choice.fields),
            "index": index,
            "finish_reason": choice.finish_reason,
            "text": "".join(choice.content),
        }
        if choice.logprobs:
            built["logprobs"] = settled(choice.logprobs)
        return built

    def _answer(self, fields: dict[str, Any]) -> Completion:
        from ...types import Completion

        build = cast("Callable[[Any], Completion]", builder_for(Completion))
        return build({**fields, "object": "text_completion"})
