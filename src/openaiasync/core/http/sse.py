"""Parses server-sent events (WHATWG HTML, section 9.2), in linear time and bounded memory.

Pieces that are whole ``data: …`` events, which servers of this API mostly send, take a fast path; all others take the
general one. Tests compare the two.

The first bytes decide whether a body is events at all, not its ``Content-Type``: servers label correct event streams as
text, JSON or bytes, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

__all__ = ["Event", "EventReader", "SSEDecoder", "SSEError", "is_done", "is_silent", "looks_like_events"]

MAX_EVENT = 64 * 1024 * 1024
_CR = 13  # an integer: searching for it as bytes costs several times as much
_UNKNOWN_LINE = 4096  # bytes of a line that are kept
_BOM = b"\xef\xbb\xbf"
MAX_WHOLE = 128 * 1024 * 1024  # bytes of an object in place of a stream
_SHOWN = 64 * 1024  # bytes before the first event that an error may show
_SPACE = b" \t\r\n"
_SILENT = frozenset({b"", b"null", b"{}", b"[]", b'""'})
_MOST_SILENT = max(map(len, _SILENT))
# Names of events that keep a connection alive: Anthropic-style proxies, OpenAI's responses, gateways.
_PINGS = frozenset({"ping", "keepalive", "keep-alive", "heartbeat"})
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


class SSEError(ValueError):
    """An event is larger than the limit."""


class Event(NamedTuple):
    """An event with a name."""

    event: str
    data: bytes
    id: str  # the last one set in the stream, "" before any


class SSEDecoder:
    """Turns the bytes of one stream, in any pieces, into its events.

    An event without a name, or with the default name "message", is its data as plain `bytes`; another is an `Event`.
    Comments and ``retry`` are dropped: a stream that was paid for is not reconnected. Data is not checked to be UTF-8.
    `max_event` limits the size of an event's lines in bytes.
    """

    __slots__ = (
        "_clean",
        "_data",
        "_first",
        "_id",
        "_name",
        "_size",
        "_skip_lf",
        "_tail",
        "_too_large",
        "max_event",
        "unknown_line",
    )

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self.max_event: int = max_event
        self.unknown_line: bytes = b""
        """The first line without a known field: servers that fail in mid-stream write their error there."""
        self._clean = True  # between two events, with nothing held back
        self._first = True  # a byte order mark may follow
        self._tail = bytearray()  # the line that has not ended
        self._data: list[bytes] = []
        self._size = 0  # bytes of the complete lines of the event
        self._name = ""
        self._id = ""
        self._skip_lf = False  # the last byte was a CR
        self._too_large = False

    @property
    def pending(self) -> int:
        """Bytes of an unfinished event. Not zero if a stream ends inside an event, which is then lost."""
        return self._size + len(self._tail)

    def feed(self, piece: bytes) -> list[bytes | Event]:
        """Return the events that this piece completes.

        Raises `SSEError` for an event over the limit; if the same piece completes events before it, these are returned
        and the next call raises.
        """
        if self._clean and len(piece) <= self.max_event:
            events = _whole_events(piece)
            if events is not None:
                self._first = False
                return events
        out: list[bytes | Event] = []
        if self._too_large:
            raise self._error()
        self._feed_parts(piece, out)
        if self._too_large and not out:
            raise self._error()
        return out

    def finish(self) -> list[bytes | Event]:
        """Return the event that the end of the stream left without its empty line, if there is one."""
        if self._clean or self._too_large:
            return []
        out: list[bytes | Event] = []
        self._feed_any(b"\n\n", out)
        return out

    def _error(self) -> SSEError:
        return SSEError(f"an event is larger than {self.max_event} bytes")

    def _feed_parts(self, piece: bytes, out: list[bytes | Event]) -> None:
        """Let the whole events in a piece that begins or ends inside one take the fast path."""
        start = 0
        if _CR not in piece and len(piece) <= self.max_event:
            if not self._clean and (end := piece.find(b"\n\n")) >= 0:
                start = end + 2
                self._feed_any(piece[:start], out)
            if self._clean and piece.startswith(b"data: ", start):
                end = piece.rfind(b"\n\n", start)
                events = _whole_events(piece[start : end + 2]) if end >= 0 else None
                if events is not None:
                    self._first = False
                    out += events
                    start = end + 2
        if start < len(piece):
            self._feed_any(piece[start:] if start else piece, out)

    def _feed_any(self, piece: bytes, out: list[bytes | Event]) -> None:
        """Take any bytes: the general path."""
        if self._first:
            head = bytes(self._tail) + piece
            self._tail.clear()
            if len(head) < len(_BOM) and _BOM.startswith(head):
                self._tail += head
                self._clean = False
                return
            self._first = False
            piece = head.removeprefix(_BOM)
        if self._skip_lf and piece:  # a CR ended the last piece: an LF now belongs to it and ends no second line
            self._skip_lf = False
            if piece[0] == 0x0A:
                piece = piece[1:]
        if _CR in piece:
            self._skip_lf = piece[-1] == 0x0D
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = piece.split(b"\n")
        tail = self._tail
        rest = lines.pop()
        if lines:
            if tail:
                tail += lines[0]
                lines[0] = bytes(tail)
                tail.clear()
            self._take(lines, out)
        if rest:
            tail += rest
        if self._size + len(tail) > self.max_event:
            self._too_large = True
        self._clean = not (tail or self._size or self._skip_lf or self._too_large)

    def _take(self, lines: list[bytes], out: list[bytes | Event]) -> None:
        data, size, cap = self._data, self._size, self.max_event
        for line in lines:
            if not line:
                if data:
                    # Several data lines are one value (section 9.2.6), as of a server that indents its JSON.
                    payload = data[0] if len(data) == 1 else b"\n".join(data)
                    out.append(Event(self._name, payload, self._id) if self._name else payload)
                    data.clear()
                self._name = ""
                size = 0
                continue
            if line[0] == 0x3A:  # ":" begins a comment; OpenRouter sends them to keep a connection alive
                continue
            size += len(line) + 1
            if size > cap:
                self._too_large = True
                break
            field, value = line, b""
            if (colon := line.find(b":")) >= 0:
                field, start = line[:colon], colon + 1
                # Sliced once, since a value may have many megabytes.
                value = line[start + 1 :] if line.startswith(b" ", start) else line[start:]
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode("utf-8", "replace")
                self._name = "" if name == "message" else name
            elif field == b"id":
                if b"\0" not in value:  # as the standard requires
                    self._id = value.decode("utf-8", "replace")
            elif field != b"retry" and not self.unknown_line:
                self.unknown_line = line[:_UNKNOWN_LINE]
        self._size = size


def _whole_events(piece: bytes) -> list[bytes | Event] | None:
    """Return the data of a piece of events of one ``data: `` line each; `None` for any other piece."""
    if not (piece.startswith(b"data: ") and piece.endswith(b"\n\n")) or _CR in piece:
        return None
    # Removing the byte and comparing lengths is several times as fast as `count`, which checks one byte at a time.
    breaks = len(piece) - len(piece.replace(b"\n", b""))
    if breaks == 2:
        return [piece[6:-2]]
    events = piece.split(b"\n\ndata: ")
    if breaks != 2 * len(events):
        return None
    events[0], events[-1] = events[0][6:], events[-1][:-2]
    return [*events]


def looks_like_events(body: bytes) -> bool:
    """Whether a whole body is server-sent events."""
    return body[:256].removeprefix(_BOM).lstrip(_SPACE).startswith(_FIELDS)


def is_done(event: bytes | Event) -> bool:
    """Whether this is the ``[DONE]`` at the end of a stream, with or without blanks and quotes."""
    data = event if isinstance(event, bytes) else event.data  # the assistants API sends it with an event name
    return data.strip(b" \t\r\n\"'").startswith(b"[DONE]")


def is_silent(event: bytes | Event) -> bool:
    """Whether an event means nothing: no data, ``null``, an empty value, or a ping with any content."""
    if isinstance(event, bytes):
        return _is_empty(event)
    return event.event.lower() in _PINGS or (event.event != "error" and _is_empty(event.data))


def _is_empty(data: bytes) -> bool:
    data = data.strip()
    return len(data) <= _MOST_SILENT and data in _SILENT  # the length first: to look it up hashes all of it


class EventReader:
    """Reads the events of one stream: `feed` takes the next bytes, `finish` ends it.

    If the body is not events, `feed` returns none, and `body` is all of it, or as much of it as an error may quote.
    """

    __slots__ = ("_head", "_whole", "decoder", "feed")

    def __init__(self) -> None:
        self.decoder: SSEDecoder = SSEDecoder()
        self._head: bytearray = bytearray()  # the bytes before the first event
        self._whole: bool | None = None  # not events; `None` while undecided
        self.feed: Callable[[bytes], list[bytes | Event]] = self._begin

    def _begin(self, piece: bytes) -> list[bytes | Event]:
        """Take the first pieces, until there is an event. Raises `SSEError` for one over the limit."""
        decided = self._whole is not None
        if len(self._head) < _SHOWN or self._whole is not False:
            self._head += piece
        if not decided:
            self._decide()
        if self._whole is not False:
            if len(self._head) > MAX_WHOLE:
                raise SSEError(f"the body is larger than {MAX_WHOLE} bytes")
            return []
        events = self.decoder.feed(piece if decided else bytes(self._head))
        if events:
            self.feed = self.decoder.feed
            self._head.clear()
        return events

    def _decide(self) -> None:
        head = bytes(self._head[:256])
        if len(head) < len(_BOM) and _BOM.startswith(head):
            return
        text = head.removeprefix(_BOM).lstrip(_SPACE)
        if text or len(self._head) > _SHOWN:
            # No line of an event stream begins like these; any other line may be of an unknown field.
            self._whole = text[:1] in (b"{", b"[", b"<")

    def finish(self) -> list[bytes | Event]:
        """Return the last event of a body that ended exactly but without its empty line; nothing for half an event."""
        if self._whole is not False:
            return []
        return [event for event in self.decoder.finish() if is_done(event) or _is_json(event)]

    @property
    def is_whole(self) -> bool:
        """Whether the body is an object, a list or a page instead of events."""
        return self._whole is True

    @property
    def body(self) -> bytes:
        """The bytes in place of a first event."""
        return bytes(self._head).removeprefix(_BOM).strip()

    @property
    def words(self) -> bytes:
        """The server's text outside of events: instead of any, or on a separate line between them."""
        body = self.body
        if self._whole is False and not any(line and not line.startswith(_FIELDS) for line in body.splitlines()):
            body = b""  # only comments
        return body or self.decoder.unknown_line


def _is_json(event: bytes | Event) -> bool:
    try:
        msgspec.json.decode(event if isinstance(event, bytes) else event.data)
    except (ValueError, RecursionError):
        return False
    return True
