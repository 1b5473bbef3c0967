"""Jobs through the Batch API, against a scripted one: uploaded in parts, polled, merged, each row once."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, JobError, JobReport
from openaiasync.bulk import batch_api
from openaiasync.bulk.job import Job
from scripted import CHAT, Seen, answer, json_answer, scripted


class BatchServer:
    """A server that has files and batches, and answers each row of a batch after it was asked `polls` times."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}
        self.polls = 2
        self.bad: set[str] = set()
        self.unanswered: set[str] = set()
        self.fail = ""
        self.lost = False  # the answer to the next creation of a batch

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        path = seen.target.partition("?")[0].removeprefix("/v1")
        if seen.method == "POST" and path == "/files":
            name = f"file-{len(self.files)}"
            match = re.search(rb'filename="[^"]*"[^\r]*\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--', seen.body, re.DOTALL)
            assert match is not None
            self.files[name] = match[1]
            writer.write(json_answer({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f",
                                      "purpose": "batch", "status": "processed"}))  # fmt: skip
        elif seen.method == "POST":
            name = f"batch_{len(self.batches)}"
            self.batches[name] = {**self.plain(name), **seen.json(), "status": "in_progress"}
            if self.lost:
                self.lost = False
                await asyncio.sleep(30)
            writer.write(json_answer(self.batches[name]))
        elif path == "/batches":
            writer.write(json_answer({"object": "list", "data": list(self.batches.values()), "has_more": False}))
        elif path.startswith("/batches/"):
            writer.write(json_answer(self.look(path.rpartition("/")[2])))
        else:
            writer.write(answer(self.files[path.split("/")[2]], content_type="application/octet-stream"))

    def plain(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "batch", "endpoint": "", "input_file_id": "", "completion_window": "24h",
                "status": "in_progress", "created_at": 1}  # fmt: skip

    def look(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        self.asked[name] = self.asked.get(name, 0) + 1
        if self.fail:
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": self.fail}]}
        elif self.asked[name] >= self.polls and batch["status"] == "in_progress":
            batch["status"] = "completed"
            rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            good = [self.row(row) for row in rows if row["custom_id"] not in self.bad | self.unanswered]
            bad = [self.row(row) for row in rows if row["custom_id"] in self.bad]
            for field, lines in (("output_file_id", good[::-1]), ("error_file_id", bad)):
                if lines:
                    batch[field] = f"file-{len(self.files)}"
                    self.files[batch[field]] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return batch

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        key = row["custom_id"]
        body: dict[str, Any] = {
            **CHAT,
            "id": key,
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        if key in self.bad:
            body = {"error": {"message": "no such prompt", "code": "bad_prompt"}}
        response = {"status_code": 400 if key in self.bad else 200, "request_id": f"req-{key}", "body": body}
        return {"id": f"b-{key}", "custom_id": key, "response": response, "error": None}


def write_rows(path: Path, count: int) -> Path:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    rows = [
        {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def batch_job(client: Client, source: Path, out: Path) -> Job:
    job = client.job(source, out, via="batch")
    job._poll = 0.01
    return job


def test_a_file_goes_through_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are split at the API's limit, answers come back in the order of the input, failed rows apart."""
    monkeypatch.setattr(batch_api, "ROWS", 10)
    source, out = write_rows(tmp_path / "in.jsonl", 35), tmp_path / "out.jsonl"
    api = BatchServer()
    api.bad = {"k7", "k33"}

    async def main() -> JobReport:
        async with scripted(api) as server, Client(api_base=server.url, api_key="k") as client:
            report = await batch_job(client, source, out)
            assert (await batch_job(client, source, out)).ok == 33  # nothing is sent again
            return report

    report = run(main())
    assert sorted(len(api.files[batch["input_file_id"]].splitlines()) for batch in api.batches.values()) == [
        5,
        10,
        10,
        10,
    ]
    assert (report.rows, report.ok, report.failed, report.left) == (35, 33, 2, 0)
    assert (report.input_tokens, report.output_tokens) == (99, 66)
    assert report.failures == {"HTTP 400 bad_prompt": 2}
    assert keys_of(out) == [f"k{number}" for number in range(35) if number not in (7, 33)]
    first = json.loads(out.read_text().splitlines()[0])
    assert (first["response"]["request_id"], first["response"]["body"]["id"]) == ("req-k0", "k0")
    assert keys_of(tmp_path / "out.errors.jsonl") == ["k7", "k33"]


def test_a_killed_job_finds_its_batches(tmp_path: Path) -> None:
    """Killed before it heard that its batch was begun, a job finds it at the server; nothing is uploaded twice."""
    source, out = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl"
    api = BatchServer()
    api.lost = True

    async def main() -> None:
        async with scripted(api) as server, Client(api_base=server.url, api_key="k") as client:
            task = asyncio.ensure_future(batch_job(client, source, out))
            while not api.batches:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait({task})
            report = await batch_job(client, source, out)
            assert (report.ok, report.paid_twice) == (5, [])

    run(main())
    assert len(api.batches) == 1
    assert keys_of(out) == [f"k{number}" for number in range(5)]


def test_a_stopped_job_collects_later(tmp_path: Path) -> None:
    """A job that is stopped leaves its batch at the server; the same call collects it."""
    source, out = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl"
    api = BatchServer()
    api.polls = 1000

    async def main() -> None:
        async with scripted(api) as server, Client(api_base=server.url, api_key="k") as client:
            job = batch_job(client, source, out)
            task = asyncio.ensure_future(job)
            while not api.asked:
                await asyncio.sleep(0.01)
            job.stop()
            report = await task
            assert (report.left, report.stopped) == (5, "stop")
            api.polls = 1
            assert (await batch_job(client, source, out)).ok == 5

    run(main())
    assert len(api.batches) == 1


def test_rows_that_a_batch_leaves_out_are_sent_again(tmp_path: Path) -> None:
    """Rows of an expired batch without a result stay to be done; the next call sends them, and them alone."""
    source, out = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    api = BatchServer()
    api.unanswered = {"k1", "k4"}

    async def main() -> None:
        async with scripted(api) as server, Client(api_base=server.url, api_key="k") as client:
            report = await batch_job(client, source, out)
            assert (report.ok, report.left) == (4, 2)
            api.unanswered = set()
            assert (await batch_job(client, source, out)).ok == 6

    run(main())
    assert [len(api.files[batch["input_file_id"]].splitlines()) for batch in api.batches.values()] == [6, 2]
    assert keys_of(out) == [f"k{number}" for number in range(6)]


def test_an_answer_that_only_python_reads_is_merged(tmp_path: Path) -> None:
    """Half of a surrogate pair or NaN in one answer or error does not keep the others of its file from their rows."""

    class Server(BatchServer):
        def row(self, row: dict[str, Any]) -> dict[str, Any]:
            made = super().row(row)
            if row["custom_id"] != "k0":
                made["response"]["body"] |= {"note": "cut \ud83d", "score": float("nan")}
            return made

    server = Server()
    server.bad = {"k2"}
    source, out = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"

    async def main() -> JobReport:
        async with scripted(server) as served, Client(api_base=served.url, api_key="k") as client:
            return await batch_job(client, source, out)

    report = run(main())
    assert (report.ok, report.failed) == (2, 1)
    answers = [json.loads(line)["response"]["body"] for line in out.read_text().splitlines()]
    assert (answers[1]["note"], answers[1]["score"]) == ("cut \ufffd", None)


def test_a_failed_batch_says_why(tmp_path: Path) -> None:
    """A batch that the server fails as a whole ends the job with the server's words; it can be run again."""
    source, out = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    api = BatchServer()
    api.fail = "the model is not available in the Batch API"

    async def main() -> None:
        async with scripted(api) as server, Client(api_base=server.url, api_key="k") as client:
            with pytest.raises(JobError, match="not available in the Batch API"):
                await batch_job(client, source, out)
            api.fail = ""
            assert (await batch_job(client, source, out)).ok == 3

    run(main())
