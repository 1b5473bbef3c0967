"""What one server may be sent now: its limits on requests and tokens, its slots, its breaker, taken together.

`Admission` decides, and learns from what becomes of each request. The scheduler of the bulk engine, plain calls under
`Limits` and the simulation that its constants were found with all drive the same object. Pure: times come in as numbers
of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

from .breaker import Breaker
from .concurrency import Concurrency, Sample
from .pacing import Pacer

__all__ = ["Admission", "Flight", "ModelPace", "ModelPaces", "RateLimitRefusal"]

Kind = Literal["", "requests", "tokens", "slots"]
MODELS = 64  # of a server whose limits are remembered; of more the ones used last


class ModelPace:
    """The limits on one model at one server, as learned from header fields or found from refusals."""

    __slots__ = ("requests", "tokens", "used_at")

    def __init__(self) -> None:
        self.requests: Pacer = Pacer()
        self.tokens: Pacer = Pacer()
        self.used_at: float = -math.inf

    @property
    def due(self) -> float:
        """When the next request for this model may be sent."""
        return max(self.requests.due, self.tokens.due)

    @property
    def held(self) -> float:
        """Until when the server has asked for a pause."""
        return max(self.requests.held, self.tokens.held)

    def book(self, now: float, tokens: float) -> None:
        """Note that a request is sent that is likely to take so many tokens."""
        self.used_at = now
        self.requests.book(now, 1.0)
        self.tokens.book(now, tokens)

    def answered(self, now: float, booked: float, spent: float) -> None:
        """A request was answered: replace the tokens that were booked for it by those that it took."""
        self.requests.answered(now, 1.0, 1.0)
        self.tokens.answered(now, booked, spent)

    def refused(self, now: float, sent_at: float, booked: float, kind: Kind, retry_after: float | None) -> None:
        """A request was answered with 429 because of a limit on tokens, or else on requests."""
        if kind == "tokens":
            self.requests.correct(1.0, 0.0)
            self.tokens.refused(now, sent_at, booked, retry_after)
        else:
            self.tokens.correct(booked, 0.0)
            self.requests.refused(now, sent_at, 1.0, retry_after)

    def returned(self, booked: float) -> None:
        """A request counts neither as sent nor as answered."""
        self.requests.correct(1.0, 0.0)
        self.tokens.correct(booked, 0.0)


class ModelPaces:
    """The paces of one server by model, as servers limit each model separately. Bounded: names may be invented."""

    def __init__(self) -> None:
        self._known: dict[str, ModelPace] = {}

    def of(self, model: str) -> ModelPace:
        """Return the pace of a model; where too many are known, the one that was not used for longest is forgotten."""
        known = self._known
        pace = known.get(model)
        if pace is None:
            if len(known) >= MODELS:
                del known[min(known, key=lambda name: known[name].used_at)]
            pace = known[model] = ModelPace()
        return pace

    def all(self) -> Collection[ModelPace]:
        """Return the paces of all models in use."""
        return self._known.values()


class Flight:
    """One request that is with the server."""

    __slots__ = ("beside", "pace", "probe", "sample", "started", "tokens")

    def __init__(
        self, started: float, tokens: float, beside: int, probe: bool, sample: Sample | None, pace: ModelPace
    ) -> None:
        self.started: float = started
        self.tokens: float = tokens
        """Tokens that were booked for it."""
        self.beside: int = beside
        """Requests that were in flight when it was sent, itself included."""
        self.probe: bool = probe
        """Whether it is the probe of an open breaker."""
        self.sample: Sample | None = sample
        """What its answer is a part of."""
        self.pace: ModelPace = pace
        """That of its model."""


class RateLimitRefusal(NamedTuple):
    """What a 429 says: which limit it is about, if it says so, and for how many seconds nothing is to be sent."""

    kind: Kind = ""
    retry_after: float | None = None


class Admission:
    """What one server may be sent.

    `rpm` and `tpm` are limits that the user told, for all models together; what the server's own limits are is learned
    for each model. `max_in_flight` is the number of slots, `None` for what is to be found out.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, max_in_flight: int | None = None, most: int = 4096
    ) -> None:
        self.requests: Pacer = Pacer(rpm)
        """The limit that was told; not used for what is learned."""
        self.tokens: Pacer = Pacer(tpm)
        self.models: ModelPaces = ModelPaces()
        self.slots: Concurrency = Concurrency(max_in_flight, most)
        self.breaker: Breaker = Breaker()
        self.in_flight: int = 0
        self.latency: float = 0.0
        """Seconds that an answer takes, a moving mean."""
        self._hold = -math.inf  # a pause for all models: too many were in flight
        self._crowd = 0.0  # in flight when a request was sent, exceeded by 15 of 100 that were answered
        self._suspicion = 0.0  # share of the last refusals that came with more in flight than that
        self._lowest = math.inf  # in flight, of the last refusals in a row that did
        self._guessed_at = -math.inf

    @property
    def has_slots(self) -> bool:
        """Whether another request may be in flight, as far as its number is concerned."""
        return self.in_flight < self.slots.slots()

    @property
    def held(self) -> float:
        """Until when the server has asked for a pause, for every model."""
        return max(self._hold, min((pace.held for pace in self.models.all()), default=-math.inf))

    def limit(self, kind: Literal["requests", "tokens"]) -> float:
        """Return the limit a second on requests or tokens that is told or learned; ``inf`` where none is known."""
        told: Pacer = getattr(self, kind)
        learned: list[float] = [getattr(pace, kind).limit for pace in self.models.all()]
        return min(told.configured, sum(learned) if learned else math.inf)

    def free_at(self, now: float) -> float:
        """Return when a request for some model may be sent; ``inf`` where another has to end first."""
        if self.in_flight >= self.slots.slots():
            self.slots.tick(now)
            if self.in_flight >= self.slots.slots():
                return self.slots.grows_at(self.in_flight)
        return max(self.requests.due, self.tokens.due, self.breaker.ready_at(), self._hold)

    def ready_at(self, now: float, model: str = "") -> float:
        """Return when a request for this model may be sent; ``inf`` where another has to end first."""
        return max(self.free_at(now), self.models.of(model).due)

    def start(self, now: float, tokens: float, model: str = "") -> Flight:
        """Book a request that is sent now."""
        pace = self.models.of(model)
        pace.book(now, tokens)
        if self.requests.configured < math.inf:
            self.requests.book(now, 1.0)
        if self.tokens.configured < math.inf:
            self.tokens.book(now, tokens)
        self.in_flight += 1
        sample = self.slots.start(now, self.in_flight)
        return Flight(now, tokens, self.in_flight, self.breaker.start(), sample, pace)

    def answered(self, now: float, flight: Flight, spent: float | None = None, made: float | None = None) -> None:
        """The request was answered; it took `spent` tokens, of which `made` are of the answer, where that is known."""
        self.in_flight -= 1
        self.breaker.succeeded(now)
        if spent is None:
            spent = flight.tokens
        flight.pace.answered(now, flight.tokens, spent)
        self.tokens.correct(flight.tokens, spent)
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
        self.tokens.correct(flight.tokens, 0.0)
        if kind in ("slots", "tokens"):
            self.requests.correct(1.0, 0.0)
        if kind == "slots":
            flight.pace.returned(flight.tokens)
            self.slots.refused(now, flight.started, flight.beside)
            # What is on its way comes back first: a cap that was passed by ten would be passed by nine at once.
            self._hold = max(self._hold, now + (0.02 if refusal.retry_after is None else refusal.retry_after))
        else:
            flight.pace.refused(now, flight.started, flight.tokens, kind, refusal.retry_after)

    def _guess(self, now: float, flight: Flight) -> Kind:
        """Return which limit a 429 is about that does not say so.

        It is the rate, unless refusals come only with more in flight than nearly all that is answered: then the number
        in flight has a cap. (A start that ramps says nothing: there every refusal comes with more in flight.)
        """
        slots, found = self.slots, flight.pace.requests.found
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
