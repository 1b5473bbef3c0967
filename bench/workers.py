"""Run contenders in separate processes, side by side, and compare their costs."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rows import Row
from servers import Place, cores, pin

HERE = Path(__file__).resolve().parent


class Absent(Exception):
    """A contender cannot run here; the message says why."""


class _Process:
    """A process that reads orders as lines and replies to each with a line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        pin(self.process.pid, cores(of_server=False))

    def ask(self, order: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise Absent("it did not start, or died")
        return line

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


class Worker(_Process):
    """A contender of `contenders.py`."""

    def __init__(self, python: str, name: str, base: str, in_flight: int, uvloop: bool = False) -> None:
        self.name = name
        super().__init__([python, str(HERE / "worker.py"), name, base, str(in_flight), *(["uvloop"] if uvloop else [])])

    def order(self, **order: Any) -> dict[str, Any]:
        """Return the result of an order (see `worker.py`). Raises `Absent`."""
        answer: dict[str, Any] = json.loads(self.ask(json.dumps(order)))
        if "error" in answer:
            raise Absent(answer["error"])
        return answer

    def do(self, row: Row, answer: str = "") -> float:
        """Return the CPU seconds of one unit."""
        got = self.order(
            work=row.work,
            answer=answer or row.answer,
            units=row.units_of(self.name),
            at_once=row.at_once,
            prompt=row.prompt,
        )
        return float(got["cpu"] / got["units"])


class Limit(_Process):
    """The client in C."""

    name = "limit in C"

    def __init__(self, place: Place, in_flight: int) -> None:
        if place.limit is None:
            raise Absent("there is no compiler")
        super().__init__(
            [str(place.limit), place.base.rpartition(":")[2], str(place.folder / "request"), str(in_flight)]
        )

    def do(self, row: Row, answer: str = "") -> float:
        """Return the CPU seconds of one unit."""
        return float(self.ask(str(row.units))) / row.units


class Plan(NamedTuple):
    """A contender of a comparison, its name, and its settings."""

    label: str
    name: str
    uvloop: bool = False
    answer: str = ""  # in place of the row's


def _plans(row: Row, who: tuple[str, ...]) -> list[Plan]:
    plans = [Plan(name, name) for name in who]
    if row.uvloop and len(who) > 2:
        plans.insert(who.index("ours") + 1, Plan("ours, uvloop", "ours", uvloop=True))
    if row.beside:
        plans.insert(who.index("ours") + 1, Plan("ours, plain", "ours", answer=row.beside))
    return plans


def _started(plan: Plan, row: Row, place: Place, pythons: dict[str, str]) -> Worker | Limit:
    in_flight = max(row.at_once, 64)
    if plan.name == Limit.name:
        return Limit(place, row.at_once)
    base = place.tls if row.tls else place.base
    if base is None:
        raise Absent("there is no server with TLS")
    python = pythons["litellm" if plan.name == "litellm" else "peers"]
    return Worker(python, plan.name, base, in_flight, plan.uvloop)


def measure(
    row: Row, place: Place, rounds: int, pythons: dict[str, str], who: tuple[str, ...]
) -> dict[str, list[float]]:
    """Return the contenders' costs in µs per unit, round by round, interleaved so that noise affects all of them."""
    costs: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        workers: list[tuple[Plan, Worker | Limit]] = []
        for plan in _plans(row, who):
            try:
                worker = _started(plan, row, place, pythons)
                stack.callback(worker.close)
                for _ in range(row.warm):
                    worker.do(row, plan.answer)
            except Absent as why:
                print(f"    without {plan.label}: {why}", file=sys.stderr)
            else:
                workers.append((plan, worker))
                costs[plan.label] = []
        for _ in range(rounds):
            for plan, worker in list(workers):
                try:
                    costs[plan.label].append(worker.do(row, plan.answer) * 1e6)
                except Absent as why:
                    print(f"    without {plan.label}, which failed: {why}", file=sys.stderr)
                    workers.remove((plan, worker))
                    del costs[plan.label]
    if "ours" in who and "ours" not in costs:
        raise SystemExit(f"{row.title or row.name}: without ours there is nothing to compare")
    return costs


def ratio(costs: dict[str, list[float]], peer: str) -> float:
    """Return ours divided by the peer's: the median of the rounds' ratios, since noise affects a whole round."""
    pairs = zip(costs["ours"], costs[peer], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def more(costs: dict[str, list[float]]) -> float | None:
    """Return the additional cost of ours over its plain variant, if measured: the median of the rounds."""
    pairs = zip(costs["ours"], costs.get("ours, plain", ()), strict=False)
    return statistics.median([mine - plain for mine, plain in pairs] or [0.0]) if "ours, plain" in costs else None
