"""The quota of a budget: limits on requests and tokens that many workers share, from which they lease slices.

A limit is kept in virtual time (see `pacing`): a grant advances `due` by its cost divided by the rate, and no grant
begins before `due`. So the grants of any period, less what was returned, never exceed the rate times its length by more
than `AHEAD` and one slice. A slice is divided in proportion to the rows that workers could send; what a worker could
not use at once (less than a whole row) is credited to it, so that all workers get rows however slow the rate.

Times are seconds of the budget's clock. Requests and grants hold durations only, so that the clocks of workers may
differ. ``budget/lease.lua`` is the same arithmetic inside Redis; a test compares the two.
"""

from __future__ import annotations

import math

import msgspec

from .pacing import CONFIGURED_SHARE, DEBT, HEADER_SHARE, NEVER

__all__ = ["FORMAT", "PATIENCE", "RENEW", "SLICE", "SOONEST", "Grant", "LeaseRequest", "Quota", "ReportedRefusal"]

FORMAT = 2  # of requests, grants and what Redis stores; workers with another one are refused
SLICE = 0.2  # seconds that a lease is for
AHEAD = 0.05  # seconds beyond a slice that may be granted in all
IDLE = 0.02  # seconds ahead within which unleased capacity goes to any worker that requests it
RENEW = 0.75  # of a slice after which the next one is leased
EXPIRES = 1.0  # seconds without a lease after which a worker's share goes to the others
PATIENCE = 0.5  # seconds at most between the leases of a worker that has rows and was granted none
SOONEST = 0.1  # seconds at least between two leases
CYCLE = 260.0  # requests from a cut to past the rate that was refused
SHORT = 60.0  # the same after a cut to a rate that was measured, and not leased
FAST = 65.0  # requests a second above which a cycle takes as long as with this rate: refusals are reported with a delay
MARGIN = 0.03  # below the rate that was refused
START = 100.0  # requests a second of all workers together at first, where no limit is known
GROWTH = 2.0  # times the rate of accepted requests that may be sent then
PROVEN = 1000.0  # requests accepted without a refusal after which workers send as if there were no limit
LEAST = 10.0  # a second: the first rate after a refusal, where nothing is known
SPREAD = 0.3  # seconds after a cut in which requests are still sent at the former rate
RECENT = 0.5  # seconds over which the rate of requests is measured


class ReportedRefusal(msgspec.Struct, array_like=True):
    """A 429: the limit it is about (``"requests"``, ``"tokens"``), seconds since its request was sent, and the seconds
    left of the pause that the server requests."""

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
    """Rows that wait, or could be in flight; 0 for an idle worker."""
    tokens: float = 0.0
    """Tokens of these rows."""
    ms: float = SLICE * 1000
    left_requests: float = 0.0
    """What was granted and not used; negative for what was used beyond."""
    left_tokens: float = 0.0
    sent_requests: float = 0.0
    """What was sent since the last lease, and not refused."""
    sent_tokens: float = 0.0
    header_requests: float | None = None
    """The limit that the server states in header fields; `None` for none so far, 0 if it turned out to be wrong."""
    header_tokens: float | None = None
    refusals: list[ReportedRefusal] = msgspec.field(default_factory=list[ReportedRefusal])


class Grant(msgspec.Struct, kw_only=True):
    """What a worker may send: `requests` and `tokens`, evenly over `span` seconds that begin in `after` seconds."""

    error: str = ""
    """Why the worker may not take part: ``"format"``, ``"data"`` (not that of a quota), ``"limits"`` (with `rpm` and
    `tpm` of the others)."""
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
    """The worker's share of the rate, per second; `None` where there is no limit."""
    share_tokens: float | None = None
    rpm: float | None = None
    tpm: float | None = None


