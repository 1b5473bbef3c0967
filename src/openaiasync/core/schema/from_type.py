"""JSON schemas of Python types, and the strict form that structured outputs and strict tools require.

The strict form (OpenAI's guide "Structured model outputs", supported schemas): every object closed and every property
required, with null for one that may be left out; no defaults, no composition but ``anyOf``; nothing beside a ``$ref``.

`Annotated` may contain more than msgspec's `Meta`: limits of other libraries become msgspec's; a type with validators
is decoded by pydantic as a whole; an annotation that neither library can run is refused when the schema is made.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
import msgspec.inspect as mi

from ..model.plain import is_dict
from .jsonschema import Schema, hold_open, kinds_of, may_be_null, pruned, resolve

__all__ = [
    "adapted",
    "adapter_of",
    "adapter_schema",
    "has_validators",
    "is_pydantic",
    "json_schema",
    "strict",
    "tighten",
    "with_limits",
]

_KEPT = frozenset(
    {"type", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
     "minItems", "maxItems", "title", "description"}
)  # fmt: skip
_FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"])
# Restrictions without a keyword in strict mode go into the description; decoding enforces them.
_WORDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "contentEncoding": "encoded as {}",
    "format": "format: {}",
    "default": "default: {}",
}
_UNSAYABLE = (
    "patternProperties", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "contains",
    "propertyNames", "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


# -------------------------------------------------------------------------------------------------- of a type


def is_pydantic(kind: Any) -> bool:
    """Whether a type is a model or dataclass of pydantic, or `adapted`. Does not import pydantic."""
    return isinstance(kind, type) and "pydantic" in sys.modules and hasattr(kind, "__pydantic_validator__")


def adapter_of(kind: Any) -> Any:
    """Return pydantic's ``TypeAdapter`` of a type. Raises `TypeError` if pydantic cannot make one."""
    stands = getattr(kind, "__adapted__", None)  # see `adapted`
    if stands is not None and "__adapter__" not in vars(kind):
        kind.__adapter__ = adapter_of(stands)
    try:
        return sys.modules["pydantic"].TypeAdapter(kind) if stands is None else kind.__adapter__
    except (RuntimeError, NameError, TypeError, AttributeError) as error:  # the bases of all its own errors
        raise _no_schema(kind, error) from error


def adapter_schema(kind: Any, adapter: Any) -> Schema:
    """Return pydantic's JSON schema of a type. Raises `TypeError` if pydantic cannot make one."""
    try:
        return cast("Schema", adapter.json_schema())
    except (RuntimeError, NameError, TypeError) as error:
        raise _no_schema(kind, error) from error


def json_schema(kind: Any) -> Schema:
    """Return the JSON schema of a type, made by msgspec, or by pydantic for its own types; definitions in ``$defs``.

    Raises `TypeError` for a type without a schema; the text says what to change.
    """
    if is_pydantic(kind):
        return adapter_schema(kind, adapter_of(kind))
    lifted: dict[str, Schema] = {}

    def hook(custom: Any) -> Schema:
        if not is_pydantic(custom):
            raise NotImplementedError
        inner = json_schema(custom)
        for name, one in cast("dict[str, Schema]", inner.pop("$defs", {})).items():
            if lifted.setdefault(name, one) != one:
                raise TypeError(f"Two different types are named {name}; rename one of them.")
        return inner

    try:
        (schema,), defs = msgspec.json.schema_components([kind], schema_hook=hook, ref_template="#/$defs/{name}")
    except (TypeError, NameError, AttributeError) as error:
        raise _no_schema(kind, error) from error
    refine(kind, schema, defs)
    for name, one in lifted.items():
        if defs.setdefault(name, one) != one:
            raise TypeError(f"Two different types are named {name}; rename one of them.")
    return {**schema, "$defs": defs} if defs else dict(schema)


