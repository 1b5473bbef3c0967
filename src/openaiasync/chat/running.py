"""Running tools so that none outlives its time: threads of their own, few of them, and tasks that are given up.

A thread cannot be stopped and a task may ignore its cancellation. What does not end is left behind: the turn goes on
without it, and the number of threads that hang is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from ..engine.callback import run_in_thread
from ..engine.log import logger
from .errors import ToolError

__all__ = ["GRACE", "THREADS", "ToolThread", "ToolThreads", "as_failure", "end_task", "in_task", "leave_behind"]

T = TypeVar("T")

MOST = 32  # threads of tools in a process
PATIENCE = 5.0  # seconds without any thread's end until a call does not wait for one any more
GRACE = 2.0  # seconds that a cancelled tool may take to end


class ToolThread:
    """The right to run one thread, and what is known of it."""

    def __init__(self, threads: ToolThreads) -> None:
        self._threads = threads
        self.begun: bool = False
        self.ended = False
        self.left = False  # nobody waits for it any more

    async def run(self, function: Callable[[], T]) -> T:
        """What a function returns, run in the thread. Raises what it raises, whatever that is."""
        self.begun = True
        try:
            value, error = await run_in_thread(function, "openaiasync: runs a tool", self._end)
        except RuntimeError:  # the system has no more threads
            self._end()
            raise
        if error is not None:
            raise error
        return cast("T", value)

    def _end(self) -> None:
        self._threads.end(self)

    def leave(self) -> None:
        """Nobody waits for it: free what never began, and count what still runs."""
        if not self.begun:
            self._end()
        else:
            self._threads.leave(self)


class ToolThreads:
    """How many threads tools may take in this process, whichever event loops they are called from."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._left = 0  # of those that run, the ones that nobody waits for
        self._ends = 0  # a count that tells whether anything moves
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    def after_fork(self) -> None:
        """A child process has none of the threads."""
        self._reset()

    async def take(self, name: str) -> ToolThread:
        """A thread for the tool of this name, first come, first served; waits for one while others end.

        Raises `ToolError` where that would take for ever: all of them hang.
        """
        woken = False
        while True:
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            with self._lock:
                if self._running < self._most and (woken or not self._waiting):
                    self._running += 1
                    return ToolThread(self)
                if self._left >= self._most:
                    raise self._refusal(name)
                ends = self._ends
                place = (loop, waiter)
                if woken:
                    self._waiting.appendleft(place)
                else:
                    self._waiting.append(place)
            await self._wait(waiter, place, ends, name)
            woken = True

    async def _wait(self, waiter: asyncio.Future[None], place: Any, ends: int, name: str) -> None:
        """Wait for a thread's end. Raises `ToolError` if none ends."""
        try:
            await asyncio.wait({waiter}, timeout=PATIENCE)
        except asyncio.CancelledError:
            self._forget(place)
            if waiter.done():
                self._wake()  # the next one, in its place
            raise
        if not waiter.done():
            self._forget(place)
            if self._ends == ends:
                raise self._refusal(name)

    def _refusal(self, name: str) -> ToolError:
        return ToolError(
            f"The tool {name} was not called: {self._most} calls of tools are under way and do not end. Try it later."
        )

    def _forget(self, place: Any) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(place)

    def _wake(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                loop, waiter = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # its loop is closed: try the next one
                loop.call_soon_threadsafe(_settle, waiter)
                return

    def leave(self, thread: ToolThread) -> None:
        with self._lock:
            if not thread.ended and not thread.left:
                thread.left = True
                self._left += 1

    def end(self, thread: ToolThread) -> None:
        with self._lock:
            if thread.ended:
                return
            thread.ended = True
            self._running -= 1
            self._left -= thread.left
            self._ends += 1
        self._wake()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


THREADS = ToolThreads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.after_fork)

_left_behind: set[asyncio.Task[Any]] = set()


async def in_task(work: Coroutine[Any, Any, T], seconds: float | None, name: str) -> T:
    """What a tool's coroutine returns, in a task of its own, which is cancelled after so many seconds.

    What it does to its own task, as cancelling it, is not the caller's affair. Raises what it raises; `ToolError` after
    the time, for a cancellation of its own, and for what would end the event loop.
    """
    task = asyncio.create_task(_outcome(work), name=f"tool {name}")
    task.add_done_callback(lambda _: work.close())  # one that was cancelled before it began was never awaited
    try:
        await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await end_task(task, name)
        raise
    if not task.done():
        await end_task(task, name)
        raise ToolError(f"The tool {name} took longer than {seconds:g} s.")
    if task.cancelled():
        raise ToolError(f"the tool {name} was cancelled by what it waited for")
    ended = task.exception()
    if ended is not None:  # a GeneratorExit of the tool's own
        raise as_failure(ended)
    value, error = task.result()
    if error is not None:
        raise error
    return cast("T", value)


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    # As a value, because a task that raises SystemExit or KeyboardInterrupt raises it out of the event loop.
    try:
        return await work, None
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:  # whatever a tool raises
        return None, error
    except BaseException as error:
        return None, as_failure(error)


def as_failure(error: BaseException) -> Exception:
    """What would end the program, as the failure of a tool."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        failure = RuntimeError("the tool wanted to end the program")
    else:
        failure = RuntimeError(f"the tool raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


async def end_task(task: asyncio.Task[Any], name: str) -> None:
    """Cancel a task and wait for its end, but not for ever: one that ignores it is left behind with a warning."""
    task.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=GRACE)
    if not task.done():
        leave_behind(task, f"the tool {name}")
    elif not task.cancelled():
        task.exception()  # looked at: nobody else will


def leave_behind(task: asyncio.Task[Any], what: str) -> None:
    """Go on without a task that ignores its cancellation. It is held until it ends, so that nothing complains of it."""
    _left_behind.add(task)
    task.add_done_callback(_left_behind.discard)
    logger.warning("%s ignores its cancellation and was left behind", what)
