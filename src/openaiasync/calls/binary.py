"""Answers that are bytes: the content of a file, spoken audio, a video."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..meta import Meta

__all__ = ["BinaryAnswer"]


class BinaryAnswer:
    """The body of an answer as it came: `content`, or by the reading methods that the official client has."""

    __slots__ = ("content", "meta")

    def __init__(self, content: bytes, meta: Meta) -> None:
        self.content = content
        self.meta = meta

    @property
    def text(self) -> str:
        """The content as UTF-8; what is no UTF-8 is replaced by U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The content as JSON. Raises `ValueError` (`msgspec.DecodeError`) if it is none."""
        return msgspec.json.decode(self.content)

    def read(self) -> bytes:
        """The whole content."""
        return self.content

    async def aread(self) -> bytes:
        """The whole content."""
        return self.content

    def iter_bytes(self, chunk_size: int = 65536) -> Iterator[bytes]:
        """The content in pieces of `chunk_size` bytes; the last may be shorter."""
        if chunk_size < 1:
            raise ValueError(f"a chunk of {chunk_size} bytes is none")
        for start in range(0, len(self.content), chunk_size):
            yield self.content[start : start + chunk_size]

    async def aiter_bytes(self, chunk_size: int = 65536) -> AsyncIterator[bytes]:
        """As `iter_bytes`, for ``async for``."""
        for piece in self.iter_bytes(chunk_size):
            yield piece

    def write_to_file(self, file: str | os.PathLike[str]) -> None:
        """Write the content to a file, which is replaced if there is one. Raises `OSError`. Blocks the event loop."""
        Path(file).write_bytes(self.content)

    async def stream_to_file(self, file: str | os.PathLike[str]) -> None:
        """As `write_to_file`, in a thread."""
        await asyncio.to_thread(self.write_to_file, file)

    def __bytes__(self) -> bytes:
        return self.content

    def __len__(self) -> int:
        return len(self.content)

    def __repr__(self) -> str:
        return f"<BinaryAnswer of {len(self.content):,} bytes>"
