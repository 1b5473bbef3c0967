"""The parts of a job on Ray that need no cluster: what a worker checks and runs, and the stage for Ray Data."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster_files import Server, running, write_rows
from openaiasync import ConfigurationError, TableOptions, __version__, merge_shards
from openaiasync.bulk.shards import plan_shards
from openaiasync.cli.command_line import run as command
from openaiasync.ray import Requests
from openaiasync.ray.shard_worker import ShardResult, ShardTask, ShardWorker
from openaiasync.ray.worker_options import KeyCommand, WorkerOptions
from openaiasync.testing import FakeServer


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def api(simulated: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    simulated.set(latency=0, jitter=0, bad=0, rpm=0, quota=0)
    simulated.reset()
    return simulated


def task_for(tmp_path: Path, requests: str, total: int, **changes: Any) -> ShardTask:
    """The task of a driver, with the files that a driver makes."""
    out = str(tmp_path / "out.jsonl")
    folder = tmp_path / "out.jsonl.shards"
    folder.mkdir(exist_ok=True)
    (folder / ".token").write_text(".token")
    given = {"library": __version__, "source": requests, "out": out, "total": total}
    given["size"] = os.path.getsize(requests)
    given |= {"token": ".token", "worker": WorkerOptions(base_url=["http://127.0.0.1:9/v1"]), "options": {}}
    return ShardTask(**{**given, **changes})


def worker_for(task: ShardTask) -> ShardWorker:
    return ShardWorker(msgspec.json.encode(task))


# -------------------------------------------------------------------------------------------------- a worker


def test_a_worker_runs_shards_one_after_another(api: Server, tmp_path: Path) -> None:
    """Two shards given at once: the second one begins when the first has no row left to start, and both are complete;
    never are more rows in flight than the limit."""
    source = write_rows(tmp_path / "in.jsonl", 60)
    api.set(latency=0.05, jitter=0.9)
    task = task_for(tmp_path, source, 2, worker=WorkerOptions(base_url=[api.base], max_in_flight=8))

    async def both() -> list[ShardResult]:
        worker = worker_for(task)
        assert await worker.check() == ""
        running_shards = asyncio.gather(worker.run(0), worker.run(1))
        while not (seen := json.loads(await worker.progress())):
            await asyncio.sleep(0.01)
        assert seen[0]["rows"] < 60
        return [msgspec.json.decode(one, type=ShardResult) for one in await running_shards]

    results = asyncio.run(both())
    assert [result.kind for result in results] == ["", ""]
    assert sum(result.progress.ok for result in results) == 60
    assert all(result.progress.done for result in results)
    assert asyncio.run(merge_shards(tmp_path / "out.jsonl")).ok == 60
    report = api.report()
    assert report["requests"] == 60
    assert report["most_in_flight"] == 8


def test_a_worker_that_is_stopped_leaves_its_shard_resumable(api: Server, tmp_path: Path) -> None:
    """`stop` ends the rows in flight; the shard says that rows are left, and another worker finishes it."""
    source = write_rows(tmp_path / "in.jsonl", 60)
    api.set(latency=0.1)
    task = task_for(tmp_path, source, 1, worker=WorkerOptions(base_url=[api.base], max_in_flight=4))

    async def stopped() -> ShardResult:
        worker = worker_for(task)
        run = asyncio.create_task(worker.run(0))
        while api.report()["answers"] < 4:
            await asyncio.sleep(0.02)
        await worker.stop(False)
        return msgspec.json.decode(await run, type=ShardResult)

    first = asyncio.run(stopped())
    assert not first.progress.done
    assert (first.stopped, first.kind) == ("stop", "")
    assert 4 <= first.progress.ok < 60
    api.set(latency=0)
    assert msgspec.json.decode(asyncio.run(worker_for(task).run(0)), type=ShardResult).progress.ok == 60
    assert api.report()["requests"] == 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"library": "9.9"}, f"openaiasync {__version__} is installed there, but 9.9"),
        ({"token": ".another"}, "is not the folder that the driver sees: input and output must be on a file system"),
        ({"source": "/nowhere/in.jsonl"}, "/nowhere/in.jsonl cannot be read there: No such file"),
        ({"size": 1}, "bytes there, and 1 where the job was started"),
        ({"worker": WorkerOptions()}, "no API key for .*in the environment of the worker"),
    ],
)
def test_a_worker_that_cannot_run_shards_says_why(
    api: Server, tmp_path: Path, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version, a folder or input that it does not see, a missing key: named with the machine, nothing sent."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    task = task_for(tmp_path, write_rows(tmp_path / "in.jsonl", 4), 1, **changes)
    complaint = asyncio.run(worker_for(task).check())
    assert complaint.startswith("worker on ")
    assert re.search(words, complaint), complaint
    result = msgspec.json.decode(asyncio.run(worker_for(task).run(0)), type=ShardResult)
    assert (result.kind, result.progress.rows) == ("fatal", 0)
    assert api.report()["requests"] == 0


def test_errors_of_a_shard_are_told_apart(api: Server, tmp_path: Path) -> None:
    """A shard that another process runs is busy, and can be run later; a changed setting would end every shard."""
    source = write_rows(tmp_path / "in.jsonl", 20)
    api.set(latency=0.1)
    task = task_for(tmp_path, source, 1, worker=WorkerOptions(base_url=[api.base], max_in_flight=2))

    async def twice() -> ShardResult:
        first = asyncio.create_task(worker_for(task).run(0))
        while api.report()["requests"] < 2:
            await asyncio.sleep(0.02)
        second = msgspec.json.decode(await worker_for(task).run(0), type=ShardResult)
        await first
        return second

    assert asyncio.run(twice()).kind == "busy"
    other = task_for(tmp_path, source, 1, options={"model": "another"}, worker=task.worker)
    result = msgspec.json.decode(asyncio.run(worker_for(other).run(0)), type=ShardResult)
    assert result.kind == "fatal"
    assert "another model" in str(result.error)


def test_no_secret_leaves_the_driver() -> None:
    """Passwords in URLs are refused with advice, and a key is not an option at all."""
    for options in ({"base_url": ["http://me:pass@host/v1"]}, {"shared": "redis://:pass@host/0?name=x"}):
        with pytest.raises(
            ConfigurationError, match=r"set (OPENAI_BASE_URL|OPENAIASYNC_SHARED) on the workers"
        ) as found:
            WorkerOptions(**options).check()
        assert "pass@" not in str(found.value)
    WorkerOptions(base_url=["http://host/v1"], shared="redis://host/0?name=x").check()
    assert "key" not in set(WorkerOptions.__struct_fields__) - {"key_command"}


def test_a_key_command_is_run_where_the_key_is_needed(tmp_path: Path) -> None:
    """What it prints is the key, asked for once for many calls; a failure names the command, never what it printed."""
    counted = tmp_path / "runs"
    key = KeyCommand(f"echo x >> {counted}; echo '  sk-printed '")

    async def keys() -> list[str]:
        return [*await asyncio.gather(*(key() for _ in range(5))), await key()]

    assert asyncio.run(keys()) == ["sk-printed"] * 6
    assert counted.read_text() == "x\n"
    for text, words in (("echo sk-1; exit 3", "ended with code 3"), ("true", "printed nothing")):
        with pytest.raises(ConfigurationError, match=words) as found:
            asyncio.run(KeyCommand(text)())  # type: ignore[arg-type]
        assert "key command" in str(found.value)


def test_the_plan_of_the_driver_is_that_of_the_workers(api: Server, tmp_path: Path) -> None:
    """A driver and a worker agree on the settings of a table's requests: they find the same plan."""
    source = tmp_path / "in.csv"
    source.write_text("text\na\nb\n")
    options = {"model": "m", "params": {"temperature": 0}, "order": "completion"}
    task = task_for(
        tmp_path, str(source), 2, options=options, table=TableOptions("{text}")._asdict(),
        worker=WorkerOptions(base_url=[api.base]),
    )  # fmt: skip
    from openaiasync import Client
    from openaiasync.bulk.job import Job

    example = Job([Client(api_base="http://127.0.0.1:9/v1")], str(source), task.out, shard=(0, 1),
                  table=TableOptions("{text}"), **options)  # type: ignore[arg-type]  # fmt: skip
    (tmp_path / "e").touch()
    plan_shards(str(source), task.out, str(tmp_path / "e"), 2, example.settings)
    worker = worker_for(task)

    async def both() -> list[bytes]:
        return [await worker.run(0), await worker.run(1)]

    assert [msgspec.json.decode(one, type=ShardResult).progress.ok for one in asyncio.run(both())] == [1, 1]


