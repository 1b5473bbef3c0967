"""A server that plays back one transcript to every client, in the pieces of the transcript or in others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openaiasync.testing.wire import Listener, Peer

from .transcripts import Exchange


@dataclass
class Replay:
    """Where the playback is, and what it was asked."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list[bytes])


def sliced(pieces: Iterable[bytes], size: int) -> list[bytes]:
    """The same bytes in pieces of so many bytes; 0: all at once."""
    data = b"".join(pieces)
    return [data[i : i + size] for i in range(0, len(data), size)] if size else [data]


@asynccontextmanager
async def replaying(exchange: Exchange, size: int | None = None) -> AsyncIterator[Replay]:
    """Serve the exchange's answer to every request; `size`: bytes a write, 0 all at once, `None` as it came."""
    replay = Replay()
    pieces = exchange.wire() if size is None else sliced(exchange.wire(), size)

    async def answer(peer: Peer) -> None:
        while True:
            replay.bodies.append((await peer.request()).body)
            await peer.send(*pieces, pause=0)
            if exchange.closes:
                break
        peer.writer.close()
        await peer.writer.wait_closed()

    async with Listener(answer) as listener:
        replay.url = listener.url
        yield replay
