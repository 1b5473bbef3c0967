"""Cassettes: recorded requests and their responses, in a JSON Lines file that every later version can read.

The first line is ``{"format": "openaiasync-cassette", "version": 1}``, each other line is an `Interaction`. A line is
appended when its response has ended, so that a crashed program leaves a valid file with all complete interactions; a
partial last line is ignored. Lines may be edited, removed and written by hand. Unknown fields are ignored and stay in
the file. ::

    {"request": {"method": "POST", "path": "/chat/completions", "body": {"json": {...}}},
     "response": {"status": 200, "headers": [["content-type", "application/json"]], "wait": 0.41, "body": {...}}}

A body is ``{"json": value}``, ``{"text": "…"}`` or ``{"base64": "…"}``. A stream has ``"pieces"`` instead, one for
each event: pairs of the seconds since the previous piece (or the head) and a text or ``{"base64": "…"}``.
"""

from __future__ import annotations

import base64
import logging
import os
import re
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
BOM: Final = b"\xef\xbb\xbf"  # some editors write it
_CONFLICT: Final = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")
_CONFLICT_ADVICE: Final = "an unresolved merge conflict: keep the recorded lines of either side, remove the markers"
_LINE_BREAK: Final = re.compile(r"[\r\n\0]")
_SHOWN: Final = 5  # recorded requests that a message lists

_log = logging.getLogger("openaiasync")

RecordMode = Literal["none", "once", "new", "all"]


class CassetteError(Exception):
    """A cassette cannot be read or written: not a cassette, of a newer version, in use; the message says what to do."""


class StoredFailure(msgspec.Struct, omit_defaults=True):
    """Why an exchange failed: the fields of a `TransportError`, or kind ``"left"`` if the client closed it."""

    kind: str
    message: str = ""
    clock: str | None = None
    sent: bool = True
    answered: bool = False

    @classmethod
    def of(cls, error: TransportError, message: str) -> Self:
        return cls(error.kind, message, error.clock, error.sent, error.answered)

    def error(self) -> TransportError:
        """Return the `TransportError` to raise on replay."""
        if self.kind == "left":
            message = "the recording ends here: the recorded client closed the connection"
            return TransportError("eof", message, sent=True, answered=True)
        message = self.message or f"a recorded failure ({self.kind})"
        return TransportError(self.kind, message, clock=self.clock, sent=self.sent, answered=self.answered)


class StoredResponse(msgspec.Struct, omit_defaults=True):
    """A response as stored in a cassette, decoded and without secrets. Times are in seconds."""

    status: int
    headers: list[tuple[str, str]] = []
    wait: float = 0.0
    """From the request to the head of the answer."""
    took: float = 0.0
    """From the head to the end of `body`."""
    body: dict[str, Any] | None = None
    pieces: list[tuple[float, str | dict[str, str]]] | None = None
    inexact: bool = False
    """The body ended with its connection, without framing that would show whether it was complete."""
    broken: StoredFailure | None = None
    """Why the body ended early; `None` if it is complete."""

    def timed_pieces(self) -> list[tuple[float, bytes]]:
        """Return the pieces of the body, each with the seconds before it."""
        if self.pieces is not None:
            return [(gap, _bytes_of({"text": one} if isinstance(one, str) else one)) for gap, one in self.pieces]
        return [(self.took, _bytes_of(self.body))] if self.body else []


class Interaction(msgspec.Struct, omit_defaults=True):
    """One line of a cassette: a request, and its response or the failure in place of one."""

    request: StoredRequest
    response: StoredResponse | None = None
    failure: StoredFailure | None = None
    order: int = 0
    """The position among the requests. Lines are in the order in which responses ended, which may differ."""

    def check(self) -> None:
        """Raise `ValueError` for a line that cannot be replayed: files are edited by hand."""
        if (self.response is None) == (self.failure is None):
            raise ValueError("an interaction has either a response or a failure")
        if self.response is not None:
            if not 200 <= self.response.status <= 999:
                raise ValueError(f"{self.response.status} is not the status of a response")
            if any(_LINE_BREAK.search(text) for pair in self.response.headers for text in pair):
                raise ValueError("a header field of the response has a line break")
            self.response.timed_pieces()


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
    first = data.removeprefix(BOM).partition(b"\n")[0]
    try:
        header = msgspec.json.decode(first, type=_Header)
    except ValueError:
        header = None
    if first.startswith(_CONFLICT):
        raise CassetteError(f"{name}, line 1: {_CONFLICT_ADVICE}")
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
            one.check()
        except (ValueError, RecursionError) as error:
            if line.startswith(_CONFLICT):
                raise CassetteError(f"{name}, line {number}: {_CONFLICT_ADVICE}") from None
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
    """Recorded interactions in a file.

    `mode`: ``"none"`` only replays; ``"once"`` records if the file is missing, and only replays otherwise; ``"new"``
    replays recorded requests and records all others; ``"all"`` records everything and replaces the file when the first
    response has ended.

    Each response is replayed once; equal requests get theirs in the recorded order. A further equal request is
    unmatched, unless `repeat` is set or the last recorded outcome is a failed connection (clients differ in how often
    they retry): then it gets the last one again. `speed` 0 replays at once, 1 with the recorded pauses, 2 twice as
    fast. `ignore` names fields that are not compared (see `Matching`); `normalize` may change a JSON body before it is
    compared. `secrets` are texts to keep out of the file, besides credentials, which are recognised.

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
        """For each request that matched no recorded one and could not be recorded, an explanation."""
        self.recorded: int = 0
        """The number of interactions added to the file by this object."""
        self._lock = threading.Lock()
        self._file: AppendFile | None = None
        self._failure: CassetteError | None = None
        self._closed = False
        self.interactions: list[Interaction] = self._load()
        """The interactions that can be replayed (none in mode ``"all"``), in the order of the requests."""
        self.existed: bool = bool(self.interactions)
        """Whether the file held interactions when this object was created."""
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
        """Whether requests that match no recorded one are sent to the server and recorded."""
        return self.mode in ("new", "all") or (self.mode == "once" and not self.existed)

    @property
    def unused(self) -> list[Interaction]:
        """The interactions that have not been replayed."""
        with self._lock:
            waiting = [one for queue in self._waiting.values() for one in queue]
        return sorted(waiting, key=lambda one: one.order)

    def take(self, request: StoredRequest) -> Interaction | None:
        """Return the next interaction with an equal request and mark it as used; `None` if all were used."""
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

        Does not raise, so that the client gets its response; a failure is logged, and `close` raises it.
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
                return
        _log.error("Nothing more is recorded: %s", self._failure)

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

    def check_writable(self) -> None:
        """Raise `CassetteError` if the file could not be recorded, before anything is sent. Creates its folder."""
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise CassetteError(f"{self.path} cannot be written: {error.strerror or error}") from None
        if not os.access(self.path if os.path.exists(self.path) else folder, os.W_OK):
            raise CassetteError(f"{self.path} cannot be written: no permission")

    def refuse(self, request: StoredRequest) -> str:
        """Add a request to `unmatched` and return the explanation."""
        message = self.explain(request)
        with self._lock:
            self.unmatched.append(message)
        return message

    def explain(self, request: StoredRequest) -> str:
        """Explain why a request has no recorded response, with its differences from the most similar recorded one."""
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
        """Close the file. Responses that end later are not recorded. Idempotent.

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
        header = msgspec.json.decode(first.removeprefix(BOM).partition(b"\n")[0])
    except ValueError:
        header = None
    if not is_dict(header) or header.get("format") != FORMAT:
        raise CassetteError(f"{name} is not a cassette and is not replaced: give another path, or remove it")
