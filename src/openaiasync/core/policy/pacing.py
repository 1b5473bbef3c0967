"""Pacing: when the next request may be sent under a limit on requests or tokens per minute.

A limit is kept in virtual time (the generic cell rate algorithm): every request advances `due` by its cost divided by
the rate, and may be sent once `due` has passed. A timer that fires late loses nothing up to `DEBT`: that much of the
past may be made up for.

The rate is the smallest of three: the user's limit, the one in the server's ``x-ratelimit-*`` fields (`HeaderRate`),
and the one found from refusals (`RefusalRate`). Pure: times are arguments, in seconds by any monotonic clock.
"""

from __future__ import annotations

import math

__all__ = ["HeaderRate", "Meter", "Pacer", "RefusalRate"]

DEBT = 0.08  # seconds that may be made up for
# the used share of the user's limit: clocks differ, and the end of a window is never known exactly
CONFIGURED_SHARE = 0.997
HEADER_SHARE = 0.985  # the used share of a limit in header fields
NEVER = math.inf


class Meter:
    """Measures events per second over about the last `period` seconds: a decaying sum, corrected for a short past."""

    __slots__ = ("_at", "_began", "_sum", "period")

    def __init__(self, period: float) -> None:
        self.period: float = period
        self._sum = 0.0
        self._at = self._began = -NEVER

    def add(self, now: float, amount: float = 1.0) -> None:
        """Count events at this time."""
        if self._at == -NEVER:
            self._began = self._at = now
        elif now > self._at:
            self._sum *= math.exp((self._at - now) / self.period)
            self._at = now
        self._sum += amount

    def rate(self, now: float) -> float:
        """Return the events per second; 0.0 before the first one."""
        if self._at == -NEVER:
            return 0.0
        decayed = self._sum * math.exp((self._at - now) / self.period)
        known = 1.0 - math.exp((self._began - now) / self.period)
        return decayed / (self.period * max(known, 0.02))


