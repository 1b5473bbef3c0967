"""One connection: its protocol callbacks, its single timer, and its closing.

The timer is rescheduled only when it fires or would fire too late, so that most requests set none.
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

from ..lazy import resolve_annotations
from .base import Credentials, Origin

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["NEVER", "NO_CREDENTIALS", "Connection"]

NO_CREDENTIALS = Credentials()
NEVER = math.inf


class Connection(asyncio.BufferedProtocol):
    """A connection to one origin, perhaps through a proxy; created by the connector, kept by the pool."""

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
        """Create a connection; `view` receives the bytes of every read and is reusable once the read was handled."""
        self.loop: asyncio.AbstractEventLoop = loop
        self.origin: Origin = origin
        # Set by the pool: callbacks for an exchange that ended exactly, and for a lost connection.
        self.recycle: Callable[[Connection], None] = Connection.drop
        self.lost: Callable[[Connection], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None  # while a task waits for its head
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

    # --- protocol callbacks ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.dropped:
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        exchange = self.exchange or self.current()
        if exchange is None:
            self.drop()  # no request was sent
        else:
            exchange.feed(self._view[:nbytes].tobytes())

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

    # --- for exchanges and the pool ---

    def current(self) -> Exchange | None:
        """Return the current exchange."""
        return self.exchange if self.watched is None else self.watched()

    def watch(self, exchange: Exchange) -> None:
        """Hold the exchange weakly from now on: an unreferenced answer releases its socket at once."""
        self.exchange, self.watched = None, weakref.ref(exchange, self.drop)

    def ended_properly(self) -> bool:
        """Whether the peer's end of data is authentic: over TLS it is marked by a closure alert (RFC 8446, 6.1)."""
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
        """Make the timer fire at the loop's time `at` or earlier."""
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
        """Return whether data or the end of the connection waits in the kernel, not yet read by the loop."""
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
    """Make the kernel discard unsent data; it would otherwise wait for a server that no longer reads."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return
    try:
        # A copy, since the sockets that loops expose do not allow setting options; the option is shared.
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


resolve_annotations(__name__)
