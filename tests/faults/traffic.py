"""A server that misbehaves at random, by a seed, and callers that count how each call ends."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openaiasync import Client, OpenAIError
from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, chunk, event, json_answer
from wireserver import Peer, Server

__all__ = ["Chaos", "Tally", "chaos", "drive"]

OK = json_answer(CHAT)
WORDS = [f"word{number} " for number in range(12)]
EVENTS = [event(chunk(word)) for word in WORDS] + [event(chunk(finish="stop")), event("[DONE]") + LAST_CHUNK]
WHOLE = STREAM_HEAD + b"".join(EVENTS)
STATUS_FAULTS = (
    json_answer({"error": {"message": "down"}}, 503, retry_after_ms="5"),
    json_answer({"error": {"message": "later"}}, 429, retry_after_ms="5"),
    json_answer({"error": {"message": "no"}}, 400),
    OK[:-7] + b"}}}}}}}",
    OK.replace(b"HTTP/1.1", b"HTTP/9.9"),
    OK.replace(b"Content-Length: ", b"Content-Length: 9"),
)


class Chaos:
    """Answers rightly but for a share of `faults`; `stalls`: also by saying nothing at all."""

    def __init__(self, seed: int, faults: float, stalls: bool = True) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.stalls = stalls
        self.requests = 0
        self.faulty = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.requests += 1
            streams = b'"stream":true' in request.body.replace(b" ", b"")
            if self.random.random() >= self.faults:
                await peer.send(WHOLE if streams else OK)
                continue
            self.faulty += 1
            if not await self.misbehave(peer, streams):
                return

    async def misbehave(self, peer: Peer, streams: bool) -> bool:
        """One fault; whether the connection goes on."""
        kind = self.random.randrange(8)
        right = WHOLE if streams else OK
        if kind == 0:
            peer.reset()
        elif kind == 1:
            pass  # closed without a byte
        elif kind in (2, 3):
            await peer.send(right[: self.random.randrange(1, len(right) - 20)])  # cut anywhere
            if kind == 3:
                peer.reset()
        elif kind == 4 and self.stalls:
            await peer.send(right[: self.random.randrange(len(right) - 20)])
            await peer.gone()
        elif kind == 5 and streams:
            some = b"".join(EVENTS[: self.random.randrange(12)])
            bad = self.random.choice([event({"error": {"message": "luck"}}), event("{oops"), LAST_CHUNK, b"zz\r\n"])
            await peer.send(STREAM_HEAD + some + bad)
        elif kind == 6:
            await peer.send(right + b"leftover")
        else:
            await peer.send(self.random.choice(STATUS_FAULTS))
            return False
        return False


class Tally:
    """How calls ended."""

    def __init__(self) -> None:
        self.ends: collections.Counter[str] = collections.Counter()
        self.lies: list[str] = []  # what must not be: short answers, foreign errors

    @property
    def total(self) -> int:
        return sum(self.ends.values())

    async def chat(self, client: Client) -> None:
        try:
            answer = await client.chat("hi")
        except BaseException as error:
            self.failed(error)
        else:
            self.succeeded(answer.text, "Hello.")

    async def stream(self, client: Client) -> None:
        got: list[str] = []
        try:
            async with client.chat.stream("hi") as stream:
                async for piece in stream:
                    got += [piece.text]
        except BaseException as error:
            self.failed(error)
            if not "".join(WORDS).startswith("".join(got)):
                self.lies.append(f"a broken stream gave {got}")
        else:
            self.succeeded("".join(got), "".join(WORDS))

    def succeeded(self, text: str, wanted: str) -> None:
        self.ends["success"] += 1
        if text != wanted:
            self.lies.append(f"{text!r} came as a success")

    def failed(self, error: BaseException) -> None:
        self.ends[type(error).__name__] += 1
        if isinstance(error, asyncio.CancelledError):
            raise error
        if not isinstance(error, OpenAIError):
            self.lies.append(repr(error))


async def drive(client: Client, tally: Tally, requests: int, streams: int, seed: int, workers: int = 64) -> None:
    """So many calls of both kinds in random order, by so many tasks."""
    plan = ["chat"] * requests + ["stream"] * streams
    random.Random(seed).shuffle(plan)
    left = iter(plan)

    async def work() -> None:
        for kind in left:
            await (tally.chat(client) if kind == "chat" else tally.stream(client))

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


@asynccontextmanager
async def chaos(seed: int, faults: float, **options: Any) -> AsyncIterator[tuple[Client, Chaos, Server]]:
    """Such a server and a client for it, both closed at the end."""
    behaviour = Chaos(seed, faults)
    async with Server(behaviour) as server:
        given: dict[str, Any] = {"http_max_in_flight": 32, "http_timeout": 2.0, "http_stall_timeout": 2.0, **options}
        async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", **given) as client:
            yield client, behaviour, server
