"""Converts an answer to plain values and JSON text, its unknown fields included.

Private state is in an instance's `__dict__` beside the unknown fields, under the names in `PRIVATE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from .plain import is_dict, is_list, parse_json

__all__ = [
    "CALLS",
    "PRIVATE",
    "DumpPlan",
    "How",
    "dump_model",
    "extras_of",
    "plan_of",
    "select",
    "shape_of",
    "to_text",
    "unset_of",
]

# State of the call, not of the answer: "_meta": facts about the call; "_source": requests the next page, or makes the
# parts of an event that are built on access. Copies share it, pickles leave it out.
CALLS = ("_meta", "_source")

# "_raw": the bytes of a top-level answer or an event; "_nulls" and "_absent": of an object that was built leniently,
# the fields sent as null and the required ones not sent; "_more": unknown fields whose name belongs to a method or to
# one of these names; "_base64": an embedding that was requested as base64 text; "_parsed": the value parsed from a
# text.
PRIVATE = frozenset({"_raw", "_nulls", "_absent", "_more", "_base64", "_parsed", *CALLS})


class How(msgspec.Struct, frozen=True):
    """The options of a dump."""

    api_names: bool = True
    exclude_unset: bool = True
    exclude_defaults: bool = False
    exclude_none: bool = False
    json: bool = False


class DumpPlan(msgspec.Struct, frozen=True):
    """The facts about a class that every dump needs, computed once."""

    tag_field: str | None
    fields: tuple[tuple[str, str, str, bool], ...]  # attribute, name in Python, name on the wire, required
    added: tuple[str, ...]  # attributes for fields of other servers, which OpenAI's description lacks


_plans: dict[type[msgspec.Struct], DumpPlan] = {}


def plan_of(cls: type[msgspec.Struct]) -> DumpPlan:
    """Return the plan of a Struct class, made once."""
    plan = _plans.get(cls)
    if plan is None:
        rows: list[tuple[str, str, str, bool]] = []
        for field in zip(cls.__struct_fields__, cls.__struct_encode_fields__, _has_default(cls), strict=True):
            name, wire, default = field
            # A mixin may have the value under its wire name (`Embedding.embedding`), which users know.
            known = wire if wire != name and hasattr(cls, wire) else name
            rows.append((name, known, wire, not default))
        config = cls.__struct_config__
        added: tuple[str, ...] = getattr(cls, "_added", ())
        plan = _plans[cls] = DumpPlan(config.tag_field if config.tag is not None else None, tuple(rows), added)
    return plan


def _has_default(cls: type[msgspec.Struct]) -> list[bool]:
    defaults = [value is not msgspec.NODEFAULT for value in cls.__struct_defaults__]  # for the last fields only
    return [False] * (len(cls.__struct_fields__) - len(defaults)) + defaults


def extras_of(model: msgspec.Struct) -> dict[str, Any]:
    """Return the undeclared fields as a new dict."""
    state = vars(model)
    if not state:
        return {}
    tag_field = plan_of(type(model)).tag_field
    extras = {name: value for name, value in state.items() if name not in PRIVATE and name != tag_field}
    extras.update(state.get("_more", ()))
    return extras


def unset_of(model: msgspec.Struct, shape: dict[str, Any] | None) -> set[str]:
    """Return the attributes of fields that were not set, by the JSON of the object where that is known."""
    fields = [row for row in plan_of(type(model)).fields if _is_empty(getattr(model, row[0]), row[3])]
    if shape is not None:
        return {name for name, _, wire, _ in fields if wire not in shape}
    state = vars(model)
    nulls, absent = state.get("_nulls", ()), state.get("_absent", ())
    return {name for name, _, _, required in fields if (name in absent if required else name not in nulls)}


def _is_empty(value: Any, required: bool) -> bool:
    """Whether a value may mean that none was sent: a missing or null required list is read as an empty one."""
    return value is None or (required and value.__class__ is list and not value)


def _came_as_none(model: msgspec.Struct, name: str, wire: str, shape: dict[str, Any] | None) -> bool:
    if shape is not None:
        return shape.get(wire) is None
    state = vars(model)
    return name in state.get("_nulls", ()) or name in state.get("_absent", ())


def dump_model(model: msgspec.Struct, shape: dict[str, Any] | None, how: How) -> dict[str, Any]:
    """Return `model` as plain values; `shape` is the JSON object it was decoded from, `None` if not known.

    The values are the current ones; the shape only tells which `None` was sent as null and which was not sent.
    """
    plan = plan_of(type(model))
    kin: dict[str, Any] = shape or {}
    unset = unset_of(model, shape)
    out: dict[str, Any] = {}
    if (tag := plan.tag_field) is not None and (shape is None or tag in shape or not how.exclude_unset):
        out[tag] = getattr(model, tag)
    for name, python_name, wire, required in plan.fields:
        value = getattr(model, name)
        if value is None or (_is_empty(value, required) and _came_as_none(model, name, wire, shape)):
            value = None
            if how.exclude_none or (how.exclude_defaults and not required):
                continue
            if name in unset and (how.exclude_unset or name in plan.added):
                continue
        elif isinstance(value, bytes):
            value = getattr(model, python_name)  # a property of that name has the public form
        out[wire if how.api_names else python_name] = _dump(value, kin.get(wire), how)
    for name, value in extras_of(model).items():
        if value is not None or not how.exclude_none:
            out[name] = _dump(value, kin.get(name), how)
    return out


def _dump(value: Any, shape: Any, how: How) -> Any:
    if isinstance(value, msgspec.Struct) and hasattr(value, "__dict__"):  # one of ours: all of them have one
        return dump_model(value, shape if is_dict(shape) else None, how)
    if is_dict(value):
        kin = shape if is_dict(shape) else {}
        return {name: _dump(item, kin.get(name), how) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        parts: Sequence[Any] = shape if is_list(shape) else ()
        if len(parts) != len(items):  # the list was changed: its items no longer correspond
            parts = (None,) * len(items)
        return [_dump(item, part, how) for item, part in zip(items, parts, strict=True)]
    if how.json and value is not None and not isinstance(value, (str, int, float, bool)):
        return msgspec.to_builtins(value)
    return value


def select(values: Any, include: Any, exclude: Any) -> Any:
    """Return the part of a dump that `include` and `exclude` select, in pydantic's notation.

    Each is a set of names (or of list indices), or a dict from these (or ``"__all__"``) to the selection within the
    part: again a set or a dict, or `True` for all of it.
    """
    if include is None and exclude is None:
        return values
    if not isinstance(values, (dict, list)):
        return values
    whole = cast("Any", values)
    pairs: Iterable[tuple[Any, Any]] = whole.items() if isinstance(values, dict) else _numbered(whole)
    kept: list[tuple[Any, Any]] = []
    for name, value in pairs:
        inner, outer = _part(include, name), _part(exclude, name)
        if outer is not True and (include is None or inner is not None):
            kept.append((name, select(value, None if inner is True else inner, outer)))
    return dict(kept) if isinstance(values, dict) else [value for _, value in kept]


def _numbered(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return enumerate(items)


def _part(chosen: Any, name: Any) -> Any:
    """Return the selection for one part: `None` for none, `True` for all of it, else a selection within it."""
    if chosen is None or isinstance(chosen, bool):
        return chosen or None
    found = next((one for one in (name, "__all__") if one in chosen), None)
    if found is None:
        return None
    part: Any = chosen[found] if hasattr(chosen, "items") else True
    return True if part is ... else part


def to_text(values: Any, indent: int | None) -> str:
    """Return plain values as JSON text; NaN and lone surrogates, which a lenient answer may hold, are kept."""
    import json  # msgspec would refuse surrogates and write null for NaN

    separators = (",", ":") if indent is None else None
    text = json.dumps(values, indent=indent, ensure_ascii=False, separators=separators, default=msgspec.to_builtins)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(values, indent=indent, separators=separators, default=msgspec.to_builtins)
    return text


def shape_of(model: msgspec.Struct) -> dict[str, Any] | None:
    """Return the JSON object that a top-level answer was decoded from, `None` for others."""
    raw = vars(model).get("_raw")
    if raw is None:
        return None
    try:
        shape = parse_json(raw)
    except (ValueError, RecursionError):
        return None
    return shape if is_dict(shape) else None
