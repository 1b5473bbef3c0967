"""Every timeout once by the real clock, from which nothing else in these tests is taken: none ends a call too early."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from faults.places import full_port, release
from openaiasync import Client
from openaiasync.errors import OpenAIError
from scripted import CHAT, STREAM_HEAD, chunk, event, json_answer
from wireserver import Peer, Server

LIMIT = 0.05  # seconds


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def stops(peer: Peer) -> None:
    await peer.request()
    await peer.send(STREAM_HEAD + event(chunk("Hi")))
    await peer.gone()


async def drips(peer: Peer) -> None:
    await peer.request()
    await peer.send(STREAM_HEAD)
    while True:
        await peer.send(event(chunk("x")))
        await asyncio.sleep(LIMIT / 10)


async def whole(client: Client) -> Any:
    return await client.chat("hi")


async def streamed(client: Client) -> Any:
    return await client.chat.stream("hi").final()


async def second_in_line(client: Client) -> Any:
    first = asyncio.create_task(client.chat("hi"))
    await asyncio.sleep(0)
    try:
        return await client.chat("hi")
    finally:
        first.cancel()


ENDS: dict[str, tuple[Any, Callable[[Client], Awaitable[Any]], dict[str, Any]]] = {
    "connect": (None, whole, {"http_connect_timeout": LIMIT}),
    "start": (silent, whole, {"http_timeout": LIMIT}),
    "stall": (stops, streamed, {"http_stall_timeout": LIMIT}),
    "deadline": (drips, streamed, {"http_deadline": LIMIT}),
    "queue": (silent, second_in_line, {"http_max_in_flight": 1, "http_other": {"queue_timeout": LIMIT}}),
}


@pytest.mark.parametrize("clock", list(ENDS))
def test_a_timeout_ends_the_call(clock: str) -> None:
    """With an error that names it, after its time and not before."""
    script, call, options = ENDS[clock]

    async def main() -> None:
        async with Server(script or silent) as server:
            port = server.port if script else full_port()
            client = Client(api_base=f"http://127.0.0.1:{port}/v1", model="m", max_retries=0, **options)
            async with client:
                began = time.monotonic()
                with pytest.raises(OpenAIError) as caught:
                    await call(client)
                assert getattr(caught.value, "clock", None) == clock
                assert time.monotonic() - began >= LIMIT * 0.9

    try:
        run(main(), real_clock=True)
    finally:
        release()


def test_a_pause_is_kept() -> None:
    """Before a retry, for as long as the server asks."""
    times: list[float] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            times.append(time.monotonic())
            again = json_answer({}, 503, retry_after_ms=str(int(LIMIT * 1000)))
            await peer.send(json_answer(CHAT) if len(times) > 1 else again)

    async def main() -> None:
        async with Server(script) as server, Client(api_base=server.url, model="m") as client:
            assert (await client.chat("hi")).text == "Hello."

    run(main(), real_clock=True)
    assert times[1] - times[0] >= LIMIT * 0.9


def test_an_idle_connection_is_closed_in_time() -> None:
    """By the client, after `keepalive`, and not before."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(json_answer(CHAT))
            began.append(time.monotonic())
            await peer.gone()
            gone.append(time.monotonic())

        began: list[float] = []
        gone: list[float] = []
        other = {"keepalive": LIMIT}
        async with Server(script) as server, Client(api_base=server.url, model="m", http_other=other) as client:
            await client.chat("hi")
            while not gone:
                await asyncio.sleep(LIMIT / 10)
            assert gone[0] - began[0] >= LIMIT * 0.9

    run(main(), real_clock=True)
