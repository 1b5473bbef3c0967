"""Durable jobs over real sockets and files: nothing lost, nothing twice, whatever stops them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    Client,
    InputFileError,
    Job,
    JobChangedError,
    JobError,
    JobProgress,
    JobReport,
    Limits,
)
from openaiasync.bulk.batch_file import read_lines, skip_rows
from openaiasync.bulk.job_limits import JobLimits
from openaiasync.bulk.job_sink import JobSink
from openaiasync.bulk.tables import TableOptions, export_results
from openaiasync.storage.journal import AppendFile
from openaiasync.storage.segments import OK, SegmentStore
from scripted import CHAT, Script, Scripted, Seen, json_answer, scripted

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def write_rows(path: Path, count: int, **body: Any) -> Path:
    """A file of so many chats; the text of each names its row."""
    lines = []
    for number in range(count):
        message = {"role": "user", "content": f"row {number}"}
        value = {"model": "m", "messages": [message], **body}
        if value["model"] is None:
            del value["model"]
        lines.append(
            json.dumps({"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": value})
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def number_of(seen: Seen) -> int:
    return int(seen.json()["messages"][-1]["content"].partition(" ")[2])


def reply(seen: Seen) -> bytes:
    message = {"role": "assistant", "content": f"answer {number_of(seen)}"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json_answer({**CHAT, "choices": [choice], "usage": USAGE}, x_request_id=f"req{number_of(seen)}")


async def answering(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answer each row, later ones sooner, so that they finish in another order than that of the file."""
    await asyncio.sleep(0.002 * (3 - number_of(seen) % 4))
    writer.write(reply(seen))


@asynccontextmanager
async def serving(script: Script = answering) -> AsyncIterator[tuple[Scripted, Client]]:
    async with scripted(script) as server:
        async with Client(api_base=server.url, api_key="k", http_max_in_flight=None) as client:
            yield server, client


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def keys_of(path: Path) -> list[str]:
    return [line["custom_id"] for line in lines_of(path)]


def test_a_file_becomes_a_file_of_answers(tmp_path: Path) -> None:
    """Every row has its answer, in the order of the input, with the server's bytes and request id."""
    source, out = write_rows(tmp_path / "in.jsonl", 200), tmp_path / "out.jsonl"

    async def main() -> JobReport:
        async with serving() as (server, client):
            report = await client.job(source, out, max_in_flight=16)
            assert server.peak <= 16
            assert len(server.seen) == 200
            return report

    report = run(main())
    assert keys_of(out) == [f"k{number}" for number in range(200)]
    for number, line in enumerate(lines_of(out)):
        assert line["response"]["body"]["choices"][0]["message"]["content"] == f"answer {number}"
        assert (line["response"]["status_code"], line["response"]["request_id"]) == (200, f"req{number}")
        assert line["error"] is None
    assert len({line["id"] for line in lines_of(out)}) == 200
    assert (report.rows, report.ok, report.failed, report.left, report.stopped) == (200, 200, 0, 0, "")
    assert (report.input_tokens, report.output_tokens, report.errors) == (2000, 1000, None)
    assert report.latency["p50"] > 0
    assert not (tmp_path / "out.errors.jsonl").exists()
    assert json.loads((tmp_path / "out.report.json").read_text())["ok"] == 200


