"""Encodes parameters as JSON bodies and query strings, rejecting values that cannot be sent.

The walk before encoding finds values that msgspec would silently encode wrongly: markers for "not given", answers
passed back as parameters (their unknown fields would be lost), NaN and infinities (they would become `null`), bytes
(they would become base64).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, cast, get_origin
from urllib.parse import quote, unquote

import msgspec

from ..model.base import BaseModel
from ..model.omitted import is_omitted

__all__ = ["encode_json", "encode_query", "merge_queries", "plain"]

_SCALARS = frozenset({str, int, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})
_DICTS = frozenset({dict})
_chained: Callable[[Iterable[Iterable[Any]]], Iterable[Any]] = chain.from_iterable
_values: Callable[[Any], Iterable[Any]] = dict[Any, Any].values
_KEYS_ONLY = frozenset({tuple, bool, type(None)})  # msgspec encodes these values itself, but not as keys
_MOST_CONTAINERS = 100_000  # a larger tree may contain itself, which the recursive walk detects


def _is_plain(value: Any) -> bool:
    """Whether msgspec encodes the value correctly without changes.

    Scalars and lists of flat dicts, as messages are, are checked here. (`map`, `chain` and `issuperset` take more
    instructions for a dict of two texts than these loops do, and twice the time.)
    """
    kind = value.__class__
    if kind is not dict:
        return kind in _CONTAINERS and _is_plain_tree(value)
    for item in value.values():
        kind = item.__class__
        if kind in _SCALARS:
            continue
        if kind is not list:
            return _is_plain_tree(value)
        for one in item:
            kind = one.__class__
            if kind is not dict:
                return _is_plain_tree(value)
            for part in one.values():
                kind = part.__class__
                if kind is not str and kind not in _SCALARS:
                    return _is_plain_tree(value)
    return True


def _is_plain_tree(value: Any) -> bool:
    """As `_is_plain` for any container, without a call for each part."""
    todo: list[Any] = [value]
    for container in todo:  # grows while it is walked
        items: Iterable[Any] = container.values() if container.__class__ is dict else container
        for item in items:
            kind = item.__class__
            if kind in _SCALARS:
                continue
            if kind in _CONTAINERS:
                if kind is dict or not (
                    _DICTS.issuperset(map(type, item)) and _SCALARS.issuperset(map(type, _chained(map(_values, item))))
                ):
                    todo.append(item)
            elif kind is not float or not math.isfinite(item):
                return False
        if len(todo) > _MOST_CONTAINERS:
            return False
    return True


def _plain_mapping(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    changed: dict[Any, Any] | None = None
    for key, item in value.items():
        kind = item.__class__
        if kind in _SCALARS:
            continue
        if kind.__name__ in ("NotGiven", "Omit"):
            changed = dict(value) if changed is None else changed
            del changed[key]
            continue
        new = plain(item)
        if new is not item:
            changed = dict(value) if changed is None else changed
            changed[key] = new
    return value if changed is None else changed


def _plain_sequence(value: Iterable[Any]) -> Any:
    changed = False
    items: list[Any] = []
    for item in value:
        kind = item.__class__
        new = item if kind in _SCALARS else plain(item)
        changed = changed or new is not item
        items.append(new)
    return items if changed else value


def plain(value: Any) -> Any:
    """Return the value itself if it can be encoded, else a copy with plain values in place of others.

    Raises `ValueError` for NaN and infinities, which JSON does not have (RFC 8259, section 6), and `TypeError` for
    bytes.
    """
    kind: Any = value.__class__
    if kind in _SCALARS:
        return value
    if kind is dict:
        return _plain_mapping(value)
    if kind is list or kind is tuple:
        return _plain_sequence(value)
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value!r} cannot be sent: JSON has no NaN and no infinities")
        return value
    if isinstance(value, BaseModel):
        return value.to_dict(mode="json")
    if issubclass(kind, Mapping):
        return _plain_mapping(dict(value))
    if issubclass(kind, (set, frozenset)):
        return _plain_sequence(value)
    if issubclass(kind, (bytes, bytearray, memoryview)):  # msgspec would encode them as base64
        raise TypeError(
            f"{kind.__name__} objects cannot be sent as JSON: decode text first, or encode data with base64.b64encode"
        )
    return value


def _foreign(value: Any) -> Any:
    """Encode objects of other libraries: pydantic models and the official client's answers, iterables."""
    kind: Any = value.__class__
    if isinstance(value, type) or get_origin(value) is not None:
        name = getattr(value, "__name__", value)
        raise TypeError(
            f"{name} is a type, and cannot be sent as JSON: client.chat.parse(..., into={name}), or parse() and "
            "stream() of the official namespaces, ask for a value of a type"
        )
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True, exclude_unset=True)
    if kind in _KEYS_ONLY:
        raise TypeError(f"the key {value!r} of a mapping cannot be sent as JSON: keys are strings")
    items = None if issubclass(kind, str) else _iterator(value)
    if items is None:
        if callable(value):
            raise TypeError(
                f"the function {getattr(value, '__name__', '')!r} cannot be sent as JSON: give Python functions to "
                "client.chat.run_tools(..., tools=[...]) or client.chat.session(tools=[...])"
            )
        raise TypeError(f"{kind.__name__} objects cannot be sent as JSON")
    return [plain(item) for item in items]


