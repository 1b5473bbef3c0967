"""Schemas of types, and the strict form of schemas."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pytest

from openaiasync.core.schema.from_type import json_schema, strict, tighten

T = TypeVar("T")


class Unit(Enum):
    GRAM = "g"
    PIECE = "pc"


class Ingredient(msgspec.Struct, rename="camel"):
    """One thing to buy."""

    item_name: Annotated[str, msgspec.Meta(description="as in a shop", min_length=2)]
    unit: Unit
    amount: float = 1.0
    note: str | None = None


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float


class Pair(msgspec.Struct, Generic[T]):
    left: T
    right: T


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Plan:
    day: date
    points: list[Point] = field(default_factory=list)


def objects(value: Any) -> list[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    found: list[dict[str, Any]] = []
    if isinstance(value, dict):
        if value.get("type") == "object":
            found.append(value)
        for one in value.values():
            found += objects(one)
    elif isinstance(value, list):
        for one in value:
            found += objects(one)
    return found


def keywords(value: Any) -> set[str]:
    """Every keyword that a schema uses, names of properties and definitions left out."""
    if isinstance(value, list):
        return set().union(*map(keywords, value))
    if not isinstance(value, dict):
        return set()
    found = set(value)
    for name, one in value.items():
        if name in ("properties", "$defs"):
            found |= set().union(*map(keywords, one.values()))
        elif name not in ("enum", "const", "required"):
            found |= keywords(one)
    return found


STRICT_WORDS = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "enum",
    "const",
    "$ref",
    "$defs",
    "title",
    "description",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
}


@pytest.mark.parametrize("kind", [Ingredient, Tree, Pair[int], Movie, Plan, Pair[Circle | Square], list[Movie]])
def test_the_strict_form_is_what_the_guide_demands(kind: Any) -> None:
    """Every object is closed and requires all its properties, and no unknown keyword is left."""
    made = strict(json_schema(kind))
    assert objects(made)
    for one in objects(made):
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])
    assert keywords(made) <= STRICT_WORDS


def test_the_root_is_written_out() -> None:
    """A reference at the root becomes the object itself, which structured outputs demand; unused definitions go."""
    made = strict(json_schema(Movie))
    assert made["type"] == "object"
    assert "$defs" not in made
    tree = strict(json_schema(Tree))
    assert tree["type"] == "object"
    assert list(tree["$defs"]) == ["Tree"]


def test_what_may_be_left_out_becomes_nullable() -> None:
    """Nothing is optional in strict mode; null stands for what a type may leave out, and its default is told."""
    made = strict(json_schema(Ingredient))["properties"]
    assert list(made) == ["itemName", "unit", "amount", "note"]
    assert made["amount"] == {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "(default: 1.0)"}
    assert made["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert strict(json_schema(Movie))["properties"]["year"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}


def test_nullable_can_be_left_to_the_schema() -> None:
    """With `nullable=False`, as the official client does it, every property is simply required."""
    made = strict({"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}, nullable=False)
    assert made["properties"]["a"]["type"] == "integer"
    assert "default" not in made["properties"]["a"]


def test_a_tag_with_a_default_stays_required() -> None:
    """A property that has but one value is never null."""
    made = strict({"type": "object", "properties": {"kind": {"const": "a", "default": "a"}}})
    assert made["properties"]["kind"]["type"] == "string"


def test_words_replace_keywords_that_strict_mode_lacks() -> None:
    """A restriction that cannot be a keyword is told to the model in the description."""
    made = strict(json_schema(Ingredient))
    assert made["description"] == "One thing to buy."
    assert made["properties"]["itemName"] == {"type": "string", "description": "as in a shop (at least 2 characters)"}
    many = strict({"type": "array", "uniqueItems": True, "items": {"type": "string", "format": "uri"}})
    assert many["description"] == "(each item once)"
    assert many["items"] == {"type": "string", "description": "(format: uri)"}


def test_a_tuple_becomes_a_list_of_its_length() -> None:
    """Strict mode has no places with types of their own."""
    made = strict(json_schema(tuple[int, str]))
    assert made["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert (made["minItems"], made["maxItems"]) == (2, 2)
    assert made["description"] == "(in this order: integer, string)"
    point = strict(json_schema(Plan))["$defs"]["Point"]
    assert point["items"] == {"type": "integer"}
    assert point["description"] == "(x, y)"


def test_listed_values_get_a_type() -> None:
    """The API refuses a schema without a type."""
    assert strict(json_schema(Literal["a", "b"])) == {"enum": ["a", "b"], "type": "string"}
    assert strict(json_schema(Literal[1, 2] | None)) == {
        "anyOf": [{"enum": [1, 2], "type": "integer"}, {"type": "null"}]
    }
    assert strict({"enum": ["a", None]}) == {"enum": ["a", None], "type": ["string", "null"]}
    assert strict(json_schema(Unit))["type"] == "string"


def test_one_schema_of_all_of_is_merged_and_one_of_is_any_of() -> None:
    """The two compositions that have an equal in strict mode."""
    assert strict({"allOf": [{"type": "string"}], "description": "d"}) == {"type": "string", "description": "d"}
    made = strict({"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {"propertyName": "x"}})
    assert made == {"anyOf": [{"type": "string"}, {"type": "null"}]}


def test_a_reference_with_neighbours_is_written_out() -> None:
    """Nothing may stand beside a reference; a recursive one is put inside an anyOf instead, without end otherwise."""
    leaf = {"type": "object", "properties": {"v": {"type": "integer"}}, "required": ["v"], "description": "old"}
    made = strict(
        {
            "type": "object",
            "properties": {"leaf": {"$ref": "#/$defs/Leaf", "description": "new"}},
            "required": ["leaf"],
            "$defs": {"Leaf": leaf},
        }
    )
    assert made["properties"]["leaf"] == {
        "type": "object",
        "properties": {"v": {"type": "integer"}},
        "required": ["v"],
        "description": "new",
        "additionalProperties": False,
    }
    assert "$defs" not in made
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/Node", "description": "the next one"}},
        "required": ["next"],
    }
    made = strict(
        {"type": "object", "properties": {"n": {"$ref": "#/$defs/Node"}}, "required": ["n"], "$defs": {"Node": node}}
    )
    inside = made["$defs"]["Node"]["properties"]["next"]
    assert inside["description"] == "the next one"
    assert "#/$defs/Node" in json.dumps(inside)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (dict[str, int], "at $"),
        (dict, "at $"),
        (Any, "a value of any kind"),
        (Pair[Any], "at $.left"),
        (list[dict[str, int]], "at $[]"),
        (Pair[dict[str, str] | None], "at $.left|0"),
    ],
)
def test_what_strict_mode_cannot_say_is_refused_with_its_place(kind: Any, place: str) -> None:
    """Free keys and values of any kind are named with their place; `tighten` keeps them as they are."""
    with pytest.raises(TypeError, match="Strict mode cannot") as caught:
        strict(json_schema(kind))
    assert place in str(caught.value)
    made, obstacles = tighten(json_schema(kind))
    assert obstacles
    assert all(place in one or "$.right" in one for one in obstacles)
    assert keywords(made) <= STRICT_WORDS


def test_free_keys_keep_what_their_values_are() -> None:
    """A schema that is not strict still says all that it can."""
    made, _ = tighten(json_schema(dict[str, Movie]))
    (movie,) = made["$defs"].values()
    assert made["additionalProperties"] == {"$ref": "#/$defs/Movie"}
    assert movie["additionalProperties"] is False


@pytest.mark.parametrize("word", ["not", "patternProperties", "if", "dependentRequired"])
def test_composition_without_an_equal_is_refused(word: str) -> None:
    """A keyword that narrows in a way nothing else can is an obstacle, never dropped in silence."""
    with pytest.raises(TypeError, match=f"the keyword {word} at"):
        strict({"type": "object", "properties": {}, word: {}})


def test_several_schemas_at_once_are_refused() -> None:
    """An allOf of several has no equal."""
    with pytest.raises(TypeError, match="allOf"):
        strict({"allOf": [{"type": "string"}, {"minLength": 1}]})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}, "allOf": [{"type": "string"}]},
        {"type": "string", "allOf": [{"minLength": 1}, {"maxLength": 5}]},
        {"type": "string", "minLength": 2, "allOf": [{"minLength": 3}]},
        {"type": "string", "allOf": [False]},
    ],
)
def test_an_all_of_beside_others_is_not_lost(schema: dict[str, Any]) -> None:
    """A part of an allOf that contradicts what stands beside it neither replaces that nor vanishes."""
    with pytest.raises(TypeError, match="allOf"):
        strict(schema)
    loose, obstacles = tighten(schema)
    assert loose["allOf"] == schema["allOf"]
    assert loose["type"] == schema["type"]
    assert obstacles


def test_schemas_are_not_changed() -> None:
    """The strict form is another object; the schema given stays as it was."""
    given = json_schema(Ingredient)
    before = json.dumps(given)
    strict(given)
    assert json.dumps(given) == before


class Odd:
    pass


class HoldsOdd(msgspec.Struct):
    odd: Odd


@pytest.mark.parametrize("kind", [Odd, HoldsOdd, complex, 3, "text"])
def test_a_type_without_schema_says_what_to_use(kind: Any) -> None:
    """A type without a schema is a `TypeError` that names the type, and so is a value instead of a type."""
    value = kind in (3, "text")
    with pytest.raises(TypeError, match="not the value" if value else "No JSON schema can be made from"):
        json_schema(kind)
    if kind is HoldsOdd:
        with pytest.raises(TypeError, match=r"HoldsOdd.*Odd.*Use str, int"):
            json_schema(kind)


@pytest.mark.parametrize("ref", ["#/$defs/Gone", "other.json#/x", "#/$defs/Loop"])
def test_references_to_nowhere_are_refused(ref: str) -> None:
    """A broken reference is told, not followed for ever."""
    with pytest.raises(TypeError, match="reference"):
        strict({"type": "object", "properties": {"a": {"$ref": ref}}, "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}})
