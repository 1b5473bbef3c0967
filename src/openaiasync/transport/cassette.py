"""Cassettes: recorded requests and their answers, in a file of JSON Lines that every later version reads.

The first line is ``{"format": "openaiasync-cassette", "version": 1}``, each other line one `Interaction`. A line is
appended when its answer has ended, so that a program that dies leaves a valid file of what was complete; half a line at
the end is left out. Lines may be edited, removed and written by hand: nothing is derived from them before they are
read. Fields that this version does not know are ignored and stay in the file. ::

    {"request": {"method": "POST", "path": "/chat/completions", "body": {"json": {...}}},
     "response": {"status": 200, "headers": [["content-type", "application/json"]], "wait": 0.41, "body": {...}}}

A body is ``{"json": value}``, ``{"text": "…"}`` or ``{"base64": "…"}``. A stream has ``"pieces"`` instead: pairs of
the seconds since the piece before (or since the head) and a text or ``{"base64": "…"}``, one for each event.
"""

from __future__ import annotations

import base64
import os
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Literal, Self, get_args

import msgspec

from ..core.model.plain import is_dict
from ..storage.disk import FileInUseError, StrPath, read_file
from ..storage.journal import AppendFile
from .base import TransportError
from .canonical import VOLATILE, Matching, Normalize, StoredRequest, diff_lines, difference

__all__ = ["Cassette", "CassetteError", "Interaction", "RecordMode", "StoredFailure", "StoredResponse"]

FORMAT: Final = "openaiasync-cassette"
VERSION: Final = 1
MAX_FILE: Final = 1 << 30  # bytes of a cassette that is read
_SHOWN: Final = 5  # recorded requests that a message lists

RecordMode = Literal["none", "once", "new", "all"]


class CassetteError(Exception):
    """A cassette cannot be read or written: not a cassette, of a newer version, in use; the message says what to do."""


class StoredFailure(msgspec.Struct, omit_defaults=True):
    """How an exchange broke: the fields of a `TransportError`, or kind ``"left"`` if the client went away."""

    kind: str
    message: str = ""
    clock: str | None = None
    sent: bool = True
    answered: bool = False

    @classmethod
    def of(cls, error: TransportError, message: str) -> Self:
        return cls(error.kind, message, error.clock, error.sent, error.answered)

    def error(self) -> TransportError:
        """Return the failure as a transport raises it."""
        if self.kind == "left":
            message = "the recording ends here: the client that was recorded went away"
            return TransportError("eof", message, sent=True, answered=True)
        message = self.message or f"a recorded failure ({self.kind})"
        return TransportError(self.kind, message, clock=self.clock, sent=self.sent, answered=self.answered)


class StoredResponse(msgspec.Struct, omit_defaults=True):
    """An answer as a cassette has it: decoded, and without secrets. Times are in seconds."""

    status: int
    headers: list[tuple[str, str]] = []
    wait: float = 0.0
    """From the request to the head of the answer."""
    took: float = 0.0
    """From the head to the end of `body`."""
    body: dict[str, Any] | None = None
    pieces: list[tuple[float, str | dict[str, str]]] | None = None
    inexact: bool = False
    """The body ended with its connection, without framing that would tell whether it was whole."""
    broken: StoredFailure | None = None
    """How the body broke off after what was recorded; `None` if it did not."""

    def timed_pieces(self) -> list[tuple[float, bytes]]:
        """Return the pieces of the body, each with the seconds before it."""
        if self.pieces is not None:
            return [(gap, _bytes_of({"text": one} if isinstance(one, str) else one)) for gap, one in self.pieces]
        return [(self.took, _bytes_of(self.body))] if self.body else []


class Interaction(msgspec.Struct, omit_defaults=True):
    """One line of a cassette: a request, and its answer or the failure in place of one."""

    request: StoredRequest
    response: StoredResponse | None = None
    failure: StoredFailure | None = None
    order: int = 0
    """Where requests overlap, lines are in the order of their ends; this is the order of the requests."""


class _Header(msgspec.Struct):
    format: str
    version: int


_decoder: Final = msgspec.json.Decoder(Interaction)


def stored_body(raw: bytes) -> dict[str, Any] | None:
    """Return a body in the form in which it is stored, from which `timed_pieces` makes exactly these bytes again."""
    if not raw:
        return None
    if raw[:1] in b"{[":
        try:
            value: Any = msgspec.json.decode(raw)
            if msgspec.json.encode(value) == raw:
                return {"json": value}
        except (ValueError, RecursionError):
            pass
    return stored_piece(raw) if not _is_text(raw) else {"text": raw.decode()}


def stored_piece(raw: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(raw).decode()}


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bytes_of(body: dict[str, Any]) -> bytes:
    if "json" in body:
        return msgspec.json.encode(body["json"])
    if "base64" in body:
        return base64.b64decode(body["base64"], validate=True)
    return str(body.get("text", "")).encode()


