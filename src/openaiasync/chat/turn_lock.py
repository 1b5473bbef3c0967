"""One turn at a time: who comes while a turn is under way waits, first come, first served.

A turn whose stream was forgotten, or whose event loop is gone, holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

__all__ = ["Ticket", "TurnLock"]

# The turns that the running code is part of: a tool that waited for its own session would wait for ever.
_inside: ContextVar[tuple[weakref.ref[Ticket], ...]] = ContextVar("_inside", default=())


class Ticket:
    """The right to take a turn, or the wait for it. Whoever has it keeps it alive: it ends with its last reference."""

    __slots__ = ("__weakref__", "future", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.future: asyncio.Future[None] | None = None
        self.task: weakref.ref[asyncio.Task[Any]] | None = None
        self.touch()

    def touch(self) -> None:
        """The running task is the one that takes the turn."""
        task = asyncio.current_task()
        self.task = None if task is None else weakref.ref(task)

    @contextlib.contextmanager
    def inside(self) -> Generator[None, None, None]:
        """What runs in this block, and the tasks it starts, are part of the turn."""
        self.touch()
        token = _inside.set((*_inside.get(), weakref.ref(self)))
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # a coroutine that nobody awaits any more is closed from anywhere
                _inside.reset(token)


class TurnLock:
    """The turns of one session."""

    def __init__(self) -> None:
        self._holder: weakref.ref[Ticket] | None = None
        self._waiting: deque[Ticket] = deque()

    @property
    def busy(self) -> bool:
        """Whether a turn is under way."""
        return self._current() is not None

    def _current(self) -> Ticket | None:
        place = self._holder() if self._holder is not None else None
        return None if place is None or place.loop.is_closed() else place

    async def enter(self) -> Ticket:
        """Wait for the turns before; `leave` with what this answers. Cancelling the wait harms nobody.

        Raises `RuntimeError` where the wait could never end: the caller itself holds the turn up.
        """
        place = Ticket(asyncio.get_running_loop())
        current = self._current()
        if current is None and not self._waiting:
            self._hand(place)
            return place
        self._refuse_own(current)
        place.future = place.loop.create_future()
        self._waiting.append(place)
        if current is None:
            self._next()
        del current  # this wait must not keep it alive
        try:
            await place.future
        except BaseException:
            if self._current() is place:
                self.leave(place)
            elif place in self._waiting:
                self._waiting.remove(place)
            raise
        place.touch()
        return place

    def leave(self, place: Ticket) -> None:
        """The turn is over. Idempotent."""
        if self._holder is not None and self._holder() is place:
            self._next()

    def _refuse_own(self, current: Ticket | None) -> None:
        if current is None:
            return
        if any(turn() is current for turn in _inside.get()):
            raise RuntimeError(
                "a tool asks the session whose turn it is part of, which would wait for itself: use session.fork()"
            )
        if current.task is not None and current.task() is asyncio.current_task():
            raise RuntimeError(
                "this task has a stream of the session open: read it to its end, or leave its block, before you go on"
            )

    def _hand(self, place: Ticket) -> None:
        self._holder = weakref.ref(place, self._lost)

    def _lost(self, holder: weakref.ref[Ticket]) -> None:
        if self._holder is holder:
            self._next()

    def _next(self) -> None:
        self._holder = None
        while self._waiting:
            place = self._waiting.popleft()
            future = place.future
            if future is None or future.done() or place.loop.is_closed():
                continue
            with contextlib.suppress(RuntimeError):  # its loop was closed just now
                # Perhaps from another thread: a forgotten stream is collected anywhere.
                place.loop.call_soon_threadsafe(_wake, future)
                self._hand(place)
                return


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
