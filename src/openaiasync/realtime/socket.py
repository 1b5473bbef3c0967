"""One open WebSocket: receiving, sending, and its end.

Every end becomes one of the library's errors, except the caller's own `close` and close code 1000.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ..core.model.meta import RequestInfo
from ..engine.engine import Engine
from ..errors import APITimeoutError, ClientClosedError, OpenAIError
from ..lazy import resolve_annotations
from .reconnect import WebSocketConnectionClosedError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed

    from .dial import Dialled

__all__ = ["Socket"]

_WORDS = {
    1001: "the server is going away",
    1002: "the WebSocket protocol was broken",
    1005: "the server closed the connection without a reason",
    1006: "the connection was lost",
    1007: "a text was not UTF-8",
    1009: "a message was too big (max_size in websocket_connection_options)",
    1011: "the server failed",
    1012: "the server restarts",
    1013: "the server is busy",
}


class _State:
    """The reason for a connection's end.

    Separate from the `Socket`, so that the keepalive task does not keep that alive.
    """

    def __init__(self) -> None:
        self.closing = False  # by the caller
        self.unanswered = 0.0  # seconds without an answer to a ping
        self.dropped = False  # closed together with the client


class Socket:
    """An open WebSocket of a client. Only one task may receive at a time; any number may send."""

    def __init__(self, dialled: Dialled, calls: Engine) -> None:
        self._ws: ClientConnection = dialled.ws
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.info: RequestInfo = dialled.info
        self.dropped: asyncio.Event = asyncio.Event()  # set when the client or the caller closes it
        self._state = _State()
        self._guard: AsyncGenerator[None, None] = _guard(weakref.ref(self._ws))
        self._keepalive: asyncio.Task[None] | None = None
        self._close_timeout: float | None = dialled.options["close_timeout"]
        self._stall = dialled.stall
        interval, patience = dialled.options["ping_interval"], dialled.options["ping_timeout"]
        if interval is not None:
            work = _keep_alive(self._ws, self._state, interval, patience)
            self._keepalive = self.loop.create_task(work, name="openaiasync: WebSocket keepalive")
        calls.shared.admit(self)

    async def watch(self) -> None:
        """Make sure that the connection ends with the event loop at the latest."""
        await anext(self._guard)

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: no end of the connection is known."""
        return self._ws.state.name == "OPEN"

    async def recv(self) -> bytes:
        """Return the next message as bytes. Cancelling loses none. Raises the error of the end."""
        from websockets.exceptions import ConcurrencyError, ConnectionClosed

        try:
            return await self._ws.recv(decode=False)
        except ConcurrencyError:
            raise RuntimeError("another task already receives from this connection: only one may") from None
        except ConnectionClosed as closed:
            error = self._error(closed)
        raise error

    async def send(self, data: str | bytes) -> None:
        """Send one message, a `str` as text. Returns when all but `write_limit` bytes are with the operating system.

        Raises the error of the end, with the message in it, and `APITimeoutError` (clock ``"stall"``) for a server that
        does not read: the connection is dropped then.
        """
        from websockets.exceptions import ConnectionClosed, ConnectionClosedError

        limit = asyncio.timeout(self._stall)
        try:
            async with limit:
                watch = _Progress(self._ws.transport, limit, self._stall)
                try:
                    await self._ws.send(data)
                finally:
                    watch.stop()
            if not self._ws.transport.is_closing():
                return
            # Lost while the message waited for its turn: the `websockets` library considers it sent.
            closed = (
                self._ws.protocol.close_exc if self._ws.state.name == "CLOSED" else ConnectionClosedError(None, None)
            )
            error = self._error(closed, data)
        except ConnectionClosed as ended:
            error = self._error(ended, data)
        except TimeoutError:
            if not limit.expired():
                raise
            self.abandon()
            message = f"{self.info.method} {self.info.url}: the server read nothing of a message for {self._stall:g} s"
            error = APITimeoutError(self.info, message=f"{message} (http_stall_timeout sets how long)", clock="stall")
        raise error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close, waiting for the server's close frame, `close_timeout` seconds at most in all. Idempotent."""
        self._state.closing = True
        self.dropped.set()
        # The limit of `websockets` begins once the close frame is written, which a server that does not read prevents.
        limit = asyncio.timeout(self._close_timeout)
        try:
            async with limit:
                await self._ws.close(code, reason)
        except TimeoutError:
            self._ws.transport.abort()
            if not limit.expired():
                raise
        except BaseException:
            self._ws.transport.abort()
            raise
        finally:
            self._end()
            await self._guard.aclose()

    def drop(self) -> None:
        """End the connection at once: nothing is sent or awaited."""
        self._state.dropped = True
        self.dropped.set()
        self._ws.transport.abort()
        self._end()

    def abandon(self) -> None:
        """End the connection at once, on behalf of the caller."""
        self._state.closing = True
        self.dropped.set()
        self._ws.transport.abort()
        self._end()

    def _end(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()

    @property
    def left(self) -> bool:
        """Whether the caller has closed it."""
        return self._state.closing

    def _error(self, closed: ConnectionClosed, unsent: str | bytes | None = None) -> OpenAIError:
        self._end()
        state, where = self._state, f"{self.info.method} {self.info.url}"
        if state.dropped:
            return ClientClosedError(f"{where}: the client was closed")
        if state.unanswered:
            message = (
                f"{where}: the server did not answer a ping within {state.unanswered:g} s (ping_timeout in "
                "websocket_connection_options sets how long)"
            )
            return APITimeoutError(self.info, message=message, clock="ping")
        received = closed.rcvd
        frame: Any = received if received is not None or state.closing else closed.sent
        code = 1006 if frame is None else int(frame.code)
        reason = "" if frame is None else self.info.secrets.scrub_text(str(frame.reason))
        text = "the caller closed the connection" if state.closing else _WORDS.get(code, "the connection was closed")
        message = f"{where}: {text} (code {code}{f': {reason}' if reason else ''})"
        return WebSocketConnectionClosedError(
            message,
            unsent_messages=[] if unsent is None else [unsent],
            close_code=code,
            close_reason=reason,
            request=self.info,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.url} {self._ws.state.name.lower()}>"


class _Progress:
    """Extends a timeout while a transport's buffer shrinks."""

    def __init__(self, transport: asyncio.Transport, limit: asyncio.Timeout, seconds: float | None) -> None:
        self._transport = transport
        self._limit = limit
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._left = transport.get_write_buffer_size()
        self._timer: asyncio.TimerHandle | None = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds / 4, self._look)

    def _look(self) -> None:
        if self._seconds is None or self._limit.expired():
            return
        left = self._transport.get_write_buffer_size()
        if left < self._left:
            self._limit.reschedule(self._loop.time() + self._seconds)
        self._left = left
        self._timer = self._loop.call_later(self._seconds / 4, self._look)

    def stop(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()


async def _keep_alive(ws: ClientConnection, state: _State, interval: float, patience: float | None) -> None:
    """Ping the server every `interval` seconds; end the connection if it does not answer within `patience` seconds."""
    from websockets.exceptions import ConnectionClosed

    while True:
        try:
            async with asyncio.timeout(interval):
                await ws.wait_closed()
            return
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(patience):
                await (await ws.ping())
        except ConnectionClosed:
            return
        except TimeoutError:
            state.unanswered = patience or 0.0
            ws.transport.abort()
            return


async def _guard(ws: weakref.ref[ClientConnection]) -> AsyncGenerator[None, None]:
    """End the connection with the event loop, or with its `Socket`, whichever ends first: see `transport.tcp`."""
    try:
        yield
    finally:
        open_still = ws()
        if open_still is not None and open_still.state.name != "CLOSED":
            open_still.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


resolve_annotations(__name__)
