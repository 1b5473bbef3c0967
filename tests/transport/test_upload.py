"""Bodies that take more than one write: back-pressure, early answers, bad sources, and servers that stop reading."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conftest import run
from openaiasync.transport.base import AttemptTimeouts, TransportError
from openaiasync.transport.tcp import TcpTransport
from openaiasync.transport.upload import SLICE, SMALL
from wireserver import CLOCKS, HELLO, Peer, Server, forever, outgoing, until

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
LARGE = bytes(range(256)) * 40_000  # 10 MB


class Source:
    """A body of the given pieces that knows how far it was read and whether it was closed."""

    def __init__(self, *pieces: Any, pause: float = 0.0) -> None:
        self.read = 0
        self.closed = False
        self.body = self._run(pieces, pause)

    async def _run(self, pieces: tuple[Any, ...], pause: float) -> AsyncIterator[Any]:
        try:
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                await asyncio.sleep(pause)
                self.read += 1
                yield piece
        finally:
            self.closed = True


async def keep(peer: Peer) -> None:
    """Answer each request with the length of its body and how it was framed."""
    while True:
        request = await peer.request()
        text = f"{len(request.body)} {request.field('content-length') or request.field('transfer-encoding')}".encode()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))


async def frozen(peer: Peer) -> None:
    """Read the head and never again."""
    await peer.head()
    peer.writer.transport.pause_reading()
    poll = select.poll()
    poll.register(peer.writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    await until(lambda: bool(poll.poll(0)))


def upload(
    script: Any, body: Any, length: int | None = None, clocks: AttemptTimeouts = CLOCKS, then: Any = None
) -> tuple[int, bytes]:
    """Send one request with this body, and see all sockets closed."""

    async def main() -> tuple[int, bytes]:
        async with Server(script) as server:
            transport = TcpTransport()
            try:
                answer = await transport.send(outgoing(server.origin, body=body, length=length), clocks)
                result = answer.status, await answer.read(1 << 20)
                if then is not None:
                    await then(transport, server)
                return result
            finally:
                await transport.aclose()
                await server.settled(0)

    return run(main())


@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, SLICE, SLICE + 1, len(LARGE)])
@pytest.mark.parametrize("form", ["bytes", "pieces of known length", "chunked"])
def test_bodies_of_any_size_arrive_whole(size: int, form: str) -> None:
    """In one write or many, with a length or chunked, a body arrives as it was, and the connection is kept."""
    body = LARGE[:size]
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request()).body)
            await peer.send(HELLO)

    async def again(transport: TcpTransport, server: Server) -> None:
        answer = await transport.send(outgoing(server.origin), CLOCKS)
        assert await answer.read(9) == b"hello"
        assert len(server.peers) == 1

    if form == "bytes":
        upload(script, body, then=again)
    else:
        third = size // 3
        source = Source(body[:third], b"", body[third:])
        upload(script, source.body, size if form == "pieces of known length" else None, then=again)
        assert source.closed
    assert seen == [body, b"ping"]


def test_framing_says_what_is_known() -> None:
    """Content-Length where the length is known, else chunked."""
    assert upload(keep, Source(b"ab", b"c").body, 3) == (200, b"3 3")
    assert upload(keep, Source(b"ab", b"c").body) == (200, b"3 chunked")


def test_a_slow_server_holds_back_the_source() -> None:
    """No more of a body is taken from its source than the server and a small buffer have room for."""
    source = Source(*[bytes(SLICE)] * 100)
    gate = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()
        await gate.wait()
        peer.writer.transport.resume_reading()
        await forever(peer)

    async def main() -> None:
        async with Server(script) as server:
            transport = TcpTransport()
            task = asyncio.create_task(transport.send(outgoing(server.origin, body=source.body), CLOCKS))
            before = -1
            while before != source.read:
                before = source.read
                await asyncio.sleep(0.1)
            assert source.read < 60
            gate.set()
            assert await (await task).read(9) == b"hello"
            assert source.read == 100
            await transport.aclose()

    run(main())


@pytest.mark.parametrize("body", ["bytes", "source", "slow source"])
@pytest.mark.parametrize("end", ["close", "hold"])
def test_an_early_answer_stops_the_upload(body: str, end: str) -> None:
    """A 413 in the middle of a body is handed over, the rest is not sent, and the connection not used again."""

    async def script(peer: Peer) -> None:
        await peer.head()
        if peer.number:
            await peer.send(HELLO)
            return
        await peer.reader.readexactly(10)
        await peer.send(TOO_LARGE)
        if end == "hold":
            await peer.gone()

    async def again(transport: TcpTransport, server: Server) -> None:
        assert (await transport.send(outgoing(server.origin), CLOCKS)).status == 200
        assert len(server.peers) == 2

    source = Source(b"x" * 100, *[LARGE] * 50, pause=0.3 if body == "slow source" else 0.0)
    content: Any = LARGE * 5 if body == "bytes" else source.body
    assert upload(script, content, then=again) == (413, b"big")
    if body != "bytes":
        assert source.closed
        assert source.read < 50


def test_an_early_answer_survives_a_server_that_resets() -> None:
    """The usual 413 of a server that does not read on: its answer is read though writing fails."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(TOO_LARGE)

    for _ in range(20):
        assert upload(script, Source(*[bytes(8192)] * 5000).body) == (413, b"big")


