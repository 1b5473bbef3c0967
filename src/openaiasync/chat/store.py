"""Sessions in files: JSON Lines, one record for everything that happened, appended while a session talks.

The first line says what the file is. A record is an object with some of these keys, applied in this order:
``keep`` (turns that stay), ``turn`` (messages of a new one, with ``model`` and ``finish_reason``), ``set`` (head,
model, params, tools), ``summary``, ``usage`` (all that was used so far). Each is one `write`: a killed process loses
no finished turn, and a last line that was torn is left out when the file is read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

from .errors import SessionFileError
from .filelock import Locked, lock
from .history import History, Message, Turn, check_messages
from .spend import SessionUsage
from .summary import Summary

__all__ = ["Journal", "Saved", "read_session", "write_session"]

KIND, VERSION = "session", 1
_HEADER = {"openaiasync": KIND, "version": VERSION}
_MOST_OF_A_HEADER = 200  # bytes that tell whether a file is a session at all

StrPath: TypeAlias = "str | os.PathLike[str]"
Record: TypeAlias = dict[str, Any]


class Saved:
    """A session as its records tell it."""

    def __init__(self) -> None:
        self.history: History = History()
        self.model: str | None = None
        self.params: dict[str, Any] = {}
        self.tools: list[str] = []  # names only: functions are not in the file
        self.usage: SessionUsage = SessionUsage()
        self.summary: Summary | None = None

    def records(self) -> list[Record]:
        """The fewest records that tell the same."""
        known = {"head": list(self.history.head), "model": self.model, "params": self.params, "tools": self.tools}
        found: list[Record] = [{"set": known}]
        found += [turn_record(turn) for turn in self.history.turns]
        if self.summary is not None:
            found.append(summary_record(self.summary))
        found.append({"usage": msgspec.to_builtins(self.usage)})
        return found

    def apply(self, record: Record) -> None:
        """Let a record happen. Raises `ValueError` for one that cannot."""
        if "keep" in record:
            self.history.keep(_checked(record["keep"], int))
        if "turn" in record:
            messages = tuple(cast("list[Message]", _checked(record["turn"], list)))
            if not messages:
                raise ValueError("a turn without messages")
            self.history.append(Turn(messages, record.get("model"), record.get("finish_reason")))
        if "set" in record:
            self._set(_checked(record["set"], dict))
        if "summary" in record:
            made = _checked(record["summary"], dict)
            self.summary = Summary(_checked(made.get("turns"), int), _checked(made.get("text"), str))
        if "usage" in record:
            try:
                self.usage = msgspec.convert(record["usage"], SessionUsage)
            except msgspec.ValidationError as error:
                raise ValueError(f"usage: {error}") from None
        if self.summary is not None and self.summary.turns > len(self.history):
            self.summary = None

    def _set(self, known: Record) -> None:
        if "head" in known:
            head: list[Message] = _checked(known["head"], list)
            check_messages(head)
            self.history.set_head(head)
        if "model" in known:
            self.model = None if known["model"] is None else _checked(known["model"], str)
        if "params" in known:
            self.params = _checked(known["params"], dict)
        if "tools" in known:
            self.tools = [_checked(name, str) for name in _checked(known["tools"], list)]


def _checked(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind or (kind is int and value < 0):
        raise ValueError(f"{kind.__name__} expected, not {value!r:.60}")
    return value


def turn_record(turn: Turn, keep: int | None = None) -> Record:
    """A finished turn, in the place of all from turn `keep` on where that is given."""
    record: Record = {} if keep is None else {"keep": keep}
    record["turn"] = list(turn.messages)
    if turn.model is not None:
        record["model"] = turn.model
    if turn.finish_reason is not None:
        record["finish_reason"] = turn.finish_reason
    return record


def summary_record(summary: Summary) -> Record:
    """A summary that was made for want of room."""
    return {"summary": {"turns": summary.turns, "text": summary.text}}


# -------------------------------------------------------------------------------------------------- reading


def _line(record: Record) -> bytes:
    try:
        return msgspec.json.encode(record) + b"\n"
    except (TypeError, ValueError) as error:
        raise SessionFileError(f"what the session holds cannot be written as JSON: {error}") from error


def _parse(data: bytes, name: str) -> tuple[Saved, int]:
    """The session that a file's bytes tell, and how many of the bytes are whole records.

    A last line without its end, or that is no JSON, was torn when a process died: it is left out.
    """
    begin = data.find(b"\n") + 1
    header = _object(data[: begin or _MOST_OF_A_HEADER])
    if header is None or header.get("openaiasync") != KIND:
        raise SessionFileError(f"{name} is no saved session: its first line is not {_line(_HEADER).decode().strip()}")
    if header.get("version") != VERSION:
        raise SessionFileError(
            f"{name} was saved in version {header.get('version')!r} of the format, this library reads {VERSION}: "
            "update openaiasync"
        )
    saved, at, number = Saved(), begin or len(data), 1
    while at < len(data):
        number += 1
        end = data.find(b"\n", at) + 1
        record = _object(data[at : end or len(data)])
        if record is None:
            if end and end < len(data):
                raise SessionFileError(f"{name}, line {number}: no JSON object; the file is damaged")
            break
        try:
            saved.apply(record)
        except ValueError as error:
            raise SessionFileError(f"{name}, line {number}: {error}; the file is damaged") from None
        at = end or len(data)
    return saved, at


def _object(line: bytes) -> Record | None:
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return cast("Record", value) if isinstance(value, dict) else None


def read_session(path: StrPath) -> Saved:
    """The session in a file, which is only read. Raises `SessionFileError`."""
    with _file_errors("read", path):
        data = Path(path).read_bytes()
    return _parse(data, str(path))[0]


_HINTS: dict[type[OSError], str] = {
    FileNotFoundError: "give a path in a folder that exists",
    NotADirectoryError: "give a path in a folder that exists",
    IsADirectoryError: "give the path of a file",
    PermissionError: "give a path that this user may use",
}


@contextlib.contextmanager
def _file_errors(verb: str, path: StrPath) -> Generator[None, None, None]:
    """Turns what the system says into the library's error, with what to change."""
    try:
        yield
    except SessionFileError:
        raise
    except OSError as error:
        hint = _HINTS.get(type(error), "make room, or give another path")
        if verb != "write" and isinstance(error, FileNotFoundError):
            hint = "give the path of a saved session"
        raise SessionFileError(f"cannot {verb} {path}: {error.strerror or error}; {hint}") from error


