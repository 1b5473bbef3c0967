"""A server for tests: real sockets, plain asyncio, answers by script, remembers what it saw.

A script is an async function ``(seen, writer)`` called for each request; `json_answer` and `events` write usual ones.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from openaiasync.testing.wire import Listener, Peer

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
}


def chunk(text: str = "", finish: str | None = None, index: int = 0) -> dict[str, Any]:
    """One event of a chat stream."""
    delta = {"content": text} if text else {}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


@dataclass
class Seen:
    """One request as the server saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Scripted:
    """What a test needs of the running server."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    in_flight: int = 0
    peak: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"


def head(status: int = 200, reason: str = "OK", **fields: str) -> bytes:
    """Status line and fields; underscores in names stand for hyphens."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(body: bytes, status: int = 200, content_type: str = "application/json", **fields: str) -> bytes:
    """A whole answer with a length."""
    return head(status, "X", Content_Type=content_type, Content_Length=str(len(body)), **fields) + body


def json_answer(value: Any, status: int = 200, **fields: str) -> bytes:
    """A whole JSON answer."""
    return answer(json.dumps(value).encode(), status, **fields)


def event(value: Any) -> bytes:
    """One event as one chunk of a chunked body."""
    data = value if isinstance(value, str) else json.dumps(value)
    raw = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


STREAM_HEAD = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
LAST_CHUNK = b"0\r\n\r\n"


def events(values: Iterable[Any], done: bool = True) -> bytes:
    """A whole stream."""
    return STREAM_HEAD + b"".join(map(event, values)) + (event("[DONE]") if done else b"") + LAST_CHUNK


async def chat(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The usual script: a chat answer, whole or as a stream, as the request asks."""
    if seen.body.startswith(b"{") and seen.json().get("stream"):
        writer.write(events([chunk("Hel"), chunk("lo."), chunk(finish="stop")]))
    else:
        writer.write(json_answer(CHAT))


@asynccontextmanager
async def scripted(
    script: Script = chat, *, tls: ssl.SSLContext | None = None, uds: str | None = None
) -> AsyncIterator[Scripted]:
    """Run the server while the block runs."""

    async def serve(peer: Peer) -> None:
        state.connections += 1
        state.open += 1
        try:
            while not peer.writer.is_closing():
                raw = await peer.request()
                method, target, _ = raw.line.split(" ")
                headers = {name.lower(): value for name, value in raw.fields}
                seen = Seen(method, target, headers, raw.body, peer.number + 1)
                state.seen.append(seen)
                state.in_flight += 1
                state.peak = max(state.peak, state.in_flight)
                try:
                    await script(seen, peer.writer)
                    await peer.writer.drain()
                finally:
                    state.in_flight -= 1
        finally:
            state.open -= 1
        await peer.writer.wait_closed()

    state = Scripted(0)
    async with Listener(serve, tls=tls, uds=uds) as listener:
        state.port, state.scheme = listener.port, listener.scheme
        yield state
