"""The transport as a whole: what goes over the wire, on several loops, and what is left when nobody closes it."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

from conftest import run
from openaiasync.core.http.request import request_head
from openaiasync.transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    TransportError,
)
from openaiasync.transport.tcp import TcpSettings, TcpTransport
from wireserver import CHUNKED, CLOCKS, HELLO, Peer, Server, client_context, forever, outgoing, server_context, until

Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def run_uvloop(coro: Coroutine[Any, Any, Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(30):
            return await coro

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())


LOOPS = [pytest.param(run, id="asyncio"), pytest.param(run_uvloop, id="uvloop")]


@pytest.mark.parametrize("ready", [False, True])
def test_a_request_is_one_exact_write(ready: bool) -> None:
    """Request line, Host, fields, credentials, framing and body, from fields or from a head made before."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.reader.read(65_536))
        await peer.send(HELLO)
        await peer.gone()

    async def main() -> str:
        async with Server(script) as server:
            transport = TcpTransport()
            request = outgoing(
                server.origin,
                target="/v1/x?a=b",
                fields=(("Accept", "*/*"),),
                credentials=Credentials([("Authorization", "Bearer k")]),
            )
            host = f"127.0.0.1:{server.port}"
            if ready:
                request.prebuilt = request_head("POST", "/v1/x?a=b", host, [("Accept", "*/*")])
                request.fields = ()
            answer = await transport.send(request, CLOCKS)
            assert await answer.read(9) == b"hello"
            await transport.aclose()
            return host

    host = run(main())
    lines = f"Host: {host}\r\nAccept: */*\r\nAuthorization: Bearer k\r\nContent-Length: 4\r\n\r\nping"
    assert seen == [b"POST /v1/x?a=b HTTP/1.1\r\n" + lines.encode()]


def test_a_field_that_cannot_be_sent_is_refused_before_anything_is() -> None:
    """A line break in a field is a ValueError; no connection is made."""

    async def main() -> None:
        async with Server() as server:
            transport = TcpTransport()
            with pytest.raises(ValueError, match="X-Bad"):
                await transport.send(outgoing(server.origin, fields=(("X-Bad", "a\r\nb"),)), CLOCKS)
            assert not server.peers
            await transport.aclose()

    run(main())


