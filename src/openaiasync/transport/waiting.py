"""Watch tasks that wait for a slot or a connection: log a warning for long waits, and end those in a deadlock.

While any task waits, a timer for each event loop checks all of them. A deadlock is declared only after the state has
not changed for a while: a stream that is passed to another task belongs to its opener until that task reads from it.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Any, Protocol, Self, cast

from ..core.policy.limits import Resource, stuck

__all__ = ["SLOW", "Awaited", "Waiting", "is_stuck", "live_owner", "reset_after_fork"]

SLOW: float = 5.0  # seconds of waiting after which the log names the option
WARNING_INTERVAL = 60.0  # seconds between two warnings about one resource
CHECK = 0.25  # seconds between two checks
PATIENCE = 2.0  # seconds that a deadlock must last
MOST = 10_000  # tasks that one check follows; above that there is only the warning
SHARE = 20  # the next look is due after this many times the CPU time of the last one, if that is more than CHECK

logger: logging.Logger = logging.getLogger("openaiasync")


class Awaited(Resource, Protocol):
    """A resource that tasks wait for."""

    def reclaim(self) -> None:
        """Free what is held for an event loop that was closed."""
        ...

    def describe(self) -> str:
        """Describe for the log the resource, its holders, and the option that limits it."""
        ...


class Waiting:
    """A context manager around one task's wait. `end` is called if the wait would never end."""

    def __init__(self, awaited: Awaited, end: Callable[[], None], slow: float = SLOW) -> None:
        self.awaited = awaited
        self.end = end
        self.slow = slow
        self.warned = False
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.since: float = self.loop.time()
        self.stuck_since: float | None = None

    def __enter__(self) -> Self:
        _waits[self] = None
        if self.loop not in _watched:
            _watched.add(self.loop)
            self.loop.call_later(min(CHECK, self.slow), _look, self.loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _waits.pop(self, None)


_waits: dict[Waiting, None] = {}  # oldest first
_watched: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_stuck_at: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[float, weakref.WeakSet[Any]]] = (
    weakref.WeakKeyDictionary()
)
_warned: weakref.WeakKeyDictionary[Awaited, float] = weakref.WeakKeyDictionary()


def live_owner(task: Any) -> Any:
    """Return the task, or `None` if it is done and so no longer reads."""
    return None if _is_task(task) and task.done() else task


def _is_task(value: Any) -> bool:
    return isinstance(value, asyncio.Task)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    """Warn of long waits in this loop, end one in a deadlock, and reschedule."""
    began = time.thread_time()
    here = [wait for wait in list(_waits) if wait.loop is loop]
    if not here:
        _watched.discard(loop)
        return
    now = loop.time()
    for awaited in {id(wait.awaited): wait.awaited for wait in here}.values():
        awaited.reclaim()
    _warn(here, now)
    try:
        _end_a_deadlock(here, now)
    finally:
        loop.call_later(max(min(CHECK, here[0].slow), SHARE * (time.thread_time() - began)), _look, loop)


def _warn(here: list[Waiting], now: float) -> None:
    """Log long waits, at most once a minute for one resource, with the number of calls that wait for it."""
    long = list(itertools.takewhile(lambda wait: now - wait.since >= wait.slow, here))
    for wait in long:
        if not wait.warned and now - _warned.get(wait.awaited, -WARNING_INTERVAL) >= WARNING_INTERVAL:
            _warned[wait.awaited] = now
            count = sum(other.awaited is wait.awaited for other in long)
            calls = "a call has" if count == 1 else f"{count} calls have"
            logger.warning("%s waited %g s for %s", calls, wait.slow, wait.awaited.describe())
        wait.warned = True


def is_stuck(task: object, awaited: Awaited) -> bool:
    """Return whether a task waits for a resource that, as far as is known, is never released."""
    if not _may_be_stuck(awaited):
        return False
    # Many calls may reach their queue timeout at once: one look does for all of them.
    loop = asyncio.get_running_loop()
    seen = _stuck_at.get(loop)
    if seen is None or not 0 <= loop.time() - seen[0] < CHECK:
        seen = _stuck_at[loop] = (loop.time(), weakref.WeakSet(stuck(_waiting_tasks(), _blocked_by)))
    return task in seen[1]


def _waiting_tasks() -> dict[object, Resource]:
    return {wait.task: wait.awaited for wait in list(_waits) if wait.task is not None}


def _end_a_deadlock(here: list[Waiting], now: float) -> None:
    """End the wait that completed the cycle: the latest useful one of those stuck long enough.

    Ending it helps if its own task, or one that awaits it, holds something. The others are checked again later.
    """
    awaited = {id(wait.awaited): wait.awaited for wait in here}.values()
    if len(_waits) > MOST or not any(map(_may_be_stuck, awaited)):
        for wait in here:
            wait.stuck_since = None
        return
    waiting = _waiting_tasks()
    doomed = stuck(waiting, _blocked_by)
    held = {owner for task in doomed for owner in waiting[task].holders()}
    chosen: Waiting | None = None
    for wait in here:
        if wait.task not in doomed:
            wait.stuck_since = None
        elif wait.stuck_since is None:
            wait.stuck_since = now
        elif now - wait.stuck_since >= PATIENCE and held & (_blocked_by({wait.task}, doomed) | {wait.task}):
            chosen = wait
    if chosen is not None:
        for wait in here:
            wait.stuck_since = None
        chosen.end()


