"""Inputs and outputs in object stores, with the file systems of `fsspec` that need no server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_files import Server, running, write_rows
from openaiasync import Client, ConfigurationError, InputFileError, JobChangedError, JobError, JobReport, TableOptions
from openaiasync.bulk.fingerprint import JobRunningError
from openaiasync.bulk.object_storage import ObjectFolder, is_url
from openaiasync.bulk.remote_shards import RemoteOutput, merge_output
from openaiasync.cli.command_line import run as command

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def api(simulated: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    simulated.set(latency=0, bad=0, jitter=0, quota=0)
    simulated.reset()
    return simulated


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder in memory; temporary folders are where the test sees them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return f"memory://{uuid.uuid4().hex}"


def put(url: str, data: bytes) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def get(url: str) -> bytes:
    with fsspec.open(url, "rb") as file:
        found: bytes = file.read()
    return found


def keys_in(url: str) -> list[str]:
    return [json.loads(line)["custom_id"] for line in get(url).splitlines()]


def rows(tmp_path: Path, count: int) -> bytes:
    return Path(write_rows(tmp_path / "in.jsonl", count)).read_bytes()


async def shard(api: Server, source: str, out: str, number: int, total: int, **options: Any) -> JobReport:
    async with Client(api_base=api.base) as client:
        return await client.job(source, out, shard=(number, total), **options)


# -------------------------------------------------------------------------------------------------- reading


def test_an_input_in_a_store(api: Server, bucket: str, tmp_path: Path) -> None:
    """A job and its shards read an object by byte ranges; their results are those for a file."""
    source = put(f"{bucket}/in.jsonl", rows(tmp_path, 50))

    async def main() -> JobReport:
        async with Client(api_base=api.base) as client:
            whole = await client.job(source, tmp_path / "whole.jsonl")
            for number in range(3):
                await client.job(source, tmp_path / "cut.jsonl", shard=(number, 3))
            await client.job(source, tmp_path / "whole.jsonl")
        return whole

    assert asyncio.run(main()).ok == 50
    assert command(["merge", str(tmp_path / "cut.jsonl")]) == 0
    for name in ("whole.jsonl", "cut.jsonl"):
        assert keys_in(str(tmp_path / name)) == [f"k{number}" for number in range(50)]
    assert api.report()["requests"] == 100
    put(source, rows(tmp_path, 51))
    with pytest.raises(JobChangedError, match="was changed"):
        asyncio.run(main())


def test_a_table_in_a_store(api: Server, bucket: str, tmp_path: Path) -> None:
    """CSV and Parquet are read from a store too, of Parquet only the row groups of a shard."""
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    texts = [f"row-{number}" for number in range(40)]
    pyarrow.parquet.write_table(arrow.table({"text": texts}), tmp_path / "t.parquet", row_group_size=10)
    table = TableOptions("{text}")
    for name, data in (
        ("a.csv", ("text\n" + "\n".join(texts)).encode()),
        ("b.parquet", (tmp_path / "t.parquet").read_bytes()),
    ):
        source = put(f"{bucket}/{name}", data)
        out = f"{bucket}/{name}.jsonl"
        for number in range(2):
            asyncio.run(shard(api, source, out, number, 2, table=table, model="m"))
        assert merge_output(out).ok == 40
        assert keys_in(out) == [f"row-{number}" for number in range(1, 41)]


def test_mistakes_in_an_object_are_named(api: Server, bucket: str, tmp_path: Path) -> None:
    """A line that is wrong, an object that is missing, a package that is missing, a password: nothing is sent."""
    bad = put(f"{bucket}/bad.jsonl", rows(tmp_path, 3) + b"{\n")
    out = str(tmp_path / "o.jsonl")

    async def job(source: str, target: str = out, **options: Any) -> JobReport:
        async with Client(api_base=api.base) as client:
            return await client.job(source, target, **options)

    with pytest.raises(InputFileError, match=r"memory://.*/bad\.jsonl: line 4: not JSON"):
        asyncio.run(job(bad))
    with pytest.raises(JobError, match=r"memory://.*/none\.jsonl"):
        asyncio.run(job(f"{bucket}/none.jsonl", shard=(0, 2)))
    with pytest.raises(ConfigurationError, match=r"must not contain a user or password") as found:
        asyncio.run(job("s3://me:secret@bucket/in.jsonl"))
    assert "secret" not in str(found.value)
    for refused in (lambda url: asyncio.run(job(url)), merge_output):
        with pytest.raises(ConfigurationError, match=r"must not contain a key or signature") as found:
            refused("https://bucket.example/in.jsonl?X-Amz-Signature=secret")
        assert "secret" not in str(found.value)
    with pytest.raises(ConfigurationError, match="which only shards can write to"):
        asyncio.run(job(bad, f"{bucket}/out.jsonl"))
    with pytest.raises(ConfigurationError, match="nostore://a/b is not a URL that fsspec knows"):
        asyncio.run(job("nostore://a/b"))
    assert api.report()["requests"] == 0


@pytest.mark.commands
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    """Without fsspec, the error says which extra brings it."""
    text = (
        "import sys; sys.modules['fsspec'] = None\nfrom openaiasync.cli.command_line import run\n"
        f"sys.exit(run(['run', 's3://bucket/in.jsonl', '-o', {str(tmp_path / 'o')!r}, '--api-key', 'k']))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "s3://bucket/in.jsonl needs the package fsspec: pip install" in done.stderr
    assert "[fsspec]" in done.stderr


# -------------------------------------------------------------------------------------------------- writing


def test_shards_of_an_output_in_a_store(api: Server, bucket: str, tmp_path: Path) -> None:
    """Shards leave one object each, with its numbers; merging writes output, failed rows and report beside them, and
    the machine keeps nothing."""
    api.set(bad=0.1)
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 60)), f"{bucket}/out.jsonl"
    reports = [asyncio.run(shard(api, source, out, number, 3)) for number in range(3)]
    assert sum(report.rows for report in reports) == 60
    assert reports[0].out == f"{out}.shards/000000.jsonl"
    names = ObjectFolder(f"{out}.shards").names()
    assert [name.split("/", 1)[1] for name in names if "/" in name] == [
        f"{number:06d}/{what}" for number in range(3) for what in ("done", "status")
    ]
    report = merge_output(out)
    failed = keys_in(f"{bucket}/out.errors.jsonl")
    assert (report.ok + report.failed, report.failed, report.out) == (60, len(failed), out)
    assert 0 < len(failed) < 20
    assert keys_in(out) == [key for key in (f"k{number}" for number in range(60)) if key not in failed]
    assert json.loads(get(f"{bucket}/out.report.json"))["out"] == out
    assert not list(tmp_path.glob("openaiasync-shards-*"))
    asyncio.run(shard(api, source, out, 1, 3))  # a finished shard sends nothing
    assert api.report()["requests"] == 60
    assert merge_output(out).ok == report.ok
    with pytest.raises(JobChangedError, match="is cut into 3 shards, not 4"):
        asyncio.run(shard(api, source, out, 0, 4))


def test_a_stopped_shard_continues_elsewhere(api: Server, bucket: str, tmp_path: Path) -> None:
    """What has finished is in the store at the end of a run, and is not sent again by the next one."""
    api.set(latency=0.05)
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 60)), f"{bucket}/out.jsonl"

    async def stopped() -> JobReport:
        async with Client(api_base=api.base) as client:
            job = client.job(source, out, shard=(0, 1), max_in_flight=4)
            run = asyncio.ensure_future(job)
            while api.report()["answers"] < 8:
                await asyncio.sleep(0.01)
            job.stop()
            return await run

    first = asyncio.run(stopped())
    assert first.stopped == "stop"
    with pytest.raises(JobError, match=r"0 has \d+ of 60 rows left"):
        merge_output(out)
    assert merge_output(out, partial=True).ok == first.ok
    second = asyncio.run(shard(api, source, out, 0, 1))
    assert (second.ok, second.paid_twice) == (60, [])
    assert api.report()["requests"] == 60
    assert merge_output(out).ok == 60


KILLED = """
import asyncio, sys
from openaiasync import Client
from openaiasync.bulk import remote_shards
base, source, out = sys.argv[1:]
remote_shards._SAVED = 0.2
async def main():
    async with Client(api_base=base) as client:
        await client.job(source, out, shard=(0, 1), max_in_flight=4)
