"""Call users' functions in a thread or in the event loop, within a time limit, however they end.

A thread that ends with `SystemExit` does so silently, a task that raises it ends the event loop, and a `CancelledError`
raised by the function looks like the caller's cancellation: each would leave a call waiting, or end more than the call.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError
from ..transport.base import TransportError

__all__ = ["ask", "awaited", "is_asynchronous", "limited"]

T = TypeVar("T")

CANCEL_PATIENCE = 0.05  # seconds that a function has to end once it is cancelled
_UNSET: Any = object()


async def ask(
    function: Callable[[], T | Awaitable[T]],
    what: str = "the function",
    failure: Callable[[str], Exception] = ConfigurationError,
) -> T:
    """Return the result of a function; one that is not asynchronous runs in a new thread.

    Raises the function's exceptions, and `failure` with a message that names `what` for those that would end a thread,
    the event loop or the caller's task: `SystemExit`, `KeyboardInterrupt`, a cancellation that is not the caller's.
    """
    if is_asynchronous(function):
        return await awaited(cast("Callable[[], Awaitable[T]]", function), what, failure)
    from ..storage.threads import run_in_thread  # few keys are asked for in a thread

    value, error = await run_in_thread(function, "openaiasync: asks for a token")
    if isinstance(error, StopIteration):
        raise RuntimeError(f"{what} stopped an iteration") from None  # no coroutine can raise it (PEP 479)
    if error is not None:
        raise error if isinstance(error, Exception) else _ended(what, error, failure)
    if inspect.isawaitable(value):
        return await awaited(lambda: cast("Awaitable[T]", value), what, failure)
    return cast("T", value)


async def awaited(
    function: Callable[[], T | Awaitable[T]], what: str, failure: Callable[[str], Exception] = ConfigurationError
) -> T:
    """Call a function in the event loop, and await what it returns if it can be awaited. Raises the errors of `ask`."""
    try:
        value: Any = function()
        made: T = await value if inspect.isawaitable(value) else value
        return made
    except (Exception, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the caller's
        ended = _ended(what, error, failure)
    except BaseException as error:  # each ends the event loop, or the program
        ended = _ended(what, error, failure)
    raise ended


def _ended(what: str, error: BaseException, failure: Callable[[str], Exception]) -> Exception:
    # Without the error itself, whose frames may hold a secret.
    return failure(f"{what} did not return: it raised {type(error).__name__}")


def is_asynchronous(function: object) -> bool:
    """Return whether a function, or an object's `__call__`, is asynchronous, so that calling it does not block."""
    call = getattr(function, "__call__", None)  # noqa: B004  # an object may be called asynchronously
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, call))


async def limited(work: Coroutine[Any, Any, T], until: float | None, why: str, clock: str = "until") -> T:
    """Return the result of `work`; raise `TransportError` (`why`, `clock`) at the loop's time `until`.

    `work` is a caller's function, which may swallow cancellations. It runs in a separate task, so that the call ends
    on time whatever the function does; a function that does not end when it is cancelled is left behind.
    """
    if until is None:
        return await work
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    task = loop.create_task(work, context=context)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
    except BaseException:
        await _cancelled(task)
        raise
    if not done:
        await _cancelled(task)
        late = TransportError("timeout", why, clock=clock)
        late.by_caller = True
        raise late
    # Context variables that the function set hold for its caller, as in a plain `await`.
    for variable, value in context.items():
        if variable.get(_UNSET) is not value:
            variable.set(value)
    return task.result()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait briefly for its end."""
    task.cancel()
    task.add_done_callback(_retrieved)
    await asyncio.wait({task}, timeout=CANCEL_PATIENCE)


def _retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # retrieve the exception, or asyncio logs it
