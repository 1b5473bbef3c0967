"""The server as a whole: addresses, TLS, many clients, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from openaiasync.demo import demo_app
from openaiasync.server import serve
from openaiasync.server.asgi import Receive, Scope, Send
from openaiasync.server.http_exchange import http_date

from .apps import Watched, echo, http_only
from .wire import SAY_HELLO, Wire, request, until


@given(st.integers(0, 2**32))
def test_dates_of_responses(now: int) -> None:
    """They are those of the standard library, whose module takes long to import."""
    assert http_date(now) == email.utils.formatdate(now, usegmt=True)


def test_imports_of_the_kit() -> None:
    """A server starts fast: it loads nothing of the standard library that takes milliseconds and is rarely needed."""
    slow = {"dataclasses", "email", "hashlib", "hmac", "pathlib", "random", "ssl"}
    script = (
        "import asyncio, sys; before = set(sys.modules); import openaiasync.server; print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "openaiasync.server.app" in loaded
    assert slow.isdisjoint(loaded)


def slow_app(seconds: float) -> object:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await echo(scope, receive, send)

    return app


def test_base_url() -> None:
    """A client can take it as it is, whatever address was listened on."""

    async def main() -> None:
        for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")):
            async with serve(echo, host) as server:
                assert server.base_url == f"http://{shown}:{server.port}/v1"
                assert server.port > 0

    run(main())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6() -> None:
    async def main() -> None:
        try:
            async with serve(echo, "::1") as server:
                assert server.base_url == f"http://[::1]:{server.port}/v1"
        except OSError as error:
            pytest.skip(f"no IPv6 loopback here: {error}")

    run(main())


def test_address_in_use() -> None:
    """`OSError`, and the application was stopped again."""

    async def main() -> None:
        async with serve(echo) as server:
            with pytest.raises(OSError, match=str(server.port)):
                async with serve(echo, port=server.port):
                    pass

    run(main())


def test_unix_socket(tmp_path: Path) -> None:
    """A stale socket is replaced, and the path is gone afterwards."""
    path = tmp_path / "s"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        async with serve(demo_app(), uds=path) as server, Wire(server) as wire:
            assert (await wire.call("GET", "/v1/models")).status == 200
            assert server.base_url == "http://localhost/v1"
        assert not path.exists()

    run(main())


def test_tls() -> None:
    """Requests, a refusal that is read to its end, and a stream over TLS."""

    async def main() -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with serve(demo_app(), ssl=context) as server:
            assert server.base_url == f"https://127.0.0.1:{server.port}/v1"
            async with Wire(server, tls=trusting) as wire:
                assert (await wire.call("POST", "/v1/chat/completions", SAY_HELLO)).status == 200
                answer = await wire.call("POST", "/v1/chat/completions", {**SAY_HELLO, "stream": True})
                assert len(answer.events()) > 5
                await wire.send(b"NONSENSE\r\n\r\n")
                assert (await wire.answer()).status == 400

    run(main())


def test_uvloop() -> None:
    """On uvloop as on asyncio: streams, a refusal, a client that leaves, an end that leaves nothing."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        app = Watched(pause=0.005)
        async with serve(demo_app()) as server, Wire(server) as wire:
            answer = await wire.call("POST", "/v1/chat/completions", {**SAY_HELLO, "stream": True})
            assert len(answer.events()) > 5
            await wire.send(b"NONSENSE\r\n\r\n")
            assert (await wire.answer()).status == 400
        async with serve(app, grace=0.1) as server:
            async with Wire(server) as wire:
                await wire.send(request("GET", "/"))
                await until(lambda: app.sent > 3)
            await until(lambda: server.in_flight == 0)
            async with Wire(server) as wire:
                await wire.send(request("GET", "/"))
                await until(lambda: server.in_flight == 1)
                await server.close()
        assert app.ends == ["ClientGone", "CancelledError"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_two_hundred_connections() -> None:
    """All at once, each several requests; the counts are right, and nothing is left."""

    async def main() -> None:
        async with serve(demo_app(token_delay=0.001)) as server:

            async def client() -> None:
                async with Wire(server) as wire:
                    for stream in (False, True, False):
                        answer = await wire.call("POST", "/v1/chat/completions", {**SAY_HELLO, "stream": stream})
                        assert answer.status == 200

            await asyncio.gather(*(client() for _ in range(200)))
            assert server.requests == 600
            assert server.total_connections == 200
            assert 1 < server.peak_in_flight <= server.peak_connections <= 200
            await until(lambda: server.connections == 0 and server.in_flight == 0)
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_closing_lets_answers_end() -> None:
    """Within the grace period; no new connection is taken, an idle one is closed, and the answer says close."""

    async def main() -> None:
        server = serve(slow_app(0.2), grace=10)  # type: ignore[arg-type]
        await server.start()
        async with Wire(server) as idle, Wire(server) as busy:
            await until(lambda: server.connections == 2)
            await busy.send(request("GET", "/"))
            await until(lambda: server.in_flight == 1)
            closing = asyncio.create_task(server.close())
            assert await idle.ended()
            answer = await busy.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            await asyncio.wait_for(closing, 5)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", server.port)
        assert server.connections == server.in_flight == 0
        await server.close()

    run(main())


@pytest.mark.parametrize("how", ["grace is over", "no grace", "cancelled", "hurried", "the block raised"])
def test_closing_cancels_what_does_not_end(how: str) -> None:
    """A stream without end is cancelled after the grace period; no task, no connection remains."""

    async def main() -> None:
        app = Watched(pause=0.005)
        server = serve(app, grace=0.2 if how == "grace is over" else 60)
        start = asyncio.get_running_loop().time()
        await server.start()
        async with Wire(server) as wire:
            await wire.send(request("GET", "/"))
            await until(lambda: app.sent > 3)
            if how == "the block raised":
                await server.__aexit__(ValueError, ValueError(), None)
            elif how == "no grace":
                await server.close(0)
            elif how == "grace is over":
                await server.close()
            else:
                closing = asyncio.create_task(server.close())
                await asyncio.sleep(0.05)
                assert app.ends == []
                if how == "hurried":
                    server.hurry()
                    await closing
                else:
                    closing.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await closing
        assert app.ends == ["CancelledError"]
        assert server.connections == server.in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert asyncio.get_running_loop().time() - start < 10

    run(main())


def test_connection_that_lingers_does_not_hold_up_the_end() -> None:
    """A refused client that never closes is cut when the server ends."""

    async def main() -> None:
        async with serve(echo, grace=0.1) as server, Wire(server) as wire:
            await wire.send(b"NONSENSE\r\n\r\n")
            assert (await wire.answer()).status == 400
            assert server.connections == 1
            await server.close()
            assert server.connections == 0

    run(main())
