"""Answers in web frameworks and logs: `dict()` gives what becomes JSON, as FastAPI's encoder expects."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec

from conftest import run
from openaiasync import Client, EmbedManyAnswer
from openaiasync.core.model.vector import Vector, VectorList
from openaiasync.types import CreateEmbeddingResponse
from scripted import Seen, answer, scripted

CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello " * 20}}],
}


def encoded(value: Any) -> Any:
    """Return what FastAPI's `jsonable_encoder` makes of a value: `dict(value)` for an object it does not know."""
    if isinstance(value, dict):
        return {name: encoded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    return encoded(dict(value))


class Answer(msgspec.Struct):
    n: int


def test_replies_rows_and_usage() -> None:
    """Each is a dict of its fields all the way down; errors are their texts."""

    async def main() -> None:
        async def script(seen: Seen, writer: Any) -> None:
            if b"bad" in seen.body:
                writer.write(answer(b'{"error": {"message": "no such thing"}}', 400))
            elif b"number" in seen.body:
                message = {"role": "assistant", "content": '{"n": 1}'}
                one = {**CHAT["choices"][0], "message": message}  # type: ignore[dict-item,index]
                writer.write(answer(json.dumps({**CHAT, "choices": [one]}).encode()))
            else:
                writer.write(answer(json.dumps(CHAT).encode()))

        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            session = client.chat.session()
            reply = encoded(await session.say("hi"))
            assert reply["text"] == "Hello " * 20
            assert reply["answers"][0]["choices"][0]["message"]["content"] == "Hello " * 20
            assert encoded(session.usage)["requests"] == 1
            assert encoded(await client.chat.parse("a number", into=Answer))["parsed"] == {"n": 1}
            stream = client.map(["hi", "bad"], retries=0)
            assert repr(stream) == "<RowStream of chat: not started>"
            good, bad = await stream
            assert repr(stream) == "<RowStream of chat: 1 ok, 1 failed>"
            assert repr(good).startswith("<Row 0 'Hello Hello Hello Hello Hello Hello Hell…' attempts=1")
            assert repr(bad).startswith("<Row 1 error=")
            assert encoded(good)["answer"]["id"] == "c"
            assert (encoded(good)["item"], encoded(good)["error"]) == ("hi", None)
            assert "no such thing" in encoded(bad)["error"]
            json.dumps([encoded(good), encoded(bad)])

    run(main())


def test_embeddings() -> None:
    """Vectors that came as base64 are lists of numbers."""
    made = CreateEmbeddingResponse.model_construct(
        object="list", model="m", data=[{"object": "embedding", "index": 0, "embedding": b"\0\0\x80?"}]
    )
    assert encoded(made)["data"][0]["embedding"] == [1.0]
    assert encoded(EmbedManyAnswer(vectors=made.vectors, usage=None, model="m")) == {
        "vectors": [[1.0]],
        "usage": None,
        "model": "m",
    }


def test_vectors_are_copied_and_written() -> None:
    """A copy is a vector, and so is an unpickled one; encoders that take a function for unknown types write numbers."""
    vectors = VectorList([Vector("f", [1.0, 2.0]), Vector("f", [3.0])])
    for made in (copy.copy(vectors[0]), copy.deepcopy(vectors[0]), pickle.loads(pickle.dumps(vectors))[0]):
        assert (type(made), made.tolist()) == (Vector, [1.0, 2.0])
    assert vectors.tolist() == [[1.0, 2.0], [3.0]]
    assert msgspec.json.encode(vectors, enc_hook=list) == b"[[1.0,2.0],[3.0]]"
    assert json.loads(json.dumps(vectors, default=list)) == [[1.0, 2.0], [3.0]]
