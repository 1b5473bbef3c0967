"""What a client and all clients made from it by `with_options` share: connections, slots in flight, retry budget."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from ..core.model.secrets import Secret
from ..core.policy.limits import Limits
from ..core.policy.retry import Budget
from ..errors import ClientClosedError, ConfigurationError
from ..transport.base import Origin, Transport
from .defaults import Defaults
from .in_flight import InFlightLimiter

if TYPE_CHECKING:
    from .config import BaseURL
    from .upstream import Upstream

__all__ = ["Guest", "Shared"]


class Guest(Protocol):
    """What is open beside the pools and ends with the client: a WebSocket."""

    loop: asyncio.AbstractEventLoop

    def drop(self) -> None:
        """Close at once."""
        ...


class _Open:
    """What is open, which `Shared.aside` has in common with its original."""

    def __init__(self) -> None:
        self.closed: bool = False
        self.transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        self.last: tuple[weakref.ref[asyncio.AbstractEventLoop], Transport] | None = None
        self.pauses: set[asyncio.Future[None]] = set()
        self.guests: weakref.WeakSet[Guest] = weakref.WeakSet()


class Shared:
    """One pool for each event loop, everything else for all of them. Not thread-safe, as the client is not."""

    def __init__(self, slots: int | None, factory: Callable[[], Transport], limits: Limits | None = None) -> None:
        if limits is not None and not isinstance(limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"limits is a Limits, not {type(limits).__name__}")
        self.limiter: InFlightLimiter = (
            InFlightLimiter(slots) if limits is None else limits.limiter or InFlightLimiter(limits.max_in_flight)
        )
        if limits is not None:
            limits.limiter = self.limiter
        self.budget: Budget = Budget()
        self.unfinished: int = 0  # streams that ended properly, but did not say that their answer is complete
        self.defaults: Defaults = Defaults()
        self.refusing: dict[Origin, Upstream] = {}  # servers that answered 429 and nothing better since
        self._factory = factory
        self._open = _Open()

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._open.closed

    def transport(self, loop: asyncio.AbstractEventLoop) -> Transport:
        """The pool of the running loop; made at its first use. `ClientClosedError` after `aclose`."""
        last = self._open.last
        if last is not None and last[0]() is loop:
            return last[1]
        return self._transport(loop)

    def _transport(self, loop: asyncio.AbstractEventLoop) -> Transport:
        state = self._open
        if state.closed:
            raise ClientClosedError("the client is closed; make a new one")
        transport = state.transports.get(loop)
        if transport is None:
            # A pool keeps its loop alive, and so would this table. A loop that was closed took its connections along.
            for old in [old for old in list(state.transports) if old.is_closed()]:
                state.transports.pop(old, None)
            transport = state.transports[loop] = self._factory()
        state.last = (weakref.ref(loop), transport)
        return transport

    def secrets(self) -> Iterator[Secret]:
        """What the transports add to requests and nobody may see: a proxy's password."""
        for transport in list(self._open.transports.values()):
            yield from getattr(transport, "secrets", tuple)()

    def aside(self) -> Shared:
        """The same connections without slots: for what a call needs while it holds a slot itself."""
        beside = copy.copy(self)
        beside.limiter = InFlightLimiter(None)
        return beside

    # ---------------------------------------------------------------- servers that refuse

    def refused(self, base: BaseURL, call: object, now: float, retry_at: float | None) -> None:
        """A call was answered 429, and is to be tried again at the loop's time `retry_at`, if at all."""
        upstream = self.refusing.get(base.origin)
        if upstream is None:
            from .upstream import Upstream  # most servers never refuse

            upstream = self.refusing[base.origin] = Upstream(base.root)
        upstream.refused(call, now, retry_at)

    def accepted(self, origin: Origin) -> None:
        """A call was answered 2xx."""
        upstream = self.refusing.pop(origin, None)
        if upstream is not None:
            upstream.accepted()

    # ---------------------------------------------------------------- what ends with the client

    def admit(self, guest: Guest) -> None:
        """Have `aclose` drop what is open beside the pools. `ClientClosedError` after it."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")
        self._open.guests.add(guest)

    @property
    def family(self) -> object:
        """Whose waiting `aclose` ends."""
        return self._open

    async def pause(self, seconds: float) -> None:
        """Sleep before a retry; `aclose` ends it at once."""
        loop = asyncio.get_running_loop()
        wake: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, wake)
        self._open.pauses.add(wake)
        try:
            await wake
        finally:
            timer.cancel()
            self._open.pauses.discard(wake)
        if self.closed:
            raise ClientClosedError("the client was closed while the call waited to be tried again")

    async def aclose(self) -> None:
        """End every call under way with `ClientClosedError` and drop every connection, in all loops. Idempotent."""
        state = self._open
        state.closed = True
        state.last = None
        self.limiter.close(state)
        for upstream in list(self.refusing.values()):
            upstream.accepted()  # who waited finds the client closed
        for wake in list(state.pauses):
            with contextlib.suppress(RuntimeError):
                wake.get_loop().call_soon_threadsafe(_wake, wake)
        for guest in list(state.guests):
            with contextlib.suppress(RuntimeError):
                guest.loop.call_soon_threadsafe(guest.drop)
        here = state.transports.pop(asyncio.get_running_loop(), None)
        for loop, transport in list(state.transports.items()):
            # Elsewhere the loop's own thread has to do it; a loop that was closed took its connections with it.
            if not loop.is_closed() and loop.is_running():
                asyncio.run_coroutine_threadsafe(transport.aclose(), loop)
        state.transports.clear()
        if here is not None:
            await here.aclose()
        if state.guests:
            await asyncio.sleep(0)  # those of this loop are dropped in its next turn
            await asyncio.sleep(0)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
