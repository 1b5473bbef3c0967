"""Deadlines that are deadlines: whatever a server drips, no call outlives its clocks, retries and pauses included."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import run
from openaiasync import APITimeoutError, AsyncOpenAI, Client, OpenAIError
from scripted import CHAT, STREAM_HEAD, answer, chunk, event, head, json_answer

from .harness import as_test
from .invariants import at_rest
from .scenario import HANG, HEAD, KEY, READ, Drip, Fails, Repeat, Scenario, Steps

OK = json_answer(CHAT)
LONG_HEAD = OK.replace(b"Content-Length", b"X-Long: " + b"x" * 600 + b"\r\nContent-Length")
ERROR = head(500, "X", Content_Length="9000")
PING = b"8\r\n: ping\n\n\r\n"
SERVERS: dict[str, Steps] = {
    "accepts and is silent": (HANG,),
    "reads and is silent": (READ, HANG),
    "sends interim answers": (READ, Repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 0.3)),
    "drips its head": (READ, Drip(LONG_HEAD, 0.02), HANG),
    "drips its head, late": (READ, 0.8, Drip(LONG_HEAD, 0.02), HANG),
    "drips its body": (READ, OK[:-90], Drip(OK[-90:], 0.3), HANG),
    "drips its body, late": (READ, 0.8, OK[:-90], Drip(OK[-90:], 0.3), HANG),
    "drips an error": (READ, ERROR, Repeat(b"x", 0.05)),
    "drips an error, late": (READ, 0.8, ERROR, Repeat(b"x", 0.05)),
    "drips chunks of white space": (READ, head(Transfer_Encoding="chunked"), Repeat(b"1\r\n \r\n", 0.05)),
    "drips until close": (READ, head(), Repeat(b" ", 0.05)),
    "redirects for ever": (READ, 0.2, answer(b"", 307, Location="/v1/x")),
    "pings for ever": (READ, STREAM_HEAD, Repeat(PING, 0.05)),
    "pings for ever, late": (READ, 0.8, STREAM_HEAD, Repeat(PING, 0.05)),
    "drips an event": (READ, STREAM_HEAD + b"fff\r\n", Repeat(b"x", 0.05)),
    "drips something else than events": (READ, 0.8, head(Content_Type="text/html"), Repeat(b"x", 0.05)),
    "reads the head alone": (HEAD, HANG),
}  # fmt: skip
ENDS = Fails(OpenAIError, or_below=True)
CALLS = ("chat", "stream", "official_stream", "models", "speech", "upload")


def scenarios() -> list[Scenario]:
    """`timeout=1, max_retries=0` by both doors: an end within 1.5 s, whatever end it is."""
    made: list[Scenario] = []
    for name, steps in SERVERS.items():
        for call in CALLS:
            for door in ("Client", "AsyncOpenAI"):
                options = {"http_deadline": 1.0} if door == "Client" else {"timeout": 1.0}
                title = f"{name}, {call}, {door}"
                # A binary answer has to start within the timeout, and then has it again for its first 64 KiB.
                limit = 2.3 if call == "speech" and 0.8 in steps else 1.5
                made.append(Scenario(title, (1,), steps, ENDS, call=call, door=door, options=options, limit=limit))
    return made


test_nothing_outlives_its_timeout = as_test(scenarios(), together=60)


def test_the_deadline_holds_across_retries() -> None:
    """However many tries and pauses there are, and whatever the server asks for, the deadline is the end."""

    async def main() -> None:
        from wireserver import Server

        async def script(peer: Any) -> None:
            while True:
                await peer.request()
                await peer.send(json_answer({}, 503, retry_after_ms="30"))

        async with Server(script) as server:
            url = f"http://127.0.0.1:{server.port}/v1"
            async with Client(api_base=url, model="m", max_retries=10_000, http_deadline=0.8) as client:
                began = asyncio.get_running_loop().time()
                for _ in range(2):
                    with pytest.raises(OpenAIError):
                        await client.chat("hi")
                spent = asyncio.get_running_loop().time() - began
                assert spent < 2.4
                with pytest.raises(OpenAIError):
                    await client.chat("hi", deadline=0.1)

    run(main())


def test_a_key_that_does_not_come_is_under_the_clocks() -> None:
    """The function that answers the key may hang; the deadline, or the official timeout, ends the call all the same."""

    async def key() -> str:
        await asyncio.sleep(3600)
        return KEY

    async def main() -> None:
        for client in (
            Client(api_base="http://127.0.0.1:9/v1", api_key=key, model="m", http_deadline=0.2),
            AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key=key, timeout=0.2, max_retries=0),
        ):
            async with client:
                with pytest.raises(APITimeoutError):
                    await client.chat("hi", model="m")
                assert not at_rest(client)

    run(main())


def test_waiting_for_a_place_counts_in_no_clock() -> None:
    """A call that waited longer for its place than its whole timeout is answered; queue_timeout ends it if asked to."""

    async def main() -> None:
        from scripted import scripted

        async def slow(seen: Any, writer: Any) -> None:
            await asyncio.sleep(0.4)
            writer.write(OK)

        async with scripted(slow) as server:
            options: dict[str, Any] = {"http_max_in_flight": 1, "http_deadline": 1.5}
            async with Client(api_base=server.url, model="m", **options) as client:
                answers = await asyncio.gather(*(client.chat("hi") for _ in range(6)))
                assert [answer.text for answer in answers] == ["Hello."] * 6
                assert max(answer.meta.queued for answer in answers) > 1.5
            options["http_other"] = {"queue_timeout": 0.1}
            async with Client(api_base=server.url, model="m", **options) as client:
                ended = await asyncio.gather(*(client.chat("hi") for _ in range(3)), return_exceptions=True)
                assert sorted(getattr(end, "clock", "") for end in ended) == ["", "queue", "queue"]
                assert not at_rest(client)

    run(main())


def test_progress_is_not_a_whole_timeout() -> None:
    """The official timeout is per event of a stream: a long answer in small steps is not stalled."""

    async def main() -> None:
        from wireserver import Server

        async def script(peer: Any) -> None:
            await peer.request()
            await peer.send(STREAM_HEAD)
            for _ in range(8):
                await asyncio.sleep(0.25)
                await peer.send(event(chunk("x")))
            await peer.send(event(chunk(finish="stop")) + b"0\r\n\r\n")

        async with Server(script) as server:
            async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", timeout=1.0) as client:
                async with client.chat.stream("hi", model="m") as stream:
                    assert (await stream.final()).text == "x" * 8

    run(main())
