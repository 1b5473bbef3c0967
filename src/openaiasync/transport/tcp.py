"""The library's transport: HTTP/1.1 over asyncio, with a connection pool, TLS and proxies.

A small request is one write and one wake-up; see `connection`, `exchange` and `pool` for the parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from ..core.http.request import authority, framing, request_head
from ..core.model.secrets import Secret
from .base import AttemptTimeouts, TransportError, TransportRequest
from .connect import Connector, TcpSettings, proxies_of
from .connection import NO_CREDENTIALS, Connection
from .exchange import Exchange
from .pool import Pool
from .proxies import parse_proxy
from .upload import SMALL, upload

__all__ = ["TcpSettings", "TcpTransport"]


class TcpTransport:
    """A `Transport` over TCP (or a Unix socket) for one event loop: the loop running at the first `send`."""

    def __init__(self, settings: TcpSettings | None = None) -> None:
        """Create a transport. Raises `ValueError` for an unusable proxy URL."""
        self._settings = settings or TcpSettings()
        if self._settings.proxy is not None:
            parse_proxy(self._settings.proxy)
        self._pool: Pool | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._closed = False
        self.exchange: Callable[..., Exchange] = Exchange
        """Makes the exchange of each request; a load test sets one that records when bytes arrive."""

    @property
    def settings(self) -> TcpSettings:
        """The settings of its connections."""
        return self._settings

    def secrets(self) -> Iterator[Secret]:
        """Return the secrets that are sent to proxies."""
        return proxies_of(self._settings).secrets()

    def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> Coroutine[Any, Any, Exchange]:
        """See `Transport.send`. An invalid header field raises `ValueError`.

        With an idle connection and a small body everything is written at once, and the returned awaitable waits only
        for the head. (It is not wrapped in a coroutine, which would be resumed at every wake-up.)
        """
        pool, body = self._pool, request.body
        if pool is None or request.prebuilt is None or not isinstance(body, bytes) or len(body) > SMALL:
            return self._send(request, timeouts)
        now = pool.loop.time()
        connection = pool.take(request.origin, now)
        if connection is None:
            return self._send(request, timeouts)
        exchange = self.exchange(connection, timeouts, request.method == "HEAD", 0.0, now)
        exchange.owner = self
        exchange.sent = True
        length = len(body)
        line = b"Content-Length: %d\r\n" % length if length else framing(request.method, 0)
        try:
            _write(connection, request, line, body)
        except BaseException:
            exchange.abort()
            raise
        return exchange.head()

    async def _send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> Exchange:
        """Send a request that may have to wait for a connection, or has a large body."""
        if request.prebuilt is None:
            request.prebuilt = request_head(request.method, request.target, authority(*request.origin), request.fields)
        pool = self._pool or await self._start()
        began = now = pool.loop.time()
        connection = pool.take(request.origin, now)
        if connection is None:
            connection = await pool.acquire(request.origin, timeouts)
            now = pool.loop.time()
        body = request.body
        whole = isinstance(body, bytes) and len(body) <= SMALL
        length = len(body) if isinstance(body, bytes) else request.length
        exchange = self.exchange(connection, timeouts, request.method == "HEAD", now - began, now if whole else None)
        exchange.owner = self
        exchange.sent = True
        try:
            line = framing(request.method, length)
            _write(connection, request, line, body if isinstance(body, bytes) and whole else b"")
            if whole:
                return await exchange.head()
            await upload(connection, exchange, request, timeouts)
        except BaseException:
            exchange.abort()
            raise
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


def _write(connection: Connection, request: TransportRequest, framing_line: bytes, body: bytes) -> None:
    """Write the request. Credentials become bytes only after the last step that can raise."""
    transport, head = connection.transport, request.prebuilt
    assert transport is not None
    assert head is not None
    if connection.absolute:
        place = len(request.method) + 1
        head = b"%bhttp://%b%b" % (head[:place], authority(*request.origin).encode("ascii"), head[place:])
    if connection.credentials is NO_CREDENTIALS:
        transport.write(b"".join((head, request.credentials.wire(), framing_line, b"\r\n", body)))
    else:
        transport.write(
            b"".join((head, request.credentials.wire(), connection.credentials.wire(), framing_line, b"\r\n", body))
        )


async def _guard(pool: Pool) -> AsyncGenerator[None, None]:
    """Close the pool with the loop: `asyncio.run` closes asynchronous generators before the loop.

    So the idle connections of an unclosed client are closed in time, without a ResourceWarning. It also closes the pool
    of a transport that was garbage-collected.
    """
    try:
        yield
    finally:
        pool.close()
        # The loop closes aborted sockets in its next turns.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
