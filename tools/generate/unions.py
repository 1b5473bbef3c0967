"""Decide which unions msgspec can build by itself, and which field tells their members apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .ir import NONE, STR, Alias, Array, Enum, Field, Map, Ref, Scalar, Shape, Type, Union, walk
from .load import Description

_PREFERRED = ("type", "object", "role")


class Unions:
    """Decide the tag of each Struct from all unions that contain it."""

    def __init__(self, description: Description, fields: Callable[[Shape], dict[str, Field]]) -> None:
        self.description = description
        self.fields = fields
        self.tags: dict[str, tuple[str, str]] = {}  # key of a shape: (field, value)
        self._native: dict[Type, bool] = {}

    def leaves(self, type_: Type, seen: frozenset[str] = frozenset()) -> Iterator[Type]:
        """Return the members of `type_`, with nested unions and aliases expanded, and shapes as references."""
        if isinstance(type_, Union):
            for member in type_.members:
                yield from self.leaves(member, seen)
        elif isinstance(type_, Ref) and isinstance(found := self.description.named[type_.key], Alias):
            if found.key not in seen:
                yield from self.leaves(found.type, seen | {found.key})
        else:
            yield type_

    def shapes(self, type_: Type) -> list[Shape]:
        """Return the objects among the members, without duplicates."""
        found = {leaf.key: self.description.named[leaf.key] for leaf in self.leaves(type_) if isinstance(leaf, Ref)}
        return [shape for shape in found.values() if isinstance(shape, Shape)]

    def nullable(self, type_: Type) -> bool:
        return NONE in self.leaves(type_)

    def constants(self, shape: Shape) -> dict[str, str]:
        """Return the fields with one possible value."""
        found: dict[str, str] = {}
        for name, field in self.fields(shape).items():
            type_ = self.description.bare(field.type)
            if isinstance(type_, Enum) and len(type_.values) == 1 and isinstance(type_.values[0], str):
                found[name] = type_.values[0]
        return found

    def decide(self, types: Iterable[Type]) -> None:
        """Give tags to the members of all unions in `types`, the most frequent tag field first."""
        unions = {part for type_ in types for part in walk(type_) if isinstance(part, Union)}
        wanted: list[tuple[int, int, str, list[Shape]]] = []
        for one in unions:
            shapes = self.shapes(one)
            if len(shapes) > 1:
                wanted += [(rank(name, one.tag), -len(shapes), name, shapes) for name in self._candidates(shapes)]
        for _, _, name, shapes in sorted(wanted, key=lambda w: (*w[:3], sorted(shape.key for shape in w[3]))):
            free = all(self.tags.get(shape.key, (name, ""))[0] == name for shape in shapes)
            if free and not self._tagged(shapes):
                self.tags.update({shape.key: (name, self.constants(shape)[name]) for shape in shapes})

    def _candidates(self, shapes: list[Shape]) -> list[str]:
        constants = [self.constants(shape) for shape in shapes]
        return [name for name in constants[0] if len({one.get(name, "") for one in constants} - {""}) == len(shapes)]

    def _tagged(self, shapes: list[Shape]) -> bool:
        tags = {self.tags.get(shape.key) for shape in shapes}
        return None not in tags and len(tags) == len(shapes) and len({tag[0] for tag in tags if tag}) == 1

    def native(self, type_: Type) -> bool:
        """Return whether msgspec builds a decoder for this union unchanged."""
        if type_ not in self._native:
            self._native[type_] = self._is_native(type_)
        return self._native[type_]

    def _is_native(self, type_: Type) -> bool:
        leaves = [leaf for leaf in dict.fromkeys(self.leaves(type_)) if leaf != NONE]
        shapes = self.shapes(type_)
        arrays = sum(isinstance(leaf, Array) for leaf in leaves)
        maps = sum(isinstance(leaf, Map) for leaf in leaves)
        return (
            (len(shapes) < 2 or self._tagged(shapes))
            and arrays < 2
            and maps + bool(shapes) < 2
            and (len(leaves) == 1 or not any(leaf == Scalar("Any") for leaf in leaves))
        )

    def deserves_name(self, alias: Alias) -> bool:
        """Return whether an alias gets a name: a union of objects, or one that needs a substitute at run time."""
        return isinstance(alias.type, Union) and (len(self.shapes(alias.type)) > 1 or not self.native(alias.type))


def rank(name: str, tag: str) -> int:
    """Return the rank of a tag field: the one that the description names, then the common ones."""
    return 0 if name == tag else _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)


def without_none(type_: Type) -> Type:
    if isinstance(type_, Union) and NONE in type_.members:
        rest = tuple(member for member in type_.members if member != NONE)
        return rest[0] if len(rest) == 1 else Union(rest, type_.tag)
    return type_


def widest(members: list[Type], bare: Callable[[Type], Type]) -> list[Type]:
    """Return the members without enumerations of strings if any string is allowed."""
    if STR not in [bare(member) for member in members]:
        return members
    return [
        one for one in members if not (isinstance(b := bare(one), Enum) and all(isinstance(v, str) for v in b.values))
    ]
