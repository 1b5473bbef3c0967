"""The file of a session: JSON Lines, one record for each event, appended while the session runs.

The first line names the format. A record is an object with some of these keys, applied in this order: ``keep`` (the
number of turns that stay), ``turn`` (messages of a new one, with ``model`` and ``finish_reason``), ``set`` (head,
model, params, tools), ``summary``, ``usage`` (everything used so far). Each record is one `write`: a killed process
loses no finished turn, and a torn last line is ignored when the file is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import reprlib
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

from ..core.policy.request_options import OPTION_NAMES
from ..errors import OpenAIError
from ..storage.disk import FileInUseError, FileTooLargeError, read_file
from ..storage.journal import AppendFile, FileChangedError, FileGoneError
from .context_window import HistorySummary
from .history import History, Message, Turn, check_messages
from .turn_options import NOT_IN_SESSIONS, OPTION_FIELDS
from .usage import SessionUsage

__all__ = ["Journal", "Saved", "SessionFileError", "read_session", "summary_record", "turn_record"]


class SessionFileError(OpenAIError, OSError):
    """A saved session cannot be read or written.

    The file does not exist, is of another kind, is in use by another session or is damaged, or the disk is full.
    """


KIND, VERSION = "session", 1
_HEADER = {"openaiasync": KIND, "version": VERSION}
_ENCODER = msgspec.json.Encoder()
_MOST_OF_A_HEADER = 1024  # bytes that show whether a file is a session
_LARGEST = 1 << 30  # bytes of a file
_MOST_USED = 10**15  # tokens, requests, or units of money

StrPath: TypeAlias = "str | os.PathLike[str]"
Record: TypeAlias = dict[str, Any]


class Saved:
    """A session as its records describe it."""

    def __init__(self) -> None:
        self.history: History = History()
        self.model: str | None = None
        self.params: dict[str, Any] = {}
        self.tools: list[str] = []  # names only: functions are not in the file
        self.usage: SessionUsage = SessionUsage()
        self.summary: HistorySummary | None = None

    def records(self) -> list[Record]:
        """Return the shortest list of records that describes this session."""
        known = {"head": list(self.history.head), "model": self.model, "params": self.params, "tools": self.tools}
        summary = [] if self.summary is None else [summary_record(self.summary)]
        turns = [turn_record(turn) for turn in self.history.turns]
        return [{"set": known}, *turns, *summary, {"usage": msgspec.to_builtins(self.usage)}]

    def apply(self, record: Record) -> None:
        """Apply a record. Raises `ValueError` for an invalid one."""
        if "keep" in record:
            self.history.keep(_checked(record["keep"], int))
        if "turn" in record:
            messages = tuple(cast("list[Message]", _checked(record["turn"], list)))
            if not messages:
                raise ValueError("a turn without messages")
            self.history.append(Turn(messages, _text_or_none(record, "model"), _text_or_none(record, "finish_reason")))
        if "set" in record:
            self._set(_checked(record["set"], dict))
        if "summary" in record:
            made = _checked(record["summary"], dict)
            self.summary = HistorySummary(_checked(made.get("turns"), int), _checked(made.get("text"), str))
        if "usage" in record:
            try:
                usage = msgspec.convert(record["usage"], SessionUsage)
            except msgspec.ValidationError as error:
                raise ValueError(f"usage: {error}") from None
            _check_usage(usage)
            self.usage = usage
        if self.summary is not None and self.summary.turns > len(self.history):
            self.summary = None

    def _set(self, known: Record) -> None:
        if "head" in known:
            head: list[Message] = _checked(known["head"], list)
            check_messages(head)
            self.history.set_head(head)
        if "model" in known:
            self.model = _text_or_none(known, "model")
        if "params" in known:
            self.params = _checked(known["params"], dict)
            _check_params(self.params)
        if "tools" in known:
            self.tools = [_checked(name, str) for name in _checked(known["tools"], list)]


def _checked(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind or (kind is int and value < 0):
        raise ValueError(f"{kind.__name__} expected, not {reprlib.repr(value)}")
    return value


def _text_or_none(fields: Record, name: str) -> str | None:
    value = fields.get(name)
    return None if value is None else cast("str", _checked(value, str))


def _check_usage(usage: SessionUsage) -> None:
    """Raise `ValueError` for impossible numbers: a file from elsewhere must not change what a budget allows."""
    for name in usage.__struct_fields__:
        value: float | None = getattr(usage, name)
        if value is not None and not 0 <= value <= _MOST_USED:
            raise ValueError(f"usage: {name} cannot be {reprlib.repr(value)}")


def _check_params(params: Record) -> None:
    """Raise `ValueError` for parameters that a file must not set: it may come from anywhere.

    Header fields, `extra_body`, timeouts and the options of turns decide where a request goes, what it contains and
    which code runs. Only the caller sets them, and they are never written to a file.
    """
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    for name in params:
        if name in OPTION_NAMES or name in OPTION_FIELDS or name in NOT_IN_SESSIONS:
            raise ValueError(f"params sets {name!r}, which is never taken from a file: pass it to load_session()")
        if name not in CHAT_COMPLETIONS_CREATE.accepted:
            raise ValueError(f"params has {name!r:.60}, which is not a parameter of a chat")


def turn_record(turn: Turn, keep: int | None = None) -> Record:
    """Return the record of a finished turn, which replaces all turns from number `keep` on if that is given."""
    record: Record = {} if keep is None else {"keep": keep}
    record["turn"] = list(turn.messages)
    if turn.model is not None:
        record["model"] = turn.model
    if turn.finish_reason is not None:
        record["finish_reason"] = turn.finish_reason
    return record


def summary_record(summary: HistorySummary) -> Record:
    """Return the record of a summary of the oldest turns."""
    return {"summary": {"turns": summary.turns, "text": summary.text}}


# -------------------------------------------------------------------------------------------------- reading


def _lines(*records: Record) -> bytes:
    try:
        return _ENCODER.encode_lines(records)  # without copies: a session may be of many megabytes
    except (TypeError, ValueError, RecursionError) as error:
        raise SessionFileError(f"the session's contents cannot be written as JSON: {error}") from error


def _parse(data: bytes, name: str) -> tuple[Saved, int]:
    """Return the session in a file's bytes, and how many of the bytes are whole records.

    A last line that is not JSON and has no line end was torn when a process died: it is ignored, as are blank lines.
    """
    at, number = _check_header(data, name), 1
    saved = Saved()
    while at < len(data):
        number += 1
        end = data.find(b"\n", at) + 1
        line = data[at : end or len(data)]
        record = _object(line)
        if record is None and line.strip():
            if end:
                raise SessionFileError(f"{name}, line {number}: not a JSON object; the file is damaged")
            break
        try:
            if record is not None:
                if "openaiasync" in record:
                    raise ValueError("a second header: two files were joined")
                saved.apply(record)
        except (ValueError, TypeError, RecursionError) as error:
            raise SessionFileError(f"{name}, line {number}: {error}; the file is damaged") from None
        at = end or len(data)
    return saved, at


def _check_header(data: bytes, name: str) -> int:
    """Return where the records begin. Raises `SessionFileError` for another kind of file or version of the format."""
    begin = data.find(b"\n", 0, _MOST_OF_A_HEADER) + 1
    header = _object(data[: begin or _MOST_OF_A_HEADER])
    if header is None or header.get("openaiasync") != KIND:
        raise SessionFileError(
            f"{name} is not a saved session: its first line is not {_lines(_HEADER).decode().strip()}"
        )
    version = header.get("version")
    if type(version) is not int or version != VERSION:
        raise SessionFileError(
            f"{name} was saved in version {version!r:.60} of the format, and this library reads version {VERSION}: "
            "update openaiasync"
        )
    return begin or len(data)


def _object(line: bytes) -> Record | None:
    try:
        value = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    return cast("Record", value) if isinstance(value, dict) else None


def read_session(path: StrPath) -> Saved:
    """Return the session in a file. Raises `SessionFileError`."""
    with _file_errors("read", path):
        return _parse(read_file(path, _LARGEST), str(path))[0]


_HINTS: dict[type[Exception], str] = {
    FileNotFoundError: "give a path in a folder that exists",
    NotADirectoryError: "give a path in a folder that exists",
    IsADirectoryError: "give the path of a file",
    PermissionError: "give a path that this user may access",
    FileTooLargeError: "give the path of a saved session",
    FileChangedError: "save() the session to this or another path, or load() the file's present contents",
}


@contextlib.contextmanager
def _file_errors(verb: str, path: StrPath) -> Generator[None, None, None]:
    """Convert the system's errors to `SessionFileError`, with a hint about the remedy."""
    try:
        yield
    except (SessionFileError, FileGoneError):
        raise
    except FileInUseError:
        raise SessionFileError(
            f"{path} is in use by another session: close it (session.close()), or save to another path"
        ) from None
    except FileExistsError as error:
        raise SessionFileError(f"{path} exists: load() it, or save to another path") from error
    except MemoryError:
        raise SessionFileError(f"cannot {verb} {path}: it does not fit into memory") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        hint = _HINTS.get(type(error), "free some space, or give another path")
        if verb != "write" and isinstance(error, FileNotFoundError):
            hint = "give the path of a saved session"
        why = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            hint = "give the path of a file"
        raise SessionFileError(f"cannot {verb} {path}: {why}; {hint}") from error


