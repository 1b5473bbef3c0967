"""The number of requests in flight at a server: the smallest that reaches its full throughput.

Servers for language models queue requests that they cannot process yet: beyond the knee of the throughput curve more
requests in flight make every answer slower and none faster. So the limit grows only while the finished tokens per
second grow with it. Pure: no clock.

The measured quantity is the stretch, the seconds in flight per token. By Little's law it is the number in flight
divided by the throughput: below the knee it does not depend on the limit, beyond it grows in proportion. At the start
the limit ramps up until the stretch grows, and returns to the knee computed from it. Afterwards steps up and down are
tried: a step up is kept if a quarter of its growth is gained as throughput, a step down if less than a tenth of it is
lost. Rows are sampled in the order in which they were sent, since by completion the short ones would be
over-represented.
"""

from __future__ import annotations

import math

__all__ = ["Concurrency", "Sample"]

FIRST = 4  # in flight at the start
BLIND = 32  # in flight at most before the first answer
DOUBLING = 0.25  # seconds, at least
ROWS = 60  # the minimum number of rows by which a level is judged
SMALLEST = 16  # the largest number in flight of the ramp's first sample
NEVER = math.inf


class Sample:
    """Consecutively sent rows with a similar number in flight, and their durations."""

    __slots__ = ("beside", "finished", "seconds", "sent", "size", "work")

    def __init__(self, size: int) -> None:
        self.size: int = size
        """The number of rows in the sample."""
        self.sent: int = 0
        self.finished: int = 0
        self.beside: int = 0
        """The sum, over finished rows, of the number in flight when each was sent."""
        self.seconds: float = 0.0
        self.work: float = 0.0

    def add(self, seconds: float, work: float, beside: int) -> None:
        """Add the answer to one of its rows."""
        self.finished += 1
        self.beside += beside
        self.seconds += seconds
        self.work += work

    def drop(self) -> None:
        """Remove a row that was not answered."""
        self.sent -= 1
        self.size -= 1

    def is_known(self, share: float) -> bool:
        """Whether that share of the rows has finished."""
        return self.sent >= self.size and self.finished > 0 and self.finished >= share * self.size

    @property
    def stretch(self) -> float:
        """Seconds in flight for each token."""
        return self.seconds / max(self.work, 1e-9)


