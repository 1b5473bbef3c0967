"""Hold `openaiasync bench` to a server that sends tokens at exact times, beside a probe in C that only notes them.

    python bench/load.py [--streams 500,1000] [--rounds 3] [--seconds 12] [--loop asyncio] [--realtime]

Streams of 50 tokens/s begin spread over the length of one, and each is followed by the next. Probe and load test run
alternately on one core, the server on another. *Error* is the mean of |gap − 20 ms| / 20 ms, *cost* the CPU of the
process for a token, decoding and statistics included. `--realtime` gives server and clients precedence over other
programs of a busy machine (`SCHED_FIFO`; needs root).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers import built, cores, pin, servers

GAP, FIRST, TOKENS = 20, 100, 200  # ms, ms, tokens of a stream
LENGTH = (FIRST + GAP * TOKENS) / 1000
ANSWER = f"tokens-{GAP}-{FIRST}-{TOKENS}-1"
COLUMNS = ("error", "p50", "p99", "max", "cost")


def measured(base: str, streams: int, seconds: float, loop: str) -> dict[str, Any]:
    """Run one load test in this process, as the command does."""
    from openaiasync import Client
    from openaiasync.cli.bench_runner import loop_factory, more_files
    from openaiasync.loadtest import Load, LoadTest, RequestRecord, Workload, endpoint_named, fixed_prompt

    gaps: list[float] = []

    def note(record: RequestRecord) -> None:
        if record.measured:
            gaps.extend(record.gaps)

    async def main() -> tuple[Any, float]:
        chat = endpoint_named("chat")
        workload = Workload(chat, fixed_prompt(chat, "hi"), defaults={"model": "m"})
        async with Client(api_base=base, api_key="none", http_max_in_flight=None, max_retries=0) as client:
            async with LoadTest(client, workload, on_request=note) as test:
                await test.check()
                before = used()
                result = await test.run(Load(concurrency=streams, ramp=LENGTH, duration=seconds))
                return result, used() - before

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    more_files()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with asyncio.Runner(loop_factory=loop_factory(loop)[0]) as runner:
        result, cpu = runner.run(main())
    gaps.sort()
    milliseconds = [1000 * gap for gap in gaps]
    return {
        "tokens": len(gaps),
        "error": 100 * statistics.fmean(abs(gap - GAP) / GAP for gap in milliseconds),
        "p50": milliseconds[len(gaps) // 2],
        "p99": milliseconds[int(len(gaps) * 0.99)],
        "max": milliseconds[-1],
        "cost": 1e6 * cpu / sum(bucket.tokens for bucket in result.timeline),
        "core": result.client.cpu,
        "verdict": result.verdict.level,
        "failed": result.failed,
    }


def child(command: list[str], realtime: bool) -> dict[str, Any]:
    """Run a client on its core and return what it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        prepare(process.pid, cores(of_server=False), 40 if realtime else 0)
        assert process.stdout is not None
        said = process.stdout.read()
    found: dict[str, Any] = json.loads(said)
    return found


def prepare(pid: int, chosen: set[int], priority: int) -> None:
    """Restrict a process to one of the cores, and give it a real-time priority unless that is 0."""
    pin(pid, set(sorted(chosen)[:1]))
    if priority:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(priority))


def main() -> None:
    """Print a line for each run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="500,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--loop", default="uvloop")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("BASE", "STREAMS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child[0], int(given.child[1]), given.seconds, given.loop)))
        return
    with servers(sys.executable, tls=False) as place:
        if given.realtime:
            prepare(place.server, cores(of_server=True), 50)
        probe = built(place.folder, "probe")
        port = place.base.rpartition(":")[2]
        for streams in map(int, given.streams.split(",")):
            found: dict[str, list[dict[str, Any]]] = {"probe": [], "bench": []}
            for _ in range(given.rounds):
                words = [port, f"/{ANSWER}/chat/completions", str(streams), str(given.seconds), str(LENGTH)]
                if probe is not None:
                    found["probe"].append(child([str(probe), *words], given.realtime))
                mine = [sys.executable, str(Path(__file__).resolve()), "--seconds", str(given.seconds)]
                mine += ["--loop", given.loop, "--child", f"{place.base}/{ANSWER}", str(streams)]
                found["bench"].append(child(mine, given.realtime))
                for name, runs in found.items():
                    if runs:
                        print(streams, name, json.dumps(runs[-1]), flush=True)
            for name, runs in found.items():
                if runs:
                    medians = (f"{column} {statistics.median(run[column] for run in runs):.2f}" for column in COLUMNS)
                    print(f"{streams} {name}: {', '.join(medians)}", flush=True)


if __name__ == "__main__":
    main()
