"""The front: what is passed on, to which server, under which limits, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client, ConfigurationError, Limits, RateLimitError
from openaiasync.server import ClientKey, Front, FrontUpstream, Server
from openaiasync.testing import FakeServer
from openaiasync.transport.fake import FakeAnswer

from .fronts import chat, echoing, fronting
from .wire import Wire, request, until

LAST = (
    b'{"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"details":{"cached":0},"total_tokens":7}}'
)
EVENTS = [
    b'data: {"id":"1",  "choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n',
    b": a comment\r\n\r\n",
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\n',
    b"data: " + LAST + b"\n\n",
    b"data: [DONE]\n\n",
]
STREAM = FakeAnswer(headers={"Content-Type": "text/event-stream"}, body=EVENTS, pause=0.002)
ERROR_EVENT = b'data: {"error": {"message": "x"}}\n\n'
MESSAGE = rb'{"role":"assistant","content":"\"usage\":{\"prompt_tokens\":9}"}'
WHOLE = (
    b"""{ "id":"x",
  "choices": [{"index":0,"finish_reason":"stop","message":%b}], "usage": {"prompt_tokens": 3, "completion_tokens": 4} }
"""
    % MESSAGE
)


def models(*names: str) -> FakeAnswer:
    return FakeAnswer(json={"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def usage(wire: Wire, key: str = "") -> list[dict[str, Any]]:
    answer = await wire.call("GET", "/usage", fields={"Authorization": f"Bearer {key}"} if key else None)
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


# ------------------------------------------------------------------------------------------------- passing on


def test_bodies_and_events_pass_byte_for_byte() -> None:
    """Neither a request, nor a whole answer, nor a stream is decoded and encoded again; its usage is counted."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            upstream.respond(FakeAnswer(headers={"Content-Type": "application/json"}, body=WHOLE)).respond(STREAM)
            asked = b'{"model" :"m",  "messages":[{"role":"user","content":"\\u00e9"}]}'
            json_fields = {"Content-Type": "application/json"}
            answer = await wire.call("POST", "/v1/chat/completions", asked, json_fields)
            assert (answer.status, answer.body) == (200, WHOLE)
            assert upstream.requests[0].body == asked
            answer = await wire.call("POST", "/v1/chat/completions", chat(stream=True))
            assert answer.body == b"".join(EVENTS)
            (row,) = await usage(wire)
            assert (row["input_tokens"], row["output_tokens"], row["requests"]) == (8, 6, 2)

    run(main())


def test_events_arrive_one_by_one() -> None:
    """An event reaches the client while the upstream still makes the next one, and no event comes in parts."""

    async def main() -> None:
        halves = [EVENTS[0][:30], EVENTS[0][30:], EVENTS[2], EVENTS[4]]
        slow = FakeAnswer(headers={"Content-Type": "text/event-stream"}, body=halves, pause=[0, 0.02, 0.1, 0.02])
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            upstream.respond(slow)
            await wire.send(request("POST", "/v1/chat/completions", chat(stream=True)))
            async with asyncio.timeout(10):
                await wire.reader.readuntil(b"\r\n\r\n")
                size = int(await wire.reader.readline(), 16)
                assert await wire.reader.readexactly(size) == EVENTS[0]
                assert upstream.in_flight == 1

    run(main())


