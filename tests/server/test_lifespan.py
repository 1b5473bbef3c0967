"""The application learns when the server starts and stops, if it wants to know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conftest import run
from openaiasync.server import Server, serve
from openaiasync.server.asgi import Message, Receive, Scope, Send

from .apps import echo
from .wire import Wire, request


def test_startup_and_shutdown() -> None:
    """Before the first connection, and after the last."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            seen.append(scope["type"])
            await echo(scope, receive, send)
            return
        for _ in range(2):
            kind = (await receive())["type"]
            await asyncio.sleep(0.01)
            seen.append(kind)
            await send({"type": f"{kind}.complete"})

    async def main() -> None:
        async with serve(app) as server, Wire(server) as wire:
            assert (await wire.call("GET", "/")).status == 200
        assert seen == ["lifespan.startup", "http", "lifespan.shutdown"]

    run(main())


@pytest.mark.parametrize(("message", "words"), [("no model file", "no model file"), ("", "no reason")])
def test_failed_startup(message: str, words: str) -> None:
    """The server does not listen, and says why."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": message})

    async def main() -> None:
        with pytest.raises(RuntimeError, match=words):
            async with serve(app):
                raise AssertionError("unreachable")

    run(main())


def test_application_without_lifespan() -> None:
    """Raising means it knows none; returning early is as good."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await echo(scope, receive, send)

    async def main() -> None:
        for app in (echo, silent):
            async with serve(app) as server, Wire(server) as wire:
                assert (await wire.call("GET", "/")).status == 200

    run(main())


def test_application_that_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled, not waited for."""
    from openaiasync.server import http

    ends: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.sleep(3600)
        finally:
            ends.append("cancelled")

    async def main() -> None:
        async with serve(app):
            pass
        assert ends == ["cancelled"]

    monkeypatch.setattr(http, "_ABORT_TIMEOUT", 0.1)  # seconds
    run(main())


def slow_app() -> Server:
    app = Server()

    @app.chat("m")
    async def reply(request: Any) -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(1000)

    return app


BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_a_whole_answer_at_the_deadline() -> None:
    """Its request is cancelled, and refused with 503 and Retry-After, as one that came too late."""

    async def main() -> None:
        server = serve(slow_app(), grace=0.2)
        await server.start()
        async with Wire(server) as wire:
            await wire.send(request("POST", "/v1/chat/completions", BODY))
            while not server.in_flight:
                await asyncio.sleep(0.01)
            closing = asyncio.create_task(server.close())
            answer = await wire.answer("POST")
            assert (answer.status, answer.error()["code"]) == (503, "server_shutting_down")
            assert answer.fields["retry-after"] == "1"
            await closing

    run(main())


def test_a_server_that_does_not_wait() -> None:
    """An ASGI server may cancel requests and end at once after the shutdown, as uvicorn does: that waits for their
    last bytes."""

    async def main() -> None:
        app = slow_app()
        state: dict[str, Any] = {}
        events: asyncio.Queue[Message] = asyncio.Queue()
        told: asyncio.Queue[str] = asyncio.Queue()
        sent: list[Message] = []
        begun = asyncio.Event()

        async def tell(message: Message) -> None:
            told.put_nowait(message["type"])

        async def receive() -> Message:
            if begun.is_set():
                await asyncio.sleep(1000)
            begun.set()
            return {"type": "http.request", "body": json.dumps({**BODY, "stream": True}).encode()}

        async def send(message: Message) -> None:
            await asyncio.sleep(0.05)  # a network that takes its time
            sent.append(message)

        lifespan = asyncio.create_task(app({"type": "lifespan", "state": state}, events.get, tell))
        events.put_nowait({"type": "lifespan.startup"})
        assert await told.get() == "lifespan.startup.complete"
        path = "/v1/chat/completions"
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "state": state}
        serving = asyncio.create_task(app(scope, receive, send))
        while len(sent) < 3:
            await asyncio.sleep(0.01)
        serving.cancel()
        events.put_nowait({"type": "lifespan.shutdown"})
        assert await told.get() == "lifespan.shutdown.complete"
        assert b"server_shutting_down" in sent[-1]["body"]
        await asyncio.wait([lifespan, serving])
        assert serving.cancelled()

    run(main())
