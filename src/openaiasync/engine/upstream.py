"""A server that refuses calls with 429, and who may try it next.

One refused call pauses for itself. After three refusals without a success between them the server is overloaded, and
every call that comes would only be refused, too: nothing new is sent until the earliest time at which a refused call is
to be tried again. Then one call goes alone; its success lets all go, its refusal closes the server again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from ..transport.waiting import Waiting, reset_after_fork
from .in_flight import SLOW_QUEUE, in_its_loop

__all__ = ["Upstream"]

MOST_REFUSALS = 3

Ticket = asyncio.Future[None]


class Upstream:
    """One server, from its first 429 to its next 2xx. Calls are told apart by identity only."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.refusals: int = 0
        self.until: float | None = None  # a loop's time: when the earliest refused call is to be tried again
        self.probe: object = None  # the call that was let through since
        self._waiters: deque[Ticket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        reset_after_fork(self)

    @property
    def is_closed(self) -> bool:
        """Whether calls have to wait."""
        return self.refusals >= MOST_REFUSALS and self.until is not None

    def admit(self, call: object, now: float) -> bool:
        """Whether this call may be sent now; a closed server takes it as its probe when it is time."""
        if not self.is_closed or self.probe is call:
            return True
        if self.probe is None and self.until is not None and now >= self.until:
            self.probe = call
            return True
        return False

    async def wait(self, call: object, *, until: float | None, returning: bool) -> None:
        """Wait until this call may be sent. `TimeoutError` at the loop's time `until`."""
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

    def refused(self, call: object, now: float, retry_at: float | None) -> None:
        """A call was answered 429; it is to be tried again at `retry_at`, if at all."""
        self.refusals += 1
        was_probe = self.probe is call
        if was_probe:
            self.probe = None
        if retry_at is not None and (was_probe or self.until is None or self.until <= now or retry_at < self.until):
            self.until = retry_at
        self._arm()

    def left(self, call: object) -> None:
        """A call ended or failed in another way: if it was the probe, the next one goes."""
        if self.probe is call:
            self.probe = None
            self._arm()

    def accepted(self) -> None:
        """A call was answered 2xx: everybody goes on."""
        self.refusals = 0
        self.until = self.probe = None
        while self._waiters:
            in_its_loop(self._waiters.popleft(), _wake)

    def _arm(self) -> None:
        """Have the first that waits woken when it may be the probe."""
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
            if not ticket.done() and in_its_loop(ticket, _wake):
                return

    def reset(self) -> None:
        """Forget everything, in a forked child."""
        self.refusals = 0
        self.until = self.probe = self._timer = None
        self._waiters.clear()

    # ---------------------------------------------------------------- what waiting looks at

    def holders(self) -> Iterable[object]:
        """Nobody that is known: time will tell."""
        return (None,)

    def reclaim(self) -> None:
        """Nothing is held."""

    def describe(self) -> str:
        """See `Awaited`."""
        return (
            f"{self.root} to take calls again: it answered {self.refusals} with 429 and none with success since, and "
            f"is tried with one call at a time ({len(self._waiters)} calls wait)"
        )


def _wake(ticket: Ticket) -> None:
    if not ticket.done():
        ticket.set_result(None)