def encode_line(line: Interaction) -> bytes:
    """Return an interaction as a line of the file."""
    return msgspec.json.encode(line) + b"\n"


def header_line() -> bytes:
    """Return the first line of a file."""
    return msgspec.json.encode({"format": FORMAT, "version": VERSION}) + b"\n"


def check_header(data: bytes, name: str) -> None:
    """Raise `CassetteError` unless the data begins as a cassette of a version that can be read."""
    try:
        header = msgspec.json.decode(data.partition(b"\n")[0], type=_Header)
    except ValueError:
        header = None
    if header is None or header.format != FORMAT:
        raise CassetteError(f"{name} is not a cassette: its first line is not {header_line().decode().strip()}")
    if header.version > VERSION:
        raise CassetteError(
            f"{name} has version {header.version} of the format, which this openaiasync cannot read: "
            "upgrade openaiasync, or record it again (mode 'all')"
        )


def decode_lines(data: bytes, name: str) -> list[Interaction]:
    """Return the interactions in a file's bytes, in the order of their requests. `name` is for messages.

    Half a line at the end, which a program left behind that died while writing, is left out. Raises `CassetteError`.
    """
    check_header(data, name)
    found: list[Interaction] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            one = _decoder.decode(line)
            if one.response is not None:
                one.response.timed_pieces()
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise CassetteError(f"{name}, line {number}: {error}; repair or remove the line") from None
        found.append(one)
    return sorted(found, key=lambda one: one.order)


def whole_lines(data: bytes) -> int:
    """Return how many bytes of a file are whole lines; a last line without its line feed counts if it can be read."""
    end = data.rfind(b"\n") + 1
    try:
        msgspec.json.decode(data[end:])
    except ValueError:
        return end
    return len(data)


