"""Large answers: the same as small ones, and other tasks go on while they are made."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, APIResponseValidationError, Client
from openaiasync.engine.engine import LARGE
from scripted import scripted

KEY = "sk-secret-0123456789"


def embeddings(count: int, **more: Any) -> bytes:
    vector = [index / 1000 for index in range(1000)]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    return json.dumps(
        {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}, **more}
    ).encode()


def answering(body: bytes, coding: str = "") -> Any:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write((head + (f"Content-Encoding: {coding}\r\n" if coding else "") + "\r\n").encode() + body)

    return script


async def ask(body: bytes, texts: int, coding: str = "") -> tuple[Any, int]:
    """Return the answer, and how often another task ran while it was decoded from the received bytes."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with (
        scripted(answering(body, coding)) as server,
        Client(api_base=server.url, api_key=KEY, model="m") as client,
    ):
        request = client._calls.request(_endpoint(), {"input": ["x"] * texts, "encoding_format": "float"})
        meta, raw = await client._calls.fetch(request)
        other = asyncio.create_task(count())
        try:
            made = client._calls.made(request, meta, raw)
            return (await made if asyncio.iscoroutine(made) else made), turns
        finally:
            other.cancel()


def _endpoint() -> Any:
    from openaiasync.endpoints import EMBEDDINGS_CREATE

    return EMBEDDINGS_CREATE


def test_others_run_while_a_large_answer_is_decoded() -> None:
    """An answer of several megabytes is made in many steps, and is what a small one is."""
    body = embeddings(600)
    assert len(body) > 3 * LARGE
    answer, turns = run(ask(body, 600))
    assert turns > 20
    assert len(answer.data) == 600
    assert answer.data[599].embedding[500] == 0.5
    assert answer.to_dict() == json.loads(body)
    assert answer.meta.status == 200


def test_a_compressed_one_is_inflated_in_steps() -> None:
    """The content coding is undone in turns, too, and under the same caps."""

    async def main() -> None:
        body = embeddings(300)
        async with scripted(answering(gzip.compress(body, 1), "gzip")) as server, Client(api_base=server.url) as client:
            answer = await client.embedding(["x"] * 300, model="m", encoding_format="float")
            assert len(answer.data) == 300
        bomb = gzip.compress(b" " * 200_000_000)
        async with scripted(answering(bomb, "gzip")) as server, Client(api_base=server.url) as client:
            with pytest.raises(APIResponseValidationError, match="grows more than"):
                await client.embedding("x", model="m")

    run(main())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (embeddings(300, error={"message": f"wrong {KEY}"}), "wrong"),
        (embeddings(300)[:-9], "not JSON"),
        (b'{"pad": "' + b"x" * LARGE + KEY.encode() + b'"}', "no embedding"),
        (b"<html>" + b"x" * LARGE + KEY.encode(), "not JSON"),
    ],
)
def test_what_is_wrong_with_a_large_answer_is_told(body: bytes, says: str) -> None:
    """As of a small one; and no frame of the traceback holds a key that the server echoed."""

    async def main() -> None:
        async with scripted(answering(body)) as server, Client(api_base=server.url, api_key=KEY) as client:
            with pytest.raises(APIError, match=says) as caught:
                await client.embedding("x", model="m")
        trace = caught.tb
        while trace is not None:
            if "openaiasync" in trace.tb_frame.f_code.co_filename:
                held = [value for value in trace.tb_frame.f_locals.values() if isinstance(value, bytes)]
                assert not [value for value in held if KEY.encode() in value], trace.tb_frame
            trace = trace.tb_next

    run(main())


def test_hooks_see_large_answers() -> None:
    """Watched calls make them the same way."""
    seen: list[Any] = []

    async def main() -> None:
        async with (
            scripted(answering(embeddings(300))) as server,
            Client(api_base=server.url, on_answer=seen.append) as client,
        ):
            answer = await client.embedding(["x"] * 300, model="m", encoding_format="float")
            assert len(answer.data) == 300

    run(main())
    assert len(seen) == 1