class RefusalRate:
    """The rate that a server accepts, found from its 429s alone.

    A refusal shows that one of the `n` requests since the last cut was too many, so a long time without a refusal means
    a small excess; the rate is cut accordingly. Then it grows in proportion to requests sent, not to time: up to the
    refused rate at first, slowly beyond it, and fast once it is clear that the limit no longer applies. So a slow and a
    fast limit cost the same number of refusals per thousand requests.
    """

    __slots__ = (
        "_accepted", "_base", "_ceiling", "_closed", "_closed_at", "_cut_at", "_cycle", "_opened_at", "_pause",
        "_recent", "_sent", "_wall", "refusals",
    )  # fmt: skip

    CYCLE = 260.0  # requests from a cut until the rate exceeds the refused one
    SHORT = 60.0  # the same after a cut that was a guess
    MARGIN = 0.03  # share of the refused rate by which a cut goes below it
    LOWEST = 0.5  # requests per second while nothing is accepted
    REMEMBERED = 150.0  # seconds without a refusal after which a ceiling is forgotten
    CLOSED = 1.5  # seconds without an accepted request that indicate an exhausted window rather than an excessive rate

    def __init__(self) -> None:
        self._base = NEVER  # the rate after the last cut
        self._wall = NEVER  # the rate that was refused
        self._sent = 0.0  # requests since the last cut
        self._cut_at = -NEVER
        self._pause = 0.0  # the pause in seconds that the server asks for after a refusal
        self._cycle = self.CYCLE
        self._ceiling = NEVER  # the average rate of a server that closes for periods, plus a little
        self._recent = Meter(0.5)
        self._closed = 0  # consecutive cuts without an accepted request between them
        self._closed_at = 0.0  # the time of the first of them
        self._opened_at = NEVER  # when the server accepted requests again; initially the time of the first request
        self._accepted = 0.0  # requests accepted since then
        self.refusals: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the rate is known approximately."""
        return self._base != NEVER and self._cycle == self.CYCLE

    def forget(self) -> None:
        """Discard the found rate, because the refusals had another cause."""
        self._base = self._wall = self._ceiling = NEVER
        self._closed = 0

    def sent(self, now: float, cost: float) -> None:
        """Note that a request is sent."""
        self._recent.add(now, cost)
        # A rate that is not reached proves nothing.
        if self._base == NEVER or self._recent.rate(now) > 0.5 * self.rate():
            self._sent += 1.0
        if self._opened_at == NEVER:
            self._opened_at = now
        if now - self._cut_at > self.REMEMBERED:
            self._ceiling = NEVER

    def accepted(self, now: float, cost: float) -> None:
        """Note that a request was answered."""
        if self._closed >= 3 and now - self._closed_at > self.CLOSED:
            # The server was closed for a period: continue at its average rate from one opening to the next.
            mean = self._accepted / max(now - self._opened_at, 1e-9)
            self._base = max(self._base, mean)
            self._wall = self._base / (1.0 - self.MARGIN)
            self._ceiling, self._cycle = 1.05 * self._base, self.CYCLE
            self._opened_at, self._accepted, self._sent = now, 0.0, 0.0
        self._closed = 0
        self._accepted += cost

    def refused(self, now: float, sent_at: float, unit: float, retry_after: float | None) -> float:
        """Note that a request of cost `unit` was answered with 429; return when the next one may be sent."""
        self.refusals += 1
        unit = max(unit, 1.0)
        self._sent = max(0.0, self._sent - 1.0)
        requested = retry_after or 0.0
        self._pause = max(requested, 0.9 * self._pause)
        if sent_at <= self._cut_at:
            return now + requested  # it was sent before the last cut
        if not self._closed:
            self._closed_at = now
        self._closed += 1
        if self._base == NEVER:
            # All that is known is that the rate was too high; a pause lets the requests in flight end first.
            self._wall = self._recent.rate(now)
            self._base = 0.25 * self._wall
            self._cycle = self.SHORT
            pause = 0.1
        else:
            rate, real = self.rate(), self._recent.rate(now)
            if 3.0 * unit < self._recent.period * real and real < 0.3 * rate:
                rate = real  # the rate was not fully used
            self._wall = rate
            least = 0.7 if self._closed == 1 else 0.4
            share = max(least, min(1.0 - self.MARGIN, 1.0 - 3.0 / (self._sent + 1.0)))
            self._base = rate * share
            self._cycle = self.CYCLE if share > 0.72 else self.SHORT
            pause = 0.0
        self._base = max(self.LOWEST * unit, self._base)
        self._wall = max(self._wall, self._base)
        self._sent = 0.0
        self._cut_at = now
        return now + max(requested, pause, unit / self._base)

    def rate(self) -> float:
        """Return the current rate per second; ``inf`` before the first refusal."""
        base = self._base
        if base == NEVER:
            return NEVER
        done = self._sent / max(self._cycle, 40.0 * min(self._pause, self.CLOSED) * base)
        # Flat near the old limit, like TCP CUBIC (RFC 9438) but in requests instead of seconds; then ever faster.
        gap = max(min(self._wall / base, 4.0) - 1.0, self.MARGIN)
        if done <= 1.0:
            found = base * (1.0 + gap * (1.0 + (2.0 * done - 1.0) ** 3))
        else:
            found = base * (1.0 + 2.0 * gap) * math.exp(min(20.0, 4.0 * (done - 1.0)))
        return min(found, self._ceiling)


class HeaderRate:
    """The rate that ``x-ratelimit-limit/remaining/reset`` describe, for windows of any length.

    OpenAI, Azure and Groq describe a bucket that fills steadily: the missing amount, divided by the time until the
    bucket is full, is the rate, also for a daily limit. Gateways describe windows that start over: there the end of the
    window stays fixed. If neither is recognised, the limit is taken as one per minute.
    """

    __slots__ = ("_accepted", "_ends", "_seen", "_since", "_windows", "limit", "rate", "trusted", "window")

    WINDOWS = (1.0, 10.0, 60.0, 3600.0, 86400.0)

    def __init__(self) -> None:
        self.limit: float = NEVER
        self.window: float = 60.0
        self.rate: float = NEVER
        """Units per second; ``inf`` without plausible fields."""
        self.trusted: bool = True
        self._seen = 0
        self._ends = NEVER
        self._windows = 0
        self._accepted = 0.0
        self._since = -NEVER

    def see(
        self,
        now: float,
        limit: float | None,
        remaining: float | None,
        reset: float | None,
        window: float | None = None,
    ) -> None:
        """Learn from the fields of one answer, ignoring implausible ones. `window` is the limit's window, if given."""
        if limit is None or not 0 < limit < 1e15 or not self.trusted:
            return
        if remaining is not None and remaining > limit:
            return
        if limit != self.limit:
            self.limit, self._seen, self._accepted, self._since = limit, 0, 0.0, now
        self._seen += 1
        if window is not None:
            self.window = window
        elif remaining is not None and reset is not None and 0 < reset <= 32 * 86400.0:
            self._see_window(now, limit, remaining, reset)
        self.rate = limit / self.window

    def _see_window(self, now: float, limit: float, remaining: float, reset: float) -> None:
        missing = limit - remaining
        ends = now + reset
        fixed = abs(ends - self._ends) < 0.02 * self.window + 1.1
        self._ends = ends
        if reset > 1.1 * self.window:
            self.window = next((one for one in self.WINDOWS if reset <= 1.1 * one), reset)
        elif missing >= 2 and reset > 0.5:
            # A bucket: the time until it is full is proportional to the missing amount.
            found = limit * reset / missing
            near = next((one for one in self.WINDOWS if abs(found / one - 1.0) < 0.2), None)
            if near is not None and near != self.window and not fixed:
                self._windows += 1
                if self._windows >= 5:
                    self.window, self._windows = near, 0
            else:
                self._windows = 0

    def accepted(self, now: float, cost: float) -> None:
        """Note that a request was answered: a learned limit that answers exceed by far is dropped."""
        if self.rate == NEVER or not self.trusted:
            return
        self._accepted += cost
        if self._accepted > 2.0 * self.limit + 50.0 * cost and self._accepted > 3.0 * self.rate * (
            now - self._since + self.window
        ):
            self.trusted, self.rate = False, NEVER


