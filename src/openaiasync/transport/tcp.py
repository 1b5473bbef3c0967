"""The transport of this library: HTTP/1.1 over asyncio's own sockets, with a pool, TLS and proxies.

A small request is one write and one wake-up; see `connection`, `exchange` and `pool` for the parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from ..core.http.request import authority, framing, request_head
from ..core.model.secrets import Secret
from .base import AttemptTimeouts, TransportError, TransportRequest
from .connect import Connector, TcpSettings, proxies_of
from .connection import Connection
from .exchange import Exchange
from .pool import Pool
from .proxies import parse_proxy
from .upload import SMALL, upload

__all__ = ["TcpSettings", "TcpTransport"]


class TcpTransport:
    """A `Transport` over TCP (or a Unix socket) for one event loop: the one that runs at the first `send`."""

    def __init__(self, settings: TcpSettings | None = None) -> None:
        """Raises `ValueError` for a proxy URL that cannot be used."""
        self._settings = settings or TcpSettings()
        if self._settings.proxy is not None:
            parse_proxy(self._settings.proxy)
        self._pool: Pool | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._closed = False

    @property
    def settings(self) -> TcpSettings:
        """What its connections are made with."""
        return self._settings

    def secrets(self) -> Iterator[Secret]:
        """What is sent to proxies and nobody may see."""
        return proxies_of(self._settings).secrets()

    async def send(self, out: TransportRequest, clocks: AttemptTimeouts) -> Exchange:
        """See `Transport.send`. A field that cannot stand in a head is a `ValueError`."""
        head = out.prebuilt
        if head is None:
            head = request_head(out.method, out.target, authority(*out.origin), out.fields)
        pool = self._pool or await self._start()
        now = pool.loop.time()
        connection = pool.take(out.origin, now)
        if connection is not None:
            exchange = Exchange(connection, clocks, out.method == "HEAD", 0.0)
        else:
            connection = await pool.acquire(out.origin, clocks)
            began, now = now, pool.loop.time()
            exchange = Exchange(connection, clocks, out.method == "HEAD", now - began)
        exchange.owner = self
        try:
            body = out.body
            if isinstance(body, bytes) and len(body) <= SMALL:
                exchange.sent = exchange.written = True
                _write(connection, out, head, framing(out.method, len(body)), body)
                exchange.start_clock(clocks.start, now)
                await exchange.head()
            else:
                length = len(body) if isinstance(body, bytes) else out.length
                _write(connection, out, head, framing(out.method, length), b"")
                exchange.sent = True
                await upload(connection, exchange, out, clocks)
        except BaseException:
            exchange.abort()
            raise
        return exchange

    def begin(self, out: TransportRequest, body: bytes, clocks: AttemptTimeouts) -> Exchange | None:
        """Send `out` with this body at once, if a connection is idle: the exchange, whose `head` is to be awaited.

        `None` where `send` is needed. It spares most calls two coroutines.
        """
        pool, head = self._pool, out.prebuilt
        if pool is None or head is None or not 0 < len(body) <= SMALL:
            return None
        now = pool.loop.time()
        connection = pool.take(out.origin, now)
        if connection is None:
            return None
        exchange = Exchange(connection, clocks, False, 0.0)
        exchange.owner = self
        exchange.sent = exchange.written = True
        try:
            _write(connection, out, head, framing(out.method, len(body)), body)
        except BaseException:
            exchange.abort()
            raise
        exchange.start_clock(clocks.start, now)
        return exchange

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        pool, self._pool = self._pool, None
        guard, self._guard = self._guard, None
        if pool is not None:
            pool.close()
        if guard is not None:
            await guard.aclose()

    async def _start(self) -> Pool:
        if self._closed:
            raise TransportError("closed", "the client was closed")
        loop = asyncio.get_running_loop()
        settings = self._settings
        connector = Connector(loop, settings)
        self._pool = pool = Pool(loop, connector, settings.max_connections_per_host, settings.keepalive)
        self._guard = _guard(pool)
        await anext(self._guard)
        return pool


def _write(connection: Connection, out: TransportRequest, head: bytes, framing_line: bytes, body: bytes) -> None:
    """Hand the request to the loop. Credentials become bytes only within this one expression."""
    transport = connection.transport
    assert transport is not None
    if connection.absolute:
        place = len(out.method) + 1
        head = b"%bhttp://%b%b" % (head[:place], authority(*out.origin).encode("ascii"), head[place:])
    transport.write(
        b"".join((head, out.credentials.wire(), connection.credentials.wire(), framing_line, b"\r\n", body))
    )


async def _guard(pool: Pool) -> AsyncGenerator[None, None]:
    """Closes the pool with the loop: `asyncio.run` ends asynchronous generators before it closes the loop.

    So idle connections of a client that nobody closed are closed in time, by the loop's own bookkeeping, and no
    ResourceWarning is left. It also closes the pool of a transport that was garbage-collected.
    """
    try:
        yield
    finally:
        pool.close()
        # The loop closes aborted sockets in its next turns.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
