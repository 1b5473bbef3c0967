"""The official helpers against llama.cpp: its grammar keeps to the types, its streams have a dialect of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from conftest import run
from openaiasync import AsyncOpenAI, LengthFinishReasonError, pydantic_function_tool, pydantic_responses_function_tool

from .conftest import KEY
from .processes import Running
from .tiny import TEXTS


class Sum(msgspec.Struct):
    sum: int


class Weather(msgspec.Struct):
    town: str


@asynccontextmanager
async def client_of(server: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, timeout=20.0) as client:
        yield client


def asked(words: str) -> Any:
    return [{"role": "user", "content": words}]


def test_a_value(llama: Running) -> None:
    """A type is kept to by the server's grammar; its text becomes the value, whole and streamed."""

    async def main() -> None:
        async with client_of(llama) as client:
            completions = client.chat.completions
            answer = await completions.parse(model="tiny", messages=asked("#json"), response_format=Sum)
            assert answer.parsed == Sum(12)
            async with completions.stream(model="tiny", messages=asked("#json"), response_format=Sum) as stream:
                seen = [(one.type, getattr(one, "snapshot", None)) async for one in stream if one.type != "chunk"]
                final = await stream.get_final_completion()
            assert final.parsed == Sum(12)
            assert seen[-1][0] == "content.done"
            assert seen[-2] == ("content.delta", final.text)

    run(main())


def test_a_call(llama: Running) -> None:
    """The arguments of a call become the type's, put together from fragments when they are streamed."""

    async def main() -> None:
        tools = [pydantic_function_tool(Weather, name="weather")]
        async with client_of(llama) as client:
            completions = client.chat.completions
            answer = await completions.parse(model="tiny", messages=asked("What is the weather?"), tools=tools)
            (call,) = answer.choices[0].message.tool_calls or []
            assert call.function.parsed_arguments == Weather("Bergen")
            async with completions.stream(model="tiny", messages=asked("What is the weather?"), tools=tools) as stream:
                kinds = [one.type.rpartition(".")[2] async for one in stream if one.type.startswith("tool_calls")]
                final = await stream.get_final_completion()
            assert kinds.count("delta") > 2
            assert kinds[-1] == "done"
            (call,) = final.choices[0].message.tool_calls or []
            assert call.function.parsed_arguments == Weather("Bergen")

    run(main())


def test_an_answer_that_is_cut(llama: Running) -> None:
    """An answer at its length limit has no value."""

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(LengthFinishReasonError) as caught:
                await client.chat.completions.parse(
                    model="tiny", messages=asked("#forever"), response_format=list[int], max_tokens=3
                )
            assert caught.value.completion.usage is not None

    run(main())


def test_responses(llama: Running) -> None:
    """Its responses, whose events are not numbered: text and call with all so far, and the whole at the end."""

    async def main() -> None:
        tools: Any = [pydantic_responses_function_tool(Weather, name="weather")]
        async with client_of(llama) as client:
            answer = await client.responses.parse(model="tiny", input="#hello")
            assert answer.output_text == TEXTS["hello"]
            async with client.responses.stream(model="tiny", input="#hello") as stream:
                texts = [one.snapshot async for one in stream if one.type == "response.output_text.delta"]
                final = await stream.get_final_response()
            assert texts[-1] == final.output_text == TEXTS["hello"]
            assert len(texts) > 2
            async with client.responses.stream(model="tiny", input="What is the weather?", tools=tools) as stream:
                deltas = [one.snapshot async for one in stream if one.type == "response.function_call_arguments.delta"]
                snapshot = stream.current_response_snapshot
                final = await stream.get_final_response()
            assert msgspec.json.decode(deltas[-1], type=Weather) == Weather("Bergen")
            for found in (final, snapshot):
                (call,) = [item for item in found.output if item.type == "function_call"]
                assert call.arguments == deltas[-1]
            assert call.parsed_arguments is None  # of what was shown before the end
            (call,) = [item for item in final.output if item.type == "function_call"]
            assert call.parsed_arguments == Weather("Bergen")

    run(main())
