"""One contender in a process of its own: takes orders as lines of JSON, answers what each cost.

`python worker.py NAME BASE IN_FLIGHT [uvloop]`. An order is
``{"work": "chat", "answer": "chat", "units": 640, "at_once": 64}``, its answer
``{"cpu": seconds, "wall": seconds, "units": n}``. CPU is user and system time of this process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

from contenders import CONTENDERS, Contender


def cpu() -> float:
    """Seconds of CPU time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def do(contender: Contender, order: dict[str, Any]) -> dict[str, Any]:
    """Do one order; units of streams are events."""
    work = getattr(contender, order["work"])
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


async def main() -> None:
    name, base, in_flight = sys.argv[1:4]
    contender = CONTENDERS[name](base, int(in_flight))
    await contender.open()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await do(contender, json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if "uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
