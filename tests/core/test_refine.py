"""Dates and tuples in the schemas of types, wherever in a type they stand."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest

from openaiasync.core.schema.from_type import json_schema

MOMENT = {"type": "string", "format": "date-time"}
Stamp = datetime.datetime


class Span(NamedTuple):
    start: Stamp
    end: Stamp


class Row(msgspec.Struct, array_like=True):
    at: Stamp
    note: str


class Note(TypedDict):
    at: Stamp


@dataclass
class Visit:
    at: Stamp | None
    span: Span
    next: Visit | None = None


class Opened(msgspec.Struct, tag=True):
    at: Stamp


class Closed(msgspec.Struct, tag=True):
    at: Annotated[Stamp, msgspec.Meta(description="when")]


def moments(value: Any) -> int:
    """How many schemas of a date and time a schema holds."""
    if isinstance(value, dict):
        return (value.get("format") == "date-time") + sum(map(moments, value.values()))
    return sum(map(moments, value)) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (Stamp, 1),
        (list[Stamp], 1),
        (dict[str, Stamp], 1),
        (tuple[Stamp, int, Stamp], 2),
        (Stamp | None, 1),
        (int | Stamp, 1),
        (Note, 1),
        (Span, 2),
        (Row, 1),
        (Visit, 3),
        (Opened | Closed, 2),
        (Opened | Closed | None, 2),
        (Opened | Closed | list[Stamp] | None, 3),
        (Opened | int | None, 1),
        (list[Visit | None], 3),
    ],
)
def test_dates_are_told(kind: Any, count: int) -> None:
    """A model has to know that a text is a date and time; msgspec says so of aware ones only."""
    assert moments(json_schema(kind)) == count


def test_times_without_offset_are_told_in_words() -> None:
    """The formats of JSON Schema demand an offset."""
    aware = Annotated[Stamp, msgspec.Meta(tz=True)]
    naive = Annotated[Stamp, msgspec.Meta(tz=False)]
    assert json_schema(aware) == json_schema(Stamp) == MOMENT
    assert json_schema(naive) == {"type": "string", "description": "(as 2026-01-31T12:00:00, without offset)"}
    assert json_schema(datetime.time) == {"type": "string", "format": "time"}
    assert json_schema(Annotated[datetime.time, msgspec.Meta(tz=False)]) == {
        "type": "string",
        "description": "(as 12:00:00, without offset)",
    }


def test_the_places_of_a_tuple_are_named() -> None:
    """A list has no names of its own."""
    assert json_schema(Visit)["$defs"]["Span"]["description"] == "(start, end)"
    assert json_schema(Row)["$defs"]["Row"]["description"] == "(at, note)"
    assert json_schema(Closed)["$defs"]["Closed"]["properties"]["at"] == {**MOMENT, "description": "when"}
