"""Count the instructions of a call, an event and the first client with callgrind: a busy machine hardly changes them.

    python bench/instructions.py                       this tree
    python bench/instructions.py --tree ../before      another one beside it, by the same script
    python bench/instructions.py --check               fails where a ratio to the floor is above its limit

A contender runs under callgrind once without the measured work, and once more for each row with it; the difference is
the row, without imports, connections and first uses. Two runs differ by some millions of instructions on a busy
machine, so fewer units than these say little.
The floor (`raw.Floor`, a bare protocol) is counted in the same run, and the ratio to it is compared: instructions
differ between builds of Python and of msgspec, the ratio hardly does. Only what runs in user space is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
WHO = ("ours", "floor")
EVENTS = 500  # of the stream called "burst"
FIRST = "first"
_FIRST = {
    "ours": "import openaiasync; openaiasync.Client(api_key='sk-bench', api_base='http://127.0.0.1:9', model='m')",
    "floor": "import asyncio, ssl, msgspec",
}


class Row(NamedTuple):
    """One kind of work; `limit` is the ratio to the floor that `--check` holds."""

    name: str
    title: str
    work: str
    answer: str
    units: int
    at_once: int
    limit: float
    per: int = 1  # divisor of a unit of work: the events of a stream


ROWS = (
    Row("small64", "small chat, 64 in flight (a call)", "chat", "chat", 2560, 64, 2.15),
    Row("small1", "small chat, one at a time (a call)", "chat", "chat", 1000, 1, 2.15),
    # About a sixth of the difference to the floor are copies, which callgrind counts byte by byte.
    Row("burst", "burst stream (an event)", "stream", "burst", 20, 1, 1.45, EVENTS),
)


def available() -> bool:
    """Return whether callgrind is installed."""
    return shutil.which("valgrind") is not None


def count(name: str, base: str, source: Path, share: int = 1) -> dict[str, float]:
    """Return the instructions of one unit of each row for this contender; `source` is the package's folder.

    `share` divides the number of units.
    """
    script = [str(HERE / "instructions.py"), "--work", name, base]
    runs = {
        "": [*script, "", "0"],
        **{row.name: [*script, row.name, str(_units(row, share))] for row in ROWS},
        "empty": ["-c", "import asyncio"],
        FIRST: ["-c", _FIRST[name]],
    }
    _run([sys.executable, *runs[""]], source)  # the first run of a tree compiles its modules
    _run([sys.executable, *runs[FIRST]], source)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        totals = dict(zip(runs, pool.map(lambda words: _instructions(words, source), runs.values()), strict=True))
    rows = {row.name: (totals[row.name] - totals[""]) / (_units(row, share) * row.per) for row in ROWS}
    return {**rows, FIRST: totals[FIRST] - totals["empty"]}


def _units(row: Row, share: int) -> int:
    return max(row.units // share, row.at_once)


def _run(command: list[str], source: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTHON"))},
        "PYTHONPATH": str(source),
        "PYTHONHASHSEED": "0",  # fixes the order of sets, and the cost of collisions
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def _instructions(words: list[str], source: Path) -> int:
    """Return the instructions that this Python takes with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        _run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable, *words], source)
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        raise RuntimeError("callgrind counted nothing")
    return int(found[1])


async def _work(name: str, base: str, counted: str, units: int) -> None:
    """Run under callgrind: the warm-up of every row, then the counted row again."""
    from contenders import CONTENDERS
    from worker import do

    contender = CONTENDERS[name](base, max(row.at_once for row in ROWS))
    await contender.open()
    orders = {row.name: {"work": row.work, "answer": row.answer, "at_once": row.at_once} for row in ROWS}
    for row in ROWS:
        await do(contender, {**orders[row.name], "units": 2 * row.at_once})
    if counted:
        await do(contender, {**orders[counted], "units": units})


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tree", action="append", default=[], help="another tree of this project, counted beside it")
    parser.add_argument("--short", action="store_true", help="a quarter of the work: a first look")
    parser.add_argument("--check", action="store_true", help="fail where a ratio is above its limit")
    asked = parser.parse_args(words)
    if not available():
        print("valgrind is not on this machine", file=sys.stderr)
        return 2
    from servers import servers

    share = 4 if asked.short else 1
    with servers(sys.executable, tls=False) as place:
        floor = count("floor", place.base, HERE.parent / "src", share)
        ours = count("ours", place.base, HERE.parent / "src", share)
        others = {tree: count("ours", place.base, Path(tree).resolve() / "src", share) for tree in asked.tree}
    _print(floor, ours, others)
    missed = [row for row in ROWS if ours[row.name] > row.limit * floor[row.name]]
    for row in missed:
        print(f"{row.name}: more than {row.limit} × the floor", file=sys.stderr)
    return 1 if asked.check and missed else 0


def _print(floor: dict[str, float], ours: dict[str, float], others: dict[str, dict[str, float]]) -> None:
    titles = {**{row.name: row.title for row in ROWS}, FIRST: "import and first client"}
    limits = {row.name: f"{row.limit:.2f}" for row in ROWS}
    print(f"{'instructions':36}{'floor':>13}{'ours':>13}{'ratio':>7}{'limit':>7}", *others, sep="  ")
    for name, title in titles.items():
        ratio = f"{ours[name] / floor[name]:.2f}"
        row = f"{title:36}{floor[name]:13,.0f}{ours[name]:13,.0f}{ratio:>7}{limits.get(name, ''):>7}"
        print(row, *(f"{other[name]:,.0f}" for other in others.values()), sep="  ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(_work(*sys.argv[2:5], int(sys.argv[5])))
    else:
        sys.exit(main(sys.argv[1:]))
