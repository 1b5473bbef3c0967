"""`cast_to` and `parse(to=)`: any type that an answer can become, the caller's own held to strictly."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from conftest import run
from openaiasync import APIError, APIResponseValidationError, AsyncOpenAI, BaseModel, BinaryAnswer, Client
from openaiasync.core.model.meta import ResponseInfo
from openaiasync.engine import AsyncPage
from openaiasync.types import FileDeleted, Model
from openaiasync.types.chat import ChatCompletion
from scripted import CHAT, Scripted, Seen, answer, scripted


class Colour(enum.Enum):
    RED = "red"


class Pydantic(pydantic.BaseModel):
    x: int


@dataclasses.dataclass
class Data:
    x: int
    models: list[Pydantic] = dataclasses.field(default_factory=list)


class Typed(TypedDict):
    x: int


class Named(NamedTuple):
    x: int


class Struct(msgspec.Struct):
    x: int


class Own(BaseModel, kw_only=True):
    x: int
    y: str | None = None


class Plain:
    pass


def positive(value: int) -> int:
    if value <= 0:
        raise ValueError("has to be above 0")
    return value


Positive = Annotated[int, pydantic.AfterValidator(positive)]


@dataclasses.dataclass
class Checked:
    x: Positive


X = b'{"x": 1}'
FITS: list[tuple[Any, bytes, Any]] = [
    (object, X, {"x": 1}),
    (object, b"[1]", [1]),
    (object, b"null", None),
    (object, b"plain words", "plain words"),
    (object, b"", None),
    (Any, X, {"x": 1}),
    (dict, X, {"x": 1}),
    (dict[str, Any], X, {"x": 1}),
    (dict[str, int], X, {"x": 1}),
    (list, b"[1, 2]", [1, 2]),
    (list[int], b"[1, 2]", [1, 2]),
    (tuple[int, str], b'[1, "a"]', (1, "a")),
    (set[int], b"[1, 1]", {1}),
    (int, b"5", 5),
    (int, b" 5\n", 5),
    (int, b'"5"', 5),
    (float, b"5", 5.0),
    (bool, b"true", True),
    (bool, b"False", False),
    (str, b"words", "words"),
    (str, b'"a JSON text"', '"a JSON text"'),
    (bytes, b"\xff\x00", b"\xff\x00"),
    (bytearray, b"ab", bytearray(b"ab")),
    (int | None, b"null", None),
    (int | str, b'"a"', "a"),
    (Literal["a", "b"], b'"a"', "a"),
    (Colour, b'"red"', Colour.RED),
    (Decimal, b'"1.5"', Decimal("1.5")),
    (datetime.date, b'"2026-01-31"', datetime.date(2026, 1, 31)),
    (uuid.UUID, b'"00000000-0000-0000-0000-000000000001"', uuid.UUID(int=1)),
    (Data, b'{"x": 1, "models": [{"x": 2}]}', Data(1, [Pydantic(x=2)])),
    (Typed, X, {"x": 1}),
    (Named, b"[1]", Named(1)),
    (Struct, X, Struct(1)),
    (list[Struct], b'[{"x": 1}]', [Struct(1)]),
    (Pydantic, X, Pydantic(x=1)),
    (list[Pydantic], b'[{"x": 1}]', [Pydantic(x=1)]),
    (Pydantic | None, b"null", None),
    (msgspec.Raw, X, msgspec.Raw(X)),
    (Own, X, Own(x=1)),
    (list[Own], b'[{"x": 1}]', [Own(x=1)]),
    (Positive, b"1", 1),
    (Checked, X, Checked(1)),
    (dict[str, Positive], X, {"x": 1}),
    (type(None), X, None),
    (None, X, None),
]
STRICT: list[tuple[Any, bytes]] = [
    (dict, b"[1]"),
    (dict, b"words"),
    (dict, b""),
    (list, b"{}"),
    (list, X),
    (list[int], b'["a"]'),
    (int, b'"five"'),
    (bool, b"5"),
    (Data, b"{}"),
    (Data, b'{"x": "1"}'),
    (Data, b'{"x": 1, "models": [{"x": "a"}]}'),
    (Typed, b"{}"),
    (Struct, b"{}"),
    (Struct, b'{"x": null}'),
    (Pydantic, b"{}"),
    (Pydantic, b'{"x": "one"}'),
    (list[Pydantic], b'[{"x": 1}, {}]'),
    (Own, b"{}"),
    (Own, b'{"x": "one"}'),
    (Positive, b"0"),
    (Checked, b'{"x": -1}'),
    (dict[str, Positive], b'{"x": -1}'),
    (list[Annotated[int, pydantic.Field(gt=0)]], b"[0]"),
    (Struct, b"[" * 50_000),
    (Pydantic, b"<html>"),
    (msgspec.Raw, b"{"),
]
UNREADABLE: list[Any] = [5, "Model", Plain, list[Plain], dict[str, Plain], asyncio.Queue, lambda: 1, Plain(), ...]


class Server:
    """What a server answers, changed from call to call."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if self.status == 204:
            writer.write(b"HTTP/1.1 204 X\r\n\r\n")
        else:
            writer.write(answer(self.body, self.status))


