"""One writer for a file: an advisory lock on the file itself, which ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from .errors import SessionFileError

__all__ = ["Locked", "lock"]

_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})


class Locked:
    """A file that is open for reading and appending, and locked."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Unlock and close it."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def lock(path: Path) -> Locked:
    """Open a file that exists and lock it. `SessionFileError` if somebody else holds it; `OSError`.

    File systems without locks (some network ones) are used without.
    """
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    locked = Locked(os.open(path, flags))
    try:
        try:
            _lock(locked.descriptor)
        except OSError as error:
            if error.errno in _HELD:
                raise _in_use(path) from None
        if not os.path.samestat(os.fstat(locked.descriptor), os.stat(path)):
            raise _in_use(path)  # replaced by another session's `save` since it was opened
    except BaseException:
        locked.close()
        raise
    return locked


def _in_use(path: Path) -> SessionFileError:
    return SessionFileError(
        f"{path} is in use by another session: close that one (session.close()), or save to another path"
    )


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # locks bind everybody there, so that a byte is locked which nobody reads

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
