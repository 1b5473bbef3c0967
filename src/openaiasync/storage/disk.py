"""Open files safely: locked for one holder, without waiting for a pipe, and without reading more than a limit.

Locks are advisory, one holder at a time, and freed by the end of the process that holds them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import stat
import sys
from functools import cache
from typing import IO, Any

__all__ = [
    "FileInUseError",
    "FileTooLargeError",
    "LockedFile",
    "StrPath",
    "is_same_file",
    "open_flags",
    "open_locked",
    "open_regular",
    "read_file",
    "read_open",
    "this_host",
    "try_lock",
    "write_all",
]

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_PIECE = 1 << 20  # bytes
_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
# Errors of file systems without locks, which some network file systems are.
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTSUP})


def open_flags(flags: int) -> int:
    """Return flags for `os.open`: binary, not inherited, and without waiting for the other end of a pipe."""
    for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    return flags


def is_same_file(descriptor: int, other: str | int) -> bool:
    """Return whether an open file is the one with this path or descriptor; False if there is no such file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(other))
    except OSError:
        return False


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data, in as many steps as the system needs. Blocks; raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


# -------------------------------------------------------------------------------------------------- locks


class FileInUseError(OSError):
    """Another holder has the lock of this file."""


class LockedFile:
    """An open and locked descriptor. `close` frees the lock; in a forked process it closes that process's copy only."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int = descriptor
        self.pid: int = os.getpid()

    @property
    def of_parent(self) -> bool:
        """Whether this process is a fork of the one that took the lock."""
        return os.getpid() != self.pid

    def close(self) -> None:
        """Unlock and close. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor < 0:
            return
        if not self.of_parent:
            # A forked child shares the lock: closing our descriptor alone would leave it held.
            with contextlib.suppress(OSError):
                _unlock(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def open_locked(path: str) -> LockedFile:
    """Open a regular file for reading and appending, and lock it.

    Raises `FileInUseError` if another holder has it or has replaced it at this instant, `OSError` if it cannot be
    opened or is not a regular file. On file systems without locks it is opened without one.
    """
    file = LockedFile(os.open(path, open_flags(os.O_RDWR | os.O_APPEND)))
    try:
        if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        # Checked after locking: a file is only replaced under its lock, so a file that has this name now and is locked
        # by us keeps the name until we release the lock.
        if try_lock(file.descriptor) is False or not is_same_file(file.descriptor, path):
            raise FileInUseError(errno.EWOULDBLOCK, "in use", path)
    except BaseException:
        file.close()
        raise
    return file


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file. Return False if another holder has the lock, `None` if the file system has no locks."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # locks are mandatory there, for readers too, so the locked byte is far beyond the data

    def _at_far(descriptor: int, mode: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, mode, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _lock(descriptor: int) -> None:
        _at_far(descriptor, msvcrt.LK_NBLCK)

    def _unlock(descriptor: int) -> None:
        _at_far(descriptor, msvcrt.LK_UNLCK)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@cache
def this_host() -> str:
    """Return a name for this machine, different after each of its starts: a host name and a part of the boot id.

    Processes with the same name share one kernel, and so its locks, even in different containers.
    """
    boot = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read(8)
    return f"{socket.gethostname()}/{boot}" if boot else socket.gethostname()


# -------------------------------------------------------------------------------------------------- reading


class FileTooLargeError(OSError):
    """A file has more bytes than may be read into memory."""

    def __init__(self, name: object, limit: int) -> None:
        super().__init__(errno.EFBIG, f"larger than the {limit:,} bytes that are read into memory", name)


def open_regular(path: StrPath) -> io.FileIO:
    """Open a regular file for reading. Raises `OSError` for any other kind: opening a pipe may wait for ever."""
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
    """Return a regular file's bytes. Blocks.

    Raises `OSError`, and `FileTooLargeError` before more than `limit` bytes are read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise FileTooLargeError(os.fspath(path), limit)
        return read_open(file, limit, os.fspath(path))


def read_open(file: IO[Any] | io.FileIO, limit: int, name: object = None) -> bytes:
    """Return the rest of an open file. Blocks.

    Raises `TypeError` for a file in text mode, `FileTooLargeError` as soon as more than `limit` bytes were read, and
    exceptions of reading.
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
