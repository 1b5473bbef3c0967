"""Builds answer Structs from JSON that does not conform to the API's description, and chooses members of unions.

Values of a wrong type stay as they are, missing fields become `None`, unknown ones attributes. A missing or null list
is empty; a number sent as text becomes a number; an object that fits no member of a union becomes an `OpenModel`. A
*builder* is a function from a plain value to a value of the type, made once per type; it is `None` for a type whose
values are used unchanged.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, cast

import msgspec

from .base import (
    BaseModel,
    LazyUnion,
    OpenModel,
    new_model,
    put_extra,
    takes_attribute,
)
from .dump import PRIVATE, plan_of

__all__ = ["Builder", "builder_for", "flatten", "is_struct", "likely_members", "open_object", "resolve"]

Builder = Callable[[Any], Any]

_builders: dict[Any, Builder | None] = {}

# Where the type takes base64, a text with half a surrogate pair fails when it is encoded.
UNFIT = (msgspec.ValidationError, UnicodeEncodeError)


def builder_for(kind: Any) -> Builder | None:
    """Return the builder of a type; `None` if its values are used unchanged."""
    try:
        return _builders[kind]
    except KeyError:
        built = _builders[kind] = _make(kind)
        return built


def _make(kind: Any) -> Builder | None:
    members = flatten(kind)
    structs = [member for member in members if is_struct(member)]
    if len(members) == 1 and structs:
        return _struct_builder(structs[0])
    parts: dict[type, Builder | None] = {}  # by the type that JSON decodes to
    if structs:
        parts[dict] = _struct_builder(structs[0]) if len(structs) == 1 else _Choice(structs).build
    elif values := _arguments(members, dict, 1):
        parts[dict] = _map_builder(values)
    if items := _arguments(members, list, 0):
        parts[list] = _list_builder(items)
    if float in members and int not in members:
        parts[int] = _as_float
    if str not in members and not any(typing.get_origin(member) is typing.Literal for member in members):
        if float in members:
            parts[str] = _number_or_text
        elif int in members:
            parts[str] = _integer_or_text
            parts[float] = _integer_or_float
    if bytes in members and str not in members:
        parts[str] = _bytes_or_text
    parts = {origin: part for origin, part in parts.items() if part is not None}
    if not parts:
        return None
    if len(parts) == 1:
        ((origin, only),) = cast("dict[type, Builder]", parts).items()
        return lambda value: only(value) if type(value) is origin else value
    find = cast("dict[type, Builder]", parts).get

    def build(value: object) -> Any:
        part = find(type(value))
        return value if part is None else part(value)

    return build


def flatten(kind: Any) -> list[Any]:
    """Return the members of a type: those of a union or its stand-in, else the type itself; without None."""
    if isinstance(kind, LazyUnion):
        return [inner for member in kind.find_members() for inner in flatten(member)]
    origin = typing.get_origin(kind)
    if origin is typing.Union or origin is types.UnionType:
        return [inner for member in typing.get_args(kind) for inner in flatten(member)]
    if origin is typing.Annotated:
        return flatten(typing.get_args(kind)[0])
    return [] if kind is type(None) else [kind]


def is_struct(kind: Any) -> bool:
    """Whether a type is a class of answers, also a generic one with its parameters."""
    return issubclass(_class_of(kind), BaseModel)


def _class_of(kind: Any) -> type[Any]:
    """Return the class of a type, without its parameters."""
    origin = typing.get_origin(kind) or kind
    return origin if isinstance(origin, type) else object


def _arguments(members: list[Any], origin: type, index: int) -> Any:
    """Return the union of the types inside `list[...]` or `dict[str, ...]` members, `None` without any."""
    found = [typing.get_args(member)[index] for member in members if typing.get_origin(member) is origin]
    return typing.Union[tuple(found)] if found else None  # noqa: UP007 (made at run time)


def _list_builder(items: Any) -> Builder | None:
    build = builder_for(items)
    return None if build is None else lambda values: [build(value) for value in values]


def _map_builder(values: Any) -> Builder | None:
    build = builder_for(values)
    return None if build is None else lambda items: {name: build(value) for name, value in items.items()}


def _as_float(value: int) -> float:
    """Return a number that was sent without a fraction; one that is too large is infinite, as ``1e999`` is."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _integer_or_text(value: str) -> int | str:
    """Return a number sent as text, as gateways in languages without types do."""
    return int(value) if value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20 else value


def _integer_or_float(value: float) -> float:
    return int(value) if value.is_integer() else value


def _number_or_text(value: str) -> float | str:
    try:
        return float(value) if value.isascii() and len(value) < 40 and "_" not in value else value
    except ValueError:
        return value


def _is_list(kind: Any) -> bool:
    """Whether a type is a list and not a union, even with None."""
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return kind is list or typing.get_origin(kind) is list


def _bytes_or_text(value: str) -> bytes | str:
    try:
        return msgspec.convert(value, bytes)
    except UNFIT:
        return value


