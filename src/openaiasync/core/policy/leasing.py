"""One limit for many processes, divided into slices that workers lease: the arithmetic of both sides, without I/O.

`Quota` is the side of the budget. It keeps virtual time for requests and for tokens (see `pacing`), so that what
all workers are granted never exceeds the rate, and divides it in proportion to what they request. `Share` is the side
of a worker: two pacers that send what was granted, evenly over the slice, and collect what the budget has to know:
what was left, what tokens really cost, refusals, limits in header fields.

Times are seconds of any monotonic clock. Only durations pass between the two sides, so that clocks may differ.
"""

from __future__ import annotations

import math

import msgspec

from .pacing import CONFIGURED_SHARE, DEBT, HEADER_SHARE, NEVER, Pacer

__all__ = ["FORMAT", "Grant", "LeaseRequest", "LeasedPacer", "Quota", "ReportedRefusal", "Share"]

FORMAT = 1  # of what workers and budgets exchange and store
SLICE = 0.2  # seconds that a lease is for
AHEAD = 0.05  # seconds beyond a slice that may be granted in all
IDLE = 0.02  # seconds ahead within which unleased capacity goes to any worker that requests it
RENEW = 0.75  # of a slice after which the next one is leased
EXPIRES = 1.0  # seconds without a lease after which a worker's share goes to the others
PATIENCE = 0.5  # seconds at most between the leases of a worker that has rows and was granted nothing
SOONEST = 0.1  # seconds at least between two leases
MEAN_TOKENS = 200.0  # of a row, before any was booked
ALONE = 0.8  # of its last share that a worker sends while it cannot reach the budget
CYCLE = 260.0  # requests from a cut to past the rate that was refused
MARGIN = 0.03  # below the rate that was refused


class ReportedRefusal(msgspec.Struct, array_like=True):
    """A 429: the limit it is about (``"requests"``, ``"tokens"``), seconds since its request was sent, and the pause in
    seconds that the server asks for."""

    kind: str
    age: float
    pause: float


class LeaseRequest(msgspec.Struct, kw_only=True):
    """The request of a worker to its budget. `rpm` and `tpm` are per minute, all other rates per second."""

    worker: str
    event: str = ""
    """``"join"`` compares the limits and grants nothing, ``"leave"`` gives the share back, ``"change"`` replaces the
    limits for all workers."""
    rpm: float | None = None
    tpm: float | None = None
    requests: float = 0.0
    """Requests that the worker could send in the next slice; 0 for an idle worker."""
    tokens: float = 0.0
    """Tokens of these requests."""
    ms: float = SLICE * 1000
    left_requests: float = 0.0
    """What was granted and not used; negative for what was used beyond."""
    left_tokens: float = 0.0
    header_requests: float | None = None
    """The limit that the server states in header fields, if any."""
    header_tokens: float | None = None
    refusals: list[ReportedRefusal] = msgspec.field(default_factory=list[ReportedRefusal])


class Grant(msgspec.Struct, kw_only=True):
    """What a worker may send: `requests` and `tokens`, evenly over `span` seconds that begin in `after` seconds."""

    error: str = ""
    """Why the worker may not take part: ``"format"``, ``"limits"`` (with `rpm` and `tpm` of the others)."""
    requests: float | None = None
    """`None` where there is no limit."""
    tokens: float | None = None
    after: float = 0.0
    span: float = SLICE
    again: float = PATIENCE
    """Seconds until the next lease is due."""
    hold: float = 0.0
    """Seconds for which the server takes nothing."""
    share_requests: float | None = None
    """The worker's share of the rate, per second."""
    share_tokens: float | None = None
    rpm: float | None = None
    tpm: float | None = None