class Concurrency:
    """The limit on requests in flight at one server. `fixed` is the user's limit; `None` finds the number.

    `most` bounds the number that is found.
    """

    GAIN = 1.08  # factor on the computed knee: a short queue hides the time between an answer and the next request
    STRETCHED = 1.2  # the ramp ends at this multiple of the unloaded stretch
    NEAR = 1.08  # the ramp slows down from this multiple of the unloaded stretch
    STEP = 1.25  # the factor of a step up or down
    STEEP = 0.25  # the share of a step's growth that must be gained as throughput
    FLAT = 0.1  # the share of a step down that may be lost as throughput
    STEEPER = 0.7  # from this gain on, the next step up doubles the limit
    LONGEST = 16  # the maximum number of levels between two tries of a step

    def __init__(self, fixed: int | None = None, most: int = 4096) -> None:
        self.fixed: int | None = fixed
        self.most: int = most
        self.limit: float = float(min(FIRST, most))
        self.ramping: bool = True
        self._began: float | None = None
        self._answers = 0
        self._unloaded = 0.0  # the stretch of rows sent with few in flight
        self._ramp: list[Sample] = []  # the first with up to 16 in flight, the next with up to 32, and so on
        self._judged = 0  # of them
        self._bound = float(BLIND)
        # The cap: the number in flight above which the server refuses requests.
        self.cap: float = NEVER
        self._cap_sent = 0
        self._cap_at = -NEVER
        self._cap_pause = 5.0
        # The current level, its measured stretch, and the step being tried.
        self._level = Sample(ROWS)
        self._home = self.limit
        self._there: float | None = None
        self._trying = 0  # 1: a step up, -1: a step down, 0: home
        self._waits = [0, 0]  # levels until a step down, and one up, is tried
        self._pauses = [2, 2]

    # ---------------------------------------------------------------- the limit

    def slots(self) -> int:
        """Return the number of requests that may be in flight now."""
        size = float(self.fixed) if self.fixed is not None else min(self.limit, self.most)
        return max(1, int(min(size, self.cap)))

    def grows_at(self, in_flight: int) -> float:
        """Return when the ramp will free another slot; ``inf`` if an answer is needed first."""
        if not self.ramping or self.fixed is not None or self._began is None or self._answers:
            return NEVER
        if in_flight >= min(BLIND, self.most, self.cap):
            return NEVER
        return self._began + DOUBLING * math.log2((in_flight + 1) / FIRST)

    def tick(self, now: float) -> None:
        """Let the limit grow with time until the first answer."""
        if self.ramping and self.fixed is None and self._began is not None and not self._answers:
            self.limit = max(self.limit, min(BLIND, self.most, self._envelope(now) + 1e-6))

    def _envelope(self, now: float) -> float:
        """Return the upper limit of the ramp at this time."""
        began = now if self._began is None else self._began
        return FIRST * math.exp2(min(40.0, (now - began) / DOUBLING))

    def start(self, now: float, in_flight: int) -> Sample | None:
        """Note that a request is sent; `in_flight` includes it. Return the sample that it belongs to, if any."""
        if self._began is None:
            self._began = now
        if self.cap != NEVER:
            self._probe_cap(now, in_flight)
        if self.fixed is not None:
            return None
        if self.ramping:
            place = max(0, (in_flight - 1).bit_length() - 4)
            while len(self._ramp) <= place:
                self._ramp.append(Sample(max(SMALLEST, SMALLEST << len(self._ramp) >> 1)))
            sample = self._ramp[place]
        elif in_flight >= 0.9 * self.slots():
            sample = self._level
        else:
            return None
        if sample.sent >= sample.size:
            return None
        sample.sent += 1
        return sample

    # ---------------------------------------------------------------- answers

    def answered(self, now: float, sample: Sample | None, seconds: float, work: float, beside: int) -> None:
        """Note an answer: the sample of its request, its seconds, its tokens (or 1.0), and the number in flight."""
        self._answers += 1
        if self.fixed is not None:
            return
        if sample is not None:
            sample.add(seconds, work, beside)
        if self.ramping:
            self._look()
            if self.ramping and beside >= 0.5 * self.limit:
                # One more slot per answer, up to twice the number that is known not to load the server.
                self.limit = max(self.limit, min(self.limit + 1.0, self._envelope(now), self._bound, self.most))
        elif self._level.is_known(0.95):
            self._judge()

    def left(self, sample: Sample | None) -> None:
        """Note that a request was not answered, so that its duration is meaningless."""
        if sample is not None:
            sample.drop()

    def _look(self) -> None:
        """Check whether the ramp has reached the knee."""
        while self._judged < len(self._ramp):
            sample = self._ramp[self._judged]
            stretched = self._judged > 0 and sample.stretch > self.STRETCHED * self._unloaded
            # Short rows finish first: if even they are stretched, the others need not be awaited.
            if not sample.is_known(0.4 if stretched and sample.finished >= SMALLEST else 0.8):
                return
            if stretched:
                middle = sample.beside / sample.finished
                self._settle(middle * self._unloaded / sample.stretch * self.GAIN)
                return
            near = self._judged > 0 and sample.stretch > self.NEAR * self._unloaded
            self._bound = max(float(BLIND), (1.25 if near else 2.0) * (SMALLEST << self._judged))
            self._unloaded += (sample.stretch - self._unloaded) * (1.0, 0.5, 0.3)[min(2, self._judged)]
            self._judged += 1

    def _settle(self, limit: float) -> None:
        """End the ramp."""
        self.ramping = False
        self._ramp = []
        self._move(limit)
        self._home = self.limit

    # ---------------------------------------------------------------- steps

    def _move(self, limit: float) -> None:
        """Begin a level."""
        self.limit = max(1.0, min(limit, float(self.most)))
        self._level = Sample(max(ROWS, 2 * self.slots()))

    def _judge(self) -> None:
        """Decide on the next level after one was measured."""
        stretch = self._level.stretch
        throughput = self.limit / max(stretch, 1e-12)
        home, there, tried = self._home, self._there, self._trying
        steep = 0.0
        if tried and there is not None:
            steep = math.log(throughput / there) / math.log(self.limit / home)
            side = (tried + 1) // 2
            # A step down is kept only if almost nothing is lost, since a small step measures mostly noise.
            if steep >= self.STEEP if tried > 0 else steep < self.FLAT:
                self._home, self._there = self.limit, throughput
                self._pauses, self._waits = [2, 2], [0, 0]
                self._waits[1 - side] = 4  # do not try the opposite step at once
            else:
                self._waits[side] = self._pauses[side]
                self._pauses[side] = min(self.LONGEST, 2 * self._pauses[side])
        else:
            self._there = throughput
        self._unloaded = min(self._unloaded, stretch) if self._unloaded else stretch
        stretched = stretch > 1.15 * self._unloaded
        room = self._home < min(self.most, self.cap)
        self._trying = 0
        if tried > 0 and steep >= self.STEEPER and room:
            self._trying = 1
        elif tried == 0:
            if self._waits[1] <= 0 and room:
                self._trying = 1
            elif stretched and self._waits[0] <= 0 and self._home > 1:
                self._trying = -1
            self._waits = [wait - 1 for wait in self._waits]
        step = self.STEP if steep < self.STEEPER else 2.0
        factor = {1: max(step, 1.0 + 1.0 / self._home), 0: 1.0, -1: 1.0 / self.STEP}[self._trying]
        self._move(self._home * factor)

    # ---------------------------------------------------------------- a cap

    def refused(self, now: float, started: float, beside: int) -> None:
        """Note a refusal because too many requests were in flight: `beside`, itself included."""
        if started <= self._cap_at:
            return  # sent before the last cut
        if self.cap != NEVER:
            self._cap_pause = min(60.0, 2 * self._cap_pause)
        self.cap = max(1.0, min(self.cap, float(beside)) - max(1.0, 0.02 * beside))
        if self.ramping:
            self._settle(self.cap)
        self._home = min(self._home, self.cap)
        self._trying = 0
        self._move(self._home)
        self._cap_at, self._cap_sent = now, 0

    def _probe_cap(self, now: float, in_flight: int) -> None:
        """Raise the cap by one after a period without a refusal."""
        self._cap_sent += 1
        if self._cap_sent > max(400, 4 * in_flight) and now - self._cap_at > self._cap_pause:
            self.cap += 1.0
            self._cap_at, self._cap_sent = now, 0
