"""Functions of the caller's: asynchronous or blocking, asked without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import pytest

from conftest import run
from openaiasync.identity.ask import ask

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE")


async def late(value: str = "a") -> str:
    await asyncio.sleep(0)
    return value


class Late:
    """An object that is called asynchronously."""

    async def __call__(self) -> str:
        return await late("c")


@pytest.mark.parametrize(
    ("function", "value"),
    [(late, "a"), (functools.partial(late, "b"), "b"), (Late(), "c"), (lambda: late("d"), "d"), (lambda: "e", "e")],
)
def test_all_kinds_of_functions(function: Any, value: str) -> None:
    """Coroutine functions, what looks like one, functions that answer something to be awaited, and plain ones."""
    assert run(ask(function)) == value


def test_a_blocking_function_blocks_nobody() -> None:
    """It runs in a thread with the caller's context; the loop goes on meanwhile."""
    release = threading.Event()

    def block() -> str:
        assert release.wait(20)
        return f"{WHERE.get()} {threading.current_thread() is threading.main_thread()}"

    async def main() -> str:
        WHERE.set("here")
        asking = asyncio.create_task(ask(block))
        await asyncio.sleep(0.01)
        assert not asking.done()
        release.set()
        return await asking

    assert run(main()) == "here False"


@pytest.mark.parametrize(("raised", "seen"), [(KeyError("x"), KeyError), (StopIteration(), RuntimeError)])
def test_what_it_raises(raised: Exception, seen: type[Exception]) -> None:
    """Is raised; but for an iterator's end, which no coroutine can raise (PEP 479)."""

    def fail() -> str:
        raise raised

    with pytest.raises(seen):
        run(ask(fail))


def test_a_caller_who_leaves() -> None:
    """Is cancelled at once; what the thread answers later is dropped, also when the loop is gone."""
    release = threading.Event()
    ended = threading.Event()

    def block() -> str:
        release.wait(20)
        ended.set()
        return "late"

    async def main() -> None:
        asking = asyncio.create_task(ask(block))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    run(main())
    release.set()
    assert ended.wait(20)
