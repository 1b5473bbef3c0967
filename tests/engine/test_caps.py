"""How large a body may be: counted while it comes, compressed or not, by what was asked for; downloads have no cap."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIConnectionError,
    APIResponseValidationError,
    AsyncOpenAI,
    BadRequestError,
    Client,
    OpenAIError,
)
from openaiasync.engine import body as bodies
from openaiasync.types.chat import ChatCompletion
from scripted import CHAT, Seen, head, scripted

PIECE = b" " * 65_536
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def endless(kind: str, *, coding: str = "", begin: bytes = b"", status: int = 200) -> tuple[Any, list[int]]:
    """A server that sends for ever, as fast as it is read; the list holds how many bytes it has sent."""
    sent = [0]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        coded = {"Content_Encoding": coding} if coding else {}
        writer.write(head(status, Content_Type=kind, Transfer_Encoding="chunked", **coded))
        squeeze = zlib.compressobj(wbits=31)
        for number in range(100_000):
            piece = begin + PIECE if number == 0 else PIECE
            if coding:
                piece = squeeze.compress(piece) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)  # a buffer that is not full makes nobody wait
            sent[0] += len(piece)

    return script, sent


async def chat(client: Client) -> object:
    return await client.chat("hi")


async def raw(client: Client) -> object:
    return await client.chat.completions.with_raw_response.create(messages=MESSAGES, model="m")


async def read(client: Client) -> object:
    async with client.chat.completions.with_streaming_response.create(messages=MESSAGES, model="m") as response:
        return await response.read()


async def embedding(client: Client) -> object:
    return await client.embedding("hi")


async def content(client: Client) -> object:
    return await client.files.content("file-1")


async def own(client: Client) -> object:
    return await client.get("/anything", cast_to=dict[str, Any])


async def transcript(client: Client) -> object:
    return await client.speech_to_text(b"RIFF0000WAVEfmt ", response_format="text")


WAYS = [chat, raw, read, embedding, content, own, transcript]


@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("way", WAYS)
def test_a_body_over_the_cap_is_refused_while_it_comes(
    way: Callable[[Client], Awaitable[object]], coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless answer ends as soon as more came than may be, compressed or not; nothing is tried again."""
    monkeypatch.setattr(bodies, "MAX_RATIO", 1_000_000)

    async def main() -> None:
        script, sent = endless("audio/mpeg" if way is content else "application/json", coding=coding)
        async with scripted(script) as server:
            options: dict[str, Any] = {"max_retries": 2, "http_other": {"max_body": 1_000_000}}
            async with Client(api_base=server.url, model="m", **options) as client:
                with pytest.raises((APIConnectionError, APIResponseValidationError), match="over 1000000 bytes"):
                    await way(client)
                assert (len(server.seen), client._calls.shared.limiter.used) == (1, 0)
                assert sent[0] < 30_000_000, "what lies in the sockets' buffers, and little more"

    run(main())


def test_the_caps_are_those_of_the_kind() -> None:
    """128 MiB of JSON, 1 GiB of embeddings, images and files; `max_body` for all of them, 1 byte or more."""
    config = Client(api_base="http://127.0.0.1:9/v1")._calls.config
    assert bodies.cap_of(config, "/chat/completions") == bodies.cap_of(config, "/models") == 128 << 20
    assert bodies.cap_of(config, "/embeddings") == bodies.cap_of(config, "/images/edits") == 1 << 30
    assert bodies.cap_of(config, "/files/x/content", binary=True) == 1 << 30
    other: dict[str, Any] = {"max_body": 5, "queue_timeout": 7.0, "deadline": 9.0}
    own = AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", http_other=other)._calls.config
    assert (own.max_body, own.queue_timeout, own.deadline) == (5, 7.0, 9.0)
    assert {bodies.cap_of(own, path) for path in ("/models", "/embeddings")} == {5}
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(OpenAIError, match="max_body"):
            Client(api_base="http://127.0.0.1:9/v1", http_other={"max_body": wrong})


@pytest.mark.parametrize("kind", [dict[str, Any], dict, list[int], ChatCompletion, bytes, str])
@pytest.mark.parametrize("view", ["plain", "raw"])
def test_a_body_that_is_wanted_as_json_has_the_cap_of_json(
    kind: Any, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the path: `get` and its like hold no gigabyte for a dict; bytes and texts may be as large as files."""
    monkeypatch.setattr(bodies, "MAX_JSON", 1_000_000)
    monkeypatch.setattr(bodies, "MAX_BODY", 3_000_000)
    cap = 3_000_000 if kind in (bytes, str) else 1_000_000

    async def main() -> None:
        script, _ = endless("application/json")
        async with scripted(script) as server, Client(api_base=server.url, max_retries=0) as client:
            get: Any = client.with_raw_response.get if view == "raw" else client.get
            with pytest.raises(APIConnectionError, match=f"over {cap} bytes"):
                await get("/anything", cast_to=kind)

    run(main())


def test_a_large_json_answer_within_the_cap_is_read() -> None:
    """16 MB that were compressed."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        whole = gzip.compress(json.dumps({**CHAT, "extra": random.Random(1).randbytes(8_000_000).hex()}).encode(), 1)
        fields = {"Content_Type": "application/json", "Content_Encoding": "gzip", "Content_Length": str(len(whole))}
        writer.write(head(**fields) + whole)

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            assert (await client.chat("hi")).text == "Hello."

    run(main())


def test_downloads_have_no_cap(tmp_path: Path) -> None:
    """What is passed on as it comes is not held in memory, and may be of any size."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Type="audio/mpeg", Content_Length=str(50 * len(PIECE))))
        for number in range(50):
            writer.write(b"ID3" + PIECE[3:] if number == 0 else PIECE)
            await writer.drain()

    async def main() -> None:
        async with scripted(script) as server:
            async with Client(api_base=server.url, model="m", http_other={"max_body": 1_000}) as client:
                async with client.files.with_streaming_response.content("file-1") as response:
                    assert sum([len(piece) async for piece in response.iter_bytes()]) == 50 * len(PIECE)
                async with client.files.with_streaming_response.content("file-1") as response:
                    await response.stream_to_file(tmp_path / "file")
                assert (tmp_path / "file").stat().st_size == 50 * len(PIECE)
                async with client.text_to_speech.stream("hi", voice="alloy") as stream:
                    assert sum([len(piece) async for piece in stream]) == 50 * len(PIECE)

    run(main())


@pytest.mark.parametrize("coding", ["", "gzip", "made-up"])
def test_an_error_keeps_the_beginning_of_what_the_server_says(coding: str) -> None:
    """64 KiB of an endless error are enough, compressed ones too; a coding that is not known hides nothing."""

    async def main() -> None:
        label = "" if coding == "made-up" else coding
        script, sent = endless("text/plain", coding=label, begin=b"the model is gone", status=400)
        if coding == "made-up":

            async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
                body = b"the model is gone"
                writer.write(head(400, Content_Encoding="made-up", Content_Length=str(len(body))) + body)

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(BadRequestError, match="the model is gone") as caught:
                await client.chat("hi")
            assert len(caught.value.response.content) <= 65_536
            assert sent[0] < 30_000_000

    run(main())
