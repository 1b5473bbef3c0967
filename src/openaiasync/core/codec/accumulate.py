"""Accumulates the chunks of a stream: the answer so far at any time, the whole answer at the end.

Adding a chunk only stores it; chunks are merged when the answer is read, or a few hundred at a time. Tool calls are
distinguished by index, id or name, whichever of them a server sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from ...lazy import resolve_annotations
from ..model.base import BaseModel
from ..model.dump import extras_of
from ..model.lenient import builder_for
from ..model.mixins import text_of
from ..model.plain import as_dict, as_index, as_list, is_dict, is_list

if TYPE_CHECKING:
    from ...types import Completion, CompletionUsage
    from ...types.chat import ChatCompletion, ChatCompletionChunk  # noqa: F401 (named in the string of a base)
    from .partial_json import PartialJSON

__all__ = ["ChatAccumulator", "CompletionAccumulator", "ToolCalls", "grow", "settled"]

C = TypeVar("C")
A = TypeVar("A")

BACKLOG = 256  # chunks that are stored unmerged: a bound on the memory of a long stream
_FIRST_WINS = ("id", "created", "model")  # the first value that is not empty is the answer's
_STEADY = frozenset({*_FIRST_WINS, "system_fingerprint", "service_tier"})  # repeated in every chunk
_DROPPED = frozenset({"choices", "object", "obfuscation"})  # handled separately, or meaningless in an answer
_CONCATENATED = frozenset({"token_ids", "prompt_token_ids"})


class _FieldSet:
    """The fields of a class that are read together: nearly always all of them are `None`, and skipped in one step."""

    __slots__ = ("get", "names", "none")

    def __init__(self, cls: type[BaseModel], skip: Iterable[str]) -> None:
        self.names = tuple(name for name in cls.__struct_fields__ if name not in skip)
        self.get: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.names)
        self.none = (None,) * len(self.names)


_fields: dict[type[BaseModel], _FieldSet] = {}


def _fields_of(model: BaseModel, skip: Iterable[str]) -> _FieldSet:
    cls = type(model)
    fields = _fields.get(cls)
    if fields is None:
        fields = _fields[cls] = _FieldSet(cls, skip)
    return fields


class _ChoiceAccumulator:
    """One choice of the answer so far."""

    __slots__ = ("calls", "content", "fields", "finish_reason", "logprobs", "more", "role")

    def __init__(self) -> None:
        self.content: list[str] = []
        self.finish_reason: Any = None
        self.role: Any = None
        self.calls: ToolCalls | None = None
        self.fields: dict[str, Any] = {}  # of the choice; the last value wins
        self.logprobs: dict[str, Any] = {}  # lists of tokens, which are concatenated
        self.more: dict[str, Any] = {}  # of the delta; texts and lists grow

    def take(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Merge the fields of a choice in a chunk."""
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
        """Merge the fields of a delta except its content."""
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
    """Base of both accumulators."""

    _last_wins: tuple[str, ...] = ("system_fingerprint",)  # of the fields that every chunk repeats

    def __init__(self) -> None:
        self._pending: list[Any] = []
        self._top: dict[str, Any] = {}
        self._missing = [*_FIRST_WINS]
        self._choices: dict[int, _ChoiceAccumulator] = {}

    def add(self, chunk: C) -> None:
        """Add the next chunk."""
        self._pending.append(chunk)
        if len(self._pending) >= BACKLOG:
            self._fold()

    @property
    def text(self) -> str:
        """The text of choice 0 so far; "" before any."""
        choice = self._current().get(0)
        return "".join(choice.content) if choice is not None else ""

    @property
    def usage(self) -> CompletionUsage | None:
        """The usage, once the server has sent it."""
        self._fold()
        usage: CompletionUsage | None = self._top.get("usage")
        return usage

    @property
    def complete(self) -> bool:
        """Whether every choice received has its finish reason."""
        choices = self._current()
        return bool(choices) and all(choice.finish_reason is not None for choice in choices.values())

    def partial(self) -> A:
        """Return the answer so far; the finish reason of a choice that is not finished is `None`."""
        choices = self._current()
        fields: dict[str, Any] = {
            **settled(self._top),
            "choices": [self._built(index, choices[index]) for index in sorted(choices)],
        }
        return self._answer(fields)

    def final(self) -> A:
        """Return the whole answer: the same as `partial`, after the last chunk."""
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
    """Makes a `ChatCompletion` from its chunks, however a server cuts text, reasoning and tool calls."""

    _last_wins = ("system_fingerprint", "service_tier")

    @property
    def reasoning(self) -> str:
        """The reasoning of choice 0 so far, under either of its names; "" without any."""
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
    """Makes a `Completion` from the chunks of a stream, which are of the same type."""

    @property
    def reasoning(self) -> str:
        """Always "": completions have no reasoning."""
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