# -------------------------------------------------------------------------------------------------- writing


class Journal:
    """The file that a session appends to, locked against other sessions."""

    def __init__(self, file: AppendFile, fsync: bool) -> None:
        self.path: Path = Path(file.path)
        self.fsync: bool = fsync
        self._file = file
        self._pending: list[bytes] = []  # lines that could not be written yet

    @classmethod
    def open(cls, path: StrPath, *, fsync: bool = False) -> tuple[Journal, Saved]:
        """Open an existing file for appending; a torn last line is cut off. Raises `SessionFileError`."""
        found: list[Saved] = []

        def whole(data: bytes) -> int:
            saved, size = _parse(data, str(path))
            found.append(saved)
            return size

        with _file_errors("open", path):
            file, _ = AppendFile.open(path, _LARGEST, whole)
        return cls(file, fsync), found[0]

    @classmethod
    def create(cls, path: StrPath, records: Iterable[Record], *, fsync: bool = False, replace: bool = True) -> Journal:
        """Write a new file atomically and open it for appending; on failure an old file stays as it was.

        Raises `SessionFileError` if the existing file is not a saved session or is in use, and, without `replace`, for
        any existing file.
        """
        data = _content(records)
        with _file_errors("write", path):
            return cls(AppendFile.create(path, data, _check_replaceable(path), replace=replace, sync=fsync), fsync)

    @property
    def close(self) -> Callable[[], object]:
        """Unlock the file. Idempotent."""
        return self._file.close

    @property
    def intact(self) -> bool:
        """Whether the file is open and no other program has changed it since the last write."""
        return self._file.intact

    def append(self, *records: Record, whole: Callable[[], Iterable[Record]] | None = None) -> None:
        """Write records, all or none of them. Once this returns they survive the end of the process.

        If the file was removed or emptied, it is written again from `whole`, all records of the session so far. Raises
        `SessionFileError` if the disk is full or another program replaced the file: the records are then kept, and
        written before the next ones.
        """
        self._pending += [_lines(record) for record in records]
        if not self._file.close.alive:
            raise SessionFileError(f"{self.path} was closed")
        if not self._pending:
            return
        with _file_errors("write", self.path):
            try:
                self._file.append(b"".join(self._pending))
            except FileGoneError as error:
                if whole is None:
                    raise FileChangedError(*error.args) from error
                self._file.rewrite(_content(whole()))
            self._pending = []

    def sync(self) -> None:
        """Wait until the data is on the disk (fsync). Raises `SessionFileError`."""
        with _file_errors("write", self.path):
            self._file.sync()


def _content(records: Iterable[Record]) -> bytes:
    return _lines(_HEADER, *records)


def _check_replaceable(path: StrPath) -> Callable[[bytes], None]:
    def check(first: bytes) -> None:
        header = _object(first.partition(b"\n")[0])
        if header is None or header.get("openaiasync") != KIND:
            raise SessionFileError(f"{path} exists and is not a saved session: remove it, or give another path")

    return check
