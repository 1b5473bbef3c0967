"""Blocking work in daemon threads: file access, and functions of the user.

The event loop's executor is not used: its few threads are shared with name lookups and with the caller's own work, and
a function that never ends (a read from a pipe or a dead network mount) would occupy one for ever and keep the program
from exiting. A daemon thread does neither. An idle thread is kept for a fifth of a second, since starting one costs
more than most reads; if all threads are busy another one is started, so that no work waits for other work.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["in_thread", "in_thread_to_its_end", "open_in_thread", "run_in_thread"]

T = TypeVar("T")

_FILES = "openaiasync: files"  # the name of a thread
_IDLE = 0.2  # seconds that a thread waits for more work before it ends
_GRACE = 1.0  # seconds that a cancelled caller waits for the work in progress

_Job = tuple[str, Callable[[], None]]  # the thread's name during the job, and the function


class _Worker:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()


_idle: list[_Worker] = []
_lock = threading.RLock()  # reentrant: garbage collection may run a finalizer, which starts work, while it is held


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _idle.clear()  # the threads belong to the parent process


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
    threading.Thread(target=_work, args=(worker,), name=job[0], daemon=True).start()


def _work(worker: _Worker) -> None:
    thread = threading.current_thread()
    while True:
        try:
            job = worker.jobs.get(timeout=_IDLE)
        except queue.Empty:
            with _lock:
                if worker in _idle:
                    _idle.remove(worker)
                    return
            job = worker.jobs.get()  # taken from the idle ones in the meantime
        thread.name = job[0]
        job[1]()
        del job  # a waiting thread must not keep the objects of its last job alive
        with _lock:
            _idle.append(worker)


Outcome = tuple[T, None] | tuple[None, BaseException]


def _begin(function: Callable[[], T], name: str, ended: Callable[[], None] | None) -> asyncio.Future[Outcome[T]]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome[T]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(outcome: Any) -> None:
        if not done.done():
            done.set_result(outcome)

    def job() -> None:
        try:
            outcome: Any = (context.run(function), None)
        except BaseException as error:  # SystemExit too, which would end this thread silently
            outcome = (None, error)
        if ended is not None:
            ended()
        with contextlib.suppress(RuntimeError):  # the loop was closed: nothing waits for the result
            loop.call_soon_threadsafe(settle, outcome)

    _start((name, job))
    return done


async def run_in_thread(
    function: Callable[[], T], name: str = _FILES, ended: Callable[[], None] | None = None
) -> Outcome[T]:
    """Run a function in a daemon thread, in a copy of the caller's context; return its result and its exception.

    One of the two is `None`. A cancelled caller leaves at once: a thread cannot be stopped, and its outcome is dropped.
    `name` is the thread's name during the call; `ended` is called in the thread when the function has ended. Raises
    `RuntimeError` if the system cannot start a thread.
    """
    return await _begin(function, name, ended)


def _result(outcome: Outcome[T]) -> T:
    value, error = outcome
    if isinstance(error, StopIteration):
        raise RuntimeError("the file raised StopIteration")  # a coroutine cannot raise StopIteration (PEP 479)
    if error is not None:
        raise error
    return cast("T", value)


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread; return its result or raise its exception. A cancelled caller leaves at once."""
    return _result(await _begin(function, _FILES, None))


async def in_thread_to_its_end(function: Callable[[], T], leave: Callable[[], object] | None = None) -> T:
    """Run a function as `in_thread` does, but give it a second to end after a cancellation, to leave files tidy.

    `leave` is called at the cancellation to end the function's waiting.
    """
    done = _begin(function, _FILES, None)
    try:
        return _result(await asyncio.shield(done))
    except asyncio.CancelledError:
        if leave is not None:
            leave()
        await asyncio.wait({done}, timeout=_GRACE)
        raise


async def open_in_thread(
    function: Callable[[], T], close: Callable[[T], object], leave: Callable[[], object] | None = None
) -> T:
    """Return what a function opens in a thread. If the caller is cancelled meanwhile, it is closed.

    `leave` is as in `in_thread_to_its_end`. `close` must be idempotent and may be called in the thread.
    """
    left = threading.Event()
    made: list[T] = []

    def opened() -> T:
        found = function()
        made.append(found)
        if left.is_set():
            close(found)
        return found

    try:
        return await in_thread_to_its_end(opened, leave)
    except BaseException:
        left.set()
        for found in made:
            close(found)
        raise
