"""The front under faults: upstreams that die, lie or are slow, clients that leave, stall and send garbage."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import time
from typing import Any

import h11
import pytest

from conftest import run
from openaiasync import APIError, AsyncOpenAI, Limits
from openaiasync.server import Front, HTTPServer, serve
from openaiasync.server.asgi import Receive, Scope, Send
from openaiasync.testing import FakeServer
from openaiasync.transport.fake import FakeAnswer

from .fronts import chat, echoing, fronting
from .wire import Wire, request, until

CHAT = "/v1/chat/completions"
STREAM = request("POST", CHAT, chat(stream=True))
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
EVENTS = {"Content-Type": "text/event-stream"}


async def rest(wire: Wire) -> tuple[bytes, bool]:
    """What comes of a chunked response up to its end, and whether its end was cut."""
    raw = b""
    async with asyncio.timeout(10):
        while not raw.endswith(b"0\r\n\r\n"):
            more = await wire.reader.read(65536)
            if not more:
                break
            raw += more
    return raw, not raw.endswith(b"0\r\n\r\n")


def refused(answer: Any, status: int, code: str) -> str:
    """The message of an error object, without any secret in it."""
    assert (answer.status, answer.error()["code"]) == (status, code)
    return str(answer.error()["message"])


HEAD = b"HTTP/1.1 200 OK\r\n"
FAULTS: dict[str, tuple[FakeAnswer, int, str]] = {
    "reset": (FakeAnswer(error="reset"), 502, "upstream_failed"),
    "not HTTP": (FakeAnswer(raw=b"SSH-2.0-OpenSSH\r\n\r\n"), 502, "upstream_failed"),
    "half a head": (FakeAnswer(raw=HEAD + b"X: y\r\n", hang=True), 504, "upstream_timeout"),
    "endless fields": (FakeAnswer(raw=HEAD + b"X: y\r\n" * 3000), 502, "upstream_failed"),
    "endless field": (FakeAnswer(raw=HEAD + b"X: " + b"y" * 400_000), 502, "upstream_failed"),
    "two lengths": (
        FakeAnswer(raw=HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        502,
        "upstream_failed",
    ),
    "no body": (FakeAnswer(raw=HEAD + b"Content-Length: 3\r\n\r\n", hang=True), 504, "upstream_timeout"),
    "silent": (FakeAnswer(raw=b"", hang=True), 504, "upstream_timeout"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_upstreams_that_do_not_answer(name: str) -> None:
    """Each is an error object that names the upstream, and the front serves the next request."""

    async def main() -> None:
        fault, status, code = FAULTS[name]
        options: dict[str, Any] = {"timeout": 0.2, "stall_timeout": 0.2, "max_retries": 0}
        async with FakeServer() as upstream, fronting(upstream, **options) as (front, _, wire):
            upstream.respond(fault)
            message = refused(await wire.call("POST", CHAT, chat()), status, code)
            assert front.upstreams()[0] in message
            upstream.clear()
            upstream.reply("fine")
            assert (await wire.call("POST", CHAT, chat())).status == 200

    run(main())


def test_a_dead_upstream() -> None:
    """Nobody listens: 502, which names the server and shows no key."""

    async def main() -> None:
        async with fronting("http://user:sk-secret@127.0.0.1:1/v1", max_retries=0) as (_, _, wire):
            message = refused(await wire.call("POST", CHAT, chat()), 502, "upstream_failed")
            assert "127.0.0.1:1" in message
            assert "secret" not in message
            assert (await wire.call("GET", "/v1/models")).status == 502
            assert (await wire.call("GET", "/health")).status == 200

    run(main())


@pytest.mark.parametrize("how", ["cut", "stall", "partial event"])
def test_a_stream_that_breaks(how: str) -> None:
    """What came is delivered, then an error event, and the client's connection is cut as the upstream's was."""

    async def main() -> None:
        pieces = [EVENT, EVENT[:20]] if how == "partial event" else [EVENT, EVENT]
        answer = FakeAnswer(headers=EVENTS, body=[*pieces, b"never"], pause=0.01, cut_after=2, hang=how == "stall")
        async with FakeServer() as upstream, fronting(upstream, stall_timeout=0.2) as (front, _, wire):
            upstream.respond(answer)
            await wire.send(STREAM)
            body, cut = await rest(wire)
            assert cut
            assert body.count(EVENT) == (1 if how == "partial event" else 2)
            last = body[body.rindex(b"data: ") :].partition(b"\n\n")[0]
            error = json.loads(last.removeprefix(b"data: "))["error"]
            assert error["code"] == ("upstream_timeout" if how == "stall" else "upstream_failed")
            assert len(upstream.requests) == 1  # nothing is sent again after the first byte
        async with FakeServer() as upstream:
            upstream.respond(answer)
            front = Front([upstream.url], stall_timeout=0.2)
            async with front.serving() as url, AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
                with pytest.raises(APIError):
                    async for _ in await client.chat.completions.create(**chat(), stream=True):
                        pass

    run(main())


def test_a_whole_body_that_breaks_is_cut() -> None:
    """A body of known length that ends early is never made to look complete."""

    async def main() -> None:
        raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            upstream.respond(FakeAnswer(raw=raw))
            await wire.send(request("POST", CHAT, chat()))
            with pytest.raises(h11.RemoteProtocolError):
                await wire.answer("POST")

    run(main())


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_that_ends_with_its_connection(done: bool) -> None:
    """Without a length, only [DONE] tells a complete stream from a cut one: the client sees the same."""

    async def main() -> None:
        raw = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            + EVENT
            + (b"data: [DONE]\n\n" if done else b"")
        )
        async with FakeServer() as upstream, fronting(upstream) as (_, _, wire):
            upstream.respond(FakeAnswer(raw=raw))
            await wire.send(STREAM)
            body, cut = await rest(wire)
            assert EVENT in body
            assert cut == (not done)

    run(main())


def test_an_error_status_passes_and_is_retried_first() -> None:
    """A 429 with Retry-After is waited for; what remains is the upstream's own response, without the front's key."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream, max_retries=1) as (_, _, wire):
            upstream.fail(429, retry_after=0).reply("fine")
            assert (await wire.call("POST", CHAT, chat())).status == 200
            upstream.fail(400, "bad", param="messages", code="wrong", headers={"X-Request-ID": "req-1"})
            answer = await wire.call("POST", CHAT, chat())
            assert (answer.status, answer.error()["param"], answer.fields["x-request-id"]) == (400, "messages", "req-1")
            upstream.respond(FakeAnswer(status=302, headers={"Location": "https://elsewhere/x"}))
            answer = await wire.call("GET", "/v1/files/1/content")
            assert (answer.status, answer.fields["location"]) == (302, "https://elsewhere/x")
            upstream.respond(FakeAnswer(status=204))
            assert (await wire.call("DELETE", "/v1/files/1")).status == 204

    run(main())


