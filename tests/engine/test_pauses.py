"""What a retry's pause leaves free, how a call comes back from it, and what a server that refuses is still sent."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from conftest import run
from openaiasync import APITimeoutError, Client, RateLimitError
from scripted import CHAT, STREAM_HEAD, Seen, chunk, event, events, json_answer, scripted
from wireserver import until

MESSAGES: Any = [{"role": "user", "content": "hi"}]
LIMITED = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}


def refusal(pause: str) -> bytes:
    return json_answer(LIMITED, 429, Retry_After=pause)


def told(seen: Seen) -> str:
    return str(seen.json()["messages"][-1]["content"])


async def official(client: Client, text: str) -> str:
    stream = await client.chat.completions.create(messages=[{"role": "user", "content": text}], model="m", stream=True)
    return "".join([piece.choices[0].delta.content or "" async for piece in stream])


async def whole(client: Client, text: str) -> str:
    return (await client.chat(text)).text


async def live(client: Client, text: str) -> str:
    async with client.chat.stream(text) as stream:
        return (await stream.final()).text


WAYS = pytest.mark.parametrize("way", [whole, official, live])


@WAYS
def test_a_pause_holds_no_slot(way: Any) -> None:
    """Two calls that pause for a second leave both slots to a third one, which is answered before they are."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if told(seen) == "healthy" or sum(told(one) == told(seen) for one in server.seen) > 1:
            return writer.write(events([chunk("Hello."), chunk(finish="stop")]) if way is not whole else OK)
        return writer.write(refusal("1"))

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=2) as client:
            limiter = client._calls.shared.limiter
            refused = [asyncio.create_task(way(client, name)) for name in "ab"]
            await until(lambda: len(server.seen) == 2 and limiter.used == 0)
            assert await way(client, "healthy") == "Hello."
            assert not any(task.done() for task in refused)
            assert await asyncio.gather(*refused) == ["Hello."] * 2
            assert limiter.used == 0

    server: Any = None
    run(main())


OK = json_answer(CHAT)


@WAYS
def test_who_comes_back_goes_first(way: Any) -> None:
    """After its pause a call waits before all that were not sent yet; what waits before it is not overtaken."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if told(seen) == "long":
            await gate.wait()
        elif told(seen) == "refused" and sum(told(one) == "refused" for one in server.seen) == 1:
            return writer.write(refusal("0.1"))
        return writer.write(events([chunk("Hello."), chunk(finish="stop")]) if way is not whole else OK)

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=1) as client:
            limiter = client._calls.shared.limiter
            tasks = [asyncio.create_task(way(client, "refused"))]
            await until(lambda: len(server.seen) == 1 and limiter.used == 0)
            tasks += [asyncio.create_task(way(client, name)) for name in ("long", "late", "later")]
            await until(lambda: limiter.waiting == 3)
            gate.set()
            assert await asyncio.gather(*tasks) == ["Hello."] * 4
            assert [told(seen) for seen in server.seen] == ["refused", "long", "refused", "late", "later"]

    server: Any = None
    gate = asyncio.Event()
    run(main())


def test_coming_back_counts_against_the_deadline() -> None:
    """No slot is free again before the deadline: the error that made it pause is raised, in time."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if told(seen) == "long":
            await asyncio.sleep(20)
        writer.write(refusal("0.05"))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=1) as client:
            task = asyncio.create_task(client.chat("refused", deadline=1.0))
            await until(lambda: len(server.seen) == 1 and client._calls.shared.limiter.used == 0)
            other = asyncio.create_task(client.chat("long"))
            with pytest.raises(RateLimitError, match="slow down"):
                await task
            other.cancel()
            await asyncio.wait([other])
            assert (client._calls.shared.limiter.used, client._calls.shared.limiter.waiting) == (0, 0)

    run(main())


def test_coming_back_into_a_deadlock_raises_what_made_it_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """All slots are held by the caller and one who awaits it: its retry would wait for ever."""
    monkeypatch.setattr("openaiasync.transport.waiting.PATIENCE", 0.2)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.json().get("stream"):
            writer.write(STREAM_HEAD + event(chunk("Hel")))
            await writer.drain()
            await asyncio.sleep(20)
        writer.write(refusal("0.3"))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=1) as client:
            task = asyncio.create_task(client.chat("refused"))
            await until(lambda: len(server.seen) == 1 and client._calls.shared.limiter.used == 0)
            async with client.chat.stream("holds the slot") as stream:
                await anext(stream)
                with pytest.raises(RateLimitError, match="slow down"):
                    await task

    run(main())


