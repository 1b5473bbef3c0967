"""Jobs larger than what can be run here, simulated: what the shared budget costs, where the driver of a job on Ray
saturates, and how long a resume takes.

    python bench/bulk/simulate.py            # the tables of docs/several-machines.md
    python bench/bulk/simulate.py --measure  # measure the costs of one step on this machine first

A discrete simulation: time jumps from event to event (a lease, a finished shard, a poll, a death). The cost of each
step was measured on two cores of a shared machine (`COSTS`); simulated are the queues that the steps wait in, that of
the budget and that of the driver. The budget and its workers are the code that runs (`core/policy`). Latencies and
deaths are random, with a fixed seed.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
from openaiasync.core.policy.leasing import Share
from openaiasync.core.policy.pacing import CONFIGURED_SHARE
from openaiasync.core.policy.shared_quota import Quota


class Costs(NamedTuple):
    """Seconds of CPU that one step costs."""

    lease: float = 0.00018
    """One lease in the worker: a round trip to Redis."""
    lease_at_budget: float = 0.00013
    """The script of one lease in Redis, which runs one script at a time."""
    row: float = 0.00019
    """One durable row in a worker."""
    start_shard: float = 0.007
    """Opening a shard in a worker: record, journal, check of its lines."""
    hand_out: float = 0.0009
    """The driver's share of one shard: a call of an actor and its result."""
    poll: float = 0.0004
    """The driver's share of asking one worker for its progress."""
    find: float = 0.00004
    """Looking at one finished shard when a job is continued."""
    merge_shard: float = 0.002
    """Opening and locking one shard to merge it."""
    merge_row: float = 0.0000025
    """Copying the line of one row."""
    check_row: float = 0.000004
    """Checking one row of the input."""


COSTS = Costs()
SHARD = 2000  # rows
IN_FLIGHT = 64  # rows of a worker
ROUND_TRIP = 0.0005  # seconds between two machines of a cluster


