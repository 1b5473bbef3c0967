"""A clock that is moved often and rings seldom: it re-arms itself only when it would have rung too early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Calls `ring` once the time last `set` has come; moving it costs two assignments."""

    __slots__ = ("_due", "_handle", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Ring in so many seconds from now, whatever was set before."""
        self._due = due = self._loop.time() + seconds
        handle = self._handle
        if handle is None:
            self._handle = self._loop.call_at(due, self._fire)
        elif handle.when() > due:
            handle.cancel()
            self._handle = self._loop.call_at(due, self._fire)

    def clear(self) -> None:
        """Do not ring. The timer underneath stays, to be used again."""
        self._due = None

    def stop(self) -> None:
        """Do not ring, and leave no timer behind."""
        self._due = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._handle = self._loop.call_at(self._due, self._fire)
            return
        self._due = None
        self._ring()