class _Rate:
    """A limit of the budget; mirrored by the script of the Redis backend."""

    def __init__(self, per_minute: float | None) -> None:
        self.configured: float | None = per_minute
        self.header: float | None = None
        self.base = NEVER  # the rate after the last refusal
        self.wall = 0.0  # the rate that was refused
        self.sent = 0.0  # rows since the last cut
        self.cut = -NEVER
        self.due = -NEVER
        self.hold = -NEVER
        self.demand = 0.0  # of all workers
        self.recent = 0.0  # granted, a sum that decays over half a second
        self.recent_at = 0.0

    def rate(self) -> float:
        """Return the rate per second."""
        rate = NEVER if self.configured is None else self.configured / 60.0 * CONFIGURED_SHARE
        if self.header is not None:
            rate = min(rate, self.header * HEADER_SHARE)
        if self.base == NEVER:
            return rate
        done = self.sent / CYCLE
        gap = max(min(self.wall / self.base, 4.0) - 1.0, MARGIN)
        if done <= 1.0:
            return min(rate, self.base * (1.0 + gap * (1.0 + (2.0 * done - 1.0) ** 3)))
        return min(rate, self.base * (1.0 + 2.0 * gap) * math.exp(min(20.0, 4.0 * (done - 1.0))))

    def returned(self, amount: float) -> None:
        rate = self.rate()
        if rate != NEVER:
            self.due -= amount / rate

    def refused(self, now: float, age: float, pause: float) -> None:
        self.hold = max(self.hold, now + pause)
        if now - age <= self.cut:
            return  # sent before the last cut
        rate = self.rate()
        if rate == NEVER:
            rate = max(1.0, self.recent / 0.5)
            self.base = 0.5 * rate
        else:
            self.base = rate * min(1.0 - MARGIN, max(0.7, 1.0 - 3.0 / (self.sent + 1.0)))
        self.wall, self.sent, self.cut = rate, 0.0, now

    def book(self, now: float, cost: float, rows: float) -> None:
        self.sent += rows
        self.recent = self.recent * math.exp((self.recent_at - now) / 0.5) + cost
        self.recent_at = now
        rate = self.rate()
        if rate != NEVER:
            self.due = max(self.due, now - DEBT) + cost / rate


