"""Blocking file work in daemon threads of its own.

Not the event loop's executor: its few threads are shared with name lookups and with the caller's own work, and a read
that never ends (a pipe, a dead network mount) would hold one for ever and keep the program from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread", "in_thread_to_its_end"]

T = TypeVar("T")

_IDLE = 0.2  # seconds that a thread waits for more work before it ends
_PATIENCE = 1.0  # seconds that a cancelled caller waits for the work under way

_Job = Callable[[], None]


class _Worker:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()


_idle: list[_Worker] = []
_lock = threading.RLock()  # garbage collection may run a finalizer, which may start work, while it is held


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _idle.clear()  # the threads are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _start(job: _Job) -> None:
    with _lock:
        worker = _idle.pop() if _idle else None
    if worker is not None:
        worker.jobs.put(job)
        return
    worker = _Worker()
    worker.jobs.put(job)
    threading.Thread(target=_work, args=(worker,), name="openaiasync: files", daemon=True).start()


def _work(worker: _Worker) -> None:
    while True:
        try:
            job = worker.jobs.get(timeout=_IDLE)
        except queue.Empty:
            with _lock:
                if worker in _idle:
                    _idle.remove(worker)
                    return
            job = worker.jobs.get()  # given in the meantime
        job()
        del job  # nothing of the last job is kept alive by a thread that waits
        with _lock:
            _idle.append(worker)


def _begin(function: Callable[[], T]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def succeed(value: T) -> None:
        if not done.done():
            done.set_result(value)

    def fail(error: BaseException) -> None:
        if not done.done():
            # No future can hold a StopIteration.
            stops = isinstance(error, StopIteration)
            done.set_exception(RuntimeError("the file raised StopIteration") if stops else error)

    def job() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            try:
                value = function()
            except BaseException as error:
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(succeed, value)

    _start(job)
    return done


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread; its result. A cancelled caller leaves at once, and the result is dropped."""
    return await _begin(function)


async def in_thread_to_its_end(function: Callable[[], T], leave: Callable[[], object] | None = None) -> T:
    """As `in_thread`, but a cancelled caller gives the work a second to end first, so that files are left tidy.

    `leave` is called at the cancellation, to end what the work waits for.
    """
    done = _begin(function)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if leave is not None:
            leave()
        await asyncio.wait({done}, timeout=_PATIENCE)
        if done.done() and not done.cancelled():
            done.exception()  # retrieved: the cancellation says more
        raise