def test_the_timeline_has_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that finish in the milliseconds between a sample and the end of the job are in its last point."""
    source, out = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    sample = JobSink._sample

    def sampled(sink: JobSink, now: float) -> None:
        sample(sink, now)
        sink.store.counts[OK] += 3
        sample(sink, now + 0.001)
        sink.store.counts[OK] -= 3

    monkeypatch.setattr(JobSink, "_sample", sampled)

    async def main() -> JobReport:
        async with serving() as (_, client):
            return await client.job(source, out)

    timeline = run(main()).timeline
    assert sum(point.rows for point in timeline) == 23
    assert all(point.seconds > 0 for point in timeline)


def test_the_same_call_again_sends_nothing(tmp_path: Path) -> None:
    """A finished job that is called again reports as before, without a request; its output is not touched."""
    source, out = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            await client.job(source, out)
            before = (out.read_bytes(), out.stat().st_mtime_ns)
            report = await client.job(source, out)
            assert len(server.seen) == 20
            assert (report.ok, report.resumed, report.runs, report.input_tokens) == (20, 20, 2, 200)
            assert (out.read_bytes(), out.stat().st_mtime_ns) == before

    run(main())


def test_results_come_as_they_complete(tmp_path: Path) -> None:
    """In the order of completion a line is in the output as soon as its row is answered, however slow the first is."""
    source, out = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    release = asyncio.Event()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if number_of(seen) == 0:
            await release.wait()
        writer.write(reply(seen))

    async def main() -> None:
        async with serving(script) as (_, client):
            job = asyncio.ensure_future(client.job(source, out, order="completion", max_in_flight=4))
            while not out.exists() or len(keys_of(out)) < 29:
                await asyncio.sleep(0.01)
            assert "k0" not in keys_of(out)
            release.set()
            report = await job
            assert report.ok == 30

    run(main())
    assert keys_of(out)[-1] == "k0"
    assert sorted(keys_of(out)) == sorted(f"k{number}" for number in range(30))


@pytest.mark.parametrize("order", ["input", "completion"])
@pytest.mark.parametrize("durability", ["normal", "strict", "none"])
def test_a_stopped_job_goes_on(tmp_path: Path, order: Any, durability: Any) -> None:
    """Stopped in the middle, rows in flight are finished; the next call sends the rest, each row once in all."""
    source, out = write_rows(tmp_path / "in.jsonl", 120), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            for limit in (30, 70, 1000):
                job = client.job(
                    source,
                    out,
                    order=order,
                    durability=durability,
                    max_in_flight=8,
                    progress=lambda progress: None,
                )
                task = asyncio.ensure_future(job)
                while not task.done() and len(server.seen) < limit:
                    await asyncio.sleep(0.001)
                job.stop()
                report = await task
                assert report.stopped == ("stop" if report.left else "")
                assert report.paid_twice == []
            while report.left:
                report = await client.job(source, out, order=order, durability=durability)
            assert (report.ok, len(server.seen)) == (120, 120)

    run(main())
    found = keys_of(out)
    assert (found if order == "input" else sorted(found)) == (
        [f"k{number}" for number in range(120)] if order == "input" else sorted(f"k{number}" for number in range(120))
    )


@pytest.mark.parametrize("order", ["input", "completion"])
def test_a_cancelled_job_goes_on_and_names_what_was_in_flight(tmp_path: Path, order: Any) -> None:
    """A task that is cancelled frees everything at once; rows that were in flight are sent again, and named."""
    source, out = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            task = asyncio.ensure_future(client.job(source, out, order=order, max_in_flight=8))
            while len(server.seen) < 40:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            report = await client.job(source, out, order=order)
            times = Counter(number_of(seen) for seen in server.seen)
            twice = {f"k{number}" for number, count in times.items() if count > 1}
            assert report.ok == 100
            assert twice <= set(report.paid_twice)
            assert len(report.paid_twice) <= 8

    run(main())
    assert sorted(keys_of(out)) == sorted(f"k{number}" for number in range(100))


def test_a_row_has_one_idempotency_key(tmp_path: Path) -> None:
    """Attempts and resumes of a row carry the same key; other rows, other bodies and other jobs have others."""
    source, out = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out.jsonl"
    failing = {"left": 5}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if failing["left"] > 0:
            failing["left"] -= 1
            writer.write(json_answer({"error": {"message": "no"}}, 500, retry_after="0"))
        elif len(keys) == 1 and number_of(seen) > 6:
            await asyncio.sleep(30)
        else:
            writer.write(reply(seen))

    keys: list[set[tuple[int, str]]] = [set()]

    async def main() -> None:
        async with serving(script) as (server, client):
            task = asyncio.ensure_future(client.job(source, out, max_in_flight=4))
            while len({number_of(seen) for seen in server.seen}) < 10:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait({task})
            keys.append(set())
            await client.job(source, out)
            first = {(number_of(seen), seen.headers["idempotency-key"]) for seen in server.seen}
            assert len(server.seen) > 10
            assert len(first) == 10
            assert len({key for _, key in first}) == 10
            count = len(server.seen)
            await client.job(source, out, new=True)
            assert first.isdisjoint((number_of(seen), seen.headers["idempotency-key"]) for seen in server.seen[count:])

    run(main())


def test_failed_rows_are_apart_and_can_be_sent_again(tmp_path: Path) -> None:
    """Bad rows end in the file of errors with what the server said; that file is a right input; `retry` completes."""
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    errors = tmp_path / "out.errors.jsonl"
    bad = {"on": True}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if bad["on"] and number_of(seen) % 10 == 3:
            error = {"message": "bad prompt", "type": "invalid_request_error", "code": "bad"}
            writer.write(json_answer({"error": error}, 400))
        else:
            writer.write(reply(seen))

    async def main() -> None:
        async with serving(script) as (server, client):
            report = await client.job(source, out, max_in_flight=4)
            assert (report.ok, report.failed, report.errors) == (36, 4, str(errors))
            assert report.failures == {"HTTP 400 bad": 4}
            assert keys_of(errors) == ["k3", "k13", "k23", "k33"]
            first = lines_of(errors)[0]
            assert first["response"]["status_code"] == 400
            assert first["error"]["code"] == "bad"
            assert "bad prompt" in first["error"]["message"]
            assert first["body"]["messages"][0]["content"] == "row 3"
            assert keys_of(out) == [f"k{number}" for number in range(40) if number % 10 != 3]
            count = len(server.seen)
            assert (await client.job(source, out)).failed == 4  # without retry they stay as they are
            assert len(server.seen) == count
            assert (await client.job(errors, tmp_path / "again.jsonl")).failed == 4
            bad["on"] = False
            report = await client.job(source, out, retry=True)
            assert (report.ok, report.failed, report.failures, report.errors) == (40, 0, {}, None)

    run(main())
    assert keys_of(out) == [f"k{number}" for number in range(40)]
    assert errors.read_text() == ""


def test_another_job_is_refused(tmp_path: Path) -> None:
    """A changed prompt, model, parameter or order, another input, and a file that is of no job are refused, unsent."""
    source, out = write_rows(tmp_path / "in.jsonl", 10, model=None), tmp_path / "out.jsonl"
    other = write_rows(tmp_path / "other.jsonl", 10, model=None, seed=1)

    async def main() -> None:
        async with serving() as (server, client):
            await client.job(source, out, model="m", params={"seed": 1})
            before = out.read_bytes()
            for options, said in (
                ({"model": "m2", "params": {"seed": 1}}, 'another model (was "m", is "m2")'),
                ({"model": "m", "params": {"seed": 2}}, "another params"),
                ({"model": "m"}, "another params"),
                ({"model": "m", "params": {"seed": 1}, "order": "completion"}, "another order"),
            ):
                with pytest.raises(JobChangedError) as caught:
                    await client.job(source, out, **options)  # type: ignore[arg-type]
                assert said in str(caught.value)
            with pytest.raises(JobChangedError, match="with the input"):
                await client.job(other, out, model="m", params={"seed": 1})
            text = source.read_text()
            source.write_text(text.replace("row 7", "row 8"))
            with pytest.raises(JobChangedError, match="was changed since"):
                await client.job(source, out, model="m", params={"seed": 1})
            source.write_text(text)
            os.utime(source, ns=(1, 1))
            assert (await client.job(source, out, model="m", params={"seed": 1})).ok == 10  # the same bytes
            assert len(server.seen) == 10
            assert out.read_bytes() == before
            (tmp_path / "mine.jsonl").write_text("something of mine\n")
            with pytest.raises(JobError, match="does not belong to this job"):
                await client.job(source, tmp_path / "mine.jsonl")
            assert len(server.seen) == 10
            assert (tmp_path / "mine.jsonl").read_text() == "something of mine\n"
            report = await client.job(source, out, model="m2", new=True)
            assert (report.ok, report.resumed, len(server.seen)) == (10, 0, 20)
            assert server.seen[-1].json()["model"] == "m2"

    run(main())


def test_rows_may_be_added(tmp_path: Path) -> None:
    """Rows at the end of a grown file are sent with the next call; those before are not sent again."""
    source, out = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            await client.job(source, out)
            write_rows(source, 15)
            report = await client.job(source, out)
            assert (report.rows, report.ok, report.resumed, len(server.seen)) == (15, 15, 10, 15)

    run(main())
    assert keys_of(out) == [f"k{number}" for number in range(15)]


def test_a_bad_file_sends_nothing(tmp_path: Path) -> None:
    """Bad lines are named before a single request; nothing is left behind."""
    source = write_rows(tmp_path / "in.jsonl", 3)
    with open(source, "a") as file:
        file.write("nonsense\n")

    async def main() -> None:
        async with serving() as (server, client):
            with pytest.raises(InputFileError, match="line 4: not JSON"):
                await client.job(source, tmp_path / "out.jsonl")
            assert server.seen == []

    run(main())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A job that runs already is refused, and goes on undisturbed."""
    source, out = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            task = asyncio.ensure_future(client.job(source, out, max_in_flight=2))
            while len(server.seen) < 5:
                await asyncio.sleep(0.001)
            with pytest.raises(JobError, match="another process"):
                await client.job(source, out)
            with pytest.raises(JobError, match="another process"):
                await client.job(source, out, new=True)
            assert (await task).ok == 30

    run(main())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("order", ["input", "completion"])
