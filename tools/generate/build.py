"""Make the text of every generated file from the description and the tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import endpoints as rows
from . import page, schemas
from .answers import Answers
from .api import Api
from .circles import in_circles
from .endpoints import Endpoint
from .ir import FILE, NONE, Alias, Array, GeneratorError, Operation, Ref, Type, walk
from .load import Description
from .names import Names, Place, Root, root_place
from .packages import by_name, home, lazy_text, read_exports
from .realtime import connections
from .requests import Requests
from .source import Module
from .tables import Overrides, Row, Untyped, read_endpoints, read_surface, read_toml, read_untyped
from .unions import Unions


@dataclass
class Tables:
    """The hand-written files of `spec/`."""

    folder: Path

    def build(self, spec: Path, areas: Iterable[str] = ()) -> dict[str, str]:
        """Return each file's text by its path below the package, for all areas or some; `page.NAME` is a docs page."""
        builder, operations, untyped = self._read(spec)
        wanted = set(areas)
        chosen = [op for op in operations if not wanted or op.name.partition(".")[0] in wanted]
        others = [row for row in untyped if not wanted or row.name.partition(".")[0] in wanted]
        texts = builder.build(chosen, others)
        if wanted:
            return texts
        served = self.folder / "served.toml"
        if served.is_file():
            texts |= {schemas.NAME: schemas.module(builder.description.document, operations, read_toml(served))}
        return texts | connections(self.folder)

    def places(self, spec: Path) -> dict[str, Place]:
        """Return the place of each object of an answer, by its key in the description."""
        builder, operations, untyped = self._read(spec)
        builder.build(operations, untyped)
        return dict(builder.types.places)

    def _read(self, spec: Path) -> tuple[Builder, list[Operation], list[Untyped]]:
        renames = read_toml(self.folder / "renames.toml")
        keys = {key for side in renames.values() for key in side}
        description = Description.read(spec, keys)
        operations = description.operations(read_endpoints(self.folder / "endpoints.toml"))
        untyped = read_untyped(self.folder / "untyped.toml", [op.name for op in operations])
        table = read_toml(self.folder / "overrides.toml")
        loosened = self.folder / "optional.toml"
        optional_too: dict[str, list[str]] = read_toml(loosened)["optional"] if loosened.is_file() else {}
        for key, names in optional_too.items():
            optional = table.setdefault("optional", {})
            optional[key] = [*optional.get(key, ()), *names]
        overrides = Overrides(table, description, operations, [row.name for row in untyped])
        operations = overrides.corrected(operations)
        description.operation_keys = {"op " + op.name for op in operations}
        surface = read_surface(self.folder / "surface.tsv")
        exports = read_exports(self.folder / "type_names.tsv")
        return Builder(description, overrides, renames, surface, exports, operations), operations, untyped


