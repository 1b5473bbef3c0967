"""The base of adapters to other HTTP libraries: responses built on reading the next bytes, start timeouts, bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Literal

from .base import AttemptTimeouts, TransportError, TransportRequest, earlier, over_cap

__all__ = ["AdapterResponse", "close_soon", "time_limit", "whole_body"]

MAX_BODY = 1 << 30  # bytes of a request that is held in memory


class AdapterResponse:
    """A `TransportResponse` for transports over another library: a subclass gets the bytes and closes the response.

    `_next` waits for some bytes of the body, ``b""`` at its exact end, and raises `TransportError` if the body breaks
    off; `_drop` closes at once, without waiting. Timeouts, caps, cancellation and reading after the end are handled
    here.
    """

    connected: float = 0.0
    reader: object = None
    framed: bool = True
    """Whether the end of the body is one of its framing; set to `False` where it is that of the connection."""

    def __init__(self, status: int, raw_fields: bytes) -> None:
        """Create a response; `raw_fields` are the field lines, each with its CRLF."""
        self.status = status
        self.raw_fields = raw_fields
        self.ended: bool = False
        self._at: float | None = None
        self._clock = "stall"
        self._failure: TransportError | None = None
        self._waiting: asyncio.Timeout | None = None

    async def _next(self) -> bytes:
        raise NotImplementedError

    def _drop(self) -> None:
        raise NotImplementedError

    @property
    def exact(self) -> bool:
        return self.ended and self.framed

    def expire(self, at: float | None, clock: str) -> None:
        self._at, self._clock = at, clock

    async def pieces(self) -> list[bytes]:
        if self.ended:
            return []
        if self._failure is not None:
            raise self._failure
        self._waiting = asyncio.timeout_at(self._at)
        try:
            async with self._waiting:
                piece = await self._next()
        except TimeoutError:
            message = f"the {self._clock} timeout expired"
            error = TransportError("timeout", message, clock=self._clock, sent=True, answered=True)
            raise self._fail(error) from None
        except TransportError as error:
            raise self._fail(error) from error.__cause__
        except BaseException:
            self._waiting = None
            self.abort()
            raise
        finally:
            self._waiting = None
        self.ended = not piece
        return [piece] if piece else []

    async def read(self, cap: int) -> bytes:
        body = bytearray()
        while pieces := await self.pieces():
            body += pieces[0]
            if len(body) > cap:
                raise self._fail(TransportError("protocol", over_cap(cap), sent=True, answered=True))
        return bytes(body)

    def take(self) -> bytes | None:
        return None

    def abort(self) -> None:
        self.end("the exchange was aborted by its caller")

    def end(self, message: str) -> None:
        """Close with kind ``"closed"``, which a waiting task is raised too; no effect after the end."""
        if not self.ended:
            self._fail(TransportError("closed", message, sent=True, answered=True))
            if self._waiting is not None and not self._waiting.expired():
                self._waiting.reschedule(0)

    def _fail(self, error: TransportError) -> TransportError:
        """Close and record the first failure."""
        if self._failure is None:
            self._failure = error
            self._drop()
        return self._failure


@contextlib.asynccontextmanager
async def time_limit(timeouts: AttemptTimeouts, clock: Literal["connect", "start"] = "start") -> AsyncGenerator[None]:
    """Limit connecting, or sending and waiting for a head, by this timeout and by `until`.

    Raises `TransportError` of kind ``"timeout"`` when one of them expires.
    """
    seconds: float | None = getattr(timeouts, clock)
    end = None if seconds is None else asyncio.get_running_loop().time() + seconds
    at, ends = earlier(timeouts.until, "until", end, clock)
    timeout = asyncio.timeout_at(at)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise TransportError("timeout", f"the {ends} timeout expired", clock=ends, sent=clock == "start") from None


_closing: set[asyncio.Task[None]] = set()


def close_soon(closing: Coroutine[Any, Any, None]) -> None:
    """Run the closing of another library's response, which can only be awaited; it ends within a turn of the loop."""
    with contextlib.suppress(RuntimeError):  # the loop may be gone
        task = asyncio.get_running_loop().create_task(closing)
        _closing.add(task)
        task.add_done_callback(_closing.discard)


async def whole_body(request: TransportRequest) -> bytes:
    """Return the body of a request as bytes. Raises `TransportError` of kind ``"upload"``, as sending it would."""
    if isinstance(request.body, bytes):
        return request.body
    body = bytearray()
    try:
        async for piece in request.body:
            body += piece
            if len(body) > MAX_BODY:
                raise ValueError(f"the body has more than the {MAX_BODY} bytes that are held in memory")
        if request.length is not None and len(body) != request.length:
            raise ValueError(f"the body has {len(body)} bytes instead of its declared length of {request.length}")
    except Exception as error:
        raise TransportError("upload", "the source of the request's body failed", sent=True) from error
    return bytes(body)
