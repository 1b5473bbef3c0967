"""Pacing: when the next request may be sent under a limit on requests or tokens a minute.

A limit is kept in virtual time (the generic cell rate algorithm): every request moves `due` on by its cost divided by
the rate, and may be sent once `due` has passed. A timer that fires late loses nothing as long as it is not later than
`DEBT`: that much of the past may be made up for. Pure: times come in as numbers of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math

__all__ = ["Pacer"]

DEBT = 0.1  # seconds that may be made up for


class Pacer:
    """One limit on a rate, of requests or of tokens; `rate` is per second, ``inf`` for no limit."""

    __slots__ = ("_credit", "due", "rate")

    def __init__(self, rate: float = math.inf) -> None:
        self.rate: float = rate
        self.due: float = -math.inf
        """When the next request may be sent."""
        self._credit: float = 0.0

    def book(self, now: float, cost: float) -> None:
        """Note that a request is sent that costs so many units."""
        if self.rate == math.inf:
            return
        used = min(self._credit, cost)
        self._credit -= used
        self.due = max(self.due, now - DEBT) + (cost - used) / self.rate

    def correct(self, booked: float, cost: float) -> None:
        """Replace what was booked for a request by what it did cost."""
        if self.rate == math.inf:
            return
        if cost >= booked:
            self.due += (cost - booked) / self.rate
        else:
            # Kept apart from `due`, which forgets what lies further back than the debt. One large row at most.
            self._credit = min(self._credit + booked - cost, max(booked, DEBT * self.rate))

    def set_rate(self, now: float, rate: float) -> None:
        """Change the rate from now on; what is still to be waited for changes with it."""
        if rate == self.rate:
            return
        if self.due > now and self.rate != math.inf:
            self.due = now + (0.0 if rate == math.inf else (self.due - now) * self.rate / rate)
        else:
            self.due = max(self.due, now - DEBT)
        self.rate = rate

    def hold(self, until: float) -> None:
        """Let nothing be sent before `until`."""
        self.due = max(self.due, until)
