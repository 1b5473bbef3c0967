"""A worker's share of a budget: pacers that send what was granted, evenly, and reports of what the budget has to know.

While the budget cannot be reached, the pacers send `ALONE` of the last share, by their own clock.
"""

from __future__ import annotations

import math

from .pacing import DEBT, NEVER, Pacer
from .shared_quota import PATIENCE, SOONEST, Grant, LeaseRequest, ReportedRefusal

__all__ = ["LeasedPacer", "Share"]

MEAN_TOKENS = 200.0  # of a row, before any was booked
ALONE = 0.8  # of its last share that a worker sends while it cannot reach the budget
KEPT = 0.35  # of a slice that is kept until the next one is granted
REFUSALS = 100  # that are reported at once


class LeasedPacer(Pacer):
    """A limit of which slices are leased; without the budget, a pacer with a part of the worker's last share."""

    __slots__ = ("_begins", "_granted", "_left", "_sent", "_slice_rate", "leased", "mean")

    def __init__(self) -> None:
        super().__init__()
        self.leased: bool = True
        """Whether the budget can be reached."""
        self.mean: float = 0.0
        """The cost of a row, a moving mean."""
        self._left = 0.0
        self._granted = 0.0  # with the last slice
        self._begins = -NEVER  # when the next row is due
        self._slice_rate = NEVER
        self._sent = 0.0  # since the last lease

    @property
    def counts(self) -> bool:
        return True

    @property
    def due(self) -> float:
        """When the next request may be sent; ``inf`` where a slice has to be leased first."""
        if not self.leased:
            return super().due
        return NEVER if self._left <= 1e-9 else max(self._hold, self._begins)

    def take_sent(self) -> float:
        """Return what was sent since the last lease, and count from 0."""
        sent, self._sent = self._sent, 0.0
        return sent

    def give_back(self, wanted: float) -> float:
        """Return what the budget gets back before the next slice: all but what the rest of this one may take.

        It is negative where more was used than granted: rows that cost more than was booked.
        """
        left = self._left if self.leased and self._left != NEVER else 0.0
        keep = min(max(0.0, left), KEPT * self._granted + self.mean, wanted)
        if self.leased and self._left != NEVER:
            self._left = keep
        return left - keep

    def count_refused(self, cost: float) -> None:
        """Note that a request was refused. Without a limit so far, wait for the one of the next slice."""
        self._sent -= cost
        if self._left == NEVER:
            self._left = 0.0

    def granted(self, now: float, amount: float | None, after: float, span: float) -> None:
        """Take a slice of this amount, evenly over `span` seconds that begin in `after`; `None` is no limit."""
        if not self.leased:
            self.leased, self._left, self._begins = True, 0.0, -NEVER
        if amount is None:
            self._left, self._slice_rate, self._begins = NEVER, NEVER, -NEVER
            return
        self._left = amount + (0.0 if self._left == NEVER else self._left)
        self._granted = amount
        if amount:
            self._begins = max(self._begins, now + after)
        # The next slice is leased before the end of this one: what is left of this one is sent within the next, too.
        self._slice_rate = max(self._left, 1e-9) / max(now + after + span - self._begins, 0.5 * span)

    def detach(self, share: float | None) -> None:
        """Continue without the budget, at this rate per second."""
        self.leased, self._left = False, 0.0
        self.configured: float = NEVER if share is None else max(share, 1e-6)

    def book(self, now: float, cost: float) -> None:
        self.mean = cost if not self.mean else self.mean + 0.1 * (cost - self.mean)
        self._sent += cost
        if not self.leased:
            super().book(now, cost)
        elif self._left != NEVER:
            self._left -= cost
            self._begins = max(self._begins, now - DEBT) + cost / self._slice_rate

    def correct(self, booked: float, cost: float) -> None:
        self._sent += cost - booked
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
        """Whether the budget answered the last time."""
        self._leased_at = -NEVER
        self._again_at = -NEVER
        self._shares: tuple[float | None, float | None] = (None, None)
        self._headers: list[float | None] = [None, None]
        self._refusals: list[tuple[str, float, float]] = []
        self._changing = False
        self.prepare(rpm, tpm)

    @property
    def due(self) -> float:
        """When the next request may be sent; ``inf`` where a slice has to be leased first."""
        return max(self.requests.due, self.tokens.due)

    @property
    def lease_at(self) -> float:
        """When the next slice is to be leased, if there are rows: earlier where there is a refusal to report."""
        soonest = self._leased_at + SOONEST
        return soonest if self._refusals or self._changing else max(self._again_at, soonest)

    def prepare(self, rpm: float | None, tpm: float | None) -> None:
        """Set the limits to join with."""
        self.rpm, self.tpm = rpm, tpm
        for pacer, per_minute in ((self.requests, rpm), (self.tokens, tpm)):
            pacer.configured = NEVER if per_minute is None else per_minute / 60.0

    def change(self, rpm: float | None, tpm: float | None) -> None:
        """Change the limits of the budget, for all workers."""
        if (rpm, tpm) == (self.rpm, self.tpm):
            return
        if not self.reached:
            for pacer, old, new in ((self.requests, self.rpm, rpm), (self.tokens, self.tpm, tpm)):
                if old and new:
                    pacer.configured *= new / old
        self.rpm, self.tpm, self._changing = rpm, tpm, True

    def joined(self, grant: Grant) -> None:
        """Take the first answer of the budget."""
        self._changing = False
        self._shares = (grant.share_requests, grant.share_tokens)

    def refused(self, now: float, kind: str, sent_at: float, pause: float | None) -> None:
        """Note a 429, which slows all workers. `pause` is that of the server, in seconds."""
        if len(self._refusals) < REFUSALS:
            self._refusals.append((kind, sent_at, now + (pause or 0.0)))
        pacer = self.tokens if kind == "tokens" else self.requests
        if not self.reached:
            pacer.refused(now, sent_at, pacer.mean or 1.0, pause)
            return
        if pacer is self.requests:
            pacer.count_refused(1.0)
        if pause:
            pacer.hold(now + pause)

    def header_limits(self, requests: float, tokens: float) -> None:
        """Note the limits per second that the server states in header fields; ``inf`` for none."""
        for index, limit in enumerate((requests, tokens)):
            if limit != NEVER:
                self._headers[index] = limit
            elif self._headers[index] is not None:
                self._headers[index] = 0.0

    def request(self, now: float, rows: float) -> LeaseRequest:
        """Return the request for the next slice. `rows` is how many rows wait, or could be in flight."""
        sent = self.requests.take_sent(), self.tokens.take_sent()
        rows = float(math.ceil(rows))
        each = self.tokens.mean or MEAN_TOKENS
        left = self.requests.give_back(rows), self.tokens.give_back(rows * each)
        self._leased_at = now
        return LeaseRequest(
            worker=self.worker,
            event="change" if self._changing else "",
            rpm=self.rpm,
            tpm=self.tpm,
            requests=rows,
            tokens=rows * each,
            left_requests=left[0],
            left_tokens=left[1],
            sent_requests=max(0.0, sent[0]),
            sent_tokens=max(0.0, sent[1]),
            header_requests=self._headers[0],
            header_tokens=self._headers[1],
            refusals=[
                ReportedRefusal(kind, now - sent_at, max(0.0, until - now)) for kind, sent_at, until in self._refusals
            ],
        )

    def granted(self, now: float, request: LeaseRequest, grant: Grant) -> None:
        """Take the answer of the budget to `request`."""
        del self._refusals[: len(request.refusals)]
        if request.event == "change":
            self._changing = (request.rpm, request.tpm) != (self.rpm, self.tpm)
        elif not self._changing:
            self.rpm, self.tpm = grant.rpm, grant.tpm
        self.reached = True
        self.prepare(self.rpm, self.tpm)
        if request.requests > 0:
            self._shares = (grant.share_requests, grant.share_tokens)
        self._again_at = now + grant.again if request.requests > 0 else now
        for pacer, amount in ((self.requests, grant.requests), (self.tokens, grant.tokens)):
            pacer.granted(now, amount, grant.after, grant.span)
            if grant.hold > 0.0:
                pacer.hold(now + grant.hold)

    def lost(self, now: float) -> bool:
        """Continue without the budget, at a part of the last share. Return whether it could be reached before."""
        new, self.reached = self.reached, False
        self._again_at = now + PATIENCE
        if new:
            for pacer, share in zip((self.requests, self.tokens), self._shares, strict=True):
                pacer.detach(None if share is None else ALONE * share)
        return new

    def left(self) -> LeaseRequest:
        """Return the request that gives the whole share back."""
        request = self.request(self._leased_at, 0.0)
        request.event = "leave"
        return request
