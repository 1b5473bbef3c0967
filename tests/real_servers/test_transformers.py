"""Our client against `transformers serve`, the known server that deviates most from the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import APIStatusError, BadRequestError, Client, InternalServerError, UnprocessableEntityError

from .processes import Running
from .tiny import TEXTS

pytestmark = [pytest.mark.transformers, pytest.mark.timeout(300)]


@asynccontextmanager
async def client_of(server: Running, **options: Any) -> AsyncIterator[Client]:
    options = {"model": "./tiny", "http_timeout": 100.0, **options}
    async with Client(api_base=f"{server.url}/v1", **options) as client:
        yield client


@pytest.mark.parametrize("cue", ["hello", "json", "utf8", "broken", "controls"])
def test_chat_and_stream_give_the_text(cue: str, transformers: Running) -> None:
    """The text is the script's, whole and streamed; a stream without `[DONE]` is complete all the same."""

    async def main() -> None:
        async with client_of(transformers) as client:
            answer = await client.chat(f"#{cue}", max_tokens=40)
            assert answer.text == TEXTS[cue]
            async with client.chat.stream(f"#{cue}", max_tokens=40) as stream:
                text = "".join([chunk.text async for chunk in stream])
            assert text == TEXTS[cue]
            final = await stream.final()
            assert (final.text, final.choices[0].finish_reason) == (TEXTS[cue], "stop")

    run(main(), 200)


def test_an_endless_answer_is_cut(transformers: Running) -> None:
    """`max_tokens` ends an answer with "length", whole and streamed."""

    async def main() -> None:
        async with client_of(transformers) as client:
            answer = await client.chat("#forever", max_tokens=4)
            assert (answer.text.strip(), answer.choices[0].finish_reason) == ("la li la li", "length")
            async with client.chat.stream("#forever", max_tokens=4) as stream:
                final = await stream.final()
            assert (final.text.strip(), final.choices[0].finish_reason) == ("la li la li", "length")

    run(main(), 200)


def test_the_list_of_models(transformers: Running) -> None:
    """The list of models is read, whatever its dates look like."""

    async def main() -> None:
        async with client_of(transformers) as client:
            models = await client.models()
            assert models.to_dict()["object"] == "list"

    run(main(), 200)


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (UnprocessableEntityError, {"extra_body": {"no_such_field": 1}}),
        (BadRequestError, {"model": "nope"}),
        (InternalServerError, {"temperature": "hot"}),
    ],
)
def test_errors_of_any_shape(kind: type[APIStatusError], extra: Any, transformers: Running) -> None:
    """`{"detail": ...}`, a list of details and plain text all raise the class of their status."""

    async def main() -> None:
        async with client_of(transformers, max_retries=0) as client:
            with pytest.raises(kind):
                await client.chat("#hello", **extra)

    run(main(), 200)


def test_a_stream_that_is_left_leaves_the_server_usable(transformers: Running) -> None:
    """After a cancelled stream the next call is answered."""

    async def main() -> None:
        async with client_of(transformers) as client:
            async with client.chat.stream("#forever", max_tokens=4000) as stream:
                async for _ in stream:
                    break
            async with asyncio.timeout(100):
                assert (await client.chat("#hello")).text == TEXTS["hello"]

    run(main(), 200)
