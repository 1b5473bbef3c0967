"""Write the request bodies of the served operations as JSON schemas: `server/request_schemas.py`, without prose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from .ir import GeneratorError, Operation
from .source import HEADER

Json = Mapping[str, Any]
Node = dict[str, Any]

NAME = "server/request_schemas.py"
_PREFIX = "#/components/schemas/"
_LIMITS = ("minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern")
_NULL: Node = {"type": "null"}


class Schemas:
    """Reduce schemas of the description to the parts that a validator needs, and collect those that others refer to.

    `nullable` becomes a type, parts of an `allOf` become one object, and unions whose members a property tells apart
    become ``{"x-discriminator": name, "x-mapping": {value: schema}}``.
    """

    def __init__(self, document: Json, corrections: dict[str, Any]) -> None:
        self._components: Json = document["components"]["schemas"]
        self._corrections = corrections  # corrections not applied yet
        self.definitions: dict[str, Node] = {}

    def node(self, schema: Json | bool) -> Node:
        """Return the reduced schema."""
        if isinstance(schema, bool):
            return {}
        node = self._bare(schema)
        if schema.get("nullable") is True and node and not self._takes_null(node):
            return {"anyOf": [node, _NULL]} if "type" not in node else {**node, "type": [*_kinds(node), "null"]}
        return node

    def body(self, operation: str, schema: Json) -> Node:
        """Return the schema of an operation's body, an object."""
        node = self._corrected(operation, self.resolved(self.node(schema)))
        return {**node, "required": [name for name in node["properties"] if name in self._required(schema)]}

    def _required(self, schema: Json) -> set[str]:
        """Return all names that an object requires, including nullable ones."""
        if "$ref" in schema:
            return self._required(self._components[str(schema["$ref"]).removeprefix(_PREFIX)])
        found = set(schema.get("required", ()))
        return found.union(*(self._required(part) for part in schema.get("allOf", ())))

    def _bare(self, schema: Json) -> Node:
        if "$ref" in schema:
            return self._reference(str(schema["$ref"]).removeprefix(_PREFIX))
        if "allOf" in schema:
            return self._all_of(schema)
        for word in ("oneOf", "anyOf"):
            if any("required" not in one or len(one) > 1 for one in schema.get(word, ())):
                return self._union([self.node(one) for one in schema[word]], {**schema, word: ()})
        if schema.get("format") == "binary":
            return {"type": "file"}
        node: Node = {}
        if "type" in schema:
            node["type"] = schema["type"]
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else list(schema["enum"])
            node["enum"] = [*values, None] if schema.get("nullable") is True and None not in values else values
        node |= {word: schema[word] for word in _LIMITS if word in schema}
        if "items" in schema:
            node["items"] = self.node(schema["items"])
        if "properties" in schema:
            node["type"] = "object"
            node["properties"] = {name: self.node(one) for name, one in schema["properties"].items()}
        properties = cast("Node", node.get("properties", {}))
        # Where null stands for "not given", what may be null may be left out as well.
        required = [one for one in schema.get("required", ()) if not self._takes_null(properties.get(one, {}))]
        if required:
            node["required"] = required
        if isinstance(schema.get("additionalProperties"), dict):
            node["additionalProperties"] = self.node(schema["additionalProperties"])
        return {name: value for name, value in node.items() if value not in ({}, [])}

    def _reference(self, name: str) -> Node:
        if name not in self._components:
            raise GeneratorError(f"the description refers to {name!r}, which it does not have")
        if name not in self.definitions:
            self.definitions[name] = {}  # a schema may refer to itself
            self.definitions[name] = self._corrected(name, self.node(self._components[name]))
        found = self.definitions[name]
        # A schema as short as a reference replaces it.
        return found if found and set(found) <= {"type"} else {"$ref": f"#/$defs/{name}"}

    def _corrected(self, name: str, node: Node) -> Node:
        """Return the object with the corrections for its fields; ``""`` stands for itself."""
        words: dict[str, Node] = self._corrections.pop(name, {})
        node = {**node, **({"properties": dict(node["properties"])} if "properties" in node else {})}
        for field, more in words.items():
            if not field:
                node = {**self.resolved(node), **more}
            elif field not in node.get("properties", {}):
                raise GeneratorError(f"served.toml corrects {name}.{field}, which does not exist")
            elif "optional" in more:
                node["required"] = [one for one in node["required"] if one != field]
            else:
                node["properties"][field] = {**self.resolved(node["properties"][field]), **more}
        return node

    def resolved(self, node: Node) -> Node:
        while "$ref" in node:
            node = self.definitions[str(node["$ref"]).removeprefix("#/$defs/")]
        return node

    def _all_of(self, schema: Json) -> Node:
        parts = [self.resolved(self.node(part)) for part in schema["allOf"]]
        if "properties" in schema:
            parts.append(self.node({name: value for name, value in schema.items() if name != "allOf"}))
        parts = [part for part in parts if part]
        if len(parts) == 1:
            return parts[0]
        merged: Node = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            if not set(part) <= {"type", "properties", "required", "additionalProperties"}:
                raise GeneratorError(f"a schema to be checked has an allOf of {json.dumps(part)[:80]}")
            merged["properties"] |= part.get("properties", {})
            merged["required"] += [name for name in part.get("required", ()) if name not in merged["required"]]
        merged["required"] += [name for name in schema.get("required", ()) if name not in merged["required"]]
        return {name: value for name, value in merged.items() if value}

    def _union(self, members: list[Node], schema: Json) -> Node:
        if any(not member for member in members):
            return {}  # one member accepts any value
        flat: list[Node] = []
        for member in members:
            parts = member["anyOf"] if set(member) == {"anyOf"} else [member]
            flat += [part for part in parts if part not in flat]
        if {"type": "string"} in flat:  # beside any string, a list of well-known strings restricts nothing
            flat = [one for one in flat if one == {"type": "string"} or not self._is_text(one)]
        objects = [one for one in flat if "properties" in self.resolved(one)]
        mapping = self._mapping(objects)
        if mapping is not None:
            flat = [*(one for one in flat if one not in objects), mapping]
        return flat[0] if len(flat) == 1 else {"anyOf": flat}

    def _takes_null(self, node: Node) -> bool:
        node = self.resolved(node)
        return "null" in _kinds(node) if "type" in node else any(map(self._takes_null, node.get("anyOf", ())))

    def _is_text(self, node: Node) -> bool:
        return self.resolved(node).get("type") == "string"

    def _mapping(self, objects: list[Node]) -> Node | None:
        """Return the union told apart by a property that each object requires with values of its own."""
        if len(objects) < 2:
            return None
        resolved = [self.resolved(one) for one in objects]
        for name in resolved[0].get("required", ()):
            mapping: dict[str, Node] = {}
            values = 0
            for one, full in zip(objects, resolved, strict=True):
                tags = self.resolved(full["properties"].get(name, {})).get("enum", ())
                if name not in full.get("required", ()) or not tags or not all(isinstance(tag, str) for tag in tags):
                    break
                values += len(tags)
                mapping |= dict.fromkeys(tags, one)
            else:
                if len(mapping) == values:
                    return {"type": "object", "x-discriminator": name, "x-mapping": mapping}
        return None


