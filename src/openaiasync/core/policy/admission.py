"""Admission to one server: its limits on requests and tokens, its slots and its breaker, combined.

`Admission` decides when a request may be sent, and learns from the outcome of each request. The bulk scheduler, plain
calls under `Limits`, and the simulation in which its constants were tuned all use the same object. Pure: times are
arguments, in seconds by any monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple

from .breaker import Breaker
from .concurrency import Concurrency, Sample
from .leasing import Share
from .pacing import Pacer

__all__ = ["Admission", "Flight", "ModelPace", "ModelPaces", "RateLimitRefusal"]

Kind = Literal["", "requests", "tokens", "slots"]
MODELS = 64  # models of a server whose limits are remembered: the most recently used ones


class ModelPace:
    """The limits on one model at one server, learned from header fields or found from refusals."""

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
        """Note that a request is sent, with the estimated number of its tokens."""
        self.used_at = now
        self.requests.book(now, 1.0)
        self.tokens.book(now, tokens)

    def answered(self, now: float, booked: float, spent: float) -> None:
        """Note that a request was answered: replace the tokens booked for it with the tokens it used."""
        self.requests.answered(now, 1.0, 1.0)
        self.tokens.answered(now, booked, spent)

    def refused(self, now: float, sent_at: float, booked: float, kind: Kind, retry_after: float | None) -> None:
        """Note a 429 because of a limit on tokens, or else on requests."""
        if kind == "tokens":
            self.requests.correct(1.0, 0.0)
            self.tokens.refused(now, sent_at, booked, retry_after)
        else:
            self.tokens.correct(booked, 0.0)
            self.requests.refused(now, sent_at, 1.0, retry_after)

    def returned(self, booked: float) -> None:
        """Count a request neither as sent nor as answered."""
        self.requests.correct(1.0, 0.0)
        self.tokens.correct(booked, 0.0)


class ModelPaces:
    """The paces of one server by model, since servers limit models separately.

    Bounded, since any name may be requested.
    """

    def __init__(self) -> None:
        self._known: dict[str, ModelPace] = {}

    def of(self, model: str) -> ModelPace:
        """Return the pace of a model, dropping the least recently used one if there are too many."""
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
    """One request in flight."""

    __slots__ = ("beside", "pace", "probe", "sample", "started", "tokens")

    def __init__(
        self, started: float, tokens: float, beside: int, probe: bool, sample: Sample | None, pace: ModelPace
    ) -> None:
        self.started: float = started
        self.tokens: float = tokens
        """The tokens booked for it."""
        self.beside: int = beside
        """The number of requests in flight when it was sent, itself included."""
        self.probe: bool = probe
        """Whether it is the probe of an open breaker."""
        self.sample: Sample | None = sample
        """The sample that its answer belongs to."""
        self.pace: ModelPace = pace
        """The pace of its model."""


class RateLimitRefusal(NamedTuple):
    """The contents of a 429: the limit it is about, if named, and the pause in seconds, if any."""

    kind: Kind = ""
    retry_after: float | None = None


class Admission:
    """The limits of one server, and the decision when the next request may be sent.

    `rpm` and `tpm` are the user's limits, for all models together; the server's own limits are learned for each model.
    `max_in_flight` is the number of slots; `None` finds the number.
    """

    def __init__(
        self, *, rpm: float | None = None, tpm: float | None = None, max_in_flight: int | None = None, most: int = 4096
    ) -> None:
        self.requests: Pacer = Pacer(rpm)
        """The user's limit. Learned limits are not kept here."""
        self.tokens: Pacer = Pacer(tpm)
        self.models: ModelPaces = ModelPaces()
        self.slots: Concurrency = Concurrency(max_in_flight, most)
        self.breaker: Breaker = Breaker()
        self.in_flight: int = 0
        self.latency: float = 0.0
        """The moving mean of the duration of an answer in seconds."""
        self.share: Share | None = None
        """The part of a budget that several processes share; refusals are reported to it."""
        self._hold = -math.inf  # a pause for all models: too many were in flight
        self._crowd = 0.0  # the 85th percentile of `Flight.beside` over answered requests
        self._suspicion = 0.0  # the share of recent refusals with more in flight than `_crowd`
        self._lowest = math.inf  # the smallest number in flight among these refusals in a row
        self._guessed_at = -math.inf

    @property
    def has_slots(self) -> bool:
        """Whether the number in flight allows another request."""
        return self.in_flight < self.slots.slots()

    @property
    def held(self) -> float:
        """The end of the pause that the server asked for, for every model."""
        return max(self._hold, min((pace.held for pace in self.models.all()), default=-math.inf))

    def limit(self, kind: Literal["requests", "tokens"]) -> float:
        """Return the limit on requests or tokens per second, given or learned; ``inf`` if none is known."""
        pacer: Pacer = getattr(self, kind)
        learned: list[float] = [getattr(pace, kind).limit for pace in self.models.all()]
        return min(pacer.configured, sum(learned) if learned else math.inf)

    def free_at(self, now: float) -> float:
        """Return when a request for some model may be sent; ``inf`` if another one has to end first."""
        if self.in_flight >= self.slots.slots():
            self.slots.tick(now)
            if self.in_flight >= self.slots.slots():
                return self.slots.grows_at(self.in_flight)
        return max(self.requests.due, self.tokens.due, self.breaker.ready_at(), self._hold)

    def ready_at(self, now: float, model: str = "") -> float:
        """Return when a request for this model may be sent; ``inf`` if another one has to end first."""
        return max(self.free_at(now), self.models.of(model).due)

    def start(self, now: float, tokens: float, model: str = "") -> Flight:
        """Note that a request is sent now, and book its tokens."""
        pace = self.models.of(model)
        pace.book(now, tokens)
        if self.requests.counts:
            self.requests.book(now, 1.0)
        if self.tokens.counts:
            self.tokens.book(now, tokens)
        self.in_flight += 1
        sample = self.slots.start(now, self.in_flight)
        return Flight(now, tokens, self.in_flight, self.breaker.start(), sample, pace)

    def answered(self, now: float, flight: Flight, spent: float | None = None, made: float | None = None) -> None:
        """Note that the request was answered; it used `spent` tokens, `made` of them for the answer, if known."""
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
        """Note that the request was answered with 429."""
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
            # Let requests in flight end first: if ten exceeded the cap, nine would exceed it again at once.
            self._hold = max(self._hold, now + (0.02 if refusal.retry_after is None else refusal.retry_after))
        elif self.share is not None:
            flight.pace.returned(flight.tokens)
            self.share.refused(now, kind, flight.started, refusal.retry_after)
        else:
            flight.pace.refused(now, flight.started, flight.tokens, kind, refusal.retry_after)

    def _guess(self, now: float, flight: Flight) -> Kind:
        """Return the limit that a 429 without a named limit is about.

        It is the rate, unless refusals occur only with more in flight than for nearly all answered requests: then the
        number in flight is capped. (A ramp at the start proves nothing, since every refusal then has more in flight.)
        """
        slots, found = self.slots, flight.pace.requests.found
        if slots.cap < math.inf:
            if flight.beside >= 0.8 * slots.cap:
                return "slots"
            slots.cap = math.inf
            self._suspicion, self._lowest = 0.0, math.inf
        elif found.is_settled and flight.started > self._guessed_at:
            self._guessed_at = now  # simultaneous refusals count as one
            crowded = flight.beside > self._crowd
            self._suspicion += 0.25 * (crowded - self._suspicion)
            self._lowest = min(self._lowest, flight.beside) if crowded else math.inf
            if self._suspicion > 0.75:
                found.forget()
                slots.cap = self._lowest
                return "slots"
        return "requests"

    def failed(self, now: float, flight: Flight, retry_after: float | None = None) -> None:
        """Note that the request failed through the server's fault: a connection error, a timeout, a 5xx."""
        self.in_flight -= 1
        self.slots.left(flight.sample)
        self.breaker.failed(now, flight.probe, retry_after or 0.0, self.in_flight)

    def left(self, now: float, flight: Flight, *, works: bool = False) -> None:
        """Note that the request ended otherwise; `works` says whether the server answered."""
        self.in_flight -= 1
        self.slots.left(flight.sample)
        if works:
            self.breaker.succeeded(now)
        else:
            self.breaker.left(flight.probe)
