"""Files that are written atomically: as a whole or not at all.

Data goes to a temporary file in the same folder, which replaces the target at the end; until then an existing target is
unchanged. The temporary file is locked while its writer lives, so that a later writer in the same folder removes files
that a killed process left behind, and only those.

* Links are followed; the mode of an existing file is kept, a new file's mode follows the umask.
* A target that is not a regular file (a pipe, a terminal, ``/dev/null``, ``/dev/stdout``) is written to directly.
* If no file can be created in the folder, or the target has several hard links, another owner, or is a mount point,
data
  is collected beside it or in the system's temporary folder and copied into the target at the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator

from .disk import LockedFile, StrPath, open_flags, try_lock, write_all
from .threads import in_thread_to_its_end, open_in_thread

__all__ = ["AtomicFile", "StrPath", "write_file", "write_pieces", "write_whole"]

_START, _END = ".openaiasync-", ".tmp"
_LOOKED_AT = 10_000  # names of a folder that are read in search of abandoned files
_TOGETHER = 1 << 18  # bytes that are passed to the thread at once
_POLL = 0.02  # seconds between two attempts to write to a full pipe
_COPIED = 1 << 20  # bytes
_NO_REPLACING = frozenset({errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.ETXTBSY})
_NO_NEW_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class AtomicFile:
    """A file that is being written: `write` any number of times, then `commit` or `discard`.

    All methods block; they may be called in any thread, one at a time. `abandon` and `discard` may be called while
    another thread uses the file: they end its waiting for the reader of a pipe, and the data is removed when that
    thread is done.
    """

    def __init__(self, target: str, file: LockedFile, temporary: str | None, *, replaces: bool) -> None:
        self._target = target
        self._file: LockedFile | None = file
        self._temporary = temporary  # `None`: the target itself is written to
        self._replaces = replaces  # whether the temporary file can replace the target
        self._abandoned = threading.Event()
        self._busy = threading.Lock()
        self._discarding = False

    @classmethod
    def open(cls, path: StrPath, *, mode: int = 0o666, abandoned: Callable[[], bool] = bool) -> AtomicFile:
        """Check the target and begin; `mode` is that of a new file, before the umask.

        Raises `OSError` for a target that cannot be written to. Waits for the reader of a pipe.
        """
        named = os.fsdecode(path)
        there = _stat(named)
        target = None if there is not None and not stat.S_ISREG(there.st_mode) else _resolved(named)
        if target is None:
            return cls(named, LockedFile(_open_direct(named, abandoned)), None, replaces=False)
        if there is None:
            try:
                temporary, file = _temporary_in(os.path.dirname(target), mode)
            except OSError as error:
                error.filename = named  # not the temporary file, which the caller does not know
                raise
            return cls(target, file, temporary, replaces=True)
        os.close(os.open(target, open_flags(os.O_WRONLY)))  # a file without write permission is not replaced either
        replaces = there.st_nlink == 1
        try:
            temporary, file = _temporary_in(os.path.dirname(target), 0o600)
        except OSError as error:
            if error.errno not in _NO_NEW_FILE:
                raise
            import tempfile

            temporary, file = _temporary_in(tempfile.gettempdir(), 0o600)
            replaces = False
        return cls(target, file, temporary, replaces=replaces and _takes_over(file.descriptor, target, there))

    @property
    def direct(self) -> bool:
        """Whether data goes to the target directly."""
        return self._temporary is None

    def write(self, data: bytes) -> None:
        """Write all of the data. Raises `OSError`."""
        with self._working():
            descriptor = self._descriptor()
            view = memoryview(data)
            while view:
                try:
                    view = view[os.write(descriptor, view) :]
                except BlockingIOError:
                    self._wait(descriptor)

    @contextlib.contextmanager
    def _working(self) -> Generator[None, None, None]:
        """Keep `discard` in another thread from closing the descriptor that this one uses."""
        try:
            with self._busy:
                yield
        finally:
            if self._discarding:
                self.discard()

    def _wait(self, descriptor: int) -> None:
        if self._abandoned.is_set():
            raise OSError(errno.ECANCELED, "writing was cancelled", self._target)
        select.select([], [descriptor], [], _POLL)

    def commit(self, *, sync: bool = False, exclusive: bool = False) -> None:
        """Replace the target with the data. Raises `OSError`, leaving the target unchanged.

        With `sync` it survives a loss of power. With `exclusive` an existing target raises `FileExistsError`.
        """
        self.publish(sync=sync, exclusive=exclusive).close()

    def publish(self, *, sync: bool = False, exclusive: bool = False) -> LockedFile:
        """Commit, and return the new target, open and locked (if its file system has locks)."""
        try:
            with self._working():
                descriptor = self._descriptor()
                if self._temporary is not None:
                    if sync:
                        os.fsync(descriptor)
                    self._place(exclusive)
                    if sync:
                        _sync_folder(os.path.dirname(self._target))
                file, self._file = self._file, None
                assert file is not None
                return file
        except BaseException:
            self.discard()
            raise

    def _place(self, exclusive: bool) -> None:
        temporary = self._temporary
        assert temporary is not None
        if exclusive:
            _name_first(temporary, self._target)
        elif not self._replaces:
            self._copy()
        else:
            try:
                _replace(self, temporary, self._target)
            except OSError as error:
                if error.errno not in _NO_REPLACING or not os.path.isfile(self._target):
                    raise
                self._copy()
        self._temporary = None

    def _copy(self) -> None:
        """Copy the data into the existing target: its inode, links, owner and mode stay."""
        source, temporary = self._descriptor(), self._temporary
        target = LockedFile(os.open(self._target, open_flags(os.O_RDWR)))
        try:
            _copy_into(source, target.descriptor)
        except BaseException:
            target.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = target
        if temporary is not None:
            os.unlink(temporary)

    def abandon(self) -> None:
        """End waiting for a pipe. May be called from another thread."""
        self._abandoned.set()

    def discard(self) -> None:
        """Remove the data. Idempotent, and without effect after `commit`."""
        self._abandoned.set()
        self._discarding = True
        if not self._busy.acquire(blocking=False):
            return  # the thread that uses the descriptor closes it
        try:
            file, self._file = self._file, None
            temporary, self._temporary = self._temporary, None
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            if file is not None:
                file.close()
        finally:
            self._busy.release()

    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError(f"{self._target} is no longer being written")
        return self._file.descriptor


def write_file(path: StrPath, data: bytes) -> None:
    """Write a file as a whole, or leave an existing one unchanged. Blocks; raises `OSError`."""
    file = AtomicFile.open(path)
    try:
        file.write(data)
        file.commit()
    except BaseException:
        file.discard()
        raise


async def write_pieces(path: StrPath, pieces: AsyncIterator[bytes]) -> None:
    """Write the pieces to a file atomically, in threads: an existing file is replaced at the end, or stays unchanged.

    Raises `OSError` and exceptions of the iterator. The target is checked before the first piece is requested.
    """
    file = await _opened(path)
    held: list[bytes] = []
    size = 0

    async def write(last: bool) -> None:
        data = b"".join(held)

        def work() -> None:
            file.write(data)
            if last:
                file.commit()

        await in_thread_to_its_end(work, file.abandon)

    try:
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _TOGETHER or file.direct:
                await write(False)
                held.clear()
                size = 0
        await write(True)
    except BaseException as error:
        file.discard()
        aclose = getattr(pieces, "aclose", None)
        if aclose is not None and not isinstance(error, GeneratorExit):
            await aclose()
        raise


async def write_whole(path: StrPath, data: bytes) -> None:
    """Call `write_file` in a thread."""

    async def once() -> AsyncIterator[bytes]:
        yield data

    await write_pieces(path, once())


async def _opened(path: StrPath) -> AtomicFile:
    """Open the file in a thread. If the caller is cancelled meanwhile, no file is left behind."""
    left = threading.Event()
    return await open_in_thread(
        lambda: AtomicFile.open(path, abandoned=left.is_set), lambda file: file.discard(), left.set
    )


# -------------------------------------------------------------------------------------------------- the target


def _stat(path: str) -> os.stat_result | None:
    """Return the status of a path, links followed; `None` if it does not exist. Raises `OSError` for a directory."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return found