@pytest.mark.parametrize("loop_run", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_everything_works_on_every_loop(loop_run: Runner, tls: bool) -> None:
    """Reuse, streams, uploads, clocks, cuts, cancellation and close, plain and over TLS."""
    large = bytes(range(256)) * 8_000

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.body == b"stream":
                await peer.send(CHUNKED, *[b"2\r\nab\r\n"] * 5, b"0\r\n\r\n")
            elif request.body == b"silence":
                await peer.gone()
            elif request.body == b"cut":
                await peer.send(CHUNKED + b"2\r\nab\r\n")
                return
            else:
                await peer.send(HELLO)

    async def main() -> None:
        async with Server(script, tls=server_context() if tls else None) as server:
            transport = TcpTransport(TcpSettings(ssl=client_context(), max_connections_per_host=4))

            async def call(body: Any, clocks: AttemptTimeouts = CLOCKS) -> list[bytes]:
                answer = await transport.send(outgoing(server.origin, body=body), clocks)
                got: list[bytes] = []
                while not answer.ended:
                    got += await answer.pieces()
                return got

            for _ in range(5):
                assert await call(b"ping") == [b"hello"]
            assert await call(b"stream") == [b"ab"] * 5
            assert await call(large) == [b"hello"]
            assert len(server.peers) == 1
            assert await asyncio.gather(*[call(b"ping") for _ in range(40)]) == [[b"hello"]] * 40
            for body, clocks, kinds in (
                (b"silence", AttemptTimeouts(5, 0.1, None), {"timeout"}),
                (b"silence", AttemptTimeouts(5, 5, asyncio.get_running_loop().time() + 0.1), {"timeout"}),
                (b"cut", CLOCKS, {"eof", "reset"}),
            ):
                with pytest.raises(TransportError) as caught:
                    await call(body, clocks)
                assert caught.value.kind in kinds
            before = server.open
            task = asyncio.create_task(call(b"silence"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: server.open < max(before, 1))
            tasks = [asyncio.create_task(call(b"silence")) for _ in range(6)]
            await asyncio.sleep(0.05)
            await transport.aclose()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            assert [error.kind for error in got if isinstance(error, TransportError)] == ["closed"] * 6
            await server.settled(0)

    loop_run(main())


@pytest.mark.parametrize("loop_run", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("late", [b"", b"late"])
def test_an_idle_connection_that_stirred_unseen_is_not_used(loop_run: Runner, tls: bool, late: bytes) -> None:
    """At check-out the kernel is asked; over TLS, where tickets may wait too, the loop is let to read first."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        if peer.number:
            await forever(peer)
        await gone.wait()
        await peer.send(late)
        if late:
            await peer.gone()

    async def main() -> None:
        async with Server(script, tls=server_context() if tls else None) as server:
            transport = TcpTransport(TcpSettings(ssl=client_context()))
            assert await (await transport.send(outgoing(server.origin), CLOCKS)).read(9) == b"hello"
            pool: Any = transport._pool
            (connection,) = pool._connections
            gone.set()
            # Turn the loop by hand-sized steps until the kernel has something that the loop has not seen yet.
            for _ in range(200):
                if connection.readable() or connection.dropped:
                    break
                await asyncio.sleep(0)
            answer = await transport.send(outgoing(server.origin), CLOCKS)
            assert await answer.read(9) == b"hello"
            assert not answer.reused
            await transport.aclose()
            await server.settled(0)

    gone = asyncio.Event()
    loop_run(main())


@contextmanager
def outliving_server(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server in a thread, which closes no connection before the client's loop has ended: its port."""
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
                held.append(context.wrap_socket(peer, server_side=True) if context else peer)
                request = b""
                while not request.endswith(b"ping") and (data := held[-1].recv(65_536)):
                    request += data
                held[-1].sendall(HELLO)
            except ssl.SSLError:
                continue
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5.0)
            for peer in held:
                peer.close()


@pytest.mark.parametrize("loop_run", LOOPS)
@pytest.mark.parametrize("tls", [False, True])
def test_loops_one_after_another_leave_nothing_though_nobody_closes(loop_run: Runner, tls: bool) -> None:
    """A loop that ends takes the idle connections with it: no ResourceWarning, no socket of ours."""
    kept: list[TcpTransport] = []

    async def main(port: int) -> None:
        transport = TcpTransport(TcpSettings(ssl=client_context()))
        kept.append(transport)
        origin = Origin("https" if tls else "http", "127.0.0.1", port)
        for answer in await asyncio.gather(*[transport.send(outgoing(origin), CLOCKS) for _ in range(3)]):
            assert await answer.read(9) == b"hello"
        pool: Any = transport._pool
        assert len(pool._connections) == 3

    async def close() -> None:
        for transport in kept:
            await transport.aclose()

    with outliving_server(server_context() if tls else None) as port:
        for _ in range(3):
            loop_run(main(port))
            pool: Any = kept[-1]._pool
            assert not pool._connections
        gc.collect()
        loop_run(close())


def test_a_transport_nobody_holds_closes_its_idle_connections() -> None:
    """Garbage collection is enough, but an answer that is being read keeps its transport."""

    async def main() -> None:
        async with Server() as server:
            transport = TcpTransport()
            answer = await transport.send(outgoing(server.origin), CLOCKS)
            await answer.read(9)
            assert server.open == 1
            del transport, answer
            gc.collect()
            await server.settled(0)

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(HELLO[:-1])
            await asyncio.sleep(0.05)
            await peer.send(HELLO[-1:])
            await peer.gone()

        async with Server(script) as server:
            answer = await TcpTransport().send(outgoing(server.origin), CLOCKS)
            gc.collect()
            assert await answer.read(9) == b"hello"
            del answer
            gc.collect()
            await server.settled(0)

    run(main())


def test_credentials_are_in_no_traceback() -> None:
    """Wherever a call fails, no frame's locals show the key."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(b"garbage")

    async def main() -> None:
        async with Server(script) as server:
            transport = TcpTransport()
            for _ in range(2):
                request = outgoing(server.origin, credentials=Credentials([("Authorization", "Bearer sk-secret")]))
                with pytest.raises(TransportError) as caught:
                    await transport.send(request, CLOCKS)
                shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
                assert "sk-secret" not in shown
                assert "Credentials: hidden" in shown or "TransportRequest" in shown
            await transport.aclose()

    run(main())


def test_a_request_costs_no_timer_of_its_own() -> None:
    """A thousand requests on one connection arm the timer a handful of times: it is moved only when it fires."""
    armed = 0

    async def main() -> None:
        nonlocal armed
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counting(*args: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal armed
            armed += 1
            return call_at(*args, **options)

        async with Server() as server:
            transport = TcpTransport()
            await (await transport.send(outgoing(server.origin), CLOCKS)).read(9)
            loop.call_at = counting  # type: ignore[method-assign]
            for _ in range(1000):
                await (await transport.send(outgoing(server.origin), CLOCKS)).read(9)
            loop.call_at = call_at  # type: ignore[method-assign]
            await transport.aclose()

    run(main())
    assert armed <= 3


def test_a_waiting_request_is_small() -> None:
    """What a request in flight adds to memory, counted in Python objects, stays within a few kilobytes."""

    async def main() -> int:
        import tracemalloc

        async def script(peer: Peer) -> None:
            await peer.gone()

        async with Server(script) as server:
            transport = TcpTransport()
            first = asyncio.create_task(transport.send(outgoing(server.origin), CLOCKS))
            await until(lambda: server.open == 1)
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            tasks = [asyncio.create_task(transport.send(outgoing(server.origin), CLOCKS)) for _ in range(50)]
            await until(lambda: server.open == 51)
            snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/openaiasync/*")])
            tracemalloc.stop()
            assert before >= 0
            await transport.aclose()
            await asyncio.gather(first, *tasks, return_exceptions=True)
            return sum(trace.size for trace in snapshot.traces) // 50

    assert run(main()) < 8_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_thousand_failures_leave_no_descriptor() -> None:
    """Refused, cut, cancelled and timed out in turn: the process holds no more sockets than before (the fixtures)."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.body == b"cut":
            await peer.send(HELLO[:-1])
        else:
            await peer.gone()

    async def main() -> None:
        async with Server(script) as server:
            transport = TcpTransport(TcpSettings(max_connections_per_host=20))

            async def one(number: int) -> None:
                body = b"cut" if number % 3 == 0 else b"silence"
                clocks = AttemptTimeouts(5, 0.02 if number % 3 == 1 else 5, None)
                async with asyncio.timeout(0.02 if number % 3 == 2 else 20):
                    answer = await transport.send(outgoing(server.origin, body=body), clocks)
                    await answer.read(9)

            got = await asyncio.gather(*[one(number) for number in range(300)], return_exceptions=True)
            assert all(isinstance(error, TransportError | TimeoutError) for error in got)
            await server.settled(0)
            await transport.aclose()

    run(main())
