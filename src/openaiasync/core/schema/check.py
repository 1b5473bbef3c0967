"""Whether a dict is a JSON schema at all: those that people write are checked before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .jsonschema import Schema, is_list, is_schema, resolve

__all__ = ["check_schema"]

_DEEPEST = 100  # levels of schemas in schemas
_KINDS = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_HOLD_ONE = frozenset(
    {
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_HOLD_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_HOLD_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_TEXTS = frozenset({"pattern", "format", "title", "description", "$ref", "contentEncoding"})


def check_schema(schema: Schema) -> None:
    """Raises `TypeError` for what is no JSON schema; the text names the place and what is expected there."""
    _check(schema, schema, "$", 0)


def _check(schema: Any, root: Schema, path: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not is_schema(schema):
        raise TypeError(f"This is no JSON schema: an object or a boolean is expected at {path}, not {_short(schema)}.")
    if depth > _DEEPEST:
        raise TypeError(f"This JSON schema is nested too deeply at {path[:80]}…")
    for word, value in schema.items():
        where = f"{path}.{word}"
        for words, fits, expected in _VALUES:
            if word in words and not fits(value):
                raise TypeError(f"This is no JSON schema: {expected} is expected at {where}, not {_short(value)}.")
        if word in _HOLD_ONE:
            _check(value, root, where, depth + 1)
        elif word in _HOLD_LISTS:
            for i, one in enumerate(value):
                _check(one, root, f"{where}[{i}]", depth + 1)
        elif word in _HOLD_NAMED:
            for name, one in value.items():
                _check(one, root, f"{where}.{name}", depth + 1)
    if "$ref" in schema:
        resolve(schema, root)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_texts(value: Any) -> bool:
    return is_list(value) and all(map(_is_text, value))


def _are_kinds(value: Any) -> bool:
    kinds = value if is_list(value) else [value]
    return bool(kinds) and _are_texts(kinds) and set(kinds) <= _KINDS


def _is_filled(value: Any) -> bool:
    return is_list(value) and bool(value)


_VALUES: tuple[tuple[frozenset[str], Callable[[Any], bool], str], ...] = (
    (
        frozenset({"type"}),
        _are_kinds,
        "a type or a list of types (string, integer, number, boolean, null, array, object)",
    ),
    (frozenset({"required"}), _are_texts, "a list of names"),
    (_HOLD_LISTS | {"enum"}, _is_filled, "a list that is not empty"),
    (_HOLD_NAMED, is_schema, "an object"),
    (_NUMBERS, _is_number, "a number"),
    (_COUNTS, _is_count, "a whole number from 0 on"),
    (_TEXTS, _is_text, "a text"),
)


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:60]
