"""Slots in flight over real sockets: who holds one is who reads, none is ever lost, and no wait goes on for ever."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from conftest import run
from cputime import MOST, cpu_seconds
from openaiasync import APITimeoutError, AsyncOpenAI, Client, InFlightError
from openaiasync.engine.in_flight import InFlightLimiter
from openaiasync.transport import waiting
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, chunk, event, head, json_answer, scripted

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadlock is called one after a tenth of the usual time."""
    monkeypatch.setattr("openaiasync.transport.waiting.PATIENCE", 0.2)
    monkeypatch.setattr("openaiasync.transport.waiting.CHECK", 0.05)


async def streaming(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Streams send an event every 10 ms for half a second, other calls are answered at once."""
    if seen.target.endswith("/speech"):
        writer.write(head(Content_Type="audio/mpeg", Transfer_Encoding="chunked") + event("sound"))
        await writer.drain()
        await asyncio.sleep(10)
    if b'"stream":true' not in seen.body:
        writer.write(json_answer(CHAT))
        return
    writer.write(STREAM_HEAD)
    for _ in range(50):
        writer.write(event(chunk("x")))
        await writer.drain()
        await asyncio.sleep(0.01)
    writer.write(event(chunk(finish="stop")) + event("[DONE]") + b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def client_of(server: Scripted, **options: Any) -> AsyncIterator[Client]:
    async with Client(api_base=server.url, model="m", **{"http_max_in_flight": 1, **options}) as client:
        yield client


async def official(client: Client) -> Any:
    return await client.chat.completions.create(messages=MESSAGES, stream=True)


async def in_a_group(client: Client) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(client.chat("more"))


async def in_two(client: Client) -> None:
    await asyncio.gather(client.chat("more"), client.chat("and more"))


async def in_wait(client: Client) -> None:
    task = asyncio.ensure_future(client.chat("more"))
    await asyncio.wait([task])
    await task


async def in_wait_for_any(client: Client) -> None:
    tasks = [asyncio.ensure_future(client.chat(text)) for text in ("more", "and more")]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await done.pop()
    finally:
        for task in tasks:
            task.cancel()


async def as_completed(client: Client) -> None:
    for next_one in asyncio.as_completed([client.chat("more")]):
        await next_one


async def deep(client: Client) -> None:
    async def inner() -> None:
        await asyncio.shield(asyncio.ensure_future(client.chat("more")))

    await asyncio.create_task(inner())


NESTED: dict[str, Callable[[Client], Awaitable[object]]] = {
    "itself": lambda client: client.chat("more"),
    "a task": lambda client: asyncio.ensure_future(client.chat("more")),
    "a group": in_a_group,
    "gather": in_two,
    "wait_for": lambda client: asyncio.wait_for(client.chat("more"), 20),
    "wait": in_wait,
    "wait for any": in_wait_for_any,
    "as_completed": as_completed,
    "over several": deep,
    "a stream": lambda client: asyncio.ensure_future(official(client)),
}


@pytest.mark.parametrize("way", ["wait", "as_completed"])
@pytest.mark.usefixtures("impatient")
def test_waiting_for_any_is_no_deadlock_while_one_can_go_on(way: str) -> None:
    """Where another task ends the wait, the opener goes on, and closes its stream."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server, max_retries=0, http_max_in_flight=1) as client:
            stream = await official(client)
            await anext(stream)
            call = asyncio.ensure_future(client.chat("more"))
            other = asyncio.ensure_future(asyncio.sleep(0.5, "slept"))
            if way == "wait":
                done, _ = await asyncio.wait([call, other], return_when=asyncio.FIRST_COMPLETED)
                assert done == {other}
            else:
                for first in asyncio.as_completed([call, other]):
                    assert await first == "slept"
                    break
            await stream.close()
            assert (await call).text == "Hello."

    run(main())


@pytest.mark.parametrize("limit", ["slots", "connections"])
@pytest.mark.parametrize("way", list(NESTED))
@pytest.mark.usefixtures("impatient")
def test_calling_while_a_stream_is_open_is_an_error_however_it_is_awaited(way: str, limit: str) -> None:
    """The opener that awaits a call, itself or over tasks, holds what the call waits for: `InFlightError`, no hang."""

    async def main() -> None:
        options: dict[str, Any] = {"http_max_in_flight": 1}
        if limit == "connections":
            options = {"http_max_in_flight": 8, "http_max_connections_per_host": 1}
        async with scripted(streaming) as server, client_of(server, max_retries=0, **options) as client:
            stream = await official(client)
            await anext(stream)
            with pytest.raises((InFlightError, ExceptionGroup)) as caught:
                await NESTED[way](client)
            ends = getattr(caught.value, "exceptions", [caught.value])
            assert [type(end) for end in ends] == [InFlightError]
            assert "http_max_" in str(ends[0])
            assert len([piece async for piece in stream]) == 50
            assert (await client.chat("again")).text == "Hello."
            assert client._calls.shared.limiter.used == 0

    run(main())


@pytest.mark.usefixtures("impatient")
def test_one_stuck_call_of_two_ends_and_frees_the_other() -> None:
    """Two tasks that hold both slots and want another each: one gets the error, and the other its answer."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server, http_max_in_flight=2) as client:

            async def holds_and_asks() -> str:
                async with await official(client) as stream:
                    await anext(stream)
                    return (await client.chat("more")).text

            ends = await asyncio.gather(holds_and_asks(), holds_and_asks(), return_exceptions=True)
            assert sorted(map(str, map(type, ends))) == sorted(map(str, (str, InFlightError)))

    run(main())


async def at_once(stream: Any) -> int:
    return len([piece async for piece in stream])


async def by_hand(stream: Any) -> int:
    await anext(stream)
    return 1 + len([piece async for piece in stream])


async def later(stream: Any) -> int:
    await asyncio.sleep(0.1)
    return await at_once(stream)


@pytest.mark.parametrize("kind", ["official", "chat.stream"])
@pytest.mark.parametrize("consumer", [at_once, by_hand, later])
@pytest.mark.usefixtures("impatient")
def test_a_stream_that_is_handed_to_a_consumer_is_no_deadlock(consumer: Any, kind: str) -> None:
    """The reader holds the slot: the opener's call waits for the consumer, longer than the deadlock check."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server) as client:
            if kind == "official":
                stream = await official(client)
            else:
                stream = await client.chat.stream("hi").__aenter__()
            first = await anext(stream)
            task = asyncio.create_task(consumer(stream))
            answer = await client.chat("more")
            assert first.choices[0].delta.content == "x"
            assert answer.text == "Hello."
            assert answer.meta.queued > 0.3
            assert await task == 50

    run(main())


@pytest.mark.usefixtures("impatient")
def test_what_came_already_is_read_by_its_reader() -> None:
    """A consumer that takes its time over events that all have come holds the slot, too."""

    async def burst(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b'"stream":true' not in seen.body:
            return writer.write(json_answer(CHAT))
        parts = [*[event(chunk("x"))] * 4, event(chunk(finish="stop")), event("[DONE]"), b"0\r\n\r\n"]
        return writer.write(STREAM_HEAD + b"".join(parts))

    async def slowly(stream: Any) -> int:
        count = 0
        async for _ in stream:
            await asyncio.sleep(0.15)
            count += 1
        return count

    async def main() -> None:
        async with scripted(burst) as server, client_of(server) as client:
            task = asyncio.create_task(slowly(await official(client)))
            assert (await client.chat("more")).text == "Hello."
            assert await task == 5

    run(main())


@pytest.mark.usefixtures("impatient")
def test_a_sibling_may_be_the_reader() -> None:
    """A parent that awaits a call and a task that can go on is not known to be stuck: that task may read its stream."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server) as client:
            stream = await official(client)
            await anext(stream)

            async def reads_late() -> int:
                await asyncio.sleep(0.6)
                return len([piece async for piece in stream])

            answer, count = await asyncio.gather(client.chat("more"), reads_late())
            assert (answer.text, count) == ("Hello.", 50)

    run(main())


@pytest.mark.parametrize("limit", ["slots", "connections"])
def test_what_cannot_be_told_is_warned_of_and_under_the_queue_clock(
    limit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams that nobody reads: a WARNING with the option's name, and `queue_timeout` ends the wait."""
    monkeypatch.setattr("openaiasync.engine.in_flight.SLOW_QUEUE", 0.1)
    monkeypatch.setattr("openaiasync.transport.pool.SLOW_QUEUE", 0.1)

    async def main() -> None:
        options: dict[str, Any] = {"http_max_in_flight": 1}
        if limit == "connections":
            options = {"http_max_in_flight": 8, "http_max_connections_per_host": 1}
        async with scripted(streaming) as server:
            async with client_of(server, http_other={"queue_timeout": 0.3}, **options) as client:
                stream = await asyncio.create_task(official(client))  # whose task is over
                with pytest.raises(APITimeoutError) as caught:
                    await client.chat("more")
                assert caught.value.clock == "queue"
                assert len(server.seen) == 1
                await stream.close()
                assert (await client.chat("again")).text == "Hello."

    with caplog.at_level(logging.WARNING, "openaiasync"):
        run(main())
    option = "http_max_in_flight" if limit == "slots" else "http_max_connections_per_host"
    assert [option in record.getMessage() for record in caplog.records] == [True]


# -------------------------------------------------------------------------------------------------- lost holders


@pytest.mark.parametrize("way", ["official", "raw", "bytes"])
def test_a_stream_of_a_closed_loop_holds_nothing(way: str) -> None:
    """Its event loop was closed under it, it is still referred to: the next loop's calls have all slots."""
    kept: list[Any] = []
    clients: list[Client] = []

    async def opens() -> None:
        async with scripted(streaming) as server:
            client = Client(api_base=server.url, model="m", http_max_in_flight=1)
            clients.append(client)
            if way == "official":
                kept.append(await official(client))
                await anext(kept[0])
            elif way == "raw":
                manager = client.chat.completions.with_streaming_response.create(messages=MESSAGES, stream=True)
                kept.append(await manager.__aenter__())
            else:
                kept.append(await client.text_to_speech.stream("hi", voice="alloy").__aenter__())

    async def calls() -> None:
        async with scripted(streaming) as server:
            clients[0].base_url = server.url
            assert (await clients[0].chat("hi")).text == "Hello."
            assert clients[0]._calls.shared.limiter.used == 0
            await clients[0].aclose()

    run(opens())
    assert clients[0]._calls.shared.limiter.used == 1
    run(calls())
    kept.clear()
    assert clients[0]._calls.shared.limiter.used == 0


def test_a_loop_that_is_closed_while_another_waits() -> None:
    """A call of one thread gets the slot that a stream of another thread's closed loop took along."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server) as client:
            kept: list[Any] = []
            opened = threading.Event()

            async def opens() -> None:
                kept.append(await official(client))
                await anext(kept[0])
                opened.set()
                await asyncio.sleep(0.2)

            thread = threading.Thread(target=asyncio.run, args=(opens(),))
            thread.start()
            await asyncio.to_thread(opened.wait)
            assert (await client.chat("hi")).text == "Hello."
            await asyncio.to_thread(thread.join)

    run(main())


def test_a_streaming_response_entered_by_hand_and_forgotten_frees_everything() -> None:
    """As with every other kind of open answer, collecting it closes its connection and frees its slot."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server) as client:
            for stream in (True, False):
                create: Any = client.chat.completions.with_streaming_response.create
                response = await create(messages=MESSAGES, stream=stream).__aenter__()
                assert client._calls.shared.limiter.used == 1
                del response
                gc.collect()
                assert (await client.chat("hi")).text == "Hello."
            assert client._calls.shared.limiter.used == 0

    run(main())


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("way", ["official", "chat.stream", "raw", "bytes"])
def test_dropped_by_the_garbage_collector_of_another_thread(way: str, debug: bool) -> None:
    """The last reference goes in another thread, which may not touch the loop's sockets: its own loop frees all."""

    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        async with scripted(streaming) as server, client_of(server) as client:
            kept: list[Any] = []
            if way == "official":
                kept.append(await official(client))
            elif way == "chat.stream":
                kept.append(await client.chat.stream("hi").__aenter__())
            elif way == "raw":
                manager = client.chat.completions.with_streaming_response.create(messages=MESSAGES, stream=True)
                kept.append(await manager.__aenter__())
                del manager
            else:
                kept.append(await client.text_to_speech.stream("hi", voice="alloy").__aenter__())

            def drop() -> None:
                kept.clear()
                gc.collect()

            await asyncio.to_thread(drop)
            assert (await client.chat("hi")).text == "Hello."
            assert client._calls.shared.limiter.used == 0

    run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_all_slots() -> None:
    """What the parent's tasks hold at the fork they can never release in the child; the parent goes on as before."""

    async def main() -> None:
        async with scripted(streaming) as server, client_of(server) as client:
            stream = await official(client)
            await anext(stream)
            waiting = asyncio.create_task(client.chat("behind the stream"))
            await asyncio.sleep(0.05)
            child = os.fork()
            if child == 0:
                try:
                    asyncio._set_running_loop(None)
                    answer = asyncio.run(asyncio.wait_for(client.chat("in the child"), 10))
                    os._exit(0 if answer.text == "Hello." else 1)
                finally:
                    os._exit(2)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
            assert client._calls.shared.limiter.used == 1
            assert len([piece async for piece in stream]) == 50
            assert (await waiting).text == "Hello."

    run(main())


def test_what_a_call_needs_aside_ends_with_the_client() -> None:
    """`Connections.aside` has no slots of its own, and is closed when its original is, before and after it was made."""

    async def main() -> None:
        client = AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k")
        shared = client._calls.shared
        beside = shared.aside()
        loop = asyncio.get_running_loop()
        assert beside.transport(loop) is shared.transport(loop)
        assert beside.limiter.size is None
        await client.close()
        assert beside.closed
        with pytest.raises(Exception, match="closed"):
            beside.transport(loop)

    run(main())


@pytest.mark.parametrize("way", ["gather", "TaskGroup", "wait"])
def test_looking_at_many_waiting_calls_is_cheap(way: str) -> None:
    """A look for deadlocks costs by the number of calls that wait, however their caller awaits them."""

    def look(number: int) -> None:
        async def main() -> None:
            limiter = InFlightLimiter(2)
            loop = asyncio.get_running_loop()
            never: asyncio.Future[None] = loop.create_future()

            async def call() -> None:
                permit = await limiter.acquire(asyncio.current_task())
                try:
                    await never
                finally:
                    limiter.release(permit)

            async def together() -> None:
                if way == "gather":
                    await asyncio.gather(*(call() for _ in range(number)))
                elif way == "wait":
                    await asyncio.wait([asyncio.create_task(call()) for _ in range(number)])
                else:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(number):
                            group.create_task(call())

            caller = asyncio.create_task(together())
            while limiter.waiting < number - 2:
                await asyncio.sleep(0)
            spent.append(cpu_seconds(lambda: waiting._look(loop)))
            never.set_result(None)
            await caller

        asyncio.run(main())

    spent: list[float] = []
    for _ in range(3):
        spent.clear()
        look(400)
        look(1600)
        if spent[1] < MOST * spent[0]:
            return
    raise AssertionError(f"a look at 400 calls took {spent[0]:.4f} s, at 1,600 calls {spent[1]:.4f} s")
