"""Messages that wait for a connection: in order, under a cap, each sent once at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from .errors import WebSocketQueueFullError

__all__ = ["SendQueue"]


class SendQueue:
    """What was sent before there was a connection, or while it is made again."""

    def __init__(self, most: int) -> None:
        self.most: int = most  # bytes
        self.size: int = 0
        self._frames: deque[str | bytes] = deque()

    def put(self, frame: str | bytes) -> None:
        """Let a message wait. Raises `WebSocketQueueFullError` where it would be one too many."""
        size = _size(frame)
        if self.size + size > self.most:
            raise WebSocketQueueFullError(
                f"a message of {size} bytes was not taken: {self.size} bytes wait already, and max_queue_size is "
                f"{self.most}"
            )
        self._frames.append(frame)
        self.size += size

    async def flush(self, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Send everything. A message whose sending fails may have arrived, and is not sent again."""
        while self._frames:
            frame = self._frames.popleft()
            self.size -= _size(frame)
            await send(frame)

    def drain(self) -> list[str | bytes]:
        """Everything that waits, which then waits no more."""
        frames = list(self._frames)
        self._frames.clear()
        self.size = 0
        return frames

    def __len__(self) -> int:
        return len(self._frames)


def _size(frame: str | bytes) -> int:
    return len(frame.encode()) if isinstance(frame, str) else len(frame)