asyncio.run(main())
"""


@pytest.mark.commands
def test_a_killed_shard_continues_elsewhere(api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL, and a machine that has nothing but the store: no row is lost, each is in the output once, and all that
    were paid twice are named; the folder that was left is removed."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr("openaiasync.bulk.remote_shards._SAVED", 0.2)
    store = f"file://{tmp_path / 'store'}"
    (tmp_path / "store").mkdir()
    source, out = put(f"{store}/in.jsonl", rows(tmp_path, 1500)), f"{store}/out.jsonl"
    api.set(latency=0.02, jitter=0.9)
    words = [sys.executable, "-c", KILLED, api.base, source, out]
    for _ in range(2):
        target = api.report()["answers"] + 80
        with subprocess.Popen(words, env={**os.environ, "TMPDIR": str(scratch)}) as child:
            while api.report()["answers"] < target:
                assert child.poll() is None
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
    assert len(list(scratch.iterdir())) == 1
    api.set(latency=0)
    report = asyncio.run(shard(api, source, out, 0, 1))
    counts = api.report()
    assert report.ok == 1500
    assert counts["paid_twice"] > 0
    assert {f"k{row}" for row in counts["paid_twice_rows"]} <= set(report.paid_twice)
    assert merge_output(out).paid_twice == report.paid_twice
    assert keys_in(out) == [f"k{number}" for number in range(1500)]
    assert list(scratch.iterdir()) == []


def test_two_runs_of_a_shard(api: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run is refused while the first one writes parts. One that could not know of it (its parts came late)
    takes over, and the first stops: every part is written once."""
    monkeypatch.setattr("openaiasync.bulk.remote_shards._SAVED", 0.1)
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 60)), f"{bucket}/out.jsonl"
    api.set(latency=0.3)

    async def both() -> None:
        first = asyncio.create_task(shard(api, source, out, 0, 1, max_in_flight=2))
        while api.report()["requests"] < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(JobRunningError, match="another process is running shard 0"):
            await shard(api, source, out, 0, 1)
        monkeypatch.setattr("openaiasync.bulk.remote_shards._SAVED", 2.0)
        await asyncio.sleep(0.2)
        with monkeypatch.context() as patch:
            patch.setattr("openaiasync.bulk.remote_shards.RemoteShard._is_running", lambda self, plan: False)
            api.set(latency=0)
            second = await shard(api, source, out, 0, 1)
        with pytest.raises(JobRunningError, match="is running shard 0"):
            await first
        assert second.ok == 60

    asyncio.run(both())
    assert merge_output(out).ok == 60
    assert keys_in(out) == [f"k{number}" for number in range(60)]


