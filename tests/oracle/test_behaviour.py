"""Beside single operations: errors, pages, options of a call, each other's values, and each other's HTTP client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import openaiasync
from conftest import run
from scripted import CHAT, Scripted, Seen, json_answer, scripted

from .differences import REQUESTS
from .recorder import KEYS, Served, both

openai = pytest.importorskip("openai")

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]

EMPTY = Served("application/json", {"object": "list", "data": []})
CASES: list[tuple[str, dict[str, Any]]] = [
    ("files.list", {"after": None, "limit": 2}),
    ("files.list", {"after": ""}),
    ("files.list", {"extra_query": {"a": None, "b": [None, 1, ""], "d": {"e": None, "f": [{"g": 1}]}, "i": True}}),
    ("files.list", {"extra_query": {"a b": "x y+z", "ü": "é/?&=", "n": 1.5, "none": []}}),
    ("files.list", {"extra_query": {"limit": 7}, "limit": 3}),
    ("files.retrieve", {"file_id": "a/b c?d#e%ü"}),
    ("files.retrieve", {"file_id": "x", "extra_headers": {"Authorization": "other", "OpenAI-Project": "p2"}}),
    ("files.delete", {"file_id": "x", "extra_body": {"q": 1}}),
    ("responses.create", {"model": None, "input": None, "store": None}),
    ("responses.create", {"model": "m", "metadata": {"b": 2}, "extra_body": {"metadata": {"a": 1}, "new": [None]}}),
    ("chat.completions.create", {"model": "m", "messages": ({"role": "user", "content": "ü"},), "stop": None}),
    ("chat.completions.create", {"model": "m", "messages": [], "stream": False}),
    ("embeddings.create", {"model": "m", "input": ["a"]}),
    ("embeddings.create", {"model": "m", "input": [[1, 2]], "encoding_format": "float"}),
    ("embeddings.create", {"model": "m", "input": "a", "encoding_format": "base64"}),
    ("moderations.create", {"input": "a"}),
    ("audio.speech.create", {"model": "m", "voice": "alloy", "input": "a", "stream_format": "sse"}),
]


@pytest.mark.parametrize(("method", "params"), CASES)
def test_one_call(method: str, params: dict[str, Any]) -> None:
    """What a call's options make of the request is the same."""

    async def main() -> None:
        async with both() as pair:
            theirs, ours = await pair.call(method, params, EMPTY)
            assert theirs.sent is not None
            sent = theirs.sent
            for difference in REQUESTS:
                sent = difference.apply(method, sent, ours.sent)
            assert ours.sent == sent

    run(main())


@pytest.mark.parametrize("wrong", ["", ".", ".."])
def test_ids_that_are_none(wrong: str) -> None:
    """An id that would change the path is a `ValueError` of both, and nothing is sent."""

    async def main() -> None:
        async with both() as pair:
            theirs, ours = await pair.call("files.retrieve", {"file_id": wrong}, EMPTY)
            assert isinstance(theirs.came, ValueError)
            assert isinstance(ours.came, ValueError)
            assert ours.sent is None

    run(main())


BODIES = [
    {"error": {"message": "m", "code": "c", "param": "p", "type": "t"}},
    {"error": {"message": "m", "code": 400}},
    {"error": "words"},
    {"detail": [{"msg": "m"}]},
    {},
]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 418, 422, 429, 500, 503])
def test_errors(status: int) -> None:
    """Each status and body is an error of the same class with the same facts, caught by the same names."""

    async def main() -> None:
        for body in BODIES:

            async def script(seen: Seen, writer: asyncio.StreamWriter, body: Any = body) -> None:
                writer.write(json_answer(body, status, X_Request_Id="req-1"))

            async with scripted(script) as server:
                theirs, ours = [await caught(kind, server) for kind in (openai.AsyncOpenAI, openaiasync.AsyncOpenAI)]
            assert type(ours).__name__ == type(theirs).__name__
            for base in type(theirs).__mro__:
                if base.__module__.startswith("openai"):
                    assert isinstance(ours, getattr(openaiasync, base.__name__))
            for fact in ("status_code", "request_id", "body", "param", "type"):
                assert getattr(ours, fact) == getattr(theirs, fact), (fact, body)
            assert str(ours.code) == str(theirs.code)
            assert ours.response.status_code == status
            assert ours.response.headers["x-request-id"] == theirs.response.headers["x-request-id"]
            assert ours.request.method == theirs.request.method

    run(main())


