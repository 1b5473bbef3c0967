"""One exchange over a real socket: heads, bodies, clocks, cuts and cancellation."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from conftest import run
from openaiasync.core.http.response import MAX_INTERIM
from openaiasync.transport.base import AttemptTimeouts, TransportError
from openaiasync.transport.exchange import UNREAD_LIMIT, Exchange
from openaiasync.transport.tcp import TcpTransport
from wireserver import CHUNKED, CLOCKS, HELLO, Peer, Server, outgoing, until

MEGABYTE = 1 << 20


def talk(script: Any, talker: Any, *, clocks: AttemptTimeouts = CLOCKS, method: str = "POST") -> Any:
    """Send one request to a scripted server, give the answer to `talker`, and see every socket closed at the end."""

    async def main() -> Any:
        async with Server(script) as server:
            transport = TcpTransport()
            try:
                return await talker(await transport.send(outgoing(server.origin, method), clocks))
            finally:
                await transport.aclose()
                await server.settled(0)

    return run(main())


async def read(answer: Exchange) -> bytes:
    return await answer.read(MEGABYTE)


async def drain(answer: Exchange) -> list[bytes]:
    """All pieces of the answer."""
    got: list[bytes] = []
    while pieces := await answer.pieces():
        got += pieces
    assert answer.ended
    return got


def fails(script: Any, talker: Any = read, *, clocks: AttemptTimeouts = CLOCKS) -> TransportError:
    with pytest.raises(TransportError) as caught:
        talk(script, talker, clocks=clocks)
    return caught.value


def after_request(*parts: bytes, then: str = "close", pause: float = 0.005) -> Any:
    """A script: read a request, send the parts one by one, then close, reset, or hold the connection open."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*parts, pause=pause)
        if then == "reset":
            peer.reset()
        elif then == "hold":
            await peer.gone()

    return script


# --- answers ---


def test_an_answer_in_one_read_needs_no_further_wait() -> None:
    """Head and body that came together are there at once, and the connection is already free."""

    async def look(answer: Exchange) -> None:
        assert answer.status == 200
        assert answer.raw_fields == b"Content-Length: 5\r\n"
        reading = answer.read(MEGABYTE)
        with pytest.raises(StopIteration) as done:
            reading.send(None)
        assert done.value.value == b"hello"
        assert answer.ended

    talk(after_request(HELLO, then="hold"), look)


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ([bytes([byte]) for byte in HELLO], b"hello"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 H\r\nA: b\r\n\r\n" + HELLO], b"hello"),
        ([CHUNKED, b"3\r", b"\nhel", b"lo"[:0] + b"\r\n2\r\nlo\r\n0\r", b"\n\r\n"], b"hello"),
        ([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], b"hello"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", b"hello"], b"hello"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    ],
    ids=["byte by byte", "interim", "chunks", "until close", "1.0 until close", "no content"],
)
@pytest.mark.parametrize("talker", [read, drain])
def test_answers_arrive_however_they_are_cut(parts: list[bytes], body: bytes, talker: Any) -> None:
    """However the network cuts an answer, `read` and `pieces` give its body, and the end is exact."""
    got = talk(after_request(*parts, pause=0.001), talker)
    assert (got if isinstance(got, bytes) else b"".join(got)) == body


def test_each_chunk_of_a_read_is_a_piece() -> None:
    """A server that sends one event a chunk has framed its stream already."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in (b"one", b"two", b"three"))
    assert talk(after_request(CHUNKED + chunks + b"0\r\n\r\n"), drain) == [b"one", b"two", b"three"]


def test_an_answer_to_head_has_no_body() -> None:
    """Whatever length it claims."""
    assert talk(after_request(HELLO[:-5], then="hold"), read, method="HEAD") == b""


def test_a_slow_reader_makes_the_server_wait() -> None:
    """What nobody reads is bounded, and all of it arrives once somebody does."""
    size = 32 * MEGABYTE
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.send(bytes(MEGABYTE))
            sent += MEGABYTE
        await peer.gone()

    async def slow(answer: Exchange) -> None:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert UNREAD_LIMIT <= sent < size
        got = 0
        while pieces := await answer.pieces():
            got += sum(map(len, pieces))
        assert got == size

    talk(script, slow)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n", CHUNKED + b"2dc6c0\r\n"])
def test_read_refuses_more_than_its_cap(head: bytes) -> None:
    """A body over the cap is an error as soon as it is known, not when it has all come."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head)
        while True:
            await peer.send(bytes(65_536))

    assert fails(script).kind == "protocol"


def test_read_takes_exactly_its_cap() -> None:
    """The cap counts the body, not its framing."""
    body = bytes(MEGABYTE)
    tiny = CHUNKED + b"".join(b"1\r\nx\r\n" for _ in range(200_000)) + b"0\r\n\r\n"
    assert talk(after_request(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + body), read) == body
    assert talk(after_request(tiny), lambda answer: answer.read(200_000)) == b"x" * 200_000
    assert fails(after_request(tiny), lambda answer: answer.read(199_999)).kind == "protocol"


# --- failures, classed by cause ---


@pytest.mark.parametrize(
    ("parts", "then", "kind", "answered"),
    [
        ([], "close", "eof", False),
        ([], "reset", "reset", False),
        ([b"HTTP/1.1 200"], "close", "eof", True),
        ([HELLO[:-1]], "close", "eof", True),
        ([HELLO[:-1]], "reset", "reset", True),
        ([CHUNKED + b"5\r\nhello\r\n"], "close", "eof", True),
        ([b"SSH-2.0-x\r\n"], "hold", "protocol", True),
        ([b"HTTP/1.1 200 OK\nA: b\n\n"], "hold", "protocol", True),
        ([CHUNKED + b"zz"], "hold", "protocol", True),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "hold", "protocol", True),
        ([b"HTTP/1.1 102 Processing\r\n\r\n" * (MAX_INTERIM + 1)], "hold", "protocol", True),
    ],
)
def test_a_broken_answer_is_classed_by_its_cause(parts: list[bytes], then: str, kind: str, answered: bool) -> None:
    """A close, a reset and bytes that are not HTTP are told apart, and so is whether an answer had begun."""
    error = fails(after_request(*parts, then=then, pause=0.05))
    assert (error.kind, error.answered, error.sent, error.reused, error.clock) == (kind, answered, True, False, None)


