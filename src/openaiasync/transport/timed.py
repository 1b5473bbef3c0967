"""An exchange that records when its bytes arrived, at the least possible cost for each read.

A task that reads piece by piece learns of a piece one turn of the event loop after it was received, which on a busy
loop is milliseconds later. Here the time is taken where the bytes are taken from the socket, and the reader is woken
once.

What one read costs delays the stamps of all other connections of the loop. Reads that are events in chunks are
therefore put aside, and parsed some dozens at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.http.response import HTTPGrammarError
from .base import TransportError
from .exchange import FOR_PIECE, Exchange

__all__ = ["TimedExchange"]

_HELD = 64  # reads that are put aside
_EVENT_END = b"\n\n\r\n"  # of an event at the end of a chunk; a chunked body cannot end like this


class TimedExchange(Exchange):
    """An `Exchange` with the times at which its bytes were received, in seconds of `clock`.

    `clock` must have the event loop's time base; on uvloop the loop's own clock counts whole milliseconds.
    """

    _patience: float | None = None
    _holds: bool = False

    def __init__(self, *parts: Any, clock: Callable[[], float]) -> None:
        super().__init__(*parts)
        self._clock_now = clock
        self.received_at: float = 0.0
        """When bytes were last received."""
        self._stamps: list[float] = []  # of the parser's pieces
        self._held: list[bytes] = []
        self._held_at: list[float] = []

    def feed(self, data: bytes) -> None:
        self.received_at = now = self._clock_now()
        if not self._holds:
            self._parse(data, now)
            return
        self._held.append(data)
        self._held_at.append(now)
        # Bytes that may end the body, or that may be no chunks at all, are parsed at once.
        if data[-4:] != _EVENT_END or len(self._held) >= _HELD:
            self._parse_held()

    def _parse(self, data: bytes, at: float) -> None:
        super().feed(data)
        self._stamp(at)

    def _parse_held(self) -> None:
        """Parse the reads that were put aside, the last one with all consequences of its end."""
        held, times = self._held, self._held_at
        parser = self._parser
        if parser is None or not held:
            return
        self._held, self._held_at = [], []
        last, at = held.pop(), times.pop()
        feed, pieces, stamps = parser.feed, parser.pieces, self._stamps
        try:
            for data, received in zip(held, times, strict=True):
                feed(data)
                stamps += [received] * (len(pieces) - len(stamps))
        except HTTPGrammarError as error:
            self.fail("protocol", str(error))
            return
        self._unread += sum(map(len, held))
        self._parse(last, at)

    def _stamp(self, at: float) -> None:
        """Note the time of the pieces that are new."""
        if self._parser is not None:
            stamps = self._stamps
            stamps += [at] * (len(self._parser.pieces) - len(stamps))

    def feed_eof(self) -> None:
        self._parse_held()
        super().feed_eof()

    def fail(self, kind: str, message: str, clock: str | None = None, cause: BaseException | None = None) -> None:
        self._parse_held()
        super().fail(kind, message, clock, cause)

    async def receive_all(self, cap: int, stall: float | None) -> TransportError | None:
        """Receive the rest of the body, and return the error that ended it, if any; `arrivals` has the pieces.

        The read deadline holds until the first piece of the body; then no pause may be longer than `stall` seconds.
        """
        parser = self._as_parsed()
        try:
            if not (parser.pieces or parser.complete):
                await self._wait(FOR_PIECE)
            if stall is not None:
                self._patience = stall
                self.expire_at(self.received_at + stall, "stall")
            self._holds = not parser.complete and parser.content_length is None
            await self._read_on(cap)
        except TransportError as error:
            return error
        finally:
            self._stamp(self.received_at)
        self.ended = True
        return None

    def check_clock(self) -> None:
        # Only the timer moves the deadline: a received piece does no more than note its time.
        if self._patience is not None:
            self.expire_at(self.received_at + self._patience, "stall")
        super().check_clock()

    def arrivals(self) -> tuple[list[float], list[bytes]]:
        """Return the times of the pieces of the body, and the pieces."""
        return self._stamps, self._as_parsed().pieces
