"""Jobs on a real Ray cluster of three nodes: the result of one machine, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cluster_files import KEY, Server, Store, keys_of, running, write_rows
from openaiasync import ConfigurationError, JobError, TableOptions
from openaiasync.bulk.report import JobReport
from openaiasync.ray import RayJob
from openaiasync.ray.shard_worker import ShardWorker
from openaiasync.ray.worker_options import WorkerOptions

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Replaces the check of the other tests: Ray and Dask keep threads and sockets for the session."""


IN_FLIGHT = 8
KILLS = 10
COUNT = 6000
SHARD = 250  # rows


def ray_job(cluster: Any, source: str, out: Path, server: Server, **options: Any) -> RayJob:
    worker = WorkerOptions(base_url=[server.base], max_in_flight=IN_FLIGHT)
    return RayJob(cluster.address, source, str(out), **{"worker": worker, "rows": SHARD, **options})


def run_job(cluster: Any, source: str, out: Path, server: Server, **options: Any) -> JobReport:
    return asyncio.run(ray_job(cluster, source, out, server, **options).run())


def test_the_command_line(connected: Any, api: Server, tmp_path: Path) -> None:
    """`run --ray`: output, report and exit codes of one machine; the same command again sends nothing; the workers'
    key, read from their environment, is in no log and no file of Ray."""
    api.set(bad=0.02)
    source, out = write_rows(tmp_path / "in.jsonl", 5000), tmp_path / "out.jsonl"
    words = [sys.executable, "-m", "openaiasync", "run", source, "-o", str(out), "--base-url", api.base]
    done = subprocess.run(
        [*words, "--ray", connected.address, "--report", str(tmp_path / "page.html")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    failed = keys_of(tmp_path / "out.errors.jsonl")
    expected = [key for key in (f"k{number}" for number in range(5000)) if key not in set(failed)]
    assert keys_of(out) == expected
    assert f"{len(expected):,} of 5,000 rows answered, {len(failed)} failed" in done.stderr
    report = json.loads((tmp_path / "out.report.json").read_text())
    assert (report["rows"], report["ok"], report["requests"]) == (5000, len(expected), 5000)
    assert "</html>" in (tmp_path / "page.html").read_text()
    assert len(list(tmp_path.glob("out.jsonl.shards/*.job"))) == 3
    assert not list(tmp_path.glob("out.jsonl.shards/.token-*"))
    again = subprocess.run([*words, "--ray", connected.address], capture_output=True, timeout=300, check=False)
    assert again.returncode == 3
    assert api.report()["requests"] == 5000
    assert KEY not in done.stderr
    logs = Path("/tmp/ray/session_latest").resolve()
    for path in (*logs.glob("logs/**/*"), *tmp_path.glob("**/*")):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_tables_and_progress(connected: Any, api: Server, tmp_path: Path) -> None:
    """A table is cut by rows and exported at the end; progress adds up the workers'."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "".join(f"row-{number}\n" for number in range(900)))
    api.set(latency=0.05)
    seen: list[Any] = []
    report = run_job(
        connected, str(source), out, api, table=TableOptions("{text}"), model="m", show=seen.append, rows=100
    )
    assert (report.rows, report.ok) == (900, 900)
    assert len(out.read_text().splitlines()) == 901
    assert seen[-1].done
    assert (seen[-1].rows, seen[-1].ok) == (900, 900)
    assert all(one.rows in (0, 900) for one in seen)
    assert api.report()["most_in_flight"] <= 3 * IN_FLIGHT


def test_stop_and_continue(connected: Any, api: Server, tmp_path: Path) -> None:
    """A stopped job ends its rows in flight and says what is left; the same job sends only that."""
    source, out = write_rows(tmp_path / "in.jsonl", 2000), tmp_path / "out.jsonl"
    api.set(latency=0.1)

    async def stopped() -> JobReport:
        job = ray_job(connected, source, out, api)
        run = asyncio.create_task(job.run())
        while api.report()["answers"] < 100:
            await asyncio.sleep(0.05)
        job.stop()
        return await run

    first = asyncio.run(stopped())
    assert first.stopped == "stop"
    assert 100 <= first.ok < 2000
    api.set(latency=0)
    assert run_job(connected, source, out, api).ok == 2000
    assert api.report()["requests"] == 2000
    assert keys_of(out) == [f"k{number}" for number in range(2000)]


def test_a_used_up_quota_ends_the_job(connected: Any, api: Server, tmp_path: Path) -> None:
    """What ends one shard for a reason that holds for all ends the job, with that reason, resumable."""
    source, out = write_rows(tmp_path / "in.jsonl", 1000), tmp_path / "out.jsonl"
    api.set(quota=200)
    report = run_job(connected, source, out, api)
    assert report.stopped == "quota"
    assert report.left > 0
    assert 150 <= report.ok <= 200


def test_workers_share_an_allowance(connected: Any, tmp_path: Path) -> None:
    """Three workers with a budget in Redis use nearly all of a limit of the server, which refuses next to nothing."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source, out = write_rows(tmp_path / "in.jsonl", 1500), tmp_path / "out.jsonl"
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as redis, running(rpm=9000, latency=0.1) as server:
        worker = WorkerOptions(
            base_url=[server.base], rpm=9000, shared=f"redis://127.0.0.1:{port}/0?name=test", max_in_flight=32
        )
        report = run_job(connected, source, out, server, worker=worker, workers=3)
        counts = server.report()
        redis.terminate()
    print(f"{counts['share']:.0%} of the limit used, {counts['refused']} 429s of {counts['requests']} requests")
    assert (report.ok, counts["requests"], report.paid_twice) == (1500, 1500, [])
    assert counts["share"] > 0.8
    assert counts["refused"] <= 15


def test_mistakes_send_nothing(connected: Any, api: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster, another version on the workers, a path that they do not share: a clear error, and no request."""
    source = write_rows(tmp_path / "in.jsonl", 100)
    driver = "openaiasync.ray.shard_driver"
    with monkeypatch.context() as patch:
        patch.setattr(f"{driver}.__version__", "9.9")
        patch.setattr("openaiasync.bulk.shards.__version__", "9.9")
        with pytest.raises(JobError, match=r"worker on .*is installed there, but 9\.9 where the job was started"):
            run_job(connected, source, tmp_path / "a.jsonl", api)
    with monkeypatch.context() as patch:
        patch.setattr(f"{driver}.write_token", lambda folder, token: None)
        with pytest.raises(JobError, match="is not the folder that the driver sees"):
            run_job(connected, source, tmp_path / "b.jsonl", api)
    missing = WorkerOptions(base_url=[api.base], rpm=60, shared="redis://127.0.0.1:1/0?name=x")
    with pytest.raises(JobError, match=r"shared limits in Redis at 127\.0\.0\.1:1 cannot be reached"):
        run_job(connected, source, tmp_path / "d.jsonl", api, worker=missing)
    with pytest.raises(ConfigurationError, match="schema is sent to other machines, and must be a JSON schema"):
        run_job(connected, source, tmp_path / "e.jsonl", api, schema=JobReport)
    with pytest.raises(ConfigurationError, match=r"contains a user or password.*set OPENAIASYNC_SHARED on the workers"):
        ray_job(connected, source, tmp_path / "f.jsonl", api, worker=WorkerOptions(shared="redis://me:pw@h/0?name=x"))
    import ray

    ray.shutdown()
    for address, words in (("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("nowhere.invalid:1", "no Ray")):
        with pytest.raises(ConfigurationError, match=words):
            asyncio.run(RayJob(address, source, str(tmp_path / f"c{address[:3]}.jsonl")).run())
    assert api.report()["requests"] == 0


# -------------------------------------------------------------------------------------------------- faults


class UnpicklableError(Exception):
    """An exception that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__("the lock is broken")
        self.lock = threading.Lock()


class FaultyWorker(ShardWorker):
    """A worker that has a bug in shard 1."""

    async def _run(self, number: int) -> JobReport:
        if number == 1:
            raise ZeroDivisionError("the shard has 0 rows")
        return await super()._run(number)


class FaultyAnswer(ShardWorker):
    """A worker whose `run` raises what Ray cannot send to the driver."""

    async def run(self, number: int) -> bytes:
        if number == 1:
            raise UnpicklableError
        return await super().run(number)


class FaultyStart(ShardWorker):
    """A worker that cannot be started: Ray tries it again and again, and calls of it fail as if it had been killed."""

    def __init__(self, task: bytes) -> None:
        raise OSError("the device is missing")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            FaultyWorker,
            r"shard 1: ZeroDivisionError: the shard has 0 rows \(.*test_cluster\.py:\d+, on .*process \d+\)",
        ),
        (FaultyAnswer, r"shard 1 of .*: a worker failed: .*the lock is broken"),
        (FaultyStart, "a worker failed: .*the device is missing"),
    ],
)
def test_a_fault_is_not_a_death(
    kind: type[ShardWorker],
    words: str,
    connected: Any,
    api: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception in a worker ends the job at once with its words: it would be raised again wherever the shard runs.
    Once the cause is removed, the same job sends only what is left."""
    import ray

    source, out = write_rows(tmp_path / "in.jsonl", 1000), tmp_path / "out.jsonl"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with monkeypatch.context() as patch:
            patch.setattr("openaiasync.ray.shard_driver.ShardWorker", kind)
            with pytest.raises(JobError, match=words):
                run_job(connected, source, out, api)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert "died" not in caplog.text
    assert run_job(connected, source, out, api).ok == 1000
    assert api.report()["requests"] == 1000


def test_a_damaged_shard_is_named(connected: Any, api: Server, tmp_path: Path) -> None:
    """A file of a shard that cannot be read ends the job at once, with its path."""
    source, out = write_rows(tmp_path / "in.jsonl", 500), tmp_path / "out.jsonl"
    record = tmp_path / "out.jsonl.shards" / "000001.jsonl.job" / "job.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    with pytest.raises(JobError, match=r"000001\.jsonl\.job/job\.json is not the record of a job"):
        run_job(connected, source, out, api)


# -------------------------------------------------------------------------------------------------- kills


def running_pids(out: Path) -> list[int]:
    """The processes that have shards that are not ended."""
    pids: set[int] = set()
    for path in out.parent.glob(f"{out.name}.shards/*.job/status.json"):
        status = json.loads(path.read_text())
        if not status["ended"]:
            pids.add(status["pid"])
    return [pid for pid in sorted(pids) if Path(f"/proc/{pid}").exists()]


def check(server: Server, out: Path, report: JobReport, kills: int, at_once: int) -> None:
    """Nothing lost, nothing twice in the output; what was paid twice was in flight, and is named."""
    assert report.ok == COUNT
    assert keys_of(out) == [f"k{number}" for number in range(COUNT)]
    for line in out.read_text().splitlines():
        row = json.loads(line)
        assert f"(row-{row['custom_id'][1:]})" in row["response"]["body"]["choices"][0]["message"]["content"]
    counts = server.report()
    print(f"{kills} kills, {counts['paid_twice']} rows paid twice, {len(report.paid_twice)} named")
    assert set(counts["paid_twice_rows"]) <= {int(key[1:]) for key in report.paid_twice}
    assert counts["paid_twice"] <= kills * at_once


async def progressed(server: Server, rows: int, run: asyncio.Task[Any]) -> bool:
    """Wait until so many more rows are answered; False if the run ended before."""
    target = server.report()["answers"] + rows
    while not run.done():
        if server.report()["answers"] >= target:
            return True
        await asyncio.sleep(0.02)
    return False


TAKEN_OVER = 2.0  # seconds; the budget itself forgets a worker after one second, and leases slices of 0.2 s


async def starved(seconds: float) -> float:
    """Wait, and return for how many of these seconds a process of this machine that had work waited for a CPU."""
    loop, late = asyncio.get_running_loop(), 0.0
    end = loop.time() + seconds
    while (now := loop.time()) < end:
        await asyncio.sleep(0.02)
        late += loop.time() - now - 0.02
    return late


def kill_node(node: Any, out: Path) -> int:
    """Kill a node as a loss of power does, its workers at the same instant; return how many of them ran shards."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = [
        pid
        for pid in running_pids(out)
        if int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[1]) == raylet
    ]
    for pid in (raylet, *workers):
        os.kill(pid, signal.SIGKILL)
    return len(workers)


