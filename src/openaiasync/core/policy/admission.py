"""What one server may be sent now: its limits on requests and tokens, its slots, its breaker, taken together.

`Admission` decides, and learns from what becomes of each request. The scheduler of the bulk engine, plain calls under
`Limits` and the simulation that its constants were found with all drive the same object. Pure: times come in as numbers
of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math

from .breaker import Breaker
from .pacing import Pacer

__all__ = ["Admission", "Flight"]


class Flight:
    """One request that is with the server."""

    __slots__ = ("beside", "probe", "started", "tokens")

    def __init__(self, started: float, tokens: float, beside: int, probe: bool) -> None:
        self.started: float = started
        self.tokens: float = tokens
        """Tokens that were booked for it."""
        self.beside: int = beside
        """Requests that were in flight when it was sent, itself included."""
        self.probe: bool = probe
        """Whether it is the probe of an open breaker."""


class Admission:
    """What one server may be sent. `rpm` and `tpm` are limits told by the user, `slots` is the number in flight."""

    def __init__(self, *, rpm: float | None = None, tpm: float | None = None, slots: int = 64) -> None:
        self.requests: Pacer = Pacer(math.inf if rpm is None else rpm / 60.0)
        self.tokens: Pacer = Pacer(math.inf if tpm is None else tpm / 60.0)
        self.breaker: Breaker = Breaker()
        self.slots: int = slots
        self.in_flight: int = 0
        self.latency: float = 0.0
        """Seconds that an answer takes, a moving mean."""

    def ready_at(self, tokens: float) -> float:
        """Return when a request of so many tokens may be sent; ``inf`` where another has to end first."""
        if self.in_flight >= self.slots:
            return math.inf
        return max(self.requests.due, self.tokens.due, self.breaker.ready_at())

    def start(self, now: float, tokens: float) -> Flight:
        """Book a request that is sent now."""
        self.requests.book(now, 1.0)
        self.tokens.book(now, tokens)
        self.in_flight += 1
        return Flight(now, tokens, self.in_flight, self.breaker.start())

    def answered(self, now: float, flight: Flight, spent: float | None) -> None:
        """The request was answered; `spent` are the tokens it took, `None` where the server does not say."""
        self.in_flight -= 1
        self.breaker.succeeded(now)
        if spent is not None:
            self.tokens.correct(flight.tokens, spent)
        taken = now - flight.started
        self.latency = taken if not self.latency else self.latency + 0.1 * (taken - self.latency)

    def refused(self, now: float, flight: Flight, retry_after: float | None) -> None:
        """The request was answered with 429; `retry_after` is what the server asked for, in seconds."""
        self.in_flight -= 1
        self.breaker.succeeded(now)
        self.tokens.correct(flight.tokens, 0.0)
        self.requests.hold(now + (1.0 if retry_after is None else retry_after))

    def failed(self, now: float, flight: Flight, retry_after: float | None = None) -> None:
        """The request failed through the server's fault: a connection error, a timeout, a 5xx."""
        self.in_flight -= 1
        self.breaker.failed(now, flight.probe, retry_after or 0.0)

    def left(self, now: float, flight: Flight, *, works: bool = False) -> None:
        """The request ended in another way; `works` says whether the server answered."""
        self.in_flight -= 1
        if works:
            self.breaker.succeeded(now)
        else:
            self.breaker.left(flight.probe)
