"""`client.chat.parse` over real sockets: servers that lack formats, answers that fit nothing, the built-in server."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from conftest import run
from openaiasync import (
    AsyncOpenAI,
    BadRequestError,
    Client,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    NotFoundError,
    RefusalError,
    StructuredOutputError,
    shape_of,
)
from openaiasync.chat.reply import PartialObject, RepairStarted
from openaiasync.demo import demo_app
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread
from scripted import CHAT, Scripted, Seen, chunk, events, json_answer, scripted

from .talking import add

ULM = '{"name":"Ulm","people":130000}'
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


class City(msgspec.Struct):
    name: str
    people: int


class River(msgspec.Struct):
    length: float


def format_of(seen: Seen) -> str:
    """The rung that a request stands on."""
    return (seen.json().get("response_format") or {"type": "prompt"})["type"]


def chat(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": text, **message}
    return {**CHAT, "usage": USAGE, "choices": [{"index": 0, "finish_reason": finish, "message": said}]}


def says(writer: asyncio.StreamWriter, seen: Seen, text: str) -> None:
    if seen.json().get("stream"):
        pieces = [text[i : i + 5] for i in range(0, len(text), 5)]
        writer.write(events([*map(chunk, pieces), chunk(finish="stop")]))
    else:
        writer.write(json_answer(chat(text)))


REFUSALS: dict[str, tuple[int, Any]] = {
    "names the parameter": (
        400,
        {"error": {"message": "no", "type": "invalid", "param": "response_format", "code": None}},
    ),
    "names a code": (400, {"error": {"message": "no", "param": None, "code": "invalid_json_schema"}}),
    "names nothing": (400, {"error": {"message": "no", "type": "invalid_request_error"}}),
    "no error object": (422, {"detail": [{"loc": ["body", "response_format"], "msg": "extra", "type": "x"}]}),
    "not implemented": (501, {"error": {"message": "no"}}),
}


@asynccontextmanager
async def picky(
    takes: set[str], refusal: tuple[int, Any] = REFUSALS["names nothing"], texts: tuple[str, ...] = (ULM,)
) -> AsyncIterator[tuple[Scripted, Client]]:
    """A server that takes some formats and says the texts in turn, the last of them for ever."""
    left = list(texts)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if format_of(seen) not in takes:
            writer.write(json_answer(refusal[1], refusal[0]))
            return
        if format_of(seen) == "json_object" and "JSON" not in json.dumps(seen.json()["messages"]):
            writer.write(json_answer({"error": {"message": "messages must say json", "param": "messages"}}, 400))
            return
        says(writer, seen, left.pop(0) if len(left) > 1 else left[0])

    async with scripted(script) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
        yield server, client


# ---------------------------------------------------------------- the ladder


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("takes", ["json_schema", "json_object", "prompt"])
def test_a_server_is_asked_in_the_best_way_that_it_takes(takes: str, refusal: str, streamed: bool) -> None:
    """Each refusal leads one rung down, and the next call begins where the last one ended.

    A stream that is refused as not implemented is asked for once without usage, too.
    """
    rungs = ["json_schema", "json_object", "prompt"]
    way = rungs[: rungs.index(takes) + 1]
    if streamed and refusal == "not implemented" and len(way) > 1:
        way = [way[0], *way]

    async def main() -> None:
        async with picky({takes}, REFUSALS[refusal]) as (server, client):
            for asked in (way, [takes], [takes]):
                before = len(server.seen)
                if streamed:
                    async with client.chat.stream_parse("Ulm?", into=City) as stream:
                        reply = await stream.final()
                else:
                    reply = await client.chat.parse("Ulm?", into=City)
                assert reply.parsed == City("Ulm", 130000)
                assert [format_of(one) for one in server.seen[before:]] == asked

    run(main())


def test_another_server_and_another_model_are_asked_anew() -> None:
    """What one lacks, another may have."""

    async def main() -> None:
        async with picky({"prompt"}) as (server, client), picky({"json_schema"}) as (other, _):
            await client.chat.parse("Ulm?", into=City)
            await client.chat.parse("Ulm?", into=City, model="bigger")
            assert [format_of(one) for one in server.seen[3:]] == ["json_schema", "json_object", "prompt"]
            await client.with_options(base_url=other.url).chat.parse("Ulm?", into=City)
            assert [format_of(one) for one in other.seen] == ["json_schema"]

    run(main())


def test_a_request_that_is_wrong_otherwise_fails_with_its_own_error() -> None:
    """If every way is refused it was not the format; if the error names something else, it is not asked again."""

    async def main() -> None:
        async with picky(set(), (400, {"error": {"message": "Bad request: first"}})) as (server, client):
            with pytest.raises(BadRequestError, match="first"):
                await client.chat.parse("Ulm?", into=City)
            assert [format_of(one) for one in server.seen] == ["json_schema", "json_object", "prompt"]
        async with picky(set(), (400, {"error": {"message": "x", "param": "temperature"}})) as (server, client):
            with pytest.raises(BadRequestError):
                await client.chat.parse("Ulm?", into=City)
            assert len(server.seen) == 1
        async with picky(set(), (404, {"error": {"message": "x"}})) as (server, client):
            with pytest.raises(NotFoundError):
                await client.chat.parse("Ulm?", into=City)
            assert len(server.seen) == 1

    run(main())


def test_a_format_can_be_named() -> None:
    """Then it is used, refused or not."""

    async def main() -> None:
        async with picky({"json_schema", "prompt"}) as (server, client):
            assert (await client.chat.parse("Ulm?", into=City, format="prompt")).parsed == City("Ulm", 130000)
            with pytest.raises(BadRequestError):
                await client.chat.parse("Ulm?", into=City, format="json_object")
            assert [format_of(one) for one in server.seen] == ["prompt", "json_object"]
            with pytest.raises(ValueError, match="json_schema"):
                await client.chat.parse("Ulm?", into=City, format="yaml")  # type: ignore[arg-type]

    run(main())


# ---------------------------------------------------------------- answers that do not fit


@pytest.mark.parametrize("streamed", [False, True])
def test_a_wrong_answer_is_shown_to_the_model(streamed: bool) -> None:
    """It sees its answer and what is wrong with it; the history keeps the right answer alone, usage counts both."""

    async def main() -> None:
        async with picky({"json_schema"}, texts=('{"name":"Ulm","people":"many"}', ULM)) as (server, client):
            if streamed:
                async with client.chat.stream_parse("Ulm?", into=City) as stream:
                    pieces = [piece async for piece in stream]
                assert [type(piece) for piece in pieces].count(RepairStarted) == 1
                reply = await stream.final()
            else:
                reply = await client.chat.parse("Ulm?", into=City)
                assert reply.usage is not None
                assert reply.usage.total_tokens == 14
            assert reply.parsed == City("Ulm", 130000)
            assert [message["content"] for message in reply.messages] == [ULM]
            assert len(reply.answers) == 2
            user, wrong, told = server.seen[1].json()["messages"]
            assert (user["content"], wrong["content"]) == ("Ulm?", '{"name":"Ulm","people":"many"}')
            assert told["role"] == "user"
            assert "$.people" in told["content"]
            assert '"many"' in told["content"]

    run(main())


def test_an_answer_that_never_fits_is_an_error_that_holds_it() -> None:
    """After `repair` rounds; with none, at once. The last answer, its words, tokens and fault are there."""

    async def main() -> None:
        wrong = '{"name":"Ulm"}'
        async with picky({"json_schema"}, texts=(wrong,)) as (server, client):
            for repair in (0, 1, 3):
                before = len(server.seen)
                with pytest.raises(StructuredOutputError, match="City") as caught:
                    await client.chat.parse("Ulm?", into=City, repair=repair)
                assert len(server.seen) - before == repair + 1
                error = caught.value
                assert error.text == error.answer.text == wrong
                assert error.usage is not None
                assert "people" in str(error.problem)
                assert error.meta is None or error.meta.status == 200
                assert error.partial.text == wrong

    run(main())


def test_a_server_that_passes_over_the_format_is_told_in_words() -> None:
    """It takes `response_format` and answers prose: from the repair on, the schema stands in the prompt."""

    async def main() -> None:
        async with picky({"json_schema", "prompt"}, texts=("Ulm is a city.", ULM)) as (server, client):
            assert (await client.chat.parse("Ulm?", into=City)).parsed == City("Ulm", 130000)
            await client.chat.parse("Ulm?", into=City)
            assert [format_of(one) for one in server.seen] == ["json_schema", "prompt", "prompt"]
            told = server.seen[1].json()["messages"][-1]["content"]
            assert '"people"' in told

    run(main())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (chat('{"name":"Ul', "length"), LengthFinishReasonError),
        (chat("", "content_filter"), ContentFilterFinishReasonError),
        (chat(None, refusal="I will not."), RefusalError),
    ],
)
def test_answers_that_can_never_fit_are_told_apart(answer: dict[str, Any], kind: type[StructuredOutputError]) -> None:
    """Cut, filtered, refused: no repair is tried, and the error holds the answer, its words and its tokens."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(answer))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(kind) as caught:
                await client.chat.parse("Ulm?", into=City)
            assert len(server.seen) == 1
            error = caught.value
            assert error.completion.id == "chatcmpl-1"
            assert error.text == (answer["choices"][0]["message"]["content"] or "")
            assert error.usage is not None
            assert error.usage.total_tokens == 7
            if isinstance(error, RefusalError):
                assert error.refusal == "I will not."

    run(main())


