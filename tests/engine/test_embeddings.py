"""Embeddings in every form that servers send: one vector for each text, in the texts' order, or an error."""

from __future__ import annotations

import asyncio
import base64
import json
from array import array
from typing import Any

import pytest

from conftest import run
from openaiasync import APIResponseValidationError, AsyncOpenAI, Client, EmbedManyError
from openaiasync.engine.codecs import count_texts
from scripted import Seen, json_answer, scripted

A, B = [1.0, 2.0], [3.0, 4.0]


def packed(numbers: list[float]) -> str:
    return base64.b64encode(array("f", numbers).tobytes()).decode()


def one(value: Any, index: Any = 0) -> dict[str, Any]:
    return {"object": "embedding", "embedding": value, "index": index}


def whole(*items: Any) -> dict[str, Any]:
    return {"object": "list", "model": "m", "data": list(items), "usage": {"prompt_tokens": 2, "total_tokens": 2}}


FINE: dict[str, Any] = {
    "base64": whole(one(packed(A)), one(packed(B), 1)),
    "numbers": whole(one(A), one(B, 1)),
    "whole numbers": whole(one([1, 2]), one([3, 4], 1)),
    "numbers in quotes": whole(one(["1", "2.0"]), one(["3", "4"], 1)),
    "another order": whole(one(B, 1), one(A, 0)),
    "indices as texts": whole(one(B, "1"), one(A, "0")),
    "indices as floats": whole(one(B, 1.0), {**one(A, 0.0), "object": 5}),
    "counted from 1": whole(one(B, 2), one(A, 1)),
    "no index": whole({"embedding": A}, {"embedding": B}),
    "null as index": whole(one(A, None), one(B, None)),
    "one index for all": whole(one(A, 0), one(B, 0)),
    "odd indices": whole(one(A, {}), one(B, [])),
    "one vector inside each": whole(one([A]), one([B], 1)),
    "base64 without padding": whole(one(packed(A).rstrip("=")), one(packed(B).rstrip("="), 1)),
    "base64 in lines": whole(one(packed(A)[:4] + "\n" + packed(A)[4:]), one(packed(B), 1)),
    "JSON in a text": whole(one(json.dumps(A)), one(json.dumps(B), 1)),
    "no model, no usage": {"data": [one(A), one(B, 1)]},
    "a bare list": [one(A), one(B, 1)],
    "bare vectors": [A, B],
}
WRONG: dict[str, tuple[Any, str]] = {
    "none": (whole(), "no embedding"),
    "null": ({"data": None}, "no embedding"),
    "too few": (whole(one(A)), "1 vector came for 2 texts"),
    "too many": (whole(one(A), one(B, 1), one(A, 2)), "3 vectors came for 2 texts"),
    "twice the same index": (whole(one(A), one(B, 1), one(A, 1)), "3 vectors came for 2 texts"),
    "a null item": (whole(one(A), None), "not a vector"),
    "no vector in it": (whole(one(A), {"index": 1}), "not a vector"),
    "an empty one": (whole(one(A), one([], 1)), "not a vector"),
    "an empty text": (whole(one(packed(A)), one("", 1)), "not a vector"),
    "an empty one inside": (whole(one(A), one([[]], 1)), "not a vector"),
    "several inside": (whole(one(A), one([A, B], 1)), "not a vector"),
    "a null inside": (whole(one(A), one([1.0, None], 1)), "not a vector"),
    "bytes of half a number": (whole(one(packed(A)), one("AAAAAAA=", 1)), "not a vector"),
    "words": (whole(one(A), one("not base64!", 1)), "not a vector"),
    "an object": (whole(one(A), one({"a": 1}, 1)), "not a vector"),
}


async def ask(body: Any, *, official: bool = False, large: bool = False) -> list[list[float]]:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        pad = {"pad": "x" * (1 << 20)} if large and isinstance(body, dict) else {}
        writer.write(json_answer({**body, **pad} if isinstance(body, dict) else body))

    async with scripted(script) as server:
        if official:
            async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as theirs:
                return [list(view) for view in (await theirs.embeddings.create(model="m", input=["a", "b"])).vectors]
        async with Client(api_base=server.url, model="m", max_retries=0) as client:
            return [list(view) for view in (await client.embedding(["a", "b"])).vectors]


@pytest.mark.parametrize("how", ["whole", "official", "large"])
@pytest.mark.parametrize("name", FINE)
def test_vectors_in_any_form(name: str, how: str) -> None:
    """Whatever form they come in, each text gets its vector."""
    assert run(ask(FINE[name], official=how == "official", large=how == "large")) == [A, B]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_vector_for_each_text(name: str) -> None:
    """Too few, too many, or something else in a vector's place is an error that shows the body."""
    body, why = WRONG[name]
    for large in (False, True):
        with pytest.raises(APIResponseValidationError, match=why) as caught:
            run(ask(body, large=large))
        assert caught.value.body is not None
        assert '"data"' in str(caught.value)


def test_two_vectors_for_one_text() -> None:
    """Three vectors for three texts, two of them for the same one, is an error: which is whose cannot be told."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(whole(one(A), one(B, 1), one(A, 1))))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            with pytest.raises(APIResponseValidationError, match="two vectors"):
                await client.embedding(["a", "b", "c"])
            with pytest.raises(APIResponseValidationError, match="3 vectors came for 1 text"):
                await client.embedding([1, 2, 3])
            with pytest.raises(EmbedManyError, match="3 vectors came for 2 texts"):
                await client.embed_many(["a", "b"])

    run(main())


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"input": "a"}, 1),
        ({"input": ["a", "b"]}, 2),
        ({"input": ("a", "b")}, 2),
        ({"input": [1, 2, 3]}, 1),
        ({"input": [[1, 2], [3]]}, 2),
        ({"input": []}, 0),
        ({"input": 5}, 0),
        ({}, 0),
        ({"input": "a", "extra_body": {"input": ["a", "b"]}}, 2),
    ],
)
def test_how_many_texts(params: dict[str, Any], count: int) -> None:
    """A text is one, a list of them as many as it holds, token ids one; what cannot be told is not checked."""
    assert count_texts(params) == count
