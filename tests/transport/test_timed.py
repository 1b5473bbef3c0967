"""An exchange with the times of its bytes: the same pieces and errors as without, each with the time of its read."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from openaiasync.core.http.response import ResponseParser
from openaiasync.transport.base import Origin, TransportError
from openaiasync.transport.connection import Connection
from openaiasync.transport.timed import TimedExchange
from wireserver import CLOCKS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = st.lists(
    st.sampled_from(
        [b"data: {}\n\n", b"data: 12345\n\n", b"data: a\r\n\r\n", b": ping\n\n", b"data: x\ndata: y\n\n", b"\n"]
    ),
    min_size=1,
    max_size=200,
)


class Socket:
    """What a connection asks of its transport."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def abort(self) -> None: ...


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def received(*reads: bytes, then: str = "") -> tuple[list[tuple[float, bytes]], TransportError | None, float]:
    """Feed reads, the n-th one at the time n, then perhaps the end of the connection, or a silence.

    Return the pieces with their times, the error, and the time of the last bytes.
    """

    async def main() -> Any:
        times = count()
        connection = Connection(asyncio.get_running_loop(), Origin("http", "h", 80), memoryview(b""))
        connection.transport = cast(asyncio.Transport, Socket())
        exchange = TimedExchange(connection, CLOCKS, False, 0.0, 0.0, clock=lambda: float(next(times)))
        exchange.feed(reads[0])
        await exchange.head()
        receiving = asyncio.ensure_future(exchange.receive_all(1 << 20, None))
        await asyncio.sleep(0)
        for data in reads[1:]:
            if connection.current() is not None:
                exchange.feed(data)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if then == "eof" and connection.current() is not None:
            exchange.feed_eof()
        elif then == "silence":
            exchange.fail("timeout", "too long", "stall")
        error = await receiving
        return list(zip(*exchange.arrivals(), strict=True)), error, exchange.received_at

    return cast(tuple[list[tuple[float, bytes]], TransportError | None, float], run(main()))


def parsed(*reads: bytes) -> list[tuple[float, bytes]]:
    """Do the same by parsing each read at once."""
    parser = ResponseParser()
    found: list[tuple[float, bytes]] = []
    for at, data in enumerate(reads):
        parser.feed(data)
        found += [(float(at), piece) for piece in parser.pieces]
        parser.pieces = []
    assert parser.complete
    return found


@given(EVENTS, st.lists(st.integers(1, 40), min_size=1, max_size=20), st.booleans())
def test_pieces_have_the_time_of_their_read(events: list[bytes], cuts: list[int], aligned: bool) -> None:
    """However a body is cut into chunks and reads: aligned with events, as servers send them, or anywhere."""
    chunks = [chunk(event) for event in events]
    if aligned:
        reads = [*chunks[:-1], chunks[-1] + chunk(b"")]
    else:
        body, reads, at = b"".join(chunks) + chunk(b""), [], 0
        while at < len(body):
            step = cuts[len(reads) % len(cuts)]
            reads.append(body[at : at + step])
            at += step
    found, error, last = received(CHUNKED, *reads)
    assert error is None
    assert found == parsed(CHUNKED, *reads)
    assert last == len(reads)


def test_a_body_of_known_length_and_one_until_close() -> None:
    """Other framings have their times, too."""
    event = b"data: {}\n\n"
    assert received(HEAD + b"Content-Length: 20\r\n\r\n", event, event)[0] == [(1, event), (2, event)]
    assert received(HEAD + b"Content-Length: 10\r\n\r\n" + event)[0] == [(0, event)]
    framed = event + b"\r\n"  # ends as a chunk would
    assert received(HEAD + b"\r\n", framed, framed, then="eof")[0] == [(1, framed), (2, framed)]


@pytest.mark.parametrize(("then", "kind"), [("eof", "eof"), ("silence", "timeout")])
def test_a_cut_keeps_what_was_received(then: str, kind: str) -> None:
    """What was received before the connection broke or fell silent is pieces with their times."""
    events = [b"data: %d\n\n" % number for number in range(100)]
    found, error, _ = received(CHUNKED, *map(chunk, events), then=then)
    assert found == [(at + 1, event) for at, event in enumerate(events)]
    assert error is not None
    assert error.kind == kind


@pytest.mark.parametrize(
    "garbage", [b"data: {}\n\n", b"nonsense\r\n", b"z\r\ndata\n\n\r\n", b"\r\n\r\n", b"ffffffffffffffffff\r\n"]
)
def test_bytes_that_are_no_chunks(garbage: bytes) -> None:
    """They are an error with the same words, at once or with the reads that follow; what came before is kept."""
    good = chunk(b"data: {}\n\n")
    found, error, _ = received(CHUNKED, good, good, garbage, *[good] * 70)
    assert found[:2] == [(1, b"data: {}\n\n"), (2, b"data: {}\n\n")]
    assert error is not None
    assert (error.kind, "chunk" in str(error)) == ("protocol", True)


def test_bytes_after_the_end() -> None:
    """The answer is complete; its connection is not used again."""
    found, error, _ = received(CHUNKED, chunk(b"data: {}\n\n"), chunk(b"") + b"HTTP/1.1 200 OK\r\n\r\n")
    assert (found, error) == ([(1, b"data: {}\n\n")], None)
