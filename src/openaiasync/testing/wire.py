"""A server of which every byte is scripted: one `Peer` for each connection, driven by a coroutine function.

It reads requests with minimal validation and writes any bytes it is given, so that tests can break any rule of HTTP on
purpose.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

__all__ = ["Listener", "Peer", "RawRequest"]

_LIMIT = 1 << 21  # bytes that a reader buffers before it pauses the client


class RawRequest(NamedTuple):
    """One request as it was received."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        """Return the first value of a header field; the case of the name does not matter."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after the answer: HTTP/1.1 without ``Connection: close``."""
        return self.line.endswith("HTTP/1.1") and "close" not in (self.field("connection") or "").lower()


class Peer:
    """The server's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """The number of this connection at its listener, from 0."""
        self.reader = reader
        self.writer = writer
        self.on_leave: Callable[[], object] | None = None
        """Called once when the client closes its end, even while an answer is being sent."""
        self.left: bool = False
        """Whether the client has closed its end or the connection was lost."""

    async def head(self) -> RawRequest:
        """Read the next request without its body. Raises `asyncio.IncompleteReadError` if the client closed."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rows = head[:-4].split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (row.partition(":") for row in rows)]
        return RawRequest(line, fields, b"")

    async def request(self, *, continues: bool = False) -> RawRequest:
        """Read the next request with its body, which has a Content-Length or is chunked.

        With `continues`, ``100 Continue`` is sent to a client that waits for it.
        """
        request = await self.head()
        if continues and (request.field("expect") or "").lower() == "100-continue":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = request.field("content-length")
        if length is not None:
            return request._replace(body=await self.reader.readexactly(int(length)))
        if request.field("transfer-encoding") is None:
            return request
        pieces: list[bytes] = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            pieces.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return request._replace(body=b"".join(pieces))

    async def send(self, *parts: bytes, pause: float = 0.005) -> None:
        """Send the parts in separate writes, `pause` seconds apart."""
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(pause)
            self.writer.write(part)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed or reset the connection, discarding the data that it sends."""
        try:
            while await self.reader.read(65_536):
                pass
        except OSError:
            pass

    def reset(self) -> None:
        """Reset the connection (RST), as a killed process does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def leave(self) -> None:
        if not self.left:
            self.left = True
            if self.on_leave is not None:
                self.on_leave()


class _Protocol(asyncio.StreamReaderProtocol):
    """A stream protocol that notifies its `Peer` immediately when the client closes the connection."""

    peer: Peer | None = None

    def eof_received(self) -> bool | None:
        if self.peer is not None:
            self.peer.leave()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self.peer.leave()
        super().connection_lost(exc)


class Listener:
    """Listens on a free loopback port (or on a Unix socket) while its context is open.

    `script` is called with a `Peer` for each connection, which is closed when it returns. An exception of the script is
    raised at the end of the context, unless the client's closing caused it or the context ends with another exception.
    """

    def __init__(
        self,
        script: Callable[[Peer], Awaitable[Any]],
        *,
        tls: ssl.SSLContext | None = None,
        uds: str | None = None,
        port: int = 0,
    ) -> None:
        self.script = script
        self.tls = tls
        self.uds = uds
        self.port: int = port
        self.accepted: int = 0
        """Connections so far; `open` counts those open now, and `peak` is the largest number open at one time."""
        self.open: int = 0
        self.peak: int = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def url(self) -> str:
        """The base URL for a client: ``http://127.0.0.1:PORT/v1``."""
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def protocol() -> _Protocol:
            made = _Protocol(
                asyncio.StreamReader(_LIMIT, loop), lambda reader, writer: self._accept(made, reader, writer)
            )
            return made

        if self.uds:
            self._server: asyncio.Server = await loop.create_unix_server(protocol, self.uds, ssl=self.tls)
        else:
            self._server = await loop.create_server(protocol, "127.0.0.1", self.port, ssl=self.tls)
            self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # turns of the event loop in which aborted transports close their sockets
            await asyncio.sleep(0)
        if error is None:
            assert not self.errors, f"the script failed: {self.errors}"

    def _accept(self, protocol: _Protocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = protocol.peer = Peer(self.accepted, reader, writer)
        self.accepted += 1
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
            pass  # the client closed the connection
        except Exception as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            peer.writer.transport.abort()
