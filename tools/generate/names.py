"""Decide the module and name of each shape: from `renames.toml`, else from its use in the description.

A place is a module below ``types`` or ``params`` and a name in it. A shape that the table does not
name is in the module of the shape that uses it: a component under its own name, an inline object under the names of the
fields leading to it (``Choice``, ``ChoiceLogprobs``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from .ir import Alias, Enum, GeneratorError, Ref, Shape, Type, walk
from .load import Description

_ACRONYMS = {"api": "API", "id": "ID", "url": "URL", "json": "JSON"}


class Place(NamedTuple):
    module: str  # "chat.chat_completion"
    name: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """``package.module:Name``, or ``package.Name`` for a name that has a module of its own."""
        module, colon, name = text.partition(":")
        if not colon:
            package, _, name = text.rpartition(".")
            module = f"{package}.{snake(name)}".lstrip(".")
        if not name.isidentifier():
            raise GeneratorError(f"{text!r} is not a place: write 'package.module:Name' or 'package.Name'")
        return cls(module, name)

    def __str__(self) -> str:
        package, _, leaf = self.module.rpartition(".")
        return f"{package}.{self.name}".lstrip(".") if leaf == snake(self.name) else f"{self.module}:{self.name}"


class Root(NamedTuple):
    """A type to be placed: what uses it, and its key, if it has one."""

    type: Type
    user: Place
    parent: str = ""


def snake(name: str) -> str:
    """Return a name in snake case: ``ChatCompletionURL`` → ``chat_completion_url``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def camel(name: str) -> str:
    """Return a name in camel case: ``api_key`` → ``APIKey``, ``response.created`` → ``ResponseCreated``."""
    words: list[str] = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    return "".join(_ACRONYMS.get(word, word[:1].upper() + word[1:]) for word in words)


def singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(ss|x|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if re.search(r"[^sui]s$", word) else word


def plain(name: str) -> str:
    """Return a name for comparison, without case and underscores."""
    return name.replace("_", "").lower()


class Names:
    """The places of one side: ``types`` (answers) or ``params`` (requests)."""

    def __init__(
        self,
        description: Description,
        side: str,
        table: Mapping[str, str | list[str]],
        deserves_name: Callable[[Alias], bool],
    ) -> None:
        self.description = description
        self._deserves_name = deserves_name
        self.suffix = "Param" if side == "params" else ""
        self.side = side
        self.places: dict[str, Place] = {}
        self.aliases: dict[Place, str] = {}  # further places of a key
        self._taken: dict[Place, str] = {}
        self._table = {key: [value] if isinstance(value, str) else value for key, value in table.items()}
        for key in table:
            if key not in description.named and key not in description.operation_keys:
                raise GeneratorError(f"renames.toml [{side}] names {key!r}, which the description does not have")

    def put(self, key: str, place: Place) -> Place:
        """Give `key` its place. Raises for a place that another key has."""
        if self._taken.setdefault(place, key) != key:
            raise GeneratorError(
                f"both {self._taken[place]!r} and {key!r} would be {self.side}.{place}; name one in renames.toml"
            )
        self.places[key] = place
        return place

    def reach(self, roots: Iterable[Root]) -> list[str]:
        """Give places to everything reachable from `roots`; return the keys in the order found."""
        order: list[str] = []
        seen = set(self.places)
        todo = list(roots)
        while todo:
            following: list[Root] = []
            for type_, user, parent in todo:
                for part in walk(type_):
                    if isinstance(part, Ref) and part.key not in seen:
                        seen.add(part.key)
                        order.append(part.key)
                        following += self._meet(part.key, user, parent)
            todo = following
        return order

    def _meet(self, key: str, user: Place, parent: str) -> list[Root]:
        listed = self._table.get(key)
        found = self.description.named[key]
        if isinstance(found, Alias) and not listed and not self._deserves_name(found):
            return [Root(found.type, user, parent)]
        place = self.put(key, Place.parse(listed[0]) if listed else self.derived(key, user, parent))
        for other in listed[1:] if listed else ():
            self.aliases[Place.parse(other)] = key
        if isinstance(found, Alias):
            return [Root(found.type, place, key)]
        return [Root(field.type, place, key) for field in found.fields.values()]

    def listed(self) -> list[str]:
        """Return the keys of the description that the table names."""
        return [key for key in self._table if key in self.description.named]

    def operation(self, name: str) -> Place:
        """Return the place of an operation's parameters."""
        listed = self._table.get("op " + name)
        return self.put("op " + name, Place.parse(listed[0]) if listed else root_place(name))

    def derived(self, key: str, user: Place, parent: str) -> Place:
        """Return the place of a key that the table does not name."""
        if not re.search(r"[.|\[{]", key):
            name = camel(key) if not self.suffix else camel(key).removesuffix("Param") + self.suffix
            package = user.module.rpartition(".")[0]
            return Place(f"{package}.{snake(name)}".lstrip("."), name)
        way = key[len(parent) :] if parent and key.startswith(parent) else re.sub(r"^[^.|\[{]+", "", key)
        prefix = (
            "" if plain(user.name) == plain(user.module.rpartition(".")[2]) else user.name.removesuffix(self.suffix)
        )
        name = prefix + self._steps(way, key)
        if not name:
            raise GeneratorError(f"{key!r} needs a name in renames.toml [{self.side}]")
        return Place(user.module, name)

    def _steps(self, way: str, key: str) -> str:
        steps = re.findall(r"\.([^.|\[{]+)((?:\[\]|\{\}|\|\d+)*)", way)
        name = "".join(camel(singular(field) if "[]" in marks else field) for field, marks in steps)
        return name + (self._variant(key) if re.search(r"\|\d+(\[\])?$", way) and not self._alone(key) else "")

    def _alone(self, key: str) -> bool:
        """Return whether an inline member of a union is its only object (the others are scalars or `None`)."""
        stem = re.sub(r"\|\d+(\[\])?$", "", key)
        return not any(
            other != key and re.fullmatch(re.escape(stem) + r"\|\d+(\[\])?", other)
            for other, found in self.description.named.items()
            if isinstance(found, Shape)
        )

    def _variant(self, key: str) -> str:
        """Return the name of an inline member of a union: its constant, else its number."""
        shape = self.description.shape(Ref(key))
        for field in shape.fields.values() if shape else ():
            type_ = self.description.bare(field.type)
            if isinstance(type_, Enum) and len(type_.values) == 1 and isinstance(type_.values[0], str):
                return camel(type_.values[0])
        return "Variant" + key.rpartition("|")[2].removesuffix("[]")


def root_place(operation: str) -> Place:
    """Return the module of an operation's parameters: ``chat.completions.list`` → ``chat.completion_list_params``."""
    *package, area, method = operation.split(".")
    leaf = f"{singular(area)}_{method}_params"
    return Place(".".join([*package, leaf]), camel(leaf))


def mentioned(description: Description, names: Names, type_: Type) -> list[str]:
    """Return the keys that an alias consists of, through aliases without a name."""
    found: list[str] = []
    for part in walk(type_):
        if isinstance(part, Ref):
            found.append(part.key)
            named = description.named[part.key]
            if isinstance(named, Alias) and part.key not in names.places:
                found += mentioned(description, names, named.type)
    return found


__all__ = ["Names", "Place", "Root", "camel", "mentioned", "root_place", "singular", "snake"]
