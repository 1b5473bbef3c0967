"""A transport over an ``AsyncClient`` of httpx2 (or httpx, whose interface is the same): HTTP/2, odd proxies, mounts.

Neither library is imported here: the caller brings the client. Its own timeouts are switched off, ours hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from typing import Any

from .base import (
    AttemptTimeouts,
    TransportError,
    TransportRequest,
    over_cap,
)

__all__ = ["HTTPXTransport"]

_KINDS = {"ConnectError": "refused", "ReadError": "reset", "WriteError": "reset", "RemoteProtocolError": "eof"}
_OF_THE_CODED = (b"content-encoding", b"content-length")  # fields that do not hold for the decoded bytes
_BEFORE = ("ConnectTimeout", "PoolTimeout")  # nothing was sent


class HTTPXTransport:
    """A `Transport` that sends through an ``AsyncClient``; closing it closes that client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def send(self, out: TransportRequest, clocks: AttemptTimeouts) -> HTTPXIncoming:
        """See `Transport.send`."""
        scheme, host, port = out.origin
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{out.target}"
        fields = [*out.fields, *out.credentials.fields()]
        if out.length is not None:
            fields.append(("Content-Length", str(out.length)))
        limits = {"connect": clocks.connect, "read": None, "write": None, "pool": None}
        request = self._client.build_request(
            out.method, url, headers=fields, content=out.body, extensions={"timeout": limits}
        )
        now = asyncio.get_running_loop().time()
        start_at = None if clocks.start is None else now + clocks.start
        at, clock = (clocks.until, "until") if _before(clocks.until, start_at) else (start_at, "start")
        try:
            with _errors(clock, answered=False):
                async with asyncio.timeout_at(at):
                    response = await self._client.send(request, stream=True, follow_redirects=False)
        finally:
            for name, _ in out.credentials.fields():  # the request stays within reach of errors, as their `.request`
                request.headers.pop(name, None)
        return HTTPXIncoming(response)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._client.aclose()


class HTTPXIncoming:
    """The `Incoming` of one response."""

    connected: float = 0.0

    def __init__(self, response: Any) -> None:
        self._response = response
        # A response that was made of bytes (by a mock transport) or that an event hook has read can only be had whole
        # and decoded.
        was_read: bool = response.is_stream_consumed
        self._pieces: AsyncIterator[bytes] = _content_of(response) if was_read else response.aiter_raw()
        self._at: float | None = None
        self._clock = "stall"
        self.status: int = response.status_code
        decoded = _OF_THE_CODED if was_read and "content-encoding" in response.headers else ()
        fields = [pair for pair in response.headers.raw if pair[0].lower() not in decoded]
        self.raw_fields: bytes = b"".join(b"%b: %b\r\n" % pair for pair in fields)
        self.ended: bool = False

    def expire(self, at: float | None, clock: str) -> None:
        self._at, self._clock = at, clock

    @property
    def exact(self) -> bool:
        fields = self._response.headers
        return self.ended and ("content-length" in fields or "transfer-encoding" in fields)

    async def pieces(self) -> list[bytes]:
        try:
            with _errors(self._clock, answered=True):
                async with asyncio.timeout_at(self._at):
                    return [await anext(self._pieces)]
        except StopAsyncIteration:
            await self._response.aclose()
            self.ended = True
            return []

    async def read(self, cap: int) -> bytes:
        body = bytearray()
        while pieces := await self.pieces():
            body += pieces[0]
            if len(body) > cap:
                raise TransportError("protocol", over_cap(cap), sent=True, answered=True)
        return bytes(body)

    def take(self) -> bytes | None:
        return None

    def abort(self) -> None:
        if not self.ended:
            # httpx can only close with an await; the task ends by itself within a turn of the loop.
            self.ended = True
            with contextlib.suppress(RuntimeError):
                task = asyncio.get_running_loop().create_task(self._response.aclose())
                _closing.add(task)
                task.add_done_callback(_closing.discard)


async def _content_of(response: Any) -> AsyncIterator[bytes]:
    if content := response.content:
        yield content


_closing: set[asyncio.Task[None]] = set()


def _before(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)


@contextlib.contextmanager
def _errors(clock: str, *, answered: bool) -> Generator[None]:
    """Foreign errors as ours, by their class."""
    try:
        yield
    except TimeoutError:
        message = f"the {clock} clock ran out"
        raise TransportError("timeout", message, clock=clock, sent=True, answered=answered) from None
    except (StopAsyncIteration, TransportError):
        raise
    except Exception as error:
        name = type(error).__name__
        message = f"{name} in http_client: {error}".removesuffix(": ")
        if any(base.__name__ == "TimeoutException" for base in type(error).__mro__):
            clock = "stall" if answered else "connect" if name in _BEFORE else "start"
            raise TransportError("timeout", message, clock=clock, sent=clock != "connect", answered=answered) from error
        kind = _KINDS.get(name, "protocol")
        raise TransportError(kind, message, sent=kind != "refused", answered=answered) from error
