"""Load with faults: every call ends once, rightly or with a typed error; nothing is lost, hammered or left behind."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from conftest import open_sockets, run
from openaiasync import APIError, AsyncOpenAI, Client, OpenAIError
from scripted import json_answer
from wireserver import Peer, Server, client_context, server_context, until

from .invariants import at_rest
from .traffic import OK, Tally, chaos, drive


def resident() -> int:
    """Resident memory in KB; 0 where /proc is not there."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("requests", "streams", "faults"),
    [
        (1_000, 200, 0.07),
        pytest.param(10_000, 2_000, 0.08, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_every_call_ends_once_and_no_stream_ends_short(requests: int, streams: int, faults: float) -> None:
    """Thousands of calls at 7 or 8 % random faults: no short success, no foreign error, nothing held afterwards."""

    async def main() -> Tally:
        tally = Tally()
        async with chaos(7, faults) as (client, behaviour, server):
            await drive(client, tally, requests, streams, seed=1)
            assert not at_rest(client)
            assert behaviour.faulty > requests * faults / 2
            memory, sockets = resident(), len(open_sockets())
            await drive(client, Tally(), requests // 2, streams // 2, seed=2)
            gc.collect()
            assert not at_rest(client)
            assert resident() - memory < 8_000  # KB
            assert len(open_sockets()) <= sockets + 2 * 32
        await server.settled(0)
        return tally

    before = open_sockets()
    tally = run(main(), timeout=500)
    assert not tally.lies, tally.lies[:5]
    assert tally.total == requests + streams
    assert tally.ends["success"] > 0.93 * tally.total
    gc.collect()
    assert open_sockets() <= before


def test_a_dead_backend_is_not_hammered() -> None:
    """Over 1,000 calls a backend that answers nothing but 503 sees less than 1.5 times the load."""

    async def main() -> None:
        seen = 0

        async def script(peer: Peer) -> None:
            nonlocal seen
            while True:
                await peer.request()
                seen += 1
                await peer.send(json_answer({}, 503, retry_after_ms="1"))

        async with Server(script) as server:
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=5) as client:
                for _ in range(10):
                    calls = (client.chat("hi", model="m") for _ in range(100))
                    ends = await asyncio.gather(*calls, return_exceptions=True)
                    assert all(isinstance(end, APIError) for end in ends)
        assert 1_000 < seen < 1_500

    run(main())


def test_streams_pay_back_what_retries_cost() -> None:
    """A client that only streams does not run out of retries for ever: success refills its budget."""

    async def main() -> None:
        async with chaos(3, 0.0) as (client, _, _):
            budget = client._calls.upstream.budget
            budget.spend(budget.tokens)
            tally = Tally()
            await drive(client, tally, 0, 40, seed=1, workers=4)
            assert budget.tokens >= 40

    run(main())


def test_a_rolling_restart_loses_nothing() -> None:
    """Servers that drain (finish what they have, close what is idle) and come back: every call is answered."""

    async def main() -> None:
        serving: set[Peer] = set()
        ends: list[str] = []

        async def script(peer: Peer) -> None:
            serving.add(peer)
            try:
                while True:
                    await peer.request()
                    await asyncio.sleep(0.002)
                    await peer.send(OK)
            finally:
                serving.discard(peer)

        async with Server(script) as server:
            options: dict[str, Any] = {"http_max_in_flight": 16, "max_retries": 5}
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", **options) as client:
                stop = asyncio.Event()

                async def work() -> None:
                    while not stop.is_set():
                        ends.append((await client.chat("hi")).text)

                tasks = [asyncio.create_task(work()) for _ in range(16)]
                for _ in range(6):
                    await asyncio.sleep(0.1)
                    for peer in list(serving):
                        peer.writer.close()  # whatever it is doing
                stop.set()
                await asyncio.gather(*tasks)
                assert not at_rest(client)
        assert len(ends) > 50
        assert set(ends) == {"Hello."}

    run(main())


def test_frozen_tls_peers_hold_no_socket() -> None:
    """Peers that stop in the middle of everything: after `aclose` there is no socket, at once."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK[:50])
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3600)

        before = open_sockets()
        async with Server(script, tls=server_context()) as server:
            base = f"https://127.0.0.1:{server.port}/v1"
            options: dict[str, Any] = {"http_max_in_flight": 8, "http_other": {"ssl": client_context()}}
            client = Client(api_base=base, model="m", **options)
            tasks = [asyncio.create_task(client.chat("x" * 3_000_000)) for _ in range(8)]
            await until(lambda: server.open == 8, timeout=20)
            ours = open_sockets()
            await client.aclose()
            await asyncio.sleep(0.05)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, OpenAIError) for end in ends)
            assert len(ours) - len(open_sockets()) >= 8
        await asyncio.sleep(0.05)
        assert len(open_sockets()) <= len(before) + 2

    run(main())


def test_a_flood_of_new_connections_that_die_leaves_no_socket() -> None:
    """A thousand connects that are refused or reset at once, and not one descriptor more than before."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            if random.random() < 0.5:
                peer.reset()

        async with Server(script) as server:
            options: dict[str, Any] = {"http_max_in_flight": 50, "max_retries": 0}
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", **options) as client:
                ends = await asyncio.gather(*(client.chat("hi") for _ in range(1_000)), return_exceptions=True)
                assert all(isinstance(end, APIError) for end in ends)
                assert not at_rest(client)

    before = open_sockets()
    run(main())
    assert open_sockets() <= before
