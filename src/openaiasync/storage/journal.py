"""Files that are only appended to, by one holder at a time, which notices when its file is not there any more."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .atomic import AtomicFile, StrPath
from .filelock import FileInUseError, LockedFile, open_locked
from .reading import FileTooLargeError, read_open

__all__ = ["AppendFile", "FileChangedError", "FileGoneError"]

_TRIES = 5  # at a file that others make and remove at the same time


class FileGoneError(OSError):
    """The file was removed or emptied under its holder; `rewrite` makes it again."""


class FileChangedError(OSError):
    """Another program replaced the file, wrote to it, or cut it: what it holds now is not the holder's to change."""


class AppendFile:
    """A locked file. What `append` has written is in the file that has this name, whatever happens to the process.

    The lock is on the file itself and taken before the file gets its name, so that there is no instant at which a file
    with this name is written to by two.
    """

    def __init__(self, path: str, locked: LockedFile, size: int) -> None:
        self.path = path
        self._locked = locked
        self._size = size  # bytes that are whole records
        self._torn = False  # half a record lies behind them and could not be taken back
        self.close: weakref.finalize[Any, Any] = weakref.finalize(self, locked.close)

    @classmethod
    def open(cls, path: StrPath, limit: int, whole: Callable[[bytes], int]) -> tuple[AppendFile, bytes]:
        """Go on with a file of at most `limit` bytes; its bytes, up to what `whole` says are whole records.

        What lies behind them was torn when a process died, and is cut off. Raises `FileInUseError`, `OSError`, and
        what `whole` raises.
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
        """Make a file with this content, with `sync` on the disk when this returns, or leave what is there.

        An existing file is replaced if `replaceable` does not raise for its first bytes; without `replace` it is a
        `FileExistsError`. Raises `FileInUseError` and `OSError`.
        """
        place = os.path.abspath(os.fsdecode(path))
        for _ in range(_TRIES):
            try:
                locked = _made(place, data, replaceable, replace, sync)
            except FileExistsError:
                if not replace:
                    raise
                continue  # another process made it in the meantime: it is one to be replaced, if it is not in use
            return cls(place, locked, len(data))
        raise FileInUseError(errno.EWOULDBLOCK, "in use", place)

    def append(self, data: bytes) -> None:
        """Write all of it or nothing. Raises `FileGoneError`, `FileChangedError`, `OSError`."""
        if not self.close.alive:
            raise OSError(errno.EBADF, "the file was closed", self.path)
        self._check()
        try:
            _write_all(self._locked.descriptor, data)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._size += len(data)
        self._check()  # it may have been replaced between the first look and the writing

    def rewrite(self, data: bytes) -> None:
        """Make a file anew that has gone or was emptied. Raises `FileChangedError` if another is there, `OSError`."""
        descriptor = self._locked.descriptor
        if _same(descriptor, self.path):
            os.ftruncate(descriptor, 0)
            self._size, self._torn = 0, False
            self.append(data)
            return
        try:
            made = self.create(self.path, data, _nothing, sync=False)  # as what was appended
        except FileInUseError as error:
            raise FileChangedError(errno.EEXIST, "it was replaced by another session's", self.path) from error
        self.close()
        self._locked, self._size, self._torn = made._locked, made._size, False
        made.close.detach()
        self.close = weakref.finalize(self, self._locked.close)

    @property
    def intact(self) -> bool:
        """Whether the file is open and as it was left."""
        try:
            self._check()
        except OSError:
            return False
        return self.close.alive

    def sync(self) -> None:
        """Wait until the disk has it (fsync). Raises `OSError`."""
        os.fsync(self._locked.descriptor)

    def _check(self) -> None:
        """Compare what is open with what has its name now."""
        if self._locked.of_parent:
            raise FileChangedError(
                errno.EPERM, "it belongs to the process that this one was forked off from", self.path
            )
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
    """The locked file with this content and name. `FileExistsError` if the name was taken in the meantime.

    What takes the place of another file is on the disk first: a loss of power must not cost both.
    """
    held = _held(place, replaceable, replace)
    try:
        file = AtomicFile.open(place, mode=0o600)
        try:
            file.write(data)
            if held is not None and sys.platform == "win32":
                held.close()  # what is open cannot be replaced there
            locked = file.publish(sync=sync or held is not None, exclusive=held is None)
        except BaseException:
            file.discard()
            raise
        if held is not None and _is(held, locked):  # written in place: the lock is on the old descriptor
            locked.close()
            locked, held = held, None
        return locked
    finally:
        if held is not None:
            held.close()


def _held(place: str, replaceable: Callable[[bytes], None], replace: bool) -> LockedFile | None:
    """The lock of the file that is there and may be replaced; `None` if there is none."""
    if not replace and os.path.exists(place):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
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


def _is(one: LockedFile, other: LockedFile) -> bool:
    return one.descriptor >= 0 and os.path.samestat(os.fstat(one.descriptor), os.fstat(other.descriptor))


def _same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
