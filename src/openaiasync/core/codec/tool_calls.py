"""Tool calls out of deltas, told apart in whatever way a server marks them; and values that grow piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..model.base import BaseModel
from ..model.dump import extras_of

if TYPE_CHECKING:
    from .partial_json import PartialJSON

__all__ = ["ToolCalls", "as_index", "grow", "settled"]

_WHOLE = frozenset({"id", "type", "index", "name", "role", "format"})  # texts that come whole, perhaps again and again


def as_index(value: Any) -> int | None:
    """A number that tells parts of an answer apart; gateways in languages without types send it as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


_DEEPEST = 64  # levels in which things grow; what is nested deeper is replaced


class _Pieces(list[str]):
    """A text that came in pieces."""


def grow(into: dict[str, Any], name: str, value: Any, depth: int = 0) -> None:
    """Let a field grow by what a delta brings: texts and lists get longer, objects grow inside, others are replaced."""
    old = into.get(name)
    if value is None:
        into.setdefault(name, None)
    elif isinstance(value, str):
        if name in _WHOLE:
            into[name] = value
        elif isinstance(old, _Pieces):
            old.append(value)
        else:
            into[name] = _Pieces([value])
    elif isinstance(value, dict) and depth < _DEEPEST:
        if not isinstance(old, dict):
            old = into[name] = {}
        inner = cast("dict[str, Any]", old)
        for key, item in cast("dict[str, Any]", value).items():
            grow(inner, key, item, depth + 1)
    elif isinstance(value, list) and depth < _DEEPEST:
        if not isinstance(old, list) or isinstance(old, _Pieces):
            old = into[name] = list[Any]()
        for item in cast("Sequence[Any]", value):
            _grow_list(cast("Any", old), item, depth + 1)
    else:
        into[name] = value


def _grow_list(items: list[Any], item: Any, depth: int) -> None:
    if not isinstance(item, dict):
        items.append(item)
        return
    fields = cast("dict[str, Any]", item)
    place = fields.get("index")
    last = cast("dict[str, Any]", items[-1]) if items and isinstance(items[-1], dict) else None
    if last is None or place is None or last.get("index") != place or last.get("type") != fields.get("type"):
        last = {}
        items.append(last)
    for name, value in fields.items():
        grow(last, name, value, depth)


def settled(value: Any) -> Any:
    """What has grown so far as plain values that grow no more, however deep they are."""
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
    """An item that grows no more; of an object or a list the place for what is in it."""
    if isinstance(item, _Pieces):
        if len(item) > 1:
            item[:] = ["".join(item)]  # who asks after every delta joins each piece once
        return "".join(item)
    return dict[str, Any]() if isinstance(item, dict) else list[Any]() if isinstance(item, list) else item


class _PendingCall:
    """One tool call so far."""

    __slots__ = ("_parser", "_read", "arguments", "function", "id", "more", "name", "place", "type")

    def __init__(self, place: int) -> None:
        self.place = place  # counted from 0 in the order in which calls begin
        self.id: Any = None
        self.type: Any = None
        self.name: str = ""
        self.arguments: list[str] = []
        self.function = False  # a function was spoken of
        self.more: dict[str, Any] = {}
        self._parser: PartialJSON | None = None
        self._read = 0  # pieces of the arguments that the parser has

    @property
    def whole(self) -> bool:
        """Whether the arguments are a JSON object, to which no delta can add."""
        if self._parser is None:
            from .partial_json import PartialJSON  # few streams need it, and every client loads this module

            self._parser = PartialJSON()
        self._parse(self._parser)
        return self._parser.complete and isinstance(self._parser.value, dict)

    def _parse(self, parser: PartialJSON) -> None:
        # Each piece is parsed once: for servers that repeat the name in every delta, every delta asks for `whole`.
        for piece in self.arguments[self._read :]:
            parser.feed(piece)
        self._read = len(self.arguments)

    @property
    def text(self) -> str:
        """The arguments so far. The pieces become one, so that asking at every delta joins each piece once."""
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
        """Whether a delta only says again what this call is."""
        return bool(function.name == self.name and _text(function.arguments) == self.text)

    def take_function(self, function: Any) -> None:
        self.function = True
        name, arguments = function.name, function.arguments
        # The name comes whole, or again with every delta; a server that cuts it does so before the arguments begin.
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
    """Arguments as JSON text; some servers send the object itself."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _begins(function: Any) -> bool:
    """Whether a delta has arguments that begin like a whole object."""
    arguments = function.arguments
    return isinstance(arguments, dict) or (isinstance(arguments, str) and arguments.lstrip().startswith("{"))


class ToolCalls:
    """The tool calls of one choice. An entry belongs to a call by its index, else by its id, else to the last call."""

    __slots__ = ("_by_id", "_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_PendingCall] = []
        self._by_index: dict[int, _PendingCall] = {}
        self._by_id: dict[str, _PendingCall] = {}

    def add(self, entries: Any) -> None:
        """Take the `tool_calls` of a delta; what is no list of entries is passed over."""
        if isinstance(entries, list):
            for entry in cast("Sequence[Any]", entries):
                if isinstance(entry, BaseModel):
                    self.take(entry)

    def take(self, entry: Any) -> int | None:
        """Take one entry; which call it belongs to, counted from 0 in the order in which they began.

        `None` for an entry that only says a call again.
        """
        call = self._find(entry)
        if call is None:
            return None
        call.take(entry)
        return call.place

    def so_far(self, place: int) -> tuple[str, str]:
        """The name of a call, and its arguments as far as they came."""
        call = self._calls[place]
        return call.name, call.text

    def built(self) -> list[dict[str, Any]]:
        """The calls as plain values, in the order in which they began."""
        return [call.built() for call in self._calls]

    def _find(self, entry: Any) -> _PendingCall | None:
        """The call that an entry belongs to; `None` for one that only says a call again."""
        index = as_index(entry.index)
        key = entry.id if isinstance(entry.id, str) and entry.id else None
        named = isinstance(entry.function, BaseModel) and bool(cast("Any", entry.function).name)
        call = self._known(index, key, named)
        if call is not None and named and _begins(entry.function) and call.whole:
            # Whole calls, one after another, that the server gave one index or one id.
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
            # Some servers give every call the index 0, others every delta of a call an id of its own: only another id
            # together with a name is another call.
            other = call is not None and call.id and key and key != call.id and named
            return None if other else call
        if key is not None:
            return self._by_id.get(key)
        call = self._calls[-1] if self._calls else None
        return None if call is not None and named and call.name else call