def test_what_came_before_a_fault_is_delivered_first() -> None:
    """Pieces that arrived with or before a fault come out; then it is raised, and raised again."""

    async def look(answer: Exchange) -> None:
        assert await answer.pieces() == [b"one", b"two"]
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await answer.pieces()
            assert caught.value.kind == "protocol"
        assert not answer.ended

    talk(after_request(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\nXX\r\n", then="hold"), look)


# --- clocks ---


@pytest.mark.parametrize(
    ("parts", "clocks", "clock"),
    [
        ([], {"start": 0.1}, "start"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], {"start": 0.1}, "start"),
        ([b"HTTP/1.1 102 P\r\n\r\n"] * 9, {"start": 0.1}, "start"),
        ([b"HTTP/1.1 200 OK\r\n"], {"start": 5.0, "stall": 0.1}, "stall"),
        ([bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nA: " + b"v" * 99], {"start": 5.0, "stall": 0.1}, "stall"),
        ([b"HTTP/1.1 200 OK\r\n"], {"start": 0.1}, "stall"),
    ],
)
def test_an_answer_that_does_not_come_ends_by_a_clock(parts: list[bytes], clocks: dict[str, float], clock: str) -> None:
    """Silence, interim answers without end and a trickled head outlive neither the start nor the stall clock."""

    async def script(peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        await peer.request()
        began = loop.time()
        try:
            await peer.send(*parts, pause=0.02)
            await peer.gone()
        finally:
            took.append(loop.time() - began)

    took: list[float] = []
    error = fails(script, clocks=AttemptTimeouts(5.0, clocks["start"], None, clocks.get("stall")))
    assert (error.kind, error.clock) == ("timeout", clock)
    assert 0.09 < took[0] < 4.5  # before the start clock


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200 OK\r\n"], [CHUNKED + b"5\r\nhello\r\n"]])
@pytest.mark.parametrize("talker", [read, drain])
def test_until_ends_a_try_wherever_it_is(parts: list[bytes], talker: Any) -> None:
    """Before the head, within it and within the body."""

    async def main() -> None:
        async with Server(after_request(*parts, then="hold")) as server:
            transport = TcpTransport()
            clocks = AttemptTimeouts(5.0, 5.0, asyncio.get_running_loop().time() + 0.1, 5.0)
            with pytest.raises(TransportError) as caught:
                await talker(await transport.send(outgoing(server.origin), clocks))
            assert (caught.value.kind, caught.value.clock) == ("timeout", "until")
            await server.settled(0)
            await transport.aclose()

    run(main())


def test_whoever_reads_moves_the_stall_clock() -> None:
    """A stream lives as long as each piece comes in time, longer than the period in all, and then stalls."""
    period = 0.6

    async def look(answer: Exchange) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def follow() -> None:
            while True:
                answer.expire(loop.time() + period, "stall")
                await answer.pieces()

        with pytest.raises(TransportError) as caught:
            await follow()
        assert (caught.value.kind, caught.value.clock, caught.value.answered) == ("timeout", "stall", True)
        return loop.time() - began

    script = after_request(CHUNKED, *[b"1\r\nx\r\n"] * 8, then="hold", pause=period / 6)
    assert talk(script, look) > 2 * period


def test_a_clock_can_be_brought_forward() -> None:
    """A timer that was armed for later does not make an earlier end late."""

    async def look(answer: Exchange) -> None:
        loop = asyncio.get_running_loop()
        answer.expire(loop.time() + 20, "stall")
        assert await answer.pieces() == [b"x"]
        began = loop.time()
        answer.expire(began + 0.05, "stall")
        with pytest.raises(TransportError):
            await answer.pieces()
        assert loop.time() - began < 5

    talk(after_request(CHUNKED, b"1\r\nx\r\n", then="hold"), look)


def test_what_has_come_is_delivered_after_its_time() -> None:
    """Only waiting times out: a busy reader loses no received data."""

    async def look(answer: Exchange) -> None:
        answer.expire(asyncio.get_running_loop().time() + 0.02, "stall")
        await asyncio.sleep(0.1)
        assert await answer.pieces() == [b"x"]
        with pytest.raises(TransportError) as caught:
            await answer.pieces()
        assert caught.value.clock == "stall"

    talk(after_request(CHUNKED + b"1\r\nx\r\n", then="hold"), look)


# --- ends before the end ---


@pytest.mark.parametrize("parts", [[], [b"HTTP/1.1 200 OK\r\n"], [CHUNKED + b"5\r\nhello\r\n"]])
@pytest.mark.parametrize("talker", [read, drain])
def test_cancellation_frees_the_socket_at_once(parts: list[bytes], talker: Any) -> None:
    """Waiting for a head, within it, or for a body: a cancelled task leaves nothing open."""

    async def main() -> None:
        async with Server(after_request(*parts, then="hold")) as server:
            transport = TcpTransport()

            async def call() -> None:
                await talker(await transport.send(outgoing(server.origin), CLOCKS))

            task = asyncio.create_task(call())
            await until(lambda: server.open == 1)
            await asyncio.sleep(0.03)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.settled(0)
            await transport.aclose()

    run(main())


def test_abort_frees_the_socket_and_can_be_repeated() -> None:
    """Reading an aborted answer raises an error that says so."""

    async def look(answer: Exchange) -> None:
        answer.abort()
        answer.abort()
        with pytest.raises(TransportError) as caught:
            await answer.pieces()
        assert caught.value.kind == "closed"

    talk(after_request(CHUNKED, then="hold"), look)


def test_abort_after_the_end_harms_nobody() -> None:
    """An old answer has no hold on the connection that it gave back."""

    async def main() -> None:
        async with Server() as server:
            transport = TcpTransport()
            first = await transport.send(outgoing(server.origin), CLOCKS)
            await first.read(9)
            second = await transport.send(outgoing(server.origin), CLOCKS)
            first.abort()
            first.expire(0.0, "stall")
            assert await second.read(9) == b"hello"
            assert len(server.peers) == 1
            await transport.aclose()

    run(main())


def test_an_answer_nobody_holds_frees_its_socket() -> None:
    """Forgetting an unfinished answer is as good as aborting it."""

    async def main() -> None:
        async with Server(after_request(CHUNKED, then="hold")) as server:
            transport = TcpTransport()
            answer = await transport.send(outgoing(server.origin), CLOCKS)
            assert server.open == 1
            del answer
            gc.collect()
            await server.settled(0)
            await transport.aclose()

    run(main())
