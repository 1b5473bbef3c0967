"""Blocking work in daemon threads: reading files, functions that users give.

Not in the event loop's executor: its few threads are shared with name lookups and with the caller's own work, and a
function that never ends (a read of a pipe, of a dead network mount) would hold one for ever and keep the program from
exiting. A daemon thread does neither. Threads are reused while work comes within a fifth of a second, since starting
one costs more than most reads; there is always one more where all are busy, so no work waits for other work.
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

__all__ = ["in_thread", "in_thread_to_its_end", "run_in_thread"]

T = TypeVar("T")

_FILES = "openaiasync: files"  # the name of a thread
_IDLE = 0.2  # seconds that a thread waits for more work before it ends
_GRACE = 1.0  # seconds that a cancelled caller waits for the work in progress

_Job = tuple[str, Callable[[], None]]  # the thread's name meanwhile, and what it does


class _Worker:
    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()


_idle: list[_Worker] = []
_lock = threading.RLock()  # reentrant: garbage collection may run a finalizer, which starts work, while it is held


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
        except BaseException as error:  # SystemExit, too: it would end this thread without a word
            outcome = (None, error)
        if ended is not None:
            ended()
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(settle, outcome)

    _start((name, job))
    return done


async def run_in_thread(
    function: Callable[[], T], name: str = _FILES, ended: Callable[[], None] | None = None
) -> Outcome[T]:
    """Run a function in a daemon thread, under the caller's context variables; return its result and what it raised.

    One of the two is `None`. A cancelled caller leaves at once: a thread cannot be stopped, and its outcome is dropped.
    `name` is the thread's name meanwhile; `ended` is called in the thread when the function has ended. Raises
    `RuntimeError` where the system has no more threads.
    """
    return await _begin(function, name, ended)


def _result(outcome: Outcome[T]) -> T:
    value, error = outcome
    if isinstance(error, StopIteration):
        raise RuntimeError("the file raised StopIteration")  # no coroutine can raise it (PEP 479)
    if error is not None:
        raise error
    return cast("T", value)


async def in_thread(function: Callable[[], T]) -> T:
    """Return what a function returns in a thread, or raise what it raises. A cancelled caller leaves at once."""
    return _result(await _begin(function, _FILES, None))


async def in_thread_to_its_end(function: Callable[[], T], leave: Callable[[], object] | None = None) -> T:
    """As `in_thread`, but a cancelled caller gives the work a second to end first, so that files are left tidy.

    `leave` is called at the cancellation, to end what the work waits for.
    """
    done = _begin(function, _FILES, None)
    try:
        return _result(await asyncio.shield(done))
    except asyncio.CancelledError:
        if leave is not None:
            leave()
        await asyncio.wait({done}, timeout=_GRACE)
        raise