@WAYS
def test_a_server_that_refuses_is_tried_with_one_call(way: Any) -> None:
    """After three 429s nothing is sent until the earliest retry time; then one goes, and its 2xx lets all go."""
    times: list[float] = []
    alone: list[bool] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        if times[-1] - times[0] < 0.45:
            return writer.write(refusal("0.5"))
        if not alone:
            before = len(server.seen)
            await asyncio.sleep(0.2)
            alone.append(len(server.seen) == before)
        return writer.write(events([chunk("Hello."), chunk(finish="stop")]) if way is not whole else OK)

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=4) as client:
            ends = await asyncio.gather(*(way(client, "hi") for _ in range(12)))
            assert ends == ["Hello."] * 12
            early = sum(time - times[0] < 0.45 for time in times)
            assert early <= 6, "four were in flight at the first refusal, and two more before the third"
            assert len(times) == 12 + early
            assert alone == [True]
            assert not client._calls.upstream.refusals

    server: Any = None
    run(main())


def test_a_refused_probe_closes_again() -> None:
    """Each refusal of a lone call sets the next time; meanwhile nothing else is sent, and no slot is held."""
    sent: list[float] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        sent.append(asyncio.get_running_loop().time())
        writer.write(OK if len(sent) > 8 else refusal("0.2"))

    async def main() -> None:
        options: dict[str, Any] = {"http_max_in_flight": 3, "max_retries": 8}
        async with scripted(script) as server, Client(api_base=server.url, model="m", **options) as client:
            tasks = [asyncio.create_task(client.chat("hi")) for _ in range(8)]
            await until(lambda: len(server.seen) >= 7)
            assert client._calls.shared.limiter.used <= 1
            await asyncio.gather(*tasks)
            pauses = [after - before for before, after in itertools.pairwise(sent[5:9])]
            assert min(pauses) >= 0.19, "three were sent at once, two more before the third refusal came"
            assert client._calls.shared.limiter.used == 0

    run(main())


@pytest.mark.parametrize("way", ["cancelled", "lost", "raised"])
def test_a_probe_that_ends_otherwise_lets_the_next_go(way: str) -> None:
    """The lone call is cancelled, its connection breaks, or it fails in another way: the server is tried again."""
    held = asyncio.Event()
    times: list[float] = []
    probes: list[Seen] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        if times[-1] - times[0] < 0.25:
            return writer.write(refusal("0.3"))
        if not probes:
            probes.append(seen)
            if way == "lost":
                return writer.close()
            if way == "raised":
                return writer.write(json_answer({"error": {"message": "no such thing"}}, 404))
            held.set()
            await asyncio.sleep(20)
        return writer.write(OK)

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=3) as client:
            tasks = [asyncio.create_task(client.chat("hi")) for _ in range(6)]
            if way == "cancelled":
                await held.wait()
                probe: Any = client._calls.upstream.probe
                assert probe.permit.owner in tasks
                probe.permit.owner.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            failed = {"cancelled": 1, "lost": 0, "raised": 1}[way]
            assert sum(isinstance(end, BaseException) for end in ends) == failed, ends
            assert client._calls.shared.limiter.used == 0

    server: Any = None
    run(main())


def test_waiting_for_a_server_is_under_the_queue_clock_and_ends_with_the_client() -> None:
    """A new call that finds the server closed waits as for a slot."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal("60"))

    async def main() -> None:
        options: dict[str, Any] = {"http_max_in_flight": 3, "http_other": {"queue_timeout": 0.1}}
        async with scripted(script) as server, Client(api_base=server.url, model="m", **options) as client:
            refused = [asyncio.create_task(client.chat("hi")) for _ in range(3)]
            await until(lambda: len(server.seen) == 3 and client._calls.shared.limiter.used == 0)
            with pytest.raises(APITimeoutError) as caught:
                await client.chat("new")
            assert caught.value.clock == "queue"
            waiting = asyncio.create_task(client.with_options(max_retries=0).chat("new"))
            await asyncio.sleep(0.02)
            await client.aclose()
            ends = await asyncio.gather(*refused, waiting, return_exceptions=True)
            assert {type(end).__name__ for end in ends} == {"ClientClosedError"}
            assert len(server.seen) == 3

    run(main())


def test_other_servers_are_not_held_up() -> None:
    """What one server refuses closes none of the others that relatives of the client speak to, nor takes slots."""

    async def refuse(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal("60"))

    async def main() -> None:
        async with scripted(refuse) as server, scripted() as other:
            async with Client(api_base=server.url, model="m", http_max_in_flight=3) as client:
                tasks = [asyncio.create_task(client.chat("hi")) for _ in range(9)]
                await until(lambda: len(server.seen) >= 3 and client._calls.shared.limiter.used == 0)
                assert (await client.with_options(api_base=other.url).chat("hi")).text == "Hello."
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert (client._calls.shared.limiter.used, client._calls.shared.limiter.waiting) == (0, 0)

    run(main())


def test_calls_that_are_not_tried_again_close_nothing() -> None:
    """With ``max_retries=0`` there is no time at which to try again: every call is refused by the server itself."""

    async def refuse(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal("60"))

    async def main() -> None:
        async with scripted(refuse) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
            for _ in range(6):
                with pytest.raises(RateLimitError):
                    await client.chat("hi")
            assert len(server.seen) == 6

    run(main())
