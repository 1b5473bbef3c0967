"""Example values made from type hints: parameters as users would pass them, answers as a server would send them.

A *variant* picks among what a hint allows: "least" gives what is required alone, "first" everything with the first
member of each union, "last" everything with the last, and ids and texts that have to be escaped.
"""

from __future__ import annotations

import collections.abc
import datetime
import functools
import io
import os
import types
import typing
from typing import Any

__all__ = ["DEEPEST", "VARIANTS", "answer_of", "example", "members"]

VARIANTS = ("least", "first", "last")
DEEPEST = 5  # types that contain themselves have to end somewhere; below this only what is required is given
_UNIONS = (typing.Union, types.UnionType)
_NOTHING = ("NoneType", "Omit", "NotGiven")


def plain_hint(hint: Any) -> Any:
    """The hint without `Annotated`, `Required`, aliases and the like."""
    while True:
        if typing.get_origin(hint) in (typing.Annotated, typing.Required, typing.NotRequired):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__value__"):  # a `type` statement's alias
            hint = hint.__value__
        else:
            return hint


@functools.cache
def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union that stand for a value; of any other hint, itself."""
    hint = plain_hint(hint)
    if typing.get_origin(hint) not in _UNIONS:
        return () if hint is None or getattr(hint, "__name__", "") in _NOTHING else (hint,)
    return tuple(one for member in typing.get_args(hint) for one in members(member))


@functools.cache
def is_nullable(hint: Any) -> bool:
    hint = plain_hint(hint)
    return hint is type(None) or (
        typing.get_origin(hint) in _UNIONS and any(is_nullable(one) for one in typing.get_args(hint))
    )


def example(hint: Any, name: str, variant: str, depth: int = 0) -> Any:
    """A value of a parameter; `name` is what texts are made of."""
    choices = members(hint)
    if any(choice is os.PathLike or typing.get_origin(choice) is os.PathLike for choice in choices):
        return _file(variant)
    if not choices:
        return None
    hint = choices[-1 if variant == "last" else 0]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return arguments[-1 if variant == "last" else 0]
    if hasattr(hint, "__required_keys__"):  # of typing_extensions, which `typing` does not know as TypedDicts
        return _typed_dict(hint, variant, depth)
    if origin in (dict, collections.abc.Mapping):
        return {"key": example(arguments[1], "value", variant, depth + 1)}
    if origin is not None and arguments and (origin in (list, tuple) or _is_sequence(origin)):
        item = example(arguments[0], name, variant, depth + 1)
        return [item, item] if variant != "least" and depth < 2 else [item]
    return _scalar(hint, name, variant)


def _is_sequence(origin: Any) -> bool:
    # The official client has a `Sequence` of its own, which leaves `str` out.
    return getattr(origin, "__name__", "") in ("Iterable", "Sequence", "SequenceNotStr", "List")


def _scalar(hint: Any, name: str, variant: str) -> Any:
    if hint is str:
        return f"{name} & ü/?#%+\n" if variant == "last" else f"some-{name}"
    if name == "index":
        return 0  # of the one choice that was asked for
    if hint in (int, float):
        return 0.25 if hint is float and variant == "last" else 1
    if hint is bool:
        return variant != "last"
    if hint is datetime.datetime:
        return datetime.datetime(2026, 11, 22, 10, 30, tzinfo=datetime.UTC)
    if hint is datetime.date:
        return datetime.date(2026, 11, 22)
    if hint is bytes:
        return b"bytes"
    return {"any": [1, None, "ü"]} if variant == "last" else {"any": "value"}


def _file(variant: str) -> Any:
    if variant == "least":
        return b"\x00\xffcontent"
    return ("name ü.txt", io.BytesIO(b"content"), "text/plain") if variant == "last" else ("a.wav", b"content")


@functools.cache
def _hints(hint: Any) -> dict[str, Any]:
    return typing.get_type_hints(hint, include_extras=True)


def _typed_dict(hint: Any, variant: str, depth: int) -> dict[str, Any]:
    hints = _hints(hint)
    sparse = variant == "least" or depth > DEEPEST
    names = hint.__required_keys__ if sparse else hints
    if depth > 2 * DEEPEST:
        return {}
    return {name: example(hints[name], name, variant, depth + 1) for name in hints if name in names}


# -------------------------------------------------------------------------------------------------- answers


def answer_of(hint: Any, name: str, variant: str, depth: int = 0, stray: bool = False) -> Any:
    """JSON values that the official client's type of an answer (a pydantic model's field) takes.

    In "least", what may be null is null and what is optional is missing. `stray` adds an unknown field to each object.
    """
    choices = members(hint)
    if not choices or (variant == "least" and is_nullable(hint)):
        return None
    hint = choices[-1 if variant == "last" else 0]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "model_fields"):
        return _object(hint, variant, depth, stray)
    if origin is typing.Literal:
        return arguments[-1 if variant == "last" else 0]
    if origin in (dict, collections.abc.Mapping):
        return {} if variant == "least" else {"key": answer_of(arguments[1], "value", variant, depth + 1, stray)}
    if origin is not None and arguments and (origin is list or _is_sequence(origin)):
        if variant == "least" or depth > 2 * DEEPEST:
            return []
        return [answer_of(arguments[0], name, variant, depth + 1, stray)] * (2 if depth < 3 else 1)
    if hint is float:
        return 0.25
    value = _scalar(hint, name, variant)
    return value.isoformat() if isinstance(value, datetime.date) else value


def _object(model: Any, variant: str, depth: int, stray: bool) -> dict[str, Any]:
    # What the official client computes or keeps for itself is no field of the wire.
    out: dict[str, Any] = {"a_new_field": {"nested": [1, "ü"]}} if stray else {}
    for name, field in model.model_fields.items():
        sparse = variant == "least" or depth > DEEPEST
        if not field.is_required() and sparse and not _is_constant(field):
            continue
        value = answer_of(field.annotation, name, "least" if depth > DEEPEST else variant, depth + 1, stray)
        out[field.alias or name] = value
    return out


def _is_constant(field: Any) -> bool:
    """Whether an optional field tells which member of a union this is."""
    return field.default is not None and typing.get_origin(plain_hint(field.annotation)) is typing.Literal
