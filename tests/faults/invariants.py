"""What must hold after every call, whatever happened to it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

from openaiasync import Client, OpenAIError

__all__ = ["LogText", "at_rest", "chain", "error_faults", "shown"]


class LogText(logging.Handler):
    """Everything that any logger says at DEBUG."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.getMessage()} {record.args!r} {record.exc_text or ''}")

    def __enter__(self) -> Self:
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level)


def at_rest(client: Client) -> list[str]:
    """What a client still holds when no call is under way: nothing but idle connections that may be used again."""
    problems: list[str] = []
    shared: Any = client._calls.shared
    places = shared.limiter
    if places.used or places.waiting:
        problems.append(f"{places.used} places in flight are held, {places.waiting} calls wait")
    if shared.limiter._waiters or shared._open.pauses:
        problems.append("a waiter or a pause was left behind")
    for transport in shared._open.transports.values():
        pool = transport._pool
        if pool is None:
            continue
        busy = [one for one in pool._connections if one.current() is not None and not one.dropped]
        idle = sum(not one.dropped for host in pool._hosts.values() for one in host.idle)
        live = sum(not one.dropped for one in pool._connections)
        if busy or live != idle or pool._opening:
            problems.append(f"{live} connections live, {idle} idle, {len(busy)} busy, {len(pool._opening)} opening")
        if any(host.waiters for host in pool._hosts.values()):
            problems.append("a request still waits for a connection")
    return problems


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, hidden ones too."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__]


def frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """Everything of an error, its chain and its tracebacks that a logger or a debugging page would show."""
    for one in chain(error):
        name = type(one).__name__
        yield f"{name} as text", f"{one} {one!r} {one.args!r} {getattr(one, '__notes__', '')!r}"
        for attribute, value in vars(one).items():
            yield f"{name}.{attribute}", deep(value)
        for frame in frames(one):
            code = frame.f_code
            if "/tests/" in code.co_filename:
                continue  # the test's own frames know the key
            for variable, value in frame.f_locals.items():
                yield f"{name}: local {variable} of {code.co_qualname}", deep(value, unfold=False)


def deep(value: Any, depth: int = 4, unfold: bool = True) -> str:
    """The `repr` of a value and of what is in it; with `unfold` also of the public attributes of our own objects."""
    try:
        text = repr(value)
    except AttributeError:
        text = f"<a {type(value).__name__} whose making failed>"
    if depth == 0 or isinstance(value, (str, bytes, int, float, type(None))):
        return text
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    elif unfold and type(value).__module__.startswith("openaiasync") and not callable(value):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        names = {*getattr(value, "__dict__", ()), *slots}
        parts = [getattr(value, name, None) for name in names if not name.startswith("_")]
    return " ".join([text, *(deep(part, depth - 1, unfold) for part in parts[:200])])


def error_faults(error: BaseException, allowed: type[BaseException], *secrets: str) -> list[str]:
    """What is wrong with an error, whichever it is."""
    problems: list[str] = []
    if isinstance(error, OpenAIError):
        if error.side not in ("caller", "server", "network") or not isinstance(error.retryable, bool):
            problems.append(f"side={error.side!r} retryable={error.retryable!r}")
        copy = pickle.loads(pickle.dumps(error))
        if (type(copy), str(copy), copy.side) != (type(error), str(error), error.side):
            problems.append("a pickled copy is another error")
        where = [("pickle", repr(pickle.dumps(error)))]
    elif isinstance(error, allowed):
        where = []
    else:
        return [f"{error!r} is no error of the library"]
    for place, text in [*where, *shown(error)]:
        problems += [f"a secret is shown in {place}" for secret in secrets if secret in text]
    return problems
