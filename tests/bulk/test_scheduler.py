"""The scheduler over real sockets: every row gets its outcome, whatever servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Limits, RateLimitError
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


def rows(count: int, *models: str) -> Iterator[Work]:
    for index in range(count):
        model = models[index % len(models)] if models else "m"
        params: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": f"row {index}"}]}
        yield Work(f"row-{index}", index, CHAT_COMPLETIONS_CREATE.request(params), model=model)


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


@pytest.mark.parametrize("told", ["fields", "refusals"])
def test_models_of_one_job_are_paced_apart(told: str) -> None:
    """A model with a low limit holds up no row of another, whether its limit is told by fields or by 429s alone; every
    row is answered in the end."""
    answered: dict[str, list[float]] = {"slow": [], "fast": []}
    refused = 0

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        model, now = seen.json()["model"], asyncio.get_running_loop().time()
        at = answered[model]
        if model == "slow" and told == "refusals" and at and now - at[-1] < 0.5:
            refused += 1
            writer.write(json_answer({"error": {"message": "slower"}}, 429))
            return
        at.append(now)
        limit = {"slow": "120", "fast": "6000"}[model]
        fields = {"x_ratelimit_limit_requests": limit} if told == "fields" else {}
        writer.write(json_answer(CHAT, **fields))

    async def main() -> None:
        async with scripted(script) as server:
            client, sink = AsyncOpenAI(api_key="k", base_url=server.url), Collected()
            summary = await Scheduler(client, max_in_flight=4).run(rows(60, "slow", "fast", "fast"), sink)
            await client.aclose()
        assert (summary.stopped, summary.stats.ok) == ("", 60)
        assert refused == 0 if told == "fields" else refused < 40

    run(main(), timeout=300)
    assert max(answered["fast"]) - min(answered["fast"]) < 1.5
    assert max(answered["slow"]) - min(answered["slow"]) > 8


def test_model_names_without_end_take_bounded_memory() -> None:
    """Hundreds of model names in one run are no trouble: the limits of the ones used last are remembered."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            client, sink = AsyncOpenAI(api_key="k", base_url=server.url), Collected()
            scheduler = Scheduler(client, max_in_flight=16)
            summary = await scheduler.run(rows(500, *(f"m{number}" for number in range(500))), sink)
            await client.aclose()
        assert summary.stats.ok == 500
        (known,) = [server.admission.models.all() for server in scheduler._servers]
        assert 16 <= len(known) <= 64

    run(main())


def test_rows_are_paced_on_uvloop() -> None:
    """uvloop gives a handle without `when` for a time that has come; the scheduler's timer does not need it."""
    uvloop = pytest.importorskip("uvloop")

    async def answering(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))
        await writer.drain()

    async def paced() -> Collected:
        async with scripted(answering) as server, AsyncOpenAI(api_key="k", base_url=server.url) as client:
            sink = Collected()
            await Scheduler(client, limits=Limits(rpm=60_000), max_in_flight=16).run(rows(1000), sink)
            return sink

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sink = runner.run(paced())
    assert len(sink.outcomes) == 1000
    assert all(outcome.ok for outcome in sink.outcomes.values())