def test_a_full_or_broken_disk_stops_loudly_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, order: Any
) -> None:
    """When results cannot be written the job stops with the reason; once they can, it goes on to a whole output."""
    source, out = write_rows(tmp_path / "in.jsonl", 150), tmp_path / "out.jsonl"
    real = AppendFile.append
    broken = {"after": 15_000}

    def append(self: AppendFile, data: bytes, *, check: bool = True) -> None:
        broken["after"] -= len(data)
        reserve = tmp_path / "out.jsonl.job" / "reserve"
        if broken["after"] < 0 and (code == errno.EIO or reserve.exists()):
            raise OSError(code, os.strerror(code), self.path)
        real(self, data, check=check)

    async def main() -> None:
        async with serving() as (server, client):
            with monkeypatch.context() as patched:
                patched.setattr(AppendFile, "append", append)
                with pytest.raises(JobError, match=os.strerror(code)):
                    await client.job(source, out, order=order, max_in_flight=4)
            first = len(server.seen)
            assert 0 < first < 150
            report = await client.job(source, out, order=order)
            assert (report.ok, report.left) == (150, 0)
            # With a full disk the answers on their way were saved; what was not is named.
            again = len(server.seen) - 150
            # (Where nothing can be written at all, those answered in the same turn of the loop come on top.)
            assert again <= len(report.paid_twice) <= 8
            if code == errno.ENOSPC:
                assert again == 0

    run(main())
    assert sorted(keys_of(out)) == sorted(f"k{number}" for number in range(150))