def test_fields_pass_but_for_those_of_the_connection() -> None:
    """Hop-by-hop fields, those that Connection names, and keys stay; the rest passes in both directions."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(FrontUpstream(upstream.base_url, api_key="sk-up")) as (_, _, wire):
            sent = {
                "Authorization": "Bearer sk-client",
                "Connection": "X-Mine, keep-alive",
                "X-Mine": "1",
                "TE": "trailers",
                "X-Request-ID": "abc",
                "OpenAI-Organization": "org",
                "Accept-Encoding": "br, gzip",
                "User-Agent": "u/1",
            }
            for _ in range(2):
                answer = await wire.call("POST", "/v1/chat/completions?a=1&b=%20", chat(), sent)
            fields = dict(app.seen[-1]["fields"])
            assert fields["authorization"] == "Bearer sk-up"
            assert (fields["x-request-id"], fields["openai-organization"]) == ("abc", "org")
            assert (fields["accept-encoding"], fields["user-agent"]) == ("gzip", "u/1")
            assert fields["content-type"] == "application/json"
            assert not {"x-mine", "te"} & fields.keys()
            assert fields["via"].startswith("1.1 openaiasync-")
            assert (app.seen[-1]["path"], app.seen[-1]["query"]) == ("/v1/chat/completions", "a=1&b=%20")
            assert answer.fields["x-request-id"] == "up-1"
            assert answer.fields["x-ratelimit-limit-requests"] == "7"
            assert not {"x-private", "alt-svc"} & answer.fields.keys()

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "arrives"),
    [
        ("GET", "/v1/files?limit=2", "/v1/files"),
        ("DELETE", "/v1/files/file-1", "/v1/files/file-1"),
        ("GET", "/tokenizer/info", "/tokenizer/info"),
        ("POST", "/v1/rerank", "/v1/rerank"),
        ("POST", "/chat/completions", "/v1/chat/completions"),
        ("PATCH", "/v1/something/new", "/v1/something/new"),
        ("OPTIONS", "/v1/chat/completions", "/v1/chat/completions"),
        ("HEAD", "/v1/files", "/v1/files"),
    ],
)
def test_all_methods_and_paths(method: str, path: str, arrives: str) -> None:
    """Unknown paths pass, those beside /v1 to the server's root; a HEAD has no body."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream) as (_, _, wire):
            answer = await wire.call(method, path, chat() if method == "POST" else None)
            assert (answer.status, app.seen[0]["method"], app.seen[0]["path"]) == (200, method, arrives)
            if method == "HEAD":
                assert answer.body == b""
                assert int(answer.fields["content-length"]) > 0

    run(main())


def test_uploads_are_not_held_in_memory() -> None:
    """A large form reaches the upstream while the client still sends it, by length or in chunks."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream, max_upload=8 << 20) as (_, _, wire):
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            part = b"y" * (1 << 20)
            await wire.send(request("POST", "/v1/files", None, {**kind, "Content-Length": str(4 << 20)}))
            await wire.send(part + part)
            await until(lambda: sum(app.pieces) > 1 << 20)
            await wire.send(part + part)
            assert (await wire.answer("POST")).json()["length"] == 4 << 20
            await wire.send(request("POST", "/v1/files", None, {**kind, "Transfer-Encoding": "chunked"}))
            for _ in range(3):
                await wire.send(b"100000\r\n" + part + b"\r\n")
            await wire.send(b"0\r\n\r\n")
            assert (await wire.answer("POST")).json()["length"] == 3 << 20
            too_much = {**kind, "Content-Length": str(9 << 20)}
            await wire.send(request("POST", "/v1/files", None, too_much))
            assert (await wire.answer("POST")).status == 413

    run(main())


def test_expect_100_continue() -> None:
    """The client is told to go on, and the expectation goes no further."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream) as (_, _, wire):
            body = json.dumps(chat()).encode()
            fields = {"Expect": "100-continue", "Content-Length": str(len(body)), "Content-Type": "application/json"}
            await wire.send(request("POST", "/v1/chat/completions", None, fields))
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            await wire.send(body)
            assert (await wire.answer("POST")).status == 200
            assert "expect" not in dict(app.seen[0]["fields"])

    run(main())


# ------------------------------------------------------------------------------------------------- which server


def test_requests_go_to_the_server_that_has_the_model() -> None:
    """Lists of models decide, and are one list to clients."""

    async def main() -> None:
        async with FakeServer() as one, FakeServer() as two, FakeServer() as deaf:
            one.when(path="/v1/models").respond(models("a", "both"), times=None)
            two.when(path="/v1/models").respond(models("b", "both"), times=None)
            deaf.when(path="/v1/models").fail(404, times=None)
            one.reply("one", times=None)
            two.reply("two", times=None)
            deaf.fail(404, "The model `x` does not exist.", code="model_not_found", times=None)
            front = Front([one.url, two.url, deaf.url])
            async with front.serving() as url, Client(api_base=url) as client:
                assert [model.id async for model in client.models()] == ["a", "both", "b"]
                for _ in range(3):
                    assert (await client.chat("Hi", model="a")).text == "one"
                    assert (await client.chat("Hi", model="b")).text == "two"
                for _ in range(4):
                    assert (await client.chat("Hi", model="both")).text in ("one", "two")

    run(main())


