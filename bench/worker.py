"""One contender in a process of its own: it reads orders as lines of JSON and replies with their cost.

`python worker.py NAME BASE IN_FLIGHT [uvloop]`. An order is
``{"work": "chat", "answer": "chat", "units": 640, "at_once": 64, "prompt": 0}``, its answer
``{"cpu": seconds, "wall": seconds, "units": n}``. CPU is user and system time of this process.

The work ``tokens`` measures time too: each of `at_once` tasks streams `units` times, started evenly over `spread`
seconds. Its answer has ``late``, the median delay of first events in ms, and ``gap``, the 99th percentile of the ms
between events.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

from contender import Contender
from contenders import CONTENDERS
from payloads import messages, prompt


def cpu() -> float:
    """Return the seconds of CPU time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def do(contender: Contender, order: dict[str, Any]) -> dict[str, Any]:
    """Execute an order; units of streams are events."""
    work = getattr(contender, order["work"])
    contender.messages = prompt(order["prompt"]) if order.get("prompt") else messages()
    left = order["units"]
    done = 0

    async def one_after_another() -> None:
        nonlocal left, done
        while left > 0:
            left -= 1
            got = await work(order["answer"])
            done += got if order["work"] == "stream" else 1

    began, before = time.monotonic(), cpu()
    await asyncio.gather(*(one_after_another() for _ in range(order["at_once"])))
    return {"cpu": cpu() - before, "wall": time.monotonic() - began, "units": done}


async def tokens(contender: Contender, order: dict[str, Any]) -> dict[str, Any]:
    """Execute an order of paced streams, measuring times."""
    clock, count = time.perf_counter, order["at_once"]
    streams: list[list[float]] = []

    async def place(number: int) -> int:
        await asyncio.sleep(order["spread"] * number / count)
        events = 0
        for _ in range(order["units"]):
            times = [clock()]
            streams.append(times)
            events += await contender.stream(order["answer"], lambda times=times: times.append(clock()))  # type: ignore[misc]
        return events

    began, before = clock(), cpu()
    done = sum(await asyncio.gather(*map(place, range(count))))
    used, wall = cpu() - before, clock() - began
    late = statistics.median(times[1] - times[0] for times in streams) - order["first"]
    gaps = sorted(after - at for times in streams for at, after in pairwise(times[1:]))
    return {
        "cpu": used,
        "wall": wall,
        "units": done,
        "late": late * 1e3,
        "gap": gaps[int(len(gaps) * 0.99)] * 1e3,
    }


async def main() -> None:
    name, base, in_flight = sys.argv[1:4]
    contender = CONTENDERS[name](base, int(in_flight))
    await contender.open()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        try:
            answer = await (tokens if order["work"] == "tokens" else do)(contender, order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
