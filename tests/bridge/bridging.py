"""What tests of the bridge share: an HTTP client over it, scripts of its servers, a loop to run in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2

from openaiasync.bridge import transport
from scripted import Seen

Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]
QUICK = httpx2.Timeout(20.0)


def bridged(url: str = "", timeout: Any = QUICK, **words: Any) -> httpx2.AsyncClient:
    """An HTTP client over the bridge; never tries again unless told to."""
    return httpx2.AsyncClient(transport=transport(**{"max_retries": 0, **words}), base_url=url, timeout=timeout)


def in_turn(*scripts: Script | bytes) -> Script:
    """A script for each request in turn, the last one for all that follow; bytes are sent as they are."""
    left = list(scripts)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, bytes):
            writer.write(one)
        else:
            await one(seen, writer)

    return script


def cut(raw: bytes) -> Script:
    """These bytes, and then the connection is closed."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    return script


def stuck(raw: bytes = b"") -> Script:
    """These bytes, and then nothing more."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        await asyncio.sleep(3600)

    return script
