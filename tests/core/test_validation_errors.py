"""Values checked against JSON schemas: what is valid, and where and why something is not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from openaiasync.core.schema.from_type import json_schema
from openaiasync.core.schema.jsonschema import validation_errors
from openaiasync.core.schema.structured import shape_of

TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
            "required": ["v"],
        }
    },
}
TAGGED = {
    "anyOf": [
        {"type": "object", "properties": {"k": {"const": "a"}, "n": {"type": "integer"}}, "required": ["k", "n"]},
        {"type": "object", "properties": {"k": {"const": "b"}, "m": {"type": "string"}}, "required": ["k", "m"]},
    ]
}


@pytest.mark.parametrize(
    ("schema", "fitting", "wrong"),
    [
        ({"type": "string"}, ["", "x"], [1, None]),
        ({"type": "integer"}, [1, 1.0], [True, 1.5, "1"]),
        ({"type": "number"}, [1, 1.5], [True, "1"]),
        ({"type": "boolean"}, [True], [1, "true"]),
        ({"type": ["string", "null"]}, ["x", None], [1]),
        ({"type": "array", "items": {"type": "integer"}}, [[], [1]], [{}, ["x"]]),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, [[1]], [["x"], [1, 2]]),
        ({"type": "array", "minItems": 1, "maxItems": 2}, [[1]], [[], [1, 2, 3]]),
        ({"uniqueItems": True}, [[1, 2], [1, True], "aa"], [[1, 1], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]]),
        ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True]),
        ({"const": [1, {"a": True}]}, [[1, {"a": True}]], [[1, {"a": 1}]]),
        ({"minimum": 1, "maximum": 2}, [1, 2, "x"], [0, 3]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
        ({"multipleOf": 0.1}, [0.3, 7, 1e308, 10**400], [0.35]),
        ({"minLength": 2, "maxLength": 3}, ["ab", 1], ["a", "abcd"]),
        ({"pattern": "^a"}, ["ab"], ["ba"]),
        ({"pattern": "(?<bad"}, ["anything"], []),
        ({"properties": {"a": {"type": "integer"}}, "required": ["a"]}, [{"a": 1, "b": 2}, 7], [{}, {"a": "x"}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"b": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "x"}]),
        ({"patternProperties": {"^x": {"type": "integer"}}}, [{"x": 1, "y": "z"}], [{"xa": "z"}]),
        ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["x", None], [1]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [1, 7.5], [6, 1.5]),
        ({"allOf": [{"type": "integer"}, {"minimum": 5}]}, [6], [4, 7.5]),
        ({"not": {"type": "string"}}, [1], ["x"]),
        (
            TREE,
            [{"v": 1}, {"v": 1, "next": {"v": 2, "next": None}}],
            [{"v": 1, "next": {"v": "x"}}, {"v": 1, "next": {}}],
        ),
        (TAGGED, [{"k": "a", "n": 1}, {"k": "b", "m": ""}], [{"k": "a", "m": ""}, {"k": "c"}, 1]),
        ({}, [1, None], []),
    ],
)
def test_what_fits_and_what_does_not(schema: dict[str, Any], fitting: list[Any], wrong: list[Any]) -> None:
    """Each keyword lets through what the standard lets through."""
    for value in fitting:
        assert list(validation_errors(value, schema)) == [], value
    for value in wrong:
        assert list(validation_errors(value, schema)), value


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (TREE, {"v": 1, "next": {"v": "x"}}, [("$.next.v", "integer")]),
        (TAGGED, {"k": "b", "m": 1}, [("$.m", "string")]),
        ({"type": "array", "items": {"type": "integer"}}, ["a", 1, None], [("$[0]", "integer"), ("$[2]", "integer")]),
        ({"enum": ["a", None]}, 1, [("$", '"a" or null')]),
        ({"required": ["a"]}, {}, [("$", 'an object with the property "a"')]),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, None, [("$", "string or integer")]),
    ],
)
def test_misfits_say_where_and_what_was_expected(schema: Any, value: Any, expected: list[tuple[str, str]]) -> None:
    """Of variants, the one that was meant is explained."""
    assert [error[:2] for error in validation_errors(value, schema)] == expected


def test_variants_inside_variants_cost_no_more_than_the_value_is_long() -> None:
    """A tree whose every branch may be of two kinds is not tried in two to the power of its depth ways."""
    kinds = [
        {"type": "object", "properties": {"c": {"$ref": "#/$defs/T"}, "k": {"const": name}}, "required": ["c"]}
        for name in "ab"
    ]
    schema = {"$ref": "#/$defs/T", "$defs": {"T": {"anyOf": [*kinds, {"type": "null"}]}}}
    value: Any = 7
    for _ in range(50):
        value = {"c": value}
    start = time.process_time()
    assert list(validation_errors(value, schema))
    assert time.process_time() - start < 20


def test_many_items_are_told_apart_in_linear_time() -> None:
    """Fifty thousand items once each."""
    start = time.process_time()
    assert not list(validation_errors(list(range(50_000)), {"uniqueItems": True}))
    assert time.process_time() - start < 20


def test_schemas_of_types_fit_their_values() -> None:
    """What a type's own decoder takes fits the schema as it was before it was made strict."""
    assert not list(validation_errors({"value": [1, 2]}, shape_of(list[int]).schema))
    assert list(validation_errors({"a": "x"}, json_schema(dict[str, int]))) == [("$.a", "integer", "type", "")]
