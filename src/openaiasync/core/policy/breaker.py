"""A circuit breaker: no calls to a server that does not work, except one probe at a time.

Three connection errors or 5xx in a row open it. While it is open nothing is sent until a probe is due: the first after
a second, later ones after pauses that double up to 4 s, so that a server that recovers is soon in use again. A
successful probe closes it. Pure: times are arguments, in seconds by any monotonic clock.
"""

from __future__ import annotations

import math

__all__ = ["LONGEST_PAUSE", "Breaker"]

FAILURES = 3
CROWD = 8  # calls in flight per consecutive failure needed to open it
FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 4.0  # seconds


class Breaker:
    """Decides whether calls are sent to one server."""

    __slots__ = ("_pause", "failures", "opened_at", "probe_at", "probing")

    def __init__(self) -> None:
        self.failures: int = 0
        """Failures since the last success."""
        self.opened_at: float | None = None
        """When it opened; `None` while it is closed."""
        self.probe_at: float = 0.0
        """When the next probe is due, while it is open."""
        self.probing: bool = False
        """Whether a probe is under way."""
        self._pause = FIRST_PAUSE

    @property
    def is_open(self) -> bool:
        """Whether calls have to wait, except one probe at a time."""
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
        """Note that the server answered a call, which shows that it works."""
        self.failures = 0
        self.opened_at = None
        self.probing = False
        self._pause = FIRST_PAUSE

    def failed(self, now: float, probe: bool, pause: float = 0.0, in_flight: int = 0) -> None:
        """Note that a call failed through the server's fault; `pause` is the pause in seconds that it asked for.

        With many calls in flight an eighth of them must fail in a row: failures return sooner than answers, so that of
        a hundred calls sent at once the three that fail are the first to return.
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
        """Open it regardless of the number of failures; the first probe is due after `pause`, at least a second."""
        if self.opened_at is None:
            self.opened_at = now
            self.probe_at = now + max(self._pause, pause)

    def left(self, probe: bool) -> None:
        """Note that a call was cancelled before its outcome was known."""
        if probe:
            self.probing = False
