"""Servers, and the state shared by a client and its derived clients.

`Connections` belongs to a client and to all clients made from it by `with_options`: the slots in flight, one transport
for each event loop, and everything that ends when the client is closed. `Upstream` is one of their servers, identified
by its base URL: its retry budget, whether it accepts calls, and which of this library's defaults it refuses. It is
updated only in `Upstream.observe` and `Upstream.settle`.

A server that answers 429 is treated in two steps. One refused call pauses for itself. After three refusals without a
success between them the server counts as overloaded, as further calls would be refused too: nothing new is sent until
the earliest retry time of a refused call. Then one call is sent alone, as a probe: its success admits all calls, its
refusal closes the server again.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from ..core.model.omitted import is_omitted
from ..core.model.secrets import Secret
from ..core.policy.limits import Limits
from ..core.policy.retry import CAPACITY, RetryBudget, is_rate_limit
from ..errors import APIError, APIStatusError, ClientClosedError, ConfigurationError, OpenAIError
from ..lazy import resolve_annotations
from ..transport.base import Transport, added_secrets
from ..transport.waiting import Waiting, reset_after_fork
from .balance import Health
from .in_flight import SLOW_QUEUE, InFlightLimiter, in_its_loop, wake

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from .call import Call
    from .config import BaseURL
    from .paced import PacedCalls

__all__ = ["Closable", "Connections", "Upstream", "refuses_parameter"]

MOST_REFUSALS = 3
_MOST_UPSTREAMS = 256  # servers of one client that are remembered
_USAGE = {"include_usage": True}

Ticket = asyncio.Future[None]


class Closable(Protocol):
    """A resource besides the transports that is closed with the client: a WebSocket."""

    loop: asyncio.AbstractEventLoop

    def drop(self) -> None:
        """Close at once."""
        ...


class _SharedState:
    """Open resources, shared by `Connections.aside` with its original."""

    def __init__(self) -> None:
        self.closed: bool = False
        self.transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        self.last: tuple[weakref.ref[asyncio.AbstractEventLoop], Transport] | None = None
        self.pauses: set[Ticket] = set()
        self.guests: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.upstreams: dict[tuple[str, str], Upstream] = {}


class Connections:
    """One transport for each event loop, and state shared by all loops. Not thread-safe, like the client."""

    def __init__(self, slots: int | None, factory: Callable[[], Transport], limits: Limits | None = None) -> None:
        """Create the connections. Raises `ConfigurationError` if `limits` is not a `Limits`."""
        if limits is not None and not isinstance(limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"limits must be a Limits, not {type(limits).__name__}")
        self.limiter: InFlightLimiter = (
            InFlightLimiter(slots) if limits is None else limits.limiter or InFlightLimiter(limits.max_in_flight)
        )
        if limits is not None:
            limits.limiter = self.limiter
        self.pace: PacedCalls | None = None
        """Paces calls by the user's rate limits, if any are set."""
        if limits is not None and (limits.rpm is not None or limits.tpm is not None or limits.shared is not None):
            from .paced import PacedCalls  # most clients have none

            limits.pace = self.pace = limits.pace or PacedCalls(limits)
        self.unfinished: int = 0
        """The number of streams that ended properly but without a completion signal."""
        self._factory = factory
        self._open = _SharedState()

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._open.closed

    @property
    def family(self) -> object:
        """The family of clients whose waiting calls `aclose` ends."""
        return self._open

    def upstream(self, base: BaseURL) -> Upstream:
        """Return the server at this base URL; its state is shared by all derived clients."""
        known, key = self._open.upstreams, (base.root, base.path)
        upstream = known.get(key)
        if upstream is None:
            if len(known) >= _MOST_UPSTREAMS:
                del known[next(iter(known))]
            upstream = known[key] = Upstream(base)
        return upstream

    def transport(self, loop: asyncio.AbstractEventLoop) -> Transport:
        """Return the transport of the running loop, creating it on first use. Raises `ClientClosedError` after
        `aclose`."""
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
            # A pool keeps its loop alive, and so would this table. The connections of a closed loop are gone.
            for old in [old for old in list(state.transports) if old.is_closed()]:
                state.transports.pop(old, None)
            transport = state.transports[loop] = self._factory()
        state.last = (weakref.ref(loop), transport)
        return transport

    def secrets(self) -> Iterator[Secret]:
        """Yield the secrets that the transports add to requests: a proxy's password."""
        for transport in list(self._open.transports.values()):
            yield from added_secrets(transport)

    def aside(self) -> Connections:
        """Return the same connections without slots, for requests that a call makes while it holds a slot."""
        beside = copy.copy(self)
        beside.limiter = InFlightLimiter(None)
        beside.pace = None
        return beside

    # ---------------------------------------------------------------- closing

    def admit(self, guest: Closable) -> None:
        """Register a resource to be closed by `aclose`. Raises `ClientClosedError` after it."""
        if self.closed:
            raise ClientClosedError("the client is closed; make a new one")
        self._open.guests.add(guest)

    async def pause(self, seconds: float) -> None:
        """Sleep before a retry; `aclose` ends it at once."""
        loop = asyncio.get_running_loop()
        ticket: Ticket = loop.create_future()
        timer = loop.call_later(seconds, wake, ticket)
        try:
            await self.wait(ticket)
        finally:
            timer.cancel()

    async def wait(self, ticket: Ticket) -> None:
        """Wait for a ticket; `aclose` ends it at once. Raises `ClientClosedError` after it."""
        self._open.pauses.add(ticket)
        try:
            await ticket
        finally:
            self._open.pauses.discard(ticket)
        if self.closed:
            raise ClientClosedError("the client was closed while the call waited to be sent")

    async def aclose(self) -> None:
        """End every call under way with `ClientClosedError` and drop every connection, in all loops. Idempotent."""
        state = self._open
        state.closed = True
        state.last = None
        self.limiter.close(state)
        for upstream in list(state.upstreams.values()):
            upstream.reopen()  # its waiters find the client closed
        for ticket in list(state.pauses):
            in_its_loop(ticket, wake)
        for guest in list(state.guests):
            with contextlib.suppress(RuntimeError):
                guest.loop.call_soon_threadsafe(guest.drop)
        here = state.transports.pop(asyncio.get_running_loop(), None)
        for loop, transport in list(state.transports.items()):
            # Other loops' threads close their own; the connections of a closed loop are gone.
            if not loop.is_closed() and loop.is_running():
                asyncio.run_coroutine_threadsafe(transport.aclose(), loop)
        state.transports.clear()
        if here is not None:
            await here.aclose()
        if state.guests:
            await asyncio.sleep(0)  # those of this loop are dropped in its next turn
            await asyncio.sleep(0)