def test_the_share_of_a_killed_node(connected: Any, tmp_path: Path) -> None:
    """Of three workers on one budget, one is lost with its node: within 2 s the others send at the whole rate. No row
    is lost; paid twice are at most the rows that this node had in flight, and each of them is named."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    rate = 100.0  # a second; a worker could send 8 rows in 0.05 s
    source, out = write_rows(tmp_path / "in.jsonl", 2500), tmp_path / "out.jsonl"
    store = Store(tmp_path)

    def admitted(report: dict[str, Any], start: float, end: float) -> float:
        return sum(count for at, count, *_ in report["timeline"] if start <= at < end) / (end - start) / rate

    async def killing(server: Server) -> tuple[JobReport, float, int, float]:
        worker = WorkerOptions(base_url=[server.base], rpm=60 * rate, shared=store.url("node"), max_in_flight=IN_FLIGHT)
        run = asyncio.create_task(ray_job(connected, source, out, server, workers=3, worker=worker).run())
        assert await progressed(server, 700, run)
        node = next(node for node in connected.list_all_nodes() if node is not connected.head_node)
        at = server.report()["timeline"][-1][0]
        count = kill_node(node, out)
        busy = await starved(TAKEN_OVER)
        connected.remove_node(node, allow_graceful=False)
        report = await run
        connected.add_node(num_cpus=1)
        return report, at, count, busy

    try:
        with running(rpm=60 * rate, burst=1.0, latency=0.05, jitter=0.5) as server:
            report, at, count, busy = asyncio.run(killing(server))
            counts = server.report()
    finally:
        store.kill()
    assert count == 1
    before = admitted(counts, at - 2.0, at)
    steps = [at + 0.1 * step for step in range(60)]
    full = next(start for start in steps if admitted(counts, start, start + 1.0) >= 0.95 * before) - at
    first, second = admitted(counts, at, at + 1), admitted(counts, at + 1, at + 2)
    print(
        f"{before:.0%} of the limit used before, {first:.0%} in the first second after, {second:.0%} in the next; "
        f"the whole rate after {full:.1f} s, {busy:.1f} s without a CPU; {counts['refused']} 429s, "
        f"{counts['paid_twice']} paid twice, {len(report.paid_twice)} named"
    )
    assert (report.ok, keys_of(out)) == (2500, [f"k{number}" for number in range(2500)])
    assert full <= TAKEN_OVER + busy  # a busy machine holds up the other workers, not the budget
    assert counts["paid_twice"] <= count * IN_FLIGHT
    assert set(counts["paid_twice_rows"]) <= {int(key[1:]) for key in report.paid_twice}
    assert len(report.paid_twice) <= count * IN_FLIGHT


def test_killed_workers(connected: Any, tmp_path: Path) -> None:
    """SIGKILL of a worker, ten times: its shard goes on from its files."""
    source, out = write_rows(tmp_path / "in.jsonl", COUNT), tmp_path / "out.jsonl"
    chance = random.Random(1)

    async def killing(server: Server) -> tuple[JobReport, int]:
        run = asyncio.create_task(ray_job(connected, source, out, server, workers=3).run())
        killed = 0
        while killed < KILLS and await progressed(server, COUNT // KILLS // 2, run):
            if pids := running_pids(out):
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed += 1
        return await run, killed

    with running(latency=0.1, jitter=0.9) as server:
        report, killed = asyncio.run(killing(server))
        assert killed >= KILLS - 2
        check(server, out, report, killed, IN_FLIGHT)


def test_killed_nodes(connected: Any, tmp_path: Path) -> None:
    """A node that is killed with its workers, ten times, and one that takes its place: the others go on meanwhile."""
    source, out = write_rows(tmp_path / "in.jsonl", COUNT), tmp_path / "out.jsonl"
    chance = random.Random(2)

    async def killing(server: Server) -> tuple[JobReport, int]:
        run = asyncio.create_task(ray_job(connected, source, out, server, workers=3).run())
        killed = 0
        while killed < KILLS and await progressed(server, COUNT // KILLS // 2, run):
            node = chance.choice([node for node in connected.list_all_nodes() if node is not connected.head_node])
            connected.remove_node(node, allow_graceful=False)
            killed += 1
            connected.add_node(num_cpus=1)  # in this thread, as it handles signals
        return await run, killed

    with running(latency=0.1, jitter=0.9) as server:
        report, killed = asyncio.run(killing(server))
        assert killed >= KILLS - 2
        check(server, out, report, killed, 3 * IN_FLIGHT)


DRIVER = f"""
import asyncio, sys
from openaiasync.ray import RayJob
from openaiasync.ray.shard_worker import ShardWorker
from openaiasync.ray.worker_options import WorkerOptions
address, source, out, base = sys.argv[1:]
worker = WorkerOptions(base_url=[base], max_in_flight={IN_FLIGHT})
report = asyncio.run(RayJob(address, source, out, worker=worker, rows={SHARD}).run())
sys.exit(1 if report.left else 0)
"""


def test_killed_drivers(connected: Any, tmp_path: Path) -> None:
    """SIGKILL of the driver, ten times: the same command goes on with what its workers had written."""
    source, out = write_rows(tmp_path / "in.jsonl", COUNT), tmp_path / "out.jsonl"
    with running(latency=0.1, jitter=0.9) as server:
        words = [sys.executable, "-c", DRIVER, connected.address, source, str(out), server.base]
        killed = 0
        for _ in range(KILLS):
            target = server.report()["answers"] + COUNT // KILLS // 2
            with subprocess.Popen(words, stderr=subprocess.PIPE) as child:
                while child.poll() is None and server.report()["answers"] < target:
                    time.sleep(0.02)
                if child.poll() is None:
                    child.kill()
                    killed += 1
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert killed >= KILLS - 2
        report = run_job(connected, source, out, server)
        check(server, out, report, killed, 3 * IN_FLIGHT)
