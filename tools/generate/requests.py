"""Write requests as TypedDicts: `params/`. Only type checkers and users import these modules."""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from .answers import literal, literal_type
from .ir import (
    Alias,
    Array,
    Enum,
    Field,
    GeneratorError,
    Map,
    Operation,
    Ref,
    Scalar,
    Shape,
    Type,
    Union,
    inner,
    union,
    walk,
)
from .load import Description
from .names import Names, Place, mentioned
from .source import Module, wrap_union
from .tables import Mission, Overrides, python_name
from .unions import without_none

OPTIONS = frozenset(
    (
        "timeout",
        "deadline",
        "max_retries",
        "extra_headers",
        "extra_query",
        "extra_body",
        "on_request",
        "on_answer",
        "on_error",
    )
)


class Requests:
    """Write the module of each shape of a request, and one TypedDict per operation."""

    def __init__(self, description: Description, names: Names, overrides: Overrides) -> None:
        self.description = description
        self.names = names
        self.overrides = overrides
        self.modules: dict[str, Module] = {}
        self._circles: dict[str, frozenset[str]] = {}

    def module(self, place: Place) -> Module:
        circle = self._circles.get(place.module, frozenset())
        return self.modules.setdefault(place.module, Module("params", place.module, circle=circle))

    def write(self, keys: list[str], circles: dict[str, frozenset[str]]) -> dict[str, Module]:
        """Return the modules for `keys`; `circles` says which modules need each other."""
        self.modules, self._circles = {}, circles
        placed = [key for key in keys if key in self.names.places]
        here = set(placed)
        for key in placed:
            self.module(self.names.places[key]).own.add(self.names.places[key].name)
        for key in placed:
            found = self.description.named[key]
            if isinstance(found, Shape):
                self._shape(found, self.module(self.names.places[key]))
        done: set[str] = set()
        for key in placed:
            self._alias_after(key, done)
        for place, key in self.names.aliases.items():
            if key in here:
                self.module(place).deferred = False
                self.module(place).again.add(place.name)
                home = self.module(place).place("params", self.names.places[key])
                if home != place.name:
                    self._alias(self.module(place), place.name, [home])
        return self.modules

    # -- operations ----------------------------------------------------------------------------------------------------

    def fields(self, operation: Operation) -> dict[str, Field]:
        """Return the parameters of an operation except path parameters and `stream`, by wire name."""
        body = self.description.shape(operation.body) if operation.body is not None else None
        if operation.body is not None and body is None:
            raise GeneratorError(f"{operation.name}: the body is not an object")
        first = [Field(p.name, p.type, p.required) for p in operation.params if p.place in ("query", "header")]
        last = [Field(p.name, p.type, p.required) for p in operation.params if p.place == "body"]
        found: dict[str, Field] = {}
        for field in (*first, *(body.fields.values() if body else ()), *last):
            if found.setdefault(field.name, field) is not field:
                raise GeneratorError(f"{operation.name}: {field.name!r} is a parameter twice")
        for name in self.overrides.not_required(operation.name):
            if name not in found or not found[name].required:
                raise GeneratorError(f"overrides.toml [not_required]: {operation.name} does not require {name!r}")
            found[name] = Field(name, found[name].type, False)
        if operation.name in self.overrides.events():
            found.pop("stream")
        for name in found:
            if python_name(name, self.overrides) in OPTIONS:
                raise GeneratorError(f"{operation.name}: the parameter {name!r} hides an option of every call")
        return found

    def operation(self, operation: Operation, place: Place, mission: Mission | None) -> str:
        """Write an operation's TypedDicts; return the name of the one its method unpacks (empty: options alone)."""
        fields = self.fields(operation)
        if not fields:
            return ""
        module = self.module(place)
        options = module.use(".core.policy.request_options", "RequestOptions")
        bases = [options]
        own = list(fields.values())
        if mission:
            bases = [mission.options, options]
            own = [field for field in own if field.name in (*mission.main, "model")]
            self._mission(module, fields, mission)
        streams = operation.name in self.overrides.events()
        name = place.name + "Base" if streams else place.name
        self._class(module, name, bases, own, place.name)
        if streams:
            for kind, type_, needed in (
                ("NonStreaming", "Literal[False] | None", False),
                ("Streaming", "Literal[True]", True),
            ):
                module.use("typing", "Literal")
                module.own.add(place.name + kind)
                value = f"{module.use('typing', 'Required')}[{type_}]" if needed else type_
                module.body += ["", "", f"class {place.name}{kind}({name}, total=False):", f"    stream: {value}"]
            self._alias(module, place.name, [place.name + "NonStreaming", place.name + "Streaming"])
        return name

    def _mission(self, module: Module, fields: dict[str, Field], mission: Mission) -> None:
        """Write `…Options` without what may be given elsewhere, `…Rest` for keywords, `…Params` for a whole request."""
        main = [fields[name] for name in mission.main]
        rest = [field for field in fields.values() if field.name not in (*mission.main, "model")]
        base = module.use("typing", "TypedDict")
        for name, left in mission.bases:
            self._class(module, name, [base], [field for field in rest if field.name not in left], mission.options)
            base, rest = name, [field for field in rest if field.name in left]
        self._class(module, mission.options, [base], rest, mission.options)
        model = [Field("model", fields["model"].type, False)] if "model" in fields else []
        self._class(
            module,
            mission.rest,
            [mission.options, module.use(".core.policy.request_options", "RequestOptions")],
            model,
            "",
        )
        self._class(module, mission.whole, [mission.rest], main, "")

    # -- TypedDicts ----------------------------------------------------------------------------------------------------

    def _shape(self, shape: Shape, module: Module) -> None:
        name = self.names.places[shape.key].name
        base = module.use("typing", "TypedDict")
        if all(field.isidentifier() and not keyword.iskeyword(field) for field in shape.fields):
            self._class(module, name, [base], shape.fields.values(), shape.key, wire=True)
            return
        module.own.add(name)
        module.deferred = True
        fields = shape.fields.values()
        items = [f'        "{field.name}": {literal(self._value(field, module, shape.key))},' for field in fields]
        module.body += [
            "",
            "",
            f"{name} = TypedDict(",
            f'    "{name}",',
            "    {",
            *items,
            "    },",
            "    total=False,",
            ")",
        ]

    def _class(
        self, module: Module, name: str, bases: list[str], fields: Iterable[Field], where: str, wire: bool = False
    ) -> None:
        module.own.add(name)
        module.deferred = True
        lines = ["", "", f"class {name}({', '.join(bases)}, total=False):"]
        for field in fields:
            python = field.name if wire else python_name(field.name, self.overrides)
            lines.append("    " + self._line(python, field, module, where, omittable=not wire))
        module.body += lines if len(lines) > 3 else [*lines, "    pass"]

    def _line(self, name: str, field: Field, module: Module, where: str, *, omittable: bool) -> str:
        """Return the annotation of a field; one that is not required may be given as `omit` if it is `omittable`."""
        members = self.members(field.type, module, f"{where}.{field.name}")
        if not field.required:
            marker = [module.use(".core.model.omitted", "Omit")] if omittable else []
            return wrap_union(f"{name}: ", members + marker)
        return wrap_union(f"{name}: {module.use('typing', 'Required')}", members, brackets=("[", "]"))

    def _value(self, field: Field, module: Module, where: str) -> str:
        text = " | ".join(self.members(field.type, module, f"{where}.{field.name}"))
        return f"{module.use('typing', 'Required')}[{text}]" if field.required else text

    def members(self, type_: Type, module: Module, where: str) -> list[str]:
        match type_:
            case Scalar("Any"):
                return ["object"]
            case Scalar("file"):
                return [module.use(".core.codec.file_types", "FileTypes")]
            case Scalar(name):
                return [name]
            case Enum(values):
                module.use("typing", "Literal")
                return [literal_type(values)]
            case Array(item):
                # Any iterable of objects is accepted; for scalars a generator is more likely a mistake.
                kind = "Iterable" if self._has_shape(item) else "Sequence"
                return [f"{module.use('collections.abc', kind)}[{' | '.join(self.members(item, module, where))}]"]
            case Map(item):
                return [
                    f"{module.use('collections.abc', 'Mapping')}[str, {' | '.join(self.members(item, module, where))}]"
                ]
            case Ref(key):
                return self._reference(key, module, where)
            case Union(members):
                texts: list[str] = []
                for member in self._one_list(members):
                    texts += [text for text in self.members(member, module, where) if text not in texts]
                return [text for text in texts if text != "None"] + ["None"] * ("None" in texts)

    def _one_list(self, members: tuple[Type, ...]) -> list[Type]:
        """Merge lists of scalars and of objects: mypy has no context for a literal if several iterables are allowed."""
        lists = [one for one in members if isinstance(self.description.bare(one), Array)]
        items = [item for one in lists for item in inner(self.description.bare(one))]
        if len(lists) < 2 or not any(self._has_shape(item) for item in items):
            return list(members)
        return [one for one in members if one not in lists[1:] and one != lists[0]] + [Array(union(items))]

    def _has_shape(self, type_: Type) -> bool:
        bare = self.description.bare(type_)
        return any(isinstance(part, Ref | Map) and self.description.bare(part) != Scalar("str") for part in walk(bare))

    def _reference(self, key: str, module: Module, where: str) -> list[str]:
        found = self.description.named[key]
        if key not in self.names.places:
            if isinstance(found, Alias):
                return self.members(found.type, module, where)
            raise GeneratorError(f"{where}: {key} has no place")
        name = module.place("params", self.names.places[key])
        nothing = isinstance(found, Alias) and isinstance(found.type, Union) and found.type != without_none(found.type)
        return [name, "None"] if nothing else [name]

    def _alias(self, module: Module, name: str, members: list[str]) -> None:
        module.own.add(name)
        module.use("typing", "TypeAlias")
        module.late += [*([] if module.late else ["", ""]), wrap_union(f"{name}: TypeAlias = ", members, depth=0)]

    def _alias_after(self, key: str, done: set[str]) -> None:
        found = self.description.named[key]
        if key in done or not isinstance(found, Alias) or key not in self.names.places:
            return
        done.add(key)
        place = self.names.places[key]
        for other in mentioned(self.description, self.names, found.type):
            if other in self.names.places and self.names.places[other].module == place.module:
                self._alias_after(other, done)
        module = self.module(place)
        module.deferred = False
        members = self.members(without_none(found.type), module, key)
        self._alias(module, place.name, [one for one in members if one != "None"] or members)
