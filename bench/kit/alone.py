"""Print the µs of CPU that an ASGI callable of `apps.py` takes for a request, without a server: `alone.py NAME`.

It is the least of 30 measurements of 300 requests, which a busy machine hardly changes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import apps

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello, how are you today?"}]}).encode()
HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
]


async def ask(app: Any) -> None:
    """Make one request as uvicorn does. Raises `RuntimeError` if its status is not 200."""
    path = "/v1/chat/completions"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
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


async def main(name: str) -> None:
    app = getattr(apps, name)()
    best = float("inf")
    for _ in range(31):
        before = time.process_time()
        for _ in range(300):
            await ask(app)
        best = min(best, time.process_time() - before)
    print(best / 300 * 1e6)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
