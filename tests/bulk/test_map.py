"""`client.map` over real sockets: results, their order, and the handling of bad rows and bad servers."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    AsyncOpenAI,
    Client,
    ClientClosedError,
    Limits,
    NotFoundError,
    OpenAIError,
    StructuredOutputError,
)
from openaiasync.bulk.mapping import ManyCallsError, RowError
from openaiasync.bulk.sources import rows_of
from openaiasync.engine.answer_cache import AnswerCache
from scripted import CHAT, Scripted, Seen, json_answer, scripted


def said(text: str, **fields: Any) -> dict[str, Any]:
    """A chat answer with these words."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {**CHAT, "choices": [choice], **fields}


async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answer with the last message."""
    writer.write(json_answer(said(seen.json()["messages"][-1]["content"])))


def served(
    test: Callable[[Scripted, Client], Awaitable[None]],
    script: Callable[[Seen, asyncio.StreamWriter], Awaitable[None]] = echo,
    **options: Any,
) -> None:
    """Run a test with a server and a client."""

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", **options) as client:
            await test(server, client)

    run(main())


def refusing(error: dict[str, Any], status: int) -> Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"error": error}, status))

    return script


class TestResults:
    """What callers get."""

    def test_a_list_in_the_order_of_the_input(self) -> None:
        """Whatever finishes first, rows stand where their inputs stood, and are typed answers."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.02 if "row 0" in seen.body.decode() else 0)
            await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map([f"row {index}" for index in range(50)], temperature=0.5)
            assert [row.answer.text for row in rows] == [f"row {index}" for index in range(50)]
            assert [(row.index, row.key, row.attempts, row.ok) for row in rows] == [(i, i, 1, True) for i in range(50)]
            assert server.seen[0].json()["temperature"] == 0.5
            assert server.peak > 2

        served(test, script)

    def test_rows_as_they_complete_in_bounded_memory(self) -> None:
        """An iterator is read no faster than rows are taken: a few hundred are ahead of who iterates, not all."""
        read = 0

        def numbers() -> Iterator[int]:
            nonlocal read
            while read < 3000:
                read += 1
                yield read - 1

        async def test(server: Scripted, client: Client) -> None:
            seen: set[int] = set()
            async for row in client.map(numbers(), lambda n: {"messages": [{"role": "user", "content": str(n)}]}):
                assert row.text == str(row.item)
                seen.add(row.item)
                assert read - len(seen) < 700
            assert seen == set(range(3000))

        served(test)

    def test_an_asynchronous_source_and_keys(self) -> None:
        """Rows come from an asynchronous iterable, too; a column or a function names them."""

        async def source() -> AsyncIterator[dict[str, Any]]:
            for index in range(20):
                yield {"id": f"k{index}", "text": f"text {index}"}
                await asyncio.sleep(0)

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map(source(), lambda row: row["text"], key="id")
            assert [(row.key, row.text) for row in rows] == [(f"k{i}", f"text {i}") for i in range(20)]
            rows = await client.map(source(), lambda row: row["text"], key=lambda row: row["id"].upper())
            assert rows[3].key == "K3"

        served(test)

    @pytest.mark.parametrize(
        ("endpoint", "path", "answer", "row"),
        [
            ("completions", "/completions", {"object": "text_completion", "choices": [{"text": "x"}]}, "once"),
            ("embeddings", "/embeddings", {"object": "list", "data": [{"embedding": [0.5], "index": 0}]}, "text"),
            ("moderations", "/moderations", {"id": "m", "model": "m", "results": [{"flagged": False}]}, "text"),
            ("responses", "/responses", {"id": "r", "object": "response", "status": "completed", "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}, "text"),
        ],
    )  # fmt: skip
    def test_every_endpoint(self, endpoint: Any, path: str, answer: dict[str, Any], row: str) -> None:
        """Completions, embeddings, moderations and responses take their main parameter from a text."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(answer))

        async def test(server: Scripted, client: Client) -> None:
            (only,) = await client.map([row], endpoint=endpoint)
            assert only.ok, only.error
            assert server.seen[0].target == f"/v1{path}"
            assert row in (server.seen[0].json().get("prompt"), server.seen[0].json().get("input"))

        served(test, script)

    def test_breaking_off_ends_what_is_under_way(self) -> None:
        """After a `break` no request is sent, and no task, socket or connection is left."""

        async def test(server: Scripted, client: Client) -> None:
            async with client.map(f"row {index}" for index in range(100_000)) as rows:
                async for row in rows:
                    assert row.ok
                    break
            count = len(server.seen)
            async for _ in client.map(["one", "two", "three"]):
                break
            gc.collect()
            await asyncio.sleep(0.01)
            assert len(server.seen) <= count + 3
            assert asyncio.all_tasks() - {asyncio.current_task()} <= _of_server()

        def _of_server() -> set[Any]:
            return {task for task in asyncio.all_tasks() if "serve" in repr(task.get_coro())}

        served(test)


class TestRowsThatFail:
    """A row's own failure is nobody else's."""

    def test_a_bad_row_fails_alone(self) -> None:
        """A 400, and what JSON cannot carry; `answer` raises the error, the others have theirs."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if "bad" in seen.json()["messages"][0]["content"]:
                writer.write(json_answer({"error": {"message": "not this"}}, 400))
            else:
                await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map(["good", "bad", "half \ud800 pair", "fine"])
            assert [row.ok for row in rows] == [True, False, False, True]
            with pytest.raises(Exception, match="not this"):
                _ = rows[1].answer
            assert isinstance(rows[2].error, RowError)
            assert len(server.seen) == 3

        served(test, script)

    def test_faults_of_the_server_cost_no_row(self) -> None:
        """Lost connections, half bodies, 500s, 429s and errors in a 200 are repeated."""
        count = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if count % 5 == 0:
                kind = count // 5 % 5
                if kind == 0:
                    writer.close()
                elif kind == 1:
                    writer.write(json_answer(CHAT)[:-20])
                    writer.close()
                elif kind == 2:
                    writer.write(json_answer({"error": {"message": "x"}}, 500, Retry_After_Ms="1"))
                elif kind == 3:
                    writer.write(json_answer({"error": {"message": "x"}}, 429, Retry_After_Ms="1"))
                else:
                    writer.write(json_answer({"error": {"message": "x", "type": "server_error"}}))
            else:
                await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map([f"row {index}" for index in range(60)], max_in_flight=4)
            assert [row.error for row in rows] == [None] * 60

        served(test, script)

    def test_one_larger_than_the_limit_fails(self) -> None:
        """A 429 that no pause can help fails its row instead of being sent for ever."""
        words = "Request too large for m on tokens per min (TPM): Limit 30, Requested 57."

        async def test(server: Scripted, client: Client) -> None:
            (row,) = await client.map(["long"])
            assert "Request too large" in str(row.error)
            assert len(server.seen) == 1

        served(test, refusing({"message": words, "type": "tokens", "code": "rate_limit_exceeded"}, 429))

    @pytest.mark.parametrize("rows", ["text", b"bytes", {"train": []}, 5, None])
    def test_what_has_no_rows_is_refused(self, rows: Any) -> None:
        """A text, a dict of splits, a number: `TypeError` at once."""

        async def test(server: Scripted, client: Client) -> None:
            with pytest.raises(TypeError):
                client.map(rows)

        served(test)

    def test_mistakes_in_the_call_are_raised(self) -> None:
        """A misspelt parameter, a row that is not a request, or an error of the caller's function ends the run."""

        def wrong(row: str) -> str:
            raise KeyError("mine")

        async def test(server: Scripted, client: Client) -> None:
            with pytest.raises(TypeError, match="temprature"):
                await client.map(["a"], lambda row: {"messages": [], "temprature": 1})
            with pytest.raises(TypeError, match="function that makes one"):
                await client.map([5])
            with pytest.raises(KeyError, match="mine"):
                await client.map(["a"], wrong)
            with pytest.raises(TypeError, match="stream"):
                await client.map(["a"], stream=True)  # type: ignore[call-overload]
            with pytest.raises(ValueError, match="endpoint"):
                client.map(["a"], endpoint="images")  # type: ignore[call-overload]
            assert server.seen == []

        served(test)


class TestRunsThatStop:
    """A run ends early where going on makes no sense; what has finished is kept."""

    @pytest.mark.parametrize(
        ("status", "code", "reason"), [(429, "insufficient_quota", "quota"), (401, "invalid_api_key", "credentials")]
    )
    def test_no_quota_and_a_refused_key(self, status: int, code: str, reason: str) -> None:
        """The run stops at once; the error has the rows that had finished, and its cause."""
        count = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if count > 10:
                writer.write(json_answer({"error": {"message": "stop", "code": code}}, status))
            else:
                await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            with pytest.raises(ManyCallsError, match="10 rows with an answer") as caught:
                await client.map([f"row {index}" for index in range(500)], max_in_flight=2)
            assert caught.value.reason == reason
            assert [row.ok for row in caught.value.rows] == [True] * 10
            assert "stop" in str(caught.value.__cause__)
            assert len(server.seen) < 20

        served(test, script)

    def test_a_wrong_model(self) -> None:
        """404 to the first rows, and no answer yet, is about all rows; a row here and there is its own failure."""
        unknown = {"message": "The model `n` does not exist.", "code": "model_not_found"}

        async def test(server: Scripted, client: Client) -> None:
            with pytest.raises(ManyCallsError, match=r"model.*`n` does not exist") as caught:
                await client.map([f"row {index}" for index in range(5000)])
            assert caught.value.reason == "missing"
            assert isinstance(caught.value.__cause__, NotFoundError)
            assert all(not row.ok for row in caught.value.rows)
            assert len(server.seen) < 100

        served(test, refusing(unknown, 404))

        async def some(seen: Seen, writer: asyncio.StreamWriter) -> None:
            known = seen.json()["messages"][-1]["content"].endswith("0")
            writer.write(json_answer(said("yes")) if known else json_answer({"error": unknown}, 404))

        async def mixed(server: Scripted, client: Client) -> None:
            rows = await client.map([f"row {index}" for index in range(200)])
            assert [row.ok for row in rows] == [index % 10 == 0 for index in range(200)]

        served(mixed, some)

    def test_stopping_by_hand(self) -> None:
        """`stop` sends no further row; those in flight finish, and the iteration ends without an error."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.01)
            await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows = client.map(map(str, range(100_000)), max_in_flight=8)
            finished = 0
            async for row in rows:
                assert row.ok
                finished += 1
                if finished == 20:
                    rows.stop()
            assert finished == len(server.seen) == rows.stats.ok
            assert finished <= 20 + 8 + 8

        served(test, script)

    def test_no_server_at_all(self) -> None:
        """Nobody listens: after `give_up_after` the run stops."""

        async def main() -> None:
            async with Client(api_base="http://127.0.0.1:9/v1", model="m") as client:
                with pytest.raises(ManyCallsError) as caught:
                    await client.map(["a", "b"], give_up_after=0.5)
                assert caught.value.reason == "dead"

        run(main())

    def test_a_client_that_is_closed(self) -> None:
        """Closing the client ends the run with `ClientClosedError`."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        async def test(server: Scripted, client: Client) -> None:
            task = asyncio.create_task(client.map(["a", "b"])._list())
            while not server.seen:
                await asyncio.sleep(0.001)
            await client.aclose()
            with pytest.raises(ClientClosedError):
                await task

        served(test, script)


class TestServers:
    """Several servers share the rows."""

    def test_one_of_two_dies_and_comes_back(self) -> None:
        """No row fails; the rows of the dead server go to the other one, and it is used again once it works."""
        broken = False

        async def second(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if broken:
                writer.close()
            else:
                await asyncio.sleep(0.002)
                await echo(seen, writer)

        async def first(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.002)
            await echo(seen, writer)

        async def main() -> None:
            nonlocal broken
            async with (
                scripted(first) as one,
                scripted(second) as other,
                Client(api_base=one.url, model="m") as client,
                AsyncOpenAI(base_url=other.url, api_key="k2") as beside,
            ):
                finished = 0
                back = None
                rows = client.map(map(str, range(100_000)), clients=[beside], max_in_flight=4)
                async for row in rows:
                    assert row.ok, row.error
                    finished += 1
                    if finished == 200:
                        broken = True
                    elif finished == 600:
                        broken, back = False, len(other.seen)
                    elif back is not None and len(other.seen) > back + 50:
                        break
                await rows.aclose()
                assert other.seen[0].headers["authorization"] == "Bearer k2"

        run(main())


class TestLimits:
    """Limits that are told hold."""

    def test_requests_a_minute(self) -> None:
        """At 6,000 a minute, 50 rows take about half a second, and are spread over it."""
        at: list[float] = []

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            at.append(asyncio.get_running_loop().time())
            await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows = client.map([str(index) for index in range(50)], limits=Limits(rpm=6000))
            assert len(await rows) == 50
            assert at[-1] - at[0] > 0.35
            share = rows.stats.rpm_share
            assert share is not None
            assert share > 0

        served(test, script)

    def test_the_limits_of_the_client(self) -> None:
        """A run keeps the limits that the client has for plain calls, and shares them with those."""
        at: list[float] = []

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            at.append(asyncio.get_running_loop().time())
            await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            rows, *_ = await asyncio.gather(client.map(["a"] * 10)._list(), *(client.chat("b") for _ in range(10)))
            assert len(rows) == 10
            assert at[-1] - at[0] == pytest.approx(19, abs=1.5)

        served(test, script, limits=Limits(rpm=60))

    def test_limits_change_while_the_run_goes_on(self) -> None:
        """A run that would take hours ends at once when its limit is raised."""

        async def test(server: Scripted, client: Client) -> None:
            rows = client.map([str(index) for index in range(300)], limits=Limits(rpm=1))
            count = 0
            async for row in rows:
                assert row.ok
                count += 1
                rows.set_limits(rpm=None)
            assert count == 300

        served(test)


@dataclass
class Label:
    """What texts are sorted into."""

    name: str
    score: int


class TestInto:
    """Answers as values of a type."""

    def test_values_and_repairs(self) -> None:
        """A wrong answer is asked for again with what is wrong; one that stays wrong fails its row alone."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            messages = seen.json()["messages"]
            first, good = messages[0]["content"], json.dumps({"name": "a", "score": 3})
            if first == "wrong once" and len(messages) == 1:
                writer.write(json_answer(said('{"name": "a", "score": "much"}')))
            elif first == "wrong for ever":
                writer.write(json_answer(said("no JSON")))
            else:
                writer.write(json_answer(said(good)))

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map(["right", "wrong once", "wrong for ever"], into=Label)
            assert [row.ok for row in rows] == [True, True, False]
            assert rows[0].parsed == rows[1].parsed == Label("a", 3)
            assert isinstance(rows[2].error, StructuredOutputError)
            assert (rows[0].attempts, rows[1].attempts, rows[2].attempts) == (1, 2, 2)
            assert server.seen[0].json()["response_format"]["type"] == "json_schema"
            again = next(one.json() for one in server.seen if len(one.json()["messages"]) == 3)
            assert "score" in again["messages"][2]["content"]

        served(test, script)

    def test_a_server_that_takes_no_schema(self) -> None:
        """Where the format is refused, rows are asked in the next lower way, and none fails."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = seen.json()
            if "response_format" in body:
                error = {"message": f"response_format {body['response_format']['type']} is not supported"}
                writer.write(json_answer({"error": {**error, "param": "response_format"}}, 400))
            else:
                assert "JSON schema" in body["messages"][-1]["content"]
                writer.write(json_answer(said('{"name": "a", "score": 3}')))

        async def test(server: Scripted, client: Client) -> None:
            rows = await client.map([str(index) for index in range(40)], into=Label, max_in_flight=4)
            assert [row.parsed for row in rows] == [Label("a", 3)] * 40
            assert len(server.seen) < 60

        served(test, script)


class TestAnswersThatAreThere:
    """Cache and duplicates."""

    def test_a_cache_serves_the_next_run(self, tmp_path: Path) -> None:
        """What was answered once is not asked for again, in whatever order the request's fields stand."""

        async def test(server: Scripted, client: Client) -> None:
            path = tmp_path / "answers.sqlite"
            texts = [f"text {index}" for index in range(300)]
            first = await client.map(texts, cache=path)
            assert len(server.seen) == 300
            second = await client.map(
                [{"model": "m", "messages": [{"content": text, "role": "user"}]} for text in texts], cache=path
            )
            assert len(server.seen) == 300
            assert [row.text for row in first] == [row.text for row in second] == texts
            assert [row.cached for row in second] == [True] * 300
            assert [row.attempts for row in second] == [0] * 300

        served(test)

    def test_equal_rows_are_sent_once(self) -> None:
        """With ``dedupe=True`` or at temperature 0; sampling one prompt many times stays many calls."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.002)
            await echo(seen, writer)

        async def test(server: Scripted, client: Client) -> None:
            for options, calls in (({"dedupe": True}, 2), ({"temperature": 0}, 2), ({}, 40)):
                before = len(server.seen)
                rows = await client.map(["a", "b"] * 20, **options)  # type: ignore[call-overload]
                assert [row.text for row in rows] == ["a", "b"] * 20
                assert len(server.seen) - before == calls

        served(test, script)

    def test_a_cache_that_is_no_cache(self, tmp_path: Path) -> None:
        """Another file is refused, and left alone."""
        (tmp_path / "other").write_text("something else, quite long, that is no database at all " * 20)

        async def test(server: Scripted, client: Client) -> None:
            with pytest.raises(ValueError, match="cannot be used as a cache"):
                await client.map(["a"], cache=tmp_path / "other")
            assert (tmp_path / "other").read_text().startswith("something else")

        served(test)


def test_frames_by_protocol() -> None:
    """pandas, polars and Arrow are known by their methods; their rows are dicts."""

    class Pandas:
        columns = ("a", "b")

        def itertuples(self, index: bool, name: object) -> Iterator[tuple[int, str]]:
            assert (index, name) == (False, None)
            return iter([(1, "x"), (2, "y")])

    class Polars:
        columns = ("a", "b")

        def iter_rows(self, named: bool) -> Iterator[dict[str, Any]]:
            return iter([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])

    class Arrow:
        schema = None
        num_rows = 2

        def __init__(self, rows: list[Any]) -> None:
            self.rows = rows

        def slice(self, start: int, length: int) -> Arrow:
            return Arrow(self.rows[start : start + length])

        def to_pylist(self) -> list[Any]:
            return self.rows

    expected = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    for source in (Pandas(), Polars(), Arrow(expected), expected):
        rows: Any = rows_of(source)
        assert list(rows) == expected


@dataclass
class Named:
    name: str


def test_equal_rows_have_the_value_too() -> None:
    """With ``into=`` a row that shares the answer of an equal one has its parsed value, not `None`."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(json_answer(said('{"name": "x"}')))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            rows = await client.map(["a"] * 3, into=Named, dedupe=True)
            assert [row.parsed for row in rows] == [Named("x")] * 3
            assert len(server.seen) == 1

    run(main())


def test_endless_equal_rows_are_read_as_they_are_taken() -> None:
    """Rows that wait for an equal one are bounded: an endless source of them neither blocks nor fills the memory."""
    read = itertools.count()

    async def main() -> None:
        async with scripted(echo) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            async with client.map(("same" for _ in read), temperature=0) as rows:
                taken = 0
                async for _ in rows:
                    taken += 1
                    if taken == 3000:
                        break
            assert len(server.seen) == 1

    run(main())
    assert next(read) < 6000


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_a_source_that_is_cancelled_does_not_end_in_silence(kind: str) -> None:
    """`CancelledError` out of the source is raised: the rows after it are missing."""

    async def asynchronous() -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    def synchronous() -> Iterator[str]:
        yield "a"
        raise asyncio.CancelledError

    async def main() -> None:
        async with scripted(echo) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            with pytest.raises(asyncio.CancelledError):
                await client.map(synchronous() if kind == "synchronous" else asynchronous())

    run(main())


def test_leaving_the_loop_ends_the_calls() -> None:
    """A plain ``break`` ends the run and frees the source, without ``async with`` and without the garbage collector."""
    freed: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            for number in itertools.count():
                yield f"row {number}"
        finally:
            freed.append("source")

    async def main() -> None:
        async with scripted(echo) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            async for _ in client.map(source(), max_in_flight=4):
                break
            async with asyncio.timeout(10):
                while not freed or any("Scheduler" in str(task.get_coro()) for task in asyncio.all_tasks()):
                    await asyncio.sleep(0.01)

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_options_of_a_run_are_checked_before_it() -> None:
    """A number that cannot be one is an error of the call, not of a row in the middle of the run."""
    client = Client(api_base="http://127.0.0.1:9/v1", api_key="k", model="m")
    for options in (
        {"max_in_flight": "5"},
        {"max_in_flight": 2.5},
        {"max_in_flight": 0},
        {"retries": -1},
        {"retries": "many"},
        {"give_up_after": None},
        {"give_up_after": 0},
        {"into": Named, "repair": 1.5},
    ):
        with pytest.raises(ValueError, match="number"):
            client.map(["a"], **options)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="limits must be a Limits"):
        client.map(["a"], limits=5)  # type: ignore[call-overload]


def test_answers_that_json_hardly_carries_end_no_run() -> None:
    """Half of a surrogate pair is asked about with U+FFFD in its place; impossible counts of tokens are no usage."""
    asked: list[Any] = []

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        asked.append(seen.json()["messages"])
        text = "cut \ud83d" if len(asked) == 1 else '{"x": 1}'
        writer.write(json_answer(said(text, usage={"prompt_tokens": 10**400, "completion_tokens": 1})))

    @dataclass
    class Point:
        x: int

    async def test(server: Scripted, client: Client) -> None:
        (row,) = await client.map(["a"], into=Point)
        assert (row.parsed, row.usage) == (Point(1), None)

    served(test, script)
    assert asked[1][-2] == {"role": "assistant", "content": "cut \ufffd"}
    asked.clear()

    async def unrepaired(server: Scripted, client: Client) -> None:
        (row,) = await client.map(["a"], into=Point, repair=0)
        assert isinstance(row.error, StructuredOutputError)
        assert "cut \ufffd" in str(row.error)

    served(unrepaired, script)


@pytest.mark.parametrize(
    "fields", [{"output": 5}, {"output": [{"type": "message", "content": 5}]}, {"choices": {"a": 1}}]
)
def test_answers_of_another_form_fail_their_row_alone(fields: dict[str, Any]) -> None:
    """Anything may stand where a response has its output: the row has the error, and the run goes on."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"id": "r", "object": "response", "status": "completed", **fields}))

    async def test(server: Scripted, client: Client) -> None:
        rows = await client.map(["a", "b"], into=int, endpoint="responses", repair=0, retries=0)
        assert [isinstance(row.error, OpenAIError) for row in rows] == [True, True]

    served(test, script)


def test_a_cache_that_another_process_writes_to_can_be_read(tmp_path: Path) -> None:
    """Our own write waits for the other one in its thread, and the event loop for neither."""
    path = tmp_path / "answers.db"

    async def main() -> None:
        async with AnswerCache(path) as cache:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            cache.put(b"key", b"body")
            cache._start_flush()
            while not cache._lock.locked():
                await asyncio.sleep(0.001)
            assert (cache.get(b"key"), cache.get(b"other")) == (b"body", None)
            assert cache._lock.locked()
            other.execute("COMMIT")
            other.close()
        async with AnswerCache(path) as cache:
            assert cache.get(b"key") == b"body"

    run(main())
