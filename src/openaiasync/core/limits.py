"""Places in flight: who holds one, who waits, who is next. No I/O, no event loop: the caller wakes tickets."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

from ..errors import ConfigurationError

__all__ = ["Deadlock", "Limits", "Places"]

T = TypeVar("T")


class Deadlock(Exception):
    """All places are held by owners that wait for a place themselves."""


class Places(Generic[T]):
    """A number of places, given first come, first served.

    An *owner* is whatever holds and waits (a task), a *ticket* (`T`) whatever is woken when its turn has come (a
    future). A place passes straight from who leaves to who waits longest, so that nobody overtakes.
    """

    __slots__ = ("_held", "_queue", "_used", "_waiting", "size")

    def __init__(self, size: int | None) -> None:
        self.size: int | None = size  # None: unbounded
        self._used = 0
        self._held: dict[object, int] = {}
        self._waiting: dict[object, int] = {}
        self._queue: OrderedDict[T, object] = OrderedDict()

    @property
    def used(self) -> int:
        """Places held now."""
        return self._used

    @property
    def waiting(self) -> int:
        """Owners in the queue."""
        return len(self._queue)

    def held_by(self, owner: object) -> int:
        """Places that this owner holds."""
        return self._held.get(owner, 0)

    def take(self, owner: object) -> bool:
        """Hold a place if one is free and nobody is before you."""
        if self.size is not None and (self._used >= self.size or self._queue):
            return False
        self._used += 1
        self._held[owner] = self._held.get(owner, 0) + 1
        return True

    def queue(self, owner: object, ticket: T) -> None:
        """Wait in line with this ticket; `Deadlock` if the line can never move."""
        if all(holder is owner or holder in self._waiting for holder in self._held):
            raise Deadlock
        self._queue[ticket] = owner
        self._waiting[owner] = self._waiting.get(owner, 0) + 1

    def withdraw(self, ticket: T) -> bool:
        """Leave the line; `False` if the ticket has been given its place already (then `release` is due)."""
        owner = self._queue.pop(ticket, None)
        if owner is None:
            return False
        self._wait_less(owner)
        return True

    def release(self, owner: object) -> tuple[T, object] | None:
        """Give a place back; answers the ticket to be woken, if any, and its owner, who holds the place now."""
        left = self._held[owner] - 1
        if left:
            self._held[owner] = left
        else:
            del self._held[owner]
        self._used -= 1
        if not self._queue or (self.size is not None and self._used >= self.size):
            return None
        ticket, next_owner = self._queue.popitem(last=False)
        self._wait_less(next_owner)
        self._used += 1
        self._held[next_owner] = self._held.get(next_owner, 0) + 1
        return ticket, next_owner

    def _wait_less(self, owner: object) -> None:
        left = self._waiting[owner] - 1
        if left:
            self._waiting[owner] = left
        else:
            del self._waiting[owner]


class Limits:
    """Limits that several clients share: ``Client(limits=...)`` on each of them.

    Args:
        max_in_flight: how many calls the servers see at once, over all these clients (`None`: no limit).
        rpm: requests a minute. Not supported yet.
        tpm: tokens a minute. Not supported yet.
    """

    def __init__(self, max_in_flight: int | None = None, rpm: float | None = None, tpm: float | None = None) -> None:
        if max_in_flight is not None and (isinstance(max_in_flight, bool) or max_in_flight < 1):
            raise ConfigurationError("max_in_flight is a whole number from 1 up, or None for no limit")
        if rpm is not None or tpm is not None:
            raise ConfigurationError("limits on requests or tokens a minute (rpm, tpm) are not supported yet")
        self.max_in_flight = max_in_flight
        self.gate: Any = None  # made by the first client that uses these limits

    def __repr__(self) -> str:
        return f"Limits(max_in_flight={self.max_in_flight})"
