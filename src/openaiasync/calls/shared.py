"""What a client and all clients made from it by `with_options` share: connections, places in flight, retry budget."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import weakref
from collections.abc import Callable
from typing import Protocol

from ..core.limits import Limits
from ..core.retry import Budget
from ..errors import ClientClosedError
from ..transport.base import Transport
from .defaults import Defaults
from .gate import Gate

__all__ = ["Guest", "Shared"]


class Guest(Protocol):
    """What is open beside the pools and ends with the client: a WebSocket."""

    loop: asyncio.AbstractEventLoop

    def drop(self) -> None:
        """Close at once."""
        ...


class Shared:
    """One pool for each event loop, everything else for all of them. Not thread-safe, as the client is not."""

    def __init__(self, places: int | None, factory: Callable[[], Transport], limits: Limits | None = None) -> None:
        self.gate: Gate = Gate(places) if limits is None else limits.gate or Gate(limits.max_in_flight)
        if limits is not None:
            limits.gate = self.gate
        self.budget: Budget = Budget()
        self.closed: bool = False
        self.unfinished: int = 0  # streams that ended properly, but did not say that their answer is complete
        self.defaults: Defaults = Defaults()
        self._factory = factory
        self._transports: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Transport] = weakref.WeakKeyDictionary()
        self._last: tuple[weakref.ref[asyncio.AbstractEventLoop], Transport] | None = None
        self._pauses: set[asyncio.Future[None]] = set()
        self._guests: weakref.WeakSet[Guest] = weakref.WeakSet()

    def transport(self, loop: asyncio.AbstractEventLoop) -> Transport:
        """The pool of the running loop; made at its first use. `ClientClosedError` after `aclose`."""
        if self._last is not None and self._last[0]() is loop:
            return self._last[1]
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")
        transport = self._transports.get(loop)
        if transport is None:
            transport = self._transports[loop] = self._factory()
        self._last = (weakref.ref(loop), transport)
        return transport

    def aside(self) -> Shared:
        """The same connections without places in flight: for what a call needs while it holds a place itself."""
        beside = copy.copy(self)
        beside.gate = Gate(None)
        return beside

    def admit(self, guest: Guest) -> None:
        """Have `aclose` drop what is open beside the pools. `ClientClosedError` after it."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")
        self._guests.add(guest)

    async def pause(self, seconds: float) -> None:
        """Sleep before a retry; `aclose` ends it at once."""
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, wake)
        self._pauses.add(wake)
        try:
            await wake
        finally:
            timer.cancel()
            self._pauses.discard(wake)
        if self.closed:
            raise ClientClosedError("the client was closed while the call waited to be tried again")

    async def aclose(self) -> None:
        """End every call under way with `ClientClosedError` and drop every connection, in all loops. Idempotent."""
        self.closed = True
        self._last = None
        self.gate.close(self)
        for wake in list(self._pauses):
            with contextlib.suppress(RuntimeError):
                wake.get_loop().call_soon_threadsafe(_wake, wake)
        for guest in list(self._guests):
            with contextlib.suppress(RuntimeError):
                guest.loop.call_soon_threadsafe(guest.drop)
        running = asyncio.get_running_loop()
        here = self._transports.pop(running, None)
        for loop, transport in list(self._transports.items()):
            # Elsewhere the loop's own thread has to do it; a loop that was closed took its connections with it.
            if not loop.is_closed() and loop.is_running():
                asyncio.run_coroutine_threadsafe(transport.aclose(), loop)
        self._transports.clear()
        if here is not None:
            await here.aclose()
        if self._guests:
            await asyncio.sleep(0)  # those of this loop are dropped in its next turn
            await asyncio.sleep(0)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
