"""The base of every connection of events, and of the managers that open and close them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from ..core.codec.decode import DecodeError, Decoder, decoder_for
from ..core.codec.encode import encode_json
from ..core.codec.error_body import parse_error, read_error
from ..core.model.base import BaseModel, keep_raw
from ..core.model.headers import Headers
from ..core.model.meta import ResponseInfo
from ..core.model.omitted import is_omitted
from ..core.model.plain import json_of
from ..core.model.secrets import HiddenFields
from ..engine import failures
from ..engine.engine import Engine
from ..engine.log import logger
from ..engine.sealing import cleaned_error
from ..errors import APIError, APIResponseValidationError, ClientClosedError, OpenAIError
from .dial import DialContext, check_options, dial
from .reconnect import OnReconnecting, ReconnectPolicy, SendQueue, WebSocketConnectionClosedError, may_reconnect
from .socket import Socket

__all__ = ["EventMethods", "Handlers", "Manager", "WebSocketConnection"]

STEADY = 10.0  # seconds that a connection must last, with an event, to count as a success

Event = TypeVar("Event")
Made = TypeVar("Made", bound="WebSocketConnection[Any]")
Handler = Callable[[Any], Any]


class Handlers:
    """Handlers by the type of their events, in the order in which they were added."""

    def __init__(self) -> None:
        self._by_type: dict[str, list[tuple[Handler, bool]]] = {}

    def add(self, event_type: str, handler: Handler, once: bool) -> None:
        self._by_type.setdefault(event_type, []).append((handler, once))

    def remove(self, event_type: str, handler: Handler) -> None:
        rows = self._by_type.get(event_type, [])
        for number, (known, _) in enumerate(rows):
            if known == handler:
                del rows[number]
                return

    def take(self, event_type: str) -> list[Handler]:
        """Return the handlers for a type, removing those that are called once."""
        rows = self._by_type.get(event_type, [])
        self._by_type[event_type] = [row for row in rows if not row[1]]
        return [handler for handler, _ in rows]


class _Listening:
    """`on`, `once` and `off`, of a connection and of its manager."""

    _handlers: Handlers

    def on(self, event_type: str, handler: Handler | None = None) -> Any:
        """Have `dispatch_events` call `handler` (a function or coroutine function) for events of this type.

        ``"event"`` stands for all types. Returns this object, or a decorator without `handler`.
        """
        return self._listen(event_type, handler, once=False)

    def once(self, event_type: str, handler: Handler | None = None) -> Any:
        """Add a handler for one event; see `on`."""
        return self._listen(event_type, handler, once=True)

    def off(self, event_type: str, handler: Handler) -> Self:
        """Remove a handler, if there."""
        self._handlers.remove(event_type, handler)
        return self

    def _listen(self, event_type: str, handler: Handler | None, once: bool) -> Any:
        if handler is not None:
            self._handlers.add(event_type, handler, once)
            return self

        def decorator(function: Handler) -> Handler:
            self._handlers.add(event_type, function, once)
            return function

        return decorator


class EventMethods:
    """A group of methods of a connection, each of which sends one event."""

    def __init__(self, connection: WebSocketConnection[Any]) -> None:
        self._connection = connection

    async def _send(self, event_type: str, **fields: Any) -> None:
        await self._connection.send({"type": event_type, **fields})


class WebSocketConnection(_Listening, Generic[Event]):
    """An open WebSocket of events: iterate it to receive, `send` to send.

    Iterating ends when the caller closes the connection, or the server does with code 1000; any other end raises. One
    task may iterate or receive at a time, any number may send.
    """

    _kind: ClassVar[Any]  # the union of its events' types

    def __init__(
        self, socket: Socket, calls: Engine, call: DialContext, plan: ReconnectPolicy, queue: SendQueue
    ) -> None:
        self._socket = socket
        self._calls = calls
        self._call = call
        self._plan = plan
        self._queue = queue
        self._lost: list[str | bytes] = []  # taken from the queue, but their sending failed
        self._handlers = Handlers()
        self._order = asyncio.Lock()
        self._reconnecting = False
        self._closed = False
        self._opened = socket.loop.time()
        self._progress = False  # an event was received since
        self._decoder: Decoder[Event] = decoder_for(self._kind, strict=calls.config.strict)

    # ---------------------------------------------------------------- receiving

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield every event until the connection ends; with `on_reconnecting` a lost one is opened again here."""
        while True:
            try:
                event = await self.recv()
            except APIResponseValidationError:
                raise
            except OpenAIError as error:
                ended = error
            else:
                yield event
                continue
            if self._closed or not await self._reconnect(ended):
                self._over(ended)
                return

    async def recv(self) -> Event:
        """Return the next event. Cancelling loses none.

        Raises `WebSocketConnectionClosedError` at the end, whatever its code, `APITimeoutError` (clock ``"ping"``) if
        the server does not answer a ping, and `APIResponseValidationError` for a message that is not an event; the
        connection is still usable then.
        """
        event = self.parse_event(await self.recv_bytes())
        if not self._progress and getattr(event, "type", None) not in (None, "error"):
            self._progress = True
        return event

    async def recv_bytes(self) -> bytes:
        """Return the next message as bytes, for `parse_event`; see `recv`."""
        return await self._socket.recv()

    def parse_event(self, data: str | bytes) -> Event:
        """Return a message as an event. Raises `APIResponseValidationError` for one that is not an event."""
        raw = data.encode() if isinstance(data, str) else data
        try:
            event: Event = keep_raw(self._decoder.decode(raw), raw)
            return event
        except DecodeError as error:
            reason = error.reason
        info = self._socket.info
        raw = info.secrets.scrub(raw)
        del data  # the server may have echoed a key, which no frame of a traceback may hold
        message = f"{info.method} {info.url}: {DecodeError(reason, raw)}"
        wrong = APIResponseValidationError(ResponseInfo(101, _NO_FIELDS, info, raw), raw, message=message)
        raise cleaned_error(wrong, info.secrets)

    async def dispatch_events(self) -> None:
        """Pass every event to its handlers, one after the other, until the connection ends.

        An event ``error`` without a handler raises `APIError`. Raises the exceptions of handlers.
        """
        async for event in self:
            kind = str(getattr(event, "type", ""))
            handlers = [*self._handlers.take(kind), *self._handlers.take("event")]
            if kind == "error" and not handlers:
                raise self._error_of(event)
            for handler in handlers:
                result = handler(event)
                if hasattr(result, "__await__"):
                    await result

    def _error_of(self, event: Any) -> APIError:
        raw: bytes | None = vars(event).get("_raw") if isinstance(event, BaseModel) else None
        sent: Any = self._socket.info.secrets.clean(parse_error(json_of(event) if raw is None else raw))
        info = self._socket.info
        text = failures.with_words(f"{info.method} {info.url}: the server sent an error", read_error(sent))
        return APIError(text, info, body=failures.error_object(sent))

    # ---------------------------------------------------------------- sending

    async def send(self, event: BaseModel | Mapping[str, object]) -> None:
        """Send an event: an object of a client event's type, or a dict. Returns when it is with the operating system.

        While the connection is opened again it waits in the queue (`WebSocketQueueFullError` when that is full). Raises
        `TypeError` and `ValueError` for values that JSON cannot carry, `WebSocketConnectionClosedError` after the end.
        """
        await self.send_raw(encode_json(event).decode())

    async def send_raw(self, data: str | bytes) -> None:
        """Send a message unchanged: text or bytes. See `send`."""
        if self._reconnecting:
            self._queue.put(data)
            return
        async with self._order:
            await self._queue.flush(self._socket.send)
            await self._socket.send(data)

    # ---------------------------------------------------------------- the end

    async def close(self, *, code: int = 1000, reason: str = "") -> None:
        """Close the connection, waiting at most `close_timeout` seconds for the server's close frame. Idempotent."""
        self._closed = True
        await self._socket.close(code, reason)

    def abandon(self) -> None:
        """Drop the connection at once: nothing is sent or awaited."""
        self._closed = True
        self._socket.abandon()

    def _over(self, ended: OpenAIError) -> None:
        """End the iteration, without an error if either side closed it normally and no message is unsent."""
        unsent = [*self._lost, *self._queue.drain()]
        self._lost.clear()
        if unsent:
            code = getattr(ended, "close_code", 1006)
            message = f"{ended}; {len(unsent)} messages were not sent"
            reason = getattr(ended, "close_reason", "")
            raise WebSocketConnectionClosedError(
                message, unsent_messages=unsent, close_code=code, close_reason=reason, request=self._socket.info
            ) from None
        if self._socket.left or getattr(ended, "close_code", None) == 1000:
            return
        raise ended

    async def _reconnect(self, ended: OpenAIError) -> bool:
        """Open the connection again; return whether that worked."""
        code = may_reconnect(ended)
        if code is None or self._plan.ask is None:
            return False
        self._reconnecting = True
        if self._progress and self._socket.loop.time() - self._opened >= STEADY:
            self._plan.attempts = 0
        try:
            while (delay := await self._plan.next(code)) is not None and not self._closed:
                logger.info("WebSocket lost (code %d): attempt %d in %.2f s", code, self._plan.attempts, delay)
                try:
                    async with asyncio.timeout(delay):
                        await self._socket.dropped.wait()
                    break
                except TimeoutError:
                    pass
                try:
                    if await self._connect_again():
                        self._note_lost()
                        return True
                except OpenAIError as error:
                    if not error.retryable:
                        raise
                    self._lost += getattr(error, "unsent_frames", ())  # may have arrived, and are not sent again
            if not self._closed and self._socket.dropped.is_set():
                raise ClientClosedError("the client was closed while a WebSocket was reconnecting")
            return False
        finally:
            self._reconnecting = False

    def _note_lost(self) -> None:
        """Log messages whose sending failed while reconnecting; no error follows in which they could be."""
        if self._lost:
            logger.warning("WebSocket lost while messages were sent: %d of them may not have arrived", len(self._lost))
            self._lost.clear()

    async def _connect_again(self) -> bool:
        plan, before = self._plan, self._socket
        socket = Socket(await dial(self._calls, self._call, plan.extra_query, plan.extra_headers), self._calls)
        try:
            await socket.watch()
            if self._closed:
                socket.abandon()
                return False
            self._socket = socket
            self._opened, self._progress = socket.loop.time(), False
            async with self._order:
                await self._queue.flush(socket.send)
                self._reconnecting = False  # nothing is awaited between the last message and this
        except BaseException:
            socket.abandon()
            self._socket = before  # an abandoned socket would look as if the client had been closed
            raise
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._socket.info.url}>"


