"""CPU of the server kit beside other ways to serve the same model: a request, a streamed piece, paced streams.

    python bench/kit/run.py [--python PYTHON] [--litellm PYTHON] [--rounds 3] [CONTENDER ...]

Every contender is a process on uvicorn, pinned to one core where there is more than one; the client runs beside it.
What counts is the CPU time of the server's process, as the kernel says, above a bare ASGI callable in the same round,
and the ratio to it; *alone* is the callable without a server. *paced* are 400 streams of 50 pieces a second while all
of them are open: a client in C on another core (`paced.c`; without a C compiler this part is left out) compares the
arrival of each piece with the time at which the model had it due. *waited* is how long the server, or that client, was
ready to run but waited for a core: on a busy machine lateness is its doing. `--python` has uvicorn, starlette and
fastapi-openai-compat; `--litellm` has litellm's proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from apps import PAUSE

HERE = Path(__file__).parent
STREAMS, SPREAD = 400, 1000  # paced streams, and the milliseconds over which they begin
CONTENDERS = ("bare", "kit", "starlette", "compat", "litellm")
TICK = os.sysconf("SC_CLK_TCK")


def body_of(model: str, stream: bool) -> bytes:
    text = "Hello, how are you today?"
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": text}]}
    data = json.dumps({**body, "stream": True} if stream else body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sk-bench\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Peer(asyncio.Protocol):
    """A keep-alive connection that sends one request after the other and counts answers and events."""

    def __init__(self, request: bytes, count: int) -> None:
        self._request = request
        self._left = count
        self._buffer = b""  # the head, and then the last bytes of the body
        self._length: int | None = None  # what is left of the body; 0 if it is chunked, `None` before its head
        self.events = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def start(self) -> None:
        """Send the first request."""
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._length is None:
            self._buffer += data
            head, found, data = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._fail(self._buffer[:500])
                return
            lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self._length = lengths[0] if lengths else 0
            self._buffer = b""
        self.events += data.count(b"data: ")
        if self._length:
            self._length -= len(data)
            ended = self._length == 0
        else:
            self._buffer = (self._buffer + data)[-5:]
            ended = self._buffer == b"0\r\n\r\n"
        if not ended:
            return
        self._buffer, self._length = b"", None
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(b"the connection was lost")

    def _fail(self, why: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why.decode(errors="replace")))


async def load(port: int, model: str, stream: bool, connections: int, each: int) -> int:
    """Connect, then send the requests; return the number of events."""
    loop = asyncio.get_running_loop()
    body = body_of(model, stream)
    opened = (loop.create_connection(lambda: Peer(body, each), "127.0.0.1", port) for _ in range(connections))
    peers = [peer for _, peer in await asyncio.gather(*opened)]
    for peer in peers:
        peer.start()
    await asyncio.gather(*(peer.done for peer in peers))
    return sum(peer.events for peer in peers)


def waited(pid: int) -> float:
    """Seconds that the main thread of a process was ready to run and waited for a core so far."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def built(folder: str) -> str | None:
    """Return the client for paced streams, compiled; `None` without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    program = str(Path(folder, "paced"))
    command = [compiler or "", "-O2", "-o", program, str(HERE / "paced.c")]
    return program if compiler and subprocess.run(command).returncode == 0 else None


def paced(program: str, process: subprocess.Popen[bytes], port: int) -> dict[str, float]:
    """Return what 400 paced streams cost, and how punctual they are, while all of them are open."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([program, str(port), str(STREAMS), str(SPREAD)], **pipes) as client:
        every = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(client.pid, every[:-1] or every)
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(body_of("paced", True))
        client.stdin.close()
        seen: list[tuple[float, float, float, float]] = []
        for moment in (b"steady\n", b"ended\n"):
            if client.stdout.readline() != moment:
                raise RuntimeError("the paced streams failed")
            seen.append((time.monotonic(), cpu(process), waited(process.pid), waited(client.pid)))
        words = client.stdout.readline().split()
    seconds, spent, server, own = (after - before for before, after in zip(*seen, strict=True))
    count, *late = map(int, words)
    return {
        "paced": spent / count * 1e6,
        "paced_cores": spent / seconds,  # above 1.0 no server can keep up
        "paced_share": count / (STREAMS / PAUSE * seconds),  # below 1.0 it does not keep up
        "late_p50": late[0] / 1e3,
        "late_p99": late[1] / 1e3,
        "late_p999": late[2] / 1e3,
        "waited_server": server / seconds,
        "waited_client": own / seconds,
    }


