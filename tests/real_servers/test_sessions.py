"""Sessions against real servers: llama.cpp with the scripted model, and the built-in one with its demo models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, ContextLimitError
from openaiasync.demo import demo_app
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread

from .conftest import KEY, start_llamacpp
from .processes import Running
from .tiny import TEXTS

SMALL = 1024  # tokens


def weather(town: str) -> str:
    """The weather of a town."""
    return f"rain in {town} #hello"


def clock(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone} #hello"


@asynccontextmanager
async def client_of(server: Running, **options: Any) -> AsyncIterator[Client]:
    async with Client(api_base=f"{server.url}/v1", api_key=KEY, model="tiny", http_timeout=20.0, **options) as client:
        yield client


@pytest.fixture(scope="module")
def small_llama(gguf: Path) -> Iterator[Running]:
    """llama.cpp with little room: a context that is full costs little time."""
    yield from start_llamacpp(gguf, embeddings=False, context=SMALL)


class TestLlamaCpp:
    """Word for word."""

    @pytest.mark.parametrize("streamed", [False, True])
    def test_turns_with_tools_in_between(self, llama: Running, streamed: bool) -> None:
        """One call, two parallel ones, and words; the history goes on being taken."""

        async def main() -> None:
            async with client_of(llama) as client:
                session = client.chat.session(system="You are a pocket model.", tools=[weather, clock])

                async def say(text: str) -> Any:
                    return await (session.stream(text).final() if streamed else session.say(text))

                assert (await say("#hello")).text == TEXTS["hello"]
                reply = await say("#call")
                assert [result.value for result in reply.tool_calls] == ["rain in Bergen #hello"]
                assert reply.text == TEXTS["hello"]
                reply = await say("#calls")
                assert [result.name for result in reply.tool_calls] == ["weather", "clock"]
                assert (await session.fork().say("#json", tools=[])).text == TEXTS["json"]
                session.undo()
                assert (await session.edit(1, "#utf8", tools=[])).text == TEXTS["utf8"]
                assert [message["role"] for message in session.messages] == ["system", "user", "assistant"]
                assert session.usage.prompt_tokens > 0
                assert session.usage.estimated == 0

        run(main())

    def test_endless_answers_stay_as_far_as_they_came(self, llama: Running, tmp_path: Path) -> None:
        """Cut by length: the reason is in the history and in the file, and the talk goes on."""

        async def main() -> None:
            async with client_of(llama) as client:
                session = client.chat.session(max_tokens=20)
                session.save(tmp_path / "talk.jsonl")
                for streamed in (False, True):
                    reply = await (session.stream("#forever").final() if streamed else session.say("#forever"))
                    assert reply.finish_reason == "length"
                    assert reply.text.startswith("la li")
                assert (await session.say("#hello")).text == TEXTS["hello"]
                assert [turn.finish_reason for turn in session._state.history.turns] == ["length", "length", "stop"]
                assert b'"finish_reason":"length"' in (tmp_path / "talk.jsonl").read_bytes()
                assert client.chat.load_session(tmp_path / "talk.jsonl").messages == session.messages

        run(main())

    def test_reasoning_is_not_sent_back_unless_asked(self, llama: Running) -> None:
        """It is on the reply, and in the history by one option alone."""

        async def main() -> None:
            async with client_of(llama) as client:
                for kept in (False, True):
                    session = client.chat.session(keep_reasoning=kept)
                    reply = await session.say("#reason")
                    assert reply.reasoning.strip() == "Six times seven"
                    assert ("Six times seven" in str(session.messages)) == kept
                    assert (await session.say("#hello")).text == TEXTS["hello"]

        run(main())

    def test_a_context_that_is_full_is_made_room_in(self, small_llama: Running) -> None:
        """llama.cpp refuses what is too long with its own numbers; the session sends less and goes on."""

        async def main() -> None:
            async with client_of(small_llama) as client:
                session = client.chat.session(policy="drop", max_tokens=30)
                await session.say("#hello")
                await session.say("#hello")
                reply = await session.say(f"{'word ' * (SMALL // 5 - 20)} #hello")
                assert reply.text == TEXTS["hello"]
                assert len(session.messages) == 6
                assert reply.usage is not None
                assert SMALL * 0.9 < reply.usage.prompt_tokens < SMALL
                with pytest.raises(ContextLimitError):
                    await client.chat.session(context_limit=30, policy="refuse").say("word " * 100)

        run(main())

    def test_counts_of_tokens_are_near(self, llama: Running) -> None:
        """What the next request takes, as the session says before, is what the server counts then, within a few."""

        async def main() -> None:
            async with client_of(llama) as client:
                session = client.chat.session(system="You are a pocket model.", tokenizer=len)  # a token a byte
                for number in range(6):
                    await session.say(f"Something about number {number} #hello")
                    before = session.tokens.tokens
                    reply = await session.fork().say("#hello")
                    assert reply.usage is not None
                    assert 0 <= reply.usage.prompt_tokens - before < 60

        run(main())


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with start_in_thread(serve(demo_app())) as server:
        yield server.base_url


class TestDemoServer:
    """The server of the docs."""

    def test_a_whole_session(self, demo: str, tmp_path: Path) -> None:
        """Words, tools, images, room, usage, a file: with one server."""

        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        async def main() -> None:
            async with Client(api_base=demo, api_key="k", model="demo-chat") as client:
                session = client.chat.session(system="Answer briefly.", context_limit=2000, tools=[add])
                session.save(tmp_path / "talk.jsonl")
                first = await session.say("Hello, my name is Judy.")
                assert first.text
                reply = await session.say("What is my name?")
                assert "Judy" in reply.text
                async with session.stream("Tell me a story.") as stream:
                    said = "".join([piece.text async for piece in stream])
                assert said == (await stream.final()).text
                assert session.usage.estimated == 0
                assert session.usage.requests >= 3
                for number in range(30):
                    await session.say(f"Tell me more, number {number}. " + "word " * 60)
                assert len(session.messages) > 60
                again = client.chat.load_session(tmp_path / "talk.jsonl")
                assert again.messages == session.messages

        run(main())
