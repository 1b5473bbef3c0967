"""One request and its answer on a connection: parse received bytes and wake the waiting task.

There is no cost per event: bytes are parsed as they arrive, and a task is woken once for what it waits for (a head, any
piece, the whole body).
"""

from __future__ import annotations

import asyncio
from typing import cast

from ..core.http.response import HTTPGrammarError, ResponseParser, try_complete
from .base import AttemptTimeouts, TransportError, over_cap
from .connection import NEVER, Connection

__all__ = ["FOR_PIECE", "TIMEOUTS", "Exchange"]

UNREAD_LIMIT = 1_048_576  # unread bytes above which reading from the peer is paused
RECHECK = 65_536  # bytes between two exact checks of a cap, where chunk framing makes the count inexact

TIMEOUTS = {
    "start": "the answer did not start in time",
    "stall": "the answer made no progress in time",
    "until": "the attempt took too long",
    "connect": "no connection was made in time",
}

_TLS_ALERT = b"\x15\x03"  # the type of the record, and the major version of every TLS
_FOR_NOTHING, _FOR_HEAD, FOR_PIECE, _FOR_ALL = range(4)


class Exchange:
    """One request and its answer: the `TransportResponse` of a `Connection`."""

    # Slots, all set at once: attributes that appear later cost a dict for each instance (CPython shares the names only
    # while few instances exist), and defaults on the class cost several times as much to read.
    __slots__ = (
        "__weakref__",
        "_bodiless",
        "_body",
        "_clock",
        "_clocks",
        "_coded",
        "_connection",
        "_error",
        "_expires",
        "_for",
        "_loop",
        "_parser",
        "_paused",
        "_start_at",
        "_unread",
        "_until",
        "_waiter",
        "_wake_at",
        "answered",
        "connected",
        "ended",
        "owner",
        "raw_fields",
        "reader",
        "reused",
        "sent",
        "status",
        "tunnel",
        "written",
    )

    def __init__(
        self,
        connection: Connection,
        clocks: AttemptTimeouts,
        bodiless: bool,
        connected: float,
        written: float | None = None,
    ) -> None:
        """Create an exchange on `connection`; `bodiless` is as in `ResponseParser`, `connected` in seconds.

        `written` is the event loop's time if the whole request is written now.
        """
        self._connection: Connection | None = connection
        self._loop = connection.loop
        self._bodiless = bodiless
        self._clocks = clocks
        self.connected: float = connected
        self.reused: bool = connection.served > 0
        self._until = until = NEVER if clocks.until is None else clocks.until
        self._expires: float = until
        self._clock: str = "until"
        if written is None:
            self._start_at: float = NEVER
        else:
            start = clocks.start
            self._start_at = at = NEVER if start is None else written + start
            if at <= until:
                self._expires, self._clock = at, "start"
        self._error: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: ResponseParser | None = None  # created for an answer off the fast path
        self._body: bytes | None = None  # of an answer on the fast path, until it is taken
        self.reader: object = None
        self.owner: object = None  # keeps the transport alive with the answer: a pool is closed with its transport
        self._for: int = _FOR_NOTHING
        self._unread: int = 0  # bytes received since the last piece was taken, framing included
        self._wake_at: int = 0
        self.status: int = 0
        self.raw_fields: bytes = b""
        self._coded: bool = False
        self._paused: bool = False
        self.written: bool = written is not None
        self.tunnel: bool = False  # the connection belongs to the tunnel once the answer has ended
        self.sent: bool = False
        self.answered: bool = False
        self.ended: bool = False
        connection.served += 1
        connection.exchange = self

    # --- events of the connection ---

    def feed(self, data: bytes) -> None:
        """Handle received bytes."""
        self.answered = True
        parser = self._parser
        if parser is None:
            usual = None if self._bodiless else try_complete(data)
            if usual is not None:  # the whole answer arrived at once
                self.status, self.raw_fields, self._body, self._coded = usual
                self._finish(True)
                self._wake()
                return
            if data.startswith(_TLS_ALERT):
                self.fail("protocol", "the server answered with a TLS alert; its URL begins with https://")
                return
            parser = self._parser = ResponseParser(bodiless=self._bodiless)
        self._unread += len(data)
        try:
            parser.feed(data)
        except HTTPGrammarError as error:
            self.fail("protocol", str(error))
            return
        purpose = self._for
        if parser.complete:
            self._finish(parser.keep_alive)
        elif purpose == _FOR_HEAD:
            if not parser.status:
                self._watch_head()
                return
        elif purpose == _FOR_ALL:
            if self._unread <= self._wake_at:
                return
        elif purpose == FOR_PIECE:
            if not parser.pieces:
                return
        else:
            if self._unread > UNREAD_LIMIT and not self._paused:
                self._pause()
            return
        self._wake()

    def _as_parsed(self) -> ResponseParser:
        """Return the parser, creating one from the fast-path result if none was needed."""
        parser = self._parser
        if parser is None:
            parser = self._parser = ResponseParser(bodiless=self._bodiless)
            if self.status:
                parser.status, parser.raw_fields, parser.complete = self.status, self.raw_fields, True
                body, self._body = self._body, None
                parser.pieces = [] if body is None else [body]
        return parser

    @property
    def exact(self) -> bool:
        return self._parser is None or self._parser.exact

    def feed_eof(self) -> None:
        """Handle the end of the peer's data."""
        # RFC 9112, 9.8: a body delimited by close may have been truncated by anyone unless the close is authentic.
        connection = self._connection
        if connection is not None and connection.ended_properly() and self._as_parsed().feed_eof():
            self._finish(False)
            self._wake()
        else:
            self.fail("eof", "the server closed the connection before the end of its answer")

    def fail(self, kind: str, message: str, clock: str | None = None, cause: BaseException | None = None) -> None:
        """Fail: drop the connection; received bytes can still be read, then this error is raised."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        error = TransportError(kind, message, clock=clock, reused=self.reused, sent=self.sent, answered=self.answered)
        error.__cause__ = cause
        self._error = error
        connection.drop()
        self._wake()

    def check_clock(self) -> None:
        """Handle the timer: time out, or check again when the deadline is reached. Only a waiting task can time out."""
        if self._waiter is None:
            return
        if self._loop.time() < self._expires:
            if self._expires < NEVER and self._connection is not None:
                self._connection.arm(self._expires)
            return
        self.fail("timeout", TIMEOUTS[self._clock], self._clock)

    def _finish(self, keep_alive: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.exchange = connection.watched = None
        if self.tunnel and not self._as_parsed().surplus:
            return
        transport = connection.transport
        if (
            keep_alive
            and self.written
            and transport is not None
            and not connection.dropped
            and not transport.get_write_buffer_size()
        ):
            if self._paused:
                transport.resume_reading()
            connection.recycle(connection)
        else:
            connection.drop()

    def _wake(self) -> None:
        self._for = _FOR_NOTHING
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pause(self) -> None:
        if self._connection is not None and self._connection.transport is not None:
            self._paused = True
            self._connection.transport.pause_reading()

    # --- clocks ---

    def expire(self, at: float | None, clock: str) -> None:
        self._expires = NEVER if at is None else at
        self._clock = clock

    def run_clock(self, seconds: float | None, clock: str) -> None:
        """Limit waiting to this many seconds from now, or to the end of the attempt."""
        at = NEVER if seconds is None else self._loop.time() + seconds
        self.expire_at(at, clock)

    def expire_at(self, at: float, clock: str) -> None:
        """Limit waiting, including a wait in progress, to the loop's time `at`, or to the end of the attempt."""
        if at <= self._until:
            self._expires, self._clock = at, clock
        else:
            self._expires, self._clock = self._until, "until"
        if self._waiter is not None and self._expires < NEVER and self._connection is not None:
            self._connection.arm(self._expires)

    def start_clock(self, seconds: float | None, now: float) -> None:
        """Start the start timeout: the request is written, and an answer must start within these seconds from `now`."""
        self._start_at = at = NEVER if seconds is None else now + seconds
        if self._waiter is not None:
            self.expire_at(at, "start")
        else:
            self._expires, self._clock = (at, "start") if at <= self._until else (self._until, "until")

    def _watch_head(self) -> None:
        # A partial final head starts the answer; an interim one does not, and leaves the start timeout unchanged.
        if not self._as_parsed().began:
            self.expire_at(self._start_at, "start")
        elif self._clock == "start":
            clocks = self._clocks
            self.run_clock(clocks.start if clocks.stall is None else clocks.stall, "stall")

    # --- for the caller ---

    def _wait(self, purpose: int) -> asyncio.Future[None]:
        """Return the future to await; a caller cancelled there must call `abort`. (Not a coroutine, which would cost at
        every wake-up.)"""
        connection = self._connection
        if connection is None:
            raise cast(TransportError, self._error)
        self._for = purpose
        self.reader = asyncio.current_task(self._loop)
        self._waiter = waiter = self._loop.create_future()
        if self._expires < connection.timer_at:
            connection.arm(self._expires)
        return waiter

    async def head(self) -> Exchange:
        """Wait for the head of the final response and return this object; then only the attempt's end limits waiting.

        From then on an unreferenced response releases its socket at once.
        """
        parser = self._parser
        if not self.status and (parser is None or not parser.status):
            connection = self._connection
            if connection is None:
                raise cast(TransportError, self._error)
            # The usual case of `_wait`, inlined. The reader is not looked up: a task that waits for a head can proceed
            # whenever the server answers.
            self._for = _FOR_HEAD
            self._waiter = waiter = self._loop.create_future()
            if self._expires < connection.timer_at:
                connection.arm(self._expires)
            try:
                await waiter
            except BaseException:
                self.abort()
                raise
            parser = self._parser
        if parser is not None:
            self.status = parser.status
            self.raw_fields = parser.raw_fields
        if not self.status:
            raise cast(TransportError, self._error)
        self._expires = self._until
        self._clock = "until"
        if self._connection is not None:
            self._connection.watch(self)
        return self

    def take(self) -> bytes | None:
        body = None if self._coded else self._body
        if body is not None:
            self._body = None
            self.ended = True
        return body

    async def pieces(self) -> list[bytes]:
        parser = self._parser or self._as_parsed()
        taken = parser.pieces
        if not taken and not parser.complete:
            try:
                await self._wait(FOR_PIECE)
            except asyncio.CancelledError:
                self.abort()
                raise
            taken = parser.pieces
            if not taken and not parser.complete:
                raise cast(TransportError, self._error)
        parser.pieces = []
        self._unread = 0
        if self._paused and self._connection is not None:
            self._resume()
        if parser.complete:
            self.ended = True
        return taken

    async def read(self, cap: int) -> bytes:
        parser = self._parser or self._as_parsed()
        if not parser.complete:
            await self._read_on(cap)
        pieces, parser.pieces = parser.pieces, []
        self.ended = True
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(body) > cap:
            raise TransportError("protocol", over_cap(cap), sent=True, answered=True)
        return body

    async def _read_on(self, cap: int) -> None:
        """Wait for the end of the body, with a single wake-up unless it is over the cap."""
        parser = self._parser or self._as_parsed()
        if (parser.content_length or 0) > cap:
            self.fail("protocol", over_cap(cap))
        self._wake_at = cap
        if self._paused:
            self._resume()
        while not parser.complete:
            if self._unread > self._wake_at:
                size = sum(map(len, parser.pieces))
                if size > cap:
                    self.fail("protocol", over_cap(cap))
                self._wake_at = self._unread + max(cap - size, RECHECK)
            try:
                await self._wait(_FOR_ALL)
            except asyncio.CancelledError:
                self.abort()
                raise
            if self._error is not None:
                raise self._error

    def abort(self) -> None:
        self.fail("closed", "the exchange was aborted by its caller")

    def _resume(self) -> None:
        if self._connection is not None and self._connection.transport is not None:
            self._paused = False
            self._connection.transport.resume_reading()
