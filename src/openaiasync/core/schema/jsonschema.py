"""JSON schemas (2020-12) as plain dicts: reading and checking them, and validating values.

Formats are not checked, which is the standard's default. Conditional schemas (``if``, dependencies) are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from ..model.plain import is_dict, is_list

__all__ = [
    "KINDS",
    "Schema",
    "Violation",
    "check_schema",
    "hold_open",
    "kinds_of",
    "may_be_null",
    "pruned",
    "resolve",
    "validation_errors",
]

Schema = dict[str, Any]


# -------------------------------------------------------------------------------------------------- reading


def resolve(schema: Any, root: Schema) -> Schema:
    """Follow the ``$ref`` of a schema within `root`, and return its target, or the schema itself.

    For a boolean schema, which admits every value or none, return the empty schema. Raises `TypeError` for a reference
    that points elsewhere, in a circle, or to nothing.
    """
    seen: set[str] = set()
    while is_dict(schema) and isinstance(ref := schema.get("$ref"), str):
        found: Any = root
        if ref in seen or not (ref == "#" or ref.startswith("#/")):
            raise TypeError(f"The reference {ref!r} cannot be followed; use '#/$defs/...'.")
        seen.add(ref)
        for part in ref[2:].split("/") if ref != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            found = cast("Schema", found).get(key) if isinstance(found, dict) else None
        if not is_dict(found) and not isinstance(found, bool):
            raise TypeError(f"The reference {ref!r} points to nothing in the schema.")
        schema = found
    return schema if is_dict(schema) else {}


def may_be_null(schema: Any, root: Schema, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a schema admits null."""
    if not is_dict(schema):
        return schema is not False
    if "type" in schema and "null" not in kinds_of(schema):
        return False
    ref = schema.get("$ref")
    if isinstance(ref, str):
        return ref not in seen and may_be_null(resolve(schema, root), root, seen | {ref})
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return any(may_be_null(one, root, seen) for one in schema[word])
    if "enum" in schema or "const" in schema:
        return None in schema.get("enum", [schema.get("const")])
    return True


def kinds_of(schema: Schema) -> Sequence[Any]:
    """Return the types that a schema names, `[None]` without any."""
    kinds = schema.get("type")
    return kinds if is_list(kinds) else [kinds]


def hold_open(schema: Schema) -> Schema:
    """Return a schema without its definitions, to be put inside another one that holds them."""
    return {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}


def pruned(schema: Schema) -> Schema:
    """Return a schema without the definitions that it does not use."""
    if not is_dict(schema.get("$defs")):
        return schema
    kept = {name: schema["$defs"][name] for name in _used(schema)}
    return {**schema, "$defs": kept} if kept else {name: one for name, one in schema.items() if name != "$defs"}


def _used(schema: Schema) -> list[str]:
    """Return the names of the definitions that a schema uses, in the schema's order."""
    defs = cast("dict[str, Any]", schema["$defs"])
    waiting = list(_references(hold_open(schema)))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in defs and name not in seen:
            seen.add(name)
            waiting.extend(_references(defs[name]))
    return [name for name in defs if name in seen]


def _references(value: Any) -> Iterator[str]:
    if is_dict(value):
        for name, one in value.items():
            if name == "$ref" and isinstance(one, str):
                yield one.removeprefix("#/$defs/")
            else:
                yield from _references(one)
    elif is_list(value):
        for one in value:
            yield from _references(one)


# -------------------------------------------------------------------------------------------------- checking

_DEEPEST = 100  # levels of schemas in schemas
_HOLD_ONE = frozenset(
    {"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
     "unevaluatedProperties"}
)  # fmt: skip
_HOLD_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_HOLD_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_TEXTS = frozenset({"pattern", "format", "title", "description", "$ref", "contentEncoding"})


def check_schema(schema: Schema) -> None:
    """Raise `TypeError` for a dict that is not a JSON schema; the text names the place and what is expected there."""
    _check(schema, schema, "$", 0)


def _check(schema: Any, root: Schema, path: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not is_dict(schema):
        raise TypeError(
            f"This is not a JSON schema: an object or a boolean is expected at {path}, not {_short(schema)}."
        )
    if depth > _DEEPEST:
        raise TypeError(f"This JSON schema is nested too deeply at {path[:80]}…")
    for word, value in schema.items():
        where = f"{path}.{word}"
        for words, fits, expected in _VALUES:
            if word in words and not fits(value):
                raise TypeError(f"This is not a JSON schema: {expected} is expected at {where}, not {_short(value)}.")
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
    return bool(kinds) and _are_texts(kinds) and set(kinds) <= KINDS.keys()


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
    (_HOLD_NAMED, is_dict, "an object"),
    (_NUMBERS, _is_number, "a number"),
    (_COUNTS, _is_count, "a whole number, at least 0"),
    (_TEXTS, _is_text, "a string"),
)


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:60]