# ------------------------------------------------------------------------------------------------- clients


@pytest.mark.parametrize("when", ["before the response", "in mid-stream", "in the queue"])
def test_a_client_that_leaves_ends_its_request(when: str) -> None:
    """The upstream's connection is dropped at once, and the slot is free."""

    async def main() -> None:
        async with (
            FakeServer() as upstream,
            fronting(upstream, limits=Limits(max_in_flight=1)) as (_, server, wire),
        ):
            if when == "in mid-stream":
                upstream.respond(FakeAnswer(headers=EVENTS, body=[EVENT] * 1000, pause=0.01))
            else:
                upstream.reply("late", delay=30)
            await wire.send(STREAM)
            await until(lambda: upstream.in_flight == 1)
            if when == "in the queue":
                async with Wire(server) as second:
                    await second.send(STREAM)
                    await until(lambda: server.in_flight == 2)
                await until(lambda: server.in_flight == 1)
                assert upstream.in_flight == 1
            elif when == "in mid-stream":
                await wire.reader.readuntil(EVENT)
            began = time.monotonic()
            wire.writer.transport.abort()
            await until(lambda: upstream.in_flight == 0)
            took = time.monotonic() - began
            assert upstream.requests[-1].cancelled
            assert took < 0.5  # the machine may be busy
            await until(lambda: server.in_flight == 0)
            upstream.clear()
            upstream.reply("next")
            async with Wire(server) as other:
                assert (await other.call("POST", CHAT, chat())).status == 200

    run(main())


