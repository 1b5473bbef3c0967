"""What one server may be sent now: its limits on requests and tokens, its slots, its breaker, taken together.

`Admission` decides, and learns from what becomes of each request. The scheduler of the bulk engine, plain calls under
`Limits` and the simulation that its constants were found with all drive the same object. Pure: times come in as numbers
of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from .breaker import Breaker
from .concurrency import Concurrency, Sample
from .pacing import Pacer

__all__ = ["Admission", "Flight", "RateLimitRefusal"]

Kind = Literal["", "requests", "tokens", "slots"]


class Flight:
    """One request that is with the server."""

    __slots__ = ("beside", "probe", "sample", "started", "tokens")

    def __init__(self, started: float, tokens: float, beside: int, probe: bool, sample: Sample | None) -> None:
        self.started: float = started
        self.tokens: float = tokens
        """Tokens that were booked for it."""
        self.beside: int = beside
        """Requests that were in flight when it was sent, itself included."""
        self.probe: bool = probe
        """Whether it is the probe of an open breaker."""
        self.sample: Sample | None = sample
        """What its answer is a part of."""


class RateLimitRefusal(NamedTuple):
    """What a 429 says: which limit it is about, if it says so, and for how many seconds nothing is to be sent."""

    kind: Kind = ""
    retry_after: float | None = None


class Admission:
    """What one server may be sent.

    `rpm` and `tpm` are limits that the user told, `max_in_flight` is the number of slots; `None` for what is to be
    found out.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, max_in_flight: int | None = None, most: int = 4096
    ) -> None:
        self.requests: Pacer = Pacer(rpm)
        self.tokens: Pacer = Pacer(tpm)
        self.slots: Concurrency = Concurrency(max_in_flight, most)
        self.breaker: Breaker = Breaker()
        self.in_flight: int = 0
        self.latency: float = 0.0
        """Seconds that an answer takes, a moving mean."""
        self._crowd = 0.0  # in flight when a request was sent, exceeded by 15 of 100 that were answered
        self._suspicion = 0.0  # share of the last refusals that came with more in flight than that
        self._lowest = math.inf  # in flight, of the last refusals in a row that did
        self._guessed_at = -math.inf

    @property
    def has_slots(self) -> bool:
        """Whether another request may be in flight, as far as its number is concerned."""
        return self.in_flight < self.slots.slots()

    def ready_at(self, now: float) -> float:
        """Return when a request may be sent; ``inf`` where another has to end first."""
        if self.in_flight >= self.slots.slots():
            self.slots.tick(now)
            if self.in_flight >= self.slots.slots():
                return self.slots.grows_at(self.in_flight)
        return max(self.requests.due, self.tokens.due, self.breaker.ready_at())

    def start(self, now: float, tokens: float) -> Flight:
        """Book a request that is sent now."""
        self.requests.book(now, 1.0)
        self.tokens.book(now, tokens)
        self.in_flight += 1
        sample = self.slots.start(now, self.in_flight)
        return Flight(now, tokens, self.in_flight, self.breaker.start(), sample)

    def answered(self, now: float, flight: Flight, spent: float | None = None, made: float | None = None) -> None:
        """The request was answered; it took `spent` tokens, of which `made` are of the answer, where that is known."""
        self.in_flight -= 1
        self.breaker.succeeded(now)
        self.requests.answered(now, 1.0, 1.0)
        self.tokens.answered(now, flight.tokens, flight.tokens if spent is None else spent)
        taken = now - flight.started
        self.latency = taken if not self.latency else self.latency + 0.1 * (taken - self.latency)
        step = 0.1 * max(1.0, 0.05 * self._crowd)
        self._crowd += step * (0.85 if flight.beside > self._crowd else -0.15)
        self.slots.answered(now, flight.sample, taken, made or 1.0, flight.beside)

    def refused(self, now: float, flight: Flight, refusal: RateLimitRefusal) -> None:
        """The request was answered with 429."""
        self.in_flight -= 1
        self.slots.left(flight.sample)
        self.breaker.succeeded(now)
        kind = refusal.kind or self._guess(now, flight)
        if kind != "tokens":
            self.tokens.correct(flight.tokens, 0.0)
        if kind == "slots":
            self.requests.correct(1.0, 0.0)
            self.slots.refused(now, flight.started, flight.beside)
            # What is on its way comes back first: a cap that was passed by ten would be passed by nine at once.
            self.requests.hold(now + (0.02 if refusal.retry_after is None else refusal.retry_after))
        elif kind == "tokens":
            self.requests.correct(1.0, 0.0)
            self.tokens.refused(now, flight.started, flight.tokens, refusal.retry_after)
        else:
            self.requests.refused(now, flight.started, 1.0, refusal.retry_after)

    def _guess(self, now: float, flight: Flight) -> Kind:
        """Return which limit a 429 is about that does not say so.

        It is the rate, unless refusals come only with more in flight than nearly all that is answered: then the number
        in flight has a cap. (A start that ramps says nothing: there every refusal comes with more in flight.)
        """
        slots, found = self.slots, self.requests.found
        if slots.cap < math.inf:
            if flight.beside >= 0.8 * slots.cap:
                return "slots"
            slots.cap = math.inf
            self._suspicion, self._lowest = 0.0, math.inf
        elif found.is_settled and flight.started > self._guessed_at:
            self._guessed_at = now  # refusals at one moment are one
            crowded = flight.beside > self._crowd
            self._suspicion += 0.25 * (crowded - self._suspicion)
            self._lowest = min(self._lowest, flight.beside) if crowded else math.inf
            if self._suspicion > 0.75:
                found.forget()
                slots.cap = self._lowest
                return "slots"
        return "requests"

    def failed(self, now: float, flight: Flight, retry_after: float | None = None) -> None:
        """The request failed through the server's fault: a connection error, a timeout, a 5xx."""
        self.in_flight -= 1
        self.slots.left(flight.sample)
        self.breaker.failed(now, flight.probe, retry_after or 0.0, self.in_flight)

    def left(self, now: float, flight: Flight, *, works: bool = False) -> None:
        """The request ended in another way; `works` says whether the server answered."""
        self.in_flight -= 1
        self.slots.left(flight.sample)
        if works:
            self.breaker.succeeded(now)
        else:
            self.breaker.left(flight.probe)