def test_progress_and_cost(tmp_path: Path) -> None:
    """The callback sees the job grow to its end; costs follow the prices; at its limit the job stops, resumable."""
    source, out = write_rows(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    seen: list[JobProgress] = []

    async def main() -> None:
        async with serving() as (server, client):
            prices = {"m": (1e4, 2e4)}  # 20 cents a row
            report = await client.job(source, out, prices=prices, max_cost=4.0, max_in_flight=2, progress=seen.append)
            assert report.stopped == "cost"
            assert report.cost == pytest.approx(0.2 * report.ok)
            assert 10 <= report.ok <= 20
            report = await client.job(source, out, prices=prices, progress=seen.append)
            assert report.cost == pytest.approx(12.0)
            assert report.ok == len(server.seen) == 60

    run(main())
    assert seen[-1].done
    assert seen[-1].finished == seen[-1].rows == 60
    assert "60/60 rows" in str(seen[-1])
    assert "$12.00" in str(seen[-1])


def test_answers_are_held_to_a_schema(tmp_path: Path) -> None:
    """With a schema each answer is checked; one that does not fit is asked for again under another idempotency key."""
    source, out = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out.jsonl"
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        messages = seen.json()["messages"]
        number = int(messages[0]["content"].partition(" ")[2])
        wrong = (number == 3 and len(messages) == 1) or number == 5
        message = {"role": "assistant", "content": "no idea" if wrong else json.dumps({"n": number})}
        writer.write(json_answer({**CHAT, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}))

    async def main() -> None:
        async with serving(script) as (server, client):
            report = await client.job(source, out, schema=schema)
            assert (report.ok, report.failed) == (9, 1)
            assert len(server.seen) == 12
            assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 12
            assert server.seen[0].json()["response_format"]["json_schema"]["schema"]["required"] == ["n"]
            with pytest.raises(JobChangedError, match="another schema"):
                await client.job(source, out)

    run(main())
    assert keys_of(out) == [f"k{number}" for number in range(10) if number != 5]
    assert keys_of(tmp_path / "out.errors.jsonl") == ["k5"]
    assert "response_format" not in lines_of(tmp_path / "out.errors.jsonl")[0]["body"]


def test_options_are_checked(tmp_path: Path) -> None:
    """A misspelt or impossible option is an error at once, with the nearest name."""
    source = write_rows(tmp_path / "in.jsonl", 1)
    client = Client(api_base="http://127.0.0.1:9/v1", api_key="k")
    with pytest.raises(TypeError, match="did you mean 'durability'"):
        client.job(source, tmp_path / "o", durabilty="none")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="order is one of"):
        client.job(source, tmp_path / "o", order="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="would be overwritten"):
        client.job(source, source)
    assert isinstance(client.job(source, tmp_path / "o"), Job)


def test_the_page_holds_everything(tmp_path: Path) -> None:
    """The report as HTML is one page without anything from elsewhere, with what the report says in it."""
    source, out = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if number_of(seen) == 5:
            writer.write(json_answer({"error": {"message": "<b>no</b>", "code": "<i>bad</i>"}}, 400))
        else:
            writer.write(reply(seen))

    async def main() -> None:
        async with serving(script) as (_, client):
            await client.job(source, out, report=tmp_path / "report.html")

    run(main())
    page = (tmp_path / "report.html").read_text()
    assert "29 / 30" in page
    assert "&lt;i&gt;bad" in page
    assert "<i>bad" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "src=" not in page


def test_the_store_stays_readable_for_others(tmp_path: Path) -> None:
    """What a job leaves can be opened by the store itself: the order and the number of rows are those of the file."""
    source, out = write_rows(tmp_path / "in.jsonl", 8), tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (_, client):
            await client.job(source, out)

    run(main())
    store = SegmentStore.open(f"{out}.job", str(out), str(tmp_path / "out.errors.jsonl"))
    assert store.copied == 8
    store.close()


def test_no_file_of_a_job_is_written_over_another(tmp_path: Path) -> None:
    """The input under another name, and a report or a cache in the place of input or output, are refused, unharmed."""
    source = write_rows(tmp_path / "in.jsonl", 2)
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    other = tmp_path / "link" / "in.jsonl"
    client = Client(api_base="http://127.0.0.1:9/v1", api_key="k")
    for out, options in (
        (source, {"new": True}),
        (tmp_path / "o.jsonl", {"report": other}),
        (tmp_path / "o.jsonl", {"report": tmp_path / "o.jsonl"}),
        (tmp_path / "o.jsonl", {"report": tmp_path / "o.errors.jsonl"}),
        (tmp_path / "o.jsonl", {"cache": source}),
    ):
        with pytest.raises(ValueError, match=r"would be (overwritten|both)"):
            client.job(other, out, **options)
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "link"]


