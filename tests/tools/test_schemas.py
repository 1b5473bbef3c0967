"""Request bodies as schemas: reduced to facts, and corrections that match nothing are errors."""

from __future__ import annotations

from typing import Any

import pytest

from generate.ir import GeneratorError
from generate.schemas import Schemas

COMPONENTS: dict[str, Any] = {
    "Name": {"type": "string", "description": "prose"},
    "Cat": {
        "type": "object",
        "description": "prose",
        "properties": {
            "kind": {"type": "string", "enum": ["cat"], "description": "prose"},
            "lives": {"type": "integer", "minimum": 1, "maximum": 9, "nullable": True, "default": 9},
            "name": {"$ref": "#/components/schemas/Name"},
        },
        "required": ["kind", "lives", "name"],
    },
    "Dog": {
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": ["dog"]}, "friend": {"$ref": "#/components/schemas/Pet"}},
        "required": ["kind"],
    },
    "Pet": {"oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}]},
    "Body": {
        "allOf": [
            {"$ref": "#/components/schemas/Dog"},
            {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]},
        ]
    },
}


def schemas(**corrections: Any) -> Schemas:
    return Schemas({"components": {"schemas": COMPONENTS}}, corrections)


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_facts_alone() -> None:
    """Prose and defaults go, short references are written out, and what may be null need not be given."""
    made = schemas()
    assert made.node(ref("Cat")) == {"$ref": "#/$defs/Cat"}
    assert made.definitions["Cat"] == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["cat"]},
            "lives": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
            "name": {"type": "string"},
        },
        "required": ["kind", "name"],
    }


def test_unions() -> None:
    """Objects that a property tells apart are looked up by it; known strings beside any string say nothing."""
    made = schemas()
    pets = {"cat": {"$ref": "#/$defs/Cat"}, "dog": {"$ref": "#/$defs/Dog"}}
    assert made.node(ref("Pet")) == {"$ref": "#/$defs/Pet"}
    assert made.definitions["Pet"] == {"type": "object", "x-discriminator": "kind", "x-mapping": pets}
    assert made.definitions["Dog"]["properties"]["friend"] == {"$ref": "#/$defs/Pet"}
    strings = {"anyOf": [{"type": "string"}, {"type": "string", "enum": ["a"]}], "nullable": True}
    assert made.node(strings) == {"type": ["string", "null"]}
    assert made.node({"anyOf": [{"type": "string"}, {}]}) == {}
    mixed = {"anyOf": [{"type": "string"}, ref("Cat"), ref("Dog")]}
    assert made.node(mixed)["anyOf"][0] == {"type": "string"}
    assert made.node(mixed)["anyOf"][1]["x-discriminator"] == "kind"


def test_bodies() -> None:
    """Parts of an `allOf` become one object; files are a type; corrections add keywords, or make fields optional."""
    made = schemas(send={"kind": {"maxLength": 5}}, Cat={"name": {"optional": True}, "lives": {"minimum": 7}})
    body = made.body("send", ref("Body"))
    assert body["required"] == ["kind", "file"]
    assert body["properties"]["file"] == {"type": "file"}
    assert body["properties"]["kind"] == {"type": "string", "enum": ["dog"], "maxLength": 5}
    assert made.definitions["Cat"]["required"] == ["kind"]
    assert made.definitions["Cat"]["properties"]["lives"]["minimum"] == 7


def test_corrections_that_match_nothing() -> None:
    with pytest.raises(GeneratorError, match=r"corrects Cat\.tail, which does not exist"):
        schemas(Cat={"tail": {"minimum": 1}}).node(ref("Cat"))
    with pytest.raises(GeneratorError, match="'Bird', which it does not have"):
        schemas().node(ref("Bird"))
