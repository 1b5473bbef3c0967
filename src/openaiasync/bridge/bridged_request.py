"""Convert a request of the HTTP library to one of the engine: fields, body, timeouts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ..core.codec.endpoint import Endpoint, Request
from ..core.model.headers import Headers
from ..engine.config import CallConfig, CallTimeouts, sooner
from ..transport.base import AttemptTimeouts

__all__ = ["BridgedBody", "bridge_request", "is_outer_retry"]

READ_FIRST = 1 << 20  # bytes of a form up to which it is read before it is sent, so that it can be sent again
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_FILLED_IN = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_ROWS: dict[str, Endpoint] = {}


class BridgedBody:
    """A body streamed from the HTTP library; `sent` tells whether its end was reached."""

    rewindable: bool = False
    content_type: str = ""

    def __init__(self, stream: Any, length: int | None) -> None:
        self._stream = stream
        self.length: int | None = length
        self.sent: bool = False

    async def open(self) -> AsyncIterator[bytes]:
        """Yield the pieces; can be iterated once."""
        async for piece in self._stream:
            yield piece
        self.sent = True


async def bridge_request(library: Any, request: Any, config: CallConfig) -> tuple[Request, CallTimeouts]:
    """Return the engine's request for one of the library's, and its timeouts: the shorter of the request's and the
    bridge's.

    Raises the library's ``LocalProtocolError`` for a ``Host`` that is not the URL's.
    """
    host = request.headers.get("host", "")
    if host and host.lower() != request.url.netloc.decode("ascii").lower():
        raise library.LocalProtocolError("the bridge sends the URL's host as Host, no other", request=request)
    body = await _body(library, request)
    bridged = Request(_row(request.method), request.url.raw_path.decode("ascii"), body)
    bridged.headers = _fields(request)
    bridged.stream = isinstance(body, bytes) and _wants_events(request, body)
    return bridged, _timeouts(config, bridged.stream, request.extensions.get("timeout") or {})


def is_outer_retry(request: Any) -> bool:
    """Return whether this is a retry by the official client, which we do not multiply by ours."""
    return bool(request.headers.get("x-stainless-retry-count", "0") != "0")


def _row(method: str) -> Endpoint:
    row = _ROWS.get(method)
    if row is None:
        row = _ROWS[method] = Endpoint(method, method, "/", codec="bytes")
    return row


def _fields(request: Any) -> dict[str, Any]:
    """Return the header fields unchanged, suppressing those that the engine would add."""
    table = Headers(
        pairs=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw)
    )
    fields: dict[str, Any] = {name: None for name in _FILLED_IN if name not in table}
    for name in dict.fromkeys(name for name, _ in table.raw_pairs() if name.lower() not in _FRAMING):
        # RFC 9110, 5.3; the values of a cookie are the exception (RFC 6265, 5.4).
        fields[name] = ("; " if name.lower() == "cookie" else ", ").join(table.get_list(name))
        if name.lower() == "accept-encoding":
            # Request only codings that can be decoded in pieces and under a cap.
            fields[name] = "gzip, deflate" if "gzip" in fields[name] else "identity"
    return fields


async def _body(library: Any, request: Any) -> Any:
    """Return the body: bytes if it is in memory or a short form, else a `BridgedBody`; `None` without one."""
    try:
        content: bytes = request.content
    except library.RequestNotRead:
        text = request.headers.get("content-length", "")
        length = int(text) if text.isdecimal() else None
        # A synchronous stream can be read without waiting.
        at_hand = isinstance(request.stream, library.SyncByteStream)
        if length is None or length > READ_FIRST or not at_hand:
            return BridgedBody(request.stream, length)
        content = await request.aread()
    return content or None


class _RequestSummary(msgspec.Struct):
    """The fields of a request's JSON that are inspected."""

    stream: object = None


_glance = msgspec.json.Decoder(_RequestSummary)


def _wants_events(request: Any, body: bytes) -> bool:
    if "json" not in request.headers.get("content-type", ""):
        return False
    try:
        return _glance.decode(body).stream is True
    except (ValueError, RecursionError):
        return False


def _timeouts(config: CallConfig, stream: bool, timeout: dict[str, float | None]) -> CallTimeouts:
    """Return the shorter of the bridge's timeouts and the request's."""
    read = timeout.get("read")
    connect = sooner(config.connect_timeout, timeout.get("connect"))
    start, stall = sooner(config.start_timeout, read), sooner(config.stall_timeout, read)
    in_head = sooner(start, stall) if stream else stall
    of_attempt = AttemptTimeouts(connect, start, None, in_head, config.queue_timeout)
    return CallTimeouts(of_attempt, connect, start, stall, None, None, config.deadline, config.queue_timeout)
