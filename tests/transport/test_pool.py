"""The pool: who gets which connection, when one is used again, and that no place is ever lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import run
from openaiasync.transport.base import AttemptTimeouts, Origin, TransportError
from openaiasync.transport.tcp import TcpSettings, TcpTransport
from wireserver import CHUNKED, CLOCKS, HELLO, Peer, Server, forever, outgoing, until


async def call(transport: TcpTransport, origin: Origin, clocks: AttemptTimeouts = CLOCKS, **options: Any) -> bytes:
    answer = await transport.send(outgoing(origin, **options), clocks)
    return await answer.read(1 << 20)


def serving(script: Any, client: Any, **settings: Any) -> Any:
    """Run `client(transport, server)` against a scripted server and see every socket closed afterwards."""

    async def main() -> Any:
        async with Server(script) as server:
            transport = TcpTransport(TcpSettings(**settings))
            try:
                return await client(transport, server)
            finally:
                await transport.aclose()
                await server.settled(0)

    return run(main())


def test_a_connection_is_used_again() -> None:
    """After an exact end the next request finds the connection, says so, and spends nothing on connecting."""

    async def client(transport: TcpTransport, server: Server) -> None:
        first = await transport.send(outgoing(server.origin), CLOCKS)
        assert await first.read(9) == b"hello"
        assert first.connected > 0
        assert not first.reused
        second = await transport.send(outgoing(server.origin), CLOCKS)
        assert await second.read(9) == b"hello"
        assert second.connected == 0.0
        assert second.reused
        assert len(server.peers) == 1

    serving(forever, client)


@pytest.mark.parametrize(
    "answer",
    [
        HELLO + b"!",
        CHUNKED + b"1\r\nx\r\n0\r\n\r\n!",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n!",
        HELLO + HELLO,
    ],
)
def test_an_end_that_is_not_exact_forbids_use(answer: bytes) -> None:
    """Leftover bytes, above all a second answer, and servers that mean to close: the next request connects anew."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async def client(transport: TcpTransport, server: Server) -> None:
        await call(transport, server.origin)
        await server.settled(0)
        await call(transport, server.origin)
        assert len(server.peers) == 2

    serving(script, client)


@pytest.mark.parametrize("late", [b"", b"x", HELLO])
@pytest.mark.parametrize("loop_looks", [True, False])
def test_an_idle_connection_that_stirs_is_closed(late: bytes, loop_looks: bool) -> None:
    """A late byte or the server's close ends an idle connection, even if the loop had no chance to see it."""
    stir = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        if peer.number == 0:
            await stir.wait()
            if late:
                await peer.send(late)
                await peer.gone()
        else:
            await forever(peer)

    async def client(transport: TcpTransport, server: Server) -> None:
        await call(transport, server.origin)
        assert server.open == 1
        # The idle connection's own end in the loop is put to sleep, as a loop that is busy elsewhere would be.
        pool: Any = transport._pool
        (connection,) = pool._connections
        if not loop_looks:
            connection.transport.pause_reading()
        stir.set()
        if loop_looks:
            await until(lambda: connection.dropped)
        else:
            await until(connection.readable)
        assert await call(transport, server.origin) == b"hello"
        assert len(server.peers) == 2

    serving(script, client)


def test_idle_connections_are_used_last_in_first_out_and_end_by_keepalive() -> None:
    """What is needed rarely falls idle and is closed by the pool's timer, without any request."""

    async def client(transport: TcpTransport, server: Server) -> None:
        await asyncio.gather(*[call(transport, server.origin) for _ in range(3)])
        assert server.open == 3
        for _ in range(10):
            await call(transport, server.origin)
            await asyncio.sleep(0.03)
        assert server.open == 1
        await server.settled(0)

    serving(forever, client, keepalive=0.2)


def test_a_stale_connection_is_not_used_before_the_timer_comes() -> None:
    """At check-out the age counts, wherever the timer is."""

    async def client(transport: TcpTransport, server: Server) -> None:
        await call(transport, server.origin)
        pool: Any = transport._pool
        (connection,) = pool._connections
        connection.idle_since -= 1000
        await call(transport, server.origin)
        assert len(server.peers) == 2

    serving(forever, client)


def test_the_limit_per_host_is_kept_first_come_first_served() -> None:
    """Never more connections than allowed, and requests are served in the order in which they came."""
    order: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            order.append((await peer.request()).body)
            await asyncio.sleep(0.005)
            await peer.send(HELLO)

    async def client(transport: TcpTransport, server: Server) -> None:
        await asyncio.gather(*[call(transport, server.origin, body=b"%02d" % number) for number in range(20)])
        assert server.peak == 2
        assert len(server.peers) == 2

    serving(script, client, max_connections_per_host=2)
    # Two connections: a request may be overtaken by what the other one served meanwhile, not by its own line.
    assert sorted(order) == [b"%02d" % number for number in range(20)]
    for place, name in enumerate(order):
        assert abs(place - int(name)) <= 2, order


