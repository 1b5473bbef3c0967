"""Connections over real sockets: order, framing, caps, clocks, and clients that behave badly."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from conftest import run
from openaiasync.server import ServerLimits, serve
from openaiasync.server.asgi import AsgiApp, Receive, Scope, Send

from .apps import Listening, Watched, echo, http_only, pieces
from .wire import Wire, request, until

QUICK = ServerLimits(head_timeout=0.2, body_timeout=0.2, idle_timeout=0.4, send_timeout=0.3, linger_timeout=0.2)


def talk(app: AsgiApp, *sent: bytes, limits: ServerLimits | None = None, methods: str = "GET") -> list[Any]:
    """Send pieces of bytes on one connection; the answers to requests of these methods, then whether it was closed."""

    async def main() -> list[Any]:
        async with serve(app, limits=limits) as server, Wire(server) as wire:
            for data in sent:
                await wire.send(data)
                await asyncio.sleep(0.01)
            answers: list[Any] = [await wire.answer(method) for method in methods.split()]
            if "connection" in answers[-1].fields:
                assert await wire.ended()
            return answers

    return run(main())


def test_keep_alive() -> None:
    """Many requests on one connection, bodies by length and in chunks."""

    async def main() -> None:
        async with serve(echo) as server, Wire(server) as wire:
            for number in range(5):
                answer = await wire.call("POST", f"/x?n={number}", b"body")
                assert answer.body == f"POST /x n={number} 4 body".encode()
            await wire.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await wire.send(b"2\r\nde\r\n0\r\n\r\n")
            assert (await wire.answer("PUT")).body == b"PUT /  5 abcde"
            assert (server.requests, server.total_connections, server.in_flight) == (6, 1, 0)

    run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    """Ten requests in one write, with bodies; each waits for the one before."""

    async def main() -> None:
        running = 0

        @http_only
        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal running
            running += 1
            assert running == 1
            await asyncio.sleep(0.01)
            running -= 1
            await echo(scope, receive, send)

        async with serve(slow) as server, Wire(server) as wire:
            await wire.send(b"".join(request("POST", f"/{number}", b"x" * number) for number in range(10)))
            for number in range(10):
                assert (await wire.answer()).body == b"POST /%d  %d " % (number, number) + b"x" * number

    run(main())


def test_pipelined_flood_is_held_back() -> None:
    """A client that sends and does not read is not read from without end, and gets all answers once it reads."""

    async def main() -> None:
        async with serve(echo) as server, Wire(server, receive_buffer=4096) as wire:
            one = request("POST", "/", b"x" * 20_000)
            count = 400
            sending = asyncio.create_task(wire.send(one * count))
            await asyncio.sleep(0.3)
            assert server.requests < count
            for _ in range(count):
                assert len((await wire.answer()).body) == 20_000 + len(b"POST /  20000 ")
            await sending

    run(main())


def test_streamed_answer() -> None:
    [answer] = talk(pieces, request("GET", "/"))
    assert (answer.body, answer.fields["transfer-encoding"]) == (b"one two three", "chunked")


def test_head_has_no_body() -> None:
    """HEAD answers as GET without the body, and the connection goes on."""
    first, second = talk(echo, request("HEAD", "/") + request("GET", "/"), methods="HEAD GET")
    assert (first.body, first.fields["content-length"]) == (b"", str(len(b"HEAD /  0 ")))
    assert second.body == b"GET /  0 "


def test_old_http() -> None:
    """HTTP/1.0: closed after the answer, unless the client asks to keep it and the length is known."""

    async def main() -> None:
        async with serve(echo) as server:
            async with Wire(server) as wire:
                await wire.send(b"GET / HTTP/1.0\r\n\r\n")
                assert (await wire.answer()).fields["connection"] == "close"
                assert await wire.ended()
            async with Wire(server) as wire:
                await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (await wire.answer()).fields["connection"] == "keep-alive"
                assert (await wire.call("GET", "/")).status == 200
        async with serve(pieces) as server, Wire(server) as wire:
            await wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            answer = await wire.answer()
            assert answer.body == b"one two three"
            assert "transfer-encoding" not in answer.fields

    run(main())


def test_expect_continue() -> None:
    """``100 Continue`` goes out when the application wants the body, and not when it answers without it."""

    async def main() -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        async with serve(echo) as server, Wire(server) as wire:
            await wire.send(head)
            assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await wire.send(b"body")
            assert (await wire.answer()).body == b"POST /  4 body"
            await wire.send(head + b"body")  # sent along: nothing to say
            answer = await wire.answer()
            assert (answer.body, wire.informational) == (b"POST /  4 body", [])
        async with serve(pieces) as server, Wire(server) as wire:
            await wire.send(head)
            answer = await wire.answer()
            assert (answer.fields["connection"], wire.informational) == ("close", [])
            assert await wire.ended()

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431),
        (b"GET /" + b"a" * 70_000, 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ],
)
def test_bad_requests_get_an_error_object(data: bytes, status: int) -> None:
    """The refusal is read even though the client is still sending; then the connection is closed."""
    [answer] = talk(echo, data)
    assert answer.status == status
    assert answer.error()["type"] == ("server_error" if status == 505 else "invalid_request_error")
    assert answer.fields["connection"] == "close"


def test_bad_request_after_a_good_one() -> None:
    """The good one is answered first."""
    first, second = talk(echo, request("GET", "/") + b"BAD\r\n\r\n", methods="GET GET")
    assert (first.status, second.status) == (200, 400)


def test_broken_chunk_in_the_middle() -> None:
    """An application in the middle of a body is told that the client left; the client is told what is wrong."""
    app = Listening()
    [answer] = talk(app, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
    assert answer.status == 400
    assert [message["type"] for message in app.messages][-1] == "http.disconnect"


def test_upload_that_is_not_read() -> None:
    """An answer before the end of a large upload arrives, and the connection is not used again."""

    @http_only
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def main() -> None:
        async with serve(refuse, limits=QUICK) as server, Wire(server) as wire:
            wire.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
            for _ in range(10):
                wire.writer.write(b"x" * 100_000)
                await asyncio.sleep(0.001)
            answer = await wire.answer()
            assert (answer.status, answer.body, answer.fields["connection"]) == (401, b"no", "close")
            await until(lambda: server.connections == 0)

    run(main())


def test_body_waits_for_the_application() -> None:
    """A large upload is taken only as fast as the application reads it."""
    go = asyncio.Event()

    @http_only
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async def main() -> None:
        async with serve(slow) as server, Wire(server) as wire:
            sending = asyncio.create_task(wire.send(request("POST", "/", b"x" * 30_000_000)))
            await asyncio.sleep(0.2)
            assert not sending.done()
            go.set()
            await sending
            assert len((await wire.answer()).body) > 30_000_000

    run(main())


def test_dripped_head_is_cut() -> None:
    """A head that comes byte by byte has its time as a whole."""

    async def main() -> None:
        async with serve(echo, limits=QUICK) as server, Wire(server) as wire:
            answer = asyncio.create_task(wire.answer())
            try:
                for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
                    await wire.send(bytes([byte]))
                    await asyncio.sleep(0.02)
            except ConnectionError:
                pass
            assert (await answer).status == 408
            await until(lambda: server.connections == 0)

    run(main())


def test_dripped_body_is_cut() -> None:
    """A body must make progress; the application is let go."""

    async def main() -> None:
        app = Listening()
        async with serve(app, limits=QUICK) as server, Wire(server) as wire:
            await wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
            answer = asyncio.create_task(wire.answer())
            try:
                for _ in range(40):
                    await wire.send(b"x")
                    await asyncio.sleep(0.02)
            except ConnectionError:
                pass
            assert (await answer).status == 408
            assert app.messages[-1]["type"] == "http.disconnect"
            await until(lambda: server.connections == 0 and server.in_flight == 0)

    run(main())


def test_slow_application_is_no_slow_client() -> None:
    """While the application works on a body it has, no clock of the client runs."""

    @http_only
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await echo(scope, receive, send)

    [answer] = talk(slow, request("POST", "/", b"x" * 600_000), limits=QUICK)
    assert answer.status == 200


@pytest.mark.parametrize("first", [b"", request("GET", "/")])
def test_idle_connection_is_closed(first: bytes) -> None:
    """Without a word, before or after a request."""

    async def main() -> None:
        async with serve(echo, limits=QUICK) as server, Wire(server) as wire:
            if first:
                await wire.send(first)
                await wire.answer()
            assert await wire.ended()
            await until(lambda: server.connections == 0)

    run(main())


def test_client_that_does_not_read_is_dropped() -> None:
    """A stream to it stops at the full buffer, and ends with the send timeout."""

    async def main() -> None:
        app = Watched(b"x" * 50_000)
        async with serve(app, limits=QUICK) as server, Wire(server, receive_buffer=4096) as wire:
            await wire.send(request("GET", "/"))
            await until(lambda: server.connections == 0 and server.in_flight == 0)
            assert app.ends == ["ClientGone"]
            assert app.sent < 2000

    run(main())


def test_last_bytes_to_a_client_that_does_not_read() -> None:
    """An answer that is complete but not taken does not keep the connection, either."""

    @http_only
    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    async def main() -> None:
        async with serve(large, limits=QUICK) as server, Wire(server, receive_buffer=4096) as wire:
            await wire.send(request("GET", "/"))
            await until(lambda: server.requests == 1)
            await until(lambda: server.connections == 0 and server.in_flight == 0)

    run(main())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves(how: str) -> None:
    """`receive` tells the application, `send` raises, and nothing is left."""

    async def main() -> None:
        listening, watched = Listening(), Watched(pause=0.005)

        @http_only
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (listening if scope["path"] == "/listen" else watched)(scope, receive, send)

        async with serve(app) as server:
            for path in ("/listen", "/watch"):
                async with Wire(server) as wire:
                    await wire.send(request("GET", path))
                    await until(lambda: server.in_flight == 1)
                    if how == "reset":
                        sock: socket.socket = wire.writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await until(lambda: server.in_flight == 0)
            assert [message["type"] for message in listening.messages] == ["http.request", "http.disconnect"]
            assert watched.ends == ["ClientGone"]

    run(main())


def _failing(at: str) -> AsgiApp:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if at == "return":
            return
        if at == "before":
            raise ValueError("broken")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if at == "middle":
            raise ValueError("broken")

    return app


@pytest.mark.parametrize("at", ["return", "before"])
def test_application_that_fails_before_answering(at: str, caplog: pytest.LogCaptureFixture) -> None:
    """500 with an error object; what was raised is logged."""
    [answer] = talk(_failing(at), request("GET", "/"))
    assert (answer.status, answer.error()["type"]) == (500, "server_error")
    assert ("broken" in caplog.text) == (at == "before")


@pytest.mark.parametrize("at", ["middle", "end"])
def test_application_that_fails_in_its_answer(at: str) -> None:
    """A cut answer does not look like a whole one."""

    async def main() -> None:
        async with serve(_failing(at)) as server, Wire(server) as wire:
            await wire.send(request("GET", "/"))
            data = b""
            try:
                while piece := await wire.reader.read(1000):
                    data += piece
            except ConnectionError:
                pass
            assert not data.endswith(b"0\r\n\r\n")

    run(main())


def test_messages_out_of_order() -> None:
    """The application hears of its mistakes."""

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError):
            await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with pytest.raises(RuntimeError):
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        with pytest.raises(RuntimeError):
            await send({"type": "http.response.body", "body": b"x"})
        assert (await receive())["type"] == "http.disconnect"

    [answer] = talk(app, request("GET", "/"))
    assert (answer.status, answer.body) == (200, b"x")


def test_connection_cap() -> None:
    """Above the cap a connection is told so and closed; when one goes, there is room again."""

    async def main() -> None:
        async with serve(echo, limits=ServerLimits(max_connections=1)) as server:
            async with Wire(server) as first:
                assert (await first.call("GET", "/")).status == 200
                async with Wire(server) as second:
                    assert (await second.answer()).status == 503
                assert (await first.call("GET", "/")).status == 200
            await until(lambda: server.connections == 0)
            async with Wire(server) as third:
                assert (await third.call("GET", "/")).status == 200

    run(main())


def test_scope() -> None:
    """What ASGI promises: addresses, raw path, versions, lower-case names."""
    scopes: list[Scope] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    talk(app, request("GET", "/a%20b?c=d", None, {"X-Thing": "1"}))
    [scope] = scopes
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert (scope["scheme"], scope["http_version"], scope["method"]) == ("http", "1.1", "GET")
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert (b"x-thing", b"1") in scope["headers"]
