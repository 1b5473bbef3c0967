"""How the time of some work grows with its size, so that a busy machine changes the answer as little as possible."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

MOST = 9  # times as long for four times the size: linear work takes four times as long, quadratic work sixteen times


def cpu_seconds(work: Callable[[], object], times: int = 3) -> float:
    """CPU time of this thread, the best of several runs without the garbage collector."""
    best = float("inf")
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(times):
            began = time.thread_time()
            work()
            best = min(best, time.thread_time() - began)
    finally:
        if enabled:
            gc.enable()
    return best


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Fails where four times `size` takes much more than four times as long, each time of several."""
    ratios: list[float] = []
    for times in (1, 2, 2, 2):  # most are told from quadratic work by their first run
        ratios.append(cpu_seconds(lambda: work(4 * size), times) / max(cpu_seconds(lambda: work(size)), 1e-6))
        if ratios[-1] < MOST:
            return
    raise AssertionError(f"four times {size} takes {', '.join(f'{ratio:.0f}' for ratio in ratios)} times as long")
