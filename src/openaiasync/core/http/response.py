"""HTTP/1.1 answers without I/O (RFC 9112): bytes become a head and the pieces of a body.

`ResponseParser` is strict: what two parsers could read in two ways is an error, so that nobody in between can smuggle
an answer. It is built to be cheap too: one expression checks a whole head, fields are searched but never split, a body
costs one slice per chunk, and no split of the bytes makes it more than linear. Messages never quote the server.
"""

from __future__ import annotations

import re

from .complete_response import Http1Error

__all__ = [
    "MAX_CHUNK_EXTENSIONS",
    "MAX_CHUNK_LINE",
    "MAX_HEAD",
    "MAX_INTERIM",
    "MAX_LINES",
    "MAX_TRAILERS",
    "Http1Error",
    "ResponseParser",
]

MAX_HEAD = 262_144  # bytes of one head, its last empty line included
MAX_LINES = 1_000  # field lines of one head, or of one trailer section
MAX_INTERIM = 10  # 1xx answers before the final one
MAX_CHUNK_LINE = 1_024  # bytes of one chunk-size line with its extensions
MAX_CHUNK_EXTENSIONS = 65_536  # bytes of all chunk extensions of one answer
MAX_TRAILERS = 65_536  # bytes of the trailer section

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_FIELDS_PATTERN = re.compile(rb"(?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*+")
_STATUS_PATTERN = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: " + _TEXT + rb")?+\r\n")
_HEAD_PATTERN = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?+\r\n(" + _FIELDS_PATTERN.pattern + rb")\r\n"
)
# What can be seen to be wrong before a head is complete: with a bare LF or CR its end might never come.
_BAD_PATTERN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]|\r\n[ \t]")
_SIZE = rb"([0-9A-Fa-f]{1,16}+)"
_EXTENSIONS = rb"([ \t]*+;" + _TEXT + rb")?+"
_SEPARATOR_PATTERN = re.compile(rb"\r\n" + _SIZE + _EXTENSIONS + rb"\r\n")
_SEPARATOR_START_PATTERN = re.compile(
    rb"(?:\r(?:\n(?:" + _SIZE + rb"(?:[ \t]++\Z|" + _EXTENSIONS + rb"\r?+))?+)?+)?+",
)

# Sizes repeat all the time, and a look-up costs a third of checking and converting.
_SEPARATORS: dict[bytes, int] = {}
_SEPARATORS_KEPT = 4_096

_IN_HEAD, _IN_LENGTH, _IN_CHUNKS, _IN_TRAILERS, _UNTIL_CLOSE, _DONE = range(6)