def test_a_client_that_leaves_its_upload() -> None:
    """A half upload is not passed on as a whole one: the upstream sees its connection end."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream) as (_, server, wire):
            fields = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(4 << 20)}
            await wire.send(request("POST", "/v1/files", None, fields) + b"y" * (2 << 20))
            await until(lambda: sum(app.pieces) > 1 << 20)
            wire.writer.transport.abort()
            await until(lambda: server.in_flight == 0 and upstream.in_flight == 0)
            assert app.seen == []

    run(main())


def test_a_client_that_does_not_read() -> None:
    """It is dropped after the send timeout, with its request upstream; memory stays bounded meanwhile."""

    async def main() -> None:
        async with FakeServer() as upstream, fronting(upstream, send_timeout=0.2) as (_, server, _):
            upstream.respond(FakeAnswer(headers=EVENTS, body=[EVENT * 2000] * 500))
            async with Wire(server, receive_buffer=4096) as slow:
                await slow.send(STREAM)
                await until(lambda: upstream.requests and upstream.in_flight == 0 and server.in_flight == 0)
                assert upstream.requests[0].cancelled

    run(main())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01garbage\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /v1/../secret HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /v1/%2e%2E/secret HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /v1/files HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
        (b"GET /v1/files HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    ],
)
def test_requests_that_go_no_further(sent: bytes, status: int) -> None:
    """Each is an error object, and nothing of it reaches an upstream."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream) as (_, _, wire):
            await wire.send(sent)
            answer = await wire.answer()
            assert answer.status == status
            assert answer.error()["message"]
            assert app.seen == []

    run(main())


def test_json_that_is_not_json_is_the_upstreams_to_explain() -> None:
    """The front passes it on as it is; a body above the limit it refuses itself."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream, fronting(upstream, max_body=2000) as (_, _, wire):
            for body in (b'{"model": ', b"[" * 1000, b"\xff\xfe", b'{"model": 7, "stream": "x"}', b'"m"'):
                fields = {"Content-Type": "application/json"}
                assert (await wire.call("POST", CHAT, body, fields)).status == 200
                assert app.seen[-1]["body"].encode("latin-1") == body[:1000]
            assert (await wire.call("POST", CHAT, b" " * 2001, {"Content-Type": "application/json"})).status == 413

    run(main())


def test_two_hundred_clients_that_leave_at_random() -> None:
    """No slot, request or connection stays behind."""

    async def main() -> None:
        chance = random.Random(5)
        async with FakeServer() as upstream:
            upstream.stream("one two three four five", ttft=0.01, itl=0.01, times=None)
            front = Front([upstream.url], limits=Limits(max_in_flight=50), max_queue=2000)
            async with front.listener(grace=0.2) as server:

                async def leave() -> None:
                    async with Wire(server) as wire:
                        await wire.send(STREAM)
                        await asyncio.sleep(chance.random() * 0.1)

                for _ in range(2):
                    await asyncio.gather(*(leave() for _ in range(100)))
                await until(lambda: server.in_flight == 0 and upstream.in_flight == 0 and server.connections == 0)
                async with Wire(server) as wire:
                    text = (await wire.call("GET", "/metrics")).body.decode()
                    assert "openaiasync_slots_used 0\n" in text
                    assert "openaiasync_slots_waiting 0\n" in text
                    assert f'in_flight{{upstream="127.0.0.1:{upstream.port}"}} 0\n' in text

    run(main())


# ------------------------------------------------------------------------------------------------- its own life


def test_a_loop_is_found() -> None:
    """Fronts that are each other's upstreams answer 508, once, instead of sending a request round for ever."""

    async def main() -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        async with FakeServer() as real:
            real.when(path="/v1/models").respond(FakeAnswer(json={"data": [{"id": "m"}]}), times=None)
            real.fail(503, times=None)
            one = Front([f"http://127.0.0.1:{port}/v1", real.url])
            async with one.listener() as first:
                async with Front([first.base_url]).listener(port=port) as second, Wire(first) as wire:
                    listed = await wire.call("GET", "/v1/models")
                    assert [model["id"] for model in listed.json()["data"]] == ["m"]
                    assert second.in_flight == 0
                    answer = await wire.call("POST", CHAT, chat("only"))
                    assert answer.status in (503, 508)  # the last word of either upstream
                    text = (await wire.call("GET", "/metrics")).body.decode()
                    assert 'operation="chat.completions.create",status="508"} 1' in text

    run(main())


