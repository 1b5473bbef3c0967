"""The application learns when the server starts and stops, if it wants to know."""

from __future__ import annotations

import asyncio

import pytest

from conftest import run
from openaiasync.server import serve
from openaiasync.server.asgi import Receive, Scope, Send

from .apps import echo
from .wire import Wire


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


def test_application_that_never_stops() -> None:
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

    before = http._LAST_RESORT
    http._LAST_RESORT = 0.1  # type: ignore[misc]
    try:
        run(main())
    finally:
        http._LAST_RESORT = before  # type: ignore[misc]
