"""Schemas that users write: an invalid one is refused with the place of the mistake, a valid one can be used."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaiasync.core.schema.jsonschema import check_schema, validation_errors
from openaiasync.core.schema.structured import ShapeError, shape_of

DEEP: dict[str, Any] = {}
for _ in range(300):
    DEEP = {"items": DEEP}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "text"}, "$.type"),
        ({"type": 5}, "$.type"),
        ({"type": []}, "$.type"),
        ({"properties": []}, "$.properties"),
        ({"properties": {"a": 1}}, "$.properties.a"),
        ({"properties": {"a": {"type": "int"}}}, "$.properties.a.type"),
        ({"required": "a"}, "$.required"),
        ({"enum": []}, "$.enum"),
        ({"anyOf": {}}, "$.anyOf"),
        ({"anyOf": [{"minimum": "1"}]}, "$.anyOf[0].minimum"),
        ({"items": [{}]}, "$.items"),
        ({"minLength": -1}, "$.minLength"),
        ({"maxItems": True}, "$.maxItems"),
        ({"pattern": 1}, "$.pattern"),
        ({"$defs": {"A": {"$ref": "#/$defs/B"}}}, "#/$defs/B"),
        (DEEP, "too deeply"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: dict[str, Any], place: str) -> None:
    """Before anything is sent; by `shape_of` too."""
    for refuse in (check_schema, shape_of):
        with pytest.raises(TypeError) as caught:
            refuse(schema)
        assert place in str(caught.value)


LEAVES: list[Any] = [
    {},
    True,
    {"type": "string"},
    {"type": "integer", "minimum": 1, "default": 1},
    {"type": ["string", "null"], "minLength": 1, "format": "uri"},
    {"enum": ["a", None, 1]},
    {"const": {"a": 1}},
    {"type": "object"},
    {"$ref": "#/$defs/a"},
    {"$ref": "#/$defs/a", "description": "one"},
]
SCHEMAS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", ["object", "null"]]),
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), max_size=2),
            "additionalProperties": inner | st.just(False),
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
        },
    ),
    max_leaves=8,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def test_a_schema_that_refers_to_itself_alone() -> None:
    """It describes no value: a `TypeError`, instead of a reference without its definition."""
    alone = {"type": "object", "allOf": [{"$ref": "#/$defs/a"}]}
    with pytest.raises(TypeError, match=r"refers to itself alone: #/\$defs/a"):
        shape_of({**alone, "$defs": {"a": alone}})


@given(SCHEMAS, SCHEMAS, VALUES)
@settings(max_examples=150)
def test_whatever_passes_can_be_used(schema: Any, named: Any, value: Any) -> None:
    """A schema is a shape, or a `TypeError`; a shape takes what fits the schema, and fails in one way."""
    root = {**(schema if isinstance(schema, dict) else {}), "$defs": {"a": named}}
    try:
        shape = shape_of(root)
    except TypeError:
        return
    assert shape.schema["type"] == "object"
    try:
        taken = shape.validate({"value": value} if shape.wrapped else value)
    except ShapeError:
        try:
            assert list(validation_errors(value, root))
        except RecursionError:  # a schema that refers to itself alone
            return
    else:
        assert taken == value or list(validation_errors(value, root))  # what was null may be left out
