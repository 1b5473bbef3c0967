"""A server that plays back one transcript to whoever asks, in the pieces of the transcript or in others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .transcripts import Exchange


@dataclass
class Replay:
    """Where the playback is, and what it was asked."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list[bytes])
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
    answering: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering[task] = writer
        try:
            while await _hear(reader, replay):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if exchange.closes:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has heard enough
        finally:
            del answering[task]
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    replay.url = f"http://{host}:{port}/v1"
    try:
        yield replay
    finally:
        server.close()
        for writer in answering.values():
            writer.transport.abort()
        if answering:
            await asyncio.wait(tuple(answering))
        await server.wait_closed()


async def _hear(reader: asyncio.StreamReader, replay: Replay) -> bool:
    """Take in one request; `False` when the client has hung up before one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    replay.heads.append(head)
    replay.bodies.append(await reader.readexactly(int(fields.get(b"content-length", b"0"))))
    return True