def test_a_refusal_for_the_model_leads_to_another_server() -> None:
    """Where nothing is listed, a 404 about the model is not the answer as long as another server may have it."""

    async def main() -> None:
        async with FakeServer() as one, FakeServer() as two:
            for server, own in ((one, "a"), (two, "b")):
                server.when(path="/v1/models").fail(404, times=None)
                server.when(model=own).reply(own, times=None)
                server.fail(404, "The model `x` does not exist.", code="NotFound", times=None)
            async with fronting(one, two) as (_, _, wire):
                for name in "abab":
                    answer = await wire.call("POST", "/v1/chat/completions", chat(name))
                    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, name)
                for name in ("c", "c" * 300):
                    answer = await wire.call("POST", "/v1/chat/completions", chat(name))
                    assert (answer.status, answer.json()["error"]["code"]) == (404, "NotFound")
            asked = [one_request.model for server in (one, two) for one_request in server.requests]
            assert asked.count("a") + asked.count("b") <= 6  # each server was wrongly asked once for each model

    run(main())


def test_a_continued_response_goes_to_the_server_that_has_it() -> None:
    """`previous_response_id` and GET find the server that made the response, whatever the load."""

    async def main() -> None:
        apps = [Server(), Server()]
        for number, app in enumerate(apps):

            async def reply(request: Any, number: int = number) -> str:
                await asyncio.sleep(0.01)
                return f"from {number}"

            app.chat("m")(reply)
        async with apps[0].serving() as one, apps[1].serving() as two:
            front = Front([one, two])
            async with front.serving() as url, AsyncOpenAI(base_url=url, api_key="x") as client:

                async def first(number: int) -> Any:
                    if number % 2:
                        return await client.responses.create(model="m", input="Hi")
                    events = await client.responses.create(model="m", input="Hi", stream=True)
                    return [event async for event in events][-1].response  # type: ignore[union-attr]

                made = await asyncio.gather(*map(first, range(8)))
                assert {response.output_text for response in made} == {"from 0", "from 1"}
                for response in made:
                    again = await client.responses.create(model="m", input="More", previous_response_id=response.id)
                    assert again.output_text == response.output_text
                    assert (await client.responses.retrieve(response.id)).id == response.id

    run(main())


def test_a_retry_goes_to_another_server() -> None:
    """A dead server and one that fails cost no request; one that is dead from the start does not hinder the start."""

    async def main() -> None:
        async with FakeServer() as failing, FakeServer() as working:
            failing.fail(500, times=None)
            working.when(path="/v1/models").respond(models("m"), times=None)
            working.reply("fine", times=None)
            async with fronting("http://127.0.0.1:1/v1", failing, working) as (front, _, wire):
                for _ in range(12):
                    answer = await wire.call("POST", "/v1/chat/completions", chat())
                    assert (answer.status, answer.json()["choices"][0]["message"]["content"]) == (200, "fine")
                text = (await wire.call("GET", "/metrics")).body.decode()
                assert 'openaiasync_upstream_up{upstream="127.0.0.1:1"} 0' in text
                assert f'openaiasync_upstream_up{{upstream="{front.upstreams()[2]}"}} 1' in text
                sent = sum(request.path.endswith("completions") for request in failing.requests)
                assert sent <= 5  # then the breaker is open, but for a probe

    run(main())


# ------------------------------------------------------------------------------------------------- limits and keys


def test_the_queue() -> None:
    """Requests beyond the slots wait, those beyond the queue get 429 with Retry-After, as do those that wait long."""

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.reply("slow", delay=0.15, times=None)
            front = Front([upstream.url], limits=Limits(max_in_flight=1), max_queue=2, queue_timeout=10.0)
            async with front.serving() as url, AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
                asked = [client.chat.completions.create(**chat()) for _ in range(6)]
                answers = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(isinstance(one, RateLimitError) for one in answers) in (2, 3)
            refused = next(one for one in answers if isinstance(one, RateLimitError))
            assert refused.code == "server_busy"
            assert int(refused.response.headers["retry-after"]) >= 1
            assert upstream.peak == 1
            front = Front([upstream.url], limits=Limits(max_in_flight=1), queue_timeout=0.03)
            async with front.serving() as url, AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
                asked = [client.chat.completions.create(**chat()) for _ in range(2)]
                answers = await asyncio.gather(*asked, return_exceptions=True)
            assert sorted(type(one).__name__ for one in answers) == ["ChatCompletion", "RateLimitError"]

    run(main())


