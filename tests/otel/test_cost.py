"""What telemetry costs when it is off: nothing, counted in Python calls."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from bench.test_budgets import MESSAGES, client, server, streamed, whole
from openaiasync import Client
from openaiasync.otel import instrument, uninstrument


async def chat(made: Client) -> None:
    await made.chat(MESSAGES)


async def live(made: Client) -> None:
    async with made.chat.stream(MESSAGES) as stream:
        async for _ in stream:
            pass


async def calls_of(act: Callable[[], Awaitable[None]]) -> int:
    """Return the Python functions that a warm `act` calls, the event loop's among them.

    The fewest of several runs: an answer that a busy machine delivers in two pieces costs a few more.
    """
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    for _ in range(3):
        await act()
    counts: list[int] = []
    gc.disable()  # a finalizer is a function, too
    try:
        for _ in range(8):
            count = 0
            sys.setprofile(profile)
            try:
                await act()
            finally:
                sys.setprofile(None)
            counts.append(count)
    finally:
        gc.enable()
    return min(counts)


def test_nothing_is_left_of_what_was_switched_off() -> None:
    """A client that was instrumented, and is no more, runs as many Python calls as one that never was."""

    async def main(base: str, stream: bool) -> tuple[int, int]:
        act = live if stream else chat
        async with client(base) as plain, client(base) as once:
            instrument(once)
            await act(once)
            uninstrument(once)
            return await calls_of(lambda: act(plain)), await calls_of(lambda: act(once))

    with server(whole()) as base:
        never, before = asyncio.run(main(base, False))
    assert never == before > 0
    with server(streamed()) as base:
        never, before = asyncio.run(main(base, True))
    assert abs(never - before) <= 0.02 * never  # events come in as many pieces as the socket likes