# -------------------------------------------------------------------------------------------------- validating

_LISTED = 20  # errors of one variant


class Violation(NamedTuple):
    """A place where a value does not fit: its path from ``$``, the expectation there, and the kind of error.

    `name` is the property that is ``missing`` or ``unknown``; the path is then that of its object.
    """

    path: str
    expected: str
    kind: Literal["type", "value", "missing", "unknown"]
    name: str = ""


KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (type(value) is int) or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": is_list,
    "object": is_dict,
}
_SIZES: tuple[tuple[str, str, Callable[[Any, Any], bool], str], ...] = (
    ("number", "minimum", lambda value, limit: value >= limit, "at least {}"),
    ("number", "maximum", lambda value, limit: value <= limit, "at most {}"),
    ("number", "exclusiveMinimum", lambda value, limit: value > limit, "more than {}"),
    ("number", "exclusiveMaximum", lambda value, limit: value < limit, "less than {}"),
    ("number", "multipleOf", lambda value, limit: _is_multiple(value, limit), "a multiple of {}"),
    ("string", "minLength", lambda value, limit: len(value) >= limit, "at least {} characters"),
    ("string", "maxLength", lambda value, limit: len(value) <= limit, "at most {} characters"),
    ("string", "pattern", lambda value, limit: _matches(limit, value), "a text that matches the pattern {}"),
    ("array", "minItems", lambda value, limit: len(value) >= limit, "at least {} items"),
    ("array", "maxItems", lambda value, limit: len(value) <= limit, "at most {} items"),
    ("array", "uniqueItems", lambda value, limit: not limit or _differ(value), "each item once"),
    ("object", "minProperties", lambda value, limit: len(value) >= limit, "at least {} entries"),
    ("object", "maxProperties", lambda value, limit: len(value) <= limit, "at most {} entries"),
)


def validation_errors(
    value: Any,
    schema: Schema,
    *,
    kinds: Mapping[str, Callable[[Any], bool]] | None = None,
    null_is_absent: bool = False,
) -> Iterator[Violation]:
    """Yield every place where a value does not fit, with the expectation there.

    For schemas without a Python type, to show a model all its mistakes at once, and for requests to a server. `kinds`
    adds names of types to those of JSON. With `null_is_absent` a null property counts as absent, as in OpenAI's API.
    Beyond the standard, ``{"x-discriminator": name, "x-mapping": {value: schema}}``
    selects a schema by one property of an object. Raises `TypeError` for a broken reference.
    """
    return _Check(schema, {**KINDS, **kinds} if kinds else KINDS, null_is_absent).any(value, schema, "$")


