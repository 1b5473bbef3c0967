"""Servers with a thread for each connection and few of them: idle connections keep the others from being served."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import run
from openaiasync import Client
from scripted import CHAT, Seen, json_answer, scripted

KEEPALIVE = 5.0  # seconds that a thread waits for the next request on its connection
OK = json_answer(CHAT)


class Threaded:
    """A number of threads, each bound to one connection until it has been idle for `KEEPALIVE` seconds."""

    def __init__(self, threads: int, answer_takes: float) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.answer_takes = answer_takes
        self.accepted = 0
        self._line: queue.Queue[socket.socket | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        for thread in self._threads:
            thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._line.put(peer)

    def _work(self) -> None:
        while (peer := self._line.get()) is not None:
            with peer, contextlib.suppress(OSError):
                peer.settimeout(KEEPALIVE)
                self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        have = b""
        while True:
            head, found, rest = have.partition(b"\r\n\r\n")
            if found:
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                if len(rest) >= length:
                    have = rest[length:]
                    time.sleep(self.answer_takes)
                    peer.sendall(OK)
                    continue
            data = peer.recv(65_536)
            if not data:
                return
            have += data

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for _ in self._threads:
            self._line.put(None)
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def threaded(threads: int, answer_takes: float = 0.005) -> Iterator[Threaded]:
    server = Threaded(threads, answer_takes)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("threads", [1, 8])
def test_more_connections_than_threads_do_not_stall(threads: int) -> None:
    """200 chats with 64 (or, for one thread, 8) in flight: no round of the others waits for the idle ones to end."""

    async def main(url: str) -> float:
        options: dict[str, Any] = {"http_max_in_flight": 64 if threads > 1 else 8}
        async with Client(api_base=url, model="m", **options) as client:
            began = time.monotonic()
            answers = await asyncio.gather(*(client.chat("hi") for _ in range(200)))
            assert len(answers) == 200
            return time.monotonic() - began

    with threaded(threads) as server:
        assert run(main(server.url)) < 2 * KEEPALIVE, "seven rounds of five seconds each without"


def test_connections_to_other_servers_are_kept() -> None:
    """A server that answers new connections while others are idle keeps them all: bursts use them again."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02 * (len(server.seen) % 8))
        writer.write(OK)

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=8) as client:
            for _ in range(4):
                await asyncio.gather(*(client.chat("hi") for _ in range(8)))
                await asyncio.sleep(0.05)
            assert server.connections <= 8

    server: Any = None
    run(main())


def test_a_slow_answer_on_a_used_connection_drops_no_other() -> None:
    """Waiting for the first byte tells nothing of connections that were answered before."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if b"slow" in seen.body:
            await asyncio.sleep(1.0)
        elif b"warm" in seen.body:
            await asyncio.sleep(0.02)
        writer.write(OK)

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m", http_max_in_flight=4) as client:
            await asyncio.gather(*(client.chat("warm") for _ in range(4)))
            await asyncio.gather(client.chat("slow"), client.chat("hi"), client.chat("hi"))
            await asyncio.gather(*(client.chat("hi") for _ in range(4)))
            assert server.connections == 4

    run(main())