class Pacer:
    """One limit, on requests or on tokens."""

    __slots__ = ("_booked", "_credit", "_hold", "_rate", "configured", "found", "headers")

    def __init__(self, per_minute: float | None = None) -> None:
        self.configured: float = NEVER if per_minute is None else per_minute / 60.0
        """The user's limit per second; may be set at any time."""
        self.headers: HeaderRate = HeaderRate()
        self.found: RefusalRate = RefusalRate()
        self._booked = -NEVER  # the time at which all booked requests are paid for
        self._hold = -NEVER  # the time at which the server accepts requests again
        self._credit = 0.0
        self._rate = NEVER

    @property
    def counts(self) -> bool:
        """Whether the user told a limit, so that requests have to be booked."""
        return self.configured != NEVER

    @property
    def held(self) -> float:
        """The end of the pause that the server asked for."""
        return self._hold

    @property
    def due(self) -> float:
        """When the next request may be sent."""
        return max(self._hold, self._booked)

    @property
    def limit(self) -> float:
        """The limit per second, given or learned; ``inf`` if none is known."""
        return min(self.configured, self.headers.rate, self.found.rate())

    def rate(self) -> float:
        """Return the maximum rate per second."""
        return min(self.configured * CONFIGURED_SHARE, self.headers.rate * HEADER_SHARE, self.found.rate())

    def book(self, now: float, cost: float) -> None:
        """Note that a request of this cost is sent."""
        self.found.sent(now, cost)
        rate = self.rate()
        if rate == NEVER:
            return
        used = min(self._credit, cost)
        self._credit -= used
        self._rescale(now, rate)
        self._booked = max(self.due, now - DEBT) + (cost - used) / rate

    def _rescale(self, now: float, rate: float) -> None:
        """Adjust the remaining wait to a change of the rate."""
        if rate != self._rate:
            if self._booked > now and self._rate != NEVER:
                self._booked = now + (self._booked - now) * self._rate / rate
            self._rate = rate

    def answered(self, now: float, booked: float, cost: float) -> None:
        """Note that a request was answered: replace its booked cost with the real one."""
        self.found.accepted(now, cost)
        self.headers.accepted(now, cost)
        self.correct(booked, cost)

    def correct(self, booked: float, cost: float) -> None:
        """Replace a booked cost with the real one."""
        rate = self._rate
        if rate == NEVER or booked == cost:
            return
        if cost > booked:
            self._booked += (cost - booked) / rate
        else:
            # Kept apart from `due`, which forgets times before the debt. At most one large row.
            self._credit = min(self._credit + booked - cost, max(booked, DEBT * rate))

    def refused(self, now: float, sent_at: float, booked: float, retry_after: float | None) -> None:
        """Note that a request was answered with 429 because of this limit."""
        self.hold(self.found.refused(now, sent_at, booked, retry_after))
        self._rescale(now, self.rate())
        self._booked = min(self._booked, now)
        self._credit = 0.0

    def changed(self, now: float) -> None:
        """Apply a rate that was set or learned since the last request."""
        rate = self.rate()
        if rate != self._rate:
            self._rescale(now, rate)
            self._booked = -NEVER if rate == NEVER else max(self._booked, now - DEBT)

    def hold(self, until: float) -> None:
        """Hold all requests until this time."""
        self._hold = max(self._hold, until)
