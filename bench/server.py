"""The bench's server where there is no C compiler: the same answers by the same names, see `server.c`.

`python server.py FOLDER` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from pathlib import Path

NAME = re.compile(rb"\S+ /([^/ ?]*)")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def parts_of(raw: bytes) -> list[bytes]:
    """The parts of a paced answer: for each its size in decimal, a line feed, its bytes."""
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
        if name.startswith("paced") and name[5:].isdigit():
            parts = iter(parts_of((self.folder / "paced.parts").read_bytes()))
            self.pace(parts, int(name[5:]) / 1000, asyncio.get_running_loop().time())
            return
        self.transport.write(self.read(name))

    def pace(self, parts: object, gap: float, due: float) -> None:
        part = next(parts, None)  # type: ignore[call-overload]
        if part is not None and not self.transport.is_closing():
            self.transport.write(part)
            asyncio.get_running_loop().call_at(due + gap, self.pace, parts, gap, due + gap)


async def serve(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(folder), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
