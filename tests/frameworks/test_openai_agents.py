"""openai-agents over the bridge, and over our own client where it takes one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

agents = pytest.importorskip("agents")

import openai  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from conftest import run  # noqa: E402

from .bridged import official, ours  # noqa: E402
from .replies import Reply  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default")]


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


@pytest.fixture(params=["chat_completions", "responses"], autouse=True)
def api(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test runs over both interfaces; nothing is traced to OpenAI."""
    agents.set_tracing_disabled(True)
    agents.set_default_openai_api(request.param)
    yield request.param
    agents.set_default_openai_api("responses")


def agent(client: Any, **words: Any) -> Any:
    agents.set_default_openai_client(client, use_for_tracing=False)
    return agents.Agent(name="helper", model="m", **words)


@agents.function_tool
def weather(city: str) -> str:
    """The weather.

    Args:
        city: where
    """
    return f"rain in {city}"


def test_plain() -> None:
    """An agent answers."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as (_, client, _):
            result = await agents.Runner.run(agent(client), "hi")
            assert result.final_output == "Hello there."

    run(main())


def test_streaming() -> None:
    """A streamed answer comes in pieces and whole."""

    async def main() -> None:
        async with official(Reply("Hello there, all.")) as (_, client, _):
            result = agents.Runner.run_streamed(agent(client), "hi")
            pieces: list[str] = []
            async for one in result.stream_events():
                if one.type == "raw_response_event" and one.data.type == "response.output_text.delta":
                    pieces.append(one.data.delta)
            assert len(pieces) > 1
            assert ("".join(pieces), result.final_output) == ("Hello there, all.", "Hello there, all.")

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_tools(streamed: bool) -> None:
    """A tool is called and its result goes back to the model."""

    async def main() -> None:
        replies = (Reply(tool="weather", arguments={"city": "Paris"}), Reply("Rain."))
        async with official(*replies) as (server, client, _):
            one = agent(client, tools=[weather])
            if streamed:
                result = agents.Runner.run_streamed(one, "the weather?")
                async for _ in result.stream_events():
                    pass
            else:
                result = await agents.Runner.run(one, "the weather?")
            assert result.final_output == "Rain."
            assert b"rain in Paris" in server.requests[1].body

    run(main())


def test_structured_output() -> None:
    """An answer becomes an object."""

    async def main() -> None:
        async with official(Reply('{"name": "Paris", "people": 2000000}')) as (_, client, _):
            result = await agents.Runner.run(agent(client, output_type=City), "which city?")
            assert result.final_output == City(name="Paris", people=2_000_000)

    run(main())


def test_a_429() -> None:
    """A 429 that stays is the official RateLimitError; one that goes away is not seen."""

    async def main() -> None:
        async with official(Reply(status=429)) as (server, client, _):
            with pytest.raises(openai.RateLimitError):
                await agents.Runner.run(agent(client), "hi")
            assert len(server.requests) == 3
        async with official(Reply(status=429), Reply("There.")) as (_, client, _):
            assert (await agents.Runner.run(agent(client), "hi")).final_output == "There."

    run(main())


def test_a_cut_stream() -> None:
    """A stream that breaks off raises instead of being taken for the whole answer."""

    async def main() -> None:
        async with official(Reply("Hello there, and much more.", cut=True)) as (_, client, _):
            result = agents.Runner.run_streamed(agent(client), "hi")
            seen = 0
            with pytest.raises(openai.APIConnectionError):
                async for _ in result.stream_events():
                    seen += 1
            assert seen

    run(main())


def test_our_own_client_streams(api: str) -> None:
    """`set_default_openai_client` takes our client for streamed runs over chat completions, tools among them.

    Whole answers, and responses of both kinds, have to be of the official classes: those take the bridge.
    """
    if api == "responses":
        pytest.skip("the framework asks for the official classes")

    async def main() -> None:
        replies = (Reply(tool="weather", arguments={"city": "Paris"}), Reply("Rain, I fear."))
        async with ours(*replies) as (server, client):
            result = agents.Runner.run_streamed(agent(client, tools=[weather]), "the weather?")
            async for _ in result.stream_events():
                pass
            assert result.final_output == "Rain, I fear."
            assert b"rain in Paris" in server.requests[1].body

    run(main())
