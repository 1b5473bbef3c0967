"""A front before llama.cpp's own server: paths beside ``/v1``, its own form of usage, clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import AuthenticationError, Client, NotFoundError
from openaiasync.server import ClientKey, Front, FrontUpstream

from .conftest import KEY
from .processes import Running

CLIENT = "sk-of-the-client"


@asynccontextmanager
async def fronted(*servers: Running) -> AsyncIterator[tuple[Client, str]]:
    """A client of a front before these servers, and the front's URL."""
    front = Front(
        [FrontUpstream(f"{one.url}/v1", KEY) for one in servers], keys=[ClientKey("test", CLIENT)], max_retries=0
    )
    async with front.serving() as url, Client(api_base=url, api_key=CLIENT, model="tiny") as client:
        yield client, url


async def fetched(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        url.removesuffix("/v1") + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {CLIENT}", "Content-Type": "application/json"},
    )

    def get() -> Any:
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    return await asyncio.to_thread(get)


def test_whole_and_streamed_answers(llama: Running) -> None:
    """Text, usage, the list of models and llama.cpp's own paths are as without the front, with the front's key."""

    async def main() -> None:
        async with (
            fronted(llama) as (client, url),
            Client(api_base=f"{llama.url}/v1", api_key=KEY, model="tiny") as straight,
        ):
            question: list[dict[str, Any]] = [{"role": "user", "content": "#utf8"}]
            expected = await straight.chat(question)
            answer = await client.chat(question)
            assert answer.text == expected.text
            assert answer.usage is not None
            async with client.chat.stream(question) as stream:
                assert "".join([piece.text async for piece in stream]) == expected.text
            usage = answer.usage
            (row,) = (await fetched(url, "/usage"))["data"]
            assert (row["requests"], row["without_usage"]) == (2, 0)
            assert row["total_tokens"] == 2 * (usage.prompt_tokens + usage.completion_tokens)
            assert [model.id async for model in client.models()] == ["tiny"]
            assert len(await fetched(url, "/slots")) == 2
            tokens = (await fetched(url, "/tokenize", {"content": "hello"}))["tokens"]
            assert tokens
            with pytest.raises(NotFoundError):
                await client.get("/nothing", cast_to=object)
        async with Front([f"{llama.url}/v1"]).serving() as url, Client(api_base=url, api_key="no", model="m") as wrong:
            with pytest.raises(AuthenticationError):
                await wrong.chat("#hello")

    run(main(), real_clock=True)


def test_embeddings_of_another_server(llama: Running, llama_embeddings: Running) -> None:
    """Usage that stands before more than 64 KiB of vectors is counted."""

    async def main() -> None:
        async with fronted(llama_embeddings) as (client, url):
            answer = await client.embedding([f"text number {number}" for number in range(60)], encoding_format="float")
            assert len(answer.data) == 60
            assert answer.usage is not None
            (row,) = (await fetched(url, "/usage"))["data"]
            assert (row["input_tokens"], row["without_usage"]) == (answer.usage.prompt_tokens, 0)

    run(main(), real_clock=True)


def test_a_client_that_leaves_frees_the_slot_of_llamacpp(llama: Running) -> None:
    """It stops generating: both slots are idle again at once, long before the endless answer would end."""

    async def main() -> None:
        async with fronted(llama) as (client, url):
            for _ in range(4):
                with contextlib.suppress(asyncio.CancelledError):
                    async with client.chat.stream("#forever") as stream:
                        async for _ in stream:
                            break
            async with asyncio.timeout(10):
                while any(slot["is_processing"] for slot in await fetched(url, "/slots")):
                    await asyncio.sleep(0.02)

    run(main(), real_clock=True)
