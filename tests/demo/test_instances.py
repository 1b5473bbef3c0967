"""Instances fit their schema, and are filled with what the prompt has to offer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.demo.instances import Filler, as_json, instance_of
from openaiasync.server.errors import HTTPError

TEXT = (
    "Judy lives in New York, has 3 cats and 2.5 gardens. "
    "Write to judy@example.com or https://example.com/x on 2026-03-14."
)


def made(schema: dict[str, Any], text: str = TEXT) -> Any:
    return instance_of(schema, Filler(text))


def fits(schema: Any, value: Any) -> bool:
    """A small validator, written from the JSON Schema specification and apart from the maker."""
    if isinstance(schema, bool):
        return schema
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = schema.get("type")
    if kind == "integer" and (isinstance(value, bool) or not isinstance(value, int)):
        return False
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    if kind in kinds and not isinstance(value, kinds[kind]):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            return False
        if value <= schema.get("exclusiveMinimum", value - 1) or value >= schema.get("exclusiveMaximum", value + 1):
            return False
        if "multipleOf" in schema and abs(value / schema["multipleOf"] - round(value / schema["multipleOf"])) > 1e-6:
            return False
    if isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return False
        return all(fits(schema.get("items", {}), item) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        if not set(schema.get("required", ())) <= set(value):
            return False
        if schema.get("additionalProperties") is False and not set(value) <= set(properties):
            return False
        return all(fits(properties.get(name, {}), item) for name, item in value.items())
    return True


bounds = st.integers(-50, 50)
numbers = st.builds(
    lambda kind, low, more, exclusive: {
        "type": kind,
        ("exclusiveMinimum" if exclusive else "minimum"): low,
        ("exclusiveMaximum" if exclusive else "maximum"): low + more,
    },
    st.sampled_from(["integer", "number"]), bounds, st.integers(2, 40), st.booleans(),
)  # fmt: skip
leaves = st.one_of(
    numbers,
    st.builds(lambda low, step: {"type": "integer", "minimum": low, "multipleOf": step}, bounds, st.integers(1, 7)),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": ["a", 1, None]}, {"const": [1]}, {}, True]),
)
names = st.text("abcdefg", min_size=1, max_size=4)


def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(names, inner, max_size=4).map(
        lambda properties: {
            "type": "object", "properties": properties,
            "required": sorted(properties)[::2], "additionalProperties": False,
        }
    )  # fmt: skip
    arrays = st.builds(
        lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
        inner, st.integers(0, 3), st.integers(0, 3),
    )  # fmt: skip
    return st.one_of(objects, arrays)


@given(st.recursive(leaves, compound, max_leaves=8), st.sampled_from(["", TEXT, "7 8 9 no name"]))
def test_instances_fit(schema: Any, text: str) -> None:
    value = instance_of({"type": "object", "properties": {"x": schema}, "required": ["x"]}, Filler(text))["x"]
    assert fits(schema, value), as_json(value)


def test_filled_from_the_prompt() -> None:
    """Names, places, numbers, dates and addresses where a property's name or format asks for them."""
    properties = {
        "name": {"type": "string"},
        "city": {"type": "string"},
        "cats": {"type": "integer"},
        "gardens": {"type": "number"},
        "email": {"type": "string", "format": "email"},
        "link": {"type": "string", "format": "uri"},
        "date": {"type": "string"},
        "due": {"type": "string", "format": "date"},
        "pet": {"enum": ["dog", "cats"]},
    }
    assert made({"type": "object", "properties": properties}) == {
        "name": "Judy",
        "city": "New York",
        "cats": 3,
        "gardens": 2.5,
        "email": "judy@example.com",
        "link": "https://example.com/x",
        "date": "2026-03-14",
        "due": "2026-03-14",
        "pet": "cats",
    }


def test_formats_without_a_prompt() -> None:
    """Something of the right form all the same."""
    uuid = made({"type": "string", "format": "uuid"}, "")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uuid)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made({"type": "string", "format": "date-time"}, ""))
    assert isinstance(made({"type": "string", "format": "unheard-of"}, ""), str)


def test_choices_and_combinations() -> None:
    text, number = {"type": "string"}, {"type": "integer"}
    assert isinstance(made({"anyOf": [{"type": "null"}, number]}), int)
    assert isinstance(made({"type": ["null", "string"]}), str)
    both = {"allOf": [{"properties": {"a": number}, "required": ["a"]}, {"properties": {"b": text}, "required": ["b"]}]}
    assert set(made({"type": "object", **both})) == {"a", "b"}
    assert made({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"const": 7}}}) == {"a": 7}
    assert made({"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {"const": 8}}}) == {"a": 8}
    assert made({"oneOf": [{"$ref": "#/$defs/deep"}, number], "$defs": {"deep": {"enum": [5]}}}, "5") == 5
    with pytest.raises(HTTPError, match="points to nothing"):
        made({"oneOf": [{"$ref": "#/$defs/none"}, number], "$defs": {}}, "5")
    assert made({"type": "object", "required": ["free"]}) == {"free": "Judy"}


def test_recursion_ends() -> None:
    """A tree ends when it may; one that may not is refused."""
    node = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    }
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["children"],
    }
    assert made({"$ref": "#/$defs/node", "$defs": {"node": node}})["value"] == 3
    assert len(as_json(made(tree))) < 2000
    endless = {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]}
    with pytest.raises(HTTPError, match="recursively"):
        made(endless)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"type": "colour"},
        {"enum": []},
        {"anyOf": []},
        {"properties": {"a": False}},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"properties": []},
        {"properties": 5},
        {"required": 5},
        {"type": "integer", "minimum": "x"},
        {"type": "integer", "multipleOf": "x"},
        {"type": "string", "maxLength": "x"},
        {"type": {}},
        {"allOf": 3},
        {"enum": 3},
        {"type": "array", "minItems": None},
        {"type": "number", "multipleOf": 1e-320},
        {"anyOf": [{"$ref": "#"}] * 50},
        {"type": "array", "minItems": 900, "items": {"type": "array", "minItems": 900}},
    ],
)
def test_schemas_that_cannot_be_followed(schema: dict[str, Any]) -> None:
    """400 in words, never a crash."""
    with pytest.raises(HTTPError) as caught:
        made(schema)
    assert (caught.value.status, caught.value.code) == (400, "invalid_schema")
