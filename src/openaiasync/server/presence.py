"""Blocks of work that end early: because the client left or does not read, or because the handler is late.

Most requests are finished within a few milliseconds, and a task or a timer for each would cost more than everything
else the kit does for them. So nothing is started with a block: a `PresenceMonitor`, one for each event loop, visits
all new blocks together every few milliseconds and starts what those need that are still running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self

import msgspec

from .asgi import READY, Message, Receive
from .errors import HTTPError
from .http_exchange import ServerExchange
from .timer import LazyTimer

__all__ = ["ClientLeft", "Presence", "PresenceMonitor", "RequestLimits", "ResponseBroken", "SendBlock"]

_VISIT_AFTER: Final = 0.005  # seconds


class RequestLimits(msgspec.Struct, frozen=True):
    """The limits of one request. Times in seconds, `None` for no limit; the size in bytes."""

    max_body: int = 32 * 1024 * 1024
    send_timeout: float = 30.0
    handler_timeout: float | None = None
    first_token_timeout: float | None = None


class ClientLeft(Exception):
    """The client has disconnected, or does not read what it is sent."""


class ResponseBroken(Exception):
    """A response that has begun cannot be completed: the ASGI server has to cut it, so that it does not look whole."""


class PresenceMonitor:
    """Visits the blocks of one event loop that are still running some milliseconds after they began."""

    __slots__ = ("armed", "loop", "new")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.new: set[_Block] = set()
        """Blocks that have begun since the last visit, and have not ended."""
        self.armed: bool = False
        """Whether a visit is due."""

    def expect(self, block: _Block) -> None:
        """Visit a block if it does not end within some milliseconds."""
        self.new.add(block)
        if not self.armed:
            self.armed = True
            self.loop.call_later(_VISIT_AFTER, self._visit)

    def _visit(self) -> None:
        self.armed = False
        blocks, self.new = self.new, set()
        for block in blocks:
            block.visit()


class _Block:
    """A part of the current task that can be ended from outside with a given exception.

    It ends as `asyncio.timeout` does: the task is cancelled, and uncancelled on leaving the block.
    """

    __slots__ = ("_cancelling", "_cause", "_monitor", "_task")

    def __init__(self, monitor: PresenceMonitor) -> None:
        self._monitor = monitor
        self._task: asyncio.Task[object] | None = None
        self._cause: Exception | None = None
        self._cancelling = 0

    def visit(self) -> None:
        """Start what a block needs that does not end at once."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """Whether the block was ended from outside."""
        return self._cause is not None

    def end(self, cause: Exception) -> None:
        """End the block with this exception. Later calls have no effect."""
        if self._cause is None and self._task is not None:
            self._cause = cause
            self._task.cancel()

    def _enter(self) -> None:
        monitor = self._monitor
        task = asyncio.current_task(monitor.loop)
        if task is None:
            raise RuntimeError("requests are served in tasks")
        self._task = task
        self._cancelling = task.cancelling()
        monitor.expect(self)

    def _exit(self, kind: type[BaseException] | None) -> None:
        """Leave the block. Raises what it was ended with, unless it was also cancelled from outside."""
        self._monitor.new.discard(self)
        task, self._task = self._task, None
        if self._cause is None or task is None:
            return
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._cause from None


class SendBlock(_Block):
    """Sends to a client that may not read: ends with `ClientLeft` after the send timeout."""

    __slots__ = ("_timeout", "_timer")

    def __init__(self, monitor: PresenceMonitor, timeout: float) -> None:
        super().__init__(monitor)
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None

    def visit(self) -> None:
        self._timer = self._monitor.loop.call_later(self._timeout, self.end, ClientLeft())

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._exit(kind)


class Presence(_Block):
    """A block of work for a client that may leave, under the timeouts of the handler.

    It watches `receive`, which is free once the body was read. It ends with `ClientLeft` when the client disconnects or
    does not take what is sent, with `HTTPError` (504) when the handler is late.
    """

    __slots__ = ("_exchange", "_first", "_receive", "_send_timeout", "_sending", "_timer", "_timers", "_watch_task")

    def __init__(
        self, receive: Receive, monitor: PresenceMonitor, send_timeout: float, limits: RequestLimits | None = None
    ) -> None:
        """`limits`: those of a handler, if one runs in the block."""
        super().__init__(monitor)
        self._receive = receive
        self._exchange: ServerExchange | None = None  # once it was asked to report a disconnection
        self._send_timeout = send_timeout
        self._sending = False  # the whole answer
        self._timer: LazyTimer | None = None  # made by the first `expect_send`
        self._watch_task: asyncio.Task[None] | None = None
        self._first: asyncio.TimerHandle | None = None
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        if limits is None:
            return
        if limits.handler_timeout is not None:
            self._timers = (self._late_after(limits.handler_timeout, "finish"),)
        if limits.first_token_timeout is not None:
            self._first = self._late_after(limits.first_token_timeout, "begin its answer")
            self._timers += (self._first,)

    @property
    def active(self) -> bool:
        """Whether the block was entered, and has not ended."""
        return self._task is not None

    def first_token(self) -> None:
        """Note that the answer has begun."""
        if self._first is not None:
            self._first.cancel()

    def __enter__(self) -> Self:
        """Begin to send the whole answer, the last thing in the block: the handler is not late any more.

        The send timeout starts at the monitor's next visit, if the block has not ended by then.
        """
        for timer in self._timers:
            timer.cancel()
        self._sending = True
        self._monitor.expect(self)
        return self

    def __exit__(self, *raised: object) -> None:
        """Do nothing: the block ends itself."""

    def expect_send(self) -> None:
        """Start the send timeout."""
        if self._timer is None:
            self._timer = LazyTimer(self._monitor.loop, self._left)
        self._timer.set(self._send_timeout)

    def sent(self) -> None:
        """Stop the send timeout."""
        if self._timer is not None:
            self._timer.clear()

    def _late_after(self, seconds: float, what: str) -> asyncio.TimerHandle:
        message = f"The model did not {what} within {seconds:g} seconds."
        return self._monitor.loop.call_later(seconds, self.end, HTTPError(504, message, code="handler_timeout"))

    def visit(self) -> None:
        if self._sending:
            self.expect_send()
        # The built-in server reports a disconnection by a call, which costs less than a task that waits for it.
        exchange: object = getattr(self._receive, "__self__", None)
        if isinstance(exchange, ServerExchange):
            self._exchange = exchange
            exchange.on_gone(self._left)
        elif self._watch_task is None:
            self._watch_task = self._monitor.loop.create_task(self._watch())

    def _left(self) -> None:
        self.end(ClientLeft())

    async def _watch(self) -> None:
        try:
            message: Message = await self._receive()
        except OSError:  # some ASGI servers raise it for a client that left
            message = {"type": "http.disconnect"}
        # Any other message after the end of the body means that this `receive` does not wait for a disconnection.
        if message["type"] == "http.disconnect":
            self.end(ClientLeft())

    # Most blocks end before a visit. Two coroutines that never wait would then cost as much as all else about a block.

    def __aenter__(self) -> Awaitable[None]:
        self._enter()
        return READY

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None  # it refers back to this block
        for timer in self._timers:
            timer.cancel()
        if self._exchange is not None:
            self._exchange.on_gone(None)
        if self._watch_task is not None:
            return self._end_watch(kind, self._watch_task)
        self._exit(kind)
        return READY

    async def _end_watch(self, kind: type[BaseException] | None, task: asyncio.Task[None]) -> None:
        try:
            self._exit(kind)
        finally:
            task.cancel()
            await asyncio.wait([task])