# ---------------------------------------------------------------- as it comes


def test_objects_grow_as_they_come() -> None:
    """Plain values that only grow, each after the piece of text that made it; the last is the whole."""

    async def main() -> None:
        text = '{"value":[{"name":"Ulm","people":1},{"name":"Bonn","people":2}]}'
        async with picky({"json_schema"}, texts=(text,)) as (_, client):
            async with client.chat.stream_parse("Cities?", into=list[City]) as stream:
                seen = [json.dumps(piece.value) async for piece in stream if isinstance(piece, PartialObject)]
            assert seen[-1] == json.dumps([{"name": "Ulm", "people": 1}, {"name": "Bonn", "people": 2}])
            assert len(seen) > 5
            assert sorted(map(len, seen)) == [len(one) for one in seen]
            assert (await stream.final()).parsed == [City("Ulm", 1), City("Bonn", 2)]

    run(main())


# ---------------------------------------------------------------- the built-in server


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int


class Note(TypedDict):
    text: str
    tags: NotRequired[list[str]]


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float = 1.0


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


@dataclass
class Trip:
    start: datetime.datetime
    stops: list[Point]
    colour: Colour
    shape: Circle | Square
    note: Note | None = None


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    born: datetime.date
    colour: Colour = Colour.RED


KINDS: list[Any] = [
    City,
    Trip,
    Note,
    Point,
    Tree,
    Person,
    list[City],
    list[Person],
    dict[str, int],
    Circle | Square,
    Literal["yes", "no"],
    Colour,
    int,
    bool,
    str | None,
    datetime.date,
    tuple[int, int],  # of mixed ones a strict schema cannot tell the order
    {"title": "Pet", "type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with start_in_thread(serve(demo_app(), port=0)) as server:
        yield server.base_url


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_built_in_server_answers_any_type(kind: Any, demo: str) -> None:
    """Each kind of type, asked for by schema, whole and streamed: the answer is a value of it at the first try."""

    async def main() -> None:
        async with AsyncOpenAI(base_url=demo, api_key="k") as client:
            asked: dict[str, Any] = {"model": "demo-chat", "into": kind, "repair": 0, "format": "json_schema"}
            reply = await client.chat.parse("Judy, 7, lives in Ulm since 2020-05-01", **asked)
            assert reply.parsed is not None or kind == (str | None)
            assert shape_of(kind).decode(reply.text) == reply.parsed
            async with client.chat.stream_parse("Judy, 7, lives in Ulm since 2020-05-01", **asked) as stream:
                assert (await stream.final()).parsed == reply.parsed

    run(main())


# ---------------------------------------------------------------- reasoning in the text

DRAFT = '{"name": "Bonn", "people": 1}'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{DRAFT}</think>{ULM}",
        f"Perhaps {DRAFT}.\n</think>\n\n```json\n{ULM}\n```",
        f"<think>a</think>\n<think>{DRAFT}</think>\n{ULM}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{ULM}",
        f"[THINK]{DRAFT}[/THINK]{ULM}",
    ],
)
def test_the_answer_follows_the_reasoning_of_servers_without_a_parser(text: str) -> None:
    """A draft within it is not the answer: whole, streamed, in a session, and with the official helpers."""

    async def main() -> None:
        async with picky({"json_schema"}, texts=(text,)) as (_, client):
            ulm = City("Ulm", 130000)
            assert (await client.chat.parse("Ulm?", into=City)).parsed == ulm
            assert (await client.chat.session().say("Ulm?", into=City)).parsed == ulm
            async with client.chat.stream_parse("Ulm?", into=City) as stream:
                partial = [piece.value async for piece in stream if isinstance(piece, PartialObject)]
            assert partial[-1] == {"name": "Ulm", "people": 130000}
            assert (await stream.final()).parsed == ulm
            hi: Any = [{"role": "user", "content": "Ulm?"}]
            answer = await client.chat.completions.parse(messages=hi, model="m", response_format=City)
            assert answer.choices[0].message.parsed == ulm
            async with client.chat.completions.stream(messages=hi, model="m", response_format=City) as official:
                final = await official.get_final_completion()
            assert final.choices[0].message.parsed == ulm

    run(main())


