"""Handlers that never wait, or do not obey: whatever the operation, they hold up nobody and do not outlive timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conftest import run
from openaiasync.server import Server, Transcript, UsageReport, serve

from .test_description import form
from .wire import Wire, request, until

MESSAGES = [{"role": "user", "content": "hi"}]
SPEECH = {"input": "a", "voice": "alloy"}
TOO_MANY = 3_000_000  # items, after which a handler that nobody ended fails
# Kind of handler, path, body (`None`: a form), whether it can be streamed, and items that it may yield for ever: some
# make a piece of the answer, others make nothing that could be sent.
OPERATIONS: dict[str, tuple[str, str, dict[str, Any] | None, bool, list[Any]]] = {
    "chat": ("chat", "/chat/completions", {"messages": MESSAGES}, True, ["a", None, UsageReport(1, 1)]),
    "chat, stop": ("chat", "/chat/completions", {"messages": MESSAGES, "stop": "bb"}, True, ["a", ""]),
    "chat, n": ("chat", "/chat/completions", {"messages": MESSAGES, "n": 3}, True, ["a", None]),
    "completion": ("completion", "/completions", {"prompt": "a"}, True, ["a", "", None]),
    "completions": ("completion", "/completions", {"prompt": ["a", "b"]}, True, ["a", None]),
    "responses of a chat handler": ("chat", "/responses", {"input": "a"}, True, ["a", None]),
    "responses": ("response", "/responses", {"input": "a"}, True, [{"type": "response.in_progress"}]),
    "image": ("image", "/images/generations", {"prompt": "a"}, True, [b"\x89PNG"]),
    "speech": ("speech", "/audio/speech", SPEECH, False, [b"a", b""]),
    "speech, events": ("speech", "/audio/speech", {**SPEECH, "stream_format": "sse"}, False, [b"a", b""]),
    "embedding": ("embedding", "/embeddings", {"input": "a"}, False, [[[1.0]]]),
    "moderation": ("moderation", "/moderations", {"input": "a"}, False, [[{}]]),
    "transcription": ("transcription", "/audio/transcriptions", None, True, ["a", "", Transcript([])]),
    "translation": ("translation", "/audio/translations", None, False, ["a", "", Transcript([])]),
}
CASES = [
    (name, item, streamed)
    for name, (_, _, _, streamable, items) in OPERATIONS.items()
    for item in items
    for streamed in (False, True)[: 1 + streamable]
]


def asked(name: str, model: str, *, streamed: bool) -> bytes:
    """The bytes of a request for an operation."""
    _, path, body, _, _ = OPERATIONS[name]
    if body is not None:
        return request("POST", f"/v1{path}", {**body, "model": model, **({"stream": True} if streamed else {})})
    fields: dict[str, Any] = {"model": model, "file": b"RIFF", **({"stream": "true"} if streamed else {})}
    return request("POST", f"/v1{path}", *form(**fields))


async def ending(server: Any, sent: bytes) -> bytes:
    """The last bytes of the answer to a request that closes its connection."""
    async with Wire(server) as wire:
        await wire.send(sent.replace(b"Host:", b"Connection: close\r\nHost:", 1))
        last = b""
        while piece := await wire.reader.read(1 << 20):
            last = (last + piece)[-500:]
        return last


def coroutine_of(item: Any) -> Callable[[Any], Any]:
    async def handler(request: Any) -> AsyncIterator[Any]:
        for _ in range(TOO_MANY):
            yield item
        raise AssertionError("nobody ended the handler")

    return handler


def stubborn_of(item: Any) -> Callable[[Any], Any]:
    """A handler that catches its cancellation and goes on."""

    async def handler(request: Any) -> AsyncIterator[Any]:
        for _ in range(2_000):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            yield item
        raise AssertionError("nobody ended the handler")

    return handler


@pytest.mark.parametrize("make", [coroutine_of, stubborn_of])
def test_no_handler_escapes_its_timeout(
    make: Callable[[Any], Callable[[Any], Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """All operations at once, whole and streamed: each ends with the timeout, and others are served meanwhile."""
    app = Server(handler_timeout=0.3)
    for number, (name, item, _) in enumerate(CASES):
        app._register(OPERATIONS[name][0], (str(number),))(make(item))

    async def main() -> list[bytes]:
        async with serve(app, grace=0.0) as server, Wire(server) as quick:
            busy = [
                asyncio.create_task(ending(server, asked(name, str(number), streamed=streamed)))
                for number, (name, _, streamed) in enumerate(CASES)
            ]
            await until(lambda: app.metrics.in_flight)
            while not all(task.done() for task in busy):
                assert (await quick.call("GET", "/health")).status == 200
                await asyncio.sleep(0.01)
            return await asyncio.gather(*busy)

    ends = run(main(), real_clock=True)
    for (name, item, streamed), end in zip(CASES, ends, strict=True):
        if name == "speech" and item:  # bytes have no form for errors: the response is cut
            assert not end.endswith(b"0\r\n\r\n"), name
        else:
            assert b'"code":"handler_timeout"' in end, (name, item, streamed)
    assert "nobody ended" not in caplog.text
    assert app.queue.running == 0


def test_plain_handlers_of_all_kinds_run_in_threads() -> None:
    """They may block: the event loop goes on, and a blocked one does not outlive its timeout for its client."""
    app = Server(handler_timeout=0.2)
    stuck = threading.Event()

    def block(request: Any) -> str:
        stuck.wait(30)
        return "late"

    def lazily(request: Any) -> Iterator[str]:
        yield block(request)

    names = [name for name in OPERATIONS if name not in ("chat, stop", "chat, n")]
    for name in names:
        app._register(OPERATIONS[name][0], (name,))(block)
        app._register(OPERATIONS[name][0], (f"lazy {name}",))(lazily)

    async def main() -> list[bytes]:
        async with serve(app, grace=0.0) as server, Wire(server) as quick:
            models = [f"{prefix}{name}" for name in names for prefix in ("", "lazy ")]
            sent = [asked(model.removeprefix("lazy "), model, streamed=False) for model in models]
            tasks = [asyncio.create_task(ending(server, one)) for one in sent]
            await until(lambda: app.metrics.in_flight == len(sent))
            assert (await quick.call("GET", "/health")).status == 200
            return await asyncio.gather(*tasks)

    try:
        for end in run(main(), real_clock=True):
            assert b'"code":"handler_timeout"' in end
    finally:
        stuck.set()


@pytest.mark.parametrize(
    ("path", "body", "calls"),
    [
        ("/v1/completions", {"prompt": ["a"] * 40}, 40),
        ("/v1/chat/completions", {"messages": MESSAGES, "n": 40}, 40),
        ("/v1/chat/completions", {"messages": MESSAGES, "n": 40, "stream": True}, 40),
        ("/v1/images/generations", {"prompt": "a", "n": 10}, 10),
    ],
)
def test_many_calls_of_one_request_take_turns(path: str, body: dict[str, Any], calls: int) -> None:
    """Each call is shorter than a turn and never waits; together they would hold up the loop."""
    app = Server()
    made = 0

    @app.chat("m")
    @app.completion("m")
    @app.image("m")
    async def compute(request: Any) -> Any:
        nonlocal made
        made += 1
        until = time.monotonic() + 0.004
        while time.monotonic() < until:
            pass
        return b"\x89PNG" if path.endswith("generations") else "x"

    async def main() -> list[int]:
        steps: list[int] = []  # calls in each step of the event loop

        async def watch() -> None:
            while True:
                before = made
                await asyncio.sleep(0)
                steps.append(made - before)

        async with serve(app) as server, Wire(server) as wire:
            watching = asyncio.create_task(watch())
            assert (await wire.call("POST", path, {"model": "m", **body})).status == 200
            watching.cancel()
        return steps

    steps = run(main(), real_clock=True)
    assert made == calls
    assert max(steps) <= 4
