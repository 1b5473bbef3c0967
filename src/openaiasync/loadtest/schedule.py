"""When requests are due: arrivals of an open loop, and starts of the workers of a closed one. No clock, no I/O."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Literal

__all__ = ["Arrivals", "arrivals", "worker_starts"]

Arrivals = Literal["poisson", "constant"]


def arrivals(rate: float, *, kind: Arrivals = "poisson", ramp: float = 0.0, seed: int = 0) -> Iterator[float]:
    """Yield the times, in seconds from the start, at which requests are due, without end.

    `rate` is in requests per second. ``"poisson"`` draws independent gaps, as independent users make; ``"constant"``
    spaces the requests evenly. Within the first `ramp` seconds the rate grows linearly from 0. Equal seeds give equal
    times.

    A time follows from the number of requests expected until then: that number is drawn for the constant rate of 1, and
    mapped through the inverse of its course over time.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"the rate must be a number above 0, not {rate!r}")
    draw = random.Random(seed).expovariate
    rising = rate * ramp / 2  # expected within the ramp
    expected = 0.0
    while True:
        expected += draw(1.0) if kind == "poisson" else 1.0
        if expected <= rising:
            yield math.sqrt(2 * ramp * expected / rate)
        else:
            yield ramp + (expected - rising) / rate


def worker_starts(workers: int, ramp: float) -> list[float]:
    """Return when each worker of a closed loop starts, in seconds: spread evenly over the ramp."""
    return [ramp * number / workers for number in range(workers)]