# ---------------------------------------------------------------- slips of the model


def held_back(text: str | None) -> dict[str, Any]:
    """Groq's error for an answer that is not the JSON asked for."""
    error: dict[str, Any] = {
        "message": "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
        "type": "invalid_request_error",
        "code": "json_validate_failed",
    }
    return {"error": error if text is None else {**error, "failed_generation": text}}


@asynccontextmanager
async def slipping(
    slips: int, where: str, text: str | None = '{"name": "Ulm"'
) -> AsyncIterator[tuple[Scripted, Client]]:
    """A server whose model slips so many times: as a 400, in a 200, or in the middle of a stream."""
    left = [slips]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        left[0] -= 1
        if left[0] < 0:
            says(writer, seen, ULM)
        elif where == "status":
            writer.write(json_answer(held_back(text), 400))
        elif seen.json().get("stream"):
            writer.write(events([chunk('{"na'), held_back(text)]))
        else:
            writer.write(json_answer(held_back(text)))

    async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
        yield server, client


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("where", ["status", "answer"])
@pytest.mark.parametrize("text", [None, "", '{"name": "Ulm"'])
def test_a_slip_is_repaired_and_not_remembered(where: str, streamed: bool, text: str | None) -> None:
    """The model is shown what it wrote; the schema is asked for with that request, and with each later one."""

    async def main() -> None:
        async with slipping(1, where, text) as (server, client):
            session = client.chat.session()
            for count in (2, 3):
                if streamed:
                    async with session.stream("Ulm?", into=City) as stream:
                        pieces = [piece async for piece in stream]
                    assert sum(isinstance(piece, RepairStarted) for piece in pieces) == (count == 2)
                    reply: Any = await stream.final()
                else:
                    reply = await session.say("Ulm?", into=City)
                assert reply.parsed == City("Ulm", 130000)
                assert len(server.seen) == count
            assert {format_of(seen) for seen in server.seen} == {"json_schema"}
            said = server.seen[1].json()["messages"]
            assert [one["role"] for one in said] == (["user", "assistant", "user"] if text else ["user"])
            assert len(session.messages) == 4

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_slips_on_has_no_answer(streamed: bool) -> None:
    """After all repairs the error has the server's words and the model's; the schema is asked for again later."""

    async def main() -> None:
        async with slipping(3, "status") as (server, client):
            for repair, count in ((1, 2), (0, 3)):
                with pytest.raises(StructuredOutputError, match="Failed to generate JSON") as caught:
                    if streamed:
                        await client.chat.stream_parse("Ulm?", into=City, repair=repair).final()
                    else:
                        await client.chat.parse("Ulm?", into=City, repair=repair)
                assert caught.value.text == '{"name": "Ulm"'
                assert isinstance(caught.value.__cause__, BadRequestError)
                assert len(server.seen) == count
            assert (await client.chat.parse("Ulm?", into=City)).parsed == City("Ulm", 130000)
            assert {format_of(seen) for seen in server.seen} == {"json_schema"}

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_empty_reasoning_goes_back_to_the_server(streamed: bool) -> None:
    """DeepSeek refuses a second round whose history has lost an empty `reasoning_content`."""

    async def main() -> None:
        call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
        delta = {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": [{"index": 0, **call}]}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            said = seen.json()["messages"]
            if len(said) == 1 and streamed:
                first = {**chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
                writer.write(events([first, chunk(finish="tool_calls")]))
            elif len(said) == 1:
                answer = chat("")
                answer["choices"][0] |= {"finish_reason": "tool_calls"}
                answer["choices"][0]["message"] = {**delta, "tool_calls": [call]}
                writer.write(json_answer(answer))
            elif said[1].get("reasoning_content") != "" or said[1]["content"] != "":
                writer.write(json_answer({"error": {"message": "Missing `reasoning_content` field"}}, 400))
            else:
                says(writer, seen, "three")

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            if streamed:
                reply: Any = await client.chat.stream_tools("1 + 2?", tools=[add], keep_reasoning=True).final()
            else:
                reply = await client.chat.run_tools("1 + 2?", tools=[add], keep_reasoning=True)
            assert reply.text == "three"
            assert len(server.seen) == 2

    run(main())
