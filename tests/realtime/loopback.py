"""A WebSocket server on a loopback socket whose every connection runs a script."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve

from openaiasync import AsyncOpenAI
from wireserver import Peer

KEY = "sk-of-the-realtime-tests"
CREATED = {"type": "session.created", "event_id": "e1", "session": {"type": "realtime", "model": "m", "id": "s1"}}
QUIET = logging.getLogger("loopback")
QUIET.setLevel(logging.CRITICAL)

Script = Callable[[ServerConnection], Awaitable[None]]


class Loopback:
    """The server's facts: its URL, and every request that came."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Any] = []
        self.server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def path(self) -> str:
        return str(self.requests[-1].path)

    def field(self, name: str, number: int = -1) -> str | None:
        found: str | None = self.requests[number].headers.get(name)
        return found

    def client(self, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(**{"api_key": KEY, "base_url": self.url, **options})


@contextlib.asynccontextmanager
async def loopback(script: Script, **options: Any) -> AsyncIterator[Loopback]:
    """A server that runs `script` for each connection and closes it when the script returns."""
    here = Loopback()

    async def handler(ws: ServerConnection) -> None:
        here.requests.append(ws.request)
        await script(ws)

    async with serve(handler, "127.0.0.1", 0, logger=QUIET, **options) as server:
        here.server = server
        here.port = next(iter(server.sockets)).getsockname()[1]
        yield here


async def say(ws: ServerConnection, *events: dict[str, Any]) -> None:
    for event in events:
        await ws.send(json.dumps(event))


async def echo(ws: ServerConnection) -> None:
    """Every event comes back under ``conversation.echo``."""
    async for message in ws:
        await say(ws, {"type": "echo", "event": json.loads(message)})


def upgraded(head: str) -> bytes:
    """The answer of a raw server that accepts the upgrade of this request's head."""
    lines = [line for line in head.splitlines() if line.lower().startswith("sec-websocket-key")]
    key = lines[0].partition(":")[2].strip()
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def accept(peer: Peer) -> None:
    """Let a raw server answer the upgrade; what it sends then is its own."""
    request = await peer.head()
    await peer.send(upgraded("\n".join(f"{name}: {value}" for name, value in request.fields)))