# -------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray", "auto", "--shard", "0/2"], "--ray runs all shards"),
        (["--workers", "2"], "are for --ray"),
        (["--ray", "auto", "--api-key", "sk-1"], "--api-key would be visible in the cluster"),
        (["--ray", "auto", "--cache", "c.db"], "--cache is a file of SQLite"),
    ],
)
def test_wrong_usage(words: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What cannot be meant is said before Ray is looked for."""
    source = write_rows(tmp_path / "in.jsonl", 4)
    assert command(["run", source, "-o", str(tmp_path / "o"), "--base-url", "http://127.0.0.1:9/v1", *words]) == 2
    assert said in capfd.readouterr().err


def test_a_missing_ray_is_named(tmp_path: Path) -> None:
    """Without the extra, `--ray` says what to install."""
    source = write_rows(tmp_path / "in.jsonl", 4)
    text = (
        "import sys; sys.modules['ray'] = None\nfrom openaiasync.cli.command_line import run\n"
        f"sys.exit(run(['run', {source!r}, '-o', {str(tmp_path / 'o')!r}, '--ray', 'auto']))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "need Ray: pip install " in done.stderr  # from a package index, or from the checkout that is installed
    assert "[ray]" in done.stderr


# -------------------------------------------------------------------------------------------------- Ray Data's stage


def batch_of(first: int, count: int) -> dict[str, Any]:
    return {"id": list(range(first, first + count)), "text": [f"row-{n}" for n in range(first, first + count)]}


def test_batches_share_slots(api: Server) -> None:
    """Four batches of 16 rows at once are one run of 64 slots: together they take about as long as one answer."""
    api.set(latency=0.4)

    async def four() -> tuple[list[dict[str, Any]], float]:
        stage = Requests(prompt="Say {text}", model="m", base_url=api.base)
        await stage(batch_of(1000, 1))  # connections, imports
        began = time.perf_counter()
        found = await asyncio.gather(*(stage(batch_of(16 * number, 16)) for number in range(4)))
        took = time.perf_counter() - began
        await stage.aclose()
        return found, took

    batches, took = asyncio.run(four())
    assert took < 0.4 * 3  # one after another they would take four times as long; 0.5 s where nothing else runs
    for number, batch in enumerate(batches):
        assert batch["id"] == list(range(16 * number, 16 * number + 16))
        assert all(f"(row-{row})" in text for row, text in zip(batch["id"], batch["text"], strict=True))
        assert batch["error"] == [None] * 16
        assert min(batch["output_tokens"]) > 0


def test_errors_of_rows_are_in_a_column(api: Server) -> None:
    """A refused row, an unusable one and one without its column have their error; the others are answered."""
    api.set(bad=0.3)

    async def call() -> dict[str, Any]:
        stage = Requests(model="m", base_url=api.base, retries=0)
        messages: list[Any] = [[{"role": "user", "content": f"row-{at}"}] for at in range(40)]
        messages[7] = None
        messages[8] = [{"role": "user", "content": "\ud800"}]
        found = await stage({"messages": messages, "n": list(range(40))})
        await stage.aclose()
        return found

    found = asyncio.run(call())
    failed = [at for at in range(40) if found["error"][at] is not None]
    assert {7, 8} < set(failed)
    assert 3 < len(failed) < 30
    assert "neither a column" in found["error"][7]
    assert "cannot be sent" in found["error"][8]
    others = [found["error"][at] for at in failed if at not in (7, 8)]
    assert all("BadRequestError" in error for error in others)
    assert all((found["text"][at] is None) == (found["error"][at] is not None) for at in range(40))

    async def other_column() -> dict[str, Any]:
        stage = Requests(prompt="{nothing}", model="m", base_url=api.base)
        found = await stage(batch_of(0, 2))
        await stage.aclose()
        return found

    assert asyncio.run(other_column())["error"] == ["there is no column 'nothing'; columns are id, text"] * 2


def test_a_used_up_quota_fails_rows_and_not_the_data_set(api: Server) -> None:
    """When the servers will answer no further row, all rows get that error at once, those of later batches too."""
    api.set(quota=5)

    async def two() -> list[dict[str, Any]]:
        stage = Requests(prompt="{text}", model="m", base_url=api.base, max_in_flight=1)
        found = [await stage(batch_of(0, 10)), await stage(batch_of(10, 10))]
        await stage.aclose()
        return found

    first, second = asyncio.run(two())
    assert sum(error is None for error in first["error"]) == 5
    assert "the account's quota is used up" in first["error"][9]
    assert all("quota is used up" in error for error in second["error"])


def test_embeddings_have_their_column(api: Server) -> None:
    """A stage for embeddings gives a vector for each row."""

    async def call() -> dict[str, Any]:
        stage = Requests(prompt="{text}", url="/v1/embeddings", model="m", base_url=api.base)
        found = await stage(batch_of(0, 3))
        await stage.aclose()
        return found

    found = asyncio.run(call())
    assert found["error"] == [None] * 3
    assert all(len(vector) > 0 and isinstance(vector[0], float) for vector in found["embedding"])


def test_an_answer_with_nan_does_not_end_the_data_set() -> None:
    """Some servers write NaN for a probability that they cannot compute, which is not JSON."""
    choice = b'{"index":0,"message":{"role":"assistant","content":"Hi."},"finish_reason":"stop","score":NaN}'

    async def call(server: FakeServer) -> dict[str, Any]:
        server.reply(content=b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[%b]}' % choice)
        stage = Requests(prompt="{text}", model="m", base_url=server.url)
        found = await stage(batch_of(0, 1))
        await stage.aclose()
        return found

    with FakeServer() as server:
        found = asyncio.run(call(server))
    assert (found["text"], found["error"]) == (["Hi."], [None])


def test_a_stage_that_cannot_send_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, a password in a URL and an unknown endpoint are errors of the constructor, before any row."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="no API key"):
        Requests(prompt="{text}", model="m")
    with pytest.raises(ConfigurationError, match="contains a user or password"):
        Requests(prompt="{text}", base_url="http://me:pass@host/v1")
    with pytest.raises(ConfigurationError, match="not an endpoint"):
        Requests(prompt="{text}", url="/v1/chat")
