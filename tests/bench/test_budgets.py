"""What can be counted of the cost of a call stays within its budget (`budgets.py`): modules, memory, system calls."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openaiasync import Client

from . import budgets

EVENTS = 200
REQUESTS = 20
COMMON = {"id": "chatcmpl-1", "created": 1_750_000_000, "model": "gpt-4o-mini"}
MESSAGES: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}] * 4


def whole() -> bytes:
    message = {"role": "assistant", "content": "Because of Rayleigh scattering.", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = json.dumps({**COMMON, "object": "chat.completion", "choices": [choice]}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def streamed() -> bytes:
    deltas = [{"role": "assistant", "content": ""}, *[{"content": " word"}] * (EVENTS - 2), {}]
    out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    for number, delta in enumerate(deltas):
        finish = "stop" if number == EVENTS - 1 else None
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        event = {**COMMON, "object": "chat.completion.chunk", "choices": [choice]}
        data = b"data: %b\n\n" % json.dumps(event).encode()
        out += b"%x\r\n%b\r\n" % (len(data), data)
    return out + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Answers every request on any connection with the same bytes, in a thread that counts for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(peer: socket.socket) -> None:
            have = b""
            with peer:
                while True:
                    head, found, rest = have.partition(b"\r\n\r\n")
                    if found:
                        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                        if len(rest) >= length:
                            have = rest[length:]
                            peer.sendall(answer)
                            continue
                    try:
                        data = peer.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    have += data

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def client(base: str) -> Client:
    return Client(api_base=base, api_key="sk-0123456789", model="m", http_other={"trust_env": False})


async def official(made: Client) -> None:
    async for _ in await made.chat.completions.create(messages=MESSAGES, stream=True):
        pass


def modules_of(code: str) -> tuple[int, int]:
    """How many modules this code loads in an interpreter of its own: all of them, and the package's."""
    own = "sum(name.partition('.')[0] == 'openaiasync' for name in new)"
    code = f"import sys; before = set(sys.modules)\n{code}\nnew = sys.modules.keys() - before\nprint(len(new), {own})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    everything, ours = done.stdout.split()
    return int(everything), int(ours)


def test_importing_the_package_loads_little() -> None:
    """`import openaiasync` is nearly free: names load what they need when they are used."""
    assert modules_of("import openaiasync")[0] <= budgets.MODULES_OF_IMPORT


def test_a_client_loads_no_area_that_it_does_not_use() -> None:
    """Making a client loads neither types nor methods of areas that nobody touched."""
    everything, own = modules_of("import openaiasync; openaiasync.Client(api_key='k', model='m')")
    assert everything <= budgets.MODULES_OF_CLIENT
    assert own <= budgets.OWN_MODULES_OF_CLIENT


def test_memory_of_requests() -> None:
    """A call needs little memory while it is under way, its answer holds little, and once dropped it leaves nothing."""

    async def main(base: str) -> tuple[float, float, int]:
        async with client(base) as made:
            for _ in range(3):
                await made.chat(MESSAGES)
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(REQUESTS):
                await made.chat(MESSAGES)
            gc.collect()
            left = sys.getallocatedblocks() - before
            tracemalloc.start()
            try:
                await made.chat(MESSAGES)
                gc.collect()
                least = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                kept = [await made.chat(MESSAGES)]
                peak = tracemalloc.get_traced_memory()[1] - least
                gc.collect()
                held = len(tracemalloc.take_snapshot().traces)
                kept += [await made.chat(MESSAGES) for _ in range(REQUESTS)]
                gc.collect()
                assert kept[-1].text
                return (len(tracemalloc.take_snapshot().traces) - held) / REQUESTS, peak, left
            finally:
                tracemalloc.stop()

    with server(whole()) as base:
        blocks, peak, left = asyncio.run(main(base))
    assert blocks <= budgets.BLOCKS_PER_REQUEST
    assert peak <= budgets.PEAK_BYTES_OF_REQUEST
    assert left / REQUESTS <= budgets.BLOCKS_LEFT_PER_REQUEST


def system_calls(base: str, count: int, report: Path) -> int:
    """How many system calls a process makes that chats so often, one call after another."""
    code = f"""
import asyncio
from openaiasync import Client

async def main():
    async with Client(api_base={base!r}, api_key="k", model="m", http_other={{"trust_env": False}}) as client:
        for _ in range({count}):
            await client.chat({MESSAGES!r})

asyncio.run(main())
"""
    command = [shutil.which("strace") or "strace", "-f", "-c", "-o", str(report), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"strace cannot be used here: {done.stderr.strip()[-200:]}")
    total = re.search(r"^\s*[\d.]+\s+[\d.]+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", report.read_text(), re.MULTILINE)
    assert total is not None
    return int(total[1])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls_of_requests(tmp_path: Path) -> None:
    """A call over a warm connection takes few system calls: to wait, to send, to receive."""
    with server(whole()) as base:
        few = system_calls(base, 50, tmp_path / "few")
        many = system_calls(base, 250, tmp_path / "many")
    assert (many - few) / 200 <= budgets.SYSTEM_CALLS_PER_REQUEST


def test_memory_of_events() -> None:
    """An event that is kept holds little, and one that is not kept leaves nothing."""

    async def main(base: str) -> tuple[tuple[int, int], int]:
        async with client(base) as made:
            await official(made)
            await official(made)
            gc.collect()
            before = sys.getallocatedblocks()
            await official(made)
            gc.collect()
            left = sys.getallocatedblocks() - before
            tracemalloc.start()
            try:
                kept = [chunk async for chunk in await made.chat.completions.create(messages=MESSAGES, stream=True)]
                traces = tracemalloc.take_snapshot().traces
                assert len(kept) == EVENTS
                return (len(traces), sum(trace.size for trace in traces)), left
            finally:
                tracemalloc.stop()

    with server(streamed()) as base:
        (blocks, size), left = asyncio.run(main(base))
    assert blocks / EVENTS <= budgets.BLOCKS_PER_EVENT
    assert size / EVENTS <= budgets.BYTES_PER_EVENT
    assert left / EVENTS <= budgets.BLOCKS_LEFT_PER_EVENT
