"""Reading JSON schemas: what a reference points to, whether null fits, which definitions are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard, cast

__all__ = ["Schema", "hold_open", "is_list", "is_schema", "kinds_of", "may_be_null", "pruned", "resolve"]

Schema = dict[str, Any]


def is_schema(value: object) -> TypeGuard[Schema]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def resolve(schema: Any, root: Schema) -> Schema:
    """What a schema's ``$ref`` points to within `root`, references to references followed; itself without one.

    Of a boolean, which lets everything or nothing through, the schema that says nothing.
    """
    seen: set[str] = set()
    while is_schema(schema) and isinstance(ref := schema.get("$ref"), str):
        found: Any = root
        if ref in seen or not (ref == "#" or ref.startswith("#/")):
            raise TypeError(f"The reference {ref!r} cannot be followed; use '#/$defs/...'.")
        seen.add(ref)
        for part in ref[2:].split("/") if ref != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            found = cast("Schema", found).get(key) if isinstance(found, dict) else None
        if not is_schema(found) and not isinstance(found, bool):
            raise TypeError(f"The reference {ref!r} points to nothing in the schema.")
        schema = found
    return schema if is_schema(schema) else {}


def may_be_null(schema: Any, root: Schema, seen: frozenset[str] = frozenset()) -> bool:
    """Whether null fits a schema."""
    if not is_schema(schema):
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
    kinds = schema.get("type")
    return kinds if is_list(kinds) else [kinds]


def hold_open(schema: Schema) -> Schema:
    """A schema without its definitions, to be put inside another one that holds them."""
    return {name: value for name, value in schema.items() if name not in ("$defs", "definitions")}


def pruned(schema: Schema) -> Schema:
    """A schema without the definitions that nothing in it uses."""
    if not is_schema(schema.get("$defs")):
        return schema
    kept = {name: schema["$defs"][name] for name in _used(schema)}
    return {**schema, "$defs": kept} if kept else {name: one for name, one in schema.items() if name != "$defs"}


def _used(schema: Schema) -> list[str]:
    """The names of the definitions that a schema uses, in the order in which it holds them."""
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
    if is_schema(value):
        for name, one in value.items():
            if name == "$ref" and isinstance(one, str):
                yield one.removeprefix("#/$defs/")
            else:
                yield from _references(one)
    elif is_list(value):
        for one in value:
            yield from _references(one)
