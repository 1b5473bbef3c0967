"""Server-sent events out of bytes, as the WHATWG HTML standard says (section 9.2), in linear time and bounded memory.

What servers of this protocol usually send, pieces that are whole ``data: …`` events, takes a short way; everything
else takes the exact general way, and tests hold both against each other.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Event", "SSEDecoder", "SSEError"]

MAX_EVENT = 64 * 1024 * 1024
_CR = 13  # as an integer: to look for it as bytes costs several times as much
_BOM = b"\xef\xbb\xbf"


class SSEError(ValueError):
    """An event is larger than the cap."""


class Event(NamedTuple):
    """An event that has a name of its own."""

    event: str
    data: bytes
    id: str  # the last one that the stream set, "" without


class SSEDecoder:
    """Takes the bytes of one stream in any pieces, gives its events.

    An event without a name, or with the default name "message", is its data as plain `bytes`; another is an `Event`.
    Comments and ``retry`` are dropped: nobody reconnects to a stream that was paid for. Data is handed on as it came,
    without a check that it is UTF-8. `max_event` is in bytes of the event's lines.
    """

    __slots__ = ("_clean", "_data", "_first", "_id", "_name", "_size", "_skip_lf", "_tail", "_too_large", "max_event")

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self.max_event: int = max_event
        self._clean = True  # at the border of two events, with nothing held back
        self._first = True  # a byte order mark may still come
        self._tail = bytearray()  # the line that has not ended
        self._data: list[bytes] = []
        self._size = 0  # bytes of the event's lines that have ended
        self._name = ""
        self._id = ""
        self._skip_lf = False  # the last byte was a CR
        self._too_large = False

    @property
    def pending(self) -> int:
        """Bytes of an event that has not ended. Not zero when a stream ends inside an event, which is then lost."""
        return self._size + len(self._tail)

    def feed(self, piece: bytes) -> list[bytes | Event]:
        """The events that this piece completes.

        Raises `SSEError` for an event over the cap; events that the same piece completed before it are handed out
        first, and the next call raises.
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

    def _error(self) -> SSEError:
        return SSEError(f"an event is larger than {self.max_event} bytes")

    def _feed_parts(self, piece: bytes, out: list[bytes | Event]) -> None:
        """Of a piece that begins or ends inside an event, let what is whole between take the short way."""
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
        """The general way: any bytes."""
        if self._first:
            head = bytes(self._tail) + piece
            self._tail.clear()
            if len(head) < len(_BOM) and _BOM.startswith(head):
                self._tail += head
                self._clean = False
                return
            self._first = False
            piece = head.removeprefix(_BOM)
        if self._skip_lf and piece:
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
                    payload = data[0] if len(data) == 1 else b"\n".join(data)
                    out.append(Event(self._name, payload, self._id) if self._name else payload)
                    data.clear()
                self._name = ""
                size = 0
                continue
            if line[0] == 0x3A:  # ":" begins a comment
                continue
            size += len(line) + 1
            if size > cap:
                self._too_large = True
                break
            field, _, value = line.partition(b":")
            if value[:1] == b" ":
                value = value[1:]
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode("utf-8", "replace")
                self._name = "" if name == "message" else name
            elif field == b"id" and b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        self._size = size


def _whole_events(piece: bytes) -> list[bytes | Event] | None:
    """The data of a piece that is nothing but events of one ``data: `` line each; `None` for any other piece."""
    if not (piece.startswith(b"data: ") and piece.endswith(b"\n\n")) or _CR in piece:
        return None
    breaks = piece.count(b"\n")
    if breaks == 2:
        return [piece[6:-2]]
    events: list[bytes | Event] = [*piece[6:-2].split(b"\n\ndata: ")]
    return events if breaks == 2 * len(events) else None
