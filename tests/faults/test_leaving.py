"""Callers that leave: cancelled at any instant, several loops, forks, interpreters that exit with streams open."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import weakref
from typing import Any

import pytest

from conftest import open_sockets, run
from openaiasync import Client, InFlightError, OpenAIError
from openaiasync.engine.in_flight import InFlightLimiter
from scripted import CHAT, STREAM_HEAD, chunk, event, json_answer, scripted
from wireserver import Peer, Server, client_context, server_context, until

from .calls import CALLS
from .invariants import at_rest

OK = json_answer(CHAT)
STREAM = (STREAM_HEAD, event(chunk("Hi")), event(chunk(finish="stop")), event("[DONE]"), b"0\r\n\r\n")


async def slowly(peer: Peer) -> None:
    """Answers rightly, a piece every few milliseconds."""
    while True:
        request = await peer.request()
        parts = STREAM if b'"stream":true' in request.body else (OK[:20], OK[20:90], OK[90:])
        await peer.send(*parts, pause=0.003)


@pytest.mark.parametrize("tls", [False, True])
def test_cancelled_at_any_instant(tls: bool) -> None:
    """Hundreds of calls cancelled at random instants: no socket, task or place is lost, no answer mixed up."""

    async def main() -> None:
        dice = random.Random(11)
        async with Server(slowly, tls=server_context() if tls else None) as server:
            scheme, other = ("https", {"ssl": client_context()}) if tls else ("http", {})
            options: dict[str, Any] = {"http_max_in_flight": 6, "http_other": other, "max_retries": 1}
            async with Client(api_base=f"{scheme}://127.0.0.1:{server.port}/v1", model="m", **options) as client:
                for _ in range(12):
                    kinds = [dice.choice(["chat", "stream", "official_stream", "upload"]) for _ in range(25)]
                    tasks = [asyncio.create_task(CALLS[kind](client, [])) for kind in kinds]
                    for task in dice.sample(tasks, 18):
                        asyncio.get_running_loop().call_later(dice.random() * 0.06, task.cancel)
                    for end in await asyncio.gather(*tasks, return_exceptions=True):
                        assert end in ("Hello.", "Hi", "chatcmpl-1") or isinstance(end, asyncio.CancelledError), repr(
                            end
                        )
                    assert not at_rest(client)
                await until(lambda: server.open <= 6)
            await server.settled(0)

    before = open_sockets()
    run(main())
    gc.collect()
    assert open_sockets() <= before


def test_streams_left_at_any_instant() -> None:
    """Streams broken out of, closed, dropped or cancelled after any number of events free everything at once."""

    async def main() -> None:
        dice = random.Random(5)

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(STREAM_HEAD)
            for _ in range(1_000):
                await peer.send(event(chunk("x")))
                await asyncio.sleep(0.001)

        async with Server(script) as server:
            options: dict[str, Any] = {"http_max_in_flight": 5}
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m", **options) as client:

                async def leave(way: str) -> None:
                    stream = client.chat.stream("hi")
                    for _ in range(dice.randrange(5)):
                        await anext(stream)
                    if way == "close":
                        await stream.close()
                    elif way == "break":
                        async with stream:
                            async for _ in stream:
                                break

                for _ in range(8):
                    await asyncio.gather(*(leave(way) for way in ("close", "break", "drop", "close", "drop")))
                gc.collect()
                assert not at_rest(client)
                await server.settled(0)

    run(main())


def test_a_place_is_never_lost() -> None:
    """Waiters, holders, and both at once are cancelled ten thousand times; all places are there at the end."""

    async def main() -> None:
        dice = random.Random(3)
        limiter = InFlightLimiter(3)

        async def use() -> None:
            owner = asyncio.current_task()
            permit = limiter.try_acquire(owner)
            if permit is None:
                permit = await limiter.acquire(owner)
            try:
                await asyncio.sleep(0)
            finally:
                limiter.release(permit)

        done = 0
        while done < 10_000:
            tasks = [asyncio.create_task(use()) for _ in range(50)]
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
                for task in dice.sample(tasks, 8):
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            done += sum(task.cancelled() for task in tasks)
            assert (limiter.used, limiter.waiting) == (0, 0)
        assert not limiter._waiters

    run(main())


def test_waiting_for_oneself_is_an_error() -> None:
    """Tasks that hold every place and wait for one more get an error that says so; the others go on."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:

            async def holds_and_asks() -> str:
                async with client.chat.stream("hi"):
                    await asyncio.sleep(0.05)
                    return (await client.chat("more")).text

            ends = await asyncio.gather(holds_and_asks(), holds_and_asks(), return_exceptions=True)
            assert [isinstance(end, InFlightError) for end in ends].count(True) >= 1
            assert all(end == "Hello." or "http_max_in_flight" in str(end) for end in ends)
            assert (await client.chat("hi")).text == "Hello."
            assert not at_rest(client)

    run(main())


