"""One API call as the handlers see it: body and query in, JSON or events out, and whether the client is still there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec

from .asgi import Message, Receive, Scope, Send
from .errors import HTTPError
from .form import (
    UploadedFile,
    body_of,
    parse_boundary,
    parse_form,
)
from .timer import LazyTimer
from .validation import decode_object

__all__ = ["DONE", "ClientLeft", "Event", "Presence", "RequestContext", "event_of"]

Event = tuple[bytes, int]
"""Bytes of a server-sent event, and how many tokens the model spends on it."""

DONE: Final[Event] = (b"data: [DONE]\n\n", 0)
_MAX_TOKEN_DELAY: Final = 10.0
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


class ClientLeft(Exception):
    """The client has gone, or does not read what it is sent."""


class RequestContext:
    """A request in progress. `arguments` are the path's, percent-decoded; `fields` go with whatever is answered."""

    __slots__ = (
        "_max_body",
        "_receive",
        "_send",
        "_send_timeout",
        "_started",
        "answering",
        "arguments",
        "fields",
        "method",
        "scope",
        "size",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body: int, send_timeout: float) -> None:
        self.scope: Scope = scope
        self.method: str = scope["method"]
        self.arguments: dict[str, str] = {}
        self.size: int = 0  # of the body, in bytes, once it was read
        self.answering: bool = False  # the head of the answer was sent
        self.fields: list[tuple[bytes, bytes]] = [(b"x-request-id", b"req_" + os.urandom(12).hex().encode())]
        self._receive = receive
        self._send = send
        self._max_body = max_body
        self._send_timeout = send_timeout
        self._started = time.monotonic()

    def header(self, name: bytes) -> bytes | None:
        """The first header field of this (lower-case) name."""
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        for field, value in headers:
            if field == name:
                return value
        return None

    def query(self) -> list[tuple[str, str]]:
        """The query's pairs in order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    async def read(self) -> bytes:
        """The whole body. Raises `HTTPError` (413) above the cap, `ClientLeft` when the client goes before its end."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._max_body:
                raise HTTPError(413, f"The body is larger than {self._max_body} bytes.")
            pieces.append(piece)
            if not message.get("more_body", False):
                self.size = size
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]

    async def read_object(self) -> dict[str, Any]:
        """The JSON object in the body. Raises `HTTPError`: 415 for another media type, 400 for what is no object."""
        given = self.header(b"content-type")
        if given is not None:
            media = given.partition(b";")[0].strip().lower()
            if media != b"application/json" and not media.endswith(b"+json"):
                raise HTTPError(415, "The content type must be application/json.")
        return decode_object(await self.read())

    async def read_form(self, arrays: Sequence[str] = ()) -> dict[str, Any]:
        """The fields of the form in the body, by `body_of`. Raises `HTTPError`: 415 for another media type, 400."""
        boundary = parse_boundary(self.header(b"content-type"))
        parts: list[UploadedFile] = parse_form(boundary, await self.read())
        return body_of(parts, arrays)

    def token_delay(self, default: float) -> float:
        """The model's pause before a token in seconds, or the one the query asks for (``?token_delay=0.05``)."""
        if not self.scope["query_string"]:
            return default
        text = dict(self.query()).get("token_delay")
        if text is None:
            return default
        try:
            delay = float(text)
        except ValueError:
            delay = -1.0
        if not 0 <= delay <= _MAX_TOKEN_DELAY:
            message = f"'token_delay' must be a number of seconds from 0 to {_MAX_TOKEN_DELAY:g}."
            raise HTTPError(400, message, param="token_delay", code="invalid_value")
        return delay

    async def work(self, seconds: float) -> None:
        """Take the time that a model would; ends with `ClientLeft` when the client goes."""
        if seconds:
            async with self.presence():
                await asyncio.sleep(seconds)

    def presence(self) -> Presence:
        """A block that ends with `ClientLeft` once the client is gone. Only after the body was read."""
        return Presence(self._receive, self._send_timeout)

    async def send_json(self, value: Any, status: int = 200, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer with a JSON document."""
        await self._send_body(msgspec.json.encode(value), status, (_JSON, *fields))

    async def send_bytes(self, body: bytes, media_type: bytes) -> None:
        """Answer with anything else."""
        await self._send_body(body, 200, ((b"content-type", media_type),))

    async def _send_body(self, body: bytes, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        await self._start(status, ((b"content-length", b"%d" % len(body)), *fields))
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._send({"type": "http.response.body", "body": body})
        except TimeoutError:
            raise ClientLeft from None

    async def send_events(self, events: Iterable[Event], token_delay: float) -> None:
        """Answer with server-sent events, `token_delay` seconds before each token; ends when the client leaves."""
        await self._send_pieces(events, token_delay, _EVENTS)

    async def send_pieces(self, pieces: Iterable[Event], token_delay: float, media_type: bytes) -> None:
        """Answer with bytes in pieces as they are made, paced like `send_events`."""
        await self._send_pieces(pieces, token_delay, ((b"content-type", media_type),))

    async def _send_pieces(
        self, pieces: Iterable[Event], token_delay: float, fields: Iterable[tuple[bytes, bytes]]
    ) -> None:
        async with self.presence() as presence:
            await self._start(200, fields)
            for data, tokens in pieces:
                # Even without a delay the loop gets its turn, or a long answer would hold up all other calls.
                await asyncio.sleep(token_delay * tokens)
                presence.expect_send()
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                presence.sent()
            presence.expect_send()
            await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
        spent = b"%d" % ((time.monotonic() - self._started) * 1000)
        headers = [*fields, *self.fields, (b"openai-processing-ms", spent), (b"openai-version", b"2020-10-01")]
        self.answering = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


class Presence:
    """Watches `receive` (the body must have been read) while work is done, and how long each `send` takes."""

    def __init__(self, receive: Receive, send_timeout: float) -> None:
        self._receive = receive
        self._send_timeout = send_timeout
        self._scope = asyncio.timeout(None)  # its end is brought forward to now when the client is gone
        self._timer = LazyTimer(asyncio.get_running_loop(), self._end)
        self._watcher: asyncio.Task[None] | None = None

    def expect_send(self) -> None:
        """A send begins: it has the send timeout to end."""
        self._timer.set(self._send_timeout)

    def sent(self) -> None:
        self._timer.clear()

    def _end(self) -> None:
        self._scope.reschedule(asyncio.get_running_loop().time())

    async def _watch(self) -> None:
        message: Message = {}
        try:
            while message.get("type") != "http.disconnect":
                message = await self._receive()
        except OSError:
            pass  # a server may say it like this, too
        self._end()

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.stop()
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise ClientLeft from None
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
                await asyncio.wait([self._watcher])


def event_of(value: Any, tokens: int = 0, *, named: bool = False) -> Event:
    """A server-sent event that carries a JSON document; `named` events say its ``type`` before it."""
    name = b"event: %b\n" % value["type"].encode() if named else b""
    return b"%bdata: %b\n\n" % (name, msgspec.json.encode(value)), tokens