def _no_schema(kind: Any, error: Exception) -> TypeError:
    if isinstance(kind, (str, bytes, int, float, list, tuple, dict)):
        return TypeError(f"A type is needed, such as int, list[str] or a dataclass, not the value {kind!r}")
    return TypeError(f"No JSON schema can be made from {_called(kind)}: {_reason(error)}")


def _called(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and not hasattr(kind, "__args__") else repr(kind)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, NameError):
        return f"{lines[0]}. Types named in annotations must be globals of the module that defines the type."
    if len(lines) > 1 and lines[-1].startswith("type "):
        return (
            f"{lines[-1]}. Use str, int, float, bool, None, list, dict, Literal, Enum, datetime, a Struct, dataclass, "
            "TypedDict or NamedTuple of these, or a pydantic model."
        )
    return lines[0] if lines else type(error).__name__


# -------------------------------------------------------------------------------------------------- the strict form


def strict(schema: Mapping[str, Any], *, nullable: bool = True) -> Schema:
    """Return a schema in the strict form. With `nullable`, an optional property may be null instead.

    Raises `TypeError` for a schema that strict mode cannot express (a dict with free keys, a value of any type); the
    text names the place. `tighten` goes as far as it can instead.
    """
    made, obstacles = tighten(schema, nullable=nullable)
    if obstacles:
        raise TypeError(f"Strict mode cannot express this schema: {'; '.join(obstacles)}.")
    return made


def tighten(schema: Mapping[str, Any], *, nullable: bool = True) -> tuple[Schema, list[str]]:
    """Return a schema as near to the strict form as possible, and the obstacles: none if it is strict.

    Raises `TypeError` for a schema that refers to itself alone, which describes no value.
    """
    root = dict(schema)
    alone = {**hold_open(resolve(root, root)), **{name: one for name, one in root.items() if name != "$ref"}}
    work = _Strict(pruned(alone), nullable)
    made = work.walk(work.root, "$", frozenset({"#"}))
    if "$ref" in made:
        raise TypeError(f"This schema refers to itself alone: {made['$ref']}.")
    return pruned(made), work.obstacles