def test_the_limits_of_the_front_pace_requests() -> None:
    """`Limits(rpm=...)` spaces requests by the client's own pacer; one that would wait too long is refused at once."""

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.reply("x", times=None)
            async with fronting(upstream, limits=Limits(rpm=600), queue_timeout=0.05) as (_, _, wire):
                statuses = [(await wire.call("POST", "/v1/chat/completions", chat())).status for _ in range(30)]
                assert set(statuses) == {200, 429}
                assert len(upstream.requests) == statuses.count(200)

    run(main())


def test_keys_of_clients() -> None:
    """Each has its own limits and its own usage; upstreams see none of them."""

    async def main() -> None:
        async with FakeServer() as upstream:
            counted = {"prompt_tokens": 10, "completion_tokens": 5}
            upstream.reply("x", usage=counted, headers={"X-RateLimit-Limit-Requests": "9"}, times=None)
            keys = [ClientKey("alice", "sk-a", rpm=2), ClientKey("bob", "sk-b", tpm=20), "sk-c"]
            async with fronting(upstream, keys=keys) as (_, _, wire):

                async def ask(key: str) -> Any:
                    return await wire.call("POST", "/v1/chat/completions", chat(), {"Authorization": f"Bearer {key}"})

                assert (await wire.call("POST", "/v1/chat/completions", chat())).status == 401
                assert (await wire.call("GET", "/metrics")).status == 401
                assert (await wire.call("GET", "/health")).status == 200
                assert (await ask("sk-")).error()["code"] == "invalid_api_key"
                first, _, third = [await ask("sk-a") for _ in range(3)]
                assert first.fields["x-ratelimit-limit-requests"] == "2"
                assert first.fields["x-ratelimit-remaining-requests"] == "1"
                assert (third.status, third.error()["code"]) == (429, "rate_limit_exceeded")
                assert int(third.fields["retry-after"]) >= 1
                assert [(await ask("sk-b")).status for _ in range(3)] == [200, 200, 429]
                assert (await ask("sk-c")).fields["x-ratelimit-limit-requests"] == "9"
                assert [(row["key"], row["total_tokens"]) for row in await usage(wire, "sk-b")] == [("bob", 30)]
                assert all("sk-" not in str(dict(one.headers.items())) for one in upstream.requests)
                text = (await wire.call("GET", "/metrics", fields={"Authorization": "Bearer sk-a"})).body.decode()
                assert 'openaiasync_usage_input_tokens_total{key="alice",model="m"} 20' in text
                assert "sk-" not in text

    run(main())


def test_without_keys_on_either_side_the_clients_key_passes() -> None:
    """What a client sends reaches upstreams only where the front has no keys at all."""

    async def main() -> None:
        for given, seen in (({}, "Bearer sk-mine"), ({"keys": ["sk-mine"]}, None)):
            app, upstream = echoing()
            async with upstream, fronting(upstream, **given) as (_, _, wire):
                await wire.call("POST", "/v1/chat/completions", chat(), {"Authorization": "Bearer sk-mine"})
                assert dict(app.seen[0]["fields"]).get("authorization") == seen

    run(main())


def test_lists_of_models_are_asked_for_with_the_clients_key() -> None:
    """Where the client's key is passed on, upstreams get it for their lists, too."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            keyed = upstream.when(match=lambda one: one.headers.get("authorization") == "Bearer sk-mine")
            keyed.respond(models("a"), times=None)
            upstream.fail(401, "no key", times=None)
            assert (await wire.call("GET", "/v1/models")).status == 401
            answer = await wire.call("GET", "/v1/models", fields={"Authorization": "Bearer sk-mine"})
            assert [model["id"] for model in answer.json()["data"]] == ["a"]

    run(main())


def test_clients_that_list_models_at_once_share_one_reading() -> None:
    """A hundred clients cost an upstream one request for its list."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream) as (_, server, _):
            upstream.respond(models("a"), times=None)

            async def ask() -> Any:
                async with Wire(server) as wire:
                    return (await wire.call("GET", "/v1/models")).json()["data"][0]["id"]

            assert set(await asyncio.gather(*(ask() for _ in range(100)))) == {"a"}
            assert len(upstream.requests) <= 3

    run(main())


