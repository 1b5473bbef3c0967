"""Pacing: when the next request may be sent under a limit on requests or tokens a minute, told, learned or found.

A limit is kept in virtual time (the generic cell rate algorithm): every request moves `due` on by its cost divided by
the rate, and may be sent once `due` has passed. A timer that fires late loses nothing as long as it is not later than
`DEBT`: that much of the past may be made up for.

The rate is the least of three: what the user told, what the server's ``x-ratelimit-*`` fields say (`HeaderRate`), and
what was found out from refusals (`RefusalRate`). Pure: times come in as numbers of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math

__all__ = ["HeaderRate", "Meter", "Pacer", "RefusalRate"]

DEBT = 0.08  # seconds that may be made up for
CONFIGURED_SHARE = 0.997  # of a limit that the user told: clocks differ, and a window's end is never seen exactly
HEADER_SHARE = 0.985  # of a limit that the server told
NEVER = math.inf


class Meter:
    """Events a second over about the last `period` seconds: a sum that decays, corrected for a short past."""

    __slots__ = ("_at", "_began", "_sum", "period")

    def __init__(self, period: float) -> None:
        self.period: float = period
        self._sum = 0.0
        self._at = self._began = -NEVER

    def add(self, now: float, amount: float = 1.0) -> None:
        """Count so many events that happen now."""
        if self._at == -NEVER:
            self._began = self._at = now
        elif now > self._at:
            self._sum *= math.exp((self._at - now) / self.period)
            self._at = now
        self._sum += amount

    def rate(self, now: float) -> float:
        """Return events a second; 0.0 before the first one."""
        if self._at == -NEVER:
            return 0.0
        decayed = self._sum * math.exp((self._at - now) / self.period)
        known = 1.0 - math.exp((self._began - now) / self.period)
        return decayed / (self.period * max(known, 0.02))


class RefusalRate:
    """The rate that a server takes, found from its 429s alone.

    After a refusal the rate is cut by what the refusal tells: of `n` requests since the last cut one was too many, so
    that a long time without one means a small excess. Then the rate grows in proportion to requests sent, not to time:
    up to the refused rate at first, slowly past it, and fast once it is clear that the limit is not there any more. So
    a slow and a fast limit cost the same number of refusals for a thousand requests.
    """

    __slots__ = (
        "_accepted", "_base", "_ceiling", "_closed", "_closed_at", "_cut_at", "_cycle", "_opened_at", "_pause",
        "_recent", "_sent", "_wall", "refusals",
    )  # fmt: skip

    CYCLE = 260.0  # requests from one cut to past the refused rate
    SHORT = 60.0  # the same after a cut that was a guess
    MARGIN = 0.03  # below the refused rate after a cut
    LOWEST = 0.5  # requests a second while nothing is accepted
    REMEMBERED = 150.0  # seconds without a refusal after which a ceiling is forgotten
    CLOSED = 1.5  # seconds without anything accepted that show a window's end, and not a rate that is too high

    def __init__(self) -> None:
        self._base = NEVER  # the rate after the last cut
        self._wall = NEVER  # the rate that was refused
        self._sent = 0.0  # requests since the last cut
        self._cut_at = -NEVER
        self._pause = 0.0  # seconds that the server asks for after a refusal
        self._cycle = self.CYCLE
        self._ceiling = NEVER  # what a server that closes takes on average, and a little more
        self._recent = Meter(0.5)
        self._closed = 0  # cuts one after the other with nothing accepted between
        self._closed_at = 0.0  # when the first of them was made
        self._opened_at = NEVER  # when the server took requests again; at first when the first was sent
        self._accepted = 0.0  # since then
        self.refusals: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the rate is known but for a little."""
        return self._base != NEVER and self._cycle == self.CYCLE

    def forget(self) -> None:
        """Take back what was found: refusals had another cause."""
        self._base = self._wall = self._ceiling = NEVER
        self._closed = 0

    def sent(self, now: float, cost: float) -> None:
        """Note that a request is sent."""
        self._recent.add(now, cost)
        # A rate that is not used proves nothing.
        if self._base == NEVER or self._recent.rate(now) > 0.5 * self.rate():
            self._sent += 1.0
        if self._opened_at == NEVER:
            self._opened_at = now
        if now - self._cut_at > self.REMEMBERED:
            self._ceiling = NEVER

    def accepted(self, now: float, cost: float) -> None:
        """Note that a request was answered."""
        if self._closed >= 3 and now - self._closed_at > self.CLOSED:
            # The server was closed for a while: what it took from one opening to the next is the rate to go on with.
            mean = self._accepted / max(now - self._opened_at, 1e-9)
            self._base = max(self._base, mean)
            self._wall = self._base / (1.0 - self.MARGIN)
            self._ceiling, self._cycle = 1.05 * self._base, self.CYCLE
            self._opened_at, self._accepted, self._sent = now, 0.0, 0.0
        self._closed = 0
        self._accepted += cost

    def refused(self, now: float, sent_at: float, unit: float, retry_after: float | None) -> float:
        """A request that cost `unit` was answered with 429; return when the next one may be sent."""
        self.refusals += 1
        unit = max(unit, 1.0)
        self._sent = max(0.0, self._sent - 1.0)
        requested = retry_after or 0.0
        self._pause = max(requested, 0.9 * self._pause)
        if sent_at <= self._cut_at:
            return now + requested  # it was sent before the last cut, which it could not know of
        if not self._closed:
            self._closed_at = now
        self._closed += 1
        if self._base == NEVER:
            # Nothing is known but that this was too much; a pause lets what is on its way come back first.
            self._wall = self._recent.rate(now)
            self._base = 0.25 * self._wall
            self._cycle = self.SHORT
            pause = 0.1
        else:
            rate, real = self.rate(), self._recent.rate(now)
            if 3.0 * unit < self._recent.period * real and real < 0.3 * rate:
                rate = real  # more could have been sent, and was not
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
        """Return the rate that may be sent now, per second; ``inf`` before the first refusal."""
        base = self._base
        if base == NEVER:
            return NEVER
        done = self._sent / max(self._cycle, 40.0 * min(self._pause, self.CLOSED) * base)
        # Flat where the limit was, as TCP CUBIC (RFC 9438), in requests instead of seconds; then ever faster.
        gap = max(min(self._wall / base, 4.0) - 1.0, self.MARGIN)
        if done <= 1.0:
            found = base * (1.0 + gap * (1.0 + (2.0 * done - 1.0) ** 3))
        else:
            found = base * (1.0 + 2.0 * gap) * math.exp(min(20.0, 4.0 * (done - 1.0)))
        return min(found, self._ceiling)


