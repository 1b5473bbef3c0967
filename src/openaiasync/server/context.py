"""A request in progress, for the operations of the server kit, over ASGI: body in, JSON or events out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from .asgi import Receive, Scope, Send
from .errors import HTTPError, described, http_error_in
from .form import UploadedFile, body_of, parse_boundary, parse_form
from .ids import random_hex
from .presence import ClientLeft, Presence, PresenceMonitor, RequestLimits, ResponseBroken, SendBlock
from .routing import NO_ARGUMENTS
from .validation import decode_object

__all__ = ["DONE", "RequestContext", "error_event", "event_of"]

DONE: Final = b"data: [DONE]\n\n"
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
_VERSION: Final = (b"openai-version", b"2020-10-01")
_TURN: Final = 0.01  # seconds after which a handler that never waits lets other requests run
_LAST_EVENT: Final = 1.0  # seconds to send the event that ends a broken stream
_log = logging.getLogger("openaiasync.server")


class RequestContext:
    """A request in progress.

    `arguments` are those of the path, percent-decoded. `fields` are header fields sent with the response. `identity` is
    the result of the authentication for the caller, `state` the value of the server's lifespan for this listener.
    """

    __slots__ = (
        "_block",
        "_limits",
        "_monitor",
        "_send",
        "answering",
        "arguments",
        "debug",
        "fields",
        "headers",
        "identity",
        "method",
        "operation",
        "receive",
        "scope",
        "size",
        "started",
        "state",
        "status",
        "turn",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limits: RequestLimits, monitor: PresenceMonitor
    ) -> None:
        self.scope: Scope = scope
        self.method: str = scope["method"]
        self.arguments: Mapping[str, str] = NO_ARGUMENTS
        self.operation: str = ""
        self.identity: Any = None
        self.state: Any = None
        self.debug: bool = False
        self.size: int = 0  # the size of the body in bytes, once it was read
        self.answering: bool = False  # the head of the response was sent
        self.status: int = 0  # the status of the response, 0 before it begins
        self.started: float = time.monotonic()
        self.turn: float = self.started + _TURN  # when the handler has to let other requests run
        self.fields: list[tuple[bytes, bytes]] = [(b"x-request-id", b"req_" + random_hex().encode())]
        self.receive: Receive = receive
        self._send = send
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(reversed(headers))
        """The header fields by their lower-case names; the first of a name counts."""
        self._limits = limits
        self._monitor = monitor
        self._block: Presence | None = None  # the last one of the handler

    def header(self, name: bytes) -> bytes | None:
        """Return the first header field of this (lower-case) name, `None` without one."""
        return self.headers.get(name)

    def query(self) -> list[tuple[str, str]]:
        """Return the pairs of the query in order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    # ---------------------------------------------------------------- the body

    async def read(self) -> bytes:
        """Return the whole body. Raises `HTTPError` (413) above the limit, `ClientLeft` if the client leaves first."""
        pieces: list[bytes] = []
        size = 0
        while True:
            try:
                message = await self.receive()
            except OSError:  # some ASGI servers raise it for a client that left
                raise ClientLeft from None
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._limits.max_body:
                raise HTTPError(413, f"The body of the request is larger than {self._limits.max_body} bytes.")
            if not message.get("more_body", False):
                self.size = size
                return b"".join((*pieces, piece)) if pieces else piece
            pieces.append(piece)

    def check_media_type(self) -> None:
        """Raise `HTTPError` (415) for a body that is not JSON by its media type."""
        given = self.headers.get(b"content-type")
        if given is not None and given != b"application/json":
            media = given.partition(b";")[0].strip().lower()
            if media != b"application/json" and not media.endswith(b"+json"):
                shown = media[:100].decode("latin-1")
                raise HTTPError(415, f"The content type must be application/json, not {shown!r}.")

    async def read_object(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raises `HTTPError`: 415 for another media type, 400 for other content."""
        self.check_media_type()
        return decode_object(await self.read())

    async def read_form(self, kinds: Callable[[str], frozenset[str]]) -> dict[str, Any]:
        """Return the fields of the form in the body; `kinds` as for `body_of`. Raises `HTTPError` (400, 413, 415)."""
        boundary = parse_boundary(self.header(b"content-type"))
        parts: list[UploadedFile] = parse_form(boundary, await self.read())
        return body_of(parts, kinds)

    # ---------------------------------------------------------------- the response

    def presence(self) -> Presence:
        """Return a block that ends early once the client is gone or the handler is late. Enter it after the body."""
        self._block = Presence(self.receive, self._monitor, self._limits.send_timeout, self._limits)
        return self._block

    async def let_others_run(self) -> None:
        """Let the event loop run once if `turn` is over. Raises `CancelledError` if the handler was ended.

        A handler may catch its cancellation, and must not escape its timeout that way, or serve a client that has left.
        """
        seen = self.turn
        if time.monotonic() < seen:
            return
        await asyncio.sleep(0)
        if self.turn == seen:  # several choices of one request share its turns
            self.turn = time.monotonic() + _TURN
        if self._block is not None and self._block.ended:
            raise asyncio.CancelledError

    def waiting(self, receive: Receive | None = None) -> Presence:
        """Return a block that ends early once the client is gone, without the timeouts of the handler.

        `receive` is watched in place of the request's own.
        """
        return Presence(receive or self.receive, self._monitor, self._limits.send_timeout)

    def send_json(
        self, value: Any, status: int = 200, fields: Iterable[tuple[bytes, bytes]] = ()
    ) -> Coroutine[Any, Any, None]:
        """Respond with a JSON document."""
        return self.send_body(msgspec.json.encode(value), status, (_JSON, *fields))

    async def send_bytes(self, body: bytes, media_type: bytes) -> None:
        """Respond with a body of any other media type."""
        await self.send_body(body, 200, ((b"content-type", media_type),))

    async def send_body(self, body: bytes, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Respond with a whole body. Raises `ClientLeft` if the client does not take it within the send timeout."""
        self.answering = True
        self.status = status
        headers = self._response_fields(fields)
        if status != 204:  # RFC 9110, 8.6
            headers.insert(0, (b"content-length", b"%d" % len(body)))
        block: Presence | SendBlock
        if self._block is not None and self._block.active:  # around this: the operation has not left it
            block = self._block
        else:
            block = SendBlock(self._monitor, self._limits.send_timeout)
        with block:
            try:
                await self._send({"type": "http.response.start", "status": status, "headers": headers})
                await self._send({"type": "http.response.body", "body": body})
            except OSError:
                raise ClientLeft from None

    async def send_events(self, events: AsyncGenerator[bytes]) -> None:
        """Respond with server-sent events.

        A failure before the first event is raised, so that it can become an HTTP error. A later one ends the stream
        with an error event and without ``[DONE]``; so does a cancellation, which means that the server shuts down.
        """
        try:
            await self._send_pieces(events, _EVENTS)
        except ClientLeft:
            raise
        except BaseException as error:
            if not self.answering:
                raise
            refusal = self.failure(error, "The server failed to finish this answer.")
            if refusal is None and not isinstance(error, asyncio.CancelledError):
                raise
            last = refusal or HTTPError(503, "The server is shutting down.", code="server_shutting_down")
            with suppress(TimeoutError, ClientLeft):
                async with asyncio.timeout(_LAST_EVENT):
                    await self.send_piece(error_event(last), more=False)
            if refusal is None:
                raise

    def failure(self, error: BaseException, message: str) -> HTTPError | None:
        """Return the error object for what a handler raised; `None` if the request was ended from outside.

        A failure is logged, and shown to the client as `message` alone, since it may hold secrets, unless the server is
        set to `debug`. A handler may raise anything: `SystemExit` must not end the server, and a `CancelledError` while
        this task is not being cancelled is a failure like any other, such as that of a task which the handler awaited.
        """
        if (given := http_error_in(error)) is not None:
            return given
        if isinstance(error, KeyboardInterrupt):
            return None
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is None or task.cancelling():
                return None
        _log.error("%s failed", self.operation or "an unknown route", exc_info=error)
        return HTTPError(500, described(error) if self.debug else message)

    async def send_pieces(self, pieces: AsyncGenerator[bytes], fields: Callable[[bytes], bytes]) -> None:
        """Respond with bytes as they are produced. `fields` returns the media type for the first of them.

        A failure before the first bytes is raised. A later one raises `ResponseBroken`: bytes cannot carry an error.
        """
        try:
            await self._send_pieces(pieces, fields)
        except ClientLeft:
            raise
        except BaseException as error:
            if not self.answering or self.failure(error, "") is None:
                raise
            raise ResponseBroken from None

    async def _send_pieces(
        self,
        pieces: AsyncGenerator[bytes],
        fields: Iterable[tuple[bytes, bytes]] | Callable[[bytes], bytes],
    ) -> None:
        send = self._send
        presence = self.presence()
        async with presence, aclosing(pieces):
            async for data in pieces:
                if not self.answering:
                    presence.first_token()
                    given = ((b"content-type", fields(data)),) if callable(fields) else fields
                    await self.begin(200, self._response_fields(given))
                presence.expect_send()
                try:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                except OSError:
                    raise ClientLeft from None
                presence.sent()
                if time.monotonic() >= self.turn:  # one item of the handler may become any number of pieces
                    await self.let_others_run()
            if not self.answering:
                given = ((b"content-type", fields(b"")),) if callable(fields) else fields
                await self.begin(200, self._response_fields(given))
            presence.expect_send()
            await self.send_piece(b"", more=False)

    def _response_fields(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        spent = b"%d" % ((time.monotonic() - self.started) * 1000)
        return [*fields, *self.fields, (b"openai-processing-ms", spent), _VERSION]

    async def begin(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Send the head of a response with these header fields and no others; `send_piece` follows.

        Both raise `ClientLeft` if the ASGI server reports that the client has left.
        """
        self.answering = True
        self.status = status
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": fields})
        except OSError:
            raise ClientLeft from None

    async def send_piece(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body after `begin`; `more` says whether another one follows."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except OSError:
            raise ClientLeft from None


def event_of(value: Any, name: str = "") -> bytes:
    """Return a server-sent event with a JSON document, and with an ``event`` line if it has a name."""
    line = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (line, msgspec.json.encode(value))


def error_event(error: HTTPError) -> bytes:
    """Return the event that ends a stream with an error object."""
    return event_of(error.to_dict())
