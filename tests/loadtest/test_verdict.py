"""The verdict: when the client, and not the server, set the figures."""

from __future__ import annotations

import asyncio
import time

import pytest

from conftest import run
from openaiasync.loadtest.samples import Distribution, Samples
from openaiasync.loadtest.verdict import ClientLoad, ClientMonitor, judge


def spread(p99: float) -> Distribution:
    return Distribution(count=100, mean=p99 / 4, min=0, p50=p99 / 8, p90=p99 / 2, p95=p99 / 2, p99=p99, max=2 * p99)


def test_an_idle_client_is_not_to_blame() -> None:
    """With room on its core and no delays of its own, the figures are the server's."""
    found = judge(ClientLoad(cpu=0.3, lag=spread(0.001), late=spread(0.001)), start=0.1, gap=0.02)
    assert (found.level, found.reasons) == ("server", [])


@pytest.mark.parametrize(
    ("client", "level", "word"),
    [
        (ClientLoad(cpu=0.97), "client", "core"),
        (ClientLoad(cpu=0.6, waiting=0.35), "client", "core"),
        (ClientLoad(cpu=0.8), "strained", "core"),
        (ClientLoad(cpu=0.2, waiting=0.2), "strained", "other processes"),
        (ClientLoad(lag=spread(0.015)), "client", "event loop"),
        (ClientLoad(lag=spread(0.004)), "strained", "event loop"),
        (ClientLoad(lag=spread(0.0025)), "server", ""),
        (ClientLoad(late=spread(0.06)), "client", "sent"),
        (ClientLoad(late=spread(0.02)), "strained", "sent"),
        (ClientLoad(late=spread(0.009)), "server", ""),
    ],
)
def test_each_reason(client: ClientLoad, level: str, word: str) -> None:
    """Lag is judged by the gaps between tokens (20 ms here), late sends by the time to the first one (100 ms)."""
    found = judge(client, start=0.1, gap=0.02)
    assert found.level == level
    assert word in " ".join(found.reasons)


def test_a_rate_that_was_not_reached() -> None:
    """A client that sends fewer requests than the schedule says is the bottleneck, unless a limit held them back."""
    assert judge(ClientLoad(), start=0.1, rate=100.0, sent_rate=80.0).level == "client"
    assert judge(ClientLoad(), start=0.1, rate=100.0, sent_rate=99.0).level == "server"
    assert judge(ClientLoad(), start=0.1, rate=100.0, sent_rate=80.0, held_back=True).level == "server"


def test_nothing_measured_is_no_fault_of_the_client() -> None:
    """Without a median there is nothing that a delay could have distorted."""
    assert judge(ClientLoad(lag=spread(1.0), late=spread(1.0)), start=None).level == "server"


@pytest.mark.parametrize("gap", [0.0, 0.00004, 0.002])
def test_gaps_below_the_resolution_are_not_compared(gap: float) -> None:
    """Chunks that arrive together have no gap: a delay is compared with the time to the first token, or not at all."""
    assert judge(ClientLoad(lag=spread(0.0048)), start=0.1, gap=gap).level == "server"
    assert judge(ClientLoad(lag=spread(0.0048), late=spread(0.0048)), start=gap, gap=gap).level == "server"
    assert "of the measured median of 100 ms" in judge(ClientLoad(lag=spread(0.08)), start=0.1, gap=gap).reasons[0]


def test_the_monitor_sees_a_blocked_loop_in_full() -> None:
    """A pause counts for as long as it lasted, not as one late timer among many."""

    async def main() -> ClientLoad:
        now, cpu = 0.0, 0.0
        monitor = ClientMonitor(lambda: now, lambda: cpu, lambda: None)
        monitor.start()
        for _ in range(50):
            now += 0.01
            monitor._tick()
        now, cpu = now + 1.0, 0.75  # a second without a turn of the loop
        monitor._tick()
        load = monitor.load(Samples([0.25]))
        monitor.stop()
        return load

    load = run(main())
    assert load.lag is not None
    assert load.lag.count == pytest.approx(150, abs=2)
    assert load.lag.max == pytest.approx(0.99, abs=0.011)
    assert load.lag.p90 == pytest.approx(0.85, abs=0.03)
    assert load.cpu == pytest.approx(0.5, abs=0.01)
    assert load.waiting is None
    assert load.late is not None
    assert load.late.p50 == 0.25


def test_the_monitor_on_the_real_clock() -> None:
    """A loop that works without a pause uses its core, or waits for it; the lag is what it was blocked for."""

    async def main() -> ClientLoad:
        monitor = ClientMonitor()
        monitor.start()
        for _ in range(4):
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                pass
            await asyncio.sleep(0)
        load = monitor.load(Samples())
        monitor.stop()
        return load

    load = run(main(), real_clock=True)
    assert load.lag is not None
    assert load.lag.max >= 0.03
    assert 0 < load.cpu <= 1.05
    assert load.cpu_peak >= load.cpu
    assert judge(load, start=0.05).level == "client"
