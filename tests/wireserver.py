"""A server of which every byte is scripted, on a real socket, in the test's own event loop.

A script is a coroutine function that is given a `Peer` for each connection; when it returns, the connection is cut.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

import trustme

from openaiasync.transport.base import (
    AttemptTimeouts,
    Credentials,
    Origin,
    TransportRequest,
)

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
AUTHORITY = trustme.CA()
CLOCKS = AttemptTimeouts(connect=10.0, start=10.0, until=None)


class Request(NamedTuple):
    """One request as it came."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


class Peer:
    """The server's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number  # of this connection, from 0
        self.reader = reader
        self.writer = writer

    async def head(self) -> Request:
        """The next request without its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rows = head[:-4].split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (row.partition(":") for row in rows)]
        return Request(line, fields, b"")

    async def request(self) -> Request:
        """The next request with its body."""
        request = await self.head()
        length = request.field("content-length")
        if length is not None:
            return request._replace(body=await self.reader.readexactly(int(length)))
        if request.field("transfer-encoding") is None:
            return request
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return request._replace(body=body)

    async def send(self, *parts: bytes, pause: float = 0.005) -> None:
        """Send the parts, each on its own."""
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(pause)
            self.writer.write(part)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed or reset the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except OSError:
            pass

    def reset(self) -> None:
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[Any]]


async def forever(peer: Peer) -> None:
    """Answer every request with ``hello``."""
    while True:
        await peer.request()
        await peer.send(HELLO)


class Server:
    """Listens on a free port (or a Unix socket) while its context is open."""

    def __init__(self, script: Script = forever, *, tls: ssl.SSLContext | None = None, uds: str | None = None) -> None:
        self.script = script
        self.tls = tls
        self.uds = uds
        self.peers: list[Peer] = []
        self.open = 0
        self.peak = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> Origin:
        return Origin("https" if self.tls else "http", "127.0.0.1", 80 if self.uds else self.port)

    async def __aenter__(self) -> Self:
        limit = 1 << 21
        if self.uds:
            self._server = await asyncio.start_unix_server(self._accept, self.uds, ssl=self.tls, limit=limit)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
        if error is None:
            assert not self.errors, f"the script failed: {self.errors}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await self.script(peer)
            if not peer.writer.is_closing():
                peer.writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        except Exception as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            peer.writer.transport.abort()

    async def settled(self, count: int = 0, timeout: float = 5.0) -> None:
        """Wait until exactly `count` connections are open from this end's view."""
        await until(lambda: self.open == count, timeout)


async def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    """Wait until the condition holds; look often at first."""
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + timeout, 0.001
    while not condition():
        assert loop.time() < end, "it did not come about"
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 0.02)


def outgoing(
    origin: Origin,
    method: str = "POST",
    target: str = "/x",
    body: Any = b"ping",
    length: int | None = None,
    credentials: Credentials | None = None,
    fields: tuple[tuple[str, str], ...] = (),
) -> TransportRequest:
    """A request with what a test does not care about filled in."""
    return TransportRequest(origin, method, target, fields, credentials or Credentials(), body, length)


def server_context(*names: str) -> ssl.SSLContext:
    """TLS for a server of these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """TLS for a client that trusts these servers."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context