def play(act: Callable[[Client, Server, Scripted], Any]) -> None:
    async def main() -> None:
        server = Server()
        async with scripted(server) as at:
            async with Client(api_base=at.url, max_retries=0) as client:
                await act(client, server, at)
            async with AsyncOpenAI(base_url=at.url, api_key="k", max_retries=0) as official:
                await act(official, server, at)

    run(main())


@pytest.mark.parametrize(("kind", "body", "value"), FITS)
def test_values(kind: Any, body: bytes, value: Any) -> None:
    """Each form of asking gives a value of the type that was named."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        server.body = body
        for got in (
            await client.get("/x", cast_to=kind),
            await client.post("/x", cast_to=kind, body={}),
            (await client.with_raw_response.get("/x", cast_to=kind)).parse(),
            (await client.with_raw_response.get("/x", cast_to=bytes)).parse(to=type(None) if kind is None else kind),
        ):
            assert got == value
            assert type(got) is type(value)
        async with client.with_streaming_response.post("/x", cast_to=kind, body={}) as streamed:
            assert await streamed.parse() == value

    play(act)


@pytest.mark.parametrize(("kind", "body"), STRICT)
def test_what_does_not_fit_raises(kind: Any, body: bytes) -> None:
    """A caller's type is never quietly another one: the error shows the body."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        server.body = body
        with pytest.raises(APIResponseValidationError) as caught:
            await client.get("/x", cast_to=kind)
        assert caught.value.status_code == 200
        assert body[:20].decode() in str(caught.value)
        raw = await client.with_raw_response.get("/x", cast_to=bytes)
        with pytest.raises(APIResponseValidationError):
            raw.parse(to=kind)

    play(act)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_types_that_no_answer_can_become(kind: Any) -> None:
    """A clear `TypeError`, before anything is sent."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        for verb in (client.get, client.post, client.put, client.patch, client.delete):
            with pytest.raises(TypeError, match="cannot become"):
                await verb("/x", cast_to=kind)
        assert not at.seen

    play(act)


def test_answers_of_the_library_are_lenient() -> None:
    """They are read like answers of methods: deviations are kept, disguised errors and empty answers are refused."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        server.body = json.dumps({**CHAT, "created": "x", "more": 1}).encode()
        chat = await client.post("/chat/completions", cast_to=ChatCompletion, body={})
        assert (chat.text, chat.extra, chat.meta.status) == ("Hello.", {"more": 1}, 200)
        for body in ({}, {"code": 5, "msg": "no"}, {"error": {"message": "no"}}, {**CHAT, "choices": None}):
            server.body = json.dumps(body).encode()
            with pytest.raises(APIError):
                await client.post("/chat/completions", cast_to=ChatCompletion, body={})
        server.body = b'[{"id": "a"}]'
        assert [model.id for model in (await client.get("/models", cast_to=AsyncPage[Model])).data] == ["a"]
        assert [model.id for model in await client.get("/models", cast_to=list[Model])] == ["a"]
        server.body = b'{"x": 1, "z": 2}'
        own = await client.get("/x", cast_to=Own)
        assert (own.x, own.extra, own.meta.status) == (1, {"z": 2}, 200)
        server.body = b"\x00\x01"
        binary = await client.get("/x", cast_to=BinaryAnswer)
        assert binary.content == b"\x00\x01"
        info = await client.get("/x", cast_to=ResponseInfo)
        assert (info.status_code, info.content) == (200, b"\x00\x01")

    play(act)


def test_an_error_in_place_of_a_value() -> None:
    """An error object that does not fit the type shows the server's words; one that fits is a value."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        server.body = b'{"error": {"message": "out of luck", "code": "c"}}'
        for kind in (Struct, Pydantic, Data, list):
            with pytest.raises(APIError, match="out of luck") as caught:
                await client.get("/x", cast_to=kind)
            assert caught.value.code == "c"
        assert "error" in await client.get("/x", cast_to=dict)
        server.status = 404
        with pytest.raises(APIError, match="out of luck"):
            await client.get("/x", cast_to=object)
        server.status = 200

    play(act)


@pytest.mark.parametrize("status", [200, 204])
def test_deletions_without_a_body(status: int) -> None:
    """A deletion that worked is a success for each type: what was deleted, an empty value, or `None`."""

    async def act(client: Client, server: Server, at: Scripted) -> None:
        server.status = status
        gone = await client.delete("/files/a%2Fb", cast_to=FileDeleted)
        assert (gone.id, gone.deleted, gone.object, gone.meta.status) == ("a/b", True, "file", status)
        wanted: list[tuple[Any, Any]] = [
            (object, None), (Any, None), (type(None), None), (bytes, b""), (str, ""), (dict, {}),
            (dict[str, Any], {}), (list[int], []), (Struct, None), (Pydantic, None), (int | None, None),
        ]  # fmt: skip
        for kind, value in wanted:
            assert await client.delete("/x", cast_to=kind) == value
            assert (await client.with_raw_response.delete("/x", cast_to=kind)).parse() == value
        for kind in (Struct, ChatCompletion):
            with pytest.raises(APIResponseValidationError, match="empty"):
                await client.post("/x", cast_to=kind, body={})

    play(act)
