"""Measure the longest pause of the event loop while a large answer (50 MB) is received and decoded.

`python pause.py NAME BASE ANSWER` prints, in ms: the longest pause by the clock, by CPU time, and the whole call.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("ours", "aiohttp+msgspec", "openai")
ANSWERS = {"large-floats": "50 MB of embeddings as JSON floats", "large-vectors": "50 MB of embeddings as base64"}
MOST = 50.0  # ms


async def main(name: str, base: str, answer: str) -> None:
    """Make one call beside a task that runs at every iteration of the loop."""
    from contenders import CONTENDERS

    contender = CONTENDERS[name](base, 8)
    await contender.open()
    await contender.embed("vectors" if answer.endswith("vectors") else "floats")
    longest = [0.0, 0.0]

    async def tick() -> None:
        wall, used = time.perf_counter(), time.process_time()
        while True:
            await asyncio.sleep(0)
            now, cpu = time.perf_counter(), time.process_time()
            longest[:] = max(longest[0], now - wall), max(longest[1], cpu - used)
            wall, used = now, cpu

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    longest[:] = 0.0, 0.0
    began = time.perf_counter()
    await contender.embed(answer)
    took = time.perf_counter() - began
    await asyncio.sleep(0)  # the ticker has yet to see the last step
    ticker.cancel()
    print(json.dumps([*(value * 1e3 for value in longest), took * 1e3]))


def pauses(base: str, python: str, rounds: int) -> dict[str, dict[str, list[list[float]]]]:
    """Return the result of each run by answer and contender."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for answer in ANSWERS:
        for number in range(min(rounds, 3)):
            for name in NAMES if number == 0 else NAMES[:-1]:  # the last needs most of a minute
                command = [python, str(Path(__file__).resolve()), name, base, answer]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"    {answer} without {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                got: list[Any] = json.loads(done.stdout)
                found.setdefault(answer, {}).setdefault(name, []).append(got)
                print(f"{answer}: {name} {[round(value, 1) for value in got]}", flush=True)
    return found


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