def _resolved(path: str) -> str | None:
    """Return the path with its links followed; `None` for an open file (``/dev/stdout``, ``/proc/self/fd/1``).

    Such a name may lead to a regular file, as with a shell's ``>``: it stands for the open descriptor, and its file
    must not be replaced.
    """
    for _ in range(40):
        folder, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(folder), name)
        if path.startswith(("/proc/", "/dev/fd/")):
            return None
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return path
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _open_direct(path: str, abandoned: Callable[[], bool]) -> int:
    flags = open_flags(os.O_WRONLY | os.O_APPEND)  # a shell's file may hold the output of other programs
    waiting = threading.Event()
    while True:
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
        if abandoned():
            raise OSError(errno.ECANCELED, "writing was cancelled", path)
        waiting.wait(_POLL)  # the pipe has no reader yet


def _takes_over(descriptor: int, target: str, there: os.stat_result) -> bool:
    """Copy owner, group and mode to the temporary file; return whether replacing the target loses nothing else."""
    if sys.platform == "win32":
        return True
    if sys.platform == "linux" and not all(name.startswith("security.") for name in _attributes(target)):
        return False  # access control lists and user attributes; the system labels a new file itself
    own = os.fstat(descriptor)
    try:
        if (own.st_uid, own.st_gid) != (there.st_uid, there.st_gid):
            os.fchown(descriptor, there.st_uid, there.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
    except OSError:
        return False
    return True


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []  # a file system without attributes


def _name_first(temporary: str, target: str) -> None:
    """Rename a file without replacing another one. Raises `FileExistsError`."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EROFS):
            raise
        # No hard links on this file system (FAT, some network ones): an empty file reserves the name first.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(temporary, target)
    else:
        os.unlink(temporary)


def _replace(file: AtomicFile, temporary: str, target: str) -> None:
    if sys.platform == "win32":  # an open file cannot be renamed there
        held = file._file
        if held is not None:
            os.close(held.descriptor)
            os.replace(temporary, target)
            held.descriptor = os.open(target, open_flags(os.O_RDWR | os.O_APPEND))
            return
    os.replace(temporary, target)


def _copy_into(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    before = os.fstat(target).st_size
    if hasattr(os, "posix_fallocate") and size > before:
        try:  # so that a full disk is noticed before the first byte is overwritten
            os.posix_fallocate(target, before, size - before)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                os.ftruncate(target, before)
                raise
    at = 0
    os.lseek(target, 0, os.SEEK_SET)
    os.lseek(source, 0, os.SEEK_SET)
    while piece := os.read(source, _COPIED):
        write_all(target, piece)
        at += len(piece)
    os.ftruncate(target, at)


def _sync_folder(folder: str) -> None:
    """Synchronise a folder, so that a new name in it survives a loss of power, if the system can."""
    with contextlib.suppress(OSError):  # Windows cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -------------------------------------------------------------------------------------------------- temporary files


def _temporary_in(folder: str, mode: int) -> tuple[str, LockedFile]:
    """Return a new, locked file with a unique name in a folder. Raises `OSError`."""
    _clean(folder)
    while True:
        path = os.path.join(folder, f"{_START}{os.urandom(8).hex()}{_END}")
        try:
            file = LockedFile(os.open(path, open_flags(os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL), mode))
        except FileExistsError:
            continue
        # Before it was locked, another writer may have removed it as an abandoned one.
        if try_lock(file.descriptor) is not False and os.path.lexists(path):
            return path, file
        file.close()


def _clean(folder: str) -> None:
    """Remove temporary files that killed processes left in a folder: those of this user that are not locked."""
    if sys.platform == "win32":
        return  # open files cannot be removed there, and abandoned ones cannot be distinguished
    try:
        with os.scandir(folder) as found:
            for _, entry in zip(range(_LOOKED_AT), found, strict=False):
                if entry.name.startswith(_START) and entry.name.endswith(_END):
                    _remove_if_left(entry.path)
    except OSError:
        return  # a folder without permission to list it


def _remove_if_left(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, open_flags(os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)))
        try:
            about = os.fstat(descriptor)
            if stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and try_lock(descriptor):
                os.unlink(path)
        finally:
            os.close(descriptor)