class Builder:
    """Decide places for the whole API, so that they do not depend on the selection that is written."""

    def __init__(
        self,
        description: Description,
        overrides: Overrides,
        renames: dict[str, dict[str, str | list[str]]],
        surface: dict[str, Row],
        exports: dict[str, list[str]],
        operations: list[Operation],
    ) -> None:
        self.description = description
        self.overrides = overrides
        self.surface = surface
        self.exports = exports
        self.operations = operations
        self.unions = Unions(description, overrides.fields)
        self.types = Names(description, "types", renames.get("types", {}), self.unions.deserves_name)
        self.params = Names(description, "params", renames.get("params", {}), self.unions.deserves_name)
        self.requests = Requests(description, self.params, overrides)
        self.params_places: dict[str, Place] = {}
        self.unpacked: dict[str, str] = {}

    def build(self, operations: list[Operation], untyped: list[Untyped]) -> dict[str, str]:
        answers = self._answers(operations)
        params = self._params(operations)
        endpoints = [*(self._endpoint(op) for op in operations), *map(rows.untyped, untyped)]
        endpoints.sort(key=lambda endpoint: endpoint.operation.name)
        texts = {"endpoints.py": rows.module(endpoints, self.overrides), page.NAME: page.page(endpoints)}
        for side, modules in (("types", answers), ("params", params)):
            texts |= {f"{side}/{name.replace('.', '/')}.py": module.text() for name, module in modules.items()}
        texts |= self._packages(answers, params)
        texts |= Api(endpoints, self.overrides).write()
        return texts

    def _within(self, names: Names, keys: list[str], operations: list[Operation], roots: list[Root]) -> list[str]:
        """Return the `keys` to write: all, or the ones that the selected operations need."""
        if len(operations) == len(self.operations):
            return keys
        found: set[str] = set()
        todo = [root.type for root in roots]
        while todo:
            for part in walk(todo.pop()):
                if isinstance(part, Ref) and part.key not in found:
                    found.add(part.key)
                    named = self.description.named[part.key]
                    todo += [named.type] if isinstance(named, Alias) else [f.type for f in named.fields.values()]
        return [key for key in keys if key in found]

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answers(self, operations: list[Operation]) -> dict[str, Module]:
        listed = [Root(Ref(key), Place("", "")) for key in self.types.listed()]
        keys = [*self.types.reach(self._answer_roots(self.operations)), *self.types.reach(listed)]
        types: list[Type] = []
        for key in keys:
            found = self.description.named[key]
            if isinstance(found, Alias):
                types.append(found.type)
            else:
                types += [field.type for field in self.overrides.fields(found).values()]
        self.unions.decide(types)
        keys = self._within(self.types, keys, operations, self._answer_roots(operations))
        answers = Answers(self.description, self.types, self.unions, self.overrides)
        return in_circles(lambda circles: answers.write(keys, circles))

    def _answer_roots(self, operations: list[Operation]) -> list[Root]:
        roots: list[Root] = []
        events = self.overrides.events()
        for op in operations:
            type_ = self._answer_type(op)
            if type_ is not None:
                place = root_place(op.name)
                leaf = place.module.removesuffix("params") + "response"
                roots.append(Root(type_, Place(leaf, place.name.removesuffix("Params") + "Response")))
            if op.name in events:
                roots.append(Root(Ref(events[op.name]), root_place(op.name)))
        return roots

    def _row(self, op: Operation) -> Row:
        if op.name not in self.surface:
            raise GeneratorError(f"surface.tsv does not say what {op.name} answers")
        return self.surface[op.name]

    def _answer_type(self, op: Operation) -> Type | None:
        """Return the type of the decoded answer: for a page, that of its items."""
        kind = self._row(op).response.partition(":")[0]
        if op.answer is None or kind in ("none", "text", "binary"):
            return None
        if kind != "page":
            return op.answer
        shape = self.description.shape(op.answer)
        data = self.description.bare(shape.fields["data"].type) if shape and "data" in shape.fields else NONE
        if not isinstance(data, Array):
            raise GeneratorError(f"{op.name}: a page has a list `data`")
        return data.item

    # -- requests ------------------------------------------------------------------------------------------------------

    def _params(self, operations: list[Operation]) -> dict[str, Module]:
        listed = [Root(Ref(key), Place("", "")) for key in self.params.listed()]
        for op in self.operations:
            if self.requests.fields(op) or op.name in self.overrides.events():
                self.params_places[op.name] = self.params.operation(op.name)
        keys = [*self.params.reach(self._param_roots(self.operations)), *self.params.reach(listed)]
        keys = self._within(self.params, keys, operations, self._param_roots(operations))
        modules = in_circles(lambda circles: self.requests.write(keys, circles))
        for op in operations:
            if op.name in self.params_places:
                place = self.params_places[op.name]
                self.unpacked[op.name] = self.requests.operation(op, place, self.overrides.mission(op.name))
        return modules

    def _param_roots(self, operations: list[Operation]) -> list[Root]:
        return [
            Root(field.type, self.params_places[op.name], op.body.key if isinstance(op.body, Ref) else "")
            for op in operations
            if op.name in self.params_places
            for field in self.requests.fields(op).values()
        ]

    # -- operations ----------------------------------------------------------------------------------------------------

    def _endpoint(self, op: Operation) -> Endpoint:
        kind, _, detail = self._row(op).response.partition(":")
        kind = kind.partition(" ")[0]
        event = self.overrides.events().get(op.name)
        answer = self._answer_type(op)
        name = self.unpacked.get(op.name, "")
        return Endpoint(
            op,
            kind,
            self._place(answer, op) if answer is not None else None,
            detail.partition("[")[0].removeprefix("Async") if kind == "page" else "",
            self.types.places[event] if event else None,
            self.requests.fields(op),
            Place(self.params_places[op.name].module, name) if name else None,
            tuple(field.name for field in self.requests.fields(op).values() if self._uploads(field.type)),
        )

    def _uploads(self, type_: Type) -> bool:
        return any(leaf == FILE for part in self.unions.leaves(type_) for leaf in walk(part))

    def _place(self, type_: Type, op: Operation) -> Place | None:
        if isinstance(type_, Ref) and type_.key in self.types.places:
            return self.types.places[type_.key]
        if isinstance(bare := self.description.bare(type_), Ref):
            return self.types.places[bare.key]
        raise GeneratorError(f"{op.name}: its answer needs a name in renames.toml")

    # -- packages ------------------------------------------------------------------------------------------------------

    def _packages(self, answers: dict[str, Module], params: dict[str, Module]) -> dict[str, str]:
        offered = {
            side: by_name(Place(m.name, name) for m in modules.values() for name in sorted(m.own | m.again))
            for side, modules in (("types", answers), ("params", params))
        }
        found: dict[str, str] = {}
        for side, modules in (("types", answers), ("params", params)):
            inside = [*modules, *params]
            packages = {""} | {parent for name in inside for parent in parents(name)}
            areas = [mission.area for mission in self.overrides.missions()]
            others = self.exports if side == "types" else areas
            packages |= {package for package in others if self._exports(side, package, offered)}
            for package in sorted(packages):
                where = f"{side}/{package.replace('.', '/')}/__init__.py".replace("//", "/")
                what = "answers (Structs) and requests (TypedDicts)" if side == "types" else "requests (TypedDicts)"
                doc = f"The types of {what}; each is imported at first use."
                name = f"{package}.__init__".lstrip(".")
                found[where] = lazy_text(side, name, self._exports(side, package, offered), doc)
        return self._doors(answers, params) | found

    def _doors(self, answers: dict[str, Module], params: dict[str, Module]) -> dict[str, str]:
        """Return modules that offer the requests under `types`, too, where the official modules are."""
        found: dict[str, str] = {}
        for name, module in params.items():
            if name not in answers:
                exports = {one: ("params", Place(name, one)) for one in sorted(module.own | module.again)}
                doc = f"`openaiasync.params.{name}` under its official path."
                found[f"types/{name.replace('.', '/')}.py"] = lazy_text("types", name, exports, doc)
        for name, (where, names) in self.overrides.elsewhere().items():
            side, _, module_name = where.partition(".")
            exports = {one: (side, Place(module_name, one)) for one in names}
            doc = f"`openaiasync.{where}` under its official path."
            found[f"types/{name.replace('.', '/')}.py"] = lazy_text("types", name, exports, doc)
        return found

    def _exports(
        self, side: str, package: str, offered: dict[str, dict[str, list[Place]]]
    ) -> dict[str, tuple[str, Place]]:
        exports: dict[str, tuple[str, Place]] = {}
        for name in self.exports.get(package, ()):
            sides = ["types", "params"] if side == "types" else ["params"]
            if name.endswith(("Param", "Params")) or package == "shared_params":
                sides.reverse()
            for where in sides:
                place = home(package, name, offered[where])
                if place is not None:
                    exports.setdefault(name, (where, place))
        for module, (where, names) in self.overrides.elsewhere().items() if side == "types" else ():
            if module.rpartition(".")[0] == package:
                home_side, _, home_module = where.partition(".")
                listed = [name for name in names if name in self.exports.get(package, ())]
                exports.update((name, (home_side, Place(home_module, name))) for name in listed)
        for mission in self.overrides.missions() if side == "params" else ():
            if package in ("", mission.area):
                for name in (*dict(mission.bases), mission.options, mission.rest, mission.whole):
                    exports.update((name, ("params", place)) for place in offered["params"].get(name, ()))
        return exports


def parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]
