"""A transport over an ``AsyncClient`` of httpx2 (or httpx, whose interface is the same): HTTP/2, other kinds of
proxies, mounts.

Neither library is imported here: the caller passes the client. Its own timeouts are switched off; ours apply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from .adapter import AdapterResponse, close_soon, time_limit
from .base import AttemptTimeouts, TransportError, TransportRequest

__all__ = ["HTTPXTransport"]

_KINDS = {"ConnectError": "refused", "ReadError": "reset", "WriteError": "reset", "RemoteProtocolError": "eof"}
_OF_THE_CODED = (b"content-encoding", b"content-length")  # fields that do not apply to the decoded bytes
_BEFORE = ("ConnectTimeout", "PoolTimeout")  # nothing was sent


class HTTPXTransport:
    """A `Transport` that sends through an ``AsyncClient``; closing it closes that client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> AdapterResponse:
        """See `Transport.send`."""
        limits = {"timeout": {"connect": timeouts.connect, "read": None, "write": None, "pool": None}}
        fields, body = request.fields_to_send(), request.body
        made = self._client.build_request(request.method, request.url, headers=fields, content=body, extensions=limits)
        try:
            with _errors(answered=False):
                async with time_limit(timeouts):
                    return _Response(await self._client.send(made, stream=True, follow_redirects=False))
        finally:
            for name, _ in request.credentials.fields():  # errors of that library refer to its request
                made.headers.pop(name, None)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._client.aclose()


class _Response(AdapterResponse):
    def __init__(self, response: Any) -> None:
        # A response built from bytes (by a mock transport) or read by an event hook is complete and decoded.
        was_read: bool = response.is_stream_consumed
        left_out = _OF_THE_CODED if was_read and "content-encoding" in response.headers else ()
        fields = [pair for pair in response.headers.raw if pair[0].lower() not in left_out]
        super().__init__(response.status_code, b"".join(b"%b: %b\r\n" % pair for pair in fields))
        self.framed = "content-length" in response.headers or "transfer-encoding" in response.headers
        self._response = response
        self._pieces = response.aiter_bytes() if was_read else response.aiter_raw()

    async def _next(self) -> bytes:
        with _errors(answered=True):
            async for piece in self._pieces:
                if piece:
                    return bytes(piece)
            await self._response.aclose()
        return b""

    def _drop(self) -> None:
        close_soon(self._response.aclose())  # which can only be awaited


@contextlib.contextmanager
def _errors(*, answered: bool) -> Generator[None]:
    """Raise the library's errors as `TransportError`, by their class."""
    try:
        yield
    except (TransportError, TimeoutError):
        raise
    except Exception as error:
        name = type(error).__name__
        kind, clock = _KINDS.get(name, "protocol"), None
        if any(base.__name__ == "TimeoutException" for base in type(error).__mro__):
            kind, clock = "timeout", "stall" if answered else "connect" if name in _BEFORE else "start"
        sent = kind != "refused" and clock != "connect"
        message = f"{name} in http_client: {error}".removesuffix(": ")
        raise TransportError(kind, message, clock=clock, sent=sent, answered=answered) from error
