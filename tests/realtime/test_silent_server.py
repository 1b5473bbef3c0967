"""Servers that take nothing: a WebSocket waits for them no longer than its clocks say, and calls nothing sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from conftest import run
from openaiasync import APITimeoutError, WebSocketConnectionClosedError
from realtime.loopback import CREATED, loopback, say

LARGE = "x" * 50_000_000


async def deaf(ws: ServerConnection) -> None:
    """Does not read another byte for longer than any test waits."""
    ws.transport.pause_reading()
    await asyncio.sleep(2.5)
    ws.transport.abort()


@pytest.mark.parametrize("sending", [False, True])
def test_close_ends_within_its_timeout(sending: bool) -> None:
    """Also while a message of 50 MB is stuck before the goodbye; what was not sent raises where it was being sent."""

    async def main() -> None:
        options: Any = {"close_timeout": 0.3}
        async with loopback(deaf) as server, server.client() as client:
            manager = client.realtime.connect(model="m", websocket_connection_options=options)
            connection = await manager.enter()
            task = asyncio.create_task(connection.send_raw(LARGE)) if sending else None
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            await connection.close()
            assert asyncio.get_running_loop().time() - began < 1.5
            if task is not None:
                with pytest.raises(WebSocketConnectionClosedError) as caught:
                    await task
                assert caught.value.unsent_messages == [LARGE]

    run(main())


def test_what_nobody_takes_is_not_sent() -> None:
    """No progress within the stall timeout: an error, and the connection is dropped."""

    async def main() -> None:
        async with loopback(deaf) as server, server.client(timeout=0.5) as client:
            async with client.realtime.connect(model="m") as connection:
                with pytest.raises(APITimeoutError) as caught:
                    await connection.send_raw(LARGE)
                assert caught.value.clock == "stall"
                with pytest.raises(WebSocketConnectionClosedError):
                    await connection.send_raw("more")

    run(main())


def test_what_is_lost_on_its_way_is_not_sent() -> None:
    """The ping goes unanswered, or the server vanishes, while a message waits in the buffer."""

    async def vanishing(ws: ServerConnection) -> None:
        ws.transport.pause_reading()
        await asyncio.sleep(0.2)
        ws.transport.abort()

    async def main() -> None:
        for script, options in ((deaf, {"ping_interval": 0.1, "ping_timeout": 0.2}), (vanishing, {})):
            async with loopback(script) as server, server.client() as client:
                manager = client.realtime.connect(model="m", websocket_connection_options=options)
                connection = await manager.enter()
                with pytest.raises((WebSocketConnectionClosedError, APITimeoutError)):
                    await connection.send_raw(LARGE)
                connection.abandon()

    run(main())


def test_a_slow_reader_is_served() -> None:
    """A message of 50 MB that takes longer than the stall timeout in all, and moves all the time."""
    got: list[int] = []

    async def slow(ws: ServerConnection) -> None:
        transport: Any = ws.transport
        resting = asyncio.create_task(rest(transport))
        async for message in ws:
            got.append(len(message))
            break
        resting.cancel()

    async def rest(transport: Any) -> None:
        while True:
            transport.pause_reading()
            await asyncio.sleep(0.02)
            transport.resume_reading()
            await asyncio.sleep(0.001)

    async def main() -> None:
        options: Any = {"max_size": None}
        async with loopback(slow, **options) as server, server.client(timeout=1.0) as client:
            async with client.realtime.connect(model="m") as connection:
                await connection.send_raw(LARGE)
                assert [event async for event in connection] == []

    run(main())
    assert got == [len(LARGE)]


def test_one_event_and_an_end_again_and_again_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_retries` counts connections that break off at once, whatever they sent first; one that lasts starts anew."""

    async def breaking(ws: ServerConnection) -> None:
        await say(ws, CREATED)
        await ws.close(1011)

    async def main() -> None:
        attempts: list[int] = []
        options: Any = {"initial_delay": 0.001, "max_delay": 0.01, "max_retries": 4}
        async with loopback(breaking) as server, server.client() as client:
            with pytest.raises(WebSocketConnectionClosedError):
                async with client.realtime.connect(
                    model="m", on_reconnecting=lambda event: attempts.append(event.attempt), **options
                ) as connection:
                    async for _ in connection:
                        pass
            assert attempts == [1, 2, 3, 4]
            assert len(server.requests) == 5
            attempts.clear()
            monkeypatch.setattr("openaiasync.realtime.websocket.STEADY", 0.0)
            async with client.realtime.connect(
                model="m", on_reconnecting=lambda event: attempts.append(event.attempt), **options
            ) as connection:
                async for _ in connection:
                    if len(attempts) == 10:
                        break
            assert attempts == [1] * 10

    run(main())
