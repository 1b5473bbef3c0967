"""Messages that wait for a connection."""

from __future__ import annotations

import pytest

from conftest import run
from openaiasync import WebSocketQueueFullError
from openaiasync.realtime.reconnect import SendQueue


def test_bytes_are_counted_as_they_are_sent() -> None:
    """Text counts in UTF-8; what has left makes room; a message that is too large alone is refused."""
    queue = SendQueue(6)
    queue.put("éé")
    queue.put(b"xy")
    with pytest.raises(WebSocketQueueFullError):
        queue.put("a")
    assert (queue.size, len(queue), queue.drain(), queue.size) == (6, 2, ["éé", b"xy"], 0)
    with pytest.raises(WebSocketQueueFullError):
        queue.put("sevenup")


def test_a_message_that_failed_is_not_sent_again() -> None:
    """It may have arrived; those behind it wait on."""
    queue = SendQueue(100)
    for text in ("a", "b", "c"):
        queue.put(text)
    sent: list[str | bytes] = []

    async def send(frame: str | bytes) -> None:
        sent.append(frame)
        if frame == "b":
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run(queue.flush(send))
    assert (sent, queue.drain()) == (["a", "b"], ["c"])