def _may_be_stuck(awaited: Awaited) -> bool:
    """Return whether no holder is known to be running, without following which task awaits which."""
    return all(
        isinstance(holder, asyncio.Future) and getattr(cast("Any", holder), "_fut_waiter", None) is not None
        for holder in awaited.holders()
    )


# -------------------------------------------------------------------------------------------------- tasks awaiting
# tasks

# Before Python 3.14 asyncio has no public way to find the awaiters of a task. The attributes read here have existed on
# its tasks and futures in all versions; if one is missing nothing is found, and only the warning remains.


def _blocked_by(tasks: AbstractSet[object], besides: AbstractSet[object] = frozenset()) -> AbstractSet[object]:
    """Return the tasks that wait for these, directly or indirectly, without these themselves.

    `besides` are further tasks that cannot proceed.
    """
    known = {*tasks, *besides}
    blocked: set[object] = set()
    todo = list(tasks)
    # What waits for several tasks is looked at once a round, not once for each of them.
    groups: dict[tuple[int, int], Any] = {}
    while todo and len(blocked) < MOST:
        found: list[object] = []
        for task in todo:
            for callback in _callbacks(task):
                direct = _woken(callback, task)
                if direct is not None:
                    found.append(direct)
                else:
                    groups[_identity(callback)] = callback
        for callback in groups.values():
            found.extend(_waiting_for_all(callback, known))
        todo = [task for task in dict.fromkeys(found) if task not in blocked and task not in tasks]
        blocked.update(todo)
        known.update(todo)
    return blocked


def _waiting_for_all(callback: Any, blocked: AbstractSet[object]) -> Iterator[object]:
    """Tasks that wait for this one and others: `gather`, `TaskGroup`, `wait`, `wait_for`, `shield`, `as_completed`."""
    for future, siblings in _completed_by(callback, blocked):
        if all(one in blocked or one.done() for one in siblings):
            for above in _callbacks(future):
                woken = _woken(above, future)
                if woken is not None:
                    yield woken


def _identity(callback: Any) -> tuple[int, int]:
    """Tell callbacks apart: a method is another object for each task that it was added to."""
    function = getattr(callback, "__func__", None)
    return (id(callback), 0) if function is None else (id(callback.__self__), id(function))


def _callbacks(future: object) -> list[Any]:
    return [entry[0] for entry in getattr(future, "_callbacks", None) or ()]


def _woken(callback: Any, future: object) -> object:
    """Return the task that this callback of a future wakes, if the task waits for just that future."""
    task: Any = getattr(callback, "__self__", None)
    return task if _is_task(task) and getattr(task, "_fut_waiter", None) is future else None


def _completed_by(
    callback: Any, blocked: AbstractSet[object]
) -> Iterator[tuple[object, Iterable[asyncio.Future[Any]]]]:
    """Return the futures that this callback of a task may complete, each with the other tasks it waits for.

    A sibling that can proceed may read what its parent holds; then no deadlock is known.
    """
    values: dict[str, Any] = {}
    if _is_partial(callback):  # wait_for, before Python 3.12
        values.update((str(number), value) for number, value in enumerate(callback.args))
    group = getattr(callback, "__self__", None)
    if group is not None:  # TaskGroup
        values.update(getattr(group, "__dict__", {}))
    code, closure = getattr(callback, "__code__", None), getattr(callback, "__closure__", None)
    for name, cell in zip(code.co_freevars if code is not None else (), closure or (), strict=False):
        try:
            values[name] = cell.cell_contents
        except ValueError:
            continue
    queue = values.get("done", values.get("_done"))
    if isinstance(queue, asyncio.Queue):  # as_completed
        if _all_blocked(callback, len(values.get("todo") or ()) or values.get("_todo_left"), blocked):
            yield from ((getter, ()) for getter in getattr(cast("Any", queue), "_getters", ()))
        return
    ends_with_any = values.get("return_when", asyncio.ALL_COMPLETED) != asyncio.ALL_COMPLETED
    if ends_with_any and not _all_blocked(callback, values.get("counter"), blocked):
        return
    inner = values.get("self")  # the task groups of anyio
    if inner is not None:
        values.update(getattr(inner, "__dict__", {}))
    siblings = cast("Iterable[asyncio.Future[Any]]", values.get("_tasks") or ())
    for value in list(values.values()):
        if isinstance(value, asyncio.Future) and not isinstance(value, asyncio.Task):
            yield cast("Any", value), getattr(cast("Any", value), "_children", None) or siblings


def _all_blocked(callback: Any, left: Any, blocked: AbstractSet[object]) -> bool:
    """Return whether none of the tasks with this callback can proceed, given the number of them not yet done.

    This serves waits that end with any of the tasks.
    """
    return type(left) is int and sum(callback in _callbacks(one) for one in blocked) >= left > 0


def _is_partial(value: Any) -> bool:
    return isinstance(value, functools.partial)


# -------------------------------------------------------------------------------------------------- forks

_forked: weakref.WeakSet[Any] = weakref.WeakSet()


def reset_after_fork(thing: Any) -> None:
    """Register ``thing.reset()`` to be called in every forked child, where the parent's tasks do not run."""
    _forked.add(thing)


def _in_child() -> None:
    _waits.clear()
    _watched.clear()
    for thing in list(_forked):
        thing.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
