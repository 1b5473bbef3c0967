"""Small ASGI applications for tests of the HTTP server."""

from __future__ import annotations

import asyncio
from typing import Any

from openaiasync.server.asgi import AsgiApp, Receive, Scope, Send

PLAIN = [(b"content-type", b"text/plain")]


async def read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise AssertionError("the client left")
        body += message["body"]
        if not message["more_body"]:
            return body


def http_only(app: AsgiApp) -> AsgiApp:
    """An application that raises on the lifespan, as one that does not know it may."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return wrapped


@http_only
async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path, query and body, by Content-Length."""
    body = await read_body(receive)
    answer = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {len(body)} ".encode() + body
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    await send({"type": "http.response.body", "body": answer})


@http_only
async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in three pieces without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    for piece in (b"one ", b"", b"two "):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"three"})


class Watched:
    """Answers with a stream without end; notes how it was stopped."""

    def __init__(self, piece: bytes = b"x" * 1000, pause: float = 0.0) -> None:
        self.piece = piece
        self.pause = pause
        self.sent = 0
        self.ends: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            while True:
                await send({"type": "http.response.body", "body": self.piece, "more_body": True})
                self.sent += 1
                await asyncio.sleep(self.pause)
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise


class Listening:
    """Waits for the client to leave, and notes what `receive` said."""

    def __init__(self) -> None:
        self.started = 0
        self.messages: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.started += 1
        while not self.messages or self.messages[-1]["type"] != "http.disconnect":
            self.messages.append(await receive())
