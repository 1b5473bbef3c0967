"""The official client over the bridge, and ours, to a model by script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import openai

from openaiasync import AsyncOpenAI
from openaiasync.bridge import transport
from openaiasync.bridge.httpx import library_named
from openaiasync.testing import FakeServer

from .replies import Reply, model


class Bridged(NamedTuple):
    """What a test needs."""

    server: FakeServer
    client: openai.AsyncOpenAI
    http: Any


@asynccontextmanager
async def official(*replies: Reply, **words: Any) -> AsyncIterator[Bridged]:
    """The official client over the bridge, in front of a model that gives these replies."""
    async with model(*replies) as server:
        http = library_named(None).AsyncClient(transport=transport(**words))
        client = openai.AsyncOpenAI(base_url=server.url, api_key="sk-test", http_client=http, max_retries=0)
        async with client:
            yield Bridged(server, client, http)


@asynccontextmanager
async def ours(*replies: Reply) -> AsyncIterator[tuple[FakeServer, AsyncOpenAI]]:
    """Our own client in front of a model that gives these replies."""
    async with model(*replies) as server:
        async with AsyncOpenAI(base_url=server.url, api_key="sk-test", max_retries=0) as client:
            yield server, client
