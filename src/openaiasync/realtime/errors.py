"""What goes wrong with a WebSocket that has been opened; opening one raises what any call raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import APIConnectionError, OpenAIError, Side

__all__ = ["RECOVERABLE_CLOSES", "WebSocketConnectionClosedError", "WebSocketQueueFullError"]

RECOVERABLE_CLOSES: frozenset[int] = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015})
"""Close codes that do not blame this client: going away, none, lost, broken, restarting, busy, TLS."""

_NOBODY = frozenset({1000, 1001, 1005, 1006, 1015})


class WebSocketConnectionClosedError(APIConnectionError):
    """A WebSocket was closed, other than by the caller, or with messages that were not sent.

    `close_code` and `close_reason` are the server's (RFC 6455, section 7.4), or ours where the server broke the
    protocol; 1006 and ``""`` where the connection was lost without a word. `unsent_frames` are the messages that were
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
        """The messages that were not sent, without those that are bytes and no UTF-8."""
        found: list[str] = []
        for frame in self.unsent_frames:
            try:
                found.append(frame if isinstance(frame, str) else frame.decode())
            except UnicodeDecodeError:
                continue
        return found


class WebSocketQueueFullError(OpenAIError):
    """A message was not taken: those that wait for the connection to be made (again) fill `max_queue_size` bytes."""