class Manager(_Listening, Generic[Made]):
    """Opens a connection and closes it: ``async with client.realtime.connect(...) as connection``.

    Or ``connection = await manager.enter()``, which the caller closes. Messages passed to `send` before are sent first.
    """

    _makes: ClassVar[Any]  # the class of its connections

    def __init__(
        self,
        calls: Engine,
        call: DialContext,
        *,
        extra_query: Mapping[str, Any],
        extra_headers: Mapping[str, Any],
        on_reconnecting: OnReconnecting | None = None,
        max_retries: int = 5,
        initial_delay: float = 0.5,
        max_delay: float = 8.0,
        max_queue_size: int = 1_048_576,
    ) -> None:
        check_options(call.options)
        kept = {name: value for name, value in call.query.items() if not is_omitted(value)}
        self._calls = calls
        self._call = call._replace(query=kept)
        self._plan = ReconnectPolicy(
            on_reconnecting, max_retries, initial_delay, max_delay, extra_query, HiddenFields(dict(extra_headers))
        )
        self._queue = SendQueue(max_queue_size)
        self._handlers = Handlers()
        self._connection: Made | None = None

    def send(self, event: BaseModel | Mapping[str, object]) -> None:
        """Send an event as soon as there is a connection. Raises `WebSocketQueueFullError`."""
        self._queue.put(encode_json(event).decode())

    async def enter(self) -> Made:
        """Open the connection. Raises the errors of any call: `APIConnectionError`, `APIStatusError` and so on."""
        plan = self._plan
        dialled = await dial(self._calls, self._call, plan.extra_query, plan.extra_headers)
        socket = Socket(dialled, self._calls)
        try:
            await socket.watch()
            made = cast("Made", self._makes(socket, self._calls, self._call, plan, self._queue))
            made._handlers = self._handlers  # pyright: ignore[reportPrivateUsage]
            await self._queue.flush(socket.send)
        except BaseException:
            socket.abandon()
            raise
        self._connection = made
        return made

    async def __aenter__(self) -> Made:
        return await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        if connection is None:
            return
        if error is not None and not isinstance(error, Exception):
            connection.abandon()  # cancelled: there is no wait for a close frame
        else:
            await connection.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._call.name}>"


_NO_FIELDS = Headers()
