"""A server on a real socket with scripted answers, for tests of code that calls a model."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from ..core.model.headers import Headers
from ..transport.fake import FakeAnswer
from .script import Script
from .shapes import body_fields, messages_text
from .wire import Listener, Peer, RawRequest

__all__ = ["FakeServer", "LoopbackServer", "ReceivedRequest", "send_answer"]

_STARTS_WITHIN = 10.0  # seconds
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(eq=False)
class ReceivedRequest:
    """One request as the server received it, and how it was answered."""

    method: str
    target: str
    """The path with its query, as the client sent it."""
    headers: Headers
    """All header fields, including the key."""
    body: bytes
    connection: int
    """The number of its connection, from 0: two requests with the same number shared one."""
    received: float
    """When it had arrived completely (`time.monotonic`, seconds)."""
    first_sent: float | None = None
    """When the first byte of the answer was sent; `None` before that."""
    ended: float | None = None
    """When the answer had been sent, or the client had left; `None` before that."""
    status: int | None = None
    """The HTTP status of its answer; `None` without an answer."""
    cancelled: bool = False
    """Whether the client closed the connection before the end of the answer."""
    version: str = "HTTP/1.1"
    """The client's version of HTTP."""
    keep_alive: bool = True
    """Whether the connection stays open after the answer."""

    @property
    def path(self) -> str:
        """Its path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, without the ``?``; an empty string if there is no ``?``."""
        return self.target.partition("?")[2]

    def json(self) -> Any:
        """The body, decoded. Raises `ValueError` if it is not JSON, or nested too deep."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the body is nested too deep") from None

    @property
    def model(self) -> str | None:
        """The model that its body (JSON or a form) names."""
        found = body_fields(self).get("model")
        return found if isinstance(found, str) else None

    @property
    def messages(self) -> list[Any]:
        """The messages of a chat request. Raises `KeyError` for another kind of request."""
        found: list[Any] = self.json()["messages"]
        return found

    @property
    def text(self) -> str:
        """All text of its messages, prompt or input, one line each; an empty string if it has none."""
        return messages_text(body_fields(self))

    def starts(self) -> None:
        """Record the start of its answer."""
        self.first_sent = time.monotonic()

    def __repr__(self) -> str:
        return f"<ReceivedRequest {self.method} {self.target}>"


@dataclass
class _Log:
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    in_flight: int = 0
    peak: int = 0


class LoopbackServer:
    """A server on a free loopback port that keeps a log of its requests; subclasses decide how each is answered.

    ``with`` runs it in a separate thread, for code of any kind; ``async with`` runs it in the current event loop.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__()
        self._listener = Listener(self._serve, tls=tls, port=port)
        self._log = _Log()
        self._idle = threading.Event()
        self._idle.set()
        self._waiters: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event = asyncio.Event()

    async def _respond(self, peer: Peer, request: ReceivedRequest) -> bool:
        """Answer a request. Return whether the connection can carry another one."""
        raise NotImplementedError

    def _check(self) -> None:
        """Raise `AssertionError` for unexpected requests; called when the block ends without an exception."""

    def _not_http(self, line: str) -> None:
        """Called with a first line that is not one of HTTP/1.1, before the connection is closed."""

    async def _shut(self) -> None:
        """Called in the server's event loop before it ends, with the connections closed."""

    @property
    def url(self) -> str:
        """The base URL for a client, with ``/v1``."""
        return self._listener.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.port

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in the order of their arrival."""
        return self._log.requests

    @property
    def in_flight(self) -> int:
        """The number of requests in flight."""
        return self._log.in_flight

    @property
    def peak(self) -> int:
        """The largest number of requests that were in flight at one time."""
        return self._log.peak

    @property
    def connections(self) -> int:
        """The number of connections that clients have opened so far."""
        return self._listener.accepted

    def wait(self, timeout: float = 5.0) -> None:
        """Block until no request is in flight, so that `cancelled` and `ended` of all requests are final.

        `timeout` is in seconds. For code outside of the server's thread; in its event loop use
        ``await server.settled()``. Raises `TimeoutError`.
        """
        if not self._idle.wait(timeout):
            raise TimeoutError(f"{self.in_flight} requests are still being answered after {timeout} s")

    async def settled(self) -> None:
        """Wait until no request is in flight. Call it in the server's event loop."""
        while self._log.in_flight:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    # In the running event loop.

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._listener.__aexit__(kind, error, trace)
        finally:
            await self._shut()
        if error is None:
            self._check()

    # In a separate thread.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self._check()

    def start(self) -> None:
        """Start listening in a separate thread. ``with`` calls this on entry."""
        started = threading.Event()
        stop = self._stop = asyncio.Event()
        failures: list[BaseException] = []

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            try:
                try:
                    async with self._listener:
                        started.set()
                        await stop.wait()
                finally:
                    await self._shut()
            except BaseException as error:
                failures.append(error)
            finally:
                started.set()

        self._failures = failures
        self._thread = threading.Thread(target=asyncio.run, args=(main(),), name="openaiasync-fake-server", daemon=True)
        self._thread.start()
        if not started.wait(_STARTS_WITHIN):
            raise TimeoutError(f"the server's thread did not start within {_STARTS_WITHIN} s")
        if failures:
            self._thread.join()
            raise failures[0]

    def close(self) -> None:
        """Stop listening and drop requests in flight. Raises the exception of a function passed to `reply`."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        if self._failures:
            raise self._failures[0]

    # One connection.

    async def _serve(self, peer: Peer) -> None:
        while True:
            raw = await peer.request(continues=True)
            if raw.line.count(" ") != 2:
                self._not_http(raw.line)
                return
            request = self._received(raw, peer.number)
            self._begin(request)
            task = asyncio.current_task()
            peer.on_leave = task.cancel if task is not None else None
            try:
                if peer.left:
                    request.cancelled = True
                    return
                if not await self._respond(peer, request) or not request.keep_alive:
                    break
            except (asyncio.CancelledError, OSError):
                if not peer.left:
                    raise  # the server is being closed
                request.cancelled = True
                return
            finally:
                peer.on_leave = None
                self._end(request)
        await _close(peer)

    def _received(self, raw: RawRequest, connection: int) -> ReceivedRequest:
        method, target, version = raw.line.split(" ")
        fields = Headers(pairs=tuple(raw.fields))
        return ReceivedRequest(
            method, target, fields, raw.body, connection, time.monotonic(), version=version, keep_alive=raw.keep_alive
        )

    def _begin(self, request: ReceivedRequest) -> None:
        log = self._log
        log.requests.append(request)
        log.in_flight += 1
        log.peak = max(log.peak, log.in_flight)
        self._idle.clear()

    def _end(self, request: ReceivedRequest) -> None:
        request.ended = time.monotonic()
        self._log.in_flight -= 1
        if not self._log.in_flight:
            self._idle.set()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()


class FakeServer(LoopbackServer, Script):
    """A server with scripted answers that records requests in `requests`.

    ``with FakeServer() as server:`` runs it in a separate thread, for code of any kind; ``async with`` runs it in the
    current event loop. It listens on a free port of the loopback interface: ``server.url`` is the base URL for clients.
    ::

        with FakeServer() as server:
            server.fail(429, retry_after=0).reply("Blue.")
            assert ask_about_the_sky(server.url) == "Blue."
            assert [request.model for request in server.requests] == ["gpt-4o-mini"] * 2

    An unexpected request is refused with status 501; leaving the block then raises `AssertionError`, which
    shows how the request differs from the nearest expectation.
    """

    async def _respond(self, peer: Peer, request: ReceivedRequest) -> bool:
        answer = await self(request)
        request.status = answer.status
        return await send_answer(peer, answer, request)

    def _check(self) -> None:
        self.assert_expected()

    def _not_http(self, line: str) -> None:
        self.unexpected.append(f"not an HTTP/1.1 request: {line[:200]!r}")


async def send_answer(peer: Peer, answer: FakeAnswer, request: ReceivedRequest) -> bool:
    """Send the answer to a request and return whether the connection can be reused."""
    await asyncio.sleep(answer.delay)
    request.starts()
    if answer.error is not None:
        peer.reset()
        return False
    if answer.raw is not None:
        await peer.send(answer.raw)
    else:
        await _send_pieces(peer, answer, request)
    if answer.hang:
        await peer.gone()
    return answer.raw is None and answer.cut_after is None and not answer.hang


async def _send_pieces(peer: Peer, answer: FakeAnswer, request: ReceivedRequest) -> None:
    """Send head and body: with a Content-Length for a single piece, otherwise one chunk per piece.

    To a client of HTTP/1.0, which knows no chunks, the end of the connection is the end of the body.
    """
    pieces = [piece for piece in answer.pieces() if piece]
    bodiless = answer.status in (204, 304)
    several = answer.events is not None or not isinstance(answer.body, (bytes, str))
    chunked = several and request.version != "HTTP/1.0"
    fields = answer.raw_fields()
    if not request.keep_alive:
        fields += b"Connection: close\r\n"
    if chunked:
        fields += b"Transfer-Encoding: chunked\r\n"
    elif not several and not bodiless:
        fields += b"Content-Length: %d\r\n" % sum(map(len, pieces))
    reason = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else "Unknown"
    opening = f"HTTP/1.1 {answer.status} {reason}\r\n".encode() + fields + b"\r\n"
    if request.method == "HEAD" or bodiless:
        await peer.send(opening)
        return
    for piece, pause in zip(pieces[: answer.cut_after], answer.pauses(), strict=False):
        if pause:
            await peer.send(opening)
            opening = b""
            await asyncio.sleep(pause)
        await peer.send(opening + (b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece))
        opening = b""
    ends = answer.cut_after is None and not answer.hang
    await peer.send(opening + (_LAST_CHUNK if chunked and ends else b""))


async def _close(peer: Peer) -> None:
    """Close after everything written has been sent."""
    if not peer.writer.is_closing():
        peer.writer.close()
        await peer.writer.wait_closed()
