"""A server for tests: real sockets, plain asyncio, answers by script, remembers what it saw.

A script is an async function ``(seen, writer)`` called for each request; `json_answer` and `events` write usual ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

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
    if seen.body and seen.json().get("stream"):
        writer.write(events([chunk("Hel"), chunk("lo."), chunk(finish="stop")]))
    else:
        writer.write(json_answer(CHAT))


async def _request(reader: asyncio.StreamReader, number: int) -> Seen | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body, number)


@asynccontextmanager
async def scripted(
    script: Script = chat, *, tls: ssl.SSLContext | None = None, uds: str | None = None
) -> AsyncIterator[Scripted]:
    """Run the server while the block runs."""
    state = Scripted(0)
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        state.connections += 1
        state.open += 1
        number = state.connections
        try:
            while (seen := await _request(reader, number)) is not None:
                state.seen.append(seen)
                state.in_flight += 1
                state.peak = max(state.peak, state.in_flight)
                try:
                    await script(seen, writer)
                    await writer.drain()
                finally:
                    state.in_flight -= 1
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            state.open -= 1
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    if uds is not None:
        server: Any = await asyncio.start_unix_server(serve, uds)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        state.port = server.sockets[0].getsockname()[1]
        state.scheme = "https" if tls else "http"
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
