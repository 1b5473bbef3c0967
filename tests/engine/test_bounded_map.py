"""`bounded_map`: how many run at a time, in which order results come, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import run
from openaiasync.engine.bounded_map import bounded_map


class Work:
    """Jobs that end when the test says so, by item; it counts how many run."""

    def __init__(self) -> None:
        self.running: set[Any] = set()
        self.peak = 0
        self.started: list[Any] = []
        self.cancelled: list[Any] = []
        self._ends: dict[Any, asyncio.Future[Any]] = {}

    def __getitem__(self, item: Any) -> asyncio.Future[Any]:
        return self._ends.setdefault(item, asyncio.get_running_loop().create_future())

    async def __call__(self, item: Any) -> Any:
        self.started.append(item)
        self.running.add(item)
        self.peak = max(self.peak, len(self.running))
        try:
            return await self[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.running.discard(item)


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(30):
        await asyncio.sleep(0)


async def doubled(number: int) -> int:
    for _ in range(number % 5):
        await asyncio.sleep(0)
    return number * 2


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("concurrency", "ahead"), [(1, None), (3, None), (3, 10), (50, None)])
def test_results_in_order(asynchronous: bool, concurrency: int, ahead: int | None) -> None:
    """Every item has its result, in the order of the items, whichever was completed first."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(20):
            await asyncio.sleep(0)
            yield number

    async def main() -> None:
        items: Any = numbers() if asynchronous else range(20)
        found = [one async for one in bounded_map(doubled, items, concurrency=concurrency, ahead=ahead)]
        assert found == [2 * number for number in range(20)]

    run(main())


def test_results_as_they_are_completed() -> None:
    """Without an order a slow item holds no other back."""

    async def main() -> None:
        work = Work()
        results = bounded_map(work, "abc", concurrency=3, ordered=False)
        reading = asyncio.ensure_future(anext(results))
        await settle()
        work["c"].set_result("C")
        assert await reading == "C"
        work["a"].set_result("A")
        assert await anext(results) == "A"
        work["b"].set_result("B")
        assert [one async for one in results] == ["B"]

    run(main())


def test_how_many_run_and_wait() -> None:
    """No more than `concurrency` run, no more than `ahead` results wait for an earlier one, and no more is read."""

    async def main() -> None:
        work = Work()
        read: list[int] = []

        def endless() -> Iterator[int]:
            while True:
                read.append(len(read))
                yield len(read) - 1

        results = bounded_map(work, endless(), concurrency=2, ahead=5)
        reading = asyncio.ensure_future(anext(results))
        await settle()
        assert work.started == [0, 1]
        for item in (1, 2, 3, 4):
            work[item].set_result(item)
        await settle()
        assert work.started == [0, 1, 2, 3, 4]  # 0 still runs: four results wait for it
        assert len(read) <= 6
        work[0].set_result(0)
        assert await reading == 0
        assert [await anext(results) for _ in range(4)] == [1, 2, 3, 4]
        await results.aclose()
        assert work.peak == 2
        assert not work.running

    run(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failure_ends_all(ordered: bool) -> None:
    """In order earlier results come first, else it is raised at once; nothing more starts, the rest is cancelled."""

    async def main() -> None:
        work = Work()
        results = bounded_map(work, range(9), concurrency=3, ordered=ordered)
        reading = asyncio.ensure_future(anext(results))
        await settle()
        work[1].set_exception(LookupError("of 1"))
        await settle()
        if ordered:
            assert not reading.done()
            work[0].set_result("zero")
            assert await reading == "zero"
            reading = asyncio.ensure_future(anext(results))
        with pytest.raises(LookupError, match="of 1"):
            await reading
        assert work.started == [0, 1, 2]
        assert sorted(work.cancelled) == ([2] if ordered else [0, 2])
        assert not work.running

    run(main())


def test_a_source_that_fails() -> None:
    """Its exception comes after the results of all that was read."""

    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    async def main() -> None:
        for ordered in (True, False):
            found: list[int] = []
            with pytest.raises(LookupError, match="no more"):
                async for one in bounded_map(doubled, broken(), concurrency=8, ordered=ordered):
                    found.append(one)
            assert sorted(found) == [2, 4]

    run(main())


def test_results_come_while_the_source_waits() -> None:
    """A source that has nothing yet, as a pipe, holds no result back."""

    async def main() -> None:
        more = asyncio.Event()

        async def slow() -> AsyncIterator[int]:
            yield 1
            await more.wait()
            yield 2

        results = bounded_map(doubled, slow(), concurrency=4)
        assert await anext(results) == 2
        more.set()
        assert [one async for one in results] == [4]

    run(main())


@pytest.mark.parametrize("how", ["close", "cancel", "break"])
def test_leaving_early_frees_everything(how: str) -> None:
    """A reader that closes, is cancelled or leaves the loop finds nothing running afterwards."""

    async def main() -> None:
        work = Work()
        work[0].set_result("zero")
        results = bounded_map(work, range(100), concurrency=4)

        async def read() -> None:
            async with contextlib.aclosing(results):
                async for _ in results:
                    if how == "break":
                        break

        if how == "close":
            await anext(results)
            await results.aclose()
        else:
            reader = asyncio.ensure_future(read())
            await settle()
            if how == "cancel":
                reader.cancel()
            await asyncio.wait([reader])
            assert reader.cancelled() is (how == "cancel")
        assert not work.running
        assert work.cancelled
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_nothing_to_do() -> None:
    """No item, no result."""

    async def main() -> None:
        assert [one async for one in bounded_map(doubled, [], concurrency=4)] == []

    run(main())
