"""Write the answers as msgspec Structs: `types/`."""

from __future__ import annotations

from .ir import Alias, Array, Enum, Field, GeneratorError, Map, Ref, Scalar, Shape, Type, Union
from .load import Description
from .names import Names, Place, mentioned
from .source import WIDTH, Module, wrap_union
from .tables import Overrides
from .unions import Unions, widest, without_none

# Attributes that every Struct has: a field of this name would hide them.
RESERVED = frozenset(
    [
        *("construct", "copy", "extra", "meta", "replace", "to_dict", "to_json"),
        *("model_construct", "model_copy", "model_dump", "model_dump_json", "model_extra", "model_fields_set"),
        *("model_validate", "model_validate_json"),
    ]
)


class Answers:
    """Writes the module of each shape that answers are made of."""

    def __init__(self, description: Description, names: Names, unions: Unions, overrides: Overrides) -> None:
        self.description = description
        self.names = names
        self.unions = unions
        self.overrides = overrides
        self.modules: dict[str, Module] = {}
        self._circles: dict[str, frozenset[str]] = {}

    def write(self, keys: list[str], circles: dict[str, frozenset[str]]) -> dict[str, Module]:
        """Return the modules for `keys`; `circles` says which modules need each other."""
        self.modules, self._circles = {}, circles
        placed = [key for key in keys if key in self.names.places]
        here = set(placed)
        for key in placed:
            self._module(self.names.places[key]).own.add(self.names.places[key].name)
        for key in placed:
            found = self.description.named[key]
            if isinstance(found, Shape):
                self._struct(found, self._module(self.names.places[key]))
        done: set[str] = set()
        for key in placed:
            self._alias_after(key, done)
        for place, key in self.names.aliases.items():
            if key in here:
                self._another_name(place, key)
        return self.modules

    def _module(self, place: Place) -> Module:
        circle = self._circles.get(place.module, frozenset())
        return self.modules.setdefault(place.module, Module("types", place.module, circle=circle))

    # -- Structs -------------------------------------------------------------------------------------------------------

    def _struct(self, shape: Shape, module: Module) -> None:
        module.deferred = True
        name = self.names.places[shape.key].name
        mixin = self.overrides.mixin(shape.key)
        bases = [module.use("." + mixin.module, mixin.name)] if mixin else []
        tag = self.unions.tags.get(shape.key)
        tagged = f', tag_field="{tag[0]}", tag="{tag[1]}"' if tag else ""
        head = ", ".join([*bases, module.use(".core.model.base", "BaseModel"), "kw_only=True"])
        lines = [f"class {name}({head}{tagged}):"]
        replaced = self.overrides.replaced(shape.key)
        for field in self.overrides.fields(shape).values():
            if field.name in replaced:
                lines.append("    " + replaced[field.name])
                module.use("msgspec", "field")
            elif tag and field.name == tag[0]:
                module.use("typing", "ClassVar")
                module.use("typing", "Literal")
                lines.append(f'    {field.name}: ClassVar[Literal["{tag[1]}"]] = "{tag[1]}"')
            else:
                lines.append(self._field(shape, field, module))
        added = self.overrides.added(shape.key)
        for added_name, text in added.items():
            if "Any" in text:
                module.use("typing", "Any")
            lines.append(f"    {added_name}: {text} = None")
        if added:
            module.use("typing", "ClassVar")
            lines.append(marked(sorted(added)))
        fields = [line.strip().partition(":")[0] for line in lines[1:]]
        module.define(name, lines if len(lines) > 1 else [*lines, "    pass"], fields, is_class=True)

    def _field(self, shape: Shape, field: Field, module: Module) -> str:
        name = self.overrides.field_name(shape.key, field.name)
        if name in RESERVED or name.startswith("_"):
            raise GeneratorError(f"{shape.key}.{field.name}: no field of an answer may be called {name!r}")
        optional = not field.required
        members = self.members(field.type, module, f"{shape.key}.{field.name}")
        if optional and members != ["Any"] and "None" not in members:
            members.append("None")
        if name != field.name:
            module.use("msgspec", "field")
            value = f' = field(name="{field.name}"{", default=None" if optional else ""})'
        else:
            value = " = None" if optional else ""
        return "    " + wrap_union(f"{name}: ", members, value)

    # -- types ---------------------------------------------------------------------------------------------------------

    def expression(self, type_: Type, module: Module, where: str) -> str:
        return " | ".join(self.members(type_, module, where))

    def members(self, type_: Type, module: Module, where: str) -> list[str]:
        """Return the members of the annotation of `type_`, `None` last."""
        match type_:
            case Scalar(name):
                return [module.use("typing", "Any") if name == "Any" else "str" if name == "file" else name]
            case Enum(values):
                module.use("typing", "Literal")
                return [literal_type(values)]
            case Array(item):
                return [f"list[{self.expression(item, module, where)}]"]
            case Map(item):
                return [f"dict[str, {self.expression(item, module, where)}]"]
            case Ref(key):
                return self._reference(key, module, where)
            case Union():
                rest = without_none(type_)
                if not isinstance(rest, Union):
                    texts = self.members(rest, module, where)
                    return texts if "None" in texts else [*texts, "None"]
                if not self.unions.native(rest):
                    raise GeneratorError(f"{where}: a union that msgspec cannot build needs a name in renames.toml")
                return self._certain(rest, module, where) + ["None"] * self.unions.nullable(type_)

    def _reference(self, key: str, module: Module, where: str) -> list[str]:
        found = self.description.named[key]
        if key not in self.names.places:
            if isinstance(found, Alias):
                return self.members(found.type, module, where)
            raise GeneratorError(f"{where}: {key} has no place")
        name = module.place("types", self.names.places[key])
        nothing = isinstance(found, Alias) and self.unions.nullable(found.type)
        return [name, "None"] if nothing else [name]

    def _alias_after(self, key: str, done: set[str]) -> None:
        """Write a named alias after the aliases of the same module that it consists of."""
        found = self.description.named[key]
        if key in done or not isinstance(found, Alias) or key not in self.names.places:
            return
        done.add(key)
        place = self.names.places[key]
        for other in mentioned(self.description, self.names, found.type):
            if other in self.names.places and self.names.places[other].module == place.module:
                self._alias_after(other, done)
        module = self._module(place)
        type_ = without_none(found.type)
        module.deferred = False
        if self.unions.native(type_):
            module.use("typing", "TypeAlias")
            text = wrap_union(f"{place.name}: TypeAlias = ", self._certain(type_, module, key), depth=0)
            module.define(place.name, [text])
            return
        module.use("typing", "TYPE_CHECKING")
        module.use(".core.model.base", "one_of")
        members = self._certain(type_, module, key)
        module.use("typing", "TypeAlias")
        seen = wrap_union(f"{place.name}: TypeAlias = ", members)
        several = ", ".join(members) + ("," if len(members) == 1 else "")
        run = f'{place.name} = one_of("{place.name}", lambda: ({several}))'
        if len(run) > 110:
            several = "".join(f"            {member},\n" for member in members)
            run = f'{place.name} = one_of(\n        "{place.name}",\n        lambda: (\n{several}        ),\n    )'
        module.define(place.name, ["if TYPE_CHECKING:", "    " + seen, "else:", "    " + run])

    def _certain(self, type_: Type, module: Module, where: str) -> list[str]:
        """Return the members without `None`, each as an expression."""
        parts: list[Type] = list(type_.members) if isinstance(type_, Union) else [type_]
        texts: list[str] = []
        for part in widest(parts, self.description.bare):
            texts += [text for text in self.members(part, module, where) if text not in (*texts, "None")]
        return texts

    def _another_name(self, place: Place, key: str) -> None:
        module = self._module(place)
        module.deferred = False
        module.again.add(place.name)
        name = module.place("types", self.names.places[key])
        if name != place.name:
            module.late += ["", f"{place.name}: {module.use('typing', 'TypeAlias')} = {name}"]


def marked(names: list[str]) -> str:
    """Return the attribute that names a class's fields beyond OpenAI's description."""
    texts = [f'"{name}",' for name in names]
    line = f"    _added: ClassVar[tuple[str, ...]] = ({' '.join(texts) if len(names) == 1 else ' '.join(texts)[:-1]})"
    if len(line) <= WIDTH:
        return line
    return line.partition("(")[0] + "(\n" + "".join(f"        {text}\n" for text in texts) + "    )"


def literal_type(values: tuple[str | int | bool, ...]) -> str:
    """Return ``Literal[...]``, over several lines if it is long."""
    texts = [literal(value) for value in values]
    line = f"Literal[{', '.join(texts)}]"
    if len(line) < 80:
        return line
    return "Literal[\n" + "".join(f"    {text},\n" for text in texts) + "]"


def literal(value: str | int | bool) -> str:
    return repr(value) if not isinstance(value, str) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
