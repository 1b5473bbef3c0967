"""An exchange that records when its bytes arrived, at the least possible cost for each read.

A task that reads piece by piece learns of a piece one turn of the event loop after it was received, which on a busy
loop is milliseconds later. Here the time is taken where the bytes are taken from the socket, and the reader is woken
once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import TransportError
from .exchange import FOR_PIECE, Exchange

__all__ = ["TimedExchange"]


class TimedExchange(Exchange):
    """An `Exchange` with the times at which its bytes were received, in seconds of `clock`.

    `clock` must have the event loop's time base; on uvloop the loop's own clock counts whole milliseconds.
    """

    _patience: float | None = None

    def __init__(self, *parts: Any, clock: Callable[[], float]) -> None:
        super().__init__(*parts)
        self._clock_now = clock
        self.received_at: float = 0.0
        """When bytes were last received."""
        self._stamps: list[float] = []  # of the parser's pieces

    def feed(self, data: bytes) -> None:
        # Parsing here costs little at each read. Reads put aside and parsed together would be bursts of work, in which
        # the stamps of other streams are late: worst where streams began together, since their bursts coincide.
        self.received_at = now = self._clock_now()
        super().feed(data)
        self._stamp(now)

    def _stamp(self, at: float) -> None:
        """Note the time of the pieces that are new."""
        if self._parser is not None:
            stamps = self._stamps
            stamps += [at] * (len(self._parser.pieces) - len(stamps))

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