class ResponseParser:
    """One final answer of a connection, fed with its bytes as they come.

    Read `status` (0 until the head is complete), `raw_fields`, `pieces` (append-only here: whoever takes them puts a
    new list), `complete`, and then `keep_alive`: whether the connection may serve another request. Bytes beyond the end
    make it false. Every fault raises `Http1Error`, after what came before it has been added to `pieces`.
    """

    __slots__ = (
        "_buffer",
        "_by_close",
        "_extensions",
        "_interim",
        "_left",
        "_lines",
        "_separator",
        "_state",
        "_width",
        "bodiless",
        "complete",
        "keep_alive",
        "pieces",
        "raw_fields",
        "status",
        "surplus",
    )

    def __init__(self, *, bodiless: bool = False) -> None:
        """`bodiless`: the request was a HEAD, or a CONNECT, whose answers end with their head."""
        self.bodiless: bool = bodiless
        self.status: int = 0
        self.raw_fields: bytes = b""
        self.pieces: list[bytes] = []
        self.complete: bool = False
        self.keep_alive: bool = False
        self.surplus: bool = False  # bytes came beyond the end
        self._state = _IN_HEAD
        self._by_close = False
        self._buffer: bytearray | None = None  # the part of a head or of trailers that has come
        self._lines = 0
        self._interim = 0
        self._left = 0  # bytes still to come of the body, or of the present chunk's data
        self._separator = b"\r\n"  # the part of a separator that has come; the first chunk has no CRLF before its size
        self._width = 0
        self._extensions = 0

    @property
    def began(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._state == _IN_HEAD and bool(self._buffer)

    @property
    def exact(self) -> bool:
        """Whether a complete answer ended where its framing says, and not with the connection."""
        return self.complete and not self._by_close

    @property
    def content_length(self) -> int | None:
        """Bytes still to come of a body whose length is known; `None` if it is not known (chunked, until close)."""
        return self._left if self._state == _IN_LENGTH else 0 if self._state == _DONE else None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        state = self._state
        if state == _IN_CHUNKS:
            self._feed_chunks(data)
        elif state == _IN_LENGTH:
            self._feed_length(data)
        elif state == _IN_HEAD:
            self._feed_head(data)
        elif state == _UNTIL_CLOSE:
            if data:
                self.pieces.append(data)
        elif state == _IN_TRAILERS:
            self._feed_trailers(data)
        elif data:
            self._finish(surplus=True)

    def feed_eof(self) -> bool:
        """The peer has closed. Whether the answer is complete now; if not, it was cut."""
        if self._state == _UNTIL_CLOSE:
            self._by_close = True
            self._finish()
        self.keep_alive = False
        return self.complete

    def _finish(self, surplus: bool = False) -> None:
        self._state = _DONE
        self.complete = True
        if surplus:
            self.surplus = True
            self.keep_alive = False

    # --- the head ---

    def _feed_head(self, data: bytes) -> None:
        buffer = self._buffer
        if buffer:
            seen = len(buffer)
            buffer.extend(data)
            if buffer.find(b"\r\n\r\n", max(0, seen - 3)) < 0:
                self._check_partial_head(buffer, seen)
                return
            data = bytes(buffer)
            self._buffer = None
        position = 0
        while True:
            match = _HEAD_PATTERN.match(data, position)
            if match is None:
                self._keep_partial_head(data[position:])
                return
            head_start, position = match.span()
            if position - head_start > MAX_HEAD:
                raise Http1Error(f"the head is over {MAX_HEAD} bytes")
            status = int(match[2])
            if status >= 200:
                break
            self._skip_interim(status)
        self._begin_body(status, match[1] == b"0", data[head_start:position].lower(), match[3])
        if self._state == _DONE:
            self._finish(position != len(data))
        elif position != len(data):
            self.feed(data[position:])

    def _keep_partial_head(self, data: bytes) -> None:
        if b"\r\n\r\n" in data:
            raise Http1Error(_fault_of_head(data))
        if data:
            self._lines = 0
            self._buffer = bytearray(data)
            self._check_partial_head(self._buffer, 0)

    def _check_partial_head(self, buffer: bytearray, seen: int) -> None:
        if seen < 7 and not b"HTTP/1.".startswith(buffer[:7]):
            raise Http1Error("the answer does not begin with HTTP/1.0 or HTTP/1.1")
        if _BAD_PATTERN.search(buffer, max(0, seen - 2)):
            raise Http1Error(_fault_of_head(bytes(buffer)))
        self._lines += buffer.count(b"\n", seen)
        if self._lines > MAX_LINES + 1 or len(buffer) >= MAX_HEAD:
            raise Http1Error(f"the head is over {MAX_HEAD} bytes or {MAX_LINES} lines")

    def _skip_interim(self, status: int) -> None:
        if status == 101:
            raise Http1Error("101 Switching Protocols, which was not asked for")
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise Http1Error(f"more than {MAX_INTERIM} interim (1xx) answers")

    def _begin_body(self, status: int, old: bool, lowered: bytes, raw_fields: bytes) -> None:
        """Decide how the body ends (RFC 9112, 6.3) and whether the connection may be kept (9.3)."""
        # A field line has four bytes at least, so that short heads need no counting.
        if len(raw_fields) > 4 * MAX_LINES and raw_fields.count(b"\n") > MAX_LINES:
            raise Http1Error(f"the head is over {MAX_LINES} lines")
        chunked = lowered.find(b"\r\ntransfer-encoding:") >= 0
        if chunked:
            if _values(lowered, b"\r\ntransfer-encoding:") != [b"chunked"]:
                raise Http1Error("a Transfer-Encoding other than exactly chunked")
            # RFC 9112, 6.3: chunks override a length. Whoever was in between may have believed the length, or, with
            # HTTP/1.0, may not know of chunks (6.1): what follows on such a connection is not trusted.
            length = None
            unsure = old or lowered.find(b"\r\ncontent-length:") >= 0
        else:
            length = _content_length(lowered)
            unsure = False
        if old or lowered.find(b"\r\nconnection:") >= 0:
            connection = _values(lowered, b"\r\nconnection:")
            options = {option.strip(b" \t") for value in connection for option in value.split(b",")}
            self.keep_alive = b"close" not in options and (not old or b"keep-alive" in options)
        else:
            self.keep_alive = True
        if unsure:
            self.keep_alive = False
        self.status = status
        self.raw_fields = raw_fields
        if self.bodiless or status in (204, 304) or length == 0:
            self._finish()
        elif chunked:
            self._state = _IN_CHUNKS
        elif length is not None:
            self._left = length
            self._state = _IN_LENGTH
        else:
            self.keep_alive = False
            self._state = _UNTIL_CLOSE

    # --- the body ---

    def _feed_length(self, data: bytes) -> None:
        left = self._left - len(data)
        if left > 0:
            if data:
                self.pieces.append(data)
                self._left = left
            return
        self.pieces.append(data[: self._left] if left else data)
        self._left = 0
        self._finish(left < 0)

    def _feed_chunks(self, data: bytes) -> None:
        # What stands between two chunks' data is read as one separator: CRLF, size line, CRLF. It mostly is as long as
        # the one before, so that one slice and one look-up find, check and convert it.
        left = self._left
        if left:
            if left >= len(data):
                if data:
                    self.pieces.append(data)
                    self._left = left - len(data)
                return
            self.pieces.append(data[:left])
            self._left = 0
        elif self._separator:
            data = self._separator + data
            self._separator = b""
        position = left
        width = self._width
        end_of_data = len(data)
        size_of = _SEPARATORS.get
        append = self.pieces.append
        while True:
            start = position + width
            size = size_of(data[position:start])
            if not size or start > end_of_data:
                start = data.find(b"\r\n", position + 2, position + MAX_CHUNK_LINE) + 2
                if start < 2:
                    self._keep_partial_separator(data[position:])
                    return
                size = self._chunk_size(data[position:start])
                if not size:
                    self._begin_trailers(data, start)
                    return
                self._width = width = start - position
            end = start + size
            if end > end_of_data:
                if start < end_of_data:
                    append(data[start:])
                self._left = end - end_of_data
                return
            append(data[start:end])
            position = end

    def _keep_partial_separator(self, data: bytes) -> None:
        if len(data) >= MAX_CHUNK_LINE or not _SEPARATOR_START_PATTERN.fullmatch(data):
            raise Http1Error("a chunk that does not end where its size says, or a malformed size line")
        self._separator = data

    def _chunk_size(self, separator: bytes) -> int:
        size = _SEPARATORS.get(separator)
        if size is not None:
            return size
        match = _SEPARATOR_PATTERN.fullmatch(separator)
        if match is None:
            raise Http1Error("a chunk that does not end where its size says, or a malformed size line")
        size = int(match[1], 16)
        extension = match.end(2) - match.start(2)
        if extension <= 0:
            if len(_SEPARATORS) < _SEPARATORS_KEPT:
                _SEPARATORS[separator] = size
            return size
        self._extensions += extension
        if self._extensions > MAX_CHUNK_EXTENSIONS:
            raise Http1Error(f"over {MAX_CHUNK_EXTENSIONS} bytes of chunk extensions")
        return size

    def _begin_trailers(self, data: bytes, position: int) -> None:
        if data.startswith(b"\r\n", position):
            self._finish(len(data) > position + 2)
            return
        self._state = _IN_TRAILERS
        self._buffer = bytearray(b"\r\n")  # so that the end looks the same with and without trailers
        self._lines = 0
        self._feed_trailers(data[position:])

    def _feed_trailers(self, data: bytes) -> None:
        buffer = self._buffer
        assert buffer is not None
        seen = len(buffer)
        buffer.extend(data)
        end = buffer.find(b"\r\n\r\n", max(0, seen - 3))
        stop = len(buffer) if end < 0 else end + 2
        self._lines += buffer.count(b"\n", seen, stop)
        if stop - 2 > MAX_TRAILERS or self._lines > MAX_LINES:
            raise Http1Error(f"the trailers are over {MAX_TRAILERS} bytes or {MAX_LINES} lines")
        if end < 0:
            if _BAD_PATTERN.search(buffer, max(0, seen - 2)):
                raise Http1Error("a malformed trailer section")
            return
        if not _FIELDS_PATTERN.fullmatch(buffer, 2, end + 2 if end else 2):
            raise Http1Error("a malformed trailer section")
        self._buffer = None
        self._finish(len(buffer) > end + 4)


def _values(lowered: bytes, key: bytes) -> list[bytes]:
    """The values of all field lines of this name in a lowered head; `key` is CRLF, name, colon."""
    start = lowered.find(key)
    values: list[bytes] = []
    while start >= 0:
        start += len(key)
        values.append(lowered[start : lowered.find(b"\r", start)].strip(b" \t"))
        start = lowered.find(key, start)
    return values


def _content_length(lowered: bytes) -> int | None:
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0:
        return None
    end = lowered.find(b"\r", start + 17)
    number = lowered[start + 17 : end].strip(b" \t")
    if lowered.find(b"\r\ncontent-length:", end) >= 0 or b"," in number:
        # RFC 9110, 8.6: a list or repeated lines of one identical number may be taken for that number.
        values = b",".join(_values(lowered, b"\r\ncontent-length:")).split(b",")
        numbers = {value.strip(b" \t") for value in values}
        number = numbers.pop() if len(numbers) == 1 else b""
    if not number.isdigit() or len(number) > 19:
        raise Http1Error("a Content-Length that is not one number, or contradicts another")
    return int(number)


def _fault_of_head(head: bytes) -> str:
    if not head.startswith(b"HTTP/1."):
        return "the answer does not begin with HTTP/1.0 or HTTP/1.1"
    if _BAD_PATTERN.search(head):
        return "a bare CR or LF, a folded line or a control character in the head"
    if not _STATUS_PATTERN.match(head):
        return "a malformed status line"
    return "a malformed field line"
