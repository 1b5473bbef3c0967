"""Several servers of one client: which of them a call goes to, and which are left alone for now.

A call goes to the server with the least expected wait: its mean latency times the calls that it has already. A server
that fails three times in a row, with connection errors or 5xx, gets one call at a time as a probe until it works
(`core/policy/breaker.py`). A call that failed goes to another server at once, where one works. Only operations that
leave nothing behind are shared out, those whose endpoint has a group (chat, completions, embeddings, images, speech); a
file or a batch is on one server, the first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..core.policy.breaker import Breaker
from ..errors import APIConnectionError, APIStatusError, OpenAIError

if TYPE_CHECKING:
    from .call import Call
    from .engine import Engine

__all__ = ["Health", "choose"]

WEIGHT = 0.1  # of the latest answer in the mean
FORGOTTEN = 0.98  # what is left of a mean after each call that goes elsewhere


class Health:
    """What is known of one of several servers."""

    __slots__ = ("breaker", "in_flight", "latency", "probe")

    def __init__(self) -> None:
        self.breaker: Breaker = Breaker()
        self.in_flight: int = 0
        """Calls that are with the server."""
        self.latency: float = 0.0
        """Seconds until a response starts, a moving mean."""
        self.probe: Call | None = None
        """The call that was sent while the breaker is open."""

    @property
    def wait(self) -> float:
        """What a further call has to expect, in seconds; the fewest calls decide while nothing is known."""
        return max(self.latency, 1e-6) * (self.in_flight + 1)

    def started(self, call: Call) -> None:
        """A call is sent there."""
        self.in_flight += 1
        if self.breaker.start():
            self.probe = call

    def left(self, call: Call) -> None:
        """A call is not with the server any more."""
        self.in_flight -= 1
        if self.probe is call:
            self.probe = None
            self.breaker.left(True)

    def observe(self, call: Call, error: OpenAIError | None) -> None:
        """Learn from an attempt: from a success, or from how it failed."""
        now = call.loop.time()
        if isinstance(error, APIConnectionError) or (isinstance(error, APIStatusError) and error.status_code >= 500):
            probe, self.probe = self.probe is call, None if self.probe is call else self.probe
            self.breaker.failed(now, probe, 0.0, self.in_flight)
            return
        self.breaker.succeeded(now)
        self.probe = None
        if error is None:
            taken = now - call.attempt_began
            self.latency = taken if not self.latency else self.latency + WEIGHT * (taken - self.latency)


def choose(engines: tuple[Engine, ...], now: float, avoid: Engine | None = None) -> Engine:
    """Return the engine of the server that a call is to be sent to; not that of `avoid` where another works.

    Where none works, the call goes to the one whose probe is due first.
    """

    def order(engine: Engine) -> tuple[bool, float, float]:
        health = engine.upstream.health
        ready = health.breaker.ready_at()
        late = ready > now
        return (late or engine is avoid, (ready if late and ready < math.inf else now), health.wait)

    chosen = min(engines, key=order)
    for engine in engines:
        if engine is not chosen:
            engine.upstream.health.latency *= FORGOTTEN  # so that a server that was slow once gets another chance
    return chosen
