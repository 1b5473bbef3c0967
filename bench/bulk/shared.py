"""Measures limits that processes share: three jobs on one budget in Redis, through faults.

    python bench/bulk/shared.py                 # a table of every fault, about two minutes
    python bench/bulk/shared.py --times 10      # each fault ten times

Each job is the command `openaiasync run` with ``--shared``, against the simulated server of `server.py`, whose rate is
that of the budget; needs ``redis-server``. Faults are injected every few seconds while the jobs run: ``worker`` kills a
job at random (its command is started again 2 s later), ``store`` kills Redis for 5 s and starts it without its data,
``store with data`` with it, ``stopped`` suspends it for 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serving import Server, running

__all__ = ["FAULTS", "Jobs", "Store", "lease_cost", "measure"]

FAULTS = ("none", "worker", "store", "store with data", "stopped")
OUTAGE = 5.0  # seconds


class Store:
    """A Redis server on a free port, which can be killed, suspended and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir",
                 str(self.folder), "--unixsocket", str(self.folder / "s"), *self.options]  # fmt: skip
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64):
                    return
            time.sleep(0.05)
        raise RuntimeError("redis-server did not start")

    def kill(self) -> None:
        """Kill the server, as ``kill -9`` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self.process is not None
        self.process.send_signal(number)

    def url(self, name: str = "n") -> str:
        """Return the URL of a budget."""
        return f"redis://127.0.0.1:{self.port}/0?name={name}"


class Jobs:
    """Jobs of many rows, each in its process."""

    def __init__(self, folder: Path, server: Server, url: str, rpm: float, count: int = 3, rows: int = 20_000) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[str]]()
        self._command = [sys.executable, "-m", "openaiasync", "run", "--base-url", server.base, "--rpm", f"{rpm:.0f}",
                         "--max-in-flight", "64", "--shared", url, "--api-key", "k"]  # fmt: skip
        for number in range(count):
            with open(folder / f"{number}.jsonl", "w", encoding="utf-8") as file:
                for row in range(number * rows, (number + 1) * rows):
                    body = {"model": "m", "messages": [{"role": "user", "content": f"row-{row}"}], "max_tokens": 10}
                    line = {"custom_id": f"k{row}", "method": "POST", "url": "/v1/chat/completions", "body": body}
                    file.write(json.dumps(line) + "\n")
            self.processes.append(self.start(number))

    def start(self, number: int) -> subprocess.Popen[str]:
        """Start, or resume, a job."""
        paths = [str(self.folder / f"{number}.jsonl"), "-o", str(self.folder / f"{number}.out.jsonl")]
        with open(self.folder / f"{number}.log", "a", encoding="utf-8") as log:
            return subprocess.Popen([*self._command, *paths], stdout=subprocess.DEVNULL, stderr=log, text=True)

    def kill(self, number: int) -> None:
        """Kill a job, as ``kill -9`` does."""
        self.processes[number].kill()
        self.processes[number].wait()

    def stop(self) -> list[int]:
        """Interrupt all jobs, and return their exit codes."""
        for one in self.processes:
            one.send_signal(signal.SIGINT)
        try:
            return [one.wait(30) for one in self.processes]
        finally:
            for one in self.processes:
                one.kill()
                one.wait()

    def log(self, number: int) -> str:
        """Return what a job has written to standard error."""
        return (self.folder / f"{number}.log").read_text(encoding="utf-8")

    def failed(self) -> int:
        """Return how many rows have failed."""
        count = 0
        for path in self.folder.glob("*.out.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                count += json.loads(line).get("error") is not None
        return count


def _share(server: Server, rate: float, seconds: float) -> float:
    """Return the part of the rate that is used in the next seconds."""
    before, began = server.report()["answers"], time.monotonic()
    time.sleep(seconds)
    return float((server.report()["answers"] - before) / (time.monotonic() - began) / rate)


def measure(fault: str, *, times: int = 1, rpm: float = 9000.0, seconds: float = 5.0, seed: int = 1) -> dict[str, Any]:
    """Run three jobs through a fault; return the used share of the rate, before and during it, and what went wrong."""
    rng, rate = random.Random(seed), rpm / 60.0
    options = ["--appendonly", "yes", "--appendfsync", "always"] if fault == "store with data" else []
    with tempfile.TemporaryDirectory() as name, running(rpm=rpm, burst=1.0, latency=0.05) as server:
        folder = Path(name)
        store = Store(folder, *options)
        try:
            jobs = Jobs(folder, server, store.url("bench"), rpm)
            while not all("/20,000 rows" in jobs.log(one) or "rows/s" in jobs.log(one) for one in range(3)):
                time.sleep(0.1)
                if server.report()["rows"] > rate * 10:
                    break
            found: dict[str, Any] = {"fault": fault, "times": times, "share": _share(server, rate, seconds)}
            before = server.report()
            during = [_inject(fault, server, store, jobs, rate, rng) for _ in range(times if fault != "none" else 0)]
            after = server.report()
            found["share meanwhile"] = min(during, default=None)
            found["share afterwards"] = _share(server, rate, seconds) if during else None
            found["refused during faults"] = (after["refused"] - before["refused"]) / max(1, len(during))
            found["codes"] = jobs.stop()
            report = server.report()
            found["refused per 1000"] = report["refused_per_1000"]
            found["rows"], found["failed"] = report["rows"], jobs.failed()
            found["warnings"] = [jobs.log(one).count("not available") for one in range(3)]
            found["log"] = "\n".join(jobs.log(one)[-1000:] for one in range(3))
        finally:
            store.kill()
    return found


def _inject(fault: str, server: Server, store: Store, jobs: Jobs, rate: float, rng: random.Random) -> float:
    """Inject a fault, and return the share of the rate that is used meanwhile: for a worker, from the second second."""
    if fault == "worker":
        number = rng.randrange(3)
        jobs.kill(number)
        time.sleep(2.0)
        used = _share(server, rate, 2.0)
        jobs.processes[number] = jobs.start(number)
        time.sleep(2.0 + rng.random())
        return used
    if fault == "stopped":
        store.signal(signal.SIGSTOP)
    else:
        store.kill()
    used = _share(server, rate, OUTAGE)
    if fault == "stopped":
        store.signal(signal.SIGCONT)
    else:
        store.start()
    time.sleep(2.0 + rng.random())
    return used


def lease_cost(url: str, count: int = 1000) -> float:
    """Return the milliseconds of CPU that one lease takes in the client."""
    from openaiasync.budget.leases import open_budget
    from openaiasync.core.policy.shared_quota import LeaseRequest

    async def main() -> float:
        budget = open_budget(url)
        request = LeaseRequest(worker="w", rpm=6000.0, tpm=1e6, requests=10.0, tokens=1000.0)
        for _ in range(50):
            await budget.lease(request)
        began = time.process_time()
        for _ in range(count):
            async with asyncio.timeout(1.0):
                await budget.lease(request)
        spent = time.process_time() - began
        await budget.aclose()
        return 1000.0 * spent / count

    return asyncio.run(main())


def main() -> Iterator[str]:
    """Yield the lines of the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=1, help="how often each fault is injected")
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this fault; may be repeated")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            yield f"one lease: {lease_cost(store.url()):.2f} ms of client CPU"
        finally:
            store.kill()
    yield "| fault | share before | meanwhile | afterwards | 429s a fault | 429s per 1,000 rows | failed rows |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for fault in arguments.fault or FAULTS:
        found = measure(fault, times=arguments.times)
        shares = [found["share"], found["share meanwhile"], found["share afterwards"]]
        texts = ["–" if one is None else f"{100 * one:.0f} %" for one in shares]
        yield (
            f"| {fault} | {' | '.join(texts)} | {found['refused during faults']:.0f} | "
            f"{found['refused per 1000']:.1f} | {found['failed']} |"
        )


if __name__ == "__main__":
    if shutil.which("redis-server") is None:
        raise SystemExit("redis-server is not installed (Debian: apt install redis-server)")
    for line in main():
        print(line, flush=True)
