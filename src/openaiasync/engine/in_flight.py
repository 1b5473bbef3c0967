"""Slots for calls in flight: the asyncio side of `core.policy.limits.SlotQueue`.

First come, first served over all event loops that use the client; a cancelled waiter or holder never loses a slot.
Slots that can never be released are freed: those held in a closed event loop, and all of them in a forked child.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterable
from functools import partial

from ..core.policy.limits import (
    Deadlock,
    Permit,
    SlotQueue,
    Waiter,
)
from ..errors import ClientClosedError
from ..transport.waiting import SLOW, Waiting, is_stuck, live_owner, reset_after_fork

__all__ = ["InFlightLimiter", "in_its_loop", "wake"]

SLOW_QUEUE: float = SLOW  # seconds of waiting after which the log names the option

Ticket = asyncio.Future[None]


class InFlightLimiter:
    """Limits the calls in flight of a client and of all clients derived from it by `with_options`."""

    def __init__(self, size: int | None) -> None:
        self.slots: SlotQueue[Ticket] = SlotQueue(size)
        self._waiters: dict[Ticket, object] = {}
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None  # the latest waiter
        reset_after_fork(self)

    @property
    def size(self) -> int | None:
        """The number of slots; `None`: no limit."""
        return self.slots.size

    @property
    def used(self) -> int:
        """The number of slots held now."""
        return self.slots.used

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a slot."""
        return self.slots.waiting

    def try_acquire(self, owner: object) -> Permit | None:
        """Return a permit if a slot is free and no call waits; else `None`."""
        return self.slots.try_acquire(owner)

    async def acquire(
        self, owner: object, *, until: float | None = None, family: object = None, returning: bool = False
    ) -> Permit:
        """Wait for a permit, up to the loop's time `until`. `returning` calls go before others; `close` names `family`.

        Raises `Deadlock` (it would wait for ever), `TimeoutError` (with `advice` if a deadlock is likely),
        `ClientClosedError`.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop() is not loop:
            self._loop = weakref.ref(loop)
            self.reclaim()
        permit = self.slots.try_acquire(owner)
        if permit is not None:
            return permit
        ticket: Ticket = loop.create_future()
        waiter = self.slots.enqueue(owner, ticket, returning=returning)
        self._waiters[ticket] = family
        timer = None if until is None else loop.call_at(until, self._time_out, ticket, owner)
        try:
            with Waiting(self, partial(_fail, ticket, Deadlock()), SLOW_QUEUE):
                await ticket
        except BaseException:
            if not self.slots.withdraw(waiter) and waiter.permit is not None:
                self.release(waiter.permit)
            raise
        finally:
            self._waiters.pop(ticket, None)
            if timer is not None:
                timer.cancel()
        assert waiter.permit is not None
        return waiter.permit

    def _time_out(self, ticket: Ticket, owner: object) -> None:
        _fail(ticket, TimeoutError(self.advice()) if is_stuck(owner, self) else TimeoutError())

    def release(self, permit: Permit) -> None:
        """Release the slot and wake the next waiter, in its event loop. Idempotent."""
        waiter = self.slots.release(permit)
        if waiter is not None:
            self.wake(waiter)

    def wake(self, waiter: Waiter[Ticket] | None) -> None:
        """Wake a waiter whose turn has come."""
        # A ticket whose loop was closed cannot use its slot any more: the slot goes to the next one.
        while waiter is not None and waiter.permit is not None and not in_its_loop(waiter.ticket, wake):
            waiter = self.slots.release(waiter.permit)

    def close(self, family: object) -> None:
        """End the waiting of one family of clients with `ClientClosedError`."""
        for ticket in [ticket for ticket, waiter in self._waiters.items() if waiter is family]:
            in_its_loop(ticket, _refuse)

    def reset(self) -> None:
        """Forget everything, in a forked child."""
        self.slots.reset()
        self._waiters.clear()
        self._loop = None

    # ---------------------------------------------------------------- deadlock detection

    def holders(self) -> Iterable[object]:
        """Return the tasks that read the answers of the calls in flight."""
        return [live_owner(permit.owner) for permit in self.slots.held]

    def reclaim(self) -> None:
        """Release slots held for tasks of closed event loops."""
        for permit in [permit for permit in self.slots.held if _is_lost(permit.owner)]:
            self.release(permit)

    def describe(self) -> str:
        """See `Awaited`."""
        return (
            f"a slot: all {self.size} are taken and {self.waiting} calls wait; http_max_in_flight sets how many calls "
            "are in flight at once, and an open stream is one of them until it is closed"
        )

    def advice(self) -> str:
        """Return the error message for a deadlock."""
        return (
            f"all {self.size} slots are held by tasks that wait for one themselves (open streams count until they are "
            f"closed): close a stream first, or raise http_max_in_flight (now {self.size})"
        )


def _is_lost(owner: object) -> bool:
    return isinstance(owner, asyncio.Task) and owner.get_loop().is_closed()


def wake(ticket: Ticket) -> None:
    """Let the task go on that waits for this ticket. Idempotent."""
    if not ticket.done():
        ticket.set_result(None)


def _fail(ticket: Ticket, error: BaseException) -> None:
    if not ticket.done():
        ticket.set_exception(error)


def _refuse(ticket: Ticket) -> None:
    _fail(ticket, ClientClosedError("the client was closed while the call waited for a slot"))


def in_its_loop(ticket: Ticket, act: Callable[[Ticket], None]) -> bool:
    """Run an action on a future in its event loop; return `False` if that loop is closed."""
    loop = ticket.get_loop()
    running: asyncio.AbstractEventLoop | None = None
    with contextlib.suppress(RuntimeError):
        running = asyncio.get_running_loop()
    if loop is running:
        act(ticket)
        return True
    try:
        loop.call_soon_threadsafe(act, ticket)
    except RuntimeError:
        return False
    return True
