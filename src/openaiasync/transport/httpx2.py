"""A transport over an ``AsyncClient`` of httpx2 (or httpx, whose interface is the same): HTTP/2, other kinds of
proxies, mounts.

Neither library is imported here: the caller passes the client. Its own timeouts are switched off; ours apply.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

from .adapter import AdapterResponse, time_limit
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
        scheme, host, port = request.origin
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{request.target}"
        fields = [*request.fields, *request.credentials.fields()]
        if request.length is not None:
            fields.append(("Content-Length", str(request.length)))
        limits = {"timeout": {"connect": timeouts.connect, "read": None, "write": None, "pool": None}}
        made = self._client.build_request(request.method, url, headers=fields, content=request.body, extensions=limits)
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
        self._response = response
        self._content: bytes | None = response.content if was_read else None
        self._pieces = None if was_read else response.aiter_raw()

    @property
    def exact(self) -> bool:
        fields = self._response.headers
        return self.ended and ("content-length" in fields or "transfer-encoding" in fields)

    async def _next(self) -> bytes:
        if self._pieces is None:
            content, self._content = self._content, b""
            return content or b""
        with _errors(answered=True):
            while (piece := await anext(self._pieces, None)) is not None:
                if piece:
                    return bytes(piece)
            await self._response.aclose()
        return b""

    def _drop(self) -> None:
        with contextlib.suppress(RuntimeError):  # httpx can only close with an await; the task ends within a turn
            task = asyncio.get_running_loop().create_task(self._response.aclose())
            _closing.add(task)
            task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()


@contextlib.contextmanager
def _errors(*, answered: bool) -> Generator[None]:
    """Raise the library's errors as `TransportError`, by their class."""
    try:
        yield
    except (TransportError, TimeoutError):
        raise
    except Exception as error:
        name = type(error).__name__
        message = f"{name} in http_client: {error}".removesuffix(": ")
        if any(base.__name__ == "TimeoutException" for base in type(error).__mro__):
            clock = "stall" if answered else "connect" if name in _BEFORE else "start"
            raise TransportError("timeout", message, clock=clock, sent=clock != "connect", answered=answered) from error
        kind = _KINDS.get(name, "protocol")
        raise TransportError(kind, message, sent=kind != "refused", answered=answered) from error