class Station:
    """Serves one request after another: a budget, or a driver's event loop."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self.busy = 0.0
        self.waited: list[float] = []

    def serve(self, now: float, cost: float) -> float:
        """Return when a request that arrives now is done."""
        begin = max(now, self.free_at)
        self.free_at = begin + cost
        self.busy += cost
        self.waited.append(begin - now)
        return self.free_at

    def quantile(self, share: float) -> float:
        ordered = sorted(self.waited)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


# -------------------------------------------------------------------------------------------------- the budget


def simulate_budget(workers: int, rate: float, *, seconds: float = 10.0, seed: int = 0) -> dict[str, Any]:
    """Workers with more rows than the allowance permits, on one budget; both are the code that runs.

    A worker (`Share`) leases a slice of the allowance, `rate` rows per second for all, sends its rows when they are
    due, and leases again. The budget (`Quota`) serves one lease at a time.
    """
    chance = random.Random(seed)
    budget, quota, order = Station(), Quota(), itertools.count()
    shares = [Share(f"worker-{number}", rate * 60 / CONFIGURED_SHARE, None) for number in range(workers)]
    events = [(chance.random() * 0.2, next(order), number) for number in range(workers)]
    heapq.heapify(events)
    sent = leases = 0
    rows = [0] * workers
    begin = min(2.0, seconds / 4)  # the start is not counted
    while events and events[0][0] < seconds:
        now, _, number = heapq.heappop(events)
        share = shares[number]
        request = share.request(now, float(IN_FLIGHT))
        done = budget.serve(now + ROUND_TRIP, COSTS.lease_at_budget)
        grant = quota.lease(done, request)
        now = done + ROUND_TRIP
        share.granted(now, request, grant)
        again = max(share.lease_at, now)
        while (due := max(share.due, now)) < min(again, seconds):
            share.requests.book(due, 1.0)
            if due >= begin:
                sent += 1
                rows[number] += 1
        leases += 1
        heapq.heappush(events, (again + 0.01 * chance.random(), next(order), number))
    fair = sent / workers
    return {
        "share": sent / (rate * (seconds - begin)),
        "leases_per_worker": leases / seconds / workers,
        "worker_cpu": leases / seconds * (seconds - begin) * COSTS.lease / max(1, sent),
        "budget_cpu": min(1.0, budget.busy / seconds),
        "wait_p99": budget.quantile(0.99),
        "least": min(rows) / fair if fair else 0.0,
    }


# -------------------------------------------------------------------------------------------------- the driver


def simulate_job(
    rows: int, workers: int, *, latency: float = 2.0, in_flight: int = 64, shard: int = SHARD,
    deaths_per_hour: float = 0.0, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """A job on Ray: workers of `in_flight` slots, a driver that hands out shards one at a time, polls, and merges.

    A worker has two shards: it begins the second when the first has no more rows to start. A worker that dies loses the
    rows in flight, is away for 15 s, and its shard goes on from its journal.
    """
    chance = random.Random(seed)
    driver, order = Station(), itertools.count()
    shards = -(-rows // shard)
    left = shards
    rate = min(in_flight / latency, 1.0 / COSTS.row)  # rows per second of a worker
    events: list[tuple[float, int, str, int]] = []
    now = 0.0
    period = max(1.0, workers / 200)
    check = rows * COSTS.check_row
    paid_twice = deaths = handed = 0

    def hand_out(at: float, number: int) -> None:
        nonlocal left, handed
        if not left:
            return
        left -= 1
        handed += 1
        given = driver.serve(at, COSTS.hand_out) + ROUND_TRIP
        takes = (shard / rate) * (0.9 + 0.2 * chance.random()) + COSTS.start_shard
        heapq.heappush(events, (given + takes, next(order), "done", number))

    for number in range(workers):
        hand_out(0.0, number)
        heapq.heappush(events, (chance.random() * period, next(order), "poll", number))
    idle = 0.0
    finished = 0
    while events and finished < shards:
        now, _, kind, number = heapq.heappop(events)
        if kind == "poll":
            driver.serve(now, COSTS.poll)
            heapq.heappush(events, (now + period, next(order), "poll", number))
            continue
        died = chance.random() < deaths_per_hour / 3600 * shard / rate
        if died:
            deaths += 1
            paid_twice += in_flight
            heapq.heappush(events, (now + 15.0 + shard / rate * chance.random(), next(order), "done", number))
            continue
        finished += 1
        # The next shard was given while this one ran; its slots wait only if the driver's answer came later.
        before = driver.free_at
        hand_out(now, number)
        idle += max(0.0, before - now - latency)
    run = now
    merge = shards * COSTS.merge_shard + rows * COSTS.merge_row
    return {
        "rows": rows,
        "workers": workers,
        "shards": shards,
        "shard_rows": shard,
        "check": check,
        "run": run,
        "merge": merge,
        "rate": rows / run,
        "used": rows / run / (rate * workers),
        "driver_cpu": driver.busy / run,
        "wait_p99": driver.quantile(0.99),
        "deaths": deaths,
        "paid_twice": paid_twice,
        "resume": shards * COSTS.find,
    }


def saturation(latency: float = 2.0, in_flight: int = 64, shard: int = SHARD) -> int:
    """Return the number of workers at which the driver's loop is busy all the time."""
    low, high = 1, 1 << 20
    while low < high:
        middle = (low + high + 1) // 2
        rate = min(in_flight / latency, 1 / COSTS.row)
        period = max(1.0, middle / 200)
        busy = middle * rate / shard * COSTS.hand_out + middle / period * COSTS.poll
        low, high = (middle, high) if busy < 1 else (low, middle - 1)
    return low


# -------------------------------------------------------------------------------------------------- measured costs


