"""One connection of the built-in server: it parses requests, runs them one by one, and enforces timeouts and limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.http.server_side import BadRequest, RequestHead, RequestParser
from ..lazy import resolve_annotations
from .asgi import Scope
from .http_exchange import ServerExchange, error_response
from .timer import LazyTimer

if TYPE_CHECKING:
    from .http import HTTPServer

__all__ = ["ServerConnection", "ServerLimits"]

_MAX_PIPELINED = 64 * 1024
_PROGRESS = 64 * 1024


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits for the clients of the built-in server. Times in seconds, sizes in bytes."""

    head_timeout: float = 10.0
    """From the first to the last byte of a request's head."""
    body_timeout: float = 20.0
    """For each 64 KiB of a request's body, and for the rest."""
    idle_timeout: float = 75.0
    """For an open connection without a request."""
    send_timeout: float = 30.0
    """For a client that does not read its response."""
    linger_timeout: float = 2.0
    """For a client to read an error before the connection is closed, while it may still be sending."""
    max_head: int = 64 * 1024
    max_fields: int = 200
    max_body: int = 128 * 1024 * 1024
    max_connections: int = 10_000
    """Connections above this number get a 503 and are closed."""


class ServerConnection(asyncio.Protocol):
    """The protocol object of one accepted connection."""

    def __init__(self, server: HTTPServer, limits: ServerLimits) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._server = server
        self._limits = limits
        self._parser = RequestParser(limits.max_head, limits.max_fields, limits.max_body)
        self._transport: asyncio.Transport | None = None
        self._scope: dict[str, Any] = {}
        self._exchange: ServerExchange | None = None
        self._read_timer = LazyTimer(loop, self._late_reading)
        self._write_timer = LazyTimer(loop, self.abort)
        self._in_head = False
        self._progress = 0  # bytes of the body since the timer was last set
        self._paused = False  # reading
        self._draining: asyncio.Event | None = None  # set while the buffer of the transport is full
        self._broken = False  # the client sent malformed bytes: nothing more is parsed
        self._parting = False  # the last bytes are written; the write timer is not cleared any more
        self.closing: bool = False  # no further request is accepted

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._server.opened(self):
            self._part(error_response(503, "The server has too many connections."))
            return
        secure = transport.get_extra_info("ssl_object") is not None
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "https" if secure else "http",
            "root_path": "",
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
            "state": self._server.state,
        }
        self._read_timer.set(self._limits.idle_timeout)

    def data_received(self, data: bytes) -> None:
        if self._broken or (self.closing and self._exchange is None):
            return  # lingering: data that the client still sends is read and dropped
        self._parser.feed(data)
        self._advance()

    def eof_received(self) -> None:
        if self._exchange is not None:
            self._exchange.leave()  # closing and half-closing cannot be distinguished
        self._parting = True
        self._write_timer.set(self._limits.send_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._transport = None
        self._read_timer.stop()
        self._write_timer.stop()
        if self._exchange is not None:
            self._exchange.leave()
        self.resume_writing()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._draining = asyncio.Event()
        if not self._parting:
            self._write_timer.set(self._limits.send_timeout)

    def resume_writing(self) -> None:
        if self._draining is not None:
            self._draining.set()
            self._draining = None
            if not self._parting:
                self._write_timer.clear()

    # What the exchange calls.

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough, or is disconnected because it does not."""
        if self._draining is not None:
            await self._draining.wait()

    def body_read(self) -> None:
        """Resume reading, since the application has consumed the received part of the body."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            if self._exchange is not None and not self._exchange.body_ended:
                self._read_timer.set(self._limits.body_timeout)

    def finished(self, exchange: ServerExchange) -> None:
        """Continue with the next request, or close, once the application has ended."""
        self._exchange = None
        self._server.ended(exchange)
        if self._transport is None:
            return
        if exchange.gone or not exchange.keep_alive or self.closing:
            self._part(b"", unread=not exchange.body_ended)
            return
        self._in_head = False
        self._read_timer.set(self._limits.idle_timeout)
        if self._paused or self._parser.buffered:  # otherwise there is nothing to do
            self._advance()

    def abort(self) -> None:
        """Close the connection at once, dropping unsent data."""
        if self._transport is not None:
            self._transport.abort()

    def close_after_response(self) -> None:
        """Make the response in progress the last one.

        An idle connection stays open, so that late requests get a 503.
        """
        if self._exchange is not None:
            self.closing = True

    def shut_down(self) -> None:
        """Close the connection if it is idle."""
        self.closing = True
        if self._exchange is None and self._transport is not None:
            self._part(b"")

    # Internals.

    def _advance(self) -> None:
        try:
            while not self.closing or self._exchange is not None:
                exchange = self._exchange
                if exchange is not None and exchange.body_ended:
                    if self._parser.buffered > _MAX_PIPELINED:
                        self._pause()
                    return
                event = self._parser.next()
                if event is None:
                    self._watch_reading()
                    return
                if isinstance(event, RequestHead):
                    self._begin(event)
                elif exchange is not None:
                    self._take_body(exchange, event)
        except BadRequest as error:
            self._refuse(error.status, error.message)

    def _refuse(self, status: int, message: str) -> None:
        self._broken = True
        self._read_timer.clear()
        if self._exchange is not None:
            self._exchange.refuse(status, message)
        else:
            self._part(error_response(status, message), unread=True)

    def _begin(self, head: RequestHead) -> None:
        if self._server.draining:
            # The client could not yet know that the server is shutting down.
            self._refuse(503, "The server is shutting down; send the request again.")
            return
        self._in_head = False
        self._progress = 0
        self._read_timer.clear()  # most bodies have arrived with the head; for others see `_watch_reading`
        scope: Scope = {
            **self._scope,
            "http_version": head.version,
            "method": head.method,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": head.fields,
            "state": dict(self._server.state),
        }
        exchange = self._exchange = ServerExchange(self, head)
        self._server.request_started(exchange)
        exchange.task = self._loop.create_task(exchange.run(self._server.app, scope))

    def _take_body(self, exchange: ServerExchange, piece: bytes) -> None:
        ended = not piece or self._parser.body_ended()
        exchange.add_body(piece, ended)
        if ended:
            self._read_timer.clear()
            return
        self._progress += len(piece)
        if self._progress >= _PROGRESS:
            self._progress = 0
            self._read_timer.set(self._limits.body_timeout)
        if exchange.full:
            self._pause()
            self._read_timer.clear()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _watch_reading(self) -> None:
        """Keep reading, and start the timeout of the head at its first byte, that of the body after the head."""
        exchange = self._exchange
        if exchange is not None:
            if not (exchange.full or self._read_timer.running):
                self._read_timer.set(self._limits.body_timeout)
        elif not self._in_head and self._parser.buffered:
            self._in_head = True
            self._read_timer.set(self._limits.head_timeout)
        if self._paused and self._transport is not None and not (exchange is not None and exchange.full):
            self._paused = False
            self._transport.resume_reading()

    def _late_reading(self) -> None:
        if self._exchange is not None:
            self._refuse(408, "The body of the request was sent too slowly.")
        elif self._in_head:
            self._refuse(408, "The head of the request was sent too slowly.")
        elif self._transport is not None:
            self._part(b"")

    def _part(self, last_bytes: bytes, *, unread: bool = False) -> None:
        """Send the last bytes and close.

        With `unread` the client may still be sending. Closing at once would reset the connection, and the client could
        lose the response, so its bytes are read and dropped for a while (RFC 9112, 9.6).
        """
        transport = self._transport
        if transport is None or self._parting:
            return
        self.closing = self._parting = True
        self._read_timer.clear()
        transport.write(last_bytes)
        if unread and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            if self._paused:
                self._paused = False
                transport.resume_reading()
            self._write_timer.set(self._limits.linger_timeout)
            return
        self._write_timer.set(self._limits.send_timeout)
        transport.close()


def _address(value: object) -> tuple[str, int] | None:
    """Return host and port as ASGI defines them, `None` for a Unix socket."""
    if isinstance(value, tuple):
        address = cast("tuple[str, int]", value)
        return address[0], address[1]
    return None


resolve_annotations(__name__)