class _Check:
    """Validates one value against one schema."""

    def __init__(self, root: Schema, kinds: Mapping[str, Callable[[Any], bool]], null_is_absent: bool) -> None:
        self.root = root
        self.kinds = kinds
        self.null_is_absent = null_is_absent
        # Results of variants: without this cache a tree with two per branch would be walked twice as often at each
        # level.
        self.tried: dict[tuple[int, int], list[Violation]] = {}

    def any(self, value: Any, schema: Any, path: str) -> Iterator[Violation]:
        if schema is False:
            yield Violation(path, "nothing", "value")
        if not is_dict(schema):
            return
        if "$ref" in schema:
            yield from self.any(value, resolve(schema, self.root), path)
            schema = {name: one for name, one in schema.items() if name != "$ref"}
        kinds = schema.get("type")
        kinds = kinds if is_list(kinds) else [kinds] if kinds is not None else []
        if kinds and not any(self.kinds.get(kind, _anything)(value) for kind in kinds):
            yield Violation(path, _one_of(kinds), "type")
            return
        listed = [schema["const"]] if "const" in schema else schema.get("enum")
        if listed is not None and not any(_equal(value, one) for one in listed):
            yield Violation(path, _one_of([_quoted(one) for one in listed]), "value")
        for kind, word, fits, words in _SIZES:
            if word in schema and KINDS[kind](value) and not fits(value, schema[word]):
                yield Violation(path, words.format(schema[word]), "value")
        yield from self.composed(value, schema, path)
        if is_dict(value):
            if "x-discriminator" in schema:
                yield from self.discriminated(value, schema, path)
            yield from self.members(value, schema, path)
        elif is_list(value):
            yield from self.items(value, schema, path)

    def members(self, value: dict[str, Any], schema: Schema, path: str) -> Iterator[Violation]:
        for name in schema.get("required", ()):
            if name not in value:
                yield Violation(path, f"an object with the property {_quoted(name)}", "missing", name)
        properties = cast("Schema", schema.get("properties", {}))
        patterns = cast("Schema", schema.get("patternProperties", {}))
        more: Any = schema.get("additionalProperties", True)
        for name, one in value.items():
            if one is None and self.null_is_absent and name not in schema.get("required", ()):
                continue
            fitting = [part for pattern, part in patterns.items() if _matches(pattern, name)]
            if name in properties:
                fitting.append(properties[name])
            for part in fitting or [more]:
                if part is False:
                    yield Violation(path, f"an object without the property {_quoted(name)}", "unknown", name)
                else:
                    yield from self.any(one, part, f"{path}.{name}")

    def discriminated(self, value: dict[str, Any], schema: Schema, path: str) -> Iterator[Violation]:
        name = str(schema["x-discriminator"])
        mapping = cast("Schema", schema["x-mapping"])
        tag = value.get(name)
        if tag is None:
            yield Violation(path, f"an object with the property {_quoted(name)}", "missing", name)
        elif not isinstance(tag, str):
            yield Violation(f"{path}.{name}", "string", "type")
        elif tag not in mapping:
            yield Violation(f"{path}.{name}", _one_of([_quoted(one) for one in mapping]), "value")
        else:
            yield from self.any(value, mapping[tag], path)

    def items(self, value: list[Any], schema: Schema, path: str) -> Iterator[Violation]:
        places = cast("Sequence[Any]", schema.get("prefixItems", ()))
        rest: Any = schema.get("items", True)
        for i, one in enumerate(value):
            yield from self.any(one, places[i] if i < len(places) else rest, f"{path}[{i}]")

    def composed(self, value: Any, schema: Schema, path: str) -> Iterator[Violation]:
        for part in schema.get("allOf", ()):
            yield from self.any(value, part, path)
        for word in ("anyOf", "oneOf"):
            if word not in schema:
                continue
            found = [self.variant(value, part, path) for part in schema[word]]
            fitting = sum(1 for one in found if not one)
            if not fitting:
                # The intended variant is the one that fits at this place, or only lacks a property there.
                inner = [one for one in found if all(error.path != path or error.kind == "missing" for error in one)]
                yield from min(inner, key=len) if inner else [_joined(path, found)]
            elif word == "oneOf" and fitting > 1:
                yield Violation(path, "a value that fits exactly one of the schemas", "value")
        if "not" in schema and not self.variant(value, schema["not"], path):
            yield Violation(path, "a value that does not fit the schema under not", "value")

    def variant(self, value: Any, schema: Any, path: str) -> list[Violation]:
        key = (id(value), id(schema))
        if not isinstance(value, (dict, list)):  # equal scalars may be one object in several places
            return list(islice(self.any(value, schema, path), _LISTED))
        found = self.tried.get(key)
        if found is None:
            found = self.tried[key] = list(islice(self.any(value, schema, path), _LISTED))
        return found


def _joined(path: str, found: Sequence[Sequence[Violation]]) -> Violation:
    """Return the violation of a value that fits no variant: its type, if no variant has it, otherwise its value."""
    first = [errors[0] for errors in found]
    by_type = all(error.kind == "type" for error in first)
    return Violation(path, _one_of([error.expected for error in first]), "type" if by_type else "value")


def _anything(value: Any) -> bool:
    return True


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True  # a pattern in the syntax of another language


def _is_multiple(value: float, of: float) -> bool:
    try:
        if not of or value == value // of * of:
            return True
        times = value / of
        return abs(times - round(times)) < 1e-9  # 0.3 is a multiple of 0.1
    except OverflowError:  # more digits than a float has: any such number is a multiple of a small one
        return True


def _differ(items: list[Any]) -> bool:
    return len({msgspec.json.encode(one, order="deterministic") for one in items}) == len(items)


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON does: true does not equal 1, but 1.0 does."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_list(one) and is_list(other):
        return len(one) == len(other) and all(map(_equal, one, other))
    if is_dict(one) and is_dict(other):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value).lower()


def _one_of(words: Sequence[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
