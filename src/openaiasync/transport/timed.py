"""An exchange that records when its bytes arrived, and costs no wake-up for each piece of the body.

A task that reads piece by piece learns of a piece one turn of the event loop after it was received, which on a busy
loop is milliseconds later. Here the time is taken where the bytes are taken from the socket, and the reader is woken
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        self.times: list[float] = []
        """When each read was received."""
        self._counts: list[int] = []

    def feed(self, data: bytes) -> None:
        self.times.append(self._clock_now())
        super().feed(data)
        parser = self._parser
        self._counts.append(0 if parser is None else len(parser.pieces))

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
                self.expire_at(self.times[-1] + stall, "stall")
            await self._read_on(cap)
        except TransportError as error:
            return error
        self.ended = True
        return None

    def check_clock(self) -> None:
        # Only the timer moves the deadline: a received piece does no more than note its time.
        if self._patience is not None:
            self.expire_at(self.times[-1] + self._patience, "stall")
        super().check_clock()

    def arrivals(self) -> Iterator[tuple[float, list[bytes]]]:
        """Yield the time of each read with the pieces of the body that it completed."""
        pieces = self._as_parsed().pieces
        seen = 0
        for at, count in zip(self.times, self._counts, strict=False):
            if count > seen:
                yield at, pieces[seen:count]
                seen = count
        if seen < len(pieces):
            yield self.times[-1], pieces[seen:]