def _kinds(node: Node) -> list[str]:
    kinds = node["type"]
    return cast("list[str]", kinds) if isinstance(kinds, list) else [str(kinds)]


def module(document: Json, operations: Iterable[Operation], table: Mapping[str, Any]) -> str:
    """Return the text of the module."""
    by_name = {operation.name: operation for operation in operations}
    corrections: dict[str, Any] = dict(table.get("corrections", {}))
    schemas = Schemas(document, corrections)
    bodies: dict[str, Node] = {}
    for name in table["operations"]:
        if name not in by_name:
            raise GeneratorError(f"served.toml names {name!r}, which is not an operation")
        operation = by_name[name]
        content = document["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]
        kind = "multipart/form-data" if "multipart/form-data" in content else "application/json"
        bodies[name] = schemas.body(name, content[kind]["schema"])
    if corrections:
        raise GeneratorError(f"served.toml corrects {min(corrections)!r}, which is not served")
    return _text(bodies, {name: node for name, node in schemas.definitions.items() if name in _used(bodies, schemas)})


def _used(bodies: dict[str, Node], schemas: Schemas) -> set[str]:
    """Return the names of the definitions that the bodies refer to."""
    found: set[str] = set()
    todo: list[Any] = list(bodies.values())
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            node = cast("Node", one)
            name = str(node.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in found:
                found.add(name)
                todo.append(schemas.definitions[name])
            todo += node.values()
        elif isinstance(one, list):
            todo += one
    return found


def _text(bodies: dict[str, Node], definitions: dict[str, Node]) -> str:
    lines = [
        HEADER + '"""The request bodies of the served operations as JSON schemas, each as text until it is used."""\n',
        "from __future__ import annotations\n",
        '__all__ = ["BODIES", "DEFINITIONS"]\n',
    ]
    for name, table in (("BODIES", bodies), ("DEFINITIONS", definitions)):
        lines.append(f"{name}: dict[str, str] = {{")
        for key in sorted(table):
            lines.append(f'    "{key}": (')
            text = json.dumps(table[key], separators=(",", ":"), ensure_ascii=True)
            lines += [f"        {text[place : place + 96]!r}" for place in range(0, len(text), 96)]
            lines.append("    ),")
        lines.append("}\n")
    return "\n".join(lines)
