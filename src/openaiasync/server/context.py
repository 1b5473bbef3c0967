"""A request in progress, for the operations of the server kit, over ASGI: body in, JSON or events out.

`Presence` ends an operation early if the client left or does not read, or if the handler took too long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec

from .asgi import Message, Receive, Scope, Send
from .errors import HTTPError
from .form import UploadedFile, body_of, parse_boundary, parse_form
from .timer import LazyTimer
from .validation import decode_object

__all__ = ["DONE", "ClientLeft", "Presence", "RequestContext", "RequestLimits", "error_event", "event_of"]

DONE: Final = b"data: [DONE]\n\n"
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
_WATCH_AFTER: Final = 0.005  # seconds until the watch for a disconnected client begins
_TURN: Final = 0.01  # seconds after which a handler that never waits is interrupted for other tasks
_log = logging.getLogger("openaiasync.server")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request. Times in seconds, `None` for no limit; the size in bytes."""

    max_body: int = 32 * 1024 * 1024
    send_timeout: float = 30.0
    handler_timeout: float | None = None
    first_token_timeout: float | None = None


class ClientLeft(Exception):
    """The client has disconnected, or does not read its response."""


class RequestContext:
    """A request in progress.

    `arguments` are those of the path, percent-decoded. `fields` are header fields sent with the response. `identity` is
    the result of the authentication for the caller, `state` the value of the server's lifespan for this listener.
    """

    __slots__ = (
        "_limits",
        "_send",
        "answering",
        "arguments",
        "debug",
        "fields",
        "identity",
        "method",
        "operation",
        "receive",
        "scope",
        "size",
        "started",
        "state",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: RequestLimits) -> None:
        self.scope: Scope = scope
        self.method: str = scope["method"]
        self.arguments: dict[str, str] = {}
        self.operation: str = ""
        self.identity: Any = None
        self.state: Any = None
        self.debug: bool = False
        self.size: int = 0  # the size of the body in bytes, once it was read
        self.answering: bool = False  # the head of the response was sent
        self.status: int = 0  # the status of the response, 0 before it begins
        self.started: float = time.monotonic()
        self.fields: list[tuple[bytes, bytes]] = [(b"x-request-id", b"req_" + os.urandom(12).hex().encode())]
        self.receive: Receive = receive
        self._send = send
        self._limits = limits

    def header(self, name: bytes) -> bytes | None:
        """Return the first header field of this (lower-case) name, `None` without one."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        for field, value in headers:
            if field == name:
                return value
        return None

    def query(self) -> list[tuple[str, str]]:
        """Return the pairs of the query in order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    # ---------------------------------------------------------------- the body

    async def read(self) -> bytes:
        """Return the whole body. Raises `HTTPError` (413) above the limit, `ClientLeft` if the client leaves first."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._limits.max_body:
                raise HTTPError(413, f"The body of the request is larger than {self._limits.max_body} bytes.")
            pieces.append(piece)
            if not message.get("more_body", False):
                self.size = size
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    async def read_object(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raises `HTTPError`: 415 for another media type, 400 for other content."""
        given = self.header(b"content-type")
        if given is not None:
            media = given.partition(b";")[0].strip().lower()
            if media != b"application/json" and not media.endswith(b"+json"):
                raise HTTPError(415, "The content type must be application/json.")
        return decode_object(await self.read())

    async def read_form(self, kinds: Callable[[str], frozenset[str]]) -> dict[str, Any]:
        """Return the fields of the form in the body; `kinds` as for `body_of`. Raises `HTTPError` (400, 413, 415)."""
        boundary = parse_boundary(self.header(b"content-type"))
        parts: list[UploadedFile] = parse_form(boundary, await self.read())
        return body_of(parts, kinds)

    # ---------------------------------------------------------------- the response

    def presence(self) -> Presence:
        """Return a block that ends early once the client is gone or the handler is late.

        Enter it after reading the body.
        """
        return Presence(self.receive, self._limits)

    async def send_json(self, value: Any, status: int = 200, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Respond with a JSON document."""
        await self.send_body(msgspec.json.encode(value), status, (_JSON, *fields))

    async def send_bytes(self, body: bytes, media_type: bytes) -> None:
        """Respond with a body of any other media type."""
        await self.send_body(body, 200, ((b"content-type", media_type),))

    async def send_body(self, body: bytes, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Respond with a whole body. Raises `ClientLeft` if the client does not take it within the send timeout."""
        await self._start(status, ((b"content-length", b"%d" % len(body)), *fields))
        try:
            async with asyncio.timeout(self._limits.send_timeout):
                await self._send({"type": "http.response.body", "body": body})
        except TimeoutError:
            raise ClientLeft from None

    async def send_events(self, events: AsyncGenerator[bytes]) -> None:
        """Respond with server-sent events.

        A failure before the first event is raised, so that it can become an HTTP error. A later one ends the stream
        with an error event and without ``[DONE]``; so does a cancellation, which means that the server shuts down.
        """
        try:
            await self._send_pieces(events, _EVENTS)
            return
        except (ClientLeft, OSError):
            raise
        except (Exception, asyncio.CancelledError) as error:
            if not self.answering:
                raise
            if isinstance(error, asyncio.CancelledError):
                refusal = HTTPError(503, "The server is shutting down.", code="server_shutting_down")
            elif isinstance(error, HTTPError):
                refusal = error
            else:
                _log.exception("%s failed in the middle of its answer", self.operation)
                refusal = HTTPError(500, str(error) if self.debug else "The server failed to finish this answer.")
            async with asyncio.timeout(1.0):
                await self._send({"type": "http.response.body", "body": error_event(refusal)})
            if isinstance(error, asyncio.CancelledError):
                raise

    async def send_pieces(self, pieces: AsyncGenerator[bytes], fields: Callable[[bytes], bytes]) -> None:
        """Respond with bytes as they are produced. `fields` returns the media type for the first of them."""
        await self._send_pieces(pieces, fields)

    async def _send_pieces(
        self,
        pieces: AsyncGenerator[bytes],
        fields: Iterable[tuple[bytes, bytes]] | Callable[[bytes], bytes],
    ) -> None:
        send = self._send
        async with self.presence() as presence, aclosing(pieces):
            turn = time.monotonic() + _TURN
            async for data in pieces:
                if not self.answering:
                    presence.first_token()
                    await self._start(200, ((b"content-type", fields(data)),) if callable(fields) else fields)
                presence.expect_send()
                await send({"type": "http.response.body", "body": data, "more_body": True})
                presence.sent()
                if time.monotonic() > turn:
                    await asyncio.sleep(0)
                    turn = time.monotonic() + _TURN
            if not self.answering:
                await self._start(200, ((b"content-type", fields(b"")),) if callable(fields) else fields)
            presence.expect_send()
            await send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        spent = b"%d" % ((time.monotonic() - self.started) * 1000)
        headers = [*fields, *self.fields, (b"openai-processing-ms", spent), (b"openai-version", b"2020-10-01")]
        await self.begin(status, headers)

    async def begin(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Send the head of a response with these header fields and no others; `send_piece` follows."""
        self.answering = True
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def send_piece(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body after `begin`; `more` says whether another one follows."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


class Presence:
    """A block of work for a client that may leave, under the timeouts of the handler.

    It awaits `receive`, which nothing else needs once the body was read, and ends the block by cancelling it: with
    `ClientLeft` if the client disconnects or does not read, with `HTTPError` (504) if the handler is late.
    """

    __slots__ = ("_cause", "_first", "_receive", "_scope", "_send_timeout", "_timer", "_timers", "_watch_task")

    def __init__(self, receive: Receive, limits: RequestLimits) -> None:
        loop = asyncio.get_running_loop()
        self._receive = receive
        self._send_timeout = limits.send_timeout
        self._scope = asyncio.timeout(None)  # rescheduled to the current time, it ends the block
        self._cause: Exception = ClientLeft()
        self._timer = LazyTimer(loop, self._end)
        self._watch_task: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        if limits.handler_timeout is not None:
            self._timers.append(loop.call_later(limits.handler_timeout, self._late, limits.handler_timeout, "finish"))
        self._first: asyncio.TimerHandle | None = None
        if limits.first_token_timeout is not None:
            self._first = loop.call_later(
                limits.first_token_timeout, self._late, limits.first_token_timeout, "begin its answer"
            )
            self._timers.append(self._first)

    def first_token(self) -> None:
        """Note that the answer has begun."""
        if self._first is not None:
            self._first.cancel()

    def expect_send(self) -> None:
        """Start the send timeout."""
        self._timer.set(self._send_timeout)

    def sent(self) -> None:
        """Stop the send timeout."""
        self._timer.clear()

    def _late(self, seconds: float, what: str) -> None:
        message = f"The model did not {what} within {seconds:g} seconds."
        self._cause = HTTPError(504, message, code="handler_timeout")
        self._end()

    def _end(self) -> None:
        self._scope.reschedule(asyncio.get_running_loop().time())

    async def _watch(self) -> None:
        try:
            message: Message = await self._receive()
        except OSError:  # some ASGI servers raise it if the client has disconnected
            message = {"type": "http.disconnect"}
        # Any other message after the end of the body means that this server's `receive` does not wait for a
        # disconnection.
        if message["type"] == "http.disconnect":
            self._end()

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        # Most handlers without a model are done by then, and a task costs more than the rest of this block.
        self._timers.append(asyncio.get_running_loop().call_later(_WATCH_AFTER, self._start_watching))
        return self

    def _start_watching(self) -> None:
        self._watch_task = asyncio.create_task(self._watch())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.stop()
        for timer in self._timers:
            timer.cancel()
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._cause from None
        finally:
            if self._watch_task is not None:
                self._watch_task.cancel()
                await asyncio.wait([self._watch_task])


def event_of(value: Any, name: str = "") -> bytes:
    """Return a server-sent event with a JSON document, and with an ``event`` line if it has a name."""
    line = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (line, msgspec.json.encode(value))


def error_event(error: HTTPError) -> bytes:
    """Return the event that ends a stream with an error object."""
    return event_of(error.to_dict())