def test_one_upstream_has_metrics_too() -> None:
    """Latency, load and health are observed where there is no choice."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream, max_retries=0) as (_, _, wire):
            name = f'{{upstream="127.0.0.1:{upstream.port}"}}'
            upstream.reply("x", delay=0.03)
            await wire.call("POST", "/v1/chat/completions", chat())
            text = (await wire.call("GET", "/metrics")).body.decode()
            latency = next(
                line for line in text.splitlines() if line.startswith(f"openaiasync_upstream_latency_seconds{name}")
            )
            assert 0.03 <= float(latency.split()[1]) < 5
            assert f"openaiasync_upstream_up{name} 1" in text
            upstream.fail(500, times=None)
            for _ in range(3):
                await wire.call("POST", "/v1/chat/completions", chat())
            text = (await wire.call("GET", "/metrics")).body.decode()
            assert f"openaiasync_upstream_up{name} 0" in text
            upstream.clear()
            upstream.reply("x")
            assert (await wire.call("POST", "/v1/chat/completions", chat())).status == 200
            text = (await wire.call("GET", "/metrics")).body.decode()
            assert f"openaiasync_upstream_up{name} 1" in text
            assert f"openaiasync_upstream_in_flight{name} 0" in text

    run(main())


# ------------------------------------------------------------------------------------------------- the cache


def test_the_cache(tmp_path: Path) -> None:
    """Equal deterministic requests are answered from the file, by another front too, streams byte for byte."""

    async def main() -> None:
        path = tmp_path / "answers.db"
        async with FakeServer() as upstream:
            upstream.respond(FakeAnswer(headers={"Content-Type": "application/json"}, body=WHOLE)).respond(STREAM)
            plain, streamed = chat(temperature=0), chat(temperature=0, stream=True)
            async with fronting(upstream, cache=path) as (_, _, wire), fronting(upstream, cache=path) as (_, _, other):
                assert (await wire.call("POST", "/v1/chat/completions", plain)).body == WHOLE
                assert (await wire.call("POST", "/v1/chat/completions", streamed)).body == b"".join(EVENTS)
                again = await wire.call("POST", "/v1/chat/completions", dict(reversed(plain.items())))
                assert (again.body, again.fields["x-cache"]) == (WHOLE, "hit")
                streamed_again = await wire.call("POST", "/v1/chat/completions", streamed)
                assert streamed_again.body == b"".join(EVENTS)
                assert streamed_again.fields["content-type"].startswith("text/event-stream")
                async with asyncio.timeout(10):
                    deadline = time.monotonic() + 5
                    while True:  # the file is written within a second or so
                        upstream.when(path="/v1/chat/completions").fail(500, headers={"x-should-retry": "false"})
                        if (await other.call("POST", "/v1/chat/completions", plain)).body == WHOLE:
                            break
                        assert time.monotonic() < deadline
                        await asyncio.sleep(0.1)
                (row,) = await usage(wire)
                assert (row["cached"], row["total_tokens"]) == (2, 14)
            upstream.clear()
            async with fronting(upstream, cache=path) as (_, _, wire):  # after a restart
                assert (await wire.call("POST", "/v1/chat/completions", streamed)).body == b"".join(EVENTS)

    run(main())


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (chat(), FakeAnswer(headers={"Content-Type": "application/json"}, body=WHOLE)),
        (chat(temperature=0.1), FakeAnswer(headers={"Content-Type": "application/json"}, body=WHOLE)),
        (chat(temperature=0), FakeAnswer(json={"error": {"message": "an error in a 200"}})),
        (chat(temperature=0), FakeAnswer(status=400, json={"error": {"message": "no"}})),
        (chat(temperature=0, stream=True), FakeAnswer(headers={"Content-Type": "text/event-stream"}, body=EVENTS[:3])),
        (
            chat(temperature=0, stream=True),
            FakeAnswer(headers={"Content-Type": "text/event-stream"}, body=[ERROR_EVENT, EVENTS[4]]),
        ),
    ],
)
def test_what_is_not_cached(tmp_path: Path, body: dict[str, Any], answer: FakeAnswer) -> None:
    """Answers that may differ next time, errors of any form, and streams without their end."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream, cache=tmp_path / "c.db") as (_, _, wire):
            upstream.respond(answer, times=None)
            for _ in range(2):
                await wire.call("POST", "/v1/chat/completions", body)
            assert len(upstream.requests) == 2

    run(main())


# ------------------------------------------------------------------------------------------------- record and replay