def alone(name: str, python: str) -> float:
    """Return the µs of CPU of a request to the callable without a server: see `alone.py`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [python, str(HERE / "alone.py"), name]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Seconds of CPU of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


LITELLM = """
model_list:
  - model_name: m
    litellm_params: {model: openai/m, api_key: sk-none, mock_response: "Hello there"}
"""


@contextmanager
def running(name: str, python: str, litellm: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        command = [python, "-m", "uvicorn", f"apps:{name}", "--factory", "--port", str(port), "--no-access-log"]
        command += ["--log-level", "warning"]
        if name == "litellm":
            Path(folder, "config.yaml").write_text(LITELLM)
            command = [
                str(Path(litellm).with_name("litellm")),
                "--config",
                f"{folder}/config.yaml",
                "--port",
                str(port),
            ]
            # Without this variable it does not start without a master key.
            environment = {**os.environ, "LITELLM_LOG": "ERROR"}
            environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
        with open(Path(folder, "log.txt"), "w+b") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            if (os.cpu_count() or 1) > 1:
                os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
            try:
                end = time.monotonic() + 120
                while True:
                    with closing(socket.socket()) as sock:
                        if sock.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        raise RuntimeError(f"{name} did not start:\n{log.read().decode(errors='replace')[-2000:]}")
                    time.sleep(0.05)
                yield process, port
            finally:
                process.kill()
                process.wait()


def measure(name: str, python: str, litellm: str, program: str | None) -> dict[str, float]:
    """One round of a contender: µs of CPU a request and a piece, and how 400 paced streams went."""
    slow = name == "litellm"
    with running(name, python, litellm) as (process, port):
        connections, each = (4, 50) if slow else (16, 500)
        asyncio.run(load(port, "m", False, connections, 5))
        before = cpu(process)
        asyncio.run(load(port, "m", False, connections, each))
        found = {"request": (cpu(process) - before) / (connections * each) * 1e6}
        if slow:
            return found
        found["alone"] = alone(name, python)
        asyncio.run(load(port, "burst", True, 2, 5))
        before = cpu(process)
        events = asyncio.run(load(port, "burst", True, 8, 50))
        found["piece"] = (cpu(process) - before) / events * 1e6
        return found if program is None else {**found, **paced(program, process, port)}


def import_cost(python: str) -> float:
    """Milliseconds of CPU to import the kit beyond asyncio, bytecode compiled."""
    script = "import asyncio, time; t = time.process_time(); import openaiasync.server; print(time.process_time() - t)"
    with tempfile.TemporaryDirectory() as folder:
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**plain, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONPYCACHEPREFIX": folder}
        times = [
            float(subprocess.run([python, "-c", script], env=environment, capture_output=True, check=True).stdout)
            for _ in range(6)
        ]
    return statistics.median(times[1:]) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", default=[])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--litellm", default="")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    names = given.contenders or [name for name in CONTENDERS if name != "litellm" or given.litellm]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        program = built(folder)
        for _ in range(given.rounds):
            for name in names:
                rounds[name].append(measure(name, given.python, given.litellm, program))
    units = {
        "request": "µs",
        "alone": "µs",
        "piece": "µs",
        "paced": "µs",
        "late_p50": "ms",
        "late_p99": "ms",
        "late_p999": "ms",
    }
    print("contender  what            median   above bare  ratio")
    for name in names:
        for what in rounds[name][0]:
            value = statistics.median(one[what] for one in rounds[name])
            line = f"{name:10} {what:14} {value:8.2f} {units.get(what, ''):3}"
            if "bare" in rounds and what in units:
                pairs = list(zip(rounds[name], rounds["bare"], strict=True))
                above = statistics.median(one[what] - bare[what] for one, bare in pairs)
                ratio = statistics.median(one[what] / bare[what] for one, bare in pairs)
                line += f" {above:9.1f} {ratio:6.2f}"
            print(line)
    print(f"import of the kit beyond asyncio: {import_cost(given.python):.0f} ms of CPU")


if __name__ == "__main__":
    main()