class _Strict:
    """Converts one schema to the strict form."""

    def __init__(self, root: Schema, nullable: bool) -> None:
        self.root = root
        self.nullable = nullable
        self.obstacles: list[str] = []

    def walk(self, schema: Any, path: str, within: frozenset[str]) -> Schema:
        """Return the strict form of a schema at a path, `within` the references that are expanded around it."""
        if not is_dict(schema):
            return self.blocked(path, "a value of any kind (name its type)", {})
        if "$ref" in schema:
            return self.reference(schema, path, within)
        if (merged := _merged(schema)) is not None:
            return self.walk(merged, path, within)
        made: Schema = {name: value for name, value in schema.items() if name in _KEPT}
        for word in ("$defs", "definitions"):
            if word in schema:
                inner = cast("dict[str, Any]", schema[word])
                made[word] = {name: self.walk(one, f"{path}.{word}.{name}", within) for name, one in inner.items()}
        variants = schema.get("anyOf", schema.get("oneOf"))
        if variants is not None:
            made["anyOf"] = [self.walk(one, f"{path}|{i}", within) for i, one in enumerate(variants)]
        self.values(schema, made, path)
        kinds = kinds_of(schema)
        if "object" in kinds or "properties" in schema:
            self.members(schema, made, path, within)
        if "array" in kinds or "items" in schema or "prefixItems" in schema:
            self.items(schema, made, path, within)
        self.say(schema, made)
        return made

    def blocked(self, path: str, what: str, made: Schema) -> Schema:
        self.obstacles.append(f"{what} at {path}")
        return made

    def reference(self, schema: Schema, path: str, within: frozenset[str]) -> Schema:
        """Keep a lone reference; expand one with keywords beside it, which override those of its target."""
        ref = cast("str", schema["$ref"])
        beside = {name: value for name, value in schema.items() if name not in ("$ref", "default")}
        if schema.get("default") is not None:
            beside["default"] = schema["default"]
        if not beside:
            resolve(schema, self.root)
            return {"$ref": ref}
        if ref in within:  # a recursive one could be expanded without end
            words = {"description": beside["description"]} if "description" in beside else {}
            return {"anyOf": [{"$ref": ref}], **words} if words else {"$ref": ref}
        return self.walk({**resolve(schema, self.root), **beside}, path, within | {ref})

    def values(self, schema: Schema, made: Schema, path: str) -> None:
        """Give listed values the type that strict mode requires; a schema without any restriction is an obstacle."""
        values = cast(
            "list[Any]", schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else []
        )
        if values and "type" not in schema:
            kinds = list(dict.fromkeys(_NAMES[type(value)] for value in values if type(value) in _NAMES))
            made["type"] = kinds[0] if len(kinds) == 1 else kinds
        if "allOf" in schema:
            made["allOf"] = schema["allOf"]
            self.blocked(path, "several schemas at once (allOf)", made)
        elif not values and not {"type", "anyOf", "oneOf", "properties", "items", "prefixItems"} & schema.keys():
            self.blocked(path, "a value of any kind (name its type)", made)
        for word in _UNSAYABLE:
            if word in schema:
                made[word] = schema[word]
                self.blocked(path, f"the keyword {word}", made)

    def members(self, schema: Schema, made: Schema, path: str, within: frozenset[str]) -> None:
        properties = cast("dict[str, Any] | None", schema.get("properties"))
        more = schema.get("additionalProperties")
        if is_dict(more) or (properties is None and more is not False):
            kept = self.walk(more, f"{path}.*", within) if is_dict(more) and more else more
            made["additionalProperties"] = True if kept is None else kept
            self.blocked(path, "an object with free keys (use a list of entries that have a key and a value)", made)
            if properties is None:
                return
        else:
            made["additionalProperties"] = False
        given = cast("list[str]", schema.get("required", []))
        made["properties"] = {
            name: self.member(one, f"{path}.{name}", within, name in given) for name, one in (properties or {}).items()
        }
        made["required"] = list(made["properties"])

    def member(self, schema: Any, path: str, within: frozenset[str], given: bool) -> Schema:
        made = self.walk(schema, path, within)
        if given or not self.nullable or not is_dict(schema) or may_be_null(schema, self.root):
            return made
        if "const" in made or len(made.get("enum", ())) == 1:  # a constant, as tags are, is always given
            return made
        words: Schema = {name: made.pop(name) for name in ("title", "description") if name in made}
        choices = made.pop("anyOf") if made.keys() == {"anyOf"} else [made]
        return {"anyOf": [*choices, {"type": "null"}], **words}

    def items(self, schema: Schema, made: Schema, path: str, within: frozenset[str]) -> None:
        """Convert a list; one with a type per position becomes a list of any of these types, of the same length."""
        places = cast("list[Any]", schema.get("prefixItems", ()))
        if not places:
            made["items"] = self.walk(schema.get("items"), f"{path}[]", within)
            return
        kinds = [self.walk(one, f"{path}[{i}]", within) for i, one in enumerate(places)]
        if schema.get("items", True) not in (True, False):
            kinds.append(self.walk(schema["items"], f"{path}[]", within))
        if any(one != kinds[0] for one in kinds):
            order = ", ".join(_kind_of(one) for one in kinds[: len(places)])
            made["description"] = f"{made.get('description', '')} (in this order: {order})".strip()
        apart = [one for i, one in enumerate(kinds) if one not in kinds[:i]]
        made["items"] = apart[0] if len(apart) == 1 else {"anyOf": apart}
        made.setdefault("minItems", len(places))
        if schema.get("items") is False:
            made.setdefault("maxItems", len(places))

    def say(self, schema: Schema, made: Schema) -> None:
        """Add the restrictions that were lost to the description."""
        if schema.get("format") in _FORMATS:
            made["format"] = schema["format"]
        lost = [words.format(schema[name]) for name, words in _WORDS.items() if name in schema and name not in made]
        if schema.get("uniqueItems"):
            lost.append("each item once")
        if schema.get("default") is None and "default" in schema:
            lost.remove(_WORDS["default"].format(None))
        if lost:
            made["description"] = f"{made.get('description', '')} ({'; '.join(lost)})".strip()


