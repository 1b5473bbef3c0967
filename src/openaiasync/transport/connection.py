"""One connection: what the event loop calls, its one timer, and how it is dropped.

The timer is moved only when it fires or would fire too late, so that a request costs none.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
import ssl
import struct
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from .base import Credentials, Origin

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["NEVER", "NO_CREDENTIALS", "Connection"]

NO_CREDENTIALS = Credentials()
NEVER = math.inf


class Connection(asyncio.BufferedProtocol):
    """A connection to one origin, perhaps through a proxy; made by the connector, kept by the pool."""

    __slots__ = (
        "__weakref__",
        "_poll",
        "_timer",
        "_view",
        "absolute",
        "credentials",
        "dropped",
        "exchange",
        "idle_since",
        "loop",
        "lost",
        "origin",
        "recycle",
        "served",
        "timer_at",
        "transport",
        "watched",
        "writable",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        view: memoryview,
    ) -> None:
        """`view` receives the bytes of every read, and is free again when the read has been handled."""
        self.loop: asyncio.AbstractEventLoop = loop
        self.origin: Origin = origin
        # Set by the pool: who takes the connection back after an exact end, and who hears that it is gone.
        self.recycle: Callable[[Connection], None] = Connection.drop
        self.lost: Callable[[Connection], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None  # while somebody waits for its head
        self.watched: weakref.ref[Exchange] | None = None  # afterwards
        self.absolute: bool = False  # requests go to a proxy in absolute-form
        self.credentials: Credentials = NO_CREDENTIALS  # the proxy's, if requests go to it
        self.dropped: bool = False
        self.served: int = 0
        self.idle_since: float = 0.0
        self.writable: asyncio.Future[None] | None = None  # pending while the write buffer is full
        self._view = view
        self._timer: asyncio.TimerHandle | None = None
        self.timer_at: float = NEVER
        self._poll: select.poll | None = None

    # --- what the event loop calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.dropped:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self.exchange or self.current()
        if exchange is None:
            self.drop()  # nobody has asked for anything
        else:
            exchange.feed(bytes(self._view[:nbytes]))

    def eof_received(self) -> None:
        exchange = self.current()
        if exchange is None:
            self.drop()
        else:
            exchange.feed_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.dropped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchange = self.current()
        if exchange is not None:
            exchange.fail(*_cause_of_loss(exc))
        self.resume_writing()
        lost, self.lost = self.lost, None
        if lost is not None:
            lost(self)

    def pause_writing(self) -> None:
        if self.writable is None:
            self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # --- what exchanges and the pool call ---

    def current(self) -> Exchange | None:
        """Return the exchange that goes on here."""
        return self.exchange if self.watched is None else self.watched()

    def watch(self, exchange: Exchange) -> None:
        """Hold the exchange weakly from now on: an answer that nobody holds any more frees its socket at once."""
        self.exchange, self.watched = None, weakref.ref(exchange, self.drop)

    def ended_properly(self) -> bool:
        """Whether the end of the peer's bytes is genuine: over TLS it comes with a closure alert (RFC 8446, 6.1)."""
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def drop(self, _: object = None) -> None:
        """Close at once: nothing is sent, nothing awaited. (`close` would wait 30 s for a frozen TLS peer.)"""
        self.exchange = self.watched = None
        if not self.dropped:
            self.dropped = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self.transport is not None:
                if self.transport.get_write_buffer_size():
                    _reset_on_close(self.transport)
                self.transport.abort()

    def arm(self, at: float) -> None:
        """See to it that the timer fires at the loop's time `at` or before."""
        if at < self.timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self.timer_at = at
            self._timer = self.loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.timer_at = NEVER
        exchange = self.current()
        if exchange is not None:
            exchange.check_clock()

    def readable(self) -> bool:
        """Return whether a byte or the end of the connection is waiting in the kernel, unseen by the loop."""
        poll = self._poll
        if poll is None:
            sock = self.transport.get_extra_info("socket") if self.transport is not None else None
            if sock is None or sock.fileno() < 0:
                return True
            if not hasattr(select, "poll"):  # Windows
                return bool(select.select([sock.fileno()], (), (), 0)[0])
            self._poll = poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def _reset_on_close(transport: asyncio.Transport) -> None:
    """Have the kernel forget what a server that reads no more has not taken; else it would wait for that server."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return
    try:
        # A copy, since what loops show of their sockets lets nobody set an option; the option is shared.
        with socket.socket(fileno=os.dup(sock.fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed already


def _cause_of_loss(exc: Exception | None) -> tuple[str, str]:
    if exc is None:
        return "eof", "the server closed the connection before the end of its answer"
    if isinstance(exc, ssl.SSLError):
        return "tls", "TLS failed during the exchange"
    return "reset", "the connection was reset"