def _iterator(value: Any) -> Iterator[Any] | None:
    try:
        items: Iterator[Any] = iter(value)
    except TypeError:
        return None
    return items


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
_HALF_PAIR = "a text holds half of a surrogate pair, which UTF-8 cannot carry; remove it before the call"
_ENDLESS = "the parameters are nested too deeply, or contain themselves"


def encode_json(value: Any) -> bytes:
    """Return the JSON of a request body.

    Raises `TypeError` for objects without a JSON form, and `ValueError` for numbers and texts that JSON cannot carry.
    """
    try:
        return _encoder.encode(value if _is_plain(value) else plain(value))
    except UnicodeEncodeError:
        raise ValueError(_HALF_PAIR) from None
    except RecursionError:
        raise ValueError(_ENDLESS) from None


def _scalar(value: object) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} cannot be sent in a query")
    return str(value)


def _flatten(name: str, value: Any, out: list[tuple[str, str]]) -> None:
    if value is None:
        return  # a query has no null: None leaves the parameter out
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            if not is_omitted(item):
                _flatten(f"{name}[{key}]", item, out)
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = name if name.endswith("[]") else f"{name}[]"
        for item in cast("Iterable[Any]", value):
            _flatten(inner, item, out)
    else:
        out.append((name, _scalar(value)))


def encode_query(pairs: Iterable[tuple[str, Any]]) -> str:
    """Return a query string with brackets for nested values (``a[b]=1&c[]=2``), percent-encoded as UTF-8.

    Raises `ValueError` for NaN, infinities, texts that UTF-8 cannot carry, and values that contain themselves.
    """
    flat: list[tuple[str, str]] = []
    try:
        for name, value in pairs:
            if not is_omitted(value):
                _flatten(name, value, flat)
        return "&".join(f"{quote(name, safe='[]')}={quote(value, safe='')}" for name, value in flat)
    except UnicodeEncodeError:
        raise ValueError(_HALF_PAIR) from None
    except RecursionError:
        raise ValueError(_ENDLESS) from None


def merge_queries(first: str, second: str) -> str:
    """Merge two query strings: a parameter of the second replaces those of the same name in the first."""
    if not first or not second:
        return first or second
    names = {_parameter(pair) for pair in second.split("&")}
    return "&".join([*(pair for pair in first.split("&") if _parameter(pair) not in names), second])


def _parameter(pair: str) -> str:
    return unquote(pair.partition("=")[0].partition("[")[0])