class _SourceError(Exception):
    pass


@pytest.mark.parametrize(
    ("pieces", "length", "cause"),
    [
        ((_SourceError(),), None, _SourceError),
        ((b"abc", _SourceError()), 10, _SourceError),
        ((b"abc",), 4, ValueError),
        ((b"abc", b"de"), 4, ValueError),
        (("text",), None, TypeError),
        ((None,), 4, TypeError),
    ],
)
def test_a_bad_source_fails_the_upload(pieces: tuple[Any, ...], length: int | None, cause: type[Exception]) -> None:
    """A source that raises, lies about its length or gives no bytes: an "upload" error with the cause, no socket."""
    source = Source(*pieces)
    with pytest.raises(TransportError) as caught:
        upload(forever, source.body, length)
    assert caught.value.kind == "upload"
    assert isinstance(caught.value.__cause__, cause)
    assert source.closed


@pytest.mark.parametrize("body", ["bytes", "source"])
def test_a_server_that_stops_reading_ends_by_the_start_clock(body: str) -> None:
    """A slice that cannot be got rid of in time is a timeout."""
    source = Source(*[LARGE] * 9)
    with pytest.raises(TransportError) as caught:
        upload(frozen, LARGE * 2 if body == "bytes" else source.body, clocks=AttemptTimeouts(5, 0.2, None))
    assert (caught.value.kind, caught.value.clock) == ("timeout", "start")
    assert source.closed or body == "bytes"


def test_a_slow_source_is_not_the_servers_fault() -> None:
    """The start clock does not run while the source is awaited; it runs from the end of the body."""
    source = Source(*[b"x"] * 4, pause=0.1)
    assert upload(keep, source.body, clocks=AttemptTimeouts(5, 0.25, None)) == (200, b"4 chunked")


def test_until_ends_an_upload() -> None:
    """Whatever the upload waits for, the server or the source."""

    async def main() -> None:
        for script, source in ((frozen, Source(*[LARGE] * 9)), (keep, Source(b"x", b"x", pause=5.0))):
            async with Server(script) as server:
                transport = TcpTransport()
                clocks = AttemptTimeouts(5, None, asyncio.get_running_loop().time() + 1.0)
                with pytest.raises(TransportError) as caught:
                    await transport.send(outgoing(server.origin, body=source.body), clocks)
                assert (caught.value.kind, caught.value.clock) == ("timeout", "until")
                assert source.closed
                await transport.aclose()

    run(main())


@pytest.mark.parametrize("script", [frozen, keep])
def test_cancelling_an_upload_closes_source_and_socket(script: Any) -> None:
    """Waiting for the server or for the source."""
    source = Source(b"x", LARGE, LARGE, b"x", pause=0.0 if script is frozen else 5.0)

    async def main() -> None:
        async with Server(script) as server:
            transport = TcpTransport()
            task = asyncio.create_task(transport.send(outgoing(server.origin, body=source.body), CLOCKS))
            await until(lambda: server.open == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert source.closed
            assert asyncio.all_tasks() <= {asyncio.current_task(), *server._tasks}
            await server.settled(0)
            await transport.aclose()

    run(main())


def test_a_server_that_dies_during_an_upload_is_an_error() -> None:
    """Without an answer, a reset in the middle is a reset."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    with pytest.raises(TransportError) as caught:
        upload(script, LARGE * 3)
    assert caught.value.kind in ("reset", "eof")
    assert caught.value.sent
    assert not caught.value.answered