def measure() -> dict[str, float]:
    """Measure the steps that need neither Ray nor Redis, on this machine."""
    import asyncio

    from serving import running

    from openaiasync import Client
    from openaiasync.bulk.batch_file import check_file
    from openaiasync.bulk.fingerprint import JobRecord, folder_of
    from openaiasync.bulk.merging import merge
    from openaiasync.bulk.progress import load_status
    from openaiasync.bulk.shards import shard_path

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, running() as server:
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        rows, total = 6000, 30
        with open(source, "w") as file:
            for number in range(rows):
                body = {"model": "m", "messages": [{"role": "user", "content": f"row-{number} {'x' * 300}"}]}
                row = {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
                file.write(json.dumps(row) + "\n")
        began = time.process_time()
        check_file(str(source))
        found["check_row"] = (time.process_time() - began) / rows

        async def run() -> None:
            async with Client(api_base=server.base, http_max_in_flight=None) as client:
                for number in range(total):
                    await client.job(source, out, shard=(number, total), max_in_flight=64)

        asyncio.run(run())  # first for imports
        began = time.process_time()
        asyncio.run(run())
        found["start_shard"] = (time.process_time() - began) / total
        began = time.process_time()
        for number in range(total):
            JobRecord.load(folder_of(shard_path(str(out), number)))
            load_status(folder_of(shard_path(str(out), number)))
        found["find"] = (time.process_time() - began) / total
        began = time.process_time()
        merge(str(out))
        whole = time.process_time() - began
        asyncio.run(run_whole(server.base, source, Path(folder) / "one.jsonl"))
        began = time.process_time()
        merge(str(Path(folder) / "one.jsonl"))
        one = time.process_time() - began
        found["merge_shard"] = (whole - one) / (total - 1)
        found["merge_row"] = max(0.0, one - found["merge_shard"]) / rows
    return found


async def run_whole(base: str, source: Path, out: Path) -> None:
    from openaiasync import Client

    async with Client(api_base=base, http_max_in_flight=None) as client:
        await client.job(source, out, shard=(0, 1), max_in_flight=64)


# -------------------------------------------------------------------------------------------------- tables


def seconds(value: float) -> str:
    if value < 1:
        return f"{1000 * value:.1f} ms"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def tables() -> str:
    """Return the tables of the page."""
    head = ("workers on one budget", "allowance", "used", "leases/s, each worker", "worker CPU per row", "CPU of Redis",
            "wait for a lease, p99")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "| ---: " * len(head) + "|"]
    for workers, rate in (
        (3, 100.0),
        (100, 5_000.0),
        (300, 10_000.0),
        (1_000, 1_000.0),
        (1_000, 30_000.0),
        (2_000, 30_000.0),
    ):
        one = simulate_budget(workers, rate)
        lines.append(
            f"| {workers:,} | {rate:,.0f} rows/s | {one['share']:.0%} | {one['leases_per_worker']:.1f} | "
            f"{1e6 * one['worker_cpu']:.0f} µs | {one['budget_cpu']:.0%} | {seconds(one['wait_p99'])} |"
        )
    head = ("rows", "workers", "rows of a shard", "check", "run", "merge", "slots used", "CPU of the driver",
            "deaths, rows paid twice", "resume: find what is left")  # fmt: skip
    lines += ["", f"| {' | '.join(head)} |", "| ---: " * len(head) + "|"]
    jobs: tuple[dict[str, Any], ...] = (
        {"rows": 1_000_000, "workers": 10},
        {"rows": 10_000_000, "workers": 100},
        {"rows": 100_000_000, "workers": 100, "deaths_per_hour": 0.1},
        {"rows": 100_000_000, "workers": 1_000, "deaths_per_hour": 0.1},
        {"rows": 100_000_000, "workers": 1_000, "shard": 20_000, "deaths_per_hour": 0.1},
    )
    for job in jobs:
        one = simulate_job(**job)
        lines.append(
            f"| {one['rows']:,} | {one['workers']:,} | {one['shard_rows']:,} | {seconds(one['check'])} | "
            f"{seconds(one['run'])} | {seconds(one['merge'])} | {one['used']:.0%} | {one['driver_cpu']:.1%} | "
            f"{one['deaths']:,}, {one['paid_twice']:,} | {seconds(one['resume'])} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the costs of steps first")
    if parser.parse_args().measure:
        for name, cost in measure().items():
            print(f"{name}: {1e6 * cost:.1f} µs (the tables use {1e6 * getattr(COSTS, name):.1f} µs)")
        print()
    print(tables())
    print()
    print(
        f"The driver's loop is busy all the time with {saturation():,} workers of 64 slots and answers of 2 s, and with"
    )
    print(f"{saturation(shard=20_000):,} if a shard has 20,000 rows.")


if __name__ == "__main__":
    main()
