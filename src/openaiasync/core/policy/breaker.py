"""A circuit breaker: no calls to a server that does not work, but for one probe at a time.

Three connection errors or 5xx in a row open it. While it is open nothing is sent until a probe is due; the first probe
comes after a second, later ones after pauses that double up to 4 s, so that a server that returns is in use again soon.
A probe's success closes it. Pure: times come in as numbers of any monotonic clock, in seconds.
"""

from __future__ import annotations

import math

__all__ = ["Breaker"]

FAILURES = 3
CROWD = 8  # calls in flight for each failure in a row that opens it
FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 4.0  # seconds


class Breaker:
    """Whether one server is worth a call."""

    __slots__ = ("_pause", "failures", "last_success", "opened_at", "probe_at", "probing")

    def __init__(self) -> None:
        self.failures: int = 0
        """Failures since the last success."""
        self.opened_at: float | None = None
        """When it opened; `None` while it is closed."""
        self.probe_at: float = 0.0
        """When the next probe is due, while it is open."""
        self.probing: bool = False
        """Whether a probe is under way."""
        self.last_success: float = -math.inf
        self._pause = FIRST_PAUSE

    @property
    def is_open(self) -> bool:
        """Whether calls have to wait, one probe at a time excepted."""
        return self.opened_at is not None

    def ready_at(self) -> float:
        """Return when a call may be sent: ``-inf`` at any time, ``inf`` not before the probe has ended."""
        if self.opened_at is None:
            return -math.inf
        return math.inf if self.probing else self.probe_at

    def start(self) -> bool:
        """Note that a call is sent; return whether it is the probe."""
        if self.opened_at is None:
            return False
        self.probing = True
        return True

    def succeeded(self, now: float) -> None:
        """The server answered a call in a way that shows that it works."""
        self.failures = 0
        self.opened_at = None
        self.probing = False
        self._pause = FIRST_PAUSE
        self.last_success = now

    def failed(self, now: float, probe: bool, pause: float = 0.0, in_flight: int = 0) -> None:
        """A call failed through the server's fault; `pause` is how many seconds it asked to be left alone.

        With many calls in flight it takes as many failures in a row as an eighth of them: failures come sooner than
        answers, so that of a hundred calls sent at once the three that fail are the first to return.
        """
        self.failures += 1
        if self.opened_at is None:
            if self.failures < max(FAILURES, in_flight // CROWD):
                return
            self.open(now, pause)
        elif probe:
            self.probing = False
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self.probe_at = now + max(self._pause, pause)

    def open(self, now: float, pause: float = 0.0) -> None:
        """Open it, whatever the number of failures; the first probe comes after `pause`, but not before a second."""
        if self.opened_at is None:
            self.opened_at = now
            self.probe_at = now + max(self._pause, pause)

    def left(self, probe: bool) -> None:
        """A call was cancelled before anything was known."""
        if probe:
            self.probing = False
