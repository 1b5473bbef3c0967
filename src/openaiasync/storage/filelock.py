"""Advisory locks on files: one holder at a time, freed by the end of the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

__all__ = ["FileInUseError", "LockedFile", "open_flags", "open_locked", "try_lock"]

_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
# What a file system says that has no locks; some network ones do.
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTSUP})


class FileInUseError(OSError):
    """Somebody else holds the lock of this file."""


def open_flags(flags: int) -> int:
    """Flags for `os.open` of a file of ours: binary, not inherited, and without waiting for the other end of a pipe."""
    for name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    return flags


class LockedFile:
    """A descriptor that is open and locked. `close` frees it; a process that was forked off only closes its copy."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int = descriptor
        self.pid: int = os.getpid()

    @property
    def of_parent(self) -> bool:
        """Whether this process was forked off from the one that took the lock."""
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

    Raises `FileInUseError` if somebody else holds it or has replaced it at this instant, `OSError` for what cannot be
    opened or is not a regular file. File systems without locks are used without.
    """
    file = LockedFile(os.open(path, open_flags(os.O_RDWR | os.O_APPEND)))
    try:
        if not stat.S_ISREG(os.fstat(file.descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        # Locked, and then looked at: whoever replaces a file does so under its lock, so that what has this name now
        # and is locked by us stays until we let go.
        if try_lock(file.descriptor) is False or not _is_at(file.descriptor, path):
            raise FileInUseError(errno.EWOULDBLOCK, "in use", path)
    except BaseException:
        file.close()
        raise
    return file


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file if nobody holds it; `False` if somebody does, `None` where the file system has no locks."""
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

    _FAR = 1 << 30  # locks bind readers as well there, so the locked byte is one that nobody reads

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
