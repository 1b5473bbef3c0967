"""Balance the calls of one client over several servers.

A call goes to the server with the least expected wait: its latency times the number of calls in flight there. The
latency is a moving mean, or, if longer, the time by which the server's next response is later than that, so that a
server that has stopped responding gets no further calls while timeouts run. A server that fails three times in a row,
with connection errors or 5xx, gets one call at a time as a probe until it works (`core/policy/breaker.py`). A call that
failed goes to another server at once, where one works. Only stateless operations are balanced, those whose endpoint has
a group (chat, completions, embeddings, images, speech); files and batches live on one server, the first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..core.policy.breaker import Breaker
from ..errors import APIConnectionError, APIStatusError, OpenAIError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from .call import Call
    from .engine import Engine

__all__ = ["Health", "choose"]

WEIGHT = 0.1  # weight of the latest answer in the mean
FORGOTTEN = 0.98  # decay of a server's mean with each call that goes elsewhere


class Health:
    """Load, latency and health of one of several servers."""

    __slots__ = ("_silent_since", "_unanswered", "breaker", "in_flight", "latency", "probe", "unreachable")

    def __init__(self) -> None:
        self.breaker: Breaker = Breaker()
        self.in_flight: int = 0
        """Calls in flight to the server."""
        self.latency: float = 0.0
        """Seconds until a response starts, a moving mean."""
        self.probe: Call | None = None
        """The call that was sent while the breaker is open."""
        self.unreachable: bool = False
        """Whether the last outcome of an attempt was a connection error or a timeout."""
        self._unanswered: set[Call] = set()
        self._silent_since = 0.0  # the last response, or the first of the unanswered calls if that is later

    def wait(self, now: float) -> float:
        """Return the expected wait of another call in seconds.

        While no latency is known, the server with the fewest calls wins.
        """
        silence = now - self._silent_since if self._unanswered else 0.0
        return max(self.latency, silence - self.latency, 1e-6) * (self.in_flight + 1)

    def started(self, call: Call) -> None:
        """Count a call that is sent to this server."""
        self.in_flight += 1
        if not self._unanswered:
            self._silent_since = call.loop.time()
        self._unanswered.add(call)
        if self.breaker.start():
            self.probe = call

    def left(self, call: Call) -> None:
        """Count a call that has left this server."""
        self.in_flight -= 1
        self._unanswered.discard(call)
        if self.probe is call:
            self.probe = None
            self.breaker.left(True)

    def observe(self, call: Call, error: OpenAIError | None) -> None:
        """Record the outcome of an attempt."""
        now = self._silent_since = call.loop.time()
        taken = now - call.attempt_began
        self._unanswered.discard(call)
        self.unreachable = isinstance(error, APIConnectionError)
        if self.unreachable or (isinstance(error, APIStatusError) and error.status_code >= 500):
            probe, self.probe = self.probe is call, None if self.probe is call else self.probe
            self.latency = max(self.latency, taken)  # a timeout: the next calls go to another server
            self.breaker.failed(now, probe, 0.0, self.in_flight)
            return
        if self.breaker.is_open:
            self.latency = 0.0  # that of the failures
        self.breaker.succeeded(now)
        self.probe = None
        if error is None:
            self.latency = taken if not self.latency else self.latency + WEIGHT * (taken - self.latency)


def choose(engines: tuple[Engine, ...], now: float, failed: tuple[Engine, ...] = ()) -> Engine:
    """Return the engine of the server for the next attempt, where `failed` are those of the call's earlier attempts.

    A server that failed the call is avoided as long as another one works. If no server works, return the one whose
    probe is due first.
    """

    def order(engine: Engine) -> tuple[int, float, float]:
        health = engine.upstream.health
        ready = health.breaker.ready_at()
        late = ready > now
        avoided = failed.count(engine) + (engine is failed[-1]) if failed else 0
        return (late * 2 + avoided, (ready if late and ready < math.inf else now), health.wait(now))

    chosen = min(engines, key=order)
    for engine in engines:
        if engine is not chosen:
            engine.upstream.health.latency *= FORGOTTEN  # so that a server that was slow once is used again
    return chosen


resolve_annotations(__name__)
