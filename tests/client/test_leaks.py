"""Ten thousand calls leave nothing behind: no task, no socket, no memory."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from conftest import open_sockets, run
from openaiasync import Client
from openaiasync.demo import demo_app
from openaiasync.server import serve

CALLS = 10_000
SETTLED = 3_000  # calls after which caches are filled
ALLOWED = 2 << 20  # bytes that the rest may add


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(120)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory")
def test_ten_thousand_calls_leave_nothing_behind() -> None:
    """After 10,000 chats against the built-in server tasks and sockets are what they were, memory has not grown."""

    async def calls(client: Client, count: int) -> None:
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                assert (await client.chat("What is 2 + 2?")).text

        await asyncio.gather(*(work() for _ in range(32)))

    async def main() -> None:
        async with serve(demo_app()) as server:
            tasks, sockets = len(asyncio.all_tasks()), len(open_sockets())
            async with Client(api_base=server.base_url, model="demo-chat", http_max_in_flight=32) as client:
                await calls(client, SETTLED)
                gc.collect()
                before = resident()
                await calls(client, CALLS - SETTLED)
                gc.collect()
                grown = resident() - before
                places = client._calls.shared.limiter
                assert (places.used, places.waiting) == (0, 0)
            async with asyncio.timeout(5):
                while server.connections:
                    await asyncio.sleep(0.01)
            assert len(asyncio.all_tasks()) == tasks
            assert len(open_sockets()) == sockets
            assert grown < ALLOWED, f"memory grew by {grown} bytes"

    run(main(), timeout=110)