def test_a_stream_has_one_reader() -> None:
    """A second task that reads the same stream is told so; the first one gets its words."""

    async def main() -> None:
        async with Server(slowly) as server:
            async with Client(api_base=f"http://127.0.0.1:{server.port}/v1", model="m") as client:
                stream = await client.chat.completions.create(
                    messages=[{"role": "user", "content": "hi"}], model="m", stream=True
                )
                ends = await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)
                assert isinstance(ends[1], RuntimeError)
                assert not isinstance(ends[0], BaseException)
                assert ends[0].choices[0].delta.content == "Hi"
                await stream.close()
                assert not at_rest(client)

    run(main())


def test_one_client_in_several_loops() -> None:
    """A client that nobody closes in between serves loop after loop; nothing is carried over but its limits."""
    clients: list[Client] = []

    async def main(last: bool) -> None:
        async with scripted() as server:
            if not clients:
                clients.append(Client(api_base=server.url, model="m"))
            client = clients[0]
            client.base_url = server.url
            for _ in range(3):
                assert (await client.chat("hi")).text == "Hello."
            stream = client.chat.stream("hi")
            await anext(stream)
            if last:
                await client.aclose()
                with pytest.raises(OpenAIError):
                    await client.chat("hi")
            del stream
            gc.collect()

    before = open_sockets()
    for number in range(3):
        run(main(number == 2))
    gc.collect()
    assert open_sockets() <= before


EXITS = {
    "a stream open": "stream = client.chat.stream('hi'); await anext(stream); keep.append(stream)",
    "a call under way": "keep.append(asyncio.ensure_future(client.chat('hi'))); await asyncio.sleep(0.2)",
    "an idle connection": "await client.chat('hi')",
    "sys.exit in a stream": "stream = client.chat.stream('hi'); await anext(stream); keep.append(stream); sys.exit(0)",
}


@pytest.mark.parametrize("name", list(EXITS))
def test_an_interpreter_exits_in_peace(name: str) -> None:
    """Nothing on stderr, exit code 0, no hang: whatever was open when the interpreter ended."""
    with ServerProcess() as port:
        code = f"""
import asyncio, sys
from openaiasync import Client
keep = []
async def main():
    client = Client(api_base="http://127.0.0.1:{port}/v1", model="m")
    keep.append(client)
    {EXITS[name]}
asyncio.run(main())
"""
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_makes_no_trouble() -> None:
    """A child that was forked with connections open makes its own; the parent's go on."""
    with ServerProcess() as port:
        code = f"""
import asyncio, os, sys
from openaiasync import Client
client = Client(api_base="http://127.0.0.1:{port}/v1", model="m")
async def ask():
    return [(await client.chat("hi")).text for _ in range(3)]
async def parent():
    first = await ask()
    child = os.fork()
    if child == 0:
        os._exit(subprocess_main())
    more = await ask()
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    await client.aclose()
    return first + more, status
def subprocess_main():
    asyncio._set_running_loop(None)
    try:
        return 0 if asyncio.run(ask()) == ["Hello."] * 3 else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        return 2
answers, status = asyncio.run(parent())
assert answers == ["Hello."] * 6, answers
assert status == 0, status
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
        assert done.returncode == 0, done.stderr


class ServerProcess:
    """The scripted server in a thread of its own, for clients in other processes."""

    def __enter__(self) -> int:
        import threading

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._context = scripted(_endless)
        return asyncio.run_coroutine_threadsafe(self._context.__aenter__(), self._loop).result(10).port

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._context.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _endless(seen: Any, writer: asyncio.StreamWriter) -> None:
    """Streams go on for ever, other calls are answered."""
    if seen.json().get("stream"):
        writer.write(STREAM_HEAD)
        while True:
            writer.write(event(chunk("tick")))
            await writer.drain()
            await asyncio.sleep(0.01)
    writer.write(OK)


@pytest.mark.parametrize("own_client", [False, True])
def test_an_event_loop_for_each_call(own_client: bool) -> None:
    """A thousand runs of `asyncio.run`, whole and streamed, with one client or one each: no loop is kept alive."""
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def ask(client: Client, streamed: bool) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        if streamed:
            async with client.chat.stream("hi") as stream:
                assert (await anext(stream)).text == "tick"
        else:
            assert (await client.chat("hi")).text == "Hello."
        if own_client:
            await client.aclose()

    with ServerProcess() as port:

        def made() -> Client:
            return Client(api_base=f"http://127.0.0.1:{port}/v1", model="m", max_retries=0)

        client = made()
        sizes: list[int] = []
        for number in range(1_000):
            asyncio.run(ask(made() if own_client else client, bool(number % 2)))
            if number in (199, 999):
                gc.collect()
                sizes.append(len(gc.get_objects()))
        assert sum(loop() is not None for loop in loops) <= 1  # the client knows the last one
        assert sizes[1] - sizes[0] < 8_000  # the 800 references here are some of them