def test_the_limit_holds_for_connections_that_cannot_be_kept() -> None:
    """A closed connection's place goes to the one who waits longest."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")

    async def client(transport: TcpTransport, server: Server) -> None:
        got = await asyncio.gather(*[call(transport, server.origin) for _ in range(12)])
        assert got == [b"hello"] * 12
        assert server.peak <= 3

    serving(script, client, max_connections_per_host=3)


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
def test_a_cancelled_waiter_hands_on_its_turn(victim: int) -> None:
    """If a task is cancelled, working or waiting, even with its turn already granted, the others are served."""

    async def client(transport: TcpTransport, server: Server) -> None:
        for delay in (0.0, 0.01, 0.0205):
            tasks = [asyncio.create_task(call(transport, server.origin)) for _ in range(4)]
            await asyncio.sleep(delay)
            tasks[victim].cancel()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            others = [result for number, result in enumerate(got) if number != victim]
            assert others == [b"hello"] * 3
        assert server.peak <= 2  # a connection may be gone here and its end not yet seen there

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.02)
            await peer.send(HELLO)

    serving(script, client, max_connections_per_host=1)


def test_a_turn_given_to_a_cancelled_waiter_is_not_lost() -> None:
    """Cancelled in the very turn of the loop in which the connection was handed over."""

    async def client(transport: TcpTransport, server: Server) -> None:
        first = await transport.send(outgoing(server.origin), CLOCKS)
        waiting = [asyncio.create_task(call(transport, server.origin)) for _ in range(3)]
        await asyncio.sleep(0.02)
        pool: Any = transport._pool
        (host,) = pool._hosts.values()
        assert len(host.waiters) == 3
        first.feed(HELLO[-1:])  # the end has come, and the connection is handed over
        assert len(host.waiters) == 2
        waiting[0].cancel()
        assert await first.read(9) == b"hello"
        got = await asyncio.gather(*waiting, return_exceptions=True)
        assert got[1:] == [b"hello", b"hello"]
        assert len(server.peers) == 1

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO[:-1])
        await forever(peer)

    serving(script, client, max_connections_per_host=1)


def test_failed_connects_free_their_places() -> None:
    """A dead server does not use up the limit: every call is refused, none hangs."""

    async def main() -> None:
        async with Server() as server:
            origin = server.origin
        transport = TcpTransport(TcpSettings(max_connections_per_host=2))
        got = await asyncio.gather(*[call(transport, origin) for _ in range(9)], return_exceptions=True)
        assert [error.kind for error in got if isinstance(error, TransportError)] == ["refused"] * 9
        await transport.aclose()

    run(main())


def test_waiting_for_a_place_ends_with_the_try_and_counts_in_no_other_clock() -> None:
    """A full pool times out by `until`; `connect` and `start` do not run meanwhile."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await gate.wait()
        await peer.send(HELLO)
        await forever(peer)

    gate = asyncio.Event()

    async def client(transport: TcpTransport, server: Server) -> None:
        loop = asyncio.get_running_loop()
        held = asyncio.create_task(call(transport, server.origin))
        await until(lambda: server.open == 1)
        patient = asyncio.create_task(call(transport, server.origin, AttemptTimeouts(0.05, 0.05, None)))
        with pytest.raises(TransportError) as caught:
            await call(transport, server.origin, AttemptTimeouts(None, None, loop.time() + 0.15))
        assert (caught.value.kind, caught.value.clock, caught.value.sent) == ("timeout", "until", False)
        gate.set()
        assert await held == await patient == b"hello"

    serving(script, client, max_connections_per_host=1)


def test_aclose_ends_everybody() -> None:
    """Those who wait for a head, a body, a place or a connection get "closed"; afterwards nobody gets in."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.body == b"stream":
            await peer.send(CHUNKED)
        await peer.gone()

    async def main() -> None:
        async with Server(script) as server:
            transport = TcpTransport(TcpSettings(max_connections_per_host=2))
            streaming = await transport.send(outgoing(server.origin, body=b"stream"), CLOCKS)
            tasks = [asyncio.create_task(coro) for coro in (streaming.pieces(), *[call(transport, server.origin)] * 1)]
            tasks += [asyncio.create_task(call(transport, server.origin)) for _ in range(3)]
            await until(lambda: server.open == 2)
            await asyncio.sleep(0.02)
            await transport.aclose()
            await transport.aclose()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            assert [error.kind for error in got if isinstance(error, TransportError)] == ["closed"] * 5
            with pytest.raises(TransportError) as caught:
                await call(transport, server.origin)
            assert caught.value.kind == "closed"
            await server.settled(0)

    run(main())


def test_many_at_once_leave_nothing_behind() -> None:
    """300 requests over at most 16 connections, a third of them cancelled at odd moments."""

    async def client(transport: TcpTransport, server: Server) -> None:
        async def one(number: int) -> bytes:
            if number % 3:
                return await call(transport, server.origin)
            try:
                async with asyncio.timeout(number % 7 / 500):
                    return await call(transport, server.origin)
            except TimeoutError:
                return b"hello"

        assert await asyncio.gather(*[one(number) for number in range(300)]) == [b"hello"] * 300
        pool: Any = transport._pool
        (host,) = pool._hosts.values()
        await until(lambda: host.places == len(host.idle))
        assert host.places <= 16
        assert not host.waiters

    serving(forever, client, max_connections_per_host=16)
