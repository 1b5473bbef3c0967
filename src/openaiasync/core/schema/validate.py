"""Whether a plain value fits a JSON schema, and everything that does not (JSON Schema 2020-12, its validation part).

For schemas without a Python type, and to show a model all its mistakes at once. Formats are not checked, as the
standard leaves it by default; of schemas under conditions (``if``, dependencies) nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import msgspec

from .jsonschema import Schema, is_list, is_schema, resolve

__all__ = ["misfits"]

_LISTED = 20  # misfits of one variant
Misfit = tuple[str, str]  # where, and what was expected

_KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (type(value) is int) or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": is_list,
    "object": is_schema,
}
_SIZES: tuple[tuple[str, str, Callable[[Any, Any], bool], str], ...] = (
    ("number", "minimum", lambda value, limit: value >= limit, "at least {}"),
    ("number", "maximum", lambda value, limit: value <= limit, "at most {}"),
    ("number", "exclusiveMinimum", lambda value, limit: value > limit, "more than {}"),
    ("number", "exclusiveMaximum", lambda value, limit: value < limit, "less than {}"),
    ("number", "multipleOf", lambda value, limit: _is_multiple(value, limit), "a multiple of {}"),
    ("string", "minLength", lambda value, limit: len(value) >= limit, "at least {} characters"),
    ("string", "maxLength", lambda value, limit: len(value) <= limit, "at most {} characters"),
    ("string", "pattern", lambda value, limit: _matches(limit, value), "a text that fits the pattern {}"),
    ("array", "minItems", lambda value, limit: len(value) >= limit, "at least {} items"),
    ("array", "maxItems", lambda value, limit: len(value) <= limit, "at most {} items"),
    ("array", "uniqueItems", lambda value, limit: not limit or _differ(value), "each item once"),
    ("object", "minProperties", lambda value, limit: len(value) >= limit, "at least {} entries"),
    ("object", "maxProperties", lambda value, limit: len(value) <= limit, "at most {} entries"),
)


def misfits(value: Any, schema: Schema) -> Iterator[Misfit]:
    """All places where a value does not fit, with what is expected there. Raises `TypeError` for a broken reference."""
    return _Check(schema).any(value, schema, "$")


class _Check:
    """One value held against one schema."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        # Of variants: without it, a tree whose every branch has two would be walked twice as often at each level.
        self.tried: dict[tuple[int, int], list[Misfit]] = {}

    def any(self, value: Any, schema: Any, path: str) -> Iterator[Misfit]:
        if schema is False:
            yield path, "nothing"
        if not is_schema(schema):
            return
        if "$ref" in schema:
            yield from self.any(value, resolve(schema, self.root), path)
            schema = {name: one for name, one in schema.items() if name != "$ref"}
        kinds = schema.get("type")
        kinds = kinds if is_list(kinds) else [kinds] if kinds is not None else []
        if kinds and not any(_KINDS.get(kind, _anything)(value) for kind in kinds):
            yield path, _one_of(kinds)
            return
        listed = [schema["const"]] if "const" in schema else schema.get("enum")
        if listed is not None and not any(_equal(value, one) for one in listed):
            yield path, _one_of([_quoted(one) for one in listed])
        for kind, word, fits, words in _SIZES:
            if word in schema and _KINDS[kind](value) and not fits(value, schema[word]):
                yield path, words.format(schema[word])
        yield from self.composed(value, schema, path)
        if is_schema(value):
            yield from self.members(value, schema, path)
        elif is_list(value):
            yield from self.items(value, schema, path)

    def members(self, value: dict[str, Any], schema: Schema, path: str) -> Iterator[Misfit]:
        for name in schema.get("required", ()):
            if name not in value:
                yield path, f"an object with the property {_quoted(name)}"
        properties = cast("Schema", schema.get("properties", {}))
        patterns = cast("Schema", schema.get("patternProperties", {}))
        more: Any = schema.get("additionalProperties", True)
        for name, one in value.items():
            fitting = [part for pattern, part in patterns.items() if _matches(pattern, name)]
            if name in properties:
                fitting.append(properties[name])
            for part in fitting or [more]:
                if part is False:
                    yield path, f"an object without the property {_quoted(name)}"
                else:
                    yield from self.any(one, part, f"{path}.{name}")

    def items(self, value: list[Any], schema: Schema, path: str) -> Iterator[Misfit]:
        places = cast("Sequence[Any]", schema.get("prefixItems", ()))
        rest: Any = schema.get("items", True)
        for i, one in enumerate(value):
            yield from self.any(one, places[i] if i < len(places) else rest, f"{path}[{i}]")

    def composed(self, value: Any, schema: Schema, path: str) -> Iterator[Misfit]:
        for part in schema.get("allOf", ()):
            yield from self.any(value, part, path)
        for word in ("anyOf", "oneOf"):
            if word not in schema:
                continue
            found = [self.variant(value, part, path) for part in schema[word]]
            fitting = sum(1 for one in found if not one)
            if not fitting:
                # The variant that was meant is the one that fits at the place itself.
                inner = [one for one in found if all(where != path for where, _ in one)]
                yield from min(inner, key=len) if inner else [(path, _one_of([one[0][1] for one in found]))]
            elif word == "oneOf" and fitting > 1:
                yield path, "a value that fits just one of the schemas"
        if "not" in schema and not self.variant(value, schema["not"], path):
            yield path, "a value that does not fit the schema under not"

    def variant(self, value: Any, schema: Any, path: str) -> list[Misfit]:
        key = (id(value), id(schema))
        if not isinstance(value, (dict, list)):  # equal ones may be one object in several places
            return list(islice(self.any(value, schema, path), _LISTED))
        found = self.tried.get(key)
        if found is None:
            found = self.tried[key] = list(islice(self.any(value, schema, path), _LISTED))
        return found


def _anything(value: Any) -> bool:
    return True


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True  # a pattern of another language


def _is_multiple(value: float, of: float) -> bool:
    if not of or value == value // of * of:
        return True
    times = value / of
    return abs(times - round(times)) < 1e-9  # 0.3 is one of 0.1


def _differ(items: list[Any]) -> bool:
    return len({msgspec.json.encode(one, order="deterministic") for one in items}) == len(items)


def _equal(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is no 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_list(one) and is_list(other):
        return len(one) == len(other) and all(map(_equal, one, other))
    if is_schema(one) and is_schema(other):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value).lower()


def _one_of(words: Sequence[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
