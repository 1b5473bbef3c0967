"""A front with upstreams that do not answer: few requests reach them, and they are used again once they work."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from conftest import run
from openaiasync.server import Front
from openaiasync.testing import FakeAnswer, FakeServer
from openaiasync.transport.base import AttemptTimeouts, TransportRequest, TransportResponse
from openaiasync.transport.tcp import TcpTransport

from .fronts import chat, fronting
from .wire import Wire

CHAT = "/v1/chat/completions"
NOBODY = "http://127.0.0.1:1/v1"
MODELS = {"object": "list", "data": [{"id": "m", "object": "model"}]}


class CountingTransport(TcpTransport):
    """Counts the attempts at chats by the port of the server."""

    def __init__(self, counts: Counter[int]) -> None:
        super().__init__()
        self.counts = counts

    async def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> TransportResponse:
        if request.target.endswith("/chat/completions"):
            self.counts[request.origin.port] += 1
        return await super().send(request, timeouts)


def working(server: FakeServer, delay: float = 0.01) -> FakeServer:
    server.when(path="/models").reply(json=MODELS, times=None)
    server.reply("fine", times=None, delay=delay)
    return server


async def statuses(server: Any, *, clients: int, requests: int) -> Counter[int]:
    """The statuses of chats that some clients send one after the other, all of them as one."""
    left = iter(range(requests))
    found: Counter[int] = Counter()

    async def client() -> None:
        async with Wire(server) as wire:
            for _ in left:
                found[(await wire.call("POST", CHAT, chat())).status] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return found


@pytest.mark.parametrize("how", ["refused", "reset", "500"])
def test_a_dead_upstream_beside_one_that_works(how: str) -> None:
    """Of 300 requests it gets the three that open its breaker, those sent meanwhile, and one probe each 2 to 4 s."""

    async def main() -> None:
        counts: Counter[int] = Counter()
        async with FakeServer() as dead, FakeServer() as good:
            working(good)
            dead.when(path="/models").reply(json=MODELS, times=None)
            dead.cut(reset=True, times=None) if how == "reset" else dead.fail(500, times=None)
            url = NOBODY if how == "refused" else dead.url
            options: dict[str, Any] = {"transport": lambda: CountingTransport(counts)}
            async with fronting(url, good, **options) as (_, server, _):
                began = asyncio.get_running_loop().time()
                assert await statuses(server, clients=8, requests=300) == {200: 300}
                passed = asyncio.get_running_loop().time() - began
            tries = counts[1 if how == "refused" else dead.port]
            assert 3 <= tries <= 3 + 8 + 1 + passed / 2
            assert counts[good.port] == 300

    run(main())


@pytest.mark.parametrize("known", [0, 10], ids=["from the start", "after it had answered"])
def test_an_upstream_that_falls_silent(known: int) -> None:
    """While its first requests wait for their timeout, hardly another one is sent to it."""

    async def main() -> None:
        counts: Counter[int] = Counter()
        async with FakeServer() as silent, FakeServer() as good:
            working(good)
            silent.when(path="/models").reply(json=MODELS, times=None)
            if known:
                silent.reply("fine", times=known, delay=0.01)
            silent.respond(FakeAnswer(raw=b"", hang=True), times=None)
            options: dict[str, Any] = {"max_retries": 0, "timeout": 10.0}
            options["transport"] = lambda: CountingTransport(counts)
            async with fronting(silent, good, **options) as (_, server, _):
                found = await statuses(server, clients=16, requests=200)
            assert found[504] <= 16 // 2 + 4
            assert found[200] == 200 - found[504]
            assert counts[silent.port] <= known + 16 // 2 + 4

    run(main())


def test_no_upstream_can_be_reached() -> None:
    """After three attempts a request is refused at once, with the time after which the next one may be a probe."""

    async def main() -> None:
        counts: Counter[int] = Counter()
        transport = lambda: CountingTransport(counts)  # noqa: E731
        async with FakeServer() as upstream:
            upstream.when(path="/models").reply(json=MODELS, times=None)
            upstream.cut(reset=True, times=6)
            upstream.reply("fine", times=None)
            front = Front([upstream.url], max_retries=0, transport=transport)
            async with front.listener(grace=0.2) as server, Wire(server) as wire:
                began = asyncio.get_running_loop().time()
                for _ in range(3):
                    assert (await wire.call("POST", CHAT, chat())).status == 502
                refused = 0
                while (answer := await wire.call("POST", CHAT, chat())).status != 200:
                    if answer.status == 502:  # a probe
                        continue
                    refused += 1
                    assert (answer.status, answer.error()["code"]) == (503, "upstream_unreachable")
                    assert f"127.0.0.1:{upstream.port}" in answer.error()["message"]
                    assert 1 <= int(answer.fields["retry-after"]) <= 4
                    await asyncio.sleep(0.1)
                assert counts[upstream.port] == 7  # three failures, three probes that failed and one that did not
                assert refused > 50
                assert 1 + 2 + 4 + 4 <= asyncio.get_running_loop().time() - began <= 15
                assert (await wire.call("POST", CHAT, chat())).status == 200
                assert (await wire.call("GET", "/v1/models")).status == 200

    run(main())


def test_a_request_that_makes_an_upstream_fail_shuts_out_no_other() -> None:
    """5xx open the breaker, too, but the only upstream is still sent what others ask."""

    async def main() -> None:
        async with FakeServer() as upstream:
            upstream.when(path="/models").reply(json=MODELS, times=None)
            upstream.when(contains="poison").fail(500, times=None)
            upstream.reply("fine", times=None)
            async with fronting(upstream, max_retries=0) as (_, _, wire):
                poison = {"model": "m", "messages": [{"role": "user", "content": "poison"}]}
                for _ in range(5):
                    assert (await wire.call("POST", CHAT, poison)).status == 500
                assert (await wire.call("POST", CHAT, chat())).status == 200

    run(main())
