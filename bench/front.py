"""What a front costs: CPU of its process for a request and for a paced event, beside litellm's proxy and a bare relay.

`python bench/front.py [--litellm PYTHON] [--seconds 3]`. PYTHON is an interpreter with ``litellm[proxy]``. The upstream
is the bench's server with prepared answers, on a core of its own. Requests come from raw connections, which cost the
front nothing. Printed are microseconds of user and system time of the front's process alone. The relay, a protocol
object that copies the bytes of one connection to another one, is the floor: what the sockets and the event loop cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from servers import cores, pin, servers

TICK = os.sysconf("SC_CLK_TCK")
FIELDS = (
    "Host: 127.0.0.1\r\nAuthorization: Bearer sk-bench\r\nAccept: application/json\r\n"
    "Content-Type: application/json\r\nUser-Agent: bench\r\n"
)


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


class Relay(asyncio.Protocol):
    """Copies what one connection receives to another one."""

    def __init__(self, upstream: tuple[str, int] | None, other: asyncio.Transport | None = None) -> None:
        self.upstream, self.other = upstream, other
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self.upstream is not None:
            self.connecting = asyncio.ensure_future(self.connect(*self.upstream))

    async def connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.other, _ = await loop.create_connection(lambda: Relay(None, self.transport), host, port)
        self.other.write(b"".join(self.waiting))

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.waiting.append(data)
        else:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.abort()


async def relay(port: int, upstream: tuple[str, int]) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Relay(upstream), "127.0.0.1", port)
    await server.serve_forever()


def request(stream: bool, base: str = "") -> bytes:
    fields = {"model": "bench", "messages": [{"role": "user", "content": "Say hello to Judy."}], "max_tokens": 20}
    body = json.dumps({**fields, "stream": True} if stream else fields).encode()
    path = f"{urlsplit(base).path}/chat/completions" if base else "/v1/chat/completions"
    return f"POST {path} HTTP/1.1\r\n{FIELDS}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """Sends the same request again and again, each after the end of the response before."""

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.tail = b""  # the head, and then the last bytes of a body in chunks
        self.left: int | None = None  # bytes of the body still to come; -1 if it is in chunks, `None` in the head
        self.done = 0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self.sent)

    def data_received(self, data: bytes) -> None:
        if self.left is None:
            self.tail += data
            head, found, data = self.tail.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(self.tail.decode(errors="replace"))
            lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.left, self.tail = int(lengths[0]) if lengths else -1, b""
        if self.left >= 0:
            self.left -= len(data)
            ended = self.left == 0
        else:
            self.tail = (self.tail + data)[-5:]
            ended = self.tail == b"0\r\n\r\n"
        if not ended:
            return
        self.done += 1
        self.left, self.tail = None, b""
        if not self.stopped:
            self.transport.write(self.sent)


async def load(port: int, connections: int, seconds: float, sent: bytes, pid: int) -> tuple[int, float]:
    """Return the number of responses, and the CPU that the process took for them."""
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(lambda: Connection(sent), "127.0.0.1", port))[1] for _ in range(connections)]
    await asyncio.sleep(0.5)
    before, count = cpu(pid), sum(one.done for one in made)
    await asyncio.sleep(seconds)
    used, count = cpu(pid) - before, sum(one.done for one in made) - count
    for one in made:
        one.stopped = True
        one.transport.abort()
    return count, used


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a front, and yield its process id once it answers. Raises `RuntimeError` with its output if it never does."""
    environment = {
        **os.environ,
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it loads a table from the internet first
    }
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        pin(process.pid, cores(of_server=False))
        try:
            for _ in range(900):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).close()
                    break
                except (urllib.error.HTTPError, http.client.RemoteDisconnected):
                    break  # the bench's own server, which the relay leads to, closes
                except OSError:
                    time.sleep(0.2)
                if process.poll() is not None:
                    break
            else:
                process.kill()
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not start:\n{log.read().decode(errors='replace')[-3000:]}")
            yield process.pid
        finally:
            process.kill()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def ours(bases: list[str], port: int) -> list[str]:
    upstreams = [word for base in bases for word in ("--upstream", base)]
    return [sys.executable, "-m", "openaiasync", "serve", "--port", str(port), *upstreams]


def bare(bases: list[str], port: int) -> list[str]:
    upstream = urlsplit(bases[0])
    return [sys.executable, __file__, "--relay", str(port), str(upstream.hostname), str(upstream.port)]


def litellm(python: str, bases: list[str], port: int, folder: Path) -> list[str]:
    models = [
        {"model_name": "bench", "litellm_params": {"model": "openai/bench", "api_base": base, "api_key": "x"}}
        for base in bases
    ]
    config = folder / "litellm.json"
    config.write_text(json.dumps({"model_list": models}))
    program = str(Path(python).parent / "litellm")
    return [program, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--litellm", metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--relay", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay:
        asyncio.run(relay(int(options.relay[0]), (options.relay[1], int(options.relay[2]))))
    with servers(sys.executable, tls=False) as place, tempfile.TemporaryDirectory() as folder:
        paced = "paced20-200"
        one, two = [f"{place.base}/chat"], [f"{place.base}/chat", f"{place.base}/chat/"]
        streams = [f"{place.base}/{paced}"]
        measured = {
            "request": (one, False, 64, 1),
            "request, two upstreams": (two, False, 64, 1),
            "paced event, 300 streams": (streams, True, 300, 201),
            "paced event, 60 streams": (streams, True, 60, 201),
            "paced event, 12 streams": (streams, True, 12, 201),
        }
        fronts = {"openaiasync": ours, "bare relay": bare}
        if options.litellm:
            fronts["litellm"] = lambda bases, port: litellm(options.litellm, bases, port, Path(folder))
        for what, (bases, stream, connections, units) in measured.items():
            for name, command in fronts.items():
                if name == "litellm" and stream and connections > 12:
                    continue  # it takes milliseconds for an event
                port = free_port()
                sent = request(stream, bases[0] if name == "bare relay" else "")
                seconds = options.seconds if units == 1 else max(options.seconds, 8.5)
                with running(command(bases, port), port) as pid:
                    count, used = asyncio.run(load(port, connections, seconds, sent, pid))
                each = used / (count * units) * 1e6 if count else float("nan")
                print(f"{what:28} {name:12} {each:9.1f} µs   ({count} responses)", flush=True)


if __name__ == "__main__":
    main()
