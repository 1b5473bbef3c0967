"""What the model is told: results as text or JSON, failures without keys and tracebacks."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pydantic
import pytest

from openaiasync import ToolError
from openaiasync.chat.tool_execution import MAX_ERROR, ContentParts, content_of, describe_error
from openaiasync.types import CompletionUsage


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date


class Thing(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    size: int = 3
    inner: list[int] = []


class Numbers:
    """What numpy's scalars and arrays have."""

    def tolist(self) -> list[float]:
        return [1.5, 2.0]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ("half \ud83d a pair", "half � a pair"),
        ("naïve €", "naïve €"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([Thing("n"), Point(1, datetime.date(2026, 1, 2))], '[{"name":"n"},{"x":1,"when":"2026-01-02"}]'),
        (Model(), '{"size":3,"inner":[]}'),
        ({"m": [Model(size=4)]}, '{"m":[{"size":4,"inner":[]}]}'),
        (Colour.RED, '"red"'),
        (pathlib.PurePosixPath("a/b"), '"a/b"'),
        ((n for n in (1, 2)), "[1,2]"),
        (Numbers(), "[1.5,2.0]"),
        (float("nan"), "null"),
        (
            CompletionUsage(completion_tokens=1, prompt_tokens=2, total_tokens=3),
            '{"completion_tokens":1,"prompt_tokens":2,"total_tokens":3}',
        ),
    ],
)
def test_results(value: Any, content: str) -> None:
    """Texts stay, the rest is JSON as its library writes it."""
    assert content_of(value) == content


def test_mappings_of_any_kind() -> None:
    """Not only dicts have keys."""

    class Own(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter(["k"])

        def __len__(self) -> int:
            return 1

    assert content_of(Own()) == '{"k":1}'


def test_nothing_from_what_returns_nothing() -> None:
    """A function declared to return nothing did its work; one that found nothing says null."""
    assert content_of(None, silent=True) == "ok"
    assert content_of(0, silent=True) == "0"


def test_content_parts_are_sent_as_they_are() -> None:
    """Only the class says that parts are meant: a list of dicts is data."""
    parts = [{"type": "text", "text": "a"}]
    assert content_of(ContentParts(parts)) == parts
    assert content_of(parts) == '[{"type":"text","text":"a"}]'


def test_what_json_cannot_carry() -> None:
    """Refused with what to return instead; a value that contains itself too."""
    with pytest.raises(TypeError, match="a result of type object has no JSON form; return a text"):
        content_of({"x": object()})
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="contains itself"):
        content_of(endless)


def scrub(raw: bytes) -> bytes:
    return raw.replace(b"the-key-of-the-client", b"***")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such town"), "ValueError: no such town"),
        (KeyError("town"), "KeyError: 'town'"),
        (ValueError(), "ValueError"),
        (ToolError("ask for a town"), "ask for a town"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (RuntimeError("sent the-key-of-the-client"), "RuntimeError: sent ***"),
        (OSError("postgres://me:pw@host/db is down"), "OSError: postgres://***@host/db is down"),
        (OSError("Authorization: Bearer abcdefgh12345"), "OSError: Authorization: Bearer ***"),
        (OSError("with sk-abcdefghijklmnop1234"), "OSError: with ***"),
        (OSError("https://h/?api_key=abcdef&town=Ulm"), "OSError: https://h/?api_key=***&town=Ulm"),
        (OSError("password='hunter2' was wrong"), "OSError: password='***' was wrong"),
        (ValueError("\ud83d"), "ValueError: ?"),
    ],
)
def test_failures(error: Exception, told: str) -> None:
    """Class and text on one line, credentials taken out."""
    assert describe_error(error, scrub) == told


def test_failures_are_short() -> None:
    """A model's context is not for a dump."""
    told = describe_error(ValueError("x" * 5000), scrub)
    assert len(told) <= MAX_ERROR + len("ValueError: …")


def test_no_traceback_is_told() -> None:
    """Not even of an exception that was raised from another."""
    with pytest.raises(ValueError, match="outer") as caught:
        try:
            raise KeyError("secret inner state")
        except KeyError as error:
            raise ValueError("outer") from error
    assert describe_error(caught.value, scrub) == "ValueError: outer"
