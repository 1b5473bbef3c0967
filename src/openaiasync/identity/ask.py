"""Asking a function of the caller's, which may be asynchronous or block: it never blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

__all__ = ["ask"]

T = TypeVar("T")


async def ask(function: Callable[[], T | Awaitable[T]]) -> T:
    """What a function answers; one that is not asynchronous runs in a thread of its own.

    Cancelled, it waits no longer; a thread cannot be ended, and what it still answers is dropped.
    """
    call = getattr(function, "__call__", None)  # noqa: B004  # an object may be called asynchronously
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return await cast("Awaitable[T]", function())
    value = await _in_thread(function)
    return await value if inspect.isawaitable(value) else cast("T", value)


async def _in_thread(function: Callable[[], Any]) -> Any:
    # Not the loop's executor: a function that never ends would keep the program from ending.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(RuntimeError("the function stopped an iteration") if _stops(error) else error)

    def work() -> None:
        value, error = None, None
        try:
            value = context.run(function)
        except Exception as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name="openaiasync: asks for a token", daemon=True).start()
    return await answer


def _stops(error: Exception) -> bool:
    """Whether it is an exception that no future can hold."""
    return isinstance(error, StopIteration)
