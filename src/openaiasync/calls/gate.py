"""Waiting for a place in flight: the asyncio side of `core.limits.Places`.

First come, first served over all event loops that use the client; a cancelled waiter or holder never loses a place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ..core.limits import Deadlock, Places
from ..errors import APITimeoutError, ClientClosedError, InFlightError
from .log import logger

__all__ = ["Gate"]

SLOW_QUEUE = 5.0  # seconds of waiting after which the log names the option


class Gate:
    """Places in flight of a client and of all clients made from it by `with_options`."""

    def __init__(self, size: int | None) -> None:
        self.places: Places[asyncio.Future[None]] = Places(size)
        self._waiters: dict[asyncio.Future[None], object] = {}

    async def wait(self, owner: object, timeout: float | None, request: object, family: object = None) -> None:
        """Wait until `owner` holds a place. Called after `places.take` said no. `family` is whom `close` names.

        Raises `InFlightError` (it would wait for ever), `APITimeoutError` with clock ``"queue"``, `ClientClosedError`.
        """
        loop = asyncio.get_running_loop()
        ticket: asyncio.Future[None] = loop.create_future()
        try:
            self.places.queue(owner, ticket)
        except Deadlock:
            size = self.places.size
            raise InFlightError(
                f"all {size} places in flight are held by tasks that wait for one themselves (open streams count until "
                f"they are closed): close a stream first, or raise http_max_in_flight (now {size})"
            ) from None
        self._waiters[ticket] = family
        timers = [loop.call_later(SLOW_QUEUE, _warn, self.places)]
        if timeout is not None:
            timers.append(loop.call_later(timeout, _time_out, ticket, request, timeout))
        try:
            await ticket
        except BaseException:
            if not self.places.withdraw(ticket):
                self.leave(owner)
            raise
        finally:
            del self._waiters[ticket]
            for timer in timers:
                timer.cancel()

    def leave(self, owner: object) -> None:
        """Give the place back and wake whoever is next, in whichever event loop it waits."""
        turn = self.places.release(owner)
        if turn is not None:
            self._wake(turn)

    def _wake(self, turn: tuple[asyncio.Future[None], object] | None) -> None:
        # A ticket whose loop was closed under it can use its place no more: it goes to the one behind.
        while turn is not None and not _in_its_loop(turn[0], _grant):
            turn = self.places.release(turn[1])

    def close(self, family: object) -> None:
        """End the waiting of one family of clients with `ClientClosedError`."""
        for ticket in [ticket for ticket, waiter in self._waiters.items() if waiter is family]:
            _in_its_loop(ticket, _refuse)


def _grant(ticket: asyncio.Future[None]) -> None:
    if not ticket.done():
        ticket.set_result(None)


def _refuse(ticket: asyncio.Future[None]) -> None:
    if not ticket.done():
        ticket.set_exception(ClientClosedError("the client was closed while the call waited for a place in flight"))


def _time_out(ticket: asyncio.Future[None], request: object, timeout: float) -> None:
    if not ticket.done():
        message = f"no place in flight became free within {timeout:g} s; nothing was sent"
        ticket.set_exception(APITimeoutError(request, message=message, clock="queue"))


def _in_its_loop(ticket: asyncio.Future[None], act: Callable[[asyncio.Future[None]], None]) -> bool:
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


def _warn(places: Places[asyncio.Future[None]]) -> None:
    logger.warning(
        "a call has waited %g s for a place in flight: all %s are taken and %d calls wait; http_max_in_flight sets how "
        "many there are",
        SLOW_QUEUE,
        places.size,
        places.waiting,
    )
