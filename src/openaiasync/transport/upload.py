"""Send request bodies that are too long for one write: in slices, under the timeouts, watching for an early answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ..core.http.grammar import chunk
from .base import AttemptTimeouts, TransportRequest
from .connection import NEVER, Connection
from .exchange import Exchange

__all__ = ["SMALL", "upload"]

SMALL = 65_536  # bytes of a body that are written together with the head
SLICE = 262_144  # bytes of one write: encrypting them takes well under a millisecond


class _WrongLengthError(ValueError):
    pass


async def upload(connection: Connection, exchange: Exchange, out: TransportRequest, clocks: AttemptTimeouts) -> None:
    """Send `out`'s body after its head and wait for the head of the answer.

    If the answer comes first, sending stops there (and the connection is not used again). A source that raises, or
    yields more or fewer bytes than declared, fails the exchange with kind ``"upload"``. The sending task ends before
    this returns.
    """
    task = connection.loop.create_task(_send(connection, exchange, out, clocks.start))
    try:
        await exchange.head()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _send(connection: Connection, exchange: Exchange, out: TransportRequest, patience: float | None) -> None:
    source = _slices(out.body) if isinstance(out.body, bytes) else out.body
    length = len(out.body) if isinstance(out.body, bytes) else out.length
    count = 0
    exchange.written = length == 0
    try:
        async for piece in source:
            count += len(piece)
            if length is not None and count > length:
                raise _WrongLengthError(f"the body is longer than its declared length of {length} bytes")
            view = memoryview(piece)
            for start in range(0, len(view), SLICE):
                part = view[start : start + SLICE]
                await _write(connection, exchange, part if length is not None else chunk(part), patience)
                if connection.dropped:
                    return
            exchange.written = count == length
        if length is None:
            await _write(connection, exchange, chunk(b""), patience)
        elif count != length:
            raise _WrongLengthError(f"the body has {count} bytes instead of its declared length of {length}")
    except Exception as error:
        exchange.fail("upload", "the source of the request's body failed", cause=error)
        return
    finally:
        if (aclose := getattr(source, "aclose", None)) is not None:
            await aclose()
    exchange.written = True
    exchange.start_clock(patience, connection.loop.time())


async def _write(connection: Connection, exchange: Exchange, part: bytes | memoryview, patience: float | None) -> None:
    # A failing write would discard an answer received just before it (a 413, then a closed connection), so let the loop
    # read first.
    await asyncio.sleep(0)
    if not connection.dropped and connection.readable():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    if connection.dropped or connection.transport is None:
        return
    connection.transport.write(part)
    if connection.writable is not None:
        exchange.run_clock(patience, "start")
        await connection.writable
        exchange.expire_at(NEVER, "until")


async def _slices(body: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), SLICE):
        yield view[start : start + SLICE]