def test_an_input_that_shrinks_is_named(tmp_path: Path) -> None:
    """A file that lost its rows between the check and the sending is an error, not a job that has nothing to do."""
    source = write_rows(tmp_path / "in.jsonl", 20)
    size = source.stat().st_size
    source.write_bytes(source.read_bytes()[: size // 2])
    with pytest.raises(InputFileError, match="became shorter"):
        list(read_lines(str(source), size, skip_rows(str(source), size, lambda row: True)))


def test_problems_of_a_table_are_those_of_its_rows(tmp_path: Path) -> None:
    """A repeated key, a row that is too short and a table without rows are named in the user's file."""
    source, out = tmp_path / "in.csv", tmp_path / "out.jsonl"

    async def main() -> None:
        async with serving() as (server, client):
            for text, said in (
                ("id,text\n1,a\n1,b\n", "in.csv: row 2: custom_id '1' is that of line 1"),
                ("id,text\n1,a\n2\n", "in.csv: line 3: fewer fields"),
                ("id,text\n", "in.csv: the file has no rows"),
            ):
                source.write_text(text)
                with pytest.raises(InputFileError) as caught:
                    await client.job(source, out, table=TableOptions("{text}"), model="m")
                assert said in str(caught.value)
            assert server.seen == []

    run(main())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_export_names_lines_that_are_no_answers(tmp_path: Path) -> None:
    """What is not the output of a job is refused with its line; odd answers are rows; a torn last line is left out."""
    file, table = tmp_path / "out.jsonl", tmp_path / "t.csv"
    for line, said in (("[]", "line 2: not the answer"), ("x", "line 2: not JSON"), ("{}", "line 2: not the answer")):
        file.write_text(f'{{"custom_id": "a", "response": null}}\n{line}\n')
        with pytest.raises(InputFileError, match=said):
            export_results([str(file)], str(table))
        assert not table.exists()
    odd = ['"x"', '{"body": {"choices": ["x"]}}', '{"body": {"data": [1]}}', '{"body": 5}']
    lines = [f'{{"custom_id": "{number}", "response": {text}}}\n' for number, text in enumerate(odd)]
    file.write_text("".join(lines) + '{"custom_id": "4", "resp')
    assert export_results([str(file)], str(table)) == 4


def test_an_input_that_is_rewritten_is_named(tmp_path: Path) -> None:
    """Rows that were overwritten while the job was running are named with their line; answers so far are kept."""
    source, out = write_rows(tmp_path / "in.jsonl", 20_000), tmp_path / "out.jsonl"
    size = source.stat().st_size

    async def main() -> None:
        async with serving() as (server, client):
            task = asyncio.ensure_future(client.job(source, out, max_in_flight=4))
            while not server.seen:
                await asyncio.sleep(0.001)
            with source.open("r+b") as file:
                file.seek(300_000)
                file.write(b"x" * (size - 300_000))
            with pytest.raises(InputFileError, match=r"line \d+: was changed while"):
                await task
            assert len(keys_of(out)) == len(server.seen)

    run(main())


@pytest.mark.parametrize("error", [RuntimeError("the display is broken"), BrokenPipeError("nobody reads")])
def test_a_progress_callback_that_raises_ends_the_job(tmp_path: Path, error: Exception) -> None:
    """It ends at once, its exception is raised to the caller, and the same call goes on without it."""
    source, out = write_rows(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    calls = 0

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(reply(seen))

    def show(progress: JobProgress) -> None:
        nonlocal calls
        calls += 1
        if progress.ok > 10:
            raise error

    async def main() -> None:
        async with serving(script) as (server, client):
            with pytest.raises(type(error), match=str(error)):
                await client.job(source, out, max_in_flight=4, progress=show)
            assert 10 < len(server.seen) < 60
            before = calls
            report = await client.job(source, out, max_in_flight=64)
            assert (report.ok, report.left) == (400, 0)
            assert 10 < report.resumed < 60
            assert len(server.seen) <= 404  # those in flight were sent again
            assert calls == before

    run(main())
    assert keys_of(out) == [f"k{number}" for number in range(400)]


def test_the_later_limits_win(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run's named limits replace what `limits set` said before, one by one and with a warning; not named ones stay,
    and what is set later counts again."""
    source, out = write_rows(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    folder = str(tmp_path / "out.jsonl.job")
    limits: list[tuple[float, Any]] = []

    async def limits_of(client: Client, **options: Any) -> tuple[float, Any]:
        job = client.job(source, out, progress=lambda progress: job.stop(now=True), **options)
        await job
        admission = job._scheduler._servers[0].admission
        return round(admission.requests.configured * 60), admission.slots.fixed

    async def main() -> None:
        async def never(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1000)

        async with serving(never) as (_, client):
            limits.append(await limits_of(client, limits=Limits(rpm=100)))
            JobLimits(rpm=200, max_in_flight=3).merged_into(folder)
            limits.append(await limits_of(client))
            assert not caplog.records
            limits.append(await limits_of(client, limits=Limits(rpm=300)))
            (record,) = caplog.records
            assert "rpm 200" in record.getMessage()
            assert "rpm 300" in record.getMessage()
            JobLimits(rpm=400).merged_into(folder)
            limits.append(await limits_of(client))

    run(main())
    assert limits == [(100, None), (200, 3), (300, 3), (400, 3)]


@pytest.mark.parametrize("max_tokens", [None, 5, 5000])
def test_rows_in_flight_are_booked_against_the_cost_limit(tmp_path: Path, max_tokens: int | None) -> None:
    """With many slots and slow answers a job does not pass its cost limit, nor stops far before it; a second run with
    the same limit sends nothing; one with a higher limit goes on."""
    source, out = write_rows(tmp_path / "in.jsonl", 200, max_tokens=max_tokens), tmp_path / "out.jsonl"

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(reply(seen))

    async def main() -> None:
        async with serving(script) as (server, client):
            options: dict[str, Any] = {"prices": {"m": (1e4, 2e4)}, "max_in_flight": 64}  # 20 cents a row
            report = await client.job(source, out, max_cost=10.0, **options)
            assert report.stopped == "cost"
            assert report.cost is not None
            assert 9.0 <= report.cost <= 10.0
            sent = len(server.seen)
            again = await client.job(source, out, max_cost=10.0, **options)
            assert (again.stopped, again.cost) == ("cost", pytest.approx(report.cost, abs=1.0))
            assert len(server.seen) <= sent + 4
            done = await client.job(source, out, max_cost=1000.0, **options)
            assert (done.ok, done.cost) == (200, pytest.approx(40.0))
            assert len(server.seen) == 200

    run(main(), timeout=120)


def test_totals_survive_without_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens, requests, refusals and cost of a run that could not write its status any more come from the journal."""
    source, out = write_rows(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    seen_rows: Counter[int] = Counter()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        number = number_of(seen)
        seen_rows[number] += 1
        if number == 3:
            writer.write(json_answer({"error": {"message": "too bad"}}, 400))
        elif number % 10 == 5 and seen_rows[number] == 1:
            writer.write(json_answer({"error": {"message": "slower"}}, 429, Retry_After_Ms="5"))
        elif number % 10 == 6 and seen_rows[number] == 1:
            writer.write(json_answer({"error": {"message": "broken"}}, 500, Retry_After_Ms="5"))
        else:
            writer.write(reply(seen))

    async def no_status(sink: Any) -> None:
        pass

    async def main() -> None:
        async with serving(script) as (server, client):
            prices = {"m": (1e4, 2e4)}
            with monkeypatch.context() as patched:
                patched.setattr("openaiasync.bulk.job_sink.JobSink._save_status", no_status)
                before = await client.job(source, out, prices=prices, max_in_flight=4)
            assert (before.refused, before.retried) == (6, 6)
            report = await client.job(source, out, prices=prices)
            assert len(server.seen) == report.requests == before.requests == 72
            assert (report.refused, report.retried, report.failed) == (6, 6, 1)
            assert (report.input_tokens, report.output_tokens) == (590, 295)
            assert report.cost == pytest.approx(59 * 0.2)
            assert sum(report.failures.values()) == 1

    run(main())


def test_prices_are_looked_up_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with prices takes long to import: that holds up no answer, and no cost is missing at the end."""
    source, out = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    threads: list[bool] = []

    def price(model: str, prices: Any) -> tuple[float, float]:
        threads.append(threading.current_thread() is threading.main_thread())
        return 1e4, 2e4

    monkeypatch.setattr("openaiasync.bulk.cost.price_for", price)

    async def main() -> None:
        async with serving() as (_, client):
            report = await client.job(source, out)
            assert report.cost == pytest.approx(30 * 0.2)

    run(main())
    assert threads == [False]


@pytest.mark.parametrize("status", [200, 400])
def test_half_of_a_surrogate_pair_fails_no_job(tmp_path: Path, status: int) -> None:
    """Servers that cut texts send it in answers and errors; lines and tables have U+FFFD in its place."""
    source, out = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        message = {"role": "assistant", "content": "cut \ud83d"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        failure = {"error": {"message": "cut \ud83d", "code": "\ud83d"}}
        body = {**CHAT, "choices": [choice]} if status == 200 else failure
        writer.write(json_answer(body, status))

    async def main() -> JobReport:
        async with serving(script) as (_, client):
            return await client.job(source, out)

    report = run(main())
    assert (report.ok, report.failed) == ((3, 0) if status == 200 else (0, 3))
    found = tmp_path / ("out.jsonl" if status == 200 else "out.errors.jsonl")
    assert [line["custom_id"] for line in lines_of(found)] == ["k0", "k1", "k2"]
    assert "cut \ufffd" in found.read_text()
    found.write_text(found.read_text().replace("\ufffd", "\\ud83d"))  # as other programs write it
    assert export_results([str(found)], str(tmp_path / "out.csv")) == 3
    assert (tmp_path / "out.csv").read_text().count("cut \ufffd") == 3


def test_a_job_that_is_cancelled_while_it_opens_can_be_called_again(tmp_path: Path, monkeypatch: Any) -> None:
    """Its files are closed and unlocked at once, even while its exception is kept."""
    source, out = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    opens, opening_now, go = Job._open, threading.Event(), threading.Event()

    def opening(job: Job) -> Any:
        opening_now.set()
        assert go.wait(10)
        return opens(job)

    async def main() -> None:
        async with serving() as (_, client):
            monkeypatch.setattr(Job, "_open", opening)
            task = asyncio.ensure_future(client.job(source, out))
            while not opening_now.is_set():
                await asyncio.sleep(0)
            task.cancel()
            go.set()
            try:
                await task
            except asyncio.CancelledError:
                assert (await client.job(source, out)).ok == 3
            else:
                raise AssertionError("the job was not cancelled")

    run(main())
