"""A timeout optimised for frequent rescheduling: the event loop's timer is re-armed lazily."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["LazyTimer"]


class LazyTimer:
    """Calls `on_expiry` once the time last `set` has passed. Setting it again costs two assignments."""

    __slots__ = ("_due", "_handle", "_loop", "_on_expiry")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._due: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether it is set."""
        return self._due is not None

    def set(self, seconds: float) -> None:
        """Expire this many seconds from now, replacing any earlier setting."""
        self._due = due = self._loop.time() + seconds
        handle = self._handle
        if handle is None:
            self._handle = self._loop.call_at(due, self._fire)
        elif handle.when() > due:
            handle.cancel()
            self._handle = self._loop.call_at(due, self._fire)

    def clear(self) -> None:
        """Do not expire. The event loop's timer is kept for later use."""
        self._due = None

    def stop(self) -> None:
        """Do not expire, and cancel the event loop's timer."""
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
        self._on_expiry()