class _Rate:
    """A limit of the budget."""

    def __init__(self, now: float) -> None:
        self.configured: float | None = None  # per minute
        self.header: float | None = None
        self.base = NEVER  # the rate after the last refusal
        self.wall = 0.0  # the rate that was refused
        self.sent = 0.0  # accepted rows since the last cut
        self.cut = -NEVER
        self.due = now
        self.hold = -NEVER
        self.demand = 0.0  # of all workers
        self.recent = 0.0  # accepted, a sum that decays over `RECENT`
        self.recent_at = -NEVER
        self.began = now  # when the measurement did
        self.cycle = CYCLE
        self.other: _Rate | None = None
        """Of the limit on requests: that on tokens. While neither is known, the rate of requests starts slowly."""

    @property
    def is_unknown(self) -> bool:
        """Whether neither the user nor the server has told a limit, and nothing was refused."""
        return self.configured is None and self.header is None and self.base == NEVER

    def rate(self) -> float:
        """Return the rate per second. After a refusal it grows with the rows sent, as in `RefusalRate`.

        Before, where no limit is known, it follows the rate of accepted requests: many workers that all began with
        their slots full would send hundreds of requests that are refused before the first one reports it.
        """
        if self.other is not None and self.sent < PROVEN and self.is_unknown and self.other.is_unknown:
            return max(START, GROWTH * self.recent / RECENT)
        rate = NEVER if self.configured is None else self.configured / 60.0 * CONFIGURED_SHARE
        if self.header is not None:
            rate = min(rate, self.header * HEADER_SHARE)
        if self.base == NEVER:
            return rate
        done = self.sent / (self.cycle * max(1.0, self.base / FAST))
        gap = max(min(self.wall / self.base, 4.0) - 1.0, MARGIN)
        if done <= 1.0:
            return min(rate, self.base * (1.0 + gap * (1.0 + (2.0 * done - 1.0) ** 3)))
        grown = self.base * (1.0 + 2.0 * gap)
        # A rate that is not reached proves nothing.
        return min(rate, max(grown, min(grown * math.exp(min(20.0, 4.0 * (done - 1.0))), 2.0 * self.recent / RECENT)))

    def configure(self, per_minute: float | None) -> None:
        """Set the user's limit. Another one discards what was learned under the former."""
        if per_minute != self.configured:
            self.configured, self.header, self.base = per_minute, None, NEVER

    def report(self, now: float, cost: float, rows: float, left: float, header: float | None) -> None:
        """Take what a worker sent, what it returns, and the limit that the server states."""
        self.sent += rows
        self.recent = self.recent * math.exp((self.recent_at - now) / RECENT) + cost
        self.recent_at = now
        if header is not None:
            self.header = header if header > 0.0 else None
        rate = self.rate()
        if rate != NEVER:
            self.due -= left / rate

    def refused(self, now: float, age: float, pause: float) -> None:
        """Cut the rate, at most once until all workers send at the new one, and keep the server's pause."""
        self.hold = max(self.hold, now + pause)
        self.sent = max(0.0, self.sent - 1.0)
        if now - age <= self.cut + SPREAD:
            return
        rate = NEVER if self.is_unknown else self.rate()
        real = max(LEAST, self.recent / RECENT / max(0.1, 1.0 - math.exp((self.began - now) / RECENT)))
        self.cycle = CYCLE
        if rate == NEVER:
            rate, self.cycle = real, SHORT
            self.base = 0.7 * real  # of which a part came from what the server had saved up
        elif real < 0.7 * rate and self.recent > 3.0:
            rate, self.cycle = real, SHORT
            self.base = 0.95 * real
        elif self.base == NEVER:
            self.base = rate * (1.0 - MARGIN)  # perhaps the rest of a window that others have used
        else:
            self.base = rate * min(1.0 - MARGIN, max(0.7, 1.0 - 3.0 / (self.sent + 1.0)))
        self.wall, self.sent, self.cut = rate, 0.0, now

    def rescale(self, now: float, before: float) -> None:
        """Adjust the remaining wait to a change of the rate."""
        rate = self.rate()
        if self.due > now and rate != before:
            self.due = now if before == NEVER or rate == NEVER else now + (self.due - now) * before / rate

    def book(self, now: float, cost: float) -> None:
        """Grant this much."""
        rate = self.rate()
        if rate != NEVER:
            self.due = max(self.due, now - DEBT) + cost / rate

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set back."""
        self.due += seconds
        self.hold += seconds
        self.cut += seconds
        self.recent_at += seconds
        self.began += seconds
        self.demand = 0.0


class Quota:
    """The limits of one budget, and the workers that share them."""

    def __init__(self) -> None:
        self._rates: tuple[_Rate, _Rate] | None = None  # requests, tokens
        self._workers: dict[str, list[float]] = {}  # requests, tokens, credit, seen
        self._now = -NEVER

    def lease(self, now: float, request: LeaseRequest) -> Grant:
        """Return the grant for a worker. `now` is the budget's clock."""
        workers = self._workers
        if now < self._now and self._rates is not None:
            for rate in self._rates:
                rate.shift(now - self._now)
            workers.clear()
        self._now = now
        for name in [name for name, one in workers.items() if one[3] < now - EXPIRES]:
            self._forget(name)
        fresh = self._rates is None
        requests, tokens = self._rates = self._rates or (_Rate(now), _Rate(now))
        requests.other = tokens
        before = (requests.rate(), tokens.rate())
        if fresh or request.event == "change" or (request.event == "join" and not workers):
            requests.configure(request.rpm)
            tokens.configure(request.tpm)
        limits = (requests.configured, tokens.configured)
        if request.event == "join" and limits != (request.rpm, request.tpm):
            return Grant(error="limits", rpm=limits[0], tpm=limits[1])
        rows = request.sent_requests
        requests.report(now, rows, rows, request.left_requests, request.header_requests)
        tokens.report(now, request.sent_tokens, rows, request.left_tokens, request.header_tokens)
        for one in request.refusals:
            (tokens if one.kind == "tokens" else requests).refused(now, one.age, one.pause)
        requests.rescale(now, before[0])
        tokens.rescale(now, before[1])
        if request.event == "leave":
            self._forget(request.worker)
        if request.event in ("join", "leave"):
            shares = [None if rate.rate() == NEVER else rate.rate() / (len(workers) + 1) for rate in self._rates]
            return Grant(rpm=limits[0], tpm=limits[1], share_requests=shares[0], share_tokens=shares[1])
        worker = workers.setdefault(request.worker, [0.0, 0.0, 0.0, now])
        requests.demand += request.requests - worker[0]
        tokens.demand += request.tokens - worker[1]
        return self._divide(now, request, worker, requests, tokens)

    def _forget(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None and self._rates is not None:
            for rate, wanted in zip(self._rates, worker, strict=False):
                rate.demand = max(0.0, rate.demand - wanted) if self._workers else 0.0

    def _divide(self, now: float, request: LeaseRequest, worker: list[float], requests: _Rate, tokens: _Rate) -> Grant:
        """Grant whole rows: in proportion to what all workers request, or unleased capacity, within the limits."""
        span = min(max(request.ms / 1000.0, 0.1), 0.25)
        hold = max(0.0, requests.hold - now, tokens.hold - now)
        grant = Grant(span=span, hold=hold, rpm=requests.configured, tpm=tokens.configured)
        rows = math.floor(request.requests)
        if rows and request.left_requests <= 0.0:  # it used up its slice: perhaps rows take less time than a slice
            rows = max(rows, math.floor(2.0 * request.sent_requests))
        share, room, idle, after, slowest = NEVER, NEVER, NEVER, hold, 0.0
        each = request.tokens / request.requests if request.requests > 0 else 0.0
        for rate, wanted, cost in ((requests, request.requests, 1.0), (tokens, request.tokens, each)):
            per_second = rate.rate()
            if per_second == NEVER:
                continue
            portion = per_second * (wanted / rate.demand if rate.demand > 0 else 0.0)
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
                slowest = max(slowest, cost / per_second)
        credit = 0.0
        if share != NEVER:
            # A worker's share leaves `credit` for later: at most a row, or twice what one slice is worth. Unleased
            # capacity that it took is a debt, within the same bounds.
            credit = min(worker[2] + share * (now - worker[3]), max(1.0, 2.0 * share * span))
            fits = min(room, max(credit + share * span, idle), rows if hold <= span else 0.0)
            rows = max(0, math.floor(fits + 1e-9))
            credit = max(credit - rows, -max(1.0, 2.0 * share * span))
        worker[:] = [request.requests, request.tokens, credit, now]
        if rows:
            requests.book(now, float(rows))
            tokens.book(now, rows * each)
            grant.again = RENEW * span
            grant.span = max(span, rows * slowest)
        elif request.requests > 0 and share > 0:
            missing = 1.0 - credit - share * span
            grant.again = min(PATIENCE, max(SOONEST, hold, after - span, missing / share))
        grant.after = after
        grant.requests = None if grant.share_requests is None else float(rows)
        grant.tokens = None if grant.share_tokens is None else rows * each
        return grant