def test_a_store_that_fails_holds_up_rows(
    api: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no part can be written, only rows are sent that the last part has named; then the job goes on. A part whose
    response is lost is written again, and is not mistaken for that of another process."""
    monkeypatch.setattr("openaiasync.bulk.remote_shards._SAVED", 0.05)
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 300)), f"{bucket}/out.jsonl"
    system = fsspec.filesystem("memory")
    write, failing, lost = type(system).pipe_file, True, False

    def pipe_file(self: Any, path: str, value: bytes, **options: Any) -> None:
        nonlocal lost
        if failing and path.endswith("/000001"):
            raise OSError("the store is down")
        write(self, path, value, **options)
        if path.endswith("/000002") and not lost:
            lost = True
            raise OSError("the response was lost")

    monkeypatch.setattr(type(system), "pipe_file", pipe_file)

    async def main() -> JobReport:
        nonlocal failing
        run = asyncio.create_task(shard(api, source, out, 0, 1, max_in_flight=8))
        while api.report()["answers"] < 64:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert api.report()["requests"] == 64
        failing = False
        return await run

    assert asyncio.run(main()).ok == 300
    assert lost
    assert api.report()["requests"] == 300


def test_a_store_that_stays_down_ends_the_run(
    api: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that refuses from the start is an error before anything is sent."""
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 5)), f"{bucket}/out.jsonl"

    def pipe_file(self: Any, path: str, value: bytes, **options: Any) -> None:
        raise PermissionError("access denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", pipe_file)
    with pytest.raises(JobError, match=r"out\.jsonl cannot be written: access denied"):
        asyncio.run(shard(api, source, out, 0, 1))
    assert api.report()["requests"] == 0


def test_merging_before_and_after(api: Server, bucket: str, tmp_path: Path) -> None:
    """Without shards, and with one that has not started, merging says so."""
    source, out = put(f"{bucket}/in.jsonl", rows(tmp_path, 20)), f"{bucket}/out.jsonl"
    with pytest.raises(JobError, match="has no shards"):
        merge_output(out)
    asyncio.run(shard(api, source, out, 0, 2))
    with pytest.raises(JobError, match="1 has not started"):
        merge_output(out)
    output = RemoteOutput(out)
    output.fetch_plan()
    assert [*output.finished(output.share_plan())] == [0]
    output.discard()


def test_the_command_line(api: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`run --shard` and `merge` take URLs; commands that need files of this machine say so."""
    (tmp_path / "store").mkdir()
    store = f"file://{tmp_path / 'store'}"
    source, out = put(f"{store}/in.jsonl", rows(tmp_path, 20)), f"{store}/out.csv"
    for number in range(2):
        assert command(["run", source, "-o", out, "--base-url", api.base, "--shard", f"{number}/2"]) == 0
    assert command(["merge", out]) == 0
    assert len(get(out).splitlines()) == 21
    assert "20 of 20 rows answered" in capfd.readouterr().err
    for words in (["status", out], ["retry", out], ["limits", "set", out, "--rpm", "1"]):
        assert command(words) == 2
        assert "is in an object store" in capfd.readouterr().err
    assert command(["run", f"{store}/none.jsonl", "-o", out, "--base-url", api.base, "--shard", "0/2"]) != 0
    assert "none.jsonl" in capfd.readouterr().err


def test_what_is_a_url() -> None:
    """Paths of Windows and names with a colon are paths."""
    assert [is_url(name) for name in ("s3://b/k", "gs://b", "C:\\x", "c:/x", "a:b", "/x", "x://", "abfs://c@a/x")] == [
        True, True, False, False, False, False, False, True,
    ]  # fmt: skip
