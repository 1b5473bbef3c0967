"""Slots for calls in flight: who holds one, who waits, who is next, and who waits for ever.

No I/O and no event loop: the caller wakes those whose turn has come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, Protocol, TypeVar

from ...errors import ConfigurationError

__all__ = ["Deadlock", "Limits", "Permit", "Resource", "SlotQueue", "Waiter", "stuck"]

T = TypeVar("T")


class Deadlock(Exception):
    """Everything that is waited for is held by owners that wait themselves."""


class Permit:
    """The right to have one call in flight, from sending its request to the end of its answer.

    `owner` is whoever reads the answer (a task), or `None` where that is not known. (There is no ``__init__``: it would
    be one more Python call for each request.)
    """

    __slots__ = ("owner",)

    owner: object


class Waiter(Generic[T]):
    """A place in the line: `ticket` is what the caller wakes; `permit` is there once it has its turn."""

    __slots__ = ("owner", "permit", "ticket")

    def __init__(self, owner: object, ticket: T) -> None:
        self.owner: object = owner
        self.ticket: T = ticket
        self.permit: Permit | None = None


class SlotQueue(Generic[T]):
    """A number of slots, given first come, first served; those that come back from a retry's pause go first.

    A slot passes straight from who releases it to who waits longest, so that nobody overtakes.
    """

    __slots__ = ("_held", "_queue", "_returning", "size")

    def __init__(self, size: int | None) -> None:
        self.size: int | None = size  # None: unbounded
        self._held: set[Permit] = set()
        self._queue: OrderedDict[Waiter[T], None] = OrderedDict()
        self._returning: OrderedDict[Waiter[T], None] = OrderedDict()

    @property
    def used(self) -> int:
        """Slots held now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Waiters in the line."""
        return len(self._queue) + len(self._returning)

    @property
    def held(self) -> Collection[Permit]:
        """The permits that hold a slot now."""
        return self._held

    def held_by(self, owner: object) -> int:
        """Slots whose permits have this owner."""
        return sum(permit.owner is owner for permit in self._held)

    def try_acquire(self, owner: object) -> Permit | None:
        """Return a permit if a slot is free and nobody is before you."""
        held = self._held
        if self.size is not None and (len(held) >= self.size or self._queue or self._returning):
            return None
        permit = Permit()
        permit.owner = owner
        held.add(permit)
        return permit

    def enqueue(self, owner: object, ticket: T, *, returning: bool = False) -> Waiter[T]:
        """Wait in line; `returning` goes before all who are not, as a call does whose retry is due."""
        waiter = Waiter(owner, ticket)
        (self._returning if returning else self._queue)[waiter] = None
        return waiter

    def withdraw(self, waiter: Waiter[T]) -> bool:
        """Leave the line; `False` if the waiter has a permit already (then `release` is due)."""
        for line in (self._returning, self._queue):
            if waiter in line:
                del line[waiter]
                return True
        return False

    def release(self, permit: Permit) -> Waiter[T] | None:
        """Free a slot; return the waiter whose turn has come, if any, with its permit. Idempotent."""
        held = self._held
        try:
            held.remove(permit)
        except KeyError:
            return None
        line = self._returning or self._queue
        if not line or (self.size is not None and len(held) >= self.size):
            return None
        waiter, _ = line.popitem(last=False)
        waiter.permit = next_permit = Permit()
        next_permit.owner = waiter.owner
        held.add(next_permit)
        return waiter

    def transfer(self, permit: Permit, owner: object) -> None:
        """Let another owner hold the slot: the one who reads the answer from now on. No effect after `release`."""
        permit.owner = owner

    def reset(self) -> None:
        """Forget everybody, as in a forked child: what the parent's tasks hold can never be released here."""
        self._held.clear()
        self._queue.clear()
        self._returning.clear()


class Resource(Protocol):
    """Something that is waited for, held by owners: slots, or connections to one host."""

    def holders(self) -> Iterable[object]:
        """Who holds it now; `None` for an owner that is not known, and so may release it at any time."""
        ...


def stuck(
    waiting: Mapping[object, Resource], blocked_by: Callable[[AbstractSet[object]], AbstractSet[object]]
) -> AbstractSet[object]:
    """Return those of `waiting` that can never go on.

    An owner is stuck if all who hold what it waits for are stuck, or blocked by others that are: `blocked_by` returns
    those that cannot go on before the given ones do. (The greatest fixpoint: start with everybody, and take out
    whoever waits for somebody who can go on.)
    """
    doomed = set(waiting)
    while doomed:
        blocked = doomed | blocked_by(doomed)
        resources = {id(resource): resource for resource in map(waiting.__getitem__, doomed)}
        free: set[int] = set()
        for key, resource in resources.items():
            holders = list(resource.holders())
            if not holders or not blocked.issuperset(holders):
                free.add(key)
        saved = {owner for owner in doomed if id(waiting[owner]) in free}
        if not saved:
            break
        doomed -= saved
    return doomed


class Limits:
    """Limits on the calls to a server, shared by all who name this object.

    Args:
        max_in_flight: how many calls the server sees at once (`None`: no limit).
        rpm: requests a minute (`None`: learned from the server).
        tpm: tokens a minute, of prompts and answers together (`None`: learned from the server).

    Raises `ConfigurationError` for what is not a number above 0.
    """

    def __init__(self, max_in_flight: int | None = None, rpm: float | None = None, tpm: float | None = None) -> None:
        if max_in_flight is not None and (isinstance(max_in_flight, bool) or max_in_flight < 1):
            raise ConfigurationError("max_in_flight is a whole number from 1 up, or None for no limit")
        for name, value in (("rpm", rpm), ("tpm", tpm)):
            if value is not None and (isinstance(value, bool) or not 0 < value < float("inf")):
                raise ConfigurationError(f"{name} is a number above 0, or None for no limit")
        self.max_in_flight: int | None = max_in_flight
        self.rpm: float | None = rpm
        self.tpm: float | None = tpm
        self.limiter: Any = None  # made by the first client that uses these limits
        self.pace: Any = None  # so is this, where there is a limit on a rate

    def __repr__(self) -> str:
        return f"Limits(max_in_flight={self.max_in_flight}, rpm={self.rpm}, tpm={self.tpm})"
