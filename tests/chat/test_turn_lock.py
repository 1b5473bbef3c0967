"""Turns of one session come one at a time, in order, and nothing that is left behind holds them up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from conftest import run
from openaiasync.chat.state import TurnLock


def test_first_come_first_served() -> None:
    """The longest waiter is next; a call at the moment when a turn ends does not jump the queue."""

    async def main() -> None:
        order, seen = TurnLock(), []

        async def turn(name: int) -> None:
            place = await order.acquire()
            with place.inside():
                seen.append(name)
                await asyncio.sleep(0)
                seen.append(name)
            order.release(place)
            order.release(place)

        tasks = [asyncio.create_task(turn(name)) for name in range(5)]
        await asyncio.sleep(0)
        assert order.busy
        while not tasks[0].done():
            await asyncio.sleep(0)
        await turn(5)
        await asyncio.gather(*tasks)
        assert seen == [name for name in range(6) for _ in range(2)]
        assert not order.busy

    run(main())


def test_cancelling_a_wait_is_harmless() -> None:
    """In the middle of the queue, and just when it was about to be served."""

    async def main() -> None:
        order = TurnLock()
        place = await order.acquire()
        waiting = [asyncio.create_task(order.acquire()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        order.release(place)  # hands the turn to the first ...
        waiting[0].cancel()  # ... which is cancelled before it wakes
        order.release(await waiting[2])
        order.release(await waiting[3])
        assert [task.cancelled() for task in waiting] == [True, True, False, False]
        assert not order.busy

    run(main())


def test_a_forgotten_turn_holds_up_nobody() -> None:
    """Its place ends with the last reference to it."""

    async def main() -> None:
        order = TurnLock()
        place = await order.acquire()
        waiting = asyncio.create_task(order.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        del place
        gc.collect()
        order.release(await asyncio.wait_for(waiting, 10))

    run(main())


def test_a_turn_of_a_dead_loop_holds_up_nobody() -> None:
    """A stream that was left open when its event loop ended."""
    order = TurnLock()
    kept = run(order.acquire())
    assert not order.busy
    place = run(order.acquire())
    assert place is not kept


def test_a_turn_dropped_in_the_middle_makes_no_noise() -> None:
    """Its coroutine is closed by the garbage collector, outside of the task that it ran in."""
    order = TurnLock()

    async def turn() -> None:
        place = await order.acquire()
        try:
            with place.inside():
                await asyncio.Event().wait()
        finally:
            order.release(place)

    async def main() -> None:
        coroutine = turn()
        await asyncio.create_task(_first_step(coroutine))
        coroutine.close()
        assert not order.busy

    run(main())


async def _first_step(coroutine: Coroutine[Any, Any, None]) -> None:
    coroutine.send(None)


def test_waiting_for_oneself_is_refused() -> None:
    """A tool within the turn, also in tasks of its own, and a task that has a stream open, are told so."""

    async def main() -> None:
        order = TurnLock()

        async def tool() -> None:
            with pytest.raises(RuntimeError, match=r"a tool called its own session .* use session\.fork\(\)"):
                await order.acquire()

        async def later() -> None:
            await done.wait()
            order.release(await order.acquire())

        done = asyncio.Event()
        place = await order.acquire()
        with place.inside():
            await asyncio.gather(tool(), tool())
            background = asyncio.create_task(later())  # of the turn, but still there after it
        with pytest.raises(RuntimeError, match="this task has a stream of the session open"):
            await order.acquire()
        order.release(place)
        done.set()
        await background

    run(main())
