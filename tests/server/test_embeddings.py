"""Embeddings over a real socket: texts and token ids, floats and base64, one and many."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest

from conftest import run
from openaiasync.demo import demo_app
from openaiasync.server import serve

from .wire import Answer, Wire


def post(**body: Any) -> Answer:
    async def main() -> Answer:
        async with serve(demo_app()) as server, Wire(server) as wire:
            return await wire.call("POST", "/v1/embeddings", {"model": "demo-embed", **body})

    return run(main())


def test_one_and_many() -> None:
    """In order, with usage; a text has the same vector alone and among others."""
    alone = post(input="one two").json()
    assert alone["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    many = post(input=["three", "one two"]).json()
    assert [item["index"] for item in many["data"]] == [0, 1]
    assert many["data"][1]["embedding"] == alone["data"][0]["embedding"]
    assert len(alone["data"][0]["embedding"]) == 256
    assert (many["object"], many["model"], many["data"][0]["object"]) == ("list", "demo-embed", "embedding")


def test_base64() -> None:
    """Little-endian 32-bit floats, the same numbers."""
    floats = post(input="one two", dimensions=8).json()["data"][0]["embedding"]
    text = post(input="one two", dimensions=8, encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(text)) == pytest.approx(floats, abs=1e-6)


def test_token_ids() -> None:
    data = post(input=[[1, 2], [3]]).json()
    assert data["usage"]["prompt_tokens"] == 3
    assert data["data"][0]["embedding"] == post(input=[1, 2]).json()["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ("", "input", "invalid_value"),
        (["a", ""], "input[1]", "invalid_value"),
        ("a " * 9000, "input", "context_length_exceeded"),
        (["a", "a " * 9000], "input[1]", "context_length_exceeded"),
        ([1] * 9000, "input", "invalid_value"),
    ],
)
def test_empty_and_too_long(given: Any, param: str, code: str) -> None:
    answer = post(input=given)
    assert answer.status == 400
    assert (answer.error()["param"], answer.error()["code"]) == (param, code)


def test_large_batch_leaves_room_for_others() -> None:
    """While two thousand texts are embedded, a small call is answered."""

    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as large, Wire(server) as small:
            texts = [f"word{number} is here" for number in range(2000)]
            body = {"model": "demo-embed", "input": texts, "encoding_format": "base64"}
            running = asyncio.create_task(large.call("POST", "/v1/embeddings", body))
            served = 0
            while not running.done():
                assert (await small.call("GET", "/health")).status == 200
                served += 1
            assert len((await running).json()["data"]) == 2000
            assert served > 3

    run(main())
