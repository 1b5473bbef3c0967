"""How busy the client was during a load test, and the verdict: whether the figures are the server's or its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from .samples import Distribution, Samples

__all__ = ["ClientLoad", "ClientMonitor", "Verdict", "judge"]

TICK = 0.01  # seconds between two looks at the event loop
_SECOND = 1.0  # the shortest time over which a peak of the core's use is taken

# The client's core: above the first share its queueing shows in the figures, above the second it sets them.
_BUSY, _FULL = 0.75, 0.92
_STOLEN = 0.10  # share of the time spent waiting for a core that other processes used
# Delays of the client's own, by the shortest of what is measured (time to the first token, gap between tokens).
_NOTICEABLE, _DOMINANT = 0.10, 0.5
_HARMLESS = 0.003  # seconds; no delay below this is reported: timers of operating systems are no better
_SHORT_OF_RATE = 0.95  # share of the asked rate below which the client did not keep up


class ClientLoad(msgspec.Struct, kw_only=True):
    """How busy the client was while it measured."""

    cpu: float = 0.0
    """Share of one core that the thread of the event loop used."""
    cpu_peak: float = 0.0
    """The same in its busiest second."""
    waiting: float | None = None
    """Share of the time in which it was ready to run, but other processes had its core; `None` except on Linux."""
    lag: Distribution | None = None
    """How late the event loop ran a timer, in seconds: bytes that arrive meanwhile are read, and stamped, that late."""
    late: Distribution | None = None
    """How late requests were sent, in seconds: after the scheduled instant in an open loop, after the end of the
    previous answer in a closed one. Waiting for a slot of ``max_in_flight`` does not count."""


class Verdict(msgspec.Struct, kw_only=True):
    """Whether the figures are the server's."""

    level: Literal["server", "strained", "client"]
    """``"server"``: the client had room to spare. ``"strained"``: its own delays are part of the figures.
    ``"client"``: it was the bottleneck, and the server may be faster than the figures say."""
    text: str
    reasons: list[str] = []


class ClientMonitor:
    """Watches the event loop, and the core of its thread, from `start` to `stop`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
        queued: Callable[[], float | None] | None = None,
    ) -> None:
        """`cpu` returns the seconds that this thread has run, `queued` the seconds that it has waited for a core."""
        self._clock, self._cpu, self._queued = clock, cpu, queued or _seconds_in_run_queue
        self._timer: asyncio.TimerHandle | None = None
        self._lag = Samples()
        self._peak = 0.0
        self._began: float | None = None
        self._began_cpu = self._second = self._second_cpu = self._due = 0.0
        self._began_queued: float | None = None

    def start(self) -> None:
        """Start watching, and discard earlier observations."""
        self.stop()
        self._lag, self._peak = Samples(), 0.0
        self._began = self._second = now = self._clock()
        self._began_cpu = self._second_cpu = self._cpu()
        self._began_queued = self._queued()
        self._arm(now + TICK)

    def stop(self) -> None:
        """Stop watching. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def load(self, late: Samples) -> ClientLoad:
        """Return the observations so far; `late` is how late requests were sent."""
        now, cpu, queued = self._clock(), self._cpu(), self._queued()
        if self._began is None or now <= self._began:
            return ClientLoad(late=late.summary())
        seconds = now - self._began
        share = (cpu - self._began_cpu) / seconds
        waiting = None if queued is None or self._began_queued is None else (queued - self._began_queued) / seconds
        return ClientLoad(
            cpu=share,
            cpu_peak=max(self._peak, share),
            waiting=waiting,
            lag=self._lag.summary(),
            late=late.summary(),
        )

    def _arm(self, due: float) -> None:
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._tick)

    def _tick(self) -> None:
        now = self._clock()
        self._lag.add(max(0.0, now - self._due))
        if now - self._second >= _SECOND:
            cpu = self._cpu()
            self._peak = max(self._peak, (cpu - self._second_cpu) / (now - self._second))
            self._second, self._second_cpu = now, cpu
        # Ticks that a blocked loop missed are counted, too; else a pause of a second would be one value of thousands.
        missed = int((now - self._due) / TICK)
        if missed:
            self._lag.extend([now - self._due - step * TICK for step in range(1, missed + 1)])
        self._arm(self._due + (missed + 1) * TICK)


def judge(
    client: ClientLoad,
    *,
    start: float | None,
    gap: float | None = None,
    rate: float | None = None,
    sent_rate: float | None = None,
    held_back: bool = False,
    most_connections: int | None = None,
) -> Verdict:
    """Return the verdict on a client by the medians (seconds) that it measured.

    `start` is the median time until an answer starts, which late sends and a slow event loop lengthen; `gap` that
    between two chunks, which only the event loop does. Medians below 3 ms are not compared.

    `rate` is the asked rate of an open loop and `sent_rate` the achieved one, in requests per second; `held_back` says
    that a limit on requests in flight kept requests back, and `most_connections` that this was the process's own limit.
    """
    limits: list[str] = []
    strains: list[str] = []
    used = client.cpu + (client.waiting or 0.0)
    if used >= _FULL:
        limits.append(f"its core was fully used ({_percent(client.cpu)} by this process)")
    elif used >= _BUSY:
        strains.append(f"its core was used to {_percent(used)}")
    if client.waiting is not None and client.waiting >= _STOLEN:
        strains.append(f"other processes kept it from running for {_percent(client.waiting)} of the time")
    # Medians below the resolution of timers are not compared: chunks that arrive together have gaps of zero.
    start, gap = (None if median is None or median < _HARMLESS else median for median in (start, gap))
    shortest = min((median for median in (start, gap) if median is not None), default=None)
    for name, seen, median in (
        ("the event loop ran", client.lag, shortest),
        ("requests were sent", client.late, start),
    ):
        if seen is None or median is None or seen.p99 < _HARMLESS:
            continue
        share = seen.p99 / median
        if share >= _NOTICEABLE:
            text = f"{name} up to {_ms(seen.p99)} late (p99), {_percent(share)} of the measured median of {_ms(median)}"
            (limits if share >= _DOMINANT else strains).append(text)
    if rate is not None and sent_rate is not None and not held_back and sent_rate < rate * _SHORT_OF_RATE:
        limits.append(f"it sent {sent_rate:,.1f} of {rate:,.1f} requests/s")
    if most_connections is not None:
        limits.append(f"it may open only {most_connections:,} connections (ulimit -n), for which requests had to wait")
    if limits:
        text = "The client was the bottleneck: the server may be better than these figures."
        return Verdict(level="client", text=text, reasons=limits + strains)
    if strains:
        text = "The client's own delays are part of these figures."
        return Verdict(level="strained", text=text, reasons=strains)
    return Verdict(level="server", text="The client was not the bottleneck: the figures are the server's.")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms" if seconds < 0.0995 else f"{1000 * seconds:,.0f} ms"


def _seconds_in_run_queue() -> float | None:
    """Return how many seconds this thread was ready to run without a core; `None` except on Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/self/task/{threading.get_native_id()}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    return None
