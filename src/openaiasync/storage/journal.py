"""Append-only files of records, with one holder at a time.

A process may die at any instant, and other programs may remove, replace or truncate a file. The holder of the lock
checks for this before each append, and a partial record at the end, left by a killed process, is cut off when the file
is next opened. The caller defines the records; here they are bytes that end with a line feed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .atomic import AtomicFile
from .disk import (
    FileInUseError,
    FileTooLargeError,
    LockedFile,
    StrPath,
    is_same_file,
    open_locked,
    read_open,
    write_all,
)

__all__ = ["AppendFile", "FileChangedError", "FileGoneError", "end_of_lines"]

_ATTEMPTS = 5  # attempts to open a file that others create and remove at the same time
_BLOCK = 1 << 16  # bytes that are read at once in search of the last line feed


class FileGoneError(OSError):
    """The file was removed or emptied while it was held; `rewrite` creates it again."""


class FileChangedError(OSError):
    """Another program replaced, wrote to or truncated the file, so the holder must not change it."""


def end_of_lines(descriptor: int) -> int:
    """Return the number of bytes of an open file up to its last line feed. Reads from the end; blocks."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _BLOCK)
        os.lseek(descriptor, start, os.SEEK_SET)
        found = os.read(descriptor, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


class AppendFile:
    """A locked file: appended records are in the file of this name even if the process is killed.

    The lock is on the file itself and taken before the file gets its name, so that two holders never write to a file
    of this name. All methods block. `close` (idempotent) and garbage collection release the lock.
    """

    def __init__(self, path: str, locked: LockedFile, size: int) -> None:
        self.path = path
        self._locked = locked
        self._size = size  # bytes that are whole records
        self._torn = False  # a partial record follows them and could not be removed
        self.close: weakref.finalize[Any, Any] = weakref.finalize(self, locked.close)

    @classmethod
    def resume(cls, path: StrPath) -> AppendFile:
        """Continue a file of any size without reading it: a last line without its line feed is cut off.

        Raises `FileInUseError`, and `OSError` for a file that does not exist or is not a regular one.
        """
        place = os.path.abspath(os.fsdecode(path))
        locked = open_locked(place)
        try:
            size = end_of_lines(locked.descriptor)
            if size < os.fstat(locked.descriptor).st_size:
                os.ftruncate(locked.descriptor, size)
        except BaseException:
            locked.close()
            raise
        return cls(place, locked, size)

    @classmethod
    def open(cls, path: StrPath, limit: int, whole: Callable[[bytes], int]) -> tuple[AppendFile, bytes]:
        """Continue a file of at most `limit` bytes; return it and the bytes of its whole records.

        `whole` takes all bytes of the file and returns how many of them are whole records; the rest, left by a killed
        process, is cut off. Raises `FileInUseError`, `OSError`, and exceptions of `whole`.
        """
        place = os.path.abspath(os.fsdecode(path))
        locked = open_locked(place)
        try:
            if os.fstat(locked.descriptor).st_size > limit:
                raise FileTooLargeError(place, limit)
            with open(locked.descriptor, "rb", buffering=0, closefd=False) as file:
                data = read_open(file, limit, place)
            size = whole(data)
            if size < len(data):
                os.ftruncate(locked.descriptor, size)
            made = cls(place, locked, size)
            if not data[:size].endswith(b"\n"):
                made.append(b"\n")
        except BaseException:
            locked.close()
            raise
        return made, data[:size]

    @classmethod
    def create(
        cls,
        path: StrPath,
        data: bytes,
        replaceable: Callable[[bytes], None],
        *,
        replace: bool = True,
        sync: bool = True,
    ) -> AppendFile:
        """Create a file with this content atomically; with `sync` it is on the disk when this returns.

        An existing file is replaced if `replaceable` does not raise for its first bytes (4 KiB at most); without
        `replace` it raises `FileExistsError`. Raises `FileInUseError` and `OSError`; the existing file is intact then.
        """
        place = os.path.abspath(os.fsdecode(path))
        for _ in range(_ATTEMPTS):
            try:
                locked = _made(place, data, replaceable, replace, sync)
            except FileExistsError:
                if not replace:
                    raise
                continue  # another process created it meanwhile: it may be replaced too, unless it is in use
            return cls(place, locked, len(data))
        raise FileInUseError(errno.EWOULDBLOCK, "in use", place)

    @property
    def size(self) -> int:
        """Bytes of whole records in the file: where the next `append` begins."""
        return self._size

    def append(self, data: bytes, *, check: bool = True) -> None:
        """Write all of the data or nothing. Raises `FileGoneError`, `FileChangedError`, `OSError`.

        Without `check` changes by other programs are not detected: for small and frequent records in the library's
        own files, for which the check would cost more than the write.
        """
        if not self.close.alive:
            raise OSError(errno.EBADF, "the file was closed", self.path)
        if check or self._torn:
            self._check()
        try:
            write_all(self._locked.descriptor, data)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._size += len(data)
        if check:
            self._check()  # it may have been replaced between the first check and the write

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file; fewer at its end. Raises `OSError`."""
        descriptor = self._locked.descriptor
        if hasattr(os, "pread"):
            return os.pread(descriptor, length, offset)
        # the file is open for appending, so this position does not affect writes
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)

    def truncate(self, size: int) -> None:
        """Truncate the file to its first `size` bytes. Raises `FileChangedError` if the file is shorter, `OSError`."""
        if size > self._size:
            raise FileChangedError(errno.EEXIST, "it was cut by another program", self.path)
        if size < self._size:
            os.ftruncate(self._locked.descriptor, size)
            self._size = size

    def rewrite(self, data: bytes) -> None:
        """Create the file again after it was removed or emptied.

        Raises `FileChangedError` if another file has its name by now, and `OSError`.
        """
        descriptor = self._locked.descriptor
        if is_same_file(descriptor, self.path):
            os.ftruncate(descriptor, 0)
            self._size, self._torn = 0, False
            self.append(data)
            return
        try:
            made = self.create(self.path, data, _nothing, sync=False)  # with the durability of the appended records
        except FileInUseError as error:
            raise FileChangedError(errno.EEXIST, "it was replaced by another session's", self.path) from error
        self.close()
        self._locked, self._size, self._torn = made._locked, made._size, False
        made.close.detach()
        self.close = weakref.finalize(self, self._locked.close)

    @property
    def intact(self) -> bool:
        """Return whether the file is open and unchanged since the last append."""
        try:
            self._check()
        except OSError:
            return False
        return self.close.alive

    def sync(self) -> None:
        """Wait until the appended records are on disk. May be called in another thread. Raises `OSError`."""
        getattr(os, "fdatasync", os.fsync)(self._locked.descriptor)  # size and data; times may be lost

    def _check(self) -> None:
        """Compare the open file with the one that has its name now. Raises `FileGoneError`, `FileChangedError`."""
        if self._locked.of_parent:
            raise FileChangedError(errno.EPERM, "it belongs to the process from which this one was forked", self.path)
        try:
            there = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileGoneError(errno.ENOENT, "it was removed", self.path) from error
        own = os.fstat(self._locked.descriptor)
        if stat.S_ISREG(there.st_mode) and there.st_size == 0 and self._size:
            raise FileGoneError(errno.ENODATA, "it was emptied", self.path)
        if not os.path.samestat(there, own):
            raise FileChangedError(errno.EEXIST, "it was replaced by another program", self.path)
        if self._torn and own.st_size > self._size:
            self._cut()
        elif own.st_size != self._size:
            what = "cut" if own.st_size < self._size else "written to"
            raise FileChangedError(errno.EEXIST, f"it was {what} by another program", self.path)

    def _cut(self) -> None:
        os.ftruncate(self._locked.descriptor, self._size)
        self._torn = False


def _made(place: str, data: bytes, replaceable: Callable[[bytes], None], replace: bool, sync: bool) -> LockedFile:
    """Return the locked file with this content and name. Raises `FileExistsError` if the name was taken meanwhile.

    A file that replaces another is synchronised first, so that a loss of power does not destroy both.
    """
    held = _held(place, replaceable, replace)
    try:
        file = AtomicFile.open(place, mode=0o600)
        try:
            file.write(data)
            if held is not None and sys.platform == "win32":
                held.close()  # an open file cannot be replaced there
            locked = file.publish(sync=sync or held is not None, exclusive=held is None)
        except BaseException:
            file.discard()
            raise
        # If it was written in place, both descriptors refer to one file, and the old one holds the lock.
        if held is not None and held.descriptor >= 0 and is_same_file(held.descriptor, locked.descriptor):
            locked.close()
            locked, held = held, None
        return locked
    finally:
        if held is not None:
            held.close()


def _held(place: str, replaceable: Callable[[bytes], None], replace: bool) -> LockedFile | None:
    """Lock the existing file that is to be replaced; return `None` if no file has the name."""
    if not replace:
        if os.path.exists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
        # Another process may create the file now. It must not be opened as one to replace: the new file then takes the
        # name only if it is free.
        return None
    try:
        held = open_locked(place)
    except FileNotFoundError:
        return None
    try:
        os.lseek(held.descriptor, 0, os.SEEK_SET)
        if first := os.read(held.descriptor, 4096):
            replaceable(first)
    except BaseException:
        held.close()
        raise
    return held


def _nothing(first: bytes) -> None:
    raise FileChangedError(errno.EEXIST, "it was replaced by another program")
