"""Limits on requests and tokens a minute hold for plain calls, over every client that names them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import run
from openaiasync import APITimeoutError, Client, ClientClosedError, Limits
from scripted import CHAT, Scripted, Seen, chat, json_answer, scripted


class Timed:
    """A script that notes when requests come."""

    def __init__(self, answer: dict[str, Any] = CHAT, **fields: str) -> None:
        self.at: list[float] = []
        self.answer = json_answer(answer, **fields)

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if seen.json().get("stream"):
            await chat(seen, writer)
        else:
            writer.write(self.answer)

    def spans(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.at, self.at[1:], strict=False)]


def client(server: Scripted, limits: Limits, **options: Any) -> Client:
    return Client(api_base=server.url, model="m", limits=limits, **options)


def test_requests_a_minute_over_two_clients() -> None:
    """At 600 a minute calls, streams among them, go every tenth of a second, whichever client makes them."""
    script = Timed()

    async def main() -> None:
        limits = Limits(rpm=600)
        async with scripted(script) as server, client(server, limits) as one, client(server, limits) as other:
            calls = [(one, other)[index % 2].chat("hi") for index in range(20)]
            await asyncio.gather(*calls)
            async with one.chat.stream("hi") as stream:
                async for _ in stream:
                    pass

    run(main())
    assert len(script.at) == 21
    assert script.at[-1] - script.at[0] == pytest.approx(2.0, abs=0.15)
    assert max(script.spans()) < 0.15


def test_tokens_a_minute() -> None:
    """Answers that took 1,000 tokens each, at 60,000 a minute, come once a second in the end."""
    usage = {"prompt_tokens": 200, "completion_tokens": 800, "total_tokens": 1000}
    script = Timed({**CHAT, "usage": usage})

    async def main() -> None:
        async with scripted(script) as server, client(server, Limits(tpm=60_000), http_max_in_flight=None) as one:
            for _ in range(12):
                await one.chat("hi")

    run(main())
    assert script.at[-1] - script.at[1] == pytest.approx(10, rel=0.15)


def test_a_refusal_holds_for_all() -> None:
    """The pause that a 429 names is kept by calls that had their time before it came, too."""
    at: list[float] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        at.append(asyncio.get_running_loop().time())
        if len(at) == 1:
            writer.write(json_answer({"error": {"message": "slower"}}, 429, Retry_After="20"))
        else:
            writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server, client(server, Limits(rpm=60)) as one:
            await asyncio.gather(*(one.chat("hi") for _ in range(4)))

    run(main(), timeout=60)
    assert min(at[1:]) - at[0] >= 19.9


def test_waiting_ends() -> None:
    """With the queue timeout, with a cancelled caller, with the client; and nothing is sent."""
    script = Timed()

    async def main() -> None:
        async with scripted(script) as server:
            quick = client(server, Limits(rpm=1), http_other={"queue_timeout": 5})
            await quick.chat("hi")
            with pytest.raises(APITimeoutError, match="nothing was sent") as caught:
                await quick.chat("hi")
            assert caught.value.clock == "queue"
            await quick.aclose()
            slow = client(server, Limits(rpm=1))
            await slow.chat("hi")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.chat("hi"), 3)
            waiting = asyncio.create_task(slow.chat("hi"))
            await asyncio.sleep(1)
            await slow.aclose()
            with pytest.raises(ClientClosedError):
                await waiting
        assert len(script.at) == 2

    run(main())


def test_limits_are_learned_from_fields() -> None:
    """Where the server tells less than the user, the server's limit holds."""
    script = Timed(x_ratelimit_limit_requests="60", x_ratelimit_remaining_requests="50")

    async def main() -> None:
        async with scripted(script) as server, client(server, Limits(rpm=6000)) as one:
            for _ in range(6):
                await one.chat("hi")

    run(main())
    assert script.at[-1] - script.at[1] == pytest.approx(4, rel=0.2)


def test_models_have_their_own_limits() -> None:
    """Two models whose fields tell different limits are paced apart, each by its own, and share the user's limit."""
    at: dict[str, list[float]] = {"slow": [], "fast": []}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        model = seen.json()["model"]
        at[model].append(asyncio.get_running_loop().time())
        limit = {"slow": "60", "fast": "600"}[model]
        writer.write(json_answer(CHAT, x_ratelimit_limit_requests=limit, x_ratelimit_remaining_requests="50"))

    async def main() -> None:
        async with scripted(script) as server, client(server, Limits(rpm=6000)) as one:

            async def calls(model: str) -> None:
                for _ in range(11):
                    await one.chat("hi", model=model)

            await asyncio.gather(calls("slow"), calls("fast"))

    run(main())
    assert at["slow"][-1] - at["slow"][1] == pytest.approx(9, rel=0.1)
    assert at["fast"][-1] - at["fast"][1] == pytest.approx(0.9, rel=0.15)
