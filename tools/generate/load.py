"""Read the OpenAPI description into the types of `ir`: references, unions, `allOf`, `nullable` left over from 3.0."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .ir import (
    ANY,
    FILE,
    NONE,
    STR,
    Alias,
    Array,
    Enum,
    Field,
    GeneratorError,
    Map,
    Operation,
    Param,
    Ref,
    Scalar,
    Shape,
    Type,
    union,
)

Json = Mapping[str, Any]

_SCALARS = {"string": STR, "integer": Scalar("int"), "number": Scalar("float"), "boolean": Scalar("bool"), "null": NONE}
_SHAPING = (
    "type",
    "$recursiveRef",
    "properties",
    "items",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "additionalProperties",
)


class Description:
    """The description, read lazily: `shapes` and `aliases` are filled as types are requested."""

    def __init__(self, document: Json, aliases: Collection[str] = ()) -> None:
        self.document = document
        self._aliases = aliases  # keys of inline types that get a name
        self.schemas: Json = document["components"]["schemas"]
        self.named: dict[str, Shape | Alias] = {}
        self.operation_keys: set[str] = set()  # "op chat.completions.create"
        self._building: set[str] = set()

    @classmethod
    def read(cls, path: Path, aliases: Collection[str] = ()) -> Description:
        return cls(json.loads(path.read_text(encoding="utf-8")), aliases)

    # -- types ---------------------------------------------------------------------------------------------------------

    def component(self, key: str) -> Ref:
        """Return a reference to a component, reading the component first if necessary."""
        if key not in self.schemas:
            raise GeneratorError(f"the description refers to {key!r}, which it does not have")
        if key not in self.named and key not in self._building:
            self._building.add(key)
            type_ = self.type(self.schemas[key], key)
            if type_ != Ref(key):
                self.named[key] = Alias(key, type_)
            self._building.discard(key)
        return Ref(key)

    def type(self, schema: Json | bool, key: str) -> Type:
        """Return the type of `schema`; its inline objects become shapes named by `key`."""
        if isinstance(schema, bool):
            return ANY
        type_ = self._bare(schema, key)
        if key in self._aliases and key not in self.schemas and key not in self.named:
            self.named[key] = Alias(key, type_)
            type_ = Ref(key)
        return union([type_, NONE]) if schema.get("nullable") is True else type_

    def _bare(self, schema: Json, key: str) -> Type:
        if "$ref" in schema:
            return self.component(str(schema["$ref"]).rsplit("/", 1)[1])
        if "$recursiveRef" in schema:
            return Ref(key.partition(".")[0])
        if "allOf" in schema:
            return self._all_of(schema, key)
        for word in ("oneOf", "anyOf"):
            members = [one for one in schema.get(word, ()) if any(name in one for name in _SHAPING)]
            if members:
                return self._one_of(members, schema, key)
        if "const" in schema:
            return Enum((schema["const"],))
        if "enum" in schema:
            values = [value for value in schema["enum"] if value is not None]
            return union([Enum(tuple(values)), NONE] if None in schema["enum"] else [Enum(tuple(values))])
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds: list[str] = list(kind)  # pyright: ignore[reportUnknownArgumentType]
            return union([self._bare({**schema, "type": one}, key) for one in kinds])
        if kind == "array":
            return Array(self.type(schema["items"], key + "[]")) if "items" in schema else Array(ANY)
        if kind == "object" or "properties" in schema:
            return self._object(schema, key)
        if kind == "string" and schema.get("format") == "binary":
            return FILE
        return _SCALARS[kind] if kind is not None else ANY

    def _one_of(self, members: list[Json], schema: Json, key: str) -> Type:
        tag = schema.get("discriminator", {}).get("propertyName", "")
        if len(members) == 1:
            return self.type(members[0], key)
        return union([self.type(member, f"{key}|{index}") for index, member in enumerate(members)], tag)

    def _object(self, schema: Json, key: str) -> Type:
        properties: Json = schema.get("properties", {})
        if not properties:
            values = schema.get("additionalProperties", True)
            return Map(ANY if isinstance(values, bool) else self.type(values, key + "{}"))
        shape = Shape(key)
        self.named[key] = shape
        required = schema.get("required", ())
        for name, value in properties.items():
            shape.fields[name] = Field(name, self.type(value, f"{key}.{name.replace('.', '-')}"), name in required)
        return Ref(key)

    def _all_of(self, schema: Json, key: str) -> Type:
        """Merge the parts into one object; a single part stays itself; one that is only `nullable` adds `None`."""
        parts = [part for part in schema["allOf"] if any(name in part for name in _SHAPING)]
        nothing = any(part.get("nullable") is True for part in schema["allOf"])
        if len(parts) == 1 and "properties" not in schema:
            type_ = self.type(parts[0], key)
            return union([type_, NONE]) if nothing else type_
        shape = Shape(key)
        self.named[key] = shape
        required: set[str] = set(schema.get("required", ()))
        whole = [*parts, {"type": "object", "properties": schema["properties"]}] if "properties" in schema else parts
        for part in whole:
            for name, value, needed in self._fields(part, key):
                shape.fields[name] = value
                if needed:
                    required.add(name)
        for one in shape.fields.values():
            one.required = one.name in required
        return union([Ref(key), NONE]) if nothing else Ref(key)

    def _fields(self, part: Json, key: str) -> list[tuple[str, Field, bool]]:
        if "$ref" in part:
            name = str(part["$ref"]).rsplit("/", 1)[1]
            self.component(name)
            shape = self.shape(Ref(name))
            if shape is None:
                raise GeneratorError(f"{key}: allOf with {name}, which is not an object")
            return [(f.name, Field(f.name, f.type, f.required), f.required) for f in shape.fields.values()]
        if "allOf" in part:
            return [found for piece in part["allOf"] for found in self._fields(piece, key)]
        required = part.get("required", ())
        return [
            (name, Field(name, self.type(value, f"{key}.{name.replace('.', '-')}"), False), name in required)
            for name, value in part.get("properties", {}).items()
        ]

    def shape(self, type_: Type) -> Shape | None:
        """Return the object behind a reference, through aliases; `None` if it is not an object."""
        while isinstance(type_, Ref):
            found = self.named[type_.key]
            if isinstance(found, Shape):
                return found
            type_ = found.type
        return None

    def bare(self, type_: Type) -> Type:
        """Return `type_` with aliases at its top resolved."""
        while isinstance(type_, Ref) and isinstance(found := self.named[type_.key], Alias):
            type_ = found.type
        return type_

    # -- operations ----------------------------------------------------------------------------------------------------

    def operations(self, names: Mapping[str, str]) -> list[Operation]:
        """Return all operations. `names` maps each operation id to a public name; each name must be used."""
        found: dict[str, Operation] = {}
        for path, item in self.document["paths"].items():
            for method, op in item.items():
                if method not in ("get", "post", "put", "patch", "delete"):
                    continue
                if op["operationId"] not in names:
                    raise GeneratorError(f"{op['operationId']} ({method.upper()} {path}) has no name in endpoints.toml")
                found[op["operationId"]] = self._operation(names[op["operationId"]], method, path, op, item)
        for id_, name in names.items():
            if id_ not in found:
                raise GeneratorError(f"endpoints.toml names {name} = {id_!r}, which the description does not have")
        self.operation_keys = {"op " + op.name for op in found.values()}
        for name in self.schemas:
            self.component(name)
        return sorted(found.values(), key=lambda op: op.name)

    def _operation(self, name: str, method: str, path: str, op: Json, item: Json) -> Operation:
        key = "op " + name.replace(".", " ")
        params = [
            Param(
                one["name"],
                one["in"],
                self.type(one.get("schema", {}), f"{key}.{one['name']}"),
                one["in"] == "path" or bool(one.get("required")),
            )
            for one in [*item.get("parameters", ()), *op.get("parameters", ())]
        ]
        content = op.get("requestBody", {}).get("content", {})
        kind = next((k for k in ("multipart/form-data", "application/json") if k in content), "")
        body = self.type(content[kind]["schema"], key) if kind else None
        answer: Type | None = None
        for status in ("200", "201"):
            schema = op["responses"].get(status, {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is not None:
                answer = self.type(schema, key + " answer")
        return Operation(
            name,
            op["operationId"],
            method.upper(),
            path,
            params,
            body,
            {"": "none", "application/json": "json"}.get(kind, "multipart"),
            answer,
            bool(op.get("deprecated")),
            *_parts(content),
        )


def _parts(content: Json) -> tuple[tuple[tuple[str, str], ...], str]:
    """Return the media types of a form's fields, and the field whose type the whole body may have."""
    encoding: Json = content.get("multipart/form-data", {}).get("encoding", {})
    parts = tuple((name, str(how["contentType"])) for name, how in encoding.items())
    texts = [media for media, how in content.items() if how.get("schema", {}).get("type") == "string"]
    return parts, next((name for name, media in parts if media in texts), "")


__all__ = ["Description"]
