"""The clock rings once, at the last time set, and leaves no timer behind."""

from __future__ import annotations

import asyncio

from conftest import run
from openaiasync.server.timer import LazyTimer


def test_rings_at_the_last_time_set() -> None:
    """Moved later, earlier, cleared and set again: only the last word counts."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        rung: list[float] = []
        clock = LazyTimer(loop, lambda: rung.append(loop.time()))
        start = loop.time()
        clock.set(0.03)
        clock.set(0.1)
        await asyncio.sleep(0.05)
        assert rung == []
        await asyncio.sleep(0.1)
        assert len(rung) == 1
        assert rung[0] - start >= 0.1
        clock.set(60)
        clock.set(0.01)
        await asyncio.sleep(0.05)
        assert len(rung) == 2
        clock.set(0.01)
        clock.clear()
        await asyncio.sleep(0.05)
        assert len(rung) == 2
        clock.set(0.01)
        clock.stop()
        await asyncio.sleep(0.05)
        assert len(rung) == 2

    run(main())


def test_moving_makes_no_timers() -> None:
    """A thousand moves cost one timer of the loop."""

    async def main() -> None:
        made = 0
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counting(*args: object, **kwargs: object) -> asyncio.TimerHandle:
            nonlocal made
            made += 1
            return call_at(*args, **kwargs)  # type: ignore[arg-type]

        loop.call_at = counting  # type: ignore[method-assign]
        clock = LazyTimer(loop, lambda: None)
        for _ in range(1000):
            clock.set(60)
        assert made == 1
        clock.stop()

    run(main())
