"""Making a lost connection again: when, how often, after how long, and what the caller may change before each try."""

from __future__ import annotations

import dataclasses
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict

from ..core.model.secrets import HiddenFields
from ..errors import OpenAIError
from .errors import RECOVERABLE_CLOSES, WebSocketConnectionClosedError

__all__ = ["OnReconnecting", "ReconnectPolicy", "ReconnectingEvent", "ReconnectingOverrides", "may_reconnect"]


@dataclasses.dataclass(frozen=True)
class ReconnectingEvent:
    """What `on_reconnecting` is told before each try to connect again.

    `attempt` counts from 1 up to `max_attempts`; `delay` is in seconds; `close_code` is why the connection ended (1006
    where no code came); `extra_query` and `extra_headers` are those that the next try has.
    """

    attempt: int
    max_attempts: int
    delay: float
    close_code: int
    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]


class ReconnectingOverrides(TypedDict, total=False):
    """What `on_reconnecting` may answer: other parameters and fields from now on, or ``abort`` to give up."""

    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]
    abort: bool


OnReconnecting = Callable[[ReconnectingEvent], ReconnectingOverrides | Awaitable[ReconnectingOverrides | None] | None]


@dataclasses.dataclass
class ReconnectPolicy:
    """How a connection is made again; `attempts` counts the tries since a connection lasted.

    A server that opens, sends its first event and breaks off makes no progress, however often it does.
    """

    ask: OnReconnecting | None
    max_retries: int
    initial_delay: float  # seconds
    max_delay: float  # seconds
    extra_query: Mapping[str, Any]
    extra_headers: Mapping[str, Any]
    attempts: int = 0

    async def next(self, close_code: int) -> float | None:
        """Seconds until the next try is due; `None` if there is none. What `on_reconnecting` raises, this raises."""
        if self.ask is None or self.attempts >= self.max_retries:
            return None
        self.attempts += 1
        delay: float = min(self.initial_delay * 2 ** (self.attempts - 1), self.max_delay) * (0.75 + random.random() / 4)
        event = ReconnectingEvent(
            self.attempts, self.max_retries, delay, close_code, self.extra_query, self.extra_headers
        )
        answer = self.ask(event)
        changed: Any = (await answer) if inspect.isawaitable(answer) else answer
        if changed is not None:
            if changed.get("abort"):
                return None
            self.extra_query = changed.get("extra_query", self.extra_query)
            self.extra_headers = HiddenFields(changed.get("extra_headers", self.extra_headers))
        return delay


def may_reconnect(error: OpenAIError) -> int | None:
    """The close code of an end after which connecting again makes sense; `None` where it does not."""
    if isinstance(error, WebSocketConnectionClosedError):
        return error.close_code if error.close_code in RECOVERABLE_CLOSES else None
    return 1006 if error.retryable else None
