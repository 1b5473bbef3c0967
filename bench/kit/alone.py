"""Print the µs of CPU that an ASGI callable of `apps.py` takes for a request, without a socket.

alone.py NAME                        the least of 30 measurements of 300 requests, which a busy machine hardly changes
alone.py NAME --requests N           make N requests after a warm-up, and print nothing: for callgrind
alone.py NAME --requests N --uvicorn the same through uvicorn's protocol on a transport in memory
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import apps

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello, how are you today?"}]}).encode()
PATH = "/v1/chat/completions"
HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
]
WARM_UP = 100  # requests


async def ask(app: Any) -> None:
    """Make one request as uvicorn does. Raises `RuntimeError` if its status is not 200."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": HEADERS,
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"status {message['status']}")

    await app(scope, receive, send)


class Wire(asyncio.Transport):
    """A transport in memory; `answered` is set when a response is written to it."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 40000)})
        self.answered = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if bytes(data).startswith(b"HTTP/1.1 200"):
            self.answered.set()

    def is_closing(self) -> bool:
        return False


def uvicorn_request(app: Any) -> Callable[[], Awaitable[None]]:
    """Return a function that sends a request to a connection of uvicorn and waits until it was answered."""
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    config = Config(app, access_log=False, log_level="warning", lifespan="off")
    config.load()
    connection: Any = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    connection.connection_made(wire)
    head = b"".join(b"%b: %b\r\n" % field for field in HEADERS)
    data = b"POST %b HTTP/1.1\r\n%b\r\n%b" % (PATH.encode(), head, BODY)

    async def request() -> None:
        wire.answered.clear()
        connection.data_received(data)
        await wire.answered.wait()

    return request


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--requests", type=int)
    parser.add_argument("--uvicorn", action="store_true")
    given = parser.parse_args()
    app = getattr(apps, given.name)()
    one = uvicorn_request(app) if given.uvicorn else lambda: ask(app)
    if given.requests is not None:
        for _ in range(WARM_UP + given.requests):
            await one()
        return
    best = float("inf")
    for _ in range(31):
        before = time.process_time()
        for _ in range(300):
            await one()
        best = min(best, time.process_time() - before)
    print(best / 300 * 1e6)


if __name__ == "__main__":
    asyncio.run(main())
