"""Count the instructions of a request to the server kit and to a front with callgrind.

A busy machine hardly changes them.

    python bench/server_instructions.py [--python PYTHON] [--tree ../before] [kit] [front]

*kit*: a small chat by the callables of `kit/apps.py`, called directly and, where PYTHON has uvicorn, through its
protocol on a transport in memory. *front*: what `openaiasync serve --upstream` takes for a small chat, and the relay of
`front.py`, 64 at a time. Each program runs under callgrind once for a few requests and once for many; the difference is
the count, without start and first uses. Only what runs in user space is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import front
from instructions import available
from servers import servers

HERE = Path(__file__).resolve().parent
REQUESTS = 2_000  # to a callable
FEW, MANY, AT_ONCE = 192, 1_920, 64  # through a front


def environment(source: Path) -> dict[str, str]:
    """Return the variables of a counted program; `source` is the package's folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "PYTHON"))}
    return {**kept, "PYTHONPATH": str(source), "PYTHONHASHSEED": "0"}  # fixes the cost of collisions


def valgrind(out: Path) -> list[str]:
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]


def counted(out: Path) -> int:
    """Return the instructions that a file of callgrind counts."""
    found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        raise RuntimeError("callgrind counted nothing")
    return int(found[1])


def kit(python: str, source: Path, name: str, *options: str) -> float:
    """Return the instructions of a request to a callable of `kit/apps.py`."""
    totals: list[int] = []
    script = [python, str(HERE / "kit" / "alone.py"), name, *options, "--requests"]
    for requests in (0, REQUESTS):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out")
            words = [*valgrind(out), *script, str(requests)]
            done = subprocess.run(words, env=environment(source), capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
            totals.append(counted(out))
    return (totals[1] - totals[0]) / REQUESTS


class Counting(front.Connection):
    """Makes `each` requests, then sets `finished`."""

    def __init__(self, sent: bytes, each: int) -> None:
        super().__init__(sent)
        self.each = each
        self.finished = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.stopped = self.done == self.each - 1
        super().data_received(data)
        if self.done == self.each:
            self.finished.set()


async def ask(port: int, requests: int, sent: bytes) -> None:
    """Make this many requests, `AT_ONCE` at a time."""
    loop = asyncio.get_running_loop()
    each = requests // AT_ONCE
    made = [(await loop.create_connection(lambda: Counting(sent, each), "127.0.0.1", port))[1] for _ in range(AT_ONCE)]
    for one in made:
        await one.finished.wait()
    for one in made:
        one.transport.abort()


def through(command: list[str], port: int, source: Path, sent: bytes) -> float:
    """Return the instructions of a request through a front, a process with this command."""
    totals: list[int] = []
    for requests in (FEW, FEW + MANY):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
            out = Path(folder, "out")
            process = subprocess.Popen([*valgrind(out), *command], env=environment(source), stdout=log, stderr=log)
            try:
                end = time.monotonic() + 120
                while not answers(port):
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        raise RuntimeError(log.read().decode(errors="replace")[-2000:])
                    time.sleep(0.2)
                asyncio.run(ask(port, requests, sent))
            finally:
                process.terminate()
                process.wait()
            totals.append(counted(out))
    return (totals[1] - totals[0]) / MANY


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except http.client.RemoteDisconnected:
        return True
    except OSError:
        return False
    finally:
        connection.close()
    return True


def has(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="kit | front", help="what is counted; by default both")
    parser.add_argument(
        "--python", default=sys.executable, help="for the kit: an interpreter with uvicorn and starlette"
    )
    parser.add_argument("--tree", action="append", default=[], help="another tree of this project, counted beside it")
    asked = parser.parse_args()
    if not available():
        print("valgrind is not on this machine", file=sys.stderr)
        return 2
    sources = [HERE.parent / "src", *(Path(tree).resolve() / "src" for tree in asked.tree)]
    for python in {asked.python, sys.executable}:
        for one in sources:
            subprocess.run([python, "-m", "compileall", "-q", str(one)], stdout=subprocess.DEVNULL)
    if "front" not in asked.parts or "kit" in asked.parts:
        ways = ((), ("--uvicorn",)) if has(asked.python, "uvicorn") else ((),)
        for way in ways:
            for name in ("bare", "starlette", "kit"):
                if name == "starlette" and not has(asked.python, name):
                    continue
                found = [kit(asked.python, one, name, *way) for one in (sources if name == "kit" else sources[:1])]
                print(f"{name + (', on uvicorn' if way else ''):28}", *(f"{one:12,.0f}" for one in found), flush=True)
    if "kit" not in asked.parts or "front" in asked.parts:
        with servers(sys.executable, tls=False) as place:
            bases = [f"{place.base}/chat"]
            for name, command in (("relay", front.bare), ("front", front.ours)):
                found = []
                for one in sources if name == "front" else sources[:1]:
                    port = front.free_port()
                    sent = front.request(False, bases[0] if name == "relay" else "")
                    found.append(through(command(bases, port), port, one, sent))
                print(f"{name:28}", *(f"{one:12,.0f}" for one in found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
