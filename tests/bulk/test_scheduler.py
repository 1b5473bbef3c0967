"""The scheduler over real sockets: every row gets its outcome, whatever servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from conftest import run
from openaiasync import AsyncOpenAI, RateLimitError
from openaiasync.bulk.row import Outcome, Work
from openaiasync.bulk.scheduler import Scheduler
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE
from scripted import CHAT, Seen, json_answer, scripted


class Collected:
    """A sink that keeps everything."""

    full = False

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.outcomes: dict[str, Outcome] = {}

    def started(self, work: Work) -> None:
        self.sent.append(work.key)

    def finished(self, work: Work, outcome: Outcome) -> None:
        assert work.key not in self.outcomes
        self.outcomes[work.key] = outcome

    async def flushed(self) -> None:
        raise AssertionError("never full")


def rows(count: int) -> Iterator[Work]:
    for index in range(count):
        params: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"row {index}"}]}
        yield Work(f"row-{index}", index, CHAT_COMPLETIONS_CREATE.request(params))


def test_every_row_is_answered() -> None:
    """Rows of a synchronous and of an asynchronous source each get their answer, no more in flight than allowed."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.001)
        writer.write(json_answer(CHAT))

    async def later(count: int) -> AsyncIterator[Work]:
        for work in rows(count):
            yield work
            await asyncio.sleep(0)

    async def main() -> None:
        async with scripted(script) as server:
            client = AsyncOpenAI(api_key="k", base_url=server.url)
            for source in (rows(200), later(600)):
                sink = Collected()
                summary = await Scheduler(client, max_in_flight=16).run(source, sink)
                assert summary.stopped == ""
                assert summary.stats.ok == len(sink.outcomes) in (200, 600)
                assert all(outcome.ok and outcome.answer.text == "Hello." for outcome in sink.outcomes.values())
                assert all(outcome.attempts == 1 and outcome.status == 200 for outcome in sink.outcomes.values())
            assert server.peak == 16
            await client.aclose()

    run(main())


def test_faults_are_survived_and_bad_rows_fail_alone() -> None:
    """A 500 and a 429 are repeated, the 429 without counting; a 400 is the row's failure and nobody else's."""
    tries: dict[str, int] = {}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        name = seen.json()["messages"][0]["content"]
        tries[name] = tries.get(name, 0) + 1
        if name == "row 3":
            writer.write(json_answer({"error": {"message": "too bad"}}, 400))
        elif name == "row 5" and tries[name] == 1:
            writer.write(json_answer({"error": {"message": "broken"}}, 500, Retry_After_Ms="1"))
        elif name == "row 7" and tries[name] <= 3:
            writer.write(json_answer({"error": {"message": "slower"}}, 429, Retry_After_Ms="5"))
        else:
            writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            client, sink = AsyncOpenAI(api_key="k", base_url=server.url), Collected()
            summary = await Scheduler(client, max_in_flight=4).run(rows(20), sink)
            await client.aclose()
        assert (summary.stats.ok, summary.stats.failed, summary.stats.refused) == (19, 1, 3)
        assert sink.outcomes["row-3"].status == 400
        assert "too bad" in str(sink.outcomes["row-3"].error)
        assert sink.outcomes["row-5"].attempts == 2
        assert sink.outcomes["row-7"].attempts == 1
        assert (tries["row 3"], tries["row 5"], tries["row 7"]) == (1, 2, 4)
        assert sink.sent.count("row-7") == 4

    run(main())


def test_endless_refusals_stop_the_run() -> None:
    """Nothing but 429s that name no pause: after `give_up_after` the run stops and keeps its rows, and not before."""
    at: list[float] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        at.append(asyncio.get_running_loop().time())
        writer.write(json_answer(CHAT) if len(at) <= 3 else json_answer({"error": {"message": "slower"}}, 429))

    async def main() -> None:
        async with scripted(script) as server:
            client, sink = AsyncOpenAI(api_key="k", base_url=server.url), Collected()
            summary = await Scheduler(client, max_in_flight=1, give_up_after=60).run(rows(10), sink)
            await client.aclose()
        assert (summary.stopped, summary.stats.ok, summary.stats.failed) == ("dead", 3, 0)
        assert isinstance(summary.error, RateLimitError)
        assert 60 <= at[-1] - at[3] < 70
        assert len(at) < 100

    run(main(), timeout=300)


def test_a_pause_of_the_source_is_no_trouble_of_the_server() -> None:
    """A refusal after a long wait for the next row, and long refusals with an answer between, do not stop the run."""
    count = 0

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        writer.write(json_answer({"error": {"message": "slower"}}, 429) if count % 3 else json_answer(CHAT))

    async def slowly() -> AsyncIterator[Work]:
        for work in rows(4):
            yield work
            await asyncio.sleep(100)

    async def main() -> None:
        async with scripted(script) as server:
            client, sink = AsyncOpenAI(api_key="k", base_url=server.url), Collected()
            summary = await Scheduler(client, max_in_flight=1, give_up_after=60).run(slowly(), sink)
            await client.aclose()
        assert (summary.stopped, summary.stats.ok, summary.stats.refused) == ("", 4, 8)

    run(main(), timeout=1000)
