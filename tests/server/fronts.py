"""What the tests of the front share."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from openaiasync.server import Front, FrontUpstream, HTTPServer, serve
from openaiasync.server.asgi import Receive, Scope, Send

from .wire import Wire


def chat(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}


@asynccontextmanager
async def fronting(*upstreams: Any, **options: Any) -> AsyncGenerator[tuple[Front, HTTPServer, Wire]]:
    """A front for these servers, and a connection to it."""
    grace = options.pop("grace", 0.2)
    front = Front([_upstream(one) for one in upstreams], **options)
    async with front.listener(grace=grace) as server, Wire(server) as wire:
        yield front, server, wire


def _upstream(one: Any) -> FrontUpstream | str:
    if isinstance(one, FrontUpstream | str):
        return one
    return str(one.base_url if isinstance(one, HTTPServer) else one.url)


class Echo:
    """An upstream that answers with what it received, as JSON, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.pieces: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            self.pieces.append(len(message.get("body", b"")))
            if not message.get("more_body"):
                break
        seen = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "fields": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "length": len(body),
            "body": body[:1000].decode("latin-1"),
        }
        self.seen.append(seen)
        fields = [
            (b"content-type", b"application/json"),
            (b"x-request-id", b"up-1"),
            (b"x-ratelimit-limit-requests", b"7"),
            (b"connection", b"keep-alive, x-private"),
            (b"x-private", b"1"),
            (b"alt-svc", b"h3"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


def echoing() -> tuple[Echo, HTTPServer]:
    app = Echo()
    return app, serve(app)