# -------------------------------------------------------------------------------------------------- tool calls


class _PendingCall:
    """One tool call so far."""

    __slots__ = ("_parser", "_read", "arguments", "function", "id", "more", "name", "place", "type")

    def __init__(self, place: int) -> None:
        self.place = place  # from 0, in the order in which calls begin
        self.id: Any = None
        self.type: Any = None
        self.name: str = ""
        self.arguments: list[str] = []
        self.function = False  # an entry had a function
        self.more: dict[str, Any] = {}
        self._parser: PartialJSON | None = None
        self._read = 0  # pieces of the arguments that were parsed

    @property
    def whole(self) -> bool:
        """Whether the arguments are a complete JSON object, to which no delta can add."""
        if self._parser is None:
            from .partial_json import PartialJSON  # few streams need it, and every client loads this module

            self._parser = PartialJSON()
        self._parse(self._parser)
        return self._parser.complete and isinstance(self._parser.value, dict)

    def _parse(self, parser: PartialJSON) -> None:
        # Each piece is parsed once: `whole` is read for every delta if the server repeats the name in each.
        for piece in self.arguments[self._read :]:
            parser.feed(piece)
        self._read = len(self.arguments)

    @property
    def text(self) -> str:
        """The arguments so far.

        The pieces are replaced by their join, so that reading after every delta joins each once.
        """
        if len(self.arguments) > 1:
            if self._parser is not None:
                self._parse(self._parser)
            self.arguments = ["".join(self.arguments)]
            self._read = min(self._read, 1)
        return self.arguments[0] if self.arguments else ""

    def take(self, entry: Any) -> None:
        self.id = self.id or entry.id
        self.type = self.type or entry.type
        if isinstance(entry.function, BaseModel):
            self.take_function(entry.function)
        for name, value in extras_of(entry).items():
            grow(self.more, name, value)

    def says(self, function: Any) -> bool:
        """Whether a delta only repeats this call."""
        return bool(function.name == self.name and _text(function.arguments) == self.text)

    def take_function(self, function: Any) -> None:
        self.function = True
        name, arguments = function.name, function.arguments
        # The name is sent whole, or with every delta; a server that cuts it sends all of it before the arguments.
        if isinstance(name, str) and name != self.name and not (self.name and self.arguments):
            self.name += name
        if arguments is not None and (text := _text(arguments)):
            self.arguments.append(text)
        for key, value in extras_of(function).items():
            grow(self.more.setdefault("function", {}), key, value)

    def built(self) -> dict[str, Any]:
        built: dict[str, Any] = {"id": self.id, "type": self.type or "function", **settled(self.more)}
        if self.function:
            more = cast("dict[str, Any]", built.get("function", {}))
            built["function"] = {"name": self.name or None, "arguments": self.text, **more}
        return built