def _merged(schema: Schema) -> Schema | None:
    """Return a schema with the only part of its ``allOf`` merged in; `None` if that
    contradicts it, or is one of several."""
    only = schema["allOf"][0] if len(schema.get("allOf", ())) == 1 else None
    if not is_dict(only):
        return None
    rest = {name: value for name, value in schema.items() if name != "allOf"}
    clash = any(rest.get(name, value) != value for name, value in only.items() if name not in ("title", "description"))
    return None if clash else {**rest, **only}


def _kind_of(schema: Schema) -> str:
    """Name the type of a schema in a word."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind_of, schema["anyOf"]))
    return " or ".join(str(one) for one in kinds_of(schema))


# -------------------------------------------------------------------------------------------------- additions to
# msgspec's schema


def refine(kind: Any, schema: dict[str, Any], defs: dict[str, dict[str, Any]]) -> None:
    """Add details for the model to msgspec's schema, in place: that a string is a date, the names of a tuple's items.

    Parts of the schema that do not correspond to the type are left as they are.
    """
    _Refinement(defs).add(mi.type_info(kind), schema)


class _Refinement:
    """Walks a schema and its definitions in parallel with the type from which they were made."""

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
    if node.tz is False:  # the formats are those of RFC 3339, which requires an offset
        place.pop("format", None)
        place["description"] = f"{place.get('description', '')} (as {example}, without offset)".strip()
    else:
        place.setdefault("format", kind)


def _parts(node: Any, place: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the types inside a type, each with its schema, in the order in which msgspec writes them."""
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
        if len(structs) > 1:  # they form a group, alone or after the others
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


# -------------------------------------------------------------------------------------------------- annotations

_NUMBERS = ("gt", "ge", "lt", "le", "multiple_of")
_LIMITS = (*_NUMBERS, "min_length", "max_length", "pattern")
_TEXTS = ("title", "description")


class _Fits(type):
    """Accepts any value as an instance: msgspec checks the type of a value that pydantic has decoded."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def adapted(kind: Any) -> Any:
    """Return a class that represents a type decoded by pydantic wherever msgspec accepts a type."""
    return _Fits("Validated", (), {"__pydantic_validator__": None, "__adapted__": kind})


def with_limits(kind: Any) -> Any:
    """Return a type with limits and descriptions of annotated_types and pydantic's `Field` as msgspec's `Meta`."""
    notes: tuple[Any, ...] = getattr(kind, "__metadata__", ())
    if notes:
        inner = with_limits(kind.__origin__)
        limits = _limits_in(notes)
        if not limits and inner is kind.__origin__:
            return kind
        kept = [note for note in notes if isinstance(note, msgspec.Meta) or not _limits_in((note,))]
        return Annotated[(inner, *kept, msgspec.Meta(**limits))] if limits else Annotated[(inner, *notes)]
    args, origin = get_args(kind), get_origin(kind)
    if not args or origin is Literal:
        return kind
    made: tuple[Any, ...] = tuple(with_limits(one) for one in args)  # a Callable's list of parameters stays as it is
    if all(one is other for one, other in zip(made, args, strict=True)):
        return kind
    if origin in (Union, types.UnionType):
        return Union[made]  # noqa: UP007 (made at run time)
    return kind.copy_with(made) if hasattr(kind, "copy_with") else origin[made]


def _limits_in(notes: tuple[Any, ...]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for note in notes:
        for one in (note, *_inside(note)):
            if not isinstance(one, msgspec.Meta):
                limits |= {name: value for name in (*_LIMITS, *_TEXTS) if (value := _said(one, name)) is not None}
    return limits


def _inside(note: Any) -> tuple[Any, ...]:
    """Return the annotations inside pydantic's `Field`."""
    inner: Any = getattr(note, "metadata", None)
    return tuple(cast("Any", inner)) if isinstance(inner, (list, tuple)) else ()


