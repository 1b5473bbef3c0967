"""Reading what a caller names: never a wait for a pipe that nobody writes to, never more than fits."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import IO, Any

from .atomic import StrPath
from .filelock import open_flags

__all__ = ["FileTooLargeError", "open_regular", "read_file", "read_open"]

_PIECE = 1 << 20  # bytes


class FileTooLargeError(OSError):
    """A file has more bytes than may be read into memory."""

    def __init__(self, name: object, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than the {limit:,} bytes that are read into memory", name)


def open_regular(path: StrPath) -> io.FileIO:
    """Open a file for reading. `OSError` for what is not a regular file: opening a pipe may wait for ever."""
    descriptor = os.open(path, open_flags(os.O_RDONLY))
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            why = "not a regular file: open it in binary mode and pass the open file"
            raise OSError(errno.EINVAL, why, os.fspath(path))
        return io.FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: StrPath, limit: int) -> bytes:
    """A regular file's bytes. Blocks. Raises `OSError`, `FileTooLargeError` before much of a larger one is read."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise FileTooLargeError(os.fspath(path), limit)
        return read_open(file, limit, os.fspath(path))


def read_open(file: IO[Any] | io.FileIO, limit: int, name: object = None) -> bytes:
    """What is left of an open file, counted while it is read. Blocks.

    Raises `TypeError` for a file in text mode, `FileTooLargeError`, and what reading raises.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := file.read(min(_PIECE, limit + 1 - size)):
        if not isinstance(piece, (bytes, bytearray)):
            raise TypeError("the file is not open in binary mode ('rb')")
        pieces.append(bytes(piece))
        size += len(piece)
        if size > limit:
            raise FileTooLargeError(getattr(file, "name", None) if name is None else name, limit)
    return b"".join(pieces)
