"""A simulation of a server and of a client that is always ready to send: events in order of time, nothing sleeps.

The client is an `Admission` that is driven as the scheduler drives it. Servers enforce limits in the ways that real
ones do, and count what they accept and refuse.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openaiasync.core.policy.admission import Admission, Flight, RateLimitRefusal


class Gcra:
    """A limit that lets `burst` seconds of its rate pass at once: what gateways and most APIs do."""

    def __init__(self, rate: float, burst: float = 0.2) -> None:
        self.rate, self.burst, self.due = rate, burst, 0.0

    def take(self, now: float, cost: float) -> bool:
        due = max(self.due, now)
        if due - now > self.burst:
            return False
        self.due = due + cost / self.rate
        return True

    def fields(self, now: float) -> tuple[float, float, float]:
        limit = self.rate * 60
        missing = max(0.0, self.due - now) * self.rate
        return round(limit), max(0, round(limit - missing)), max(0.001, missing / self.rate)

    def retry_after(self, now: float) -> float:
        return max(1.0, math.ceil(self.due - now - self.burst))


class Bucket(Gcra):
    """A bucket that holds a minute of the rate, full at the start (OpenAI)."""

    def __init__(self, rate: float, burst: float = 60.0) -> None:
        super().__init__(rate, burst)


class Window:
    """So many in each window from one fixed moment to the next."""

    def __init__(self, rate: float, length: float = 60.0) -> None:
        self.rate, self.length, self.used, self.number = rate, length, 0.0, -1

    def take(self, now: float, cost: float) -> bool:
        number = int(now // self.length)
        if number != self.number:
            self.number, self.used = number, 0.0
        if self.used + cost > self.rate * self.length:
            return False
        self.used += cost
        return True

    def fields(self, now: float) -> tuple[float, float, float]:
        limit = self.rate * self.length
        return round(limit), max(0, round(limit - self.used)), self.length - now % self.length

    def retry_after(self, now: float) -> float:
        return math.ceil(self.length - now % self.length)


class Sliding:
    """So many within the last `length` seconds, at any time."""

    def __init__(self, rate: float, length: float = 60.0) -> None:
        self.rate, self.length = rate, length
        self.log: deque[tuple[float, float]] = deque()
        self.used = 0.0

    def take(self, now: float, cost: float) -> bool:
        while self.log and self.log[0][0] <= now - self.length:
            self.used -= self.log.popleft()[1]
        if self.used + cost > self.rate * self.length:
            return False
        self.log.append((now, cost))
        self.used += cost
        return True

    def fields(self, now: float) -> tuple[float, float, float]:
        limit = self.rate * self.length
        return round(limit), max(0, round(limit - self.used)), self.length

    def retry_after(self, now: float) -> float:
        return max(1.0, math.ceil(self.log[0][0] + self.length - now)) if self.log else 1.0


@dataclass
class Traffic:
    """One run. `seconds` of simulated time; `before` is called with the time ahead of each request."""

    admission: Admission
    seconds: float
    seed: int = 0
    requests: Any = None
    tokens: Any = None
    headers: bool = False
    retry_after: bool = False
    slots: int = 0  # that work at once; the others queue
    cap: int = 0  # in flight, above which requests are refused
    latency: float = 0.2
    noise: float = 0.3
    network: float = 0.005  # each way
    stalls: float = 0.0  # of the client's event loop: how often a second
    size: Callable[[random.Random], float] = lambda rng: 100.0
    estimate: float = 100.0
    work: Callable[[int], float] | None = None  # seconds that an answer takes with so many in work (batching servers)
    change: Callable[[float, Any], None] | None = None
    accepted: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    flights: list[tuple[float, int]] = field(default_factory=list)

    def run(self) -> Traffic:
        rng = self.rng = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._wake: float | None = None
        self._busy_until = 0.0
        self._queue: deque[Callable[[float], None]] = deque()
        self._working = 0
        self._present = 0
        self._later(0.0, self._pump)
        if self.stalls:
            self._later(rng.expovariate(self.stalls), self._stall)
        now = 0.0
        while self._events:
            now, _, act = heapq.heappop(self._events)
            if now > self.seconds:
                break
            act(now)
        return self

    def _later(self, at: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, act))

    # the client

    def _stall(self, now: float) -> None:
        self._busy_until = now + self.rng.uniform(0.01, 0.12)
        self._later(now + self.rng.expovariate(self.stalls), self._stall)

    def _client(self, at: float, act: Callable[[float], None]) -> None:
        """Something that the client does: not while its loop is blocked, and a little late."""

        def do(now: float) -> None:
            if now < self._busy_until:
                self._later(self._busy_until, do)
            else:
                act(now)

        self._later(at, do)

    def _pump(self, now: float) -> None:
        while True:
            at = self.admission.ready_at(now)
            if at > now:
                break
            flight = self.admission.start(now, self.estimate)
            self.flights.append((now, self.admission.in_flight))
            self._later(now + self.network * self.rng.uniform(0.8, 1.4), lambda then, f=flight: self._arrive(then, f))
        if at < math.inf and (self._wake is None or at < self._wake or self._wake <= now):
            self._wake = at
            self._client(at + self.rng.expovariate(1000.0), self._woken)

    def _woken(self, now: float) -> None:
        self._wake = None
        self._pump(now)

    # the server

    def _arrive(self, now: float, flight: Flight) -> None:
        if self.change is not None:
            self.change(now, self)
        size = self.size(self.rng)
        back = self.network * self.rng.uniform(0.8, 1.4)
        kind: Any = ""
        pause = None
        if self.cap and self._present >= self.cap:
            kind = "cap"
        elif self.requests is not None and not self.requests.take(now, 1.0):
            kind, pause = "requests", self.requests.retry_after(now)
        elif self.tokens is not None and not self.tokens.take(now, size):
            kind, pause = "tokens", self.tokens.retry_after(now)
        if kind:
            self.refused.append(now)
            told = RateLimitRefusal("tokens" if kind == "tokens" else "", pause if self.retry_after else None)
            self._client(now + back, lambda then: self._refused(then, flight, told))
            return
        self.accepted.append((now, size))
        self._present += 1
        fields = None
        if self.headers:
            fields = (
                None if self.requests is None else self.requests.fields(now),
                None if self.tokens is None else self.tokens.fields(now),
            )

        def work(then: float) -> None:
            self._working += 1
            base = self.latency if self.work is None else self.work(self._working)
            taken = base * self.rng.lognormvariate(-(self.noise**2) / 2, self.noise)
            self._later(then + taken, done)

        def done(then: float) -> None:
            self._working -= 1
            self._present -= 1
            if self._queue:
                self._queue.popleft()(then)
            self._client(then + back, lambda at: self._answered(at, flight, size, fields))

        if self.slots and self._working >= self.slots:
            self._queue.append(work)
        else:
            work(now)

    def _answered(self, now: float, flight: Flight, size: float, fields: Any) -> None:
        self.latencies.append((now, now - flight.started))
        if fields is not None:
            for pacer, told in zip((flight.pace.requests, flight.pace.tokens), fields, strict=True):
                if told is not None:
                    pacer.headers.see(now, *told)
                    pacer.changed(now)
        self.admission.answered(now, flight, size, size if self.tokens else None)
        self._pump(now)

    def _refused(self, now: float, flight: Flight, refusal: RateLimitRefusal) -> None:
        self.admission.refused(now, flight, refusal)
        self._pump(now)

    # what came of it

    def taken(self, begin: float, end: float, *, tokens: bool = False) -> float:
        """Requests, or tokens, accepted a second in a span of time."""
        return sum((size if tokens else 1.0) for at, size in self.accepted if begin <= at < end) / (end - begin)

    def wasted(self, begin: float, end: float) -> float:
        """Refusals for 1,000 accepted requests in a span of time."""
        refused = sum(begin <= at < end for at in self.refused)
        return 1000.0 * refused / max(1.0, self.taken(begin, end) * (end - begin))