class Quota:
    """The budget of one name: limits on requests and tokens, divided among workers."""

    def __init__(self) -> None:
        self.requests: _Rate | None = None
        self.tokens: _Rate | None = None
        self._workers: dict[str, list[float]] = {}  # requests, tokens, credit, seen

    def lease(self, now: float, request: LeaseRequest) -> Grant:
        """Answer a worker. `now` is the budget's clock."""
        workers = self._workers
        for name in [name for name, one in workers.items() if one[3] < now - EXPIRES]:
            self._forget(name)
        requests, tokens = self.requests, self.tokens
        if requests is None or tokens is None or request.event == "change" or (not workers and request.event == "join"):
            if requests is None or tokens is None:
                requests, tokens = self.requests, self.tokens = _Rate(request.rpm), _Rate(request.tpm)
            requests.configured, tokens.configured = request.rpm, request.tpm
        if request.event == "join" and (requests.configured, tokens.configured) != (request.rpm, request.tpm):
            return Grant(error="limits", rpm=requests.configured, tpm=tokens.configured)
        requests.returned(request.left_requests)
        tokens.returned(request.left_tokens)
        if request.header_requests is not None:
            requests.header = request.header_requests
        if request.header_tokens is not None:
            tokens.header = request.header_tokens
        for one in request.refusals:
            (tokens if one.kind == "tokens" else requests).refused(now, one.age, one.pause)
        if request.event == "leave":
            self._forget(request.worker)
            return Grant(rpm=requests.configured, tpm=tokens.configured)
        worker = workers.setdefault(request.worker, [0.0, 0.0, 0.0, now])
        requests.demand += request.requests - worker[0]
        tokens.demand += request.tokens - worker[1]
        return self._divide(now, request, worker, requests, tokens)

    def _forget(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None and self.requests is not None and self.tokens is not None:
            self.requests.demand = max(0.0, self.requests.demand - worker[0]) if self._workers else 0.0
            self.tokens.demand = max(0.0, self.tokens.demand - worker[1]) if self._workers else 0.0

    def _divide(self, now: float, request: LeaseRequest, worker: list[float], requests: _Rate, tokens: _Rate) -> Grant:
        """Grant whole rows: in proportion to what all workers request, or unleased capacity, within the limits."""
        span = min(max(request.ms / 1000.0, 0.1), 0.25)
        hold = max(0.0, requests.hold - now, tokens.hold - now)
        grant = Grant(span=span, hold=hold, rpm=requests.configured, tpm=tokens.configured)
        rows = math.floor(request.requests)
        share, room, idle, after = NEVER, NEVER, NEVER, hold
        each = request.tokens / request.requests if request.requests > 0 else 0.0
        for rate, requested, cost in ((requests, request.requests, 1.0), (tokens, request.tokens, each)):
            per_second = rate.rate()
            if per_second == NEVER:
                continue
            portion = per_second * (requested / rate.demand if rate.demand > 0 else 0.0)
            if rate is requests:
                grant.share_requests = portion
            else:
                grant.share_tokens = portion
            due = max(rate.due, now - DEBT)
            after = max(after, due - now)
            if cost > 0.0:
                share = min(share, portion / cost)
                room = min(room, max((now + span + AHEAD - due) * per_second / cost, float(due <= now + span)))
                idle = min(idle, max((now + IDLE - due) * per_second / cost, float(due <= now + IDLE)))
        credit = 0.0
        if share != NEVER:
            credit, rows = _credited(now, worker, share, min(room, rows if hold <= span else 0.0), idle, span)
        worker[:] = [request.requests, request.tokens, credit, now]
        if rows:
            requests.book(now, float(rows), float(rows))
            tokens.book(now, rows * each, float(rows))
            grant.again = RENEW * span
        elif request.requests > 0 and share > 0:
            missing = 1.0 - credit - share * span
            grant.again = min(PATIENCE, max(SOONEST, hold, after - span, missing / share))
        grant.after = after
        grant.requests = None if grant.share_requests is None else float(rows)
        grant.tokens = None if grant.share_tokens is None else rows * each
        return grant


def _credited(
    now: float, worker: list[float], share: float, room: float, idle: float, span: float
) -> tuple[float, int]:
    """Return what a worker's share leaves for later, and the whole rows that it may send now."""
    credit = min(worker[2] + share * (now - worker[3]), max(1.0, 2.0 * share * span))
    rows = max(0, math.floor(min(room, max(credit + share * span, idle)) + 1e-9))
    return credit - rows, rows


class LeasedPacer(Pacer):
    """A limit of which slices are leased; without the budget, a pacer with a part of the worker's last share."""

    __slots__ = ("_begins", "_granted", "_left", "_slice_rate", "leased", "mean")

    def __init__(self, per_minute: float | None = None) -> None:
        super().__init__(per_minute)
        self.leased: bool = True
        """Whether the budget can be reached."""
        self.mean: float = 0.0
        """What a row costs, a moving mean."""
        self._left = 0.0
        self._granted = 0.0  # with the last slice
        self._begins = -NEVER  # when the next row is due
        self._slice_rate = NEVER

    @property
    def counts(self) -> bool:
        return True

    @property
    def due(self) -> float:
        """When the next request may be sent; ``inf`` where a slice has to be leased first."""
        if not self.leased:
            return super().due
        return NEVER if self._left <= 1e-9 else max(self._hold, self._begins)

    @property
    def left(self) -> float:
        """What was granted and is not used yet; negative for what was used beyond; 0 where there is no limit."""
        return self._left if self.leased and self._left != NEVER else 0.0

    def give_back(self, wanted: float) -> float:
        """Return what the budget gets back before the next slice: all but what the rest of this one may take.

        It is negative where more was used than granted: rows that cost more than was booked.
        """
        left = self.left
        keep = min(max(0.0, left), 0.35 * self._granted + self.mean, wanted)
        if self.leased and self._left != NEVER:
            self._left = keep
        return left - keep

    def granted(self, now: float, amount: float | None, after: float, span: float) -> None:
        """Take a slice: so much, or without a limit, evenly over `span` seconds."""
        if not self.leased:
            self.leased, self._left, self._begins = True, 0.0, -NEVER
        if amount is None:
            self._left, self._slice_rate = NEVER, NEVER
            return
        self._left = amount + (0.0 if self._left == NEVER else self._left)
        self._granted = amount
        if amount:
            self._begins = max(self._begins, now + after)
        self._slice_rate = max(self._left, 1e-9) / span

    def alone(self, share: float | None) -> None:
        """The budget cannot be reached: continue with this share."""
        self.leased, self._left = False, 0.0
        self.configured = NEVER if share is None else max(share, 1e-6)

    def book(self, now: float, cost: float) -> None:
        self.mean = cost if not self.mean else self.mean + 0.1 * (cost - self.mean)
        if not self.leased:
            super().book(now, cost)
        elif self._left != NEVER:
            self._left -= cost
            self._begins = max(self._begins, now - DEBT) + cost / self._slice_rate

    def correct(self, booked: float, cost: float) -> None:
        if not self.leased:
            super().correct(booked, cost)
        elif self._left != NEVER:
            self._left += booked - cost

    def changed(self, now: float) -> None:
        if not self.leased:
            super().changed(now)


class Share:
    """A worker's part of a budget. `worker` is a name that no other worker has."""

    def __init__(self, worker: str, rpm: float | None, tpm: float | None) -> None:
        self.worker: str = worker
        self.rpm: float | None = rpm
        self.tpm: float | None = tpm
        self.requests: LeasedPacer = LeasedPacer()
        self.tokens: LeasedPacer = LeasedPacer()
        self.reached: bool = True
        self.leased_at: float = -NEVER
        self.again_at: float = -NEVER
        """When the next slice is to be leased, if there are rows to send."""
        self._shares: tuple[float | None, float | None] = (None, None)
        self._configure()
        self._headers: list[float | None] = [None, None]
        self._refusals: list[tuple[str, float, float]] = []
        self._change = False

    @property
    def due(self) -> float:
        """When the next request may be sent; ``inf`` where a slice has to be leased first."""
        return max(self.requests.due, self.tokens.due)

    @property
    def lease_at(self) -> float:
        """When the next slice is to be leased: earlier where the last one is used up."""
        soonest = self.leased_at + SOONEST
        return min(self.again_at, soonest) if self._refusals or self._change else max(self.again_at, soonest)

    def _configure(self) -> None:
        for pacer, configured in ((self.requests, self.rpm), (self.tokens, self.tpm)):
            pacer.configured = NEVER if configured is None else configured / 60.0

    def change(self, rpm: float | None, tpm: float | None) -> None:
        """Change the limits of the budget, for all workers."""
        if (rpm, tpm) != (self.rpm, self.tpm):
            self.rpm, self.tpm, self._change = rpm, tpm, True

    def refused(self, now: float, kind: str, sent_at: float, pause: float | None) -> None:
        """A request was answered with 429: it slows all workers."""
        if len(self._refusals) < 100:
            self._refusals.append((kind, sent_at, pause or 0.0))
        pacer = self.tokens if kind == "tokens" else self.requests
        if not self.reached:
            pacer.refused(now, sent_at, pacer.mean or 1.0, pause)
        elif pause:
            pacer.hold(now + pause)

    def states(self, requests: float, tokens: float) -> None:
        """The server states these limits per second in its header fields; ``inf`` for none."""
        self._headers = [None if one == NEVER else one for one in (requests, tokens)]

    def request(self, now: float, rows: float) -> LeaseRequest:
        """Return what to tell the budget, with the number of rows that could be sent in the next slice."""
        each = self.tokens.mean or MEAN_TOKENS
        back = (self.requests.give_back(rows), self.tokens.give_back(rows * each))
        self.leased_at = now
        return LeaseRequest(
            worker=self.worker,
            event="change" if self._change else "",
            rpm=self.rpm,
            tpm=self.tpm,
            requests=float(math.ceil(rows)),
            tokens=math.ceil(rows) * each,
            left_requests=back[0],
            left_tokens=back[1],
            header_requests=self._headers[0],
            header_tokens=self._headers[1],
            refusals=[ReportedRefusal(kind, now - sent_at, pause) for kind, sent_at, pause in self._refusals],
        )

    def granted(self, now: float, request: LeaseRequest, grant: Grant) -> None:
        """Take the answer of the budget to `request`."""
        del self._refusals[: len(request.refusals)]
        if request.event == "change":
            self._change = False
        elif not self._change:
            self.rpm, self.tpm = grant.rpm, grant.tpm
        self.reached = True
        self._configure()
        if request.requests > 0:
            self._shares = (grant.share_requests, grant.share_tokens)
        self.again_at = now + grant.again
        for pacer, amount in ((self.requests, grant.requests), (self.tokens, grant.tokens)):
            pacer.granted(now, amount, grant.after, grant.span)
            if grant.hold > 0.0:
                pacer.hold(now + grant.hold)

    def lost(self, now: float) -> bool:
        """The budget cannot be reached: continue with a part of the last share. Return whether that is new."""
        new, self.reached = self.reached, False
        self.again_at = now + PATIENCE
        if new:
            for pacer, share in zip((self.requests, self.tokens), self._shares, strict=True):
                pacer.alone(None if share is None else ALONE * share)
        return new
