"""What msgspec leaves out of a JSON schema and a model needs: that a text is a date, what the places of a tuple are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import msgspec.inspect as mi

__all__ = ["refine"]


def refine(kind: Any, schema: dict[str, Any], defs: dict[str, dict[str, Any]]) -> None:
    """Add to the schema that msgspec made of a type, in place. What does not fit the type is left as it is."""
    _Refinement(defs).add(mi.type_info(kind), schema)


class _Refinement:
    """One schema and its definitions, walked along the type that they were made of."""

    def __init__(self, defs: dict[str, dict[str, Any]]) -> None:
        self.defs = defs
        self.seen: set[str] = set()

    def add(self, node: Any, schema: Any) -> None:
        while isinstance(node, mi.Metadata):
            node = node.type
        if not isinstance(schema, dict):
            return
        place = cast("dict[str, Any]", schema)
        name = str(place.get("$ref", "")).removeprefix("#/$defs/")
        if name:
            if name in self.seen or name not in self.defs:
                return
            self.seen.add(name)
            place = self.defs[name]
        if isinstance(node, (mi.DateTimeType, mi.TimeType)):
            _tell_time(node, place)
        elif isinstance(node, (mi.StructType, mi.DataclassType, mi.TypedDictType, mi.NamedTupleType)):
            self.fields(node, place)
        else:
            for inner, part in _parts(node, place):
                self.add(inner, part)

    def fields(self, node: Any, place: dict[str, Any]) -> None:
        fields = cast("Iterable[Any]", node.fields)
        if "prefixItems" in place:
            parts = list(zip(fields, place["prefixItems"], strict=False))
            names = ", ".join(field.name for field, _ in parts)
            place["description"] = f"{place.get('description', '')} ({names})".strip()
        else:
            parts = [(field, place.get("properties", {}).get(field.encode_name)) for field in fields]
        for field, part in parts:
            self.add(field.type, part)


def _tell_time(node: Any, place: dict[str, Any]) -> None:
    kind, example = ("date-time", "2026-01-31T12:00:00") if isinstance(node, mi.DateTimeType) else ("time", "12:00:00")
    if place.get("type") != "string":
        return
    if node.tz is False:  # RFC 3339, which the formats mean, demands an offset
        place.pop("format", None)
        place["description"] = f"{place.get('description', '')} (as {example}, without offset)".strip()
    else:
        place.setdefault("format", kind)


def _parts(node: Any, place: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """The types inside a type, each with its schema, in the order that msgspec writes them in."""
    if isinstance(node, mi.CollectionType):
        yield node.item_type, place.get("items")
    elif isinstance(node, mi.TupleType):
        yield from zip(node.item_types, place.get("prefixItems", ()), strict=False)
    elif isinstance(node, mi.DictType):
        yield node.value_type, place.get("additionalProperties")
    elif isinstance(node, mi.UnionType):
        structs = [one for one in node.types if _is_object(one)]
        others = [one for one in node.types if not _is_object(one) and not isinstance(one, mi.NoneType)]
        options: list[Any] = [one for one in place.get("anyOf", ()) if one != {"type": "null"}]
        if len(structs) > 1:  # they stand together, alone or after the others
            together: dict[str, Any] = next(
                (one for one in (place, *options) if "discriminator" in one), dict[str, Any]()
            )
            yield from zip(structs, together.get("anyOf", ()), strict=False)
            yield from zip(others, options if together is not place else (), strict=False)
        else:
            yield from zip([*others, *structs], options, strict=False)


def _is_object(node: Any) -> bool:
    while isinstance(node, mi.Metadata):
        node = node.type
    return isinstance(node, mi.StructType) and not node.array_like