def test_a_front_that_is_its_own_upstream() -> None:
    """So it is for one front, whatever is asked for."""

    async def main() -> None:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        async with Front([f"http://127.0.0.1:{port}/v1"]).listener(port=port) as server, Wire(server) as wire:
            refused(await wire.call("POST", CHAT, chat()), 508, "loop_detected")
            refused(await wire.call("GET", "/v1/models"), 508, "loop_detected")
            refused(await wire.call("GET", "/v1/files"), 508, "loop_detected")
            assert server.in_flight == 0

    run(main())


def test_a_websocket_on_another_asgi_server_is_closed() -> None:
    """The scope of a WebSocket is refused by closing it before it is accepted."""

    async def main() -> None:
        sent: list[Any] = []
        messages = iter([{"type": "websocket.connect"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        await Front(["http://127.0.0.1:1"])({"type": "websocket", "path": "/"}, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    run(main())


def test_a_drain(caplog: pytest.LogCaptureFixture) -> None:
    """While it shuts down, an open stream goes on until the grace period ends, then gets an error event."""

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.respond(FakeAnswer(headers=EVENTS, body=[EVENT] * 1000, pause=0.02))
            front = Front([upstream.url])
            server = front.listener(grace=0.1)
            await server.start()
            async with Wire(server) as wire:
                await wire.send(STREAM)
                await wire.reader.readuntil(EVENT)
                await server.close()
                body, cut = await rest(wire)
            assert cut
            assert b'"code":"server_shutting_down"' in body
            await until(lambda: upstream.in_flight == 0)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert [record.message for record in caplog.records if record.name.startswith("openaiasync")] == []


def test_mounted_below_a_path() -> None:
    """As part of a larger application, the path of the mount is not passed on."""

    async def main() -> None:
        app, upstream = echoing()
        async with upstream:
            front = Front([upstream.base_url])

            async def outer(scope: Scope, receive: Receive, send: Send) -> None:
                if scope["type"] == "http":
                    await front({**scope, "root_path": "/ai"}, receive, send)

            mounted: HTTPServer = serve(outer)
            async with mounted, Wire(mounted) as wire:
                assert (await wire.call("POST", "/ai/v1/chat/completions", chat())).status == 200
                assert app.seen[0]["path"] == CHAT

    run(main())


def test_the_limit_of_a_body_is_that_of_its_kind() -> None:
    """JSON has `max_body`, in pieces of unknown length too; any other body has `max_upload`, and its 413 says so."""

    async def main() -> None:
        _, upstream = echoing()
        async with upstream, fronting(upstream, max_body=2000, max_upload=9000) as (_, _, wire):
            chunks = b"".join(b"4b0\r\n" + b" " * 1200 + b"\r\n" for _ in range(2)) + b"0\r\n\r\n"
            kind = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
            await wire.send(request("POST", CHAT, None, kind) + chunks)
            assert (await wire.answer("POST")).status == 413
            audio = {"Content-Type": "audio/wav"}
            assert (await wire.call("POST", "/v1/files", b"x" * 5000, audio)).json()["length"] == 5000
            refused = await wire.call("POST", "/v1/files", b"x" * 9500, audio)
            assert refused.status == 413
            assert "larger than 9000 bytes" in refused.json()["error"]["message"]

    run(main())