def open_object(value: Any) -> Any:
    """Return plain values with an `OpenModel` in place of every object."""
    if type(value) is dict:
        model = OpenModel()
        for name, item in cast("dict[str, Any]", value).items():
            put_extra(model, name, open_object(item))
        return model
    if type(value) is list:
        return [open_object(item) for item in cast("Sequence[Any]", value)]
    return value


def _struct_builder(kind: Any) -> Builder:
    return open_object if _class_of(kind) is OpenModel else _StructBuilder(kind).build


class _StructBuilder:
    """Builds one class. Its fields are read at first use: types may contain themselves, and most are never used."""

    def __init__(self, kind: Any) -> None:
        cls: type[BaseModel] = _class_of(kind)
        self.kind = kind
        self.cls = cls
        self.table: dict[str, tuple[str, Builder | None]] = {}  # by name on the wire
        self.renamed: dict[str, str] = {}  # Python's name → that on the wire, where they differ
        self.required: list[str] = []
        self.lists: set[str] = set()  # attributes that are lists
        self.taken: set[str] = set()  # names that an unknown field may not have as an attribute
        self.tag = cls.__struct_config__.tag
        self.tag_field = cls.__struct_config__.tag_field if self.tag is not None else None

    def prepare(self) -> None:
        cls, table = self.cls, self.table
        for field in msgspec.structs.fields(self.kind):
            if field.required:
                self.required.append(field.name)
            if _is_list(field.type):
                self.lists.add(field.name)
            table[field.encode_name] = (field.name, builder_for(field.type))
        for name, python_name, wire, _ in plan_of(cls).fields:
            self.renamed.update({alias: wire for alias in (name, python_name) if alias not in table})
        self.taken.update(PRIVATE, (name for name in dir(cls) if not takes_attribute(cls, name)))

    def build(self, value: Any) -> Any:
        if type(value) is not dict:
            return value
        if not self.taken:
            self.prepare()
        find = self.table.get
        known: dict[str, Any] = {}
        more: dict[str, Any] = {}
        fields: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] (a cast costs a call per object)
        for wire, item in fields.items():
            field = find(wire)
            if field is None:
                more[wire] = item
            elif field[1] is None:
                known[field[0]] = item
            else:
                known[field[0]] = field[1](item)
        if more and not self.renamed.keys().isdisjoint(more):
            known |= self.by_python_names(more, fields)
        nulls = [name for name, item in known.items() if item is None]
        absent = [name for name in self.required if name not in known] if len(known) < len(self.table) else []
        for name in absent:
            known[name] = None
        if (nulls or absent) and self.lists:
            known.update((name, []) for name in self.lists if name in known and known[name] is None)
        model = new_model(self.cls, **known)
        if nulls or absent:
            vars(model)["_nulls"], vars(model)["_absent"] = nulls, absent
        if more:
            self.keep(model, more)
        return model

    def by_python_names(self, more: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Return the fields given under Python's names, as `model_dump` writes them, and remove them from `more`."""
        known: dict[str, Any] = {}
        for alias in self.renamed.keys() & more.keys():
            if self.renamed[alias] not in given:
                name, part = self.table[self.renamed[alias]]
                item = more.pop(alias)
                known[name] = item if part is None else part(item)
        return known

    def keep(self, model: BaseModel, more: dict[str, Any]) -> None:
        """Add the unknown fields to the model."""
        if self.tag_field is not None and more.get(self.tag_field) == self.tag:
            del more[self.tag_field]
        if self.taken.isdisjoint(more):
            vars(model).update(more)
        else:
            for name, item in more.items():
                put_extra(model, name, item)


def resolve(kind: type, value: Any) -> Any:
    """Build a value of a union's stand-in strictly: msgspec's `dec_hook`. Raises `ValueError` if no member fits."""
    if not isinstance(kind, LazyUnion):
        raise NotImplementedError(f"no answer may hold a {kind!r}")  # an error in a type, not in an answer
    choice = _choices.get(kind)
    if choice is None:
        choice = _choices[kind] = _Choice(flatten(kind))
    return choice.resolve(value)


@cache
def _choice_of(structs: tuple[Any, ...]) -> _Choice:
    return _Choice(list(structs))


def likely_members(structs: tuple[Any, ...], value: dict[str, Any]) -> list[Any]:
    """Return the classes that a value may be meant for, by its constants, the likeliest first."""
    exact, lacking = _choice_of(structs).rank(value)
    return [marks.kind for marks in exact or lacking]


class _Marks:
    """The facts that distinguish one member of a union; computed when needed, because that takes long."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        config = _class_of(kind).__struct_config__
        self.tag = cast("str | None", config.tag)
        self.tag_field = cast("str", config.tag_field) if config.tag is not None else None

    @cached_property
    def fields(self) -> tuple[msgspec.structs.FieldInfo, ...]:
        return msgspec.structs.fields(self.kind)

    @cached_property
    def values(self) -> dict[str, frozenset[str]]:
        """Name on the wire → the constants that the field may have."""
        values: dict[str, frozenset[str]] = {}
        for field in self.fields:
            members = flatten(field.type)
            constants = frozenset(value for member in members for value in _constants(member))
            if constants and all(typing.get_origin(member) is typing.Literal for member in members):
                values[field.encode_name] = constants
        if self.tag_field is not None:
            values[self.tag_field] = frozenset({cast("str", self.tag)})
        return values

    @cached_property
    def required(self) -> set[str]:
        return {field.encode_name for field in self.fields if field.required} - self.values.keys()

    @cached_property
    def names(self) -> set[str]:
        return {field.encode_name for field in self.fields} | self.values.keys()


def _constants(kind: Any) -> list[str]:
    if typing.get_origin(kind) is not typing.Literal:
        return []
    return [value for value in typing.get_args(kind) if isinstance(value, str)]


def _tells_apart(sets: list[frozenset[str]]) -> bool:
    """Whether a field's constants distinguish some members: any two sets are equal or disjoint."""
    distinct = set(sets)
    return len(sets) > 1 and len(distinct) > 1 and sum(map(len, distinct)) == len(frozenset[str]().union(*distinct))


class _Choice:
    """Chooses the member of a union for a value: by its constants, then by its required fields."""

    def __init__(self, members: list[Any]) -> None:
        self.others = [member for member in members if not is_struct(member)]
        self.marks = [_Marks(member) for member in members if is_struct(member)]

    @cached_property
    def tags(self) -> tuple[str | None, dict[str, _Marks]]:
        """The field that alone distinguishes all members, if there is one, and its constants."""
        tag_fields = {marks.tag_field for marks in self.marks}
        if len(tag_fields) == 1 and None not in tag_fields:
            return tag_fields.pop(), {cast("str", marks.tag): marks for marks in self.marks}
        for key in sorted(self.keys, key=lambda key: key != "type"):
            if all(key in marks.values for marks in self.marks):
                pairs = [(constant, marks) for marks in self.marks for constant in marks.values[key]]
                if len(pairs) == len(dict(pairs)):
                    return key, dict(pairs)
        return None, {}

    @cached_property
    def keys(self) -> set[str]:
        """The fields whose constants distinguish some members."""
        fields = {field for marks in self.marks for field in marks.values}
        return {
            field
            for field in fields
            if _tells_apart([marks.values[field] for marks in self.marks if field in marks.values])
        }

    def rank(self, value: dict[str, Any]) -> tuple[list[_Marks], list[_Marks]]:
        """Return the members whose constants are all present, most constants first; and those with missing ones."""
        tag_field, by_tag = self.tags
        if tag_field is not None:
            if tag_field not in value:
                return [], self.marks
            tag = value[tag_field]
            known = by_tag.get(tag) if isinstance(tag, str) else None
            return ([] if known is None else [known]), []
        exact: list[tuple[int, _Marks]] = []
        lacking: list[_Marks] = []
        for marks in self.marks:
            keys = [key for key in marks.values if key in self.keys]
            given = [key for key in keys if key in value]
            if all(isinstance(value[key], str) and value[key] in marks.values[key] for key in given):
                if len(given) == len(keys):
                    exact.append((len(keys), marks))
                else:
                    lacking.append(marks)
        exact.sort(key=lambda pair: -pair[0])
        return [marks for _, marks in exact], lacking

    def resolve(self, value: Any) -> Any:
        candidates = self.rank(cast("dict[str, Any]", value))[0] if type(value) is dict else []
        reason = ""
        for kind in [marks.kind for marks in candidates] + self.others:
            try:
                return msgspec.convert(value, kind, dec_hook=resolve)
            except UNFIT as error:
                reason = reason or str(error)  # the first is of the member that was most likely meant
        raise ValueError(reason if candidates else "Value fits no member of the union")

    def build(self, value: dict[str, Any]) -> Any:
        exact, lacking = self.rank(value)
        best = exact[:1] if len(exact) == 1 else []
        if len(exact) > 1:
            for marks in exact:
                try:
                    return msgspec.convert(value, marks.kind, dec_hook=resolve)
                except UNFIT:
                    continue
            keys = self.keys & exact[0].values.keys()
            best = _fitting(exact, value) or (exact[:1] if keys else [])
        elif not exact:
            best = _fitting(lacking, value)
        build = builder_for(best[0].kind) if best else open_object
        return cast("Builder", build)(value)


def _fitting(members: list[_Marks], value: dict[str, Any]) -> list[_Marks]:
    """Return the only member whose required fields are present; of several, the only one that declares all fields.

    The list is empty if no member, or more than one, is left.
    """
    given = value.keys()
    fitting = [marks for marks in members if marks.required <= given]
    if len(fitting) > 1:
        fitting = [marks for marks in fitting if given <= marks.names]
    return fitting if len(fitting) == 1 else []


_choices: dict[LazyUnion, _Choice] = {}
