"""Jobs that are killed at random moments, against a server that drops, cuts, refuses and stays silent.

OPENAIASYNC_TORTURE is for how many seconds (60). Nothing is lost, no line is there twice or torn, and what was paid for
twice was in flight when the process was killed, and is named.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster_files import Server, running, write_rows
from openaiasync import Client, JobError, JobReport, merge_shards

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("OPENAIASYNC_TORTURE", "60"))
IN_FLIGHT = 48
KILLS = 20


def command(source: str, out: Path, server: Server, order: str, *more: str, in_flight: int = IN_FLIGHT) -> list[str]:
    words = [sys.executable, "-m", "openaiasync", "run", source, "-o", str(out), "--base-url", server.base]
    return [*words, "--max-in-flight", str(in_flight), "--order", order, *more]


def check_output(out: Path, count: int, order: str) -> None:
    data = out.read_bytes()
    assert data.endswith(b"\n")
    rows = [json.loads(line) for line in data.splitlines()]
    keys = [row["custom_id"] for row in rows]
    expected = [f"k{number}" for number in range(count)]
    assert (keys if order == "input" else sorted(keys)) == (expected if order == "input" else sorted(expected))
    for row in rows:
        assert f"(row-{row['custom_id'][1:]})" in row["response"]["body"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize("order", ["input", "completion"])
def test_twenty_kills(tmp_path: Path, order: str) -> None:
    """SIGKILL at random moments: 0 rows lost, 0 twice or torn; paid twice at most those in flight, each named."""
    count, chance = 4000, random.Random(order)
    source, out = write_rows(tmp_path / "in.jsonl", count), tmp_path / "out.jsonl"
    durability = ("normal", "strict", "none")
    with running(latency=0.03, jitter=0.9, slots=IN_FLIGHT) as server:
        kills = 0
        end = time.monotonic() + max(60.0, SECONDS * 2)
        for attempt in range(KILLS):
            words = command(source, out, server, order, "--durability", durability[attempt % 3])
            child = subprocess.Popen(words, stderr=subprocess.PIPE)
            before = server.report()["requests"]
            while child.poll() is None and server.report()["requests"] < before + 40:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.3)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1
            child.communicate()
            if time.monotonic() > end:
                break
        done = subprocess.run(command(source, out, server, order), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert kills >= KILLS // 2
        check_output(out, count, order)
        report = server.report()
        saved = json.loads((tmp_path / "out.report.json").read_text())
        named = {int(key[1:]) for key in saved["paid_twice"]}
        print(f"{order}: {kills} kills, {report['paid_twice']} paid twice, {len(named)} named")
        assert set(report["paid_twice_rows"]) <= named
        assert report["paid_twice"] <= IN_FLIGHT * kills
        assert len(saved["paid_twice"]) <= IN_FLIGHT * kills


def test_a_faulty_server(tmp_path: Path) -> None:
    """1 % dropped, 1 % cut, 0.2 % silent, 1 % 500s: no row fails, at most 4.5 % of the requests are extra."""
    count = 4000
    source, out = write_rows(tmp_path / "in.jsonl", count), tmp_path / "out.jsonl"
    faults = {"drops": 0.01, "halves": 0.01, "silent": 0.002, "errors": 0.01}
    with running(latency=0.01, **faults) as server:
        done = subprocess.run(
            command(source, out, server, "input", "--timeout", "5"), capture_output=True, timeout=300, check=False
        )
        report = server.report()
        print(f"{report['requests'] - count} extra requests for {count} rows")
        assert done.returncode == 0, done.stderr
        check_output(out, count, "input")
        assert report["requests"] <= 1.045 * count


def test_killed_shards_go_on(tmp_path: Path) -> None:
    """SIGKILL of shards at random: the same commands resume, and the merged output is that of one machine; what was
    paid twice was in flight, and is named."""
    count, shards, in_flight, kills = 3000, 3, 8, 12
    source, out = write_rows(tmp_path / "in.jsonl", count), tmp_path / "out.jsonl"
    chance = random.Random(5)
    with running(latency=0.02, jitter=0.9) as server:

        def start(number: int) -> subprocess.Popen[bytes]:
            words = [sys.executable, "-m", "openaiasync", "run", source, "-o", str(out)]
            words += ["--shard", f"{number}/{shards}", "--base-url", server.base, "--max-in-flight", str(in_flight)]
            return subprocess.Popen(words, stderr=subprocess.PIPE)

        children = [start(number) for number in range(shards)]
        killed = 0
        while killed < kills and server.report()["answers"] < count * 0.9:
            before = server.report()["requests"]
            while server.report()["requests"] < before + 60 and any(child.poll() is None for child in children):
                time.sleep(0.005)
            number = chance.randrange(shards)
            if children[number].poll() is None:
                children[number].send_signal(signal.SIGKILL)
                killed += 1
            children[number].communicate()
            children[number] = start(number)
        for child in children:
            _, complaints = child.communicate(timeout=60)
            assert child.returncode == 0, complaints
        assert killed >= 6
        report = server.report()
        merged = asyncio.run(merge_shards(out))
        named = {int(key[1:]) for key in merged.paid_twice}
        assert set(report["paid_twice_rows"]) <= named
        assert len(merged.paid_twice) <= in_flight * killed
        assert merged.ok == count
        check_output(out, count, "input")


def test_a_shard_on_another_machine_is_noticed_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks, a status that another machine keeps writing shows that the shard runs there; one
    that nobody writes any more is that of a machine that died."""
    monkeypatch.setattr("openaiasync.storage.disk._lock", lambda descriptor: None)
    source, out = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"

    async def attempt() -> JobReport:
        async with Client(api_base=server.base) as client:
            return await client.job(source, out, shard=(0, 2))

    with running(latency=0.2) as server:
        words = command(source, out, server, "input", "--shard", "0/2", in_flight=1)
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as child:
            status = tmp_path / "out.jsonl.shards" / "000000.jsonl.job" / "status.json"
            while not status.exists():
                assert child.poll() is None, "the command ended before its job began"
                time.sleep(0.02)
            monkeypatch.setattr("openaiasync.bulk.job.this_host", lambda: "elsewhere/1")
            with pytest.raises(JobError, match=r"process \d+ on .*/"):
                asyncio.run(attempt())
            child.kill()
        server.set(latency=0)
        assert asyncio.run(attempt()).left == 0
