"""A bounded concurrent map of a coroutine function over any number of items.

It serves uploads of many files, embeddings of many texts and the command line's batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

__all__ = ["bounded_map"]

T = TypeVar("T")
R = TypeVar("R")
_END: Final[Any] = object()


async def bounded_map(
    function: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int,
    ahead: int | None = None,
    ordered: bool = True,
) -> AsyncGenerator[R, None]:
    """Yield ``await function(item)`` for every item, with at most `concurrency` of them running at a time.

    Items are read one by one as they are needed, so the source may be endless. Closing the generator, or cancelling
    the task that iterates it, cancels the running calls and awaits them.

    Args:
        function: called once for each item, in a separate task.
        items: an iterable, or an async one. It is not closed.
        concurrency: how many calls may run at a time.
        ahead: how many calls may be started whose results are not yet yielded: a bound on memory while an early one
            is slow, or the reader is. Default: `concurrency`.
        ordered: whether results come in the order of the items, or as they are completed.

    After the first failure no further item is read. With `ordered` its exception is raised when its turn comes, else
    at once, and running calls are cancelled. An exception from `items` comes after the results of all items read.
    """
    most = max(concurrency, ahead or 0)
    started: deque[asyncio.Task[R]] = deque()  # in the order of the items; their results were not yielded yet
    source = aiter(items) if isinstance(items, AsyncIterable) else _asynchronous(items)
    reading: asyncio.Task[T] | None = None  # a task, so that results are yielded while the source is slow
    source_error: BaseException | None = None
    at_end = False
    try:
        while True:
            running = [task for task in started if not task.done()]
            at_end = at_end or any(_has_failed(task) for task in started)
            may_start = not at_end and len(running) < concurrency and len(started) < most
            if may_start and reading is None:
                reading = asyncio.create_task(_next(source))
                await asyncio.sleep(0)  # most sources have their next item at hand
            if may_start and reading and reading.done():
                source_error = reading.exception()
                item = _END if source_error is not None else reading.result()
                reading, at_end = None, item is _END
                if not at_end:
                    started.append(asyncio.create_task(function(item)))
                continue
            ready = _ready(started, ordered)
            if ready is not None:
                started.remove(ready)
                yield ready.result()
                continue
            if not started and (reading is None or at_end):
                break
            # `asyncio.wait` tells deadlock detection which tasks this one waits for.
            wanted: list[asyncio.Task[Any]] = list(started) if not ordered or not at_end else [started[0]]
            pending = [one for one in (*wanted, reading) if one is not None and not one.done()]
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if source_error is not None:
            raise source_error
    finally:
        await _end(*started, *([reading] if reading else []))


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ready(started: deque[asyncio.Task[R]], ordered: bool) -> asyncio.Task[R] | None:
    """Return the task whose result is yielded next, if it is done; without an order, a failed one first."""
    if ordered:
        return started[0] if started and started[0].done() else None
    done = [task for task in started if task.done()]
    return next(filter(_has_failed, done), done[0] if done else None)


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _asynchronous(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source, _END)
