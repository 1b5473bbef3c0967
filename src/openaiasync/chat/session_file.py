"""Sessions in files: JSON Lines, one record for everything that happened, appended while a session talks.

The first line says what the file is. A record is an object with some of these keys, applied in this order:
``keep`` (turns that stay), ``turn`` (messages of a new one, with ``model`` and ``finish_reason``), ``set`` (head,
model, params, tools), ``summary``, ``usage`` (all that was used so far). Each is one `write`: a killed process loses
no finished turn, and a last line that was torn is left out when the file is read.
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

from ..core.policy.options import OPTION_NAMES
from ..errors import OpenAIError
from ..storage.files import FileInUseError, FileTooLargeError, read_file
from ..storage.journal import AppendFile, FileChangedError, FileGoneError
from .context_window import Summary
from .history import History, Message, Turn, check_messages
from .turn_options import ELSEWHERE, TurnOptions
from .usage import SessionUsage

__all__ = ["Journal", "Saved", "SessionFileError", "read_session", "summary_record", "turn_record"]


class SessionFileError(OpenAIError, OSError):
    """A saved session cannot be read or written: no such file, another kind, in use elsewhere, damaged, disk full."""


KIND, VERSION = "session", 1
_HEADER = {"openaiasync": KIND, "version": VERSION}
_MOST_OF_A_HEADER = 1024  # bytes that tell whether a file is a session at all
_LARGEST = 1 << 30  # bytes of a file
_MOST_USED = 10**15  # tokens, requests, or units of money

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
            self.history.append(Turn(messages, _text_or_none(record, "model"), _text_or_none(record, "finish_reason")))
        if "set" in record:
            self._set(_checked(record["set"], dict))
        if "summary" in record:
            made = _checked(record["summary"], dict)
            self.summary = Summary(_checked(made.get("turns"), int), _checked(made.get("text"), str))
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
    """`ValueError` for numbers that no session has used: a file from elsewhere must not add to a budget."""
    for name in usage.__struct_fields__:
        value: float | None = getattr(usage, name)
        if value is not None and not 0 <= value <= _MOST_USED:
            raise ValueError(f"usage: {name} cannot be {reprlib.repr(value)}")


def _check_params(params: Record) -> None:
    """`ValueError` for what a saved session does not set: a file may come from anywhere.

    Header fields, a body of one's own, timeouts and the options of turns decide where a request goes, what it carries
    and which code runs; they are the caller's alone, and were never written to a file.
    """
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    for name in params:
        if name in OPTION_NAMES or name in TurnOptions.__struct_fields__ or name in ELSEWHERE:
            raise ValueError(f"params sets {name!r}, which is never taken from a file: pass it to load_session()")
        if name not in CHAT_COMPLETIONS_CREATE.accepted:
            raise ValueError(f"params has {name!r:.60}, which is not a parameter of a chat")


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
    except (TypeError, ValueError, RecursionError) as error:
        raise SessionFileError(f"what the session holds cannot be written as JSON: {error}") from error


def _parse(data: bytes, name: str) -> tuple[Saved, int]:
    """The session that a file's bytes tell, and how many of the bytes are whole records.

    A last line without its end that is not JSON was torn when a process died: it is left out. Blank lines mean nothing.
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
    """Where the records begin. Raises `SessionFileError` for another kind of file, or another version of the format."""
    begin = data.find(b"\n", 0, _MOST_OF_A_HEADER) + 1
    header = _object(data[: begin or _MOST_OF_A_HEADER])
    if header is None or header.get("openaiasync") != KIND:
        raise SessionFileError(
            f"{name} is not a saved session: its first line is not {_line(_HEADER).decode().strip()}"
        )
    version = header.get("version")
    if type(version) is not int or version != VERSION:
        raise SessionFileError(
            f"{name} was saved in version {version!r:.60} of the format, this library reads {VERSION}: "
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
    """The session in a file, which is only read. Raises `SessionFileError`."""
    with _file_errors("read", path):
        return _parse(read_file(path, _LARGEST), str(path))[0]


_HINTS: dict[type[Exception], str] = {
    FileNotFoundError: "give a path in a folder that exists",
    NotADirectoryError: "give a path in a folder that exists",
    IsADirectoryError: "give the path of a file",
    PermissionError: "give a path that this user may use",
    FileTooLargeError: "give the path of a saved session",
    FileChangedError: "save() the session to this or another path, or load() what is there now",
}


@contextlib.contextmanager
def _file_errors(verb: str, path: StrPath) -> Generator[None, None, None]:
    """Turns what the system says into the library's error, with what to change."""
    try:
        yield
    except (SessionFileError, FileGoneError):
        raise
    except FileInUseError:
        raise SessionFileError(
            f"{path} is in use by another session: close that one (session.close()), or save to another path"
        ) from None
    except FileExistsError as error:
        raise SessionFileError(f"{path} exists: load() it, or save to another path") from error
    except MemoryError:
        raise SessionFileError(f"cannot {verb} {path}: it does not fit into memory") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        hint = _HINTS.get(type(error), "make room, or give another path")
        if verb != "write" and isinstance(error, FileNotFoundError):
            hint = "give the path of a saved session"
        why = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            hint = "give the path of a file"
        raise SessionFileError(f"cannot {verb} {path}: {why}; {hint}") from error


# -------------------------------------------------------------------------------------------------- writing


class Journal:
    """A file that a session appends to; one session at a time, which its lock is for."""

    def __init__(self, file: AppendFile, fsync: bool) -> None:
        self.path: Path = Path(file.path)
        self.fsync: bool = fsync
        self._file = file
        self._pending: list[bytes] = []  # lines that could not be written yet

    @classmethod
    def open(cls, path: StrPath, *, fsync: bool = False) -> tuple[Journal, Saved]:
        """Go on with a file that exists: a torn last line is cut off. Raises `SessionFileError`."""
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
        """Write a file anew and go on with it; whole, or what was there stays.

        Raises `SessionFileError`: a file that is not a session, one in use; any that exists, without `replace`.
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
        """Whether the file is open, and still what it was when it was last written to."""
        return self._file.intact

    def append(self, *records: Record, whole: Callable[[], Iterable[Record]] | None = None) -> None:
        """Write records, all or none; they are in the file when this returns, whatever happens to the process.

        A file that was removed or emptied is made anew of `whole`, all the records that tell the session by now.
        Raises `SessionFileError`: the disk is full, another program replaced the file; the records are kept then, and
        go before the next ones.
        """
        self._pending += [_line(record) for record in records]
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
        """Wait until the disk has it (fsync). Raises `SessionFileError`."""
        with _file_errors("write", self.path):
            self._file.sync()


def _content(records: Iterable[Record]) -> bytes:
    return _line(_HEADER) + b"".join(map(_line, records))


def _check_replaceable(path: StrPath) -> Callable[[bytes], None]:
    def check(first: bytes) -> None:
        header = _object(first.partition(b"\n")[0])
        if header is None or header.get("openaiasync") != KIND:
            raise SessionFileError(f"{path} exists and is not a saved session: remove it, or give another path")

    return check
