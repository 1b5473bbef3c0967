"""The API as the generator sees it, read from the description: types, named shapes, operations.

A *key* names a shape in the description: a component's name, or the path from it to an inline object
(``CreateChatCompletionResponse.choices[].logprobs``; ``|2`` is a union's third member, ``{}`` the values of a map).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


class GeneratorError(Exception):
    """The description and the hand-written tables disagree; the message says where."""


@dataclass(frozen=True)
class Scalar:
    """``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``, or ``file`` (content of a multipart part)."""

    name: str


@dataclass(frozen=True)
class Enum:
    values: tuple[str | int | bool, ...]


@dataclass(frozen=True)
class Array:
    item: Type


@dataclass(frozen=True)
class Map:
    item: Type


@dataclass(frozen=True)
class Ref:
    key: str


@dataclass(frozen=True)
class Union:
    members: tuple[Type, ...]
    tag: str = ""  # the discriminator, if the description names one


Type: TypeAlias = Scalar | Enum | Array | Map | Ref | Union

ANY = Scalar("Any")
NONE = Scalar("None")
STR = Scalar("str")
FILE = Scalar("file")


@dataclass
class Field:
    name: str
    type: Type
    required: bool


@dataclass
class Shape:
    """An object with named fields."""

    key: str
    fields: dict[str, Field] = field(default_factory=dict[str, Field])
    parent: str = ""  # the key that contains it, for inline objects


@dataclass
class Alias:
    """A component that is not an object: a union, an enumeration, a list."""

    key: str
    type: Type


@dataclass
class Param:
    """A parameter beside those of the described body."""

    name: str
    place: str  # "path", "query", "header", or "body"
    type: Type
    required: bool


@dataclass
class Operation:
    name: str  # the public dotted name, "chat.completions.create"
    id: str
    method: str
    path: str
    params: list[Param]
    body: Type | None
    body_kind: str  # "none", "json" or "multipart"
    answer: Type | None  # type of the JSON answer, if there is one
    deprecated: bool = False
    parts: tuple[tuple[str, str], ...] = ()  # fields of a form with a media type of their own
    alone: str = ""  # the field that becomes the whole body if no other is given


def inner(type_: Type) -> Iterator[Type]:
    """Return the types that `type_` directly consists of."""
    match type_:
        case Array(item) | Map(item):
            yield item
        case Union(members):
            yield from members
        case _:
            return


def walk(type_: Type) -> Iterator[Type]:
    """Yield `type_` and all its parts, without following references."""
    yield type_
    for part in inner(type_):
        yield from walk(part)


def union(members: list[Type], tag: str = "") -> Type:
    """Return the union of `members`: flat, without duplicates, `None` last; a single member is returned itself."""
    flat: list[Type] = []
    for member in members:
        parts = list(member.members) if isinstance(member, Union) and not member.tag else [member]
        flat += [part for part in parts if part not in flat]
    enums = [part for part in flat if isinstance(part, Enum)]
    if len(enums) > 1:
        values = tuple(dict.fromkeys(value for part in enums for value in part.values))
        flat = [Enum(values) if part is enums[0] else part for part in flat if part not in enums[1:]]
    if ANY in flat:
        return ANY
    if NONE in flat:
        flat = [part for part in flat if part != NONE] + [NONE]
    return flat[0] if len(flat) == 1 else Union(tuple(flat), tag)
