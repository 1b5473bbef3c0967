"""A simulation of workers on one quota against a server with limits, in virtual time and with clocks that differ."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

from openaiasync.core.policy.leasing import Share
from openaiasync.core.policy.shared_quota import Grant, LeaseRequest, Quota

__all__ = ["Simulation"]


class Simulation:
    """Workers, a quota and a server, which accepts `rate` requests a second and holds `burst` seconds of them.

    Each worker always has rows and `slots`; answers take `latency` seconds, leases `delay`.
    """

    def __init__(
        self, rate: float, *, burst: float = 1.0, latency: float = 0.05, delay: float = 0.002, seed: int = 1,
        rpm: float | None = -1.0,
    ) -> None:  # fmt: skip
        self.rate, self.burst, self.latency, self.delay = rate, burst, latency, delay
        self.rpm = rate * 60.0 if rpm == -1.0 else rpm
        self.random = random.Random(seed)
        self.quota = Quota()
        self.offset = self.random.uniform(-1e4, 1e4)  # of the quota's clock
        self.reachable = True
        self.now = 0.0
        self.sent: list[float] = []
        self.refused: list[float] = []
        self.leases: list[tuple[float, int]] = []
        self.workers: dict[int, Worker] = {}
        self._level, self._at = 0.0, 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Call `do` at this time."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), do))

    def start(self, slots: int = 64, count: int = 1) -> None:
        """Start workers, in the next 50 ms."""
        for _ in range(count):
            number = len(self.workers)
            self.workers[number] = worker = Worker(self, number, slots)
            self.at(self.now + self.random.random() * 0.05, worker.lease)

    def run(self, seconds: float) -> None:
        """Continue for so many seconds."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = end

    def accepts(self) -> bool:
        """Send a request to the server."""
        self._level = min(max(self.rate * self.burst, 1.0), self._level + (self.now - self._at) * self.rate)
        self._at = self.now
        if self._level < 1.0:
            self.refused.append(self.now)
            return False
        self._level -= 1.0
        self.sent.append(self.now)
        return True

    def share(self, since: float, until: float) -> float:
        """Return the used share of the server's rate."""
        return sum(since <= at < until for at in self.sent) / (until - since) / self.rate


class Worker:
    """One worker, with its own clock."""

    def __init__(self, simulation: Simulation, number: int, slots: int) -> None:
        self.simulation, self.number, self.slots = simulation, number, slots
        self.share = Share(f"w{number}", simulation.rpm, None)
        self.offset = simulation.random.uniform(-1e4, 1e4)
        self.in_flight = 0
        self.accepted = 0
        self.wanted = math.inf  # rows left
        self.dead = False
        self._timer = math.inf

    @property
    def clock(self) -> float:
        return self.simulation.now + self.offset

    def lease(self) -> None:
        if self.dead:
            return
        world = self.simulation
        request = self.share.request(self.clock, min(self.slots, self.wanted))
        if not world.reachable:
            self.share.lost(self.clock)
            world.at(world.now + self.share.lease_at - self.clock, self.lease)
            self.send()
            return
        way = world.delay * world.random.random()
        world.leases.append((world.now, self.number))

        def serve() -> None:
            grant = world.quota.lease(world.now + world.offset, request)
            world.at(world.now + way, lambda: self.granted(request, grant))

        world.at(world.now + way, serve)

    def granted(self, request: LeaseRequest, grant: Grant) -> None:
        self.share.granted(self.clock, request, grant)
        world = self.simulation
        world.at(world.now + max(0.001, self.share.lease_at - self.clock), self.lease)
        self.send()

    def send(self) -> None:
        if self.dead:
            return
        world, share = self.simulation, self.share
        while self.in_flight < self.slots and self.wanted > 0 and share.due <= self.clock:
            share.requests.book(self.clock, 1.0)
            share.tokens.book(self.clock, 10.0)
            self.in_flight += 1
            accepted, sent_at = world.accepts(), self.clock
            if accepted:
                self.wanted -= 1
                world.at(world.now + world.latency, self.answered)
            else:
                world.at(world.now + 0.002, lambda sent_at=sent_at: self.refused(sent_at))
        if self.in_flight < self.slots and share.due < math.inf:
            at = max(world.now + share.due - self.clock, world.now + 1e-5)  # clocks of 1e4 s are rounded
            if not world.now < self._timer <= at:
                self._timer = at
                world.at(at, self.send)

    def answered(self) -> None:
        self.in_flight -= 1
        self.accepted += 1
        self.send()

    def refused(self, sent_at: float) -> None:
        self.in_flight -= 1
        self.share.refused(self.clock, "requests", sent_at, None)
        self.send()