def test_record_and_replay(tmp_path: Path) -> None:
    """What passed a front is answered again by another one without any server, and no key is in the file."""

    async def main() -> None:
        path = tmp_path / "session.jsonl"
        missing = chat("unheard of")
        async with FakeServer() as upstream:
            upstream.respond(FakeAnswer(headers={"Content-Type": "application/json"}, body=WHOLE)).respond(STREAM)
            upstream.fail(400, "no", code="wrong")
            bodies = [chat(), chat(stream=True), chat("other")]
            keyed = FrontUpstream(upstream.url, "sk-upstream")
            async with fronting(keyed, record=path) as (_, _, wire):
                recorded = [await wire.call("POST", "/v1/chat/completions", body) for body in bodies]
        assert b"sk-upstream" not in path.read_bytes()
        async with fronting(replay=path) as (_, _, wire):
            for _ in range(2):  # again and again
                replayed = [await wire.call("POST", "/v1/chat/completions", body) for body in bodies]
                assert [(one.status, one.body) for one in replayed] == [(one.status, one.body) for one in recorded]
            answer = await wire.call("POST", "/v1/chat/completions", missing)
            assert answer.status == 501
            assert "unheard of" in answer.error()["message"]

    run(main())


@pytest.mark.parametrize("field", ["Authorization", "api-key", "x-api-key"])
def test_the_key_of_a_client_is_not_recorded(field: str, tmp_path: Path) -> None:
    """Even if its request repeats it: plain, in base64, in hexadecimal digits, and in the upstream's echo."""

    async def main() -> None:
        path = tmp_path / "session.jsonl"
        key = "sk-alice-of-this-test-0123"
        forms = [key, base64.b64encode(b"u:" + key.encode()).decode(), key.encode().hex()]
        body = {"model": "m", "messages": [{"role": "user", "content": "my keys: " + " ".join(forms)}]}
        async with FakeServer() as upstream:
            upstream.when(path="/models").reply(json={"object": "list", "data": []}, times=None)
            upstream.reply(lambda request: request.text, times=None)
            fields = {field: f"Bearer {key}" if field == "Authorization" else key}
            keyed = FrontUpstream(upstream.url, "sk-upstream")
            async with fronting(keyed, record=path, keys=[ClientKey("alice", key)]) as (_, _, wire):
                answer = await wire.call("POST", "/v1/chat/completions", body, fields)
                assert key in answer.json()["choices"][0]["message"]["content"]  # what passes is not changed
                other = await wire.call("POST", "/v1/chat/completions", chat(), fields)
                assert other.status == 200
            chats = [one for one in upstream.requests if one.method == "POST"]
            assert len(chats) == 2
            assert key not in str([one.headers.raw_pairs() for one in chats])
        recorded = path.read_text(encoding="utf-8")
        for form in forms:
            assert form not in recorded
            assert form[8:-8] not in recorded
        assert "my keys: [key] " in recorded

    run(main())


def test_recordings_that_cannot_be_used(tmp_path: Path) -> None:
    """A missing file, one of another kind, and both options at once raise at construction."""
    (tmp_path / "other").write_text("a diary")
    for options in ({"replay": tmp_path / "none"}, {"replay": tmp_path / "other"}, {"record": tmp_path / "other"},
                    {"record": tmp_path / "a", "replay": tmp_path / "b"}):  # fmt: skip
        with pytest.raises(ConfigurationError):
            Front(["http://x/v1"], **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("upstreams", "options", "words"),
    [
        ([], {}, "at least one upstream"),
        (["ftp://x"], {}, "http"),
        (["http://x/v1"], {"keys": [ClientKey("a", "k"), ClientKey("a", "l")]}, "two keys"),
        (["http://x/v1"], {"keys": ["k", "k"]}, "two keys"),
        (["http://x/v1"], {"cache": __file__}, "cache"),
    ],
)
def test_wrong_options(upstreams: list[Any], options: dict[str, Any], words: str) -> None:
    """They raise at construction and say what is wrong."""
    with pytest.raises(ConfigurationError, match=words):
        Front(upstreams, **options)


def test_secrets_stay_out_of_reprs() -> None:
    """Keys of clients and upstreams are not shown."""
    shown = repr(ClientKey("a", "sk-secret")) + repr(FrontUpstream("http://u:sk-secret@x/v1", "sk-secret"))
    assert repr(FrontUpstream("no url: sk-secret")) == "FrontUpstream('invalid')"
    assert "secret" not in shown


def test_a_front_can_be_served_again() -> None:
    """After its last listener the connections are closed, and a new one opens others."""

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.reply("x", times=None)
            front = Front([upstream.url])
            for _ in range(2):
                async with front.serving() as url, Client(api_base=url, model="m") as client:
                    assert (await client.chat("Hi")).text == "x"

    run(main())