class HeaderRate:
    """The rate that ``x-ratelimit-limit/remaining/reset`` describe, whatever window they are meant for.

    OpenAI, Azure and Groq describe a bucket that fills steadily: what is missing, divided by the time until nothing is
    missing, is the rate (so a limit a day reads as what it is). Gateways describe windows that start afresh: there the
    end of the window stays where it is. Where neither shows, the limit is one a minute.
    """

    __slots__ = ("_accepted", "_bucket", "_ends", "_seen", "_since", "_windows", "limit", "rate", "trusted", "window")

    WINDOWS = (1.0, 10.0, 60.0, 3600.0, 86400.0)

    def __init__(self) -> None:
        self.limit: float = NEVER
        self.window: float = 60.0
        self.rate: float = NEVER
        """Units a second; ``inf`` where the server says nothing that makes sense."""
        self.trusted: bool = True
        self._seen = 0
        self._bucket = 0.0  # how well the fields fit a bucket
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
        """Take the fields of one answer; nonsense is ignored. `window` is what the limit is for, where that is told."""
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
            # A bucket: the time until it is full is in proportion to what is missing.
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
        """The rate that the user told, per second; may be set at any time."""
        self.headers: HeaderRate = HeaderRate()
        self.found: RefusalRate = RefusalRate()
        self._booked = -NEVER  # when all that was booked has passed
        self._hold = -NEVER  # when the server takes requests again
        self._credit = 0.0
        self._rate = NEVER

    @property
    def held(self) -> float:
        """Until when the server has asked for a pause."""
        return self._hold

    @property
    def due(self) -> float:
        """When the next request may be sent."""
        return max(self._hold, self._booked)

    @property
    def limit(self) -> float:
        """The limit a second that is told or learned; ``inf`` where none is known."""
        return min(self.configured, self.headers.rate, self.found.rate())

    def rate(self) -> float:
        """Return the rate that is sent at most, per second."""
        return min(self.configured * CONFIGURED_SHARE, self.headers.rate * HEADER_SHARE, self.found.rate())

    def book(self, now: float, cost: float) -> None:
        """Note that a request is sent that costs so many units."""
        self.found.sent(now, cost)
        rate = self.rate()
        if rate == NEVER:
            return
        used = min(self._credit, cost)
        self._credit -= used
        self._rescale(now, rate)
        self._booked = max(self.due, now - DEBT) + (cost - used) / rate

    def _rescale(self, now: float, rate: float) -> None:
        """Have what is still to be waited for follow a change of the rate."""
        if rate != self._rate:
            if self._booked > now and self._rate != NEVER:
                self._booked = now + (self._booked - now) * self._rate / rate
            self._rate = rate

    def answered(self, now: float, booked: float, cost: float) -> None:
        """A request was answered: replace what was booked for it by what it did cost."""
        self.found.accepted(now, cost)
        self.headers.accepted(now, cost)
        self.correct(booked, cost)

    def correct(self, booked: float, cost: float) -> None:
        """Replace what was booked by what it did cost."""
        rate = self._rate
        if rate == NEVER or booked == cost:
            return
        if cost > booked:
            self._booked += (cost - booked) / rate
        else:
            # Kept apart from `due`, which forgets what lies further back than the debt. One large row at most.
            self._credit = min(self._credit + booked - cost, max(booked, DEBT * rate))

    def refused(self, now: float, sent_at: float, booked: float, retry_after: float | None) -> None:
        """A request was answered with 429 because of this limit."""
        self.hold(self.found.refused(now, sent_at, booked, retry_after))
        self._rescale(now, self.rate())
        self._booked = min(self._booked, now)
        self._credit = 0.0

    def changed(self, now: float) -> None:
        """Apply a rate that was told or learned since the last request."""
        rate = self.rate()
        if rate != self._rate:
            self._rescale(now, rate)
            self._booked = -NEVER if rate == NEVER else max(self._booked, now - DEBT)

    def hold(self, until: float) -> None:
        """Let nothing be sent before `until`."""
        self._hold = max(self._hold, until)