class Upstream:
    """One server. Calls are distinguished by identity only."""

    def __init__(self, base: BaseURL) -> None:
        self.base: BaseURL = base
        self.budget: RetryBudget = RetryBudget()
        self.health: Health = Health()
        self.refusals: int = 0
        """Responses with 429 since the last success; with 0, as usual, calls need not ask for admission."""
        self.until: float | None = None
        """When the earliest refused call is to be sent again, as a time of the event loop."""
        self.probe: object = None
        """The probe that was admitted since."""
        self._waiters: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._refused: set[str] = set()  # defaults of this library that the server refuses
        self._cleared: set[str] = set()  # defaults that the server is known to accept
        reset_after_fork(self)

    # ---------------------------------------------------------------- learning

    def observe(self, call: Call, error: OpenAIError | None = None, retry_at: float | None = None) -> None:
        """Record an attempt: a success (no `error`) when its head arrives, or a failure.

        `retry_at` is the event loop's time of the retry, `None` without one.
        """
        if call.health is self.health:
            self.health.observe(call, error)
        if error is None:
            if self.budget.tokens < CAPACITY:
                self.budget.refill()
            if self.refusals:
                self.reopen()
        elif isinstance(error, APIStatusError) and is_rate_limit(error.status_code, error.code, error.type):
            self._refuse(call, retry_at)
        elif self.probe is call:
            self.left(call)

    def settle(self, call: Call) -> None:
        """Record from an accepted answer which defaults the server accepts and refuses."""
        self._cleared.update(call.request.unasked)
        self._refused.update(call.taken_back)

    # ---------------------------------------------------------------- overloaded servers

    @property
    def is_closed(self) -> bool:
        """Whether no calls are sent except a probe."""
        return self.refusals >= MOST_REFUSALS and self.until is not None

    def admit(self, call: object, now: float) -> bool:
        """Return whether this call may be sent now; a closed server takes it as its probe when one is due."""
        if not self.is_closed or self.probe is call:
            return True
        if self.probe is None and self.until is not None and now >= self.until:
            self.probe = call
            return True
        return False

    async def wait(self, call: object, *, until: float | None, returning: bool) -> None:
        """Wait until this call may be sent. Raises `TimeoutError` at the event loop's time `until`."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout_at(until)
        async with limit:
            while not self.admit(call, loop.time()):
                ticket: Ticket = loop.create_future()
                (self._waiters.appendleft if returning else self._waiters.append)(ticket)
                returning = True  # woken and not admitted, it keeps its place
                try:
                    self._arm()
                    with Waiting(self, lambda: None, SLOW_QUEUE):
                        await ticket
                finally:
                    if ticket in self._waiters:
                        self._waiters.remove(ticket)
                    self._arm()

    def left(self, call: object) -> None:
        """Record that a call ended, or failed in another way: if it was the probe, the next waiter is admitted."""
        if self.probe is call:
            self.probe = None
            self._arm()

    def reopen(self) -> None:
        """Admit every call."""
        self.refusals = 0
        self.until = self.probe = None
        while self._waiters:
            in_its_loop(self._waiters.popleft(), wake)

    def _refuse(self, call: Call, retry_at: float | None) -> None:
        now = call.loop.time()
        self.refusals += 1
        was_probe = self.probe is call
        if was_probe:
            self.probe = None
        if retry_at is not None and (was_probe or self.until is None or self.until <= now or retry_at < self.until):
            self.until = retry_at
        self._arm()

    def _arm(self) -> None:
        """Have the first waiter woken when it may be the probe."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiters or self.probe is not None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() if not self.is_closed or self.until is None else self.until
        self._timer = loop.call_at(at, self._wake_first)

    def _wake_first(self) -> None:
        self._timer = None
        while self._waiters:
            ticket = self._waiters.popleft()
            if not ticket.done() and in_its_loop(ticket, wake):
                return

    def reset(self) -> None:
        """Forget all calls, in a forked child."""
        self.refusals = 0
        self.until = self.probe = self._timer = None
        self._waiters.clear()

    def holders(self) -> Iterable[object]:
        """Return no holders, since only time ends the wait."""
        return (None,)

    def reclaim(self) -> None:
        """Do nothing, as nothing is held."""

    def describe(self) -> str:
        """See `Awaited`."""
        return (
            f"{self.base.root} to take calls again: it answered {self.refusals} with 429 and none with success since, "
            f"and is tried with one call at a time ({len(self._waiters)} calls wait)"
        )

    # ---------------------------------------------------------------- refused defaults

    # This library adds defaults to requests: vectors in base64 and usage in streams. They cost most servers nothing. If
    # a server refuses one, whatever the status, the request is sent again at once without it,
    # and so are all later ones. This does not count as a retry: the caller's own request has not been sent before.

    def with_base64(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return parameters of embeddings that ask for base64, a quarter of the bytes, unless a format is named."""
        return self._with(params, "encoding_format", "base64")

    def with_usage(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return parameters of a stream that ask for usage unless the caller gives ``stream_options``."""
        if "stream_options" in params and params["stream_options"] is None:
            return params
        return self._with(params, "stream_options", _USAGE)

    def _with(self, params: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
        if name in self._refused or not _is_left_out(params, name):
            return params
        return {**params, name: value}

    def without(self, request: Request, error: APIError) -> tuple[Request, tuple[str, ...]] | None:
        """Return the request without the refused default, and the default; `None` if the error is not about one.

        A default that the server's error names is recorded at once. An error that names no parameter may be about a
        default: this is tried once for each server, and recorded if the request succeeds without it.
        """
        found: tuple[str, ...] = tuple(name for name in request.unasked if self._is_meant(name, error))
        if not found or request.body.__class__ is not bytes:
            return None
        fields = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
        changed = copy.copy(request)
        changed.body = msgspec.json.encode({name: value for name, value in fields.items() if name not in found})
        changed.unasked = tuple(name for name in request.unasked if name not in found)
        return changed, found

    def _is_meant(self, name: str, error: APIError) -> bool:
        from ..core.codec.dialects import refuses_default  # only a refusal needs the table

        if refuses_default(error, name, certainly=True):
            self._refused.add(name)
            return True
        suspected = name not in self._cleared and refuses_default(error, name)
        if suspected:
            self._cleared.add(name)
        return suspected


def _is_left_out(params: Mapping[str, Any], name: str) -> bool:
    """Return whether the caller gave no value for a parameter of the body, neither directly nor in ``extra_body``."""
    value = params.get(name)
    if value is not None and not is_omitted(value):
        return False
    extra = params.get("extra_body")
    if extra is None or is_omitted(extra):
        return True
    return isinstance(extra, Mapping) and name not in cast("Mapping[str, Any]", extra)


def refuses_parameter(request: Request, error: APIError) -> bool:
    """Return whether an error names the requested response format, so that a retry would fail again.

    llama-cpp-python answers 500 to a ``response_format`` that it does not know.
    """
    from ..core.codec.dialects import FORMAT_WORDS, names_parameter

    body = request.body
    return body.__class__ is bytes and b'"response_format"' in body and names_parameter(error, FORMAT_WORDS[:1])


resolve_annotations(__name__)
