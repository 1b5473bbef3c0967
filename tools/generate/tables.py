"""The hand-written tables: names of operations, places of types, corrections. An entry without a match is an error."""

from __future__ import annotations

import fnmatch
import keyword
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .ir import Alias, Field, GeneratorError, Operation, Param, Ref, Shape, Type, union
from .load import Description
from .names import Place


class Row(NamedTuple):
    """A line of `surface.tsv`: what the official client offers under a name."""

    name: str
    method: str
    path: str
    request: str
    response: str
    event: str = ""


class Untyped(NamedTuple):
    """A line of `untyped.toml`: a method without a schema."""

    name: str
    method: str
    path: str
    request: str  # json, multipart, query, none
    answer: str  # object, binary, none, page:Class, object+events, events
    headers: tuple[str, ...] = ()  # parameters that are sent as header fields of these names


class Mission(NamedTuple):
    """The TypedDicts of a hand-written method over an operation."""

    area: str
    group: str
    main: tuple[str, ...]  # the parameter that may be the first positional argument
    options: str
    rest: str
    whole: str
    bases: tuple[tuple[str, frozenset[str]], ...]  # of the options, the narrowest first, each with what it leaves out


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_endpoints(path: Path) -> dict[str, str]:
    """Return the public dotted name of each operation id."""
    names: dict[str, str] = {}
    for area, rows in read_toml(path).items():
        for name, id_ in rows.items():
            if id_ in names:
                raise GeneratorError(f"endpoints.toml names {id_!r} twice: {names[id_]} and {area}.{name}")
            names[id_] = f"{area}.{name}"
    return names


def read_surface(path: Path) -> dict[str, Row]:
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return {row.name: row for row in (Row(*line.split("\t")[:6]) for line in lines)}


def read_untyped(path: Path, named: Iterable[str]) -> list[Untyped]:
    """Return the methods without a schema; `named` are those that have one."""
    rows: list[Untyped] = []
    for area, lines in read_toml(path).items():
        for name, line in lines.items():
            words = line.split(" ")
            if len(words) < 4:
                raise GeneratorError(f"untyped.toml: {area}.{name} is not 'METHOD path request answer [Header …]'")
            method, path_, request, answer, *headers = words
            rows.append(Untyped(f"{area}.{name}", method, path_, request, answer, tuple(headers)))
    for row in rows:
        if row.name in set(named):
            raise GeneratorError(f"untyped.toml: {row.name} has a schema; it belongs in endpoints.toml alone")
    return sorted(rows)