# -------------------------------------------------------------------------------------------------- writing


class Journal:
    """A file that a session appends to; one session at a time, which its lock is for."""

    def __init__(self, path: Path, locked: Locked, fsync: bool) -> None:
        self.path = path
        self.fsync = fsync
        self._descriptor = locked.descriptor
        self._pending: list[bytes] = []  # lines that could not be written yet
        self.close: weakref.finalize[Any, Any] = weakref.finalize(self, locked.close)

    @classmethod
    def open(cls, path: StrPath, *, fsync: bool = False) -> tuple[Journal, Saved]:
        """Go on with a file that exists: a torn last line is cut off. Raises `SessionFileError`."""
        place = Path(os.path.abspath(path))
        with _file_errors("open", path):
            locked = lock(place)
            try:
                data = _read_all(locked.descriptor)
                saved, whole = _parse(data, str(path))
                if whole < len(data):
                    os.ftruncate(locked.descriptor, whole)
                if not data[:whole].endswith(b"\n"):
                    _write_all(locked.descriptor, b"\n")
            except BaseException:
                locked.close()
                raise
        return cls(place, locked, fsync), saved

    @classmethod
    def create(cls, path: StrPath, records: Iterable[Record], *, fsync: bool = False) -> Journal:
        """Write a file anew and go on with it. Raises `SessionFileError`."""
        place = Path(os.path.abspath(path))
        write_session(place, records)
        with _file_errors("open", path):
            return cls(place, lock(place), fsync)

    def append(self, *records: Record) -> None:
        """Write records, all or none; they are in the file when this returns, whatever happens to the process.

        Raises `SessionFileError`; the records are kept then, and go before the next ones.
        """
        self._pending += [_line(record) for record in records]
        if not self.close.alive:
            raise SessionFileError(f"{self.path} was closed")
        if not self._pending:
            return
        with _file_errors("write", self.path):
            size = os.fstat(self._descriptor).st_size
            try:
                _write_all(self._descriptor, b"".join(self._pending))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, size)
                raise
            self._pending = []

    def sync(self) -> None:
        """Wait until the disk has it (fsync). Raises `SessionFileError`."""
        with _file_errors("write", self.path):
            os.fsync(self._descriptor)


def write_session(path: Path, records: Iterable[Record]) -> None:
    """Write a file anew: whole, or what was there stays. `SessionFileError` if that is no session, or in use."""
    data = _line(_HEADER) + b"".join(map(_line, records))
    with _file_errors("write", path):
        path = Path(os.path.realpath(path))  # a link stays one
        there = path.exists()
        if there:
            _check_replaceable(path)
        # Whoever may read a new file is its owner alone: people speak their minds to a model.
        descriptor, temporary = tempfile.mkstemp(".new", f".{path.name}.", path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if there:
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Let a new name in a folder survive a loss of power, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_replaceable(path: Path) -> None:
    if not path.is_file():
        raise SessionFileError(f"{path} is no regular file; give the path of a file")
    if not path.stat().st_size:
        return
    with open(path, "rb") as file:
        header = _object(file.readline(_MOST_OF_A_HEADER))
    if header is None or header.get("openaiasync") != KIND:
        raise SessionFileError(f"{path} exists and is no saved session: remove it, or give another path")
    lock(path).close()


def _read_all(descriptor: int) -> bytes:
    found: list[bytes] = []
    while piece := os.read(descriptor, 1 << 20):
        found.append(piece)
    return b"".join(found)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
