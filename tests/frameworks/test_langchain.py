"""langchain-openai over the bridge. It checks answers for the official classes: our own client is not taken."""

from __future__ import annotations

from typing import Any

import pytest

langchain_openai = pytest.importorskip("langchain_openai")

import openai  # noqa: E402
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage  # noqa: E402
from langchain_core.tools import tool  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from conftest import run  # noqa: E402

from .bridged import official  # noqa: E402
from .replies import Reply  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default")]

PARIS = {"name": "Paris", "people": 2_000_000}


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def by_response(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def model(bridged: Any, by_response: bool = False) -> Any:
    return langchain_openai.ChatOpenAI(
        model="m",
        base_url=bridged.server.url,
        api_key="sk-test",
        http_async_client=bridged.http,
        max_retries=0,
        use_responses_api=by_response,
    )


def test_plain(by_response: bool) -> None:
    """A model answers."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as bridged:
            assert (await model(bridged, by_response).ainvoke("hi")).text == "Hello there."
            assert len(bridged.server.requests) == 1

    run(main())


def test_streaming(by_response: bool) -> None:
    """A streamed answer comes in pieces and whole."""

    async def main() -> None:
        async with official(Reply("Hello there, all.")) as bridged:
            pieces = [str(one.text) async for one in model(bridged, by_response).astream("hi")]
            assert len([piece for piece in pieces if piece]) > 1
            assert "".join(pieces) == "Hello there, all."

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_tools(streamed: bool, by_response: bool) -> None:
    """A tool is called and its result goes back to the model."""

    async def main() -> None:
        async with official(Reply(tool="weather", arguments={"city": "Paris"}), Reply("Rain.")) as bridged:
            one = model(bridged, by_response).bind_tools([weather])
            messages: list[Any] = [HumanMessage("the weather?")]
            if streamed:
                whole: Any = AIMessageChunk("")
                async for piece in one.astream(messages):
                    whole = whole + piece
            else:
                whole = await one.ainvoke(messages)
            (call,) = whole.tool_calls
            assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
            messages += [whole, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
            assert (await one.ainvoke(messages)).text == "Rain."
            assert b"rain in Paris" in bridged.server.requests[1].body

    run(main())


def test_structured_output(by_response: bool) -> None:
    """By a JSON schema and by a tool an answer becomes an object."""

    async def main() -> None:
        async with official(Reply('{"name": "Paris", "people": 2000000}')) as bridged:
            made = model(bridged, by_response).with_structured_output(City, method="json_schema")
            assert await made.ainvoke("which city?") == City(**PARIS)
        async with official(Reply(tool="City", arguments=PARIS)) as bridged:
            made = model(bridged, by_response).with_structured_output(City, method="function_calling")
            assert await made.ainvoke("which city?") == City(**PARIS)

    run(main())


def test_a_429(by_response: bool) -> None:
    """A 429 that stays is the official RateLimitError; one that goes away is not seen."""

    async def main() -> None:
        async with official(Reply(status=429)) as bridged:
            with pytest.raises(openai.RateLimitError):
                await model(bridged, by_response).ainvoke("hi")
            assert len(bridged.server.requests) == 3
        async with official(Reply(status=429), Reply("There.")) as bridged:
            assert (await model(bridged, by_response).ainvoke("hi")).text == "There."

    run(main())


def test_a_cut_stream(by_response: bool) -> None:
    """A stream that breaks off raises instead of being taken for the whole answer."""

    async def main() -> None:
        async with official(Reply("Hello there, and much more.", cut=True)) as bridged:
            got: list[str] = []
            with pytest.raises(openai.APIConnectionError):
                async for one in model(bridged, by_response).astream("hi"):
                    got.append(str(one.text))
            assert "".join(got)

    run(main())
