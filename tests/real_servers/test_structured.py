"""Structured output from llama.cpp: its grammar holds the scripted model to our schemas."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from conftest import run
from openaiasync import Client, LengthFinishReasonError, StructuredOutputError
from openaiasync.chat.reply import PartialObject

from .conftest import KEY
from .processes import Running


class Sum(msgspec.Struct):
    sum: int


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: str


class Note(TypedDict):
    text: str
    tags: NotRequired[list[str]]


class Circle(msgspec.Struct, tag="circle"):
    radius: Annotated[float, msgspec.Meta(ge=0, description="in metres")]


class Square(msgspec.Struct, tag="square"):
    side: float = 1.0


class Tree(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=9)]
    children: Annotated[list[Tree], msgspec.Meta(max_length=2)] = []


@dataclass
class Trip:
    start: datetime.datetime
    day: datetime.date
    at: datetime.time
    took: datetime.timedelta
    id: uuid.UUID
    cost: Decimal
    stops: list[Point]
    shape: Circle | Square | None
    seen: set[Colour]
    raw: bytes


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(pattern="^[A-Z][a-z]+$")
    site: pydantic.HttpUrl
    friend: Person | None = None


# The template looks for a cue with a space behind it: instructions may follow.
KINDS: list[Any] = [
    Trip,
    Tree,
    Note,
    Person,
    list[Person],
    dict[str, int],
    dict[str, list[Circle | Square]],
    Literal["yes", 1] | None,
    Point,
    Annotated[int, msgspec.Meta(ge=-3, le=12)],
    {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}},
]


def client_of(server: Running, **options: Any) -> Client:
    return Client(api_base=f"{server.url}/v1", api_key=KEY, model="tiny", http_timeout=30.0, max_retries=0, **options)


@pytest.mark.parametrize("way", [None, "json_schema", "json_object", "prompt"])
def test_a_value_of_a_type(way: Any, llama: Running) -> None:
    """By grammar, as any object and in words, whole and streamed."""

    async def main() -> None:
        async with client_of(llama) as client:
            reply = await client.chat.parse("#json ", into=Sum, format=way)
            assert reply.parsed == Sum(12)
            assert reply.usage is not None
            async with client.chat.stream_parse("#json ", into=Sum, format=way) as stream:
                values = [str(piece.value) async for piece in stream if isinstance(piece, PartialObject)]
            assert values[-1] == "{'sum': 12}"
            assert (await stream.final()).parsed == Sum(12)

    run(main())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_schema_is_understood(kind: Any, llama: Running) -> None:
    """Its grammar can be made of each: the model, which knows nothing, is held to JSON; nothing is refused."""

    async def main() -> str:
        async with client_of(llama) as client:
            try:
                reply = await client.chat.parse(
                    "#json", into=kind, format="json_schema", temperature=0, max_tokens=60, repair=0
                )
            except StructuredOutputError as error:  # cut by length, or a text where a decimal should be
                return error.text
            return reply.text

    assert run(main()).startswith("{")


def test_an_answer_that_does_not_fit_is_repaired_in_vain(llama: Running) -> None:
    """The model says the same again; the error holds both rounds."""

    class Wrong(msgspec.Struct):
        sum: str

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(StructuredOutputError) as caught:
                await client.chat.parse("#json ", into=Wrong, format="prompt")
            assert len(caught.value.partial.answers) == 2

    run(main())


def test_an_endless_answer_is_an_error_that_holds_it(llama: Running) -> None:
    """Cut by length, whole and streamed: the text so far and its tokens are there."""

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(LengthFinishReasonError) as caught:
                await client.chat.parse("#forever ", into=Sum, format="prompt", max_tokens=5)
            assert caught.value.text == "la li la li la"
            assert caught.value.usage is not None
            assert caught.value.usage.completion_tokens == 5
            with pytest.raises(LengthFinishReasonError) as caught:
                async with client.chat.stream_parse("#forever ", into=Sum, format="prompt", max_tokens=5) as stream:
                    await stream.final()
            assert caught.value.text == "la li la li la"

    run(main())
