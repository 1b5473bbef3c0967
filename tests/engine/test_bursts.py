"""Streams whose events arrive in one piece: all are delivered in order, and other tasks run between them."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, IncompleteStreamError
from openaiasync.engine.streams import TURN
from openaiasync.testing import FakeAnswer, FakeTransport
from scripted import chunk

COUNT = 10 * TURN
EVENTS = FakeAnswer(events=[*(chunk(f"{number} ") for number in range(COUNT)), chunk(finish="stop")])
TEXT = "".join(f"{number} " for number in range(COUNT))
HEAD = {"Content-Type": "text/event-stream"}
PLAIN = FakeAnswer(headers=HEAD, body=b"".join(EVENTS.pieces()))
PACKED = FakeAnswer(headers={**HEAD, "Content-Encoding": "gzip"}, body=gzip.compress(b"".join(EVENTS.pieces())))
BODIES = pytest.mark.parametrize("answer", [PLAIN, PACKED], ids=["plain", "gzip"])


def client_of(answer: FakeAnswer) -> Client:
    transport = FakeTransport(lambda request: answer)
    return Client(api_base="http://fake/v1", model="m", max_retries=0, http_other={"transport": transport})


async def official(client: Client, got: list[str], after: Callable[[], None]) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    stream = await client.chat.completions.create(messages=messages, model="m", stream=True)
    async for piece in stream:
        got += [choice.delta.content or "" for choice in piece.choices]
        after()


async def live(client: Client, got: list[str], after: Callable[[], None]) -> None:
    async with client.chat.stream("hi") as stream:
        async for piece in stream:
            got.append(piece.text)
            after()


WAYS = pytest.mark.parametrize("way", [official, live])


@BODIES
@WAYS
def test_other_tasks_run_between_the_events(answer: FakeAnswer, way: Any) -> None:
    """No more than `TURN` events are delivered before a task that waits for its turn gets it."""

    async def main() -> None:
        turns: list[int] = []
        got: list[str] = []

        async def other() -> None:
            while True:
                turns.append(len(got))
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with client_of(answer) as client:
            await way(client, got, lambda: None)
            task.cancel()
            assert "".join(got) == TEXT
            assert max(after - before for before, after in zip(turns, [*turns[1:], len(got)], strict=True)) <= TURN
            assert client._calls.shared.limiter.used == 0

    run(main())


@WAYS
def test_a_reader_that_is_cancelled_in_a_burst_frees_its_call(way: Any) -> None:
    """The cancellation arrives at the next turn, although more events could be read at once."""

    async def main() -> None:
        async with client_of(PLAIN) as client:
            got: list[str] = []
            task: asyncio.Task[None] = asyncio.create_task(
                way(client, got, lambda: task.cancel() if len(got) == TURN // 2 else None)
            )
            with pytest.raises(asyncio.CancelledError):
                await task
            assert TURN // 2 <= len(got) <= TURN
            assert client._calls.shared.limiter.used == 0

    run(main())


def test_what_is_left_of_a_burst_is_dropped_when_the_stream_is_closed() -> None:
    """A stream that is closed after its first events yields no others."""

    async def main() -> None:
        async with client_of(PLAIN) as client:
            stream: Any = await client.chat.completions.create(
                messages=[{"role": "user", "content": "hi"}], model="m", stream=True
            )
            assert (await anext(stream)).choices[0].delta.content == "0 "
            await stream.close()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            assert client._calls.shared.limiter.used == 0

    run(main())


@WAYS
def test_damage_after_a_burst_is_raised_after_its_events(way: Any) -> None:
    """A compressed body that is damaged at its end yields all events before the damage, then the error."""
    body = [unended_gzip(b"".join(EVENTS.pieces()[:COUNT])), b"\xff" * 40]

    async def main() -> None:
        answer = FakeAnswer(headers={**HEAD, "Content-Encoding": "gzip"}, body=body)
        async with client_of(answer) as client:
            got: list[str] = []
            with pytest.raises(IncompleteStreamError) as caught:
                await way(client, got, lambda: None)
            assert "damaged" in str(caught.value)
            assert "".join(got) == TEXT
            assert client._calls.shared.limiter.used == 0

    run(main())


def unended_gzip(raw: bytes) -> bytes:
    """A gzip stream that is flushed but not ended."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(raw) + packer.flush(zlib.Z_SYNC_FLUSH)
