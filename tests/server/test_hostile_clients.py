"""Clients that flood, smuggle, send garbage or half-close: error objects, bounded memory, a server that lives on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync.server import HTTPServer, Server, serve

from .wire import SAY_HELLO, Wire, request, until

CHAT = "/v1/chat/completions"
HELLO = {**SAY_HELLO, "model": "m"}


def kit() -> Server:
    app = Server()

    @app.chat("m")
    async def reply(request: Any) -> str:
        return "Hello"

    return app


async def lives(server: HTTPServer) -> None:
    """A new client is served, and nothing of the former ones is left."""
    async with Wire(server) as wire:
        assert (await wire.call("POST", CHAT, HELLO)).status == 200
    await until(lambda: server.connections == 0 and server.in_flight == 0)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"Content-Length: 5, 6\r\n\r\nhello!",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length : 5\r\n\r\nhello",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"X: a\r\n folded: b\r\nContent-Length: 2\r\n\r\n{}",
        b"X: a\nContent-Length: 2\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_smuggled_requests(smuggled: bytes) -> None:
    """Framing that two parsers may read differently is one error, after which the connection ends."""

    async def main() -> None:
        async with serve(kit()) as server:
            async with Wire(server) as wire:
                await wire.send(HEAD + smuggled)
                answer = await wire.answer("POST")
                assert answer.status in (400, 501)
                answer.error()
                assert await wire.ended()
            assert server.requests <= 1
            await lives(server)

    run(main())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_gigabyte(chunked: bool) -> None:
    """Declared, it is refused at once; in chunks when it has grown too large. Memory stays bounded."""

    async def main() -> None:
        async with serve(kit()) as server:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async with Wire(server) as wire:
                length = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 1073741824\r\n\r\n"
                await wire.send(HEAD + length)

                async def flood() -> None:
                    piece = bytes(1 << 20)
                    with contextlib.suppress(ConnectionError):
                        for _ in range(1024):
                            await wire.send(b"100000\r\n" + piece + b"\r\n" if chunked else piece)

                flooding = asyncio.create_task(flood())
                answer = await wire.answer("POST")
                assert answer.status == 413
                answer.error()
                assert await wire.ended()
                flooding.cancel()
                await asyncio.wait([flooding])
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
            await lives(server)

    run(main())


def test_two_thousand_idle_connections() -> None:
    """Others are served beside them, and all are gone with their clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 5000:
        pytest.skip(f"only {hard} files can be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
    idle: list[socket.socket] = []

    async def main() -> None:
        async with serve(kit()) as server:
            for number in range(2000):
                sock = socket.socket()
                idle.append(sock)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
                if number % 2:
                    sock.send(b"POST /v1/chat")  # half of them begin a head
            await until(lambda: server.connections == 2000)
            async with Wire(server) as wire:
                assert (await wire.call("POST", CHAT, HELLO)).status == 200
            for sock in idle:
                sock.close()
            await lives(server)

    try:
        run(main())
    finally:
        for sock in idle:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_half_closed() -> None:
    """A client that closes its side after the request looks as one that leaves: its handler ends, nothing is left."""

    async def main() -> None:
        async with serve(kit()) as server:
            async with Wire(server) as wire:
                await wire.send(request("POST", CHAT, HELLO)[:-5])
                wire.writer.write_eof()
                assert await wire.ended()
            await lives(server)

    run(main())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_garbage(data: st.DataObject) -> None:
    """Whatever bytes come, what goes back are complete HTTP messages; errors are error objects. h11 reads them."""
    good = request("POST", CHAT, HELLO)
    sent = bytearray(good * data.draw(st.integers(1, 3)))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(sent)))
        piece = data.draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n", b"\x00", b": ", b"{", b"0"]))
        )
        sent[place : place + data.draw(st.integers(0, 8))] = piece

    async def main() -> bytes:
        async with serve(kit(), grace=0.0) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                for start in range(0, len(sent), 97):
                    writer.write(sent[start : start + 97])
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                await asyncio.sleep(0.005)
                with contextlib.suppress(OSError):
                    writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    return await asyncio.wait_for(reader.read(), 20)
                return b""
            finally:
                writer.transport.abort()

    received = run(main())
    client = h11.Connection(h11.CLIENT)
    client.receive_data(received)
    client.receive_data(b"")
    while received and client.trailing_data[0]:
        client.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        body = b""
        status = 0
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                break
        if status == 0 or not isinstance(event, h11.EndOfMessage):
            return  # the end of the connection
        assert status < 500 or status in (501, 505), (status, body)
        if status >= 400:
            assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        if client.our_state is not h11.DONE or client.their_state is not h11.DONE:
            return
        client.start_next_cycle()
