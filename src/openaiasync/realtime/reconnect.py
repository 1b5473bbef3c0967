"""The end of a WebSocket and reconnecting: errors, the policy of attempts, and messages that wait meanwhile.

Opening a WebSocket raises the errors of any other call.
"""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict

from ..core.model.secrets import HiddenFields
from ..errors import APIConnectionError, OpenAIError, Side

__all__ = [
    "RECOVERABLE_CLOSES",
    "OnReconnecting",
    "ReconnectPolicy",
    "ReconnectingEvent",
    "ReconnectingOverrides",
    "SendQueue",
    "WebSocketConnectionClosedError",
    "WebSocketQueueFullError",
    "may_reconnect",
]

RECOVERABLE_CLOSES: frozenset[int] = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015})
"""Close codes without a fault of this client: going away, none, lost, server error, restart, busy, TLS."""

_MOST_DOUBLINGS = 64  # of the delay: a float cannot take the thousandth, after hours without the server
_NOBODY = frozenset({1000, 1001, 1005, 1006, 1015})


class WebSocketConnectionClosedError(APIConnectionError):
    """A WebSocket was closed, but not by the caller, or it was closed with messages unsent.

    `close_code` and `close_reason` are the server's (RFC 6455, section 7.4), or ours where the server violated the
    protocol; 1006 and ``""`` for a connection lost without a close frame. `unsent_frames` are the messages that were
    waiting to be sent, `unsent_messages` those of them that are text.
    """

    def __init__(
        self,
        message: str,
        *,
        unsent_messages: Sequence[str | bytes] = (),
        close_code: int = 1006,
        close_reason: str = "",
        request: Any = None,
    ) -> None:
        super().__init__(message=message, request=request)
        self.close_code: int = close_code
        self.close_reason: str = close_reason
        self.unsent_frames: list[str | bytes] = list(unsent_messages)
        self.retryable: bool = close_code in RECOVERABLE_CLOSES
        if close_code not in _NOBODY:
            self.side: Side = "server"

    @property
    def unsent_messages(self) -> list[str]:
        """The messages that were not sent, without those that are not UTF-8 text."""
        found: list[str] = []
        for frame in self.unsent_frames:
            try:
                found.append(frame if isinstance(frame, str) else frame.decode())
            except UnicodeDecodeError:
                continue
        return found


class WebSocketQueueFullError(OpenAIError):
    """A message was refused: those that wait for the connection already fill `max_queue_size` bytes."""


class SendQueue:
    """Messages that wait for a connection: in order, up to a limit, each sent at most once."""

    def __init__(self, most: int) -> None:
        self.most: int = most  # bytes
        self.size: int = 0
        self._frames: deque[str | bytes] = deque()

    def put(self, frame: str | bytes) -> None:
        """Add a message. Raises `WebSocketQueueFullError` if it does not fit."""
        size = _size(frame)
        if self.size + size > self.most:
            raise WebSocketQueueFullError(
                f"a message of {size} bytes was refused: {self.size} bytes wait, max_queue_size is {self.most}"
            )
        self._frames.append(frame)
        self.size += size

    async def flush(self, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Send all messages. One whose sending fails may have arrived, and is not sent again."""
        while self._frames:
            frame = self._frames.popleft()
            self.size -= _size(frame)
            await send(frame)

    def drain(self) -> list[str | bytes]:
        """Return all waiting messages and empty the queue."""
        frames = list(self._frames)
        self._frames.clear()
        self.size = 0
        return frames

    def __len__(self) -> int:
        return len(self._frames)


def _size(frame: str | bytes) -> int:
    return len(frame.encode()) if isinstance(frame, str) else len(frame)


@dataclasses.dataclass(frozen=True)
class ReconnectingEvent:
    """The argument of `on_reconnecting`, before each attempt to connect again.

    `attempt` counts from 1 up to `max_attempts`; `delay` is in seconds; `close_code` is why the connection ended (1006
    without a close frame); `extra_query` and `extra_headers` are those of the next attempt.
    """

    attempt: int
    max_attempts: int
    delay: float
    close_code: int
    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]


class ReconnectingOverrides(TypedDict, total=False):
    """The result of `on_reconnecting`: other parameters and fields from now on, or ``abort`` to give up."""

    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]
    abort: bool


OnReconnecting = Callable[[ReconnectingEvent], ReconnectingOverrides | Awaitable[ReconnectingOverrides | None] | None]


@dataclasses.dataclass
class ReconnectPolicy:
    """The policy of reconnecting; `attempts` counts since the last connection that lasted.

    A server that accepts, sends one event and disconnects makes no progress, however often it does so.
    """

    ask: OnReconnecting | None
    max_retries: int
    initial_delay: float  # seconds
    max_delay: float  # seconds
    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]
    attempts: int = 0

    async def next(self, close_code: int) -> float | None:
        """Return the seconds until the next attempt, `None` to give up. Raises the exceptions of `on_reconnecting`."""
        if self.ask is None or self.attempts >= self.max_retries:
            return None
        self.attempts += 1
        doublings = min(self.attempts - 1, _MOST_DOUBLINGS)
        delay: float = min(self.initial_delay * 2**doublings, self.max_delay) * (0.75 + random.random() / 4)
        event = ReconnectingEvent(
            self.attempts, self.max_retries, delay, close_code, self.extra_query, self.extra_headers
        )
        result = self.ask(event)
        changed: Any = (await result) if inspect.isawaitable(result) else result
        if changed is not None:
            if changed.get("abort"):
                return None
            self.extra_query = changed.get("extra_query", self.extra_query)
            self.extra_headers = HiddenFields(changed.get("extra_headers", self.extra_headers))
        return delay


def may_reconnect(error: OpenAIError) -> int | None:
    """Return the close code of an end after which reconnecting makes sense, else `None`."""
    if isinstance(error, WebSocketConnectionClosedError):
        return error.close_code if error.close_code in RECOVERABLE_CLOSES else None
    return 1006 if error.retryable else None