def _text(arguments: Any) -> str:
    """Return arguments as JSON text; some servers (Ollama) send the object itself."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _begins(function: Any) -> bool:
    """Whether a delta has arguments that begin like a complete object."""
    arguments = function.arguments
    return isinstance(arguments, dict) or (isinstance(arguments, str) and arguments.lstrip().startswith("{"))


class ToolCalls:
    """The tool calls of one choice. An entry belongs to a call by its index, else by its id, else by order."""

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_PendingCall] = []
        self._by_index: dict[int, _PendingCall] = {}
        self._by_id: dict[str, _PendingCall] = {}

    def add(self, entries: Any) -> None:
        """Add the `tool_calls` of a delta; anything but a list of entries is ignored."""
        for entry in as_list(entries):
            if isinstance(entry, BaseModel):
                self.take(entry)

    def take(self, entry: Any) -> int | None:
        """Add one entry; return the number of its call, from 0 in the order in which they began.

        `None` for an entry that only repeats a call.
        """
        call = self._find(entry)
        if call is None:
            return None
        call.take(entry)
        return call.place

    def so_far(self, place: int) -> tuple[str, str]:
        """Return the name of a call, and its arguments so far."""
        call = self._calls[place]
        return call.name, call.text

    def built(self) -> list[dict[str, Any]]:
        """Return the calls as plain values, in the order in which they began."""
        return [call.built() for call in self._calls]

    def _find(self, entry: Any) -> _PendingCall | None:
        """Return the call of an entry, a new one if needed; `None` for an entry that only repeats a call."""
        index = as_index(entry.index)
        key = entry.id if isinstance(entry.id, str) and entry.id else None
        named = isinstance(entry.function, BaseModel) and bool(getattr(entry.function, "name", None))
        call = self._known(index, key, named)
        if call is not None and named and _begins(entry.function) and call.whole:
            # Complete calls, one after another, to which the server gave the same index or id.
            if key is not None and key == call.id and call.says(entry.function):
                return None
            call = None
        if call is None:
            call = _PendingCall(len(self._calls))
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if key is not None:
            self._by_id[key] = call
        return call

    def _known(self, index: int | None, key: str | None, named: bool) -> _PendingCall | None:
        if index is not None:
            call = self._by_index.get(index) or self._by_id.get(key or "")
            # Some servers give every call the index 0, others give every delta of a call a new id. So only a new id
            # together with a name begins another call.
            other = call is not None and call.id and key and key != call.id and named
            return None if other else call
        if key is not None:
            return self._by_id.get(key)
        call = self._calls[-1] if self._calls else None
        return None if call is not None and named and call.name else call


# -------------------------------------------------------------------------------------------------- values that grow

_WHOLE = frozenset({"id", "type", "index", "name", "role", "format"})  # texts that are sent whole, perhaps repeatedly


_DEEPEST = 64  # levels in which values grow; deeper ones are replaced


class _TextPieces(list[str]):
    """A text in pieces."""


def grow(into: dict[str, Any], name: str, value: Any, depth: int = 0) -> None:
    """Merge a delta's field: texts and lists get longer, objects are merged, other values are replaced."""
    old = into.get(name)
    if value is None:
        into.setdefault(name, None)
    elif isinstance(value, str):
        if name in _WHOLE:
            into[name] = value
        elif isinstance(old, _TextPieces):
            old.append(value)
        else:
            into[name] = _TextPieces([value])
    elif is_dict(value) and depth < _DEEPEST:
        if not is_dict(old):
            old = into[name] = {}
        for key, item in value.items():
            grow(old, key, item, depth + 1)
    elif is_list(value) and depth < _DEEPEST:
        if not is_list(old) or isinstance(old, _TextPieces):
            old = into[name] = []
        for item in value:
            _grow_list(old, item, depth + 1)
    else:
        into[name] = value


def _grow_list(items: list[Any], item: Any, depth: int) -> None:
    if not is_dict(item):
        items.append(item)
        return
    place = item.get("index")
    last = as_dict(items[-1]) if items else {}
    if not last or place is None or last.get("index") != place or last.get("type") != item.get("type"):
        last = {}
        items.append(last)
    for name, value in item.items():
        grow(last, name, value, depth)


def settled(value: Any) -> Any:
    """Return a merged value as plain values that no longer change. Not recursive: servers may nest deeply."""
    whole: list[Any] = []
    todo: list[tuple[Any, Any]] = [([value], whole)]
    while todo:
        source, made = todo.pop()
        named = isinstance(source, dict)
        for key, item in cast("Any", source).items() if named else enumerate(source):
            one = _joined(item)
            if isinstance(item, (dict, list)) and not isinstance(one, str):
                todo.append((cast("Any", item), one))
            if named:
                made[key] = one
            else:
                made.append(one)
    return whole[0]


def _joined(item: Any) -> Any:
    """Return a finished item; of an object or a list an empty one, which the caller fills."""
    if isinstance(item, _TextPieces):
        if len(item) > 1:
            item[:] = ["".join(item)]  # reading after every delta joins each piece once
        return "".join(item)
    return dict[str, Any]() if isinstance(item, dict) else list[Any]() if isinstance(item, list) else item


resolve_annotations(__name__)
