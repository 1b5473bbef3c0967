"""Turns against llama.cpp's own server: tools, objects held by a grammar, reasoning, answers cut by length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from conftest import run
from openaiasync import (
    Client,
    LengthFinishReasonError,
    PartialObject,
    ReasoningPiece,
    Reply,
    StructuredOutputError,
    ToolFinished,
    ToolStarted,
    TooManyRoundsError,
    tool,
)
from openaiasync.chat.history import check_messages

from .conftest import KEY
from .processes import Running
from .tiny import TEXTS


@asynccontextmanager
async def client_of(server: Running, **options: Any) -> AsyncIterator[Client]:
    options = {"api_key": KEY, "model": "tiny", "http_timeout": 20.0, **options}
    async with Client(api_base=f"{server.url}/v1", **options) as client:
        yield client


class Sum(msgspec.Struct):
    sum: int


def weather(town: str) -> str:
    """Weather of a town."""
    return f"Rain in {town}."


async def clock(zone: str = "local") -> dict[str, str]:
    """Time of a zone."""
    return {"zone": zone, "time": "12:00"}


def asked(cue: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"#{cue}"}]


AT_LAST = "Forty-two."  # what the model says, after some thought, to all but its cues

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def tools_turn(server: Running, cue: str, streamed: bool, **options: Any) -> Reply[Any]:
    async def main() -> Reply[Any]:
        async with client_of(server) as client:
            if not streamed:
                return await client.chat.run_tools(asked(cue), **options)
            async with client.chat.stream_tools(asked(cue), **options) as stream:
                return await stream.final()

    return run(main())


@both_ways
def test_one_call(llama: Running, streamed: bool) -> None:
    """The model calls a function, sees its result, and says its words."""
    reply = tools_turn(llama, "call", streamed, tools=[weather, clock])
    assert [(one.name, one.content) for one in reply.tool_calls] == [("weather", "Rain in Bergen.")]
    assert (reply.text, reply.reasoning) == (AT_LAST, "Six times seven")
    counted = [answer.usage for answer in reply.answers if answer.usage is not None]
    assert len(counted) == 2
    assert reply.usage is not None
    assert reply.usage.total_tokens == sum(usage.total_tokens for usage in counted) > 20
    check_messages(asked("call") + reply.messages)


@both_ways
def test_two_calls_at_once(llama: Running, streamed: bool) -> None:
    """Both run together; the results are in the order of the calls."""
    together = asyncio.Event()

    async def slow(town: str) -> str:
        await together.wait()
        return f"Sun in {town}."

    async def quick(zone: str) -> str:
        together.set()
        return f"Noon in {zone}."

    made = [tool(slow, name="weather"), tool(quick, name="clock")]
    reply = tools_turn(llama, "calls", streamed, tools=made, parallel_tool_calls=True)
    assert [one.content for one in reply.tool_calls] == ["Sun in Lima.", "Noon in UTC."]
    check_messages(asked("calls") + reply.messages)


def test_the_pieces_of_a_turn(llama: Running) -> None:
    """Tools start and finish between the words."""

    async def main() -> None:
        async with client_of(llama) as client:
            async with client.chat.stream_tools("#call", tools=[weather]) as stream:
                pieces = [piece async for piece in stream]
        kinds = [type(piece) for piece in pieces if not (piece.text or piece.reasoning)]
        assert kinds == [ToolStarted, ToolFinished]
        assert "".join(piece.text for piece in pieces) == AT_LAST

    run(main())


@both_ways
def test_a_model_that_calls_without_end(llama: Running, streamed: bool) -> None:
    """Each result makes this one call again."""

    def again(town: str) -> str:
        return "#call"

    with pytest.raises(TooManyRoundsError) as caught:
        tools_turn(llama, "call", streamed, tools=[tool(again, name="weather")], max_rounds=3)
    assert len(caught.value.partial.tool_calls) == 2
    check_messages(asked("call") + caught.value.partial.messages)


@both_ways
def test_tools_that_are_required_once(llama: Running, streamed: bool) -> None:
    """After the first round the model may speak."""
    reply = tools_turn(llama, "call", streamed, tools=[weather], tool_choice="required")
    assert (len(reply.tool_calls), reply.text) == (1, AT_LAST)


@both_ways
def test_calls_that_the_length_limit_cut(llama: Running, streamed: bool) -> None:
    """Are not run."""
    with pytest.raises(LengthFinishReasonError) as caught:
        tools_turn(llama, "call", streamed, tools=[weather], tool_choice="required", max_tokens=9)
    assert caught.value.partial.tool_calls == []


@both_ways
def test_an_object_by_grammar(llama: Running, streamed: bool) -> None:
    """The server holds the model to the schema; the object grows as it comes."""

    async def main() -> None:
        async with client_of(llama) as client:
            if not streamed:
                assert (await client.chat.parse("#json", into=Sum)).parsed == Sum(12)
                return
            async with client.chat.stream_parse("#json", into=Sum) as stream:
                seen = [dict(piece.value) async for piece in stream if isinstance(piece, PartialObject)]
            assert (seen[0], seen[-1]) == ({}, {"sum": 12})
            assert (await stream.final()).parsed == Sum(12)

    run(main())


@both_ways
def test_words_where_an_object_was_asked_for(llama: Running, streamed: bool) -> None:
    """Asked in words, this model goes on talking; the error has what it said."""

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(StructuredOutputError) as caught:
                if streamed:
                    await client.chat.stream_parse("What is 5 + 7?", into=Sum, format="prompt").final()
                else:
                    await client.chat.parse("What is 5 + 7?", into=Sum, format="prompt")
            assert [answer.text for answer in caught.value.partial.answers] == [AT_LAST, AT_LAST]

    run(main())


@both_ways
def test_reasoning_is_apart(llama: Running, streamed: bool) -> None:
    """The server tells it from the words, and so does the reply."""

    async def main() -> None:
        async with client_of(llama) as client:
            if streamed:
                async with client.chat.stream_tools("#reason", tools=[]) as stream:
                    pieces = [piece async for piece in stream]
                    reply = await stream.final()
                thoughts = "".join(piece.reasoning for piece in pieces if isinstance(piece, ReasoningPiece))
                assert thoughts == reply.reasoning
            else:
                reply = await client.chat.run_tools("#reason", tools=[])
            assert (reply.reasoning, reply.text) == ("Six times seven", "Forty-two.")

    run(main())


def test_a_turn_left_in_the_middle_frees_the_slot(llama: Running) -> None:
    """An endless answer stops when the stream is closed."""

    async def main() -> None:
        async with client_of(llama) as client:
            for _ in range(3):
                async with client.chat.stream_tools("#forever", tools=[weather], tool_choice="none") as stream:
                    async for _ in stream:
                        if len(stream.text) > 20:
                            break
                assert stream.partial.text.startswith("la li la li")
            assert (await client.chat.run_tools("#hello", tools=[])).text == TEXTS["hello"]

    run(main())