def _said(note: Any, name: str) -> Any:
    value = getattr(note, name, None)
    if name in _NUMBERS:
        return value if isinstance(value, (int, float)) else None
    if name in ("min_length", "max_length"):
        return value if isinstance(value, int) else None
    return value if isinstance(value, str) else None


def has_validators(kind: Any) -> bool:
    """Return whether annotations in a type, or in the fields of its classes, have to be run by pydantic.

    Raises `TypeError` if it cannot run them: it is not imported, or the field belongs to a msgspec Struct.
    """
    found = _Search().any(kind)
    if found and "pydantic" not in sys.modules:
        raise TypeError(f"The annotation {found} is run by pydantic only; use msgspec.Meta, or import pydantic.")
    return bool(found)


class _Search:
    def __init__(self) -> None:
        self._seen: set[Any] = set()

    def any(self, kind: Any) -> str:
        """Return the name of the first annotation found, "" without any."""
        for note in getattr(kind, "__metadata__", ()):
            if _validates(note):
                return type(note).__name__
        inner = [kind.__origin__] if hasattr(kind, "__metadata__") else [*self._parts(kind)]
        return next((found for one in inner if (found := self.any(one))), "") or self._fields(kind)

    def _parts(self, kind: Any) -> Iterator[Any]:
        if get_origin(kind) is not Literal:
            yield from get_args(kind)

    def _fields(self, kind: Any) -> str:
        cls: Any = get_origin(kind) or kind
        if not inspect.isclass(cls) or cls in self._seen or hasattr(cls, "__pydantic_validator__"):
            return ""
        self._seen.add(cls)
        struct = issubclass(cls, msgspec.Struct)
        of_typing = hasattr(cls, "__total__") or hasattr(cls, "_field_defaults")  # a TypedDict, a NamedTuple
        if not (struct or dataclasses.is_dataclass(cls) or of_typing):
            return ""
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except (NameError, AttributeError, TypeError, SyntaxError):  # raised when the schema is made
            return ""
        for name, one in hints.items():
            # A limit in a class cannot be passed to msgspec: the class exists already.
            found = self.any(one) or next((type(note).__name__ for note in _foreign_limits(one)), "")
            if found and struct:
                raise TypeError(
                    f"The field {name!r} of the Struct {cls.__name__} has the annotation {found}, which msgspec does "
                    "not run; use msgspec.Meta, or check it in __post_init__."
                )
            if found:
                return found
        return ""


def _foreign_limits(kind: Any) -> Iterator[Any]:
    """Yield the annotations anywhere in a type that limit values and are not msgspec's."""
    for note in getattr(kind, "__metadata__", ()):
        if not isinstance(note, msgspec.Meta) and any(name in _LIMITS for name in _limits_in((note,))):
            yield note
    for one in get_args(kind) if get_origin(kind) is not Literal else ():
        yield from _foreign_limits(one)


def _validates(note: Any) -> bool:
    """Return whether an annotation validates: it does more than describe a value, or limit it as msgspec can."""
    library = type(note).__module__.partition(".")[0]
    if isinstance(note, (msgspec.Meta, str, type)):
        return False
    if hasattr(note, "__get_pydantic_core_schema__"):
        return True
    if library == "annotated_types":
        return type(note).__name__ in ("Predicate", "Timezone") or any(
            getattr(note, name, None) is not None and _said(note, name) is None for name in _LIMITS
        )
    if library not in ("pydantic", "pydantic_core"):
        return False
    if hasattr(note, "metadata"):  # a Field
        return any(map(_validates, _inside(note)))
    said = {name for name, value in getattr(note, "__dict__", {}).items() if value is not None}
    return not said <= {*_LIMITS, *_TEXTS}
