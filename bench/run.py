"""Side by side with the peers: runs the rows, prints medians and ratios, writes JSON, plot and `docs/performance.md`.

    python bench/run.py [--rounds 7] [--only small64,burst] [--quick] [--check] [--python PATH]

`--check` measures three rows only and fails where a ratio is missed by more than a fifth, twice in a row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import payloads
from others import others
from report import print_row, write_page
from rows import GROWTH, MARGIN, ROWS, USUAL, Row

HERE = Path(__file__).resolve().parent


class Absent(Exception):
    """A contender cannot be run here, and why."""


class Worker:
    """A contender in its own process."""

    def __init__(self, python: str, name: str, base: str, in_flight: int, uvloop: bool = False) -> None:
        command = [python, str(HERE / "worker.py"), name, base, str(in_flight), *(["uvloop"] if uvloop else [])]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def do(self, row: Row, units: int) -> float:
        """CPU seconds for one unit."""
        order = {"work": row.work, "answer": row.answer, "units": units, "at_once": row.at_once}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Absent("it did not start")
        answer = json.loads(line)
        if "error" in answer:
            raise Absent(answer["error"])
        return float(answer["cpu"] / answer["units"])

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The bench's server on a port of its own, in C where a compiler is there."""
    with tempfile.TemporaryDirectory() as folder:
        payloads.write(Path(folder))
        command = [sys.executable, str(HERE / "server.py"), folder]
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler and platform.system() == "Linux":
            program = str(Path(folder) / "server")
            subprocess.run([compiler, "-O2", "-o", program, str(HERE / "server.c")], check=True)
            command = [program, folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.kill()


def measure(row: Row, base: str, rounds: int, pythons: dict[str, str], who: tuple[str, ...]) -> dict[str, list[float]]:
    """The contenders' costs in µs a unit, round by round, interleaved so that a noisy minute hits them all."""
    plans = [(name, name, False) for name in who]
    if row.uvloop and len(who) > 2:
        plans.insert(plans.index(("ours", "ours", False)) + 1, ("ours", "ours, uvloop", True))
    costs: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        workers: list[tuple[str, Worker]] = []
        for name, label, uvloop in plans:
            python = pythons["litellm" if name == "litellm" else "peers"]
            worker = Worker(python, name, base, max(row.at_once, 64), uvloop)
            stack.callback(worker.close)
            try:
                worker.do(row, row.units_of(name))
                worker.do(row, row.units_of(name))
                workers.append((label, worker))
                costs[label] = []
            except Absent as why:
                print(f"    without {label}: {why}", file=sys.stderr)
        for _ in range(rounds):
            for label, worker in workers:
                costs[label].append(worker.do(row, row.units_of(worker.name)) * 1e6)
    return costs


def ratio(costs: dict[str, list[float]], peer: str) -> float:
    """Ours by the peer's: the median of the rounds' ratios, since noise hits both halves of a round alike."""
    pairs = zip(costs["ours"], costs[peer], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def check(base: str, pythons: dict[str, str]) -> bool:
    """Whether the three rows meet their targets, each retried once."""
    good = True
    for row in ROWS:
        for peer, aim in row.held:
            for attempt in (1, 2):
                got = ratio(measure(row, base, 3, pythons, ("ours", peer)), peer)
                limit = aim * MARGIN
                verdict = "ok" if got <= limit else "MISSED"
                print(
                    f"{row.name}: {got:.4f} of {peer}, at most {limit:.4f}: {verdict} (attempt {attempt})", flush=True
                )
                if got <= limit:
                    break
            good = good and got <= limit
    return good


def growth(base: str, pythons: dict[str, str]) -> dict[str, dict[int, float]]:
    """µs a small chat by how many are in flight."""
    grown: dict[str, dict[int, float]] = {}
    for name, sizes in GROWTH.items():
        grown[name] = {}
        for size in sizes:
            row = Row("growth", "", "chat", "chat", max(size * 2, 640), size, (name,), {})
            try:
                grown[name][size] = statistics.median(measure(row, base, 3, pythons, (name,))[name])
            except (Absent, KeyError):
                break
    return grown


def _earlier(path: Path) -> dict[str, Any]:
    """What earlier runs found, so that rows can be repeated one by one."""
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}, "others": {}, "growth": {}}
    return {**result, "python": platform.python_version(), "machine": platform.platform()}


def _keep(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")
    write_page(result)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--only", default="", help="names of rows, `others`, `growth`, with commas; the rest stays")
    words.add_argument("--quick", action="store_true", help="leave out the slow and the exotic contenders")
    words.add_argument("--check", action="store_true")
    words.add_argument("--python", help="an interpreter whose environment has the peers")
    words.add_argument("--litellm-python")
    words.add_argument("--out", type=Path, default=HERE / "results.json")
    given = words.parse_args()
    home = HERE / ".envs"
    peers = given.python or str(home / "peers" / "bin" / "python")
    pythons = {"peers": peers, "litellm": given.litellm_python or str(home / "litellm" / "bin" / "python")}
    if not Path(peers).exists():
        print("run bench/prepare.py first, or name an interpreter with --python", file=sys.stderr)
        return 2
    if not Path(pythons["litellm"]).exists():
        pythons["litellm"] = peers
    with server() as base:
        if given.check:
            return 0 if check(base, pythons) else 1
        wanted = set(filter(None, given.only.split(","))) or {"others", "growth", *(row.name for row in ROWS)}
        result = _earlier(given.out)
        for row in ROWS:
            if row.name in wanted:
                who = tuple(name for name in row.who if name in USUAL) if given.quick else row.who
                costs = measure(row, base, given.rounds, pythons, who)
                ratios = {peer: ratio(costs, peer) for peer in costs if not peer.startswith("ours")}
                result["rows"][row.name] = {"costs": costs, "ratios": ratios}
                print_row(row, costs, ratios)
                _keep(given.out, result)
        if "others" in wanted:
            result["others"] = others(base, peers)
        if "growth" in wanted:
            result["growth"] = growth(base, pythons)
    _keep(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
