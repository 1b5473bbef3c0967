"""Jobs on a Ray cluster whose input and output are on a server that speaks the protocol of S3."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cluster_files import Server, running, write_rows
from openaiasync import JobError
from openaiasync.bulk.object_storage import ObjectFolder
from openaiasync.bulk.remote_shards import merge_output
from openaiasync.bulk.report import JobReport
from openaiasync.ray import RayJob
from openaiasync.ray.worker_options import WorkerOptions

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Replaces the check of the other tests: Ray, Dask and s3fs keep threads and sockets for the session."""


def put(url: str, path: str) -> str:
    folder, _, name = url.rpartition("/")
    ObjectFolder(folder).upload(path, name)
    return url


def lines(url: str) -> list[Any]:
    folder, _, name = url.rpartition("/")
    return [json.loads(line) for line in ObjectFolder(folder).read(name).splitlines()]


def ray_job(cluster: Any, source: str, out: str, server: Server, **options: Any) -> RayJob:
    worker = WorkerOptions(base_url=[server.base], max_in_flight=8)
    return RayJob(cluster.address, source, out, **{"worker": worker, "rows": 250, **options})


def test_the_command_line(connected: Any, s3: str, api: Server, tmp_path: Path) -> None:
    """`run --ray` reads an object and writes one, with failed rows and report; the same command again sends nothing,
    and `merge` makes the output again."""
    api.set(bad=0.02)
    source = put(f"{s3}/a/in.jsonl", write_rows(tmp_path / "in.jsonl", 1000))
    out = f"{s3}/a/out.jsonl"
    words = [sys.executable, "-m", "openaiasync"]
    run = [*words, "run", source, "-o", out, "--base-url", api.base, "--ray", connected.address]
    for _ in range(2):
        done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 3, done.stderr
    failed = [row["custom_id"] for row in lines(f"{s3}/a/out.errors.jsonl")]
    expected = [key for key in (f"k{number}" for number in range(1000)) if key not in failed]
    assert [row["custom_id"] for row in lines(out)] == expected
    assert api.report()["requests"] == 1000
    ObjectFolder(f"{s3}/a").remove(["out.jsonl"])
    assert subprocess.run([*words, "merge", out], timeout=300, check=False).returncode == 3
    assert [row["custom_id"] for row in lines(out)] == expected
    names = ObjectFolder(f"{out}.shards").names()
    assert not [name for name in names if ".token" in name]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for path in Path("/tmp/ray/session_latest").resolve().glob("logs/**/*"):
        assert not path.is_file() or secret not in path.read_bytes(), path


def workers() -> list[int]:
    """The processes of this machine that run shards."""
    statuses = [*Path(tempfile.gettempdir()).glob("openaiasync-shards-*/out.jsonl.shards/*.job/status.json")]
    pids = {json.loads(path.read_text())["pid"] for path in statuses} - {os.getpid()}
    return [pid for pid in sorted(pids) if Path(f"/proc/{pid}").exists()]


def test_killed_workers(connected: Any, s3: str, tmp_path: Path) -> None:
    """Workers that are killed leave nothing but their parts in the store: other ones continue with these, no row is
    lost or twice in the output, and all that may have been paid twice are named."""
    source = put(f"{s3}/b/in.jsonl", write_rows(tmp_path / "in.jsonl", 2500))
    out = f"{s3}/b/out.jsonl"

    async def killing(server: Server) -> JobReport:
        run = asyncio.create_task(ray_job(connected, source, out, server, workers=3).run())
        for target in (500, 1200):
            while server.report()["answers"] < target:
                assert not run.done(), run.exception()
                await asyncio.sleep(0.02)
            os.kill(workers()[0], signal.SIGKILL)
        return await run

    with running(latency=0.1, jitter=0.9) as server:
        report = asyncio.run(killing(server))
        counts = server.report()
    print(f"{counts['paid_twice']} rows paid twice, {len(report.paid_twice)} named")
    assert report.ok == 2500
    assert [row["custom_id"] for row in lines(out)] == [f"k{number}" for number in range(2500)]
    assert {f"k{row}" for row in counts["paid_twice_rows"]} <= set(report.paid_twice)
    assert merge_output(out).ok == 2500


def test_mistakes_send_nothing(connected: Any, s3: str, api: Server, tmp_path: Path) -> None:
    """A bucket that does not exist, an output that is there already: a clear error, and no request."""
    source = put(f"{s3}/c/in.jsonl", write_rows(tmp_path / "in.jsonl", 20))
    for given, out, words in (
        ("s3://nowhere/in.jsonl", f"{s3}/c/out.jsonl", "s3://nowhere/in.jsonl cannot be read"),
        (source, "s3://nowhere/out.jsonl", "nowhere"),
        (source, source, "in.jsonl"),
    ):
        with pytest.raises((JobError, ValueError), match=words):
            asyncio.run(ray_job(connected, given, out, api).run())
    put(f"{s3}/c/other.jsonl", source and str(tmp_path / "in.jsonl"))
    with pytest.raises(JobError, match=r"s3://bucket/c/other\.jsonl exists and was not merged from shards"):
        asyncio.run(ray_job(connected, source, f"{s3}/c/other.jsonl", api).run())
    assert api.report()["requests"] == 0
