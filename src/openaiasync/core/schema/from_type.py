"""JSON schemas of Python types, and the strict form that structured outputs and strict tools demand.

The strict form (OpenAI's guide "Structured model outputs", supported schemas): every object closed and every property
required, what may be left out nullable instead; no defaults, no composition but ``anyOf``; nothing beside a ``$ref``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from .jsonschema import Schema, hold_open, is_schema, kinds_of, may_be_null, pruned, resolve
from .refine import refine

__all__ = ["adapter_of", "adapter_schema", "is_pydantic", "json_schema", "strict", "tighten"]

_KEPT = frozenset(
    {
        "type",
        "enum",
        "const",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "title",
        "description",
    }
)
_FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"])
# Restrictions that strict mode has no keyword for are said in words; the answer is held to them when it is decoded.
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
    "patternProperties",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "contains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
)
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


# -------------------------------------------------------------------- of a type


def is_pydantic(kind: Any) -> bool:
    """Whether a type is a model or dataclass of pydantic, or `adapted`; never imports pydantic."""
    return isinstance(kind, type) and "pydantic" in sys.modules and hasattr(kind, "__pydantic_validator__")


def adapter_of(kind: Any) -> Any:
    """Pydantic's ``TypeAdapter`` for a type that holds pydantic models. `TypeError` if it can make none."""
    stands = getattr(kind, "__adapted__", None)  # see `adapted`
    if stands is not None and "__adapter__" not in vars(kind):
        kind.__adapter__ = adapter_of(stands)
    try:
        return sys.modules["pydantic"].TypeAdapter(kind) if stands is None else kind.__adapter__
    except (RuntimeError, NameError, TypeError, AttributeError) as error:  # all that its own errors derive from
        raise _no_schema(kind, error) from error


def adapter_schema(kind: Any, adapter: Any) -> Schema:
    """The JSON schema of a type as pydantic makes it. `TypeError` if it can make none."""
    try:
        return cast("Schema", adapter.json_schema())
    except (RuntimeError, NameError, TypeError) as error:
        raise _no_schema(kind, error) from error


