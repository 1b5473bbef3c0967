"""Slots for calls in flight: the holders, the queue, and detection of deadlocks.

No I/O and no event loop: the caller wakes the waiters whose turn has come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, Protocol, TypeVar

from ...errors import ConfigurationError
from ..model.secrets import Secret

__all__ = ["Deadlock", "Limits", "Permit", "Resource", "SlotQueue", "Waiter", "stuck"]

T = TypeVar("T")


class Deadlock(Exception):
    """All resources that are waited for are held by owners that wait themselves."""


class Permit:
    """The right to have one call in flight, from sending its request to the end of its answer.

    `owner` is the task that reads the answer, or `None` if that is unknown. (There is no ``__init__``: it would be one
    more Python call for each request.)
    """

    __slots__ = ("owner",)

    owner: object


class Waiter(Generic[T]):
    """An entry of the queue: the caller wakes `ticket`; `permit` is set once its turn has come."""

    __slots__ = ("owner", "permit", "ticket")

    def __init__(self, owner: object, ticket: T) -> None:
        self.owner: object = owner
        self.ticket: T = ticket
        self.permit: Permit | None = None


class SlotQueue(Generic[T]):
    """A number of slots, assigned first come, first served; calls that return from a retry's pause go first.

    A released slot passes directly to the first waiter, so that no new call overtakes the queue.
    """

    __slots__ = ("_held", "_queue", "_returning", "size")

    def __init__(self, size: int | None) -> None:
        self.size: int | None = size  # None: unbounded
        self._held: set[Permit] = set()
        self._queue: OrderedDict[Waiter[T], None] = OrderedDict()
        self._returning: OrderedDict[Waiter[T], None] = OrderedDict()

    @property
    def used(self) -> int:
        """The number of slots held now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """The number of waiters in the queue."""
        return len(self._queue) + len(self._returning)

    @property
    def held(self) -> Collection[Permit]:
        """The permits with a slot."""
        return self._held

    def held_by(self, owner: object) -> int:
        """Return the number of slots whose permits have this owner."""
        return sum(permit.owner is owner for permit in self._held)

    def try_acquire(self, owner: object) -> Permit | None:
        """Return a permit if a slot is free and the queue is empty, otherwise `None`."""
        held = self._held
        if self.size is not None and (len(held) >= self.size or self._queue or self._returning):
            return None
        permit = Permit()
        permit.owner = owner
        held.add(permit)
        return permit

    def enqueue(self, owner: object, ticket: T, *, returning: bool = False) -> Waiter[T]:
        """Join the queue. A `returning` waiter, a call whose retry is due, goes before all others."""
        waiter = Waiter(owner, ticket)
        (self._returning if returning else self._queue)[waiter] = None
        return waiter

    def withdraw(self, waiter: Waiter[T]) -> bool:
        """Leave the queue. Return `False` if the waiter already has a permit, which must then be released."""
        for line in (self._returning, self._queue):
            if waiter in line:
                del line[waiter]
                return True
        return False

    def release(self, permit: Permit) -> Waiter[T] | None:
        """Free a slot; return the next waiter, if any, with its permit set. Idempotent."""
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
        """Make another task, which reads the answer from now on, the owner. No effect after `release`."""
        permit.owner = owner

    def reset(self) -> None:
        """Forget all holders and waiters in a forked child, where the parent's permits can never be released."""
        self._held.clear()
        self._queue.clear()
        self._returning.clear()


class Resource(Protocol):
    """A resource that owners hold and others wait for: slots, or connections to one host."""

    def holders(self) -> Iterable[object]:
        """Return the current owners; `None` stands for an unknown owner, which may release it at any time."""
        ...


def stuck(
    waiting: Mapping[object, Resource], blocked_by: Callable[[AbstractSet[object]], AbstractSet[object]]
) -> AbstractSet[object]:
    """Return the owners in `waiting` that can never continue.

    An owner is stuck if all holders of its resource are stuck, or blocked by owners that are: `blocked_by` returns the
    owners that cannot continue before the given ones do. This is the greatest fixpoint: start with all owners, and
    repeatedly remove each that waits for an owner that can continue.
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
    """Limits on the calls to a server, shared by all clients and jobs that are given this object.

    Args:
        max_in_flight: the maximum number of calls in flight (`None`: no limit).
        rpm: requests per minute (`None`: learned from the server).
        tpm: tokens per minute, of prompts and answers together (`None`: learned from the server).
        shared: the URL of the budget where many processes share `rpm` and `tpm`: ``redis://HOST/0?name=NAME`` (extra
            ``[redis]``; also ``rediss://`` and ``unix://``), ``ray://NAME`` (extra ``[ray]``), or ``local:NAME`` within
            this process. `max_in_flight` stays that of this process. Calls raise `SharedLimitsError` while the budget
            was never reached, and `ConfigurationError` if it has other limits or cannot be used.

    Raises `ConfigurationError` for a value that is not a number above 0.
    """

    def __init__(
        self,
        max_in_flight: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        *,
        shared: str | None = None,
    ) -> None:
        if max_in_flight is not None and (isinstance(max_in_flight, bool) or max_in_flight < 1):
            raise ConfigurationError("max_in_flight must be a whole number, at least 1, or None for no limit")
        for name, value in (("rpm", rpm), ("tpm", tpm)):
            if value is not None and (isinstance(value, bool) or not 0 < value < float("inf")):
                raise ConfigurationError(f"{name} must be a number above 0, or None for no limit")
        self.max_in_flight: int | None = max_in_flight
        self.rpm: float | None = rpm
        self.tpm: float | None = tpm
        self.shared: Secret | None = None if shared is None else Secret(str(shared))
        self.limiter: Any = None  # made by the first client that uses these limits
        self.pace: Any = None  # likewise, if there is a limit on a rate

    def __repr__(self) -> str:
        shared = "" if self.shared is None else ", shared=…"
        return f"Limits(max_in_flight={self.max_in_flight}, rpm={self.rpm}, tpm={self.tpm}{shared})"
