"""Strict schemas of pydantic models against the official client's, and where ours differ on purpose."""

from __future__ import annotations

import enum
from typing import Any, Generic, Literal, TypeVar

import pytest

from openaiasync import shape_of

pytest.importorskip("openai")

import pydantic
from openai.lib._parsing._completions import type_to_response_format_param
from openai.lib._pydantic import to_strict_json_schema

pytestmark = pytest.mark.peers

T = TypeVar("T")


class Colour(enum.Enum):
    """What it looks like."""

    RED = "red"
    BLUE = "blue"


class Step(pydantic.BaseModel):
    explanation: str
    output: str


class Answer(pydantic.BaseModel):
    """How it was worked out."""

    steps: list[Step]
    final: str = pydantic.Field(description="the result alone")
    colour: Colour = pydantic.Field(description="of the cover")
    kind: Literal["a", "b"]
    number: int | float | None
    step: Step = pydantic.Field(description="the one that matters")


class Tree(pydantic.BaseModel):
    name: str
    children: list[Tree]
    parent: Tree | None = None


class Bounded(pydantic.BaseModel):
    share: float = pydantic.Field(ge=0, le=1)
    several: list[int] = pydantic.Field(min_length=1, max_length=3)
    code: str = pydantic.Field(pattern="^[A-Z]+$")


class Optionals(pydantic.BaseModel):
    given: str
    maybe: str | None = None
    step: Step | None = None


class Aliased(pydantic.BaseModel):
    full_name: str = pydantic.Field(alias="fullName")


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Either(pydantic.BaseModel):
    one: Step | Aliased


@pytest.mark.parametrize("model", [Step, Answer, Tree, Bounded, Optionals, Aliased, Box[Step], Either])
def test_the_schema_is_the_official_one(model: type[pydantic.BaseModel]) -> None:
    """The same schema, definitions that nothing uses left out; so prompts and caches need not change."""
    assert shape_of(model).schema == without_unused(to_strict_json_schema(model))


@pytest.mark.parametrize("model", [Step, Tree, Aliased])
def test_the_parameter_is_the_official_one(model: type[pydantic.BaseModel]) -> None:
    """`response_format` as a whole, its name included."""
    theirs: Any = type_to_response_format_param(model)
    theirs["json_schema"]["schema"] = without_unused(theirs["json_schema"]["schema"])
    assert shape_of(model).response_format() == theirs


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


class Odd(pydantic.BaseModel):
    pet: Cat | Dog = pydantic.Field(discriminator="kind")
    count: int = 3
    site: pydantic.HttpUrl
    pair: tuple[int, str]


def test_where_the_official_schema_is_refused_ours_differs() -> None:
    """The API takes no oneOf, no default, no prefixItems and no unknown format; the official client sends them."""
    theirs: dict[str, Any] = to_strict_json_schema(Odd)["properties"]
    assert "oneOf" in theirs["pet"]
    assert theirs["count"]["default"] == 3
    assert theirs["site"]["format"] == "uri"
    assert "prefixItems" in theirs["pair"]
    ours: dict[str, Any] = shape_of(Odd).schema["properties"]
    assert ours["pet"] == {"title": "Pet", "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert ours["count"] == {"title": "Count", "type": "integer", "description": "(default: 3)"}
    assert "format" not in ours["site"]
    assert ours["pair"]["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}


def test_what_no_strict_schema_can_say_is_sent_as_not_strict() -> None:
    """The official client sends free keys as strict, which the API refuses."""

    class Free(pydantic.BaseModel):
        counts: dict[str, int]

    ours = shape_of(Free).response_format()["json_schema"]
    assert ours["strict"] is False
    assert ours["schema"]["properties"]["counts"]["additionalProperties"] == {"type": "integer"}


def without_unused(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without the definitions that nothing refers to."""
    rest = {name: value for name, value in schema.items() if name != "$defs"}
    defs = dict(schema.get("$defs", {}))
    while unused := [name for name in defs if f"#/$defs/{name}'" not in f"{rest}{_others(defs, name)}"]:
        for name in unused:
            del defs[name]
    return {**rest, "$defs": defs} if defs else rest


def _others(defs: dict[str, Any], left_out: str) -> list[Any]:
    return [value for name, value in defs.items() if name != left_out]