def json_schema(kind: Any) -> Schema:
    """The JSON schema of a type as msgspec, or for pydantic's own types pydantic, makes it; references in ``$defs``.

    Raises `TypeError` for a type of which none can be made; the text says what to change.
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
    return TypeError(f"No JSON schema can be made of {_called(kind)}: {_reason(error)}")


def _called(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and not hasattr(kind, "__args__") else repr(kind)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, NameError):
        return f"{lines[0]}. Types that annotations name must be found from the type's own module."
    if len(lines) > 1 and lines[-1].startswith("type "):
        return (
            f"{lines[-1]}. Use str, int, float, bool, None, list, dict, Literal, Enum, datetime, a Struct, dataclass, "
            "TypedDict or NamedTuple of these, or a pydantic model."
        )
    return lines[0] if lines else type(error).__name__


# -------------------------------------------------------------------- the strict form


def strict(schema: Mapping[str, Any], *, nullable: bool = True) -> Schema:
    """A schema in the strict form. With `nullable`, a property that need not be given may be null instead.

    Raises `TypeError` where strict mode cannot say what the schema says (a dict with free keys, a value of any type);
    the text names the place. `tighten` goes as far as it can instead.
    """
    made, obstacles = tighten(schema, nullable=nullable)
    if obstacles:
        raise TypeError(f"Strict mode cannot express this schema: {'; '.join(obstacles)}.")
    return made


def tighten(schema: Mapping[str, Any], *, nullable: bool = True) -> tuple[Schema, list[str]]:
    """A schema as near to the strict form as it gets, and what stands in the way: empty if it is strict."""
    root = dict(schema)
    alone = {**hold_open(resolve(root, root)), **{name: one for name, one in root.items() if name != "$ref"}}
    work = _Strict(pruned(alone), nullable)
    made = work.walk(work.root, "$", frozenset({"#"}))
    return pruned(made), work.obstacles


class _Strict:
    """One schema on its way into the strict form."""

    def __init__(self, root: Schema, nullable: bool) -> None:
        self.root = root
        self.nullable = nullable
        self.obstacles: list[str] = []

    def walk(self, schema: Any, path: str, within: frozenset[str]) -> Schema:
        """The strict form of a schema at a path, `within` the references that were written out around it."""
        if not is_schema(schema):
            return self.blocked(path, "a value of any kind (name its type)", {})
        if "$ref" in schema:
            return self.reference(schema, path, within)
        if len(cast("list[Any]", schema.get("allOf", ()))) == 1:
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            return self.walk({**rest, **schema["allOf"][0]}, path, within)
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
        """A reference stays when it stands alone; else what it points to is written out, its neighbours winning."""
        ref = cast("str", schema["$ref"])
        beside = {name: value for name, value in schema.items() if name not in ("$ref", "default")}
        if schema.get("default") is not None:
            beside["default"] = schema["default"]
        if not beside:
            resolve(schema, self.root)
            return {"$ref": ref}
        if ref in within:  # it would be written out for ever
            words = {"description": beside["description"]} if "description" in beside else {}
            return {"anyOf": [{"$ref": ref}], **words} if words else {"$ref": ref}
        return self.walk({**resolve(schema, self.root), **beside}, path, within | {ref})

    def values(self, schema: Schema, made: Schema, path: str) -> None:
        """Listed values get the type that strict mode wants to see; a schema that says nothing is refused."""
        values = cast(
            "list[Any]", schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else []
        )
        if values and "type" not in schema:
            kinds = list(dict.fromkeys(_NAMES[type(value)] for value in values if type(value) in _NAMES))
            made["type"] = kinds[0] if len(kinds) == 1 else kinds
        if not values and not {"type", "anyOf", "oneOf", "properties", "items", "prefixItems"} & schema.keys():
            several = "allOf" in schema
            self.blocked(
                path, "several schemas at once (allOf)" if several else "a value of any kind (name its type)", made
            )
            if several:
                made["allOf"] = schema["allOf"]
        for word in _UNSAYABLE:
            if word in schema:
                made[word] = schema[word]
                self.blocked(path, f"the keyword {word}", made)

    def members(self, schema: Schema, made: Schema, path: str, within: frozenset[str]) -> None:
        properties = cast("dict[str, Any] | None", schema.get("properties"))
        more = schema.get("additionalProperties")
        if is_schema(more) or (properties is None and more is not False):
            kept = self.walk(more, f"{path}.*", within) if is_schema(more) and more else more
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
        if given or not self.nullable or not is_schema(schema) or may_be_null(schema, self.root):
            return made
        if "const" in made or len(made.get("enum", ())) == 1:  # what can have but one value, as tags do, is given
            return made
        words: Schema = {name: made.pop(name) for name in ("title", "description") if name in made}
        choices = made.pop("anyOf") if made.keys() == {"anyOf"} else [made]
        return {"anyOf": [*choices, {"type": "null"}], **words}

    def items(self, schema: Schema, made: Schema, path: str, within: frozenset[str]) -> None:
        """A list; one whose places have types of their own becomes a list of any of them, of the right length."""
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
        """Add to the description what was lost."""
        if schema.get("format") in _FORMATS:
            made["format"] = schema["format"]
        lost = [words.format(schema[name]) for name, words in _WORDS.items() if name in schema and name not in made]
        if schema.get("uniqueItems"):
            lost.append("each item once")
        if schema.get("default") is None and "default" in schema:
            lost.remove(_WORDS["default"].format(None))
        if lost:
            made["description"] = f"{made.get('description', '')} ({'; '.join(lost)})".strip()


def _kind_of(schema: Schema) -> str:
    """A schema in a word."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind_of, schema["anyOf"]))
    return " or ".join(str(one) for one in kinds_of(schema))
