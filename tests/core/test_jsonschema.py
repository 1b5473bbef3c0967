"""Reading schemas: references, null, definitions in use."""

from __future__ import annotations

from typing import Any

import pytest

from openaiasync.core.schema.jsonschema import may_be_null, pruned, resolve

ROOT: dict[str, Any] = {
    "$ref": "#/$defs/A",
    "$defs": {
        "A": {"$ref": "#/$defs/B"},
        "B": {"type": "object", "properties": {"c": {"$ref": "#/$defs/C"}}},
        "C": {"type": ["string", "null"]},
        "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"type": "string"}]},
        "with/slash~": {"const": None},
        "any": True,
        "none": False,
    },
}


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("#/$defs/A", ROOT["$defs"]["B"]),
        ("#/$defs/with~1slash~0", {"const": None}),
        ("#/$defs/B/properties/c", {"type": ["string", "null"]}),
        ("#/$defs/any", {}),
    ],
)
def test_references_are_followed_to_their_end(ref: str, found: Any) -> None:
    """Through other references and escaped names (RFC 6901); a boolean schema says nothing."""
    assert resolve({"$ref": ref}, ROOT) == found


@pytest.mark.parametrize("ref", ["#/$defs/Z", "#/$defs/C/type", "http://example.org/x", "#anchor", "#"])
def test_references_to_nothing_are_refused(ref: str) -> None:
    """Also to another document, and in a circle."""
    with pytest.raises(TypeError, match="reference"):
        resolve({"$ref": ref}, {"$ref": "#", "$defs": ROOT["$defs"]})


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, True),
        (True, True),
        (False, False),
        ({"type": "null"}, True),
        ({"type": "string"}, False),
        ({"type": ["string", "null"]}, True),
        ({"enum": ["a", None]}, True),
        ({"enum": ["a"]}, False),
        ({"const": None}, True),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/C"}]}, True),
        ({"type": "object", "anyOf": [{}]}, False),
        ({"$ref": "#/$defs/A"}, False),
        ({"$ref": "#/$defs/loop"}, False),
    ],
)
def test_whether_null_fits(schema: Any, expected: bool) -> None:
    """Through references, variants and circles."""
    assert may_be_null(schema, ROOT) is expected


def test_definitions_that_nothing_uses_are_left_out() -> None:
    """What a used one uses stays; the order stays; the schema given is not changed."""
    assert list(pruned(ROOT)["$defs"]) == ["A", "B", "C"]
    assert len(ROOT["$defs"]) == 7
    assert "$defs" not in pruned({"type": "string", "$defs": {"A": {}}})