class Cassette:
    """Recorded interactions in a file, in which requests are looked up and to which they are added.

    `mode` decides how requests are handled: ``"none"`` replays only; ``"once"`` records if there is no file and replays
    only if there is one; ``"new"`` replays what was recorded and records the rest; ``"all"`` records everything, and
    replaces the file with the first answer.

    Each recorded answer is given once: equal requests get theirs in the recorded order, and one more is unmatched;
    with `repeat` it gets the last one again. So it does where the last one is a broken connection, since clients differ
    in how often they try again. `speed` 0 answers at once, 1 with the recorded pauses, 2 twice as fast.
    `ignore` are fields that do not count (see `Matching`), `normalize` may change a JSON body before it is compared;
    `secrets` are texts that must not get into the file, besides the credentials that are found without being named.

    Raises `CassetteError` for a file that is not a cassette, `OSError` for one that cannot be read, and `ValueError`
    for wrong options. Its methods may be called in any thread.
    """

    def __init__(
        self,
        path: StrPath,
        mode: RecordMode = "once",
        *,
        speed: float = 0.0,
        repeat: bool = False,
        ignore: Collection[str] = VOLATILE,
        normalize: Normalize | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        if mode not in get_args(RecordMode):
            raise ValueError(f"mode={mode!r}: give one of {', '.join(map(repr, get_args(RecordMode)))}")
        if not 0 <= speed < float("inf"):
            raise ValueError(f"speed={speed!r}: give 0 (at once), 1 (as recorded), or how many times as fast")
        if isinstance(secrets, str):
            raise TypeError(f"secrets is a list of texts, not a text of {len(secrets)} characters")
        self.path: str = os.path.abspath(os.fsdecode(path))
        self.mode: RecordMode = mode
        self.speed: float = float(speed)
        self.repeat: bool = repeat
        self.matching: Matching = Matching(ignore, normalize)
        self.secrets: tuple[str, ...] = tuple(secrets)
        self.unmatched: list[str] = []
        """An explanation of each request that no recorded one matched and that was not recorded either."""
        self.recorded: int = 0
        """Interactions added to the file since this object was made."""
        self._lock = threading.Lock()
        self._file: AppendFile | None = None
        self._failure: CassetteError | None = None
        self._closed = False
        self.interactions: list[Interaction] = self._load()
        """What the file held when this object was made (nothing in mode ``"all"``), in the order of the requests."""
        self.existed: bool = bool(self.interactions)
        """Whether there was something to replay when this object was made."""
        self._waiting: dict[bytes, deque[Interaction]] = {}
        self._last: dict[bytes, Interaction] = {}
        if mode != "all":
            for one in self.interactions:
                self._waiting.setdefault(self.matching.key(one.request), deque()).append(one)
        self._order = max((one.order for one in self.interactions), default=0)

    def _load(self) -> list[Interaction]:
        try:
            data = read_file(self.path, MAX_FILE)
        except FileNotFoundError:
            return []
        if self.mode == "all":
            if data:
                _check_replaceable(data, self.path)
            return []
        return decode_lines(data, self.path) if data else []

    @property
    def records(self) -> bool:
        """Whether a request that is not in the file is sent to the server and recorded."""
        return self.mode in ("new", "all") or (self.mode == "once" and not self.existed)

    @property
    def unused(self) -> list[Interaction]:
        """The recorded interactions that no request has asked for."""
        with self._lock:
            waiting = [one for queue in self._waiting.values() for one in queue]
        return sorted(waiting, key=lambda one: one.order)

    def take(self, request: StoredRequest) -> Interaction | None:
        """Return what is recorded for an equal request, using it up; `None` if there is nothing (more)."""
        key = self.matching.key(request)
        with self._lock:
            queue = self._waiting.get(key)
            if queue:
                self._last[key] = queue.popleft()
                return self._last[key]
            last = self._last.get(key)
            return last if last is not None and (self.repeat or last.failure is not None) else None

    def number(self) -> int:
        """Return the `order` of a request that is about to be sent."""
        with self._lock:
            self._order += 1
            return self._order

    def add(self, one: Interaction) -> None:
        """Append an interaction to the file. Blocks.

        It does not raise, so that the client gets its answer; `close` raises what went wrong.
        """
        line = encode_line(one)
        with self._lock:
            if self._closed or self._failure is not None:
                return
            try:
                if self._file is None:
                    self._file = self._opened()
                self._file.append(line)
            except CassetteError as error:
                self._failure = error
            except OSError as error:
                self._failure = CassetteError(f"{self.path} cannot be written: {error.strerror or error}")
            else:
                self.recorded += 1

    def _opened(self) -> AppendFile:
        try:
            if self.mode == "new" and os.path.exists(self.path) and os.path.getsize(self.path):
                file, data = AppendFile.open(self.path, MAX_FILE, whole_lines)
                try:
                    check_header(data, self.path)
                except CassetteError:
                    file.close()
                    raise
                return file
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            return AppendFile.create(
                self.path, header_line(), lambda first: _check_replaceable(first, self.path), sync=False
            )
        except FileInUseError as error:
            raise CassetteError(
                f"{self.path} is being recorded by another process: give each test, and each process, a separate file"
            ) from error

    def refuse(self, request: StoredRequest) -> str:
        """Note a request that is neither recorded nor may be sent; return the explanation."""
        message = self.explain(request)
        with self._lock:
            self.unmatched.append(message)
        return message

    def explain(self, request: StoredRequest) -> str:
        """Say why a request has no answer, and how it differs from the recorded request that comes nearest."""
        given = self.matching.canonical(request)
        lines = [f"no recorded answer: {request}"]
        if self.interactions:
            lines += [f"cassette: {self.path}", *self._nearest(request, given)]
        else:
            lines.append(f"there is no cassette {self.path}, or it is empty")
        lines.append("to record it, use mode 'new' or 'all' (--llm-record=new, --llm-record=all)")
        return "\n".join(lines)

    def _nearest(self, request: StoredRequest, given: dict[str, Any]) -> Iterable[str]:
        known = [(self.matching.canonical(one.request), number) for number, one in enumerate(self.interactions, 1)]
        same = [number for canonical, number in known if canonical == given]
        if same:
            which = ", ".join(map(str, same[:_SHOWN]))
            return [
                f"all {len(same)} recorded answers to this request are used up (interaction {which})",
                "with repeat=True the last one is given again",
            ]
        near = [pair for pair in known if pair[0]["path"] == request.path] or known
        canonical, number = min(near, key=lambda pair: difference(pair[0], given))
        differs = diff_lines(canonical, given)
        return [f"nearest recorded request: interaction {number} of {len(known)}", *(f"  {one}" for one in differs)]

    def assert_matched(self) -> None:
        """Raise `AssertionError` if a request was unmatched; the message shows the nearest recorded request."""
        if self.unmatched:
            raise AssertionError("\n\n".join(self.unmatched))

    def close(self) -> None:
        """Close the file. What ends later is not recorded. Idempotent.

        Raises `CassetteError`, once, if something could not be recorded.
        """
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __repr__(self) -> str:
        return f"<Cassette {self.path} mode={self.mode!r}: {len(self.interactions)} interactions>"


def _check_replaceable(first: bytes, name: str) -> None:
    """Raise `CassetteError` for a file that is not a cassette: recording would destroy it."""
    try:
        header = msgspec.json.decode(first.partition(b"\n")[0])
    except ValueError:
        header = None
    if not is_dict(header) or header.get("format") != FORMAT:
        raise CassetteError(f"{name} is not a cassette and is not replaced: give another path, or remove it")
