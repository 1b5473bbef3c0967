"""One request and its response: the ASGI `receive` and `send` of the built-in server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from ..core.http.server_side import RequestHead, ResponseFraming, status_line
from ..lazy import resolve_annotations
from .asgi import AsgiApp, Message, Scope
from .errors import HTTPError

if TYPE_CHECKING:
    from .http_connection import ServerConnection

__all__ = ["ClientGone", "ServerExchange", "error_response", "http_date"]

_log = logging.getLogger("openaiasync.server")
_MAX_UNREAD: Final = 256 * 1024
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_standard: tuple[int, bytes] = (0, b"")


def http_date(now: float) -> str:
    """Return a Unix time as fields have it (RFC 9110, 5.6.7). (`email.utils` would add a tenth to the kit's import.)"""
    at = time.gmtime(now)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT"


def _standard_fields() -> bytes:
    """Return the lines of ``Date`` and ``Server``, made once a second."""
    global _standard
    now = int(time.time())
    if _standard[0] != now:
        _standard = (now, f"date: {http_date(now)}\r\nserver: openaiasync\r\n".encode())
    return _standard[1]


def error_response(status: int, message: str) -> bytes:
    """Return a whole response with an OpenAI error object, for requests that never reach the application.

    The connection closes after it.
    """
    body = msgspec.json.encode(HTTPError(status, message).to_dict())
    fields = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    if status == 503:
        fields = b"retry-after: 1\r\n" + fields
    return status_line(status) + _standard_fields() + fields + body


class ClientGone(OSError):
    """Raised by `send` if the client has disconnected, or does not read its response."""


class ServerExchange:
    """Runs the application for one request. The connection passes in the body, and reports a disconnection."""

    __slots__ = (
        "_connection",
        "_end_delivered",
        "_framing",
        "_news",
        "_on_gone",
        "_start",
        "_unread",
        "_unread_size",
        "_wants_continue",
        "body_ended",
        "ended",
        "gone",
        "head",
        "keep_alive",
        "task",
    )

    def __init__(self, connection: ServerConnection, head: RequestHead) -> None:
        self._connection = connection
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._end_delivered = False  # the application has received the end of the body
        self._wants_continue = head.expects_continue
        self._news: asyncio.Event | None = None
        self._on_gone: Callable[[], None] | None = None
        self._start: Message | None = None  # http.response.start, held back until the first body message
        self._framing: ResponseFraming | None = None  # set once the head of the response is written
        self.head: RequestHead = head
        self.body_ended: bool = head.length == 0
        self.keep_alive: bool = head.keep_alive
        self.ended: bool = False  # the response is complete
        self.gone: bool = False  # the client has disconnected
        self.task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether so much of the body is unread by the application that reading from the client should pause."""
        return self._unread_size > _MAX_UNREAD

    def add_body(self, piece: bytes, ended: bool) -> None:
        """Add a piece of the request's body; `ended` says whether it is the last one."""
        if piece:
            self._unread.append(piece)
            self._unread_size += len(piece)
            self._wants_continue = False
        if ended:
            self.body_ended = True
        self._wake()

    def leave(self) -> None:
        """Note that the client has disconnected: `receive` reports it, `send` raises."""
        self.gone = True
        self._wake()
        if self._on_gone is not None:
            self._on_gone()

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` when the client disconnects, at once if it has; `None` removes it.

        An application in the same process may use it in place of a task that waits for `receive`.
        """
        self._on_gone = callback
        if callback is not None and self.gone:
            callback()

    def refuse(self, status: int, message: str) -> None:
        """End a request whose body is malformed or late.

        The response is an error; a response that has begun is cut. The application sees a disconnected client.
        """
        if self._framing is None and not self.gone:
            self._connection.write(error_response(status, message))
        self.keep_alive = False
        self.leave()

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        """Call the application and ensure a complete response. Its exceptions are logged, and the response is a 500."""
        try:
            await app(scope, self.receive, self.send)
        except ClientGone:
            pass
        except Exception:
            if not self.gone:
                _log.exception("The application failed on %s %s", self.head.method, self.head.path)
        finally:
            if not self.ended and not self.gone:
                self.keep_alive = False
                if self._framing is None:
                    self._connection.write(error_response(500, "The server failed to answer this request."))
                else:  # a truncated response must not look like a complete one
                    self._connection.abort()
            self._connection.finished(self)

    async def receive(self) -> Message:
        """Return the next piece of the request's body; after its end, wait for the client to disconnect."""
        if self._wants_continue and self._framing is None and not self.gone:
            self._wants_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.gone or self.ended:
                return {"type": "http.disconnect"}
            if self._unread or (self.body_ended and not self._end_delivered):
                unread = self._unread
                body = unread[0] if len(unread) == 1 else b"".join(unread)
                unread.clear()
                self._unread_size = 0
                self._end_delivered = self.body_ended
                self._connection.body_read()
                return {"type": "http.request", "body": body, "more_body": not self._end_delivered}
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()

    async def send(self, message: Message) -> None:
        """Send a message of the response, waiting while the client does not read.

        Raises `ClientGone` if the client has disconnected, `RuntimeError` for messages out of order.
        """
        if self.gone:
            raise ClientGone("the client has disconnected")
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
            return
        if kind != "http.response.body" or self._start is None or self.ended:
            raise RuntimeError(f"{kind} is out of order")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        framing = self._framing
        if framing is None:
            framing = self._begin(self._start, None if more else len(body))
            data = framing.head + framing.body(body, more)
            self._framing = framing
        else:
            data = framing.body(body, more)
        self._connection.write(data)
        if not more:
            self.ended = True
            self._wake()
        await self._connection.drain()
        if self.gone and more:
            raise ClientGone("the client has disconnected")

    def _begin(self, start: Message, whole: int | None) -> ResponseFraming:
        # The rest of an unfinished upload would have to be read before the next request: closing is cheaper.
        keep_alive = self.keep_alive and self.body_ended and not self._connection.closing
        framing = ResponseFraming(
            self.head, start["status"], start.get("headers", ()), keep_alive, whole, _standard_fields()
        )
        self.keep_alive = framing.keep_alive
        return framing


resolve_annotations(__name__)