async def caught(kind: Any, server: Scripted) -> Any:
    async with kind(base_url=server.url, max_retries=0, **KEYS) as client:
        try:
            await client.models.list()
        except Exception as error:
            return error
    raise AssertionError("no error")


def test_pages() -> None:
    """Both ask for the same pages in the same way and give the same items."""
    items = [{"id": f"file-{n}", "object": "file", "bytes": 1, "created_at": 1} for n in range(5)]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        start = int(seen.target.partition("after=file-")[2].partition("&")[0] or -1) + 1
        data = items[start : start + 2]
        writer.write(json_answer({"object": "list", "data": data, "has_more": start + 2 < len(items)}))

    async def main() -> None:
        targets, ids, pages = [], [], []
        for kind in (openai.AsyncOpenAI, openaiasync.AsyncOpenAI):
            async with scripted(script) as server, kind(base_url=server.url, **KEYS) as client:
                ids.append([one.id async for one in client.files.list(limit=2, purpose="batch")])
                page = await client.files.list(limit=2)
                following = await page.get_next_page()
                pages.append([page.has_next_page(), page.next_page_info().params, [one.id for one in following.data]])
                targets.append([sorted(seen.target.partition("?")[2].split("&")) for seen in server.seen])
        assert ids[0] == ids[1] == [one["id"] for one in items]
        assert pages[0] == pages[1]
        assert targets[0] == targets[1]

    run(main())


def test_each_others_values() -> None:
    """Markers, timeouts and answers of the official client may be passed to ours."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            async with openai.AsyncOpenAI(base_url=server.url, **KEYS) as client:
                theirs = await client.chat.completions.create(model="m", messages=[])
            message = theirs.choices[0].message
            sent = []
            for kind in (openai.AsyncOpenAI, openaiasync.AsyncOpenAI):
                options: Any = {"default_headers": {"X-Gone": openai.omit} if kind is openaiasync.AsyncOpenAI else {}}
                async with kind(
                    base_url=server.url, timeout=openai.Timeout(5.0, connect=2.0), **KEYS, **options
                ) as client:
                    await client.with_options(timeout=openai.NOT_GIVEN).chat.completions.create(
                        model="m",
                        messages=[message, {"role": "user", "content": "And?"}],
                        temperature=openai.omit,
                        top_p=openai.NOT_GIVEN,
                        timeout=openai.Timeout(3.0),
                    )
                sent.append(json.loads(server.seen[-1].body))
            assert sent[0] == sent[1]
            assert "x-gone" not in server.seen[-1].headers

    run(main())


def test_an_httpx2_client_carries_our_requests() -> None:
    """`http_client=` takes an `httpx2.AsyncClient`, whole answers, streams and errors included."""
    httpx2 = pytest.importorskip("httpx2")

    async def main() -> None:
        async with scripted() as server, httpx2.AsyncClient(headers={"X-From": "httpx2"}) as carrier:
            for http_client in (carrier, openaiasync.DefaultAsyncHttpx2Client()):
                client = openaiasync.AsyncOpenAI(base_url=server.url, http_client=http_client, **KEYS)
                messages: Any = [{"role": "user", "content": "hi"}]
                answer = await client.chat.completions.create(model="m", messages=messages)
                assert answer.text == "Hello."
                stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
                assert "".join([piece.text async for piece in stream]) == "Hello."
            await client.close()
            assert server.seen[0].headers["x-from"] == "httpx2"
            assert server.seen[0].headers["authorization"] == "Bearer sk-oracle"

    run(main())
