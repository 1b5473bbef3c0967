"""HTTP/1.1 responses without I/O (RFC 9112): bytes become a head and the pieces of a body.

`ResponseParser` is strict: bytes that two parsers could read in two ways are an error, so that no response can be
smuggled past it. It is also cheap: one expression checks a whole head, fields are searched but never split, a body
costs one slice per chunk, and the cost is linear however the bytes are split. Errors never quote the server.

`try_complete` is its fast path, for a response that is complete in one read, as most small ones are. It returns `None`
for anything else, which `ResponseParser` then parses; a property test checks that both give the same result.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from .grammar import (
    CHUNK_EXTENSIONS,
    CHUNK_SIZE,
    FIELD_TEXT,
    MALFORMED,
    TOKEN,
    HTTPGrammarError,
    content_length,
    field_values,
    persists,
)

__all__ = [
    "MAX_CHUNK_EXTENSIONS",
    "MAX_CHUNK_LINE",
    "MAX_HEAD",
    "MAX_INTERIM",
    "MAX_LINES",
    "MAX_TRAILERS",
    "CompleteResponse",
    "HTTPGrammarError",
    "ResponseParser",
    "try_complete",
]

MAX_HEAD = 262_144  # bytes of one head, its last empty line included
MAX_LINES = 1_000  # field lines of one head, or of one trailer section
MAX_INTERIM = 10  # 1xx responses before the final one
MAX_CHUNK_LINE = 1_024  # bytes of one chunk-size line with its extensions
MAX_CHUNK_EXTENSIONS = 65_536  # bytes of all chunk extensions of one response
MAX_TRAILERS = 65_536  # bytes of the trailer section

# ------------------------------------------------------------------------------------------------- complete in one read

_SHORT = 4_000  # bytes of a head
# Field lines except those about the framing of the message, the persistence of its connection, and a content coding.
_LINES = rf"(?:(?![cCtT](?i:onnection|ontent-length|ransfer-encoding):){TOKEN}:{FIELD_TEXT}\r\n)*+"
_UNCODED_LINES = _LINES.replace("onnection|", "onnection|ontent-encoding|")


def _whole(lines: str) -> re.Pattern[bytes]:
    length = r"(?i:content-length): ([1-9][0-9]{0,14})\r\n"
    return re.compile(rf"HTTP/1\.1 ([2-5][0-9]{{2}})(?: {FIELD_TEXT})?+\r\n({lines}{length}{lines})\r\n".encode())


_USUAL = _whole(_UNCODED_LINES)


@functools.cache
def _coded() -> re.Pattern[bytes]:
    """Compile the pattern of responses with a content coding at first use: most servers do not compress."""
    return _whole(_LINES)


CompleteResponse = tuple[int, bytes, bytes, bool]
"""Status, field lines, body, whether that has a content coding. (A named tuple would cost as much as the searches.)"""


def try_complete(data: bytes) -> CompleteResponse | None:
    """Return the response in `data` if it is a plain one that spans exactly these bytes, otherwise `None`.

    A plain response is HTTP/1.1 with a final status that has a body, one ``Content-Length``, and none of the fields
    that change framing or persistence (RFC 9112, 6 and 9), so that its connection can carry another request.
    """
    match, coded = _USUAL.match(data), False
    if match is None:
        match, coded = _coded().match(data), True
        if match is None:
            return None
    status, fields, length = match.groups()
    end = match.end()
    # Any other length is wrong. A short head has fewer lines than the limit, so they need not be counted.
    if int(length) != len(data) - end or end > _SHORT:
        return None
    if status == b"200":  # a comparison costs a fifth of a conversion
        return 200, fields, data[end:], coded
    if status == b"204" or status == b"304":
        return None
    return int(status), fields, data[end:], coded


# -------------------------------------------------------------------------------------------------- any response


class _Patterns(NamedTuple):
    head: re.Pattern[bytes]
    status_line: re.Pattern[bytes]
    fields: re.Pattern[bytes]
    malformed: re.Pattern[bytes]
    separator: re.Pattern[bytes]
    separator_start: re.Pattern[bytes]


@functools.cache
def _patterns() -> _Patterns:
    """Compile the patterns of the parser at first use, since `try_complete` may handle the first response."""
    fields = rf"(?:{TOKEN}:{FIELD_TEXT}\r\n)*+"
    extensions = rf"({CHUNK_EXTENSIONS})?+"
    patterns = (
        rf"HTTP/1\.([01]) ([1-9][0-9]{{2}})(?: {FIELD_TEXT})?+\r\n({fields})\r\n",
        rf"HTTP/1\.[01] [1-9][0-9]{{2}}(?: {FIELD_TEXT})?+\r\n",
        fields,
        MALFORMED,
        rf"\r\n({CHUNK_SIZE}){extensions}\r\n",
        rf"(?:\r(?:\n(?:{CHUNK_SIZE}(?:[ \t]++\Z|{extensions}\r?+))?+)?+)?+",
    )
    return _Patterns(*(re.compile(pattern.encode()) for pattern in patterns))


# Sizes repeat often, and a look-up costs a third of checking and converting.
_SEPARATORS: dict[bytes, int] = {}
_SEPARATORS_KEPT = 4_096

_IN_HEAD, _IN_LENGTH, _IN_CHUNKS, _IN_TRAILERS, _UNTIL_CLOSE, _DONE = range(6)


class ResponseParser:
    """Parses one final response, fed with the bytes of its connection in any pieces.

    Read `status` (0 until the head is complete), `raw_fields`, `pieces` (only appended to here: a reader takes the list
    and puts a new one in its place), `complete`, and finally `keep_alive`: whether the connection may serve another
    request. Bytes after the end make it false. Every fault raises `HTTPGrammarError`, after the valid data before it
    was added to `pieces`.
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
        """`bodiless`: the request was a HEAD, or a CONNECT, whose responses end with their head."""
        self.bodiless: bool = bodiless
        self.status: int = 0
        self.raw_fields: bytes = b""
        self.pieces: list[bytes] = []
        self.complete: bool = False
        self.keep_alive: bool = False
        self.surplus: bool = False  # bytes came after the end
        self._state = _IN_HEAD
        self._by_close = False
        self._buffer: bytearray | None = None  # the part of a head or of trailers received so far
        self._lines = 0
        self._interim = 0
        self._left = 0  # bytes still to come of the body, or of the present chunk's data
        self._separator = b"\r\n"  # the part of a separator received so far; no CRLF comes before the first size
        self._width = 0
        self._extensions = 0

    @property
    def began(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._state == _IN_HEAD and bool(self._buffer)

    @property
    def exact(self) -> bool:
        """Whether a complete response ended where its framing says, and not with the connection."""
        return self.complete and not self._by_close

    @property
    def content_length(self) -> int | None:
        """Bytes still to come of a body of known length; `None` if it is chunked or lasts until close."""
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
        """Note that the peer has closed. Return whether the response is complete; if not, it was cut."""
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
            match = _patterns().head.match(data, position)
            if match is None:
                self._keep_partial_head(data[position:])
                return
            head_start, position = match.span()
            if position - head_start > MAX_HEAD:
                raise HTTPGrammarError(f"the head is over {MAX_HEAD} bytes")
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
            raise HTTPGrammarError(_fault_of_head(data))
        if data:
            self._lines = 0
            self._buffer = bytearray(data)
            self._check_partial_head(self._buffer, 0)

    def _check_partial_head(self, buffer: bytearray, seen: int) -> None:
        # Checked at once, for servers that speak another protocol (TLS, HTTP/2): their bytes may never contain the end
        # of a head.
        if seen < 7 and not b"HTTP/1.".startswith(buffer[:7]):
            raise HTTPGrammarError("the response does not begin with HTTP/1.0 or HTTP/1.1")
        if _patterns().malformed.search(buffer, max(0, seen - 2)):
            raise HTTPGrammarError(_fault_of_head(bytes(buffer)))
        self._lines += buffer.count(b"\n", seen)
        if self._lines > MAX_LINES + 1 or len(buffer) >= MAX_HEAD:
            raise HTTPGrammarError(f"the head is over {MAX_HEAD} bytes or {MAX_LINES} lines")

    def _skip_interim(self, status: int) -> None:
        # 100 and 103 may come unrequested (RFC 9110, 15.2) and are skipped. After 101 the bytes are another protocol's.
        if status == 101:
            raise HTTPGrammarError("101 Switching Protocols, which was not requested")
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise HTTPGrammarError(f"more than {MAX_INTERIM} interim (1xx) responses")

    def _begin_body(self, status: int, old: bool, lowered: bytes, raw_fields: bytes) -> None:
        """Decide how the body ends (RFC 9112, 6.3) and whether the connection may be kept (9.3)."""
        # A field line has at least four bytes, so short heads need no counting.
        if len(raw_fields) > 4 * MAX_LINES and raw_fields.count(b"\n") > MAX_LINES:
            raise HTTPGrammarError(f"the head is over {MAX_LINES} lines")
        chunked = lowered.find(b"\r\ntransfer-encoding:") >= 0
        if chunked:
            if field_values(lowered, b"\r\ntransfer-encoding:") != [b"chunked"]:
                # "gzip, chunked" and a second line are valid (RFC 9112, 7), but this client does not ask for them (it
                # sends no TE), and proxies disagree on them, which is the classic way to hide a second response.
                raise HTTPGrammarError("a Transfer-Encoding other than exactly chunked")
            # RFC 9112, 6.3: chunks override a length. A proxy in between may have used the length, or, with HTTP/1.0,
            # may not know chunks (6.1), so later bytes on this connection are not trusted.
            length = None
            unsure = old or lowered.find(b"\r\ncontent-length:") >= 0
        else:
            length = content_length(field_values(lowered, b"\r\ncontent-length:"))
            unsure = False
        connection = field_values(lowered, b"\r\nconnection:")
        self.keep_alive = not unsure and (persists(connection, http_1_0=old) if old or connection else True)
        self.status = status
        self.raw_fields = raw_fields
        # RFC 9112, 6.3, in its order: no body by the request's method or the status, whatever the fields say; chunks; a
        # length; else all bytes until the connection closes, which must be a genuine close (9.8).
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
        # The bytes between the data of two chunks are read as one separator: CRLF, size line, CRLF (RFC 9112, 7.1). It
        # is mostly as long as the previous one, so that one slice and one look-up find, check and convert it.
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
        if len(data) >= MAX_CHUNK_LINE or not _patterns().separator_start.fullmatch(data):
            raise HTTPGrammarError("a chunk that does not end where its size says, or a malformed size line")
        self._separator = data

    def _chunk_size(self, separator: bytes) -> int:
        size = _SEPARATORS.get(separator)
        if size is not None:
            return size
        match = _patterns().separator.fullmatch(separator)
        if match is None:
            raise HTTPGrammarError("a chunk that does not end where its size says, or a malformed size line")
        size = int(match[1], 16)
        extension = match.end(2) - match.start(2)
        if extension <= 0:
            if len(_SEPARATORS) < _SEPARATORS_KEPT:
                _SEPARATORS[separator] = size
            return size
        self._extensions += extension
        if self._extensions > MAX_CHUNK_EXTENSIONS:
            raise HTTPGrammarError(f"over {MAX_CHUNK_EXTENSIONS} bytes of chunk extensions")
        return size

    def _begin_trailers(self, data: bytes, position: int) -> None:
        if data.startswith(b"\r\n", position):
            self._finish(len(data) > position + 2)
            return
        self._state = _IN_TRAILERS
        self._buffer = bytearray(b"\r\n")  # so that the same code handles the end with and without trailers
        self._lines = 0
        self._feed_trailers(data[position:])

    def _feed_trailers(self, data: bytes) -> None:
        buffer = self._buffer
        assert buffer is not None
        seen = len(buffer)
        buffer.extend(data)
        end = buffer.find(b"\r\n\r\n", max(0, seen - 3))
        stop = len(buffer) if end < 0 else end + 2
        # Trailers are checked and dropped (RFC 9110, 6.5.1 allows that): no server of this API sends any that matter.
        self._lines += buffer.count(b"\n", seen, stop)
        if stop - 2 > MAX_TRAILERS or self._lines > MAX_LINES:
            raise HTTPGrammarError(f"the trailers are over {MAX_TRAILERS} bytes or {MAX_LINES} lines")
        if end < 0:
            if _patterns().malformed.search(buffer, max(0, seen - 2)):
                raise HTTPGrammarError("a malformed trailer section")
            return
        if not _patterns().fields.fullmatch(buffer, 2, end + 2 if end else 2):
            raise HTTPGrammarError("a malformed trailer section")
        self._buffer = None
        self._finish(len(buffer) > end + 4)


def _fault_of_head(head: bytes) -> str:
    if not head.startswith(b"HTTP/1."):
        return "the response does not begin with HTTP/1.0 or HTTP/1.1"
    if _patterns().malformed.search(head):
        return "a bare CR or LF, a folded line or a control character in the head"
    if not _patterns().status_line.match(head):
        return "a malformed status line"
    return "a malformed field line"
