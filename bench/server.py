"""The bench's server for machines without a C compiler: the same answers under the same names, see `server.c`.

`python server.py FOLDER [PEM]` prints its port and serves until its standard input ends; with a certificate over TLS.
"""

from __future__ import annotations

import asyncio
import functools
import random
import re
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

PACED = re.compile(r"paced(\d+)-(\d+)")
TOKENS = re.compile(r"tokens-(\d+)-(\d+)-(\d+)-(\d+)")
NAME = re.compile(rb"\S+ /([^/ ?]*)")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def parts_of(raw: bytes) -> list[bytes]:
    """Read the parts of a paced answer: for each its size in decimal, a line feed, its bytes."""
    parts = []
    while raw:
        size, _, raw = raw.partition(b"\n")
        parts.append(raw[: int(size)])
        raw = raw[int(size) :]
    return parts


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read = functools.cache(lambda name: (folder / f"{name}.http").read_bytes())
        self.have = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.have += data
        while (end := self.have.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.have, 0, end + 2)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self.have) < total:
                return
            name = NAME.match(self.have)
            self.have = self.have[total:]
            self.answer(name[1].decode() if name else "")

    def answer(self, name: str) -> None:
        if name == "hold":
            return
        if found := PACED.fullmatch(name):
            gap, count = map(int, found.groups())
            self.begin(gap, random.random() * gap, count, 1)
        elif found := TOKENS.fullmatch(name):
            self.begin(*map(int, found.groups()))
        else:
            self.transport.write(self.read(name))

    def begin(self, gap: float, first: float, count: int, group: int) -> None:
        """Send the first `count` events of paced.parts, `group` at a time, by the times given (ms)."""
        *parts, end = parts_of((self.folder / "paced.parts").read_bytes())
        parts = parts[:count]
        steps = [b"".join(parts[at : at + group]) for at in range(0, len(parts), group)]
        due = asyncio.get_running_loop().time() + first / 1000
        asyncio.get_running_loop().call_at(due, self.pace, iter([*steps[:-1], steps[-1] + end]), gap / 1000, due)

    def pace(self, steps: Iterator[bytes], gap: float, due: float) -> None:
        step = next(steps, None)
        if step is not None and not self.transport.is_closing():
            self.transport.write(step)
            asyncio.get_running_loop().call_at(due + gap, self.pace, steps, gap, due + gap)


async def serve(folder: Path, pem: str | None) -> None:
    loop = asyncio.get_running_loop()
    context = None
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    server = await loop.create_server(lambda: Peer(folder), "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
