"""A raw HTTP/1.1 client for tests of the built-in server: it sends any bytes, and h11 reads what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import h11

from openaiasync.server import HTTPServer

SAY_HELLO = {"model": "demo-chat", "messages": [{"role": "user", "content": "Hello"}]}


class Answer(NamedTuple):
    """One answer, as h11 understood it."""

    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return dict(error)

    def events(self) -> list[Any]:
        """The JSON documents of an event stream that is complete."""
        assert self.fields["content-type"].startswith("text/event-stream")
        parts = self.body.decode().split("\n\n")
        assert parts[-2:] == ["data: [DONE]", ""]
        return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def request(
    method: str, path: str, body: bytes | dict[str, Any] | None = None, fields: dict[str, str] | None = None
) -> bytes:
    """A request's bytes. A dict goes as JSON."""
    given = {"Host": "test", **(fields or {})}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    if body is not None:
        given.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


class Listening(Protocol):
    """A server on this machine."""

    @property
    def port(self) -> int: ...


class Wire:
    """One connection: an async context manager."""

    def __init__(
        self, server: Listening, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.server = server
        self.informational: list[int] = []
        self._receive_buffer = receive_buffer
        self._tls = tls
        self._h11 = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        if isinstance(self.server, HTTPServer) and self.server.uds is not None:
            self.reader, self.writer = await asyncio.open_unix_connection(self.server.uds)
            return self
        sock = socket.socket()
        try:
            if self._receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.server.port))
            name = "localhost" if self._tls is not None else None
            self.reader, self.writer = await asyncio.open_connection(sock=sock, ssl=self._tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "GET", timeout: float = 15.0) -> Answer:
        """The next answer, to a request of this method. `h11.RemoteProtocolError` when its framing is wrong."""
        async with asyncio.timeout(timeout):
            return await self._answer(method)

    async def _answer(self, method: str) -> Answer:
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        self._h11.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        self._h11.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self.reader.read(65536))
            elif isinstance(event, h11.InformationalResponse):
                self.informational.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                fields = {name.decode(): value.decode() for name, value in head.headers}
                return Answer(head.status_code, fields, bytes(body))
            else:
                raise AssertionError(f"no answer but {event}")

    async def call(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, fields: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and read its answer."""
        await self.send(request(method, path, body, fields))
        return await self.answer(method)

    async def ended(self, timeout: float = 15.0) -> bool:
        """Whether the server closes the connection without another byte."""
        async with asyncio.timeout(timeout):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


async def until(condition: Any, timeout: float = 10.0) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)