class Overrides:
    """`overrides.toml`, checked against the description."""

    def __init__(
        self, table: dict[str, Any], description: Description, operations: list[Operation], untyped: Iterable[str] = ()
    ) -> None:
        self.table = table
        self._description = description
        self._join()
        self._check()
        self._check_operations({op.name for op in operations}, set(untyped))

    def _shape(self, section: str, key: str) -> Shape:
        found = self._description.named.get(key)
        if not isinstance(found, Shape):
            raise GeneratorError(f"overrides.toml [{section}]: {key!r} is not an object of the description")
        return found

    def _check(self) -> None:
        for key in self.table.get("mixins", {}):
            self._shape("mixins", key)
        for section in ("optional", "drop"):
            for key, fields in self.table.get(section, {}).items():
                shape = self._shape(section, key)
                for name in fields:
                    if name not in shape.fields:
                        raise GeneratorError(f"overrides.toml [{section}]: {key} has no field {name!r}")
        for key, fields in self.table.get("add", {}).items():
            for name in fields:
                if name in self._shape("add", key).fields:
                    raise GeneratorError(f"overrides.toml [add]: {key} has a field {name!r} by now")
        for key, fields in self.table.get("replace", {}).items():
            for name in fields:
                if name not in self._shape("replace", key).fields:
                    raise GeneratorError(f"overrides.toml [replace]: {key} has no field {name!r}")

        for key in self.table.get("fields", {}):
            owner, _, name = key.rpartition(".")
            shapes = [self._shape("fields", owner)] if owner else self._description.named.values()
            if not any(isinstance(one, Shape) and name in one.fields for one in shapes):
                raise GeneratorError(f"overrides.toml [fields]: there is no {key!r}")

    def _join(self) -> None:
        """Add the unions that the description lacks."""
        named = self._description.named
        for key, pattern in self.table.get("unions", {}).items():
            members: list[Type] = [Ref(one) for one in fnmatch.filter(self._description.schemas, pattern)]
            if key in named or len(members) < 2:
                raise GeneratorError(f"overrides.toml [unions]: {key} = {pattern!r} does not fit")
            named[key] = Alias(key, union(members))

    def _check_operations(self, names: set[str], untyped: set[str]) -> None:
        known = names | untyped
        known |= {".".join(name.split(".")[:length]) for name in known for length in range(1, name.count(".") + 1)}
        for section in (
            "missions", "default_of", "names_model", "events", "api", "headers", "paths", "bodies", "parameters",
            "not_required",
        ):  # fmt: skip
            for name in self.table.get(section, {}):
                if name not in (known if section in ("api", "headers") else names):
                    raise GeneratorError(f"overrides.toml [{section}]: there is no {name!r}")
        for name, key in self.events().items():
            if key not in self._description.named:
                raise GeneratorError(f"overrides.toml [events]: {name} streams {key!r}, which does not exist")

    def mixin(self, key: str) -> Place | None:
        text = self.table.get("mixins", {}).get(key)
        return Place.parse(text) if text else None

    def fields(self, shape: Shape) -> dict[str, Field]:
        """Return the fields of an answer: as described, but fields that common servers omit are optional."""
        optional = self.table.get("optional", {}).get(shape.key, ())
        dropped = self.table.get("drop", {}).get(shape.key, ())
        return {
            name: Field(name, field.type, field.required and name not in optional)
            for name, field in shape.fields.items()
            if name not in dropped
        }

    def added(self, key: str) -> dict[str, str]:
        return dict(self.table.get("add", {}).get(key, {}))

    def replaced(self, key: str) -> dict[str, str]:
        return dict(self.table.get("replace", {}).get(key, {}))

    def events(self) -> dict[str, str]:
        """Return the schema of each operation's stream events."""
        return dict(self.table.get("events", {}))

    def mission(self, operation: str) -> Mission | None:
        row = self.table.get("missions", {}).get(operation)
        if row is None:
            return None
        word = row["types"]
        return Mission(
            operation.partition(".")[0],
            row["group"],
            tuple(row["main"]),
            word + "Options",
            word + "Rest",
            word + "Params",
            tuple((word + name, frozenset(left)) for name, left in row.get("bases", {}).items()),
        )

    def default_of(self, operation: str) -> str:
        """Return the methods whose default model an operation uses."""
        mission = self.mission(operation)
        return str(self.table.get("default_of", {}).get(operation, mission.group if mission else ""))

    def names_model(self, operation: str) -> str:
        """Return the parameter that replaces an operation's model."""
        return str(self.table.get("names_model", {}).get(operation, ""))

    def corrected(self, operations: list[Operation]) -> list[Operation]:
        """Return the operations with the tables' corrections of paths and bodies, under their second names too."""
        paths, bodies, again = (self.table.get(section, {}) for section in ("paths", "bodies", "again"))
        found = {
            op.name: replace(
                op,
                path=paths.get(op.name, op.path),
                body_kind=bodies.get(op.name, op.body_kind),
                params=[*op.params, *self._parameters(op)],
            )
            for op in operations
        }
        for name, first in again.items():
            if first not in found or name in found:
                raise GeneratorError(f"overrides.toml [again]: {name} = {first!r} does not fit")
            found[name] = replace(found[first], name=name)
        return [found[name] for name in sorted(found)]

    def _parameters(self, op: Operation) -> list[Param]:
        """Return the parameters of an operation that its description lacks."""
        place = "query" if op.body is None else "body"
        key = "op " + op.name.replace(".", " ")
        found: list[Param] = []
        for name, schema in self.table.get("parameters", {}).get(op.name, {}).items():
            if any(name == one.name for one in op.params):
                raise GeneratorError(f"overrides.toml [parameters]: {op.name} has a parameter {name!r} by now")
            found.append(Param(name, place, self._description.type(schema, f"{key}.{name}"), False))
        return found

    def not_required(self, operation: str) -> list[str]:
        """Return the parameters that may be left out although the description requires them."""
        return list(self.table.get("not_required", {}).get(operation, ()))

    def field_name(self, key: str, wire: str) -> str:
        """Return the Python name of a field of an answer."""
        table = self.table.get("fields", {})
        return table.get(f"{key}.{wire}") or table.get(wire) or python_name(wire, self)

    def missions(self) -> list[Mission]:
        found = [self.mission(name) for name in self.table.get("missions", {})]
        return [one for one in found if one is not None]

    def api_mixins(self, namespace: str) -> list[Place]:
        found = self.table.get("api", {}).get(namespace, [])
        return [Place.parse(text) for text in ([found] if isinstance(found, str) else found)]

    def elsewhere(self) -> dict[str, tuple[str, list[str]]]:
        """Return the hand-written modules below `types`: official path → its location and names."""
        table: dict[str, list[str]] = self.table.get("elsewhere", {})
        return {module: (where, names) for module, (where, *names) in table.items()}

    def again_under(self, space: str) -> dict[str, str]:
        """Return the namespaces that a namespace offers a second time: name → location."""
        table: dict[str, str] = self.table.get("namespaces", {})
        return {name.rpartition(".")[2]: home for name, home in table.items() if name.rpartition(".")[0] == space}

    def headers(self, operation: str) -> list[str]:
        """Return the fixed header fields of an operation: those of its name's longest prefix in the table."""
        table = self.table.get("headers", {})
        parts = operation.split(".")
        for length in range(len(parts), 0, -1):
            if ".".join(parts[:length]) in table:
                return list(table[".".join(parts[:length])])
        return []

    def python_names(self) -> dict[str, str]:
        return dict(self.table.get("python", {}))


def python_name(wire: str, overrides: Overrides) -> str:
    """Return the Python name of a wire name: itself, the table's, or with dots, dashes and slashes as underscores."""
    name = overrides.python_names().get(wire, re.sub(r"[./-]", "_", wire))
    if not name.isidentifier() or keyword.iskeyword(name):
        raise GeneratorError(f"{wire!r} needs a Python name in overrides.toml [python]")
    return name
