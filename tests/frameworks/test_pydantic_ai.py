"""pydantic-ai over the bridge, and over our own client where it takes one."""

from __future__ import annotations

from typing import Any

import pytest

pydantic_ai = pytest.importorskip("pydantic_ai")

from pydantic import BaseModel  # noqa: E402
from pydantic_ai import Agent, NativeOutput  # noqa: E402
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError  # noqa: E402
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel  # noqa: E402
from pydantic_ai.providers.openai import OpenAIProvider  # noqa: E402

from conftest import run  # noqa: E402

from .bridged import official, ours  # noqa: E402
from .replies import Reply  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default")]

MODELS = [OpenAIChatModel, OpenAIResponsesModel]


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


PARIS = {"name": "Paris", "people": 2_000_000}


def agent(kind: Any, client: Any, **words: Any) -> Any:
    return Agent(kind("m", provider=OpenAIProvider(openai_client=client)), **words)


@pytest.mark.parametrize("kind", MODELS)
def test_plain(kind: Any) -> None:
    """An agent answers."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as (_, client, _):
            result = await agent(kind, client).run("hi")
            assert result.output == "Hello there."

    run(main())


@pytest.mark.parametrize("kind", MODELS)
def test_streaming(kind: Any) -> None:
    """A streamed answer comes in pieces and whole."""

    async def main() -> None:
        async with official(Reply("Hello there, all.")) as (_, client, _):
            async with agent(kind, client).run_stream("hi") as result:
                pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            assert len(pieces) > 1
            assert "".join(pieces) == "Hello there, all."

    run(main())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("streamed", [False, True])
def test_tools(kind: Any, streamed: bool) -> None:
    """A tool is called and its result goes back to the model."""

    async def main() -> None:
        replies = (Reply(tool="weather", arguments={"city": "Paris"}), Reply("Rain."))
        async with official(*replies) as (server, client, _):
            asked: list[str] = []
            one = agent(kind, client)

            @one.tool_plain
            def weather(city: str) -> str:
                asked.append(city)
                return "rain"

            if streamed:
                async with one.run_stream("the weather?") as result:
                    assert await result.get_output() == "Rain."
            else:
                assert (await one.run("the weather?")).output == "Rain."
            assert asked == ["Paris"]
            assert b"rain" in server.requests[1].body

    run(main())


@pytest.mark.parametrize("kind", MODELS)
def test_structured_output(kind: Any) -> None:
    """By a tool and by a JSON schema an answer becomes an object."""

    async def main() -> None:
        async with official(Reply(tool="final_result", arguments=PARIS)) as (_, client, _):
            result = await agent(kind, client, output_type=City).run("which city?")
            assert result.output == City(**PARIS)
        async with official(Reply('{"name": "Paris", "people": 2000000}')) as (_, client, _):
            result = await agent(kind, client, output_type=NativeOutput(City)).run("which city?")
            assert result.output == City(**PARIS)

    run(main())


@pytest.mark.parametrize("kind", MODELS)
def test_a_429(kind: Any) -> None:
    """A 429 that stays is the framework's HTTP error; one that goes away is not seen."""

    async def main() -> None:
        async with official(Reply(status=429)) as (server, client, _):
            with pytest.raises(ModelHTTPError) as caught:
                await agent(kind, client).run("hi")
            assert (caught.value.status_code, len(server.requests)) == (429, 3)
        async with official(Reply(status=429), Reply("There.")) as (_, client, _):
            assert (await agent(kind, client).run("hi")).output == "There."

    run(main())


@pytest.mark.parametrize("kind", MODELS)
def test_a_cut_stream(kind: Any) -> None:
    """A stream that breaks off raises instead of being taken for the whole answer."""

    async def main() -> None:
        async with official(Reply("Hello there, and much more.", cut=True)) as (_, client, _):
            got: list[str] = []
            with pytest.raises(ModelAPIError):
                async with agent(kind, client).run_stream("hi") as result:
                    async for piece in result.stream_text(delta=True, debounce_by=None):
                        got.append(piece)
            assert got

    run(main())


def test_our_own_client_streams() -> None:
    """`OpenAIProvider(openai_client=...)` takes our client for streams of chat completions, tools among them.

    Whole answers, and responses of both kinds, have to be of the official classes: those take the bridge.
    """

    async def main() -> None:
        replies = (Reply(tool="weather", arguments={"city": "Paris"}), Reply("Rain, I fear."))
        async with ours(*replies) as (server, client):
            one = agent(OpenAIChatModel, client)

            @one.tool_plain
            def weather(city: str) -> str:
                return f"rain in {city}"

            async with one.run_stream("the weather?") as result:
                assert await result.get_output() == "Rain, I fear."
            assert b"rain in Paris" in server.requests[1].body

    run(main())
