"""HTTP/1.1 requests from bytes, without I/O: strict framing (RFC 9112), every shape of request smuggling refused.

Bytes go in by `feed`; `next` gives a `Head`, then pieces of the body, then ``b""`` at the exact end of the message.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

__all__ = ["BadRequest", "Head", "RequestParser"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TOKEN_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\x09\x20-\x7e\x80-\xff]*)")
_ABSOLUTE = re.compile(rb"https?://[^/?]+(/[^?]*)?(\?.*)?", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9.\-_~!$&'()*+,;=:%\[\]]*")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\x09\x20-\x7e\x80-\xff]*)?")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_MAX_CHUNK_LINE = 1024
_MAX_EMPTY_LINES = 4
_MAX_TRAILERS = 16 * 1024


class BadRequest(Exception):
    """Bytes that are no request this server takes. `status` is what to answer; the connection cannot go on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Head(NamedTuple):
    """A request's head. `length` is the body's size in bytes, 0 without a body, `None` when it comes in chunks."""

    method: str
    raw_path: bytes
    query: bytes
    version: str  # "1.0" or "1.1"
    fields: list[tuple[bytes, bytes]]  # names in lower case, in the order they came
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @property
    def path(self) -> str:
        """The path with its percent-encoding undone (UTF-8)."""
        path = self.raw_path.decode("ascii")
        return unquote(path) if "%" in path else path


class RequestParser:
    """Splits the bytes of one connection into requests.

    `max_head` and `max_body` are bytes, `max_fields` counts header fields; above them `BadRequest` says 431 or 413.
    """

    __slots__ = (
        "_buffer",
        "_empty_lines",
        "_left",
        "_max_body",
        "_max_fields",
        "_max_head",
        "_scan",
        "_seen",
        "_state",
    )

    def __init__(self, max_head: int = 64 * 1024, max_fields: int = 200, max_body: int = 128 * 1024 * 1024) -> None:
        self._buffer = bytearray()
        self._state = "head"  # head, length, chunk-line, chunk-data, chunk-end, trailers
        self._scan = 0  # how far the buffer has been searched, so that dripped bytes cost linear time
        self._left = 0  # bytes to come of the body, or of the chunk
        self._seen = 0  # bytes of a chunked body so far
        self._empty_lines = 0
        self._max_head = max_head
        self._max_fields = max_fields
        self._max_body = max_body

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not yet handed out."""
        return len(self._buffer)

    @property
    def between_requests(self) -> bool:
        """Whether the last request was handed out to its end (its successor may have begun)."""
        return self._state == "head"

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the network."""
        self._buffer += data

    def next(self) -> Head | bytes | None:
        """The next head, piece of body or ``b""`` (end of a body); `None` when more bytes are needed.

        A head whose `length` is 0 is a whole message: no ``b""`` follows it. Raises `BadRequest`.
        """
        while True:
            state = self._state
            if state == "head":
                return self._next_head()
            if state == "length" or state == "chunk-data":
                if self._left:
                    return self._take() if self._buffer else None
                self._state = "head"
                return b""
            if not self._step_chunked(state):
                return None
            if self._state == "head":
                return b""

    def _take(self) -> bytes:
        size = min(self._left, len(self._buffer))
        with memoryview(self._buffer) as view:
            piece = bytes(view[:size])
        del self._buffer[:size]
        self._left -= size
        if not self._left and self._state == "chunk-data":
            self._state = "chunk-end"
        return piece

    def _line(self, cap: int) -> bytes | None:
        """The next line without its CRLF."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", max(self._scan - 1, 0), cap + 2)
        if end < 0:
            if len(buffer) > cap:
                raise BadRequest(400, "A line of the chunked body is too long.")
            self._scan = len(buffer)
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        self._scan = 0
        return line

    def _step_chunked(self, state: str) -> bool:
        """Go on in the framing of a chunked body; whether there was enough to do so."""
        if state == "chunk-end":
            if len(self._buffer) < 2:
                return False
            if not self._buffer.startswith(b"\r\n"):
                raise BadRequest(400, "A chunk is longer than its size says.")
            del self._buffer[:2]
            self._state = "chunk-line"
            return True
        if state == "trailers":
            return self._step_trailers()
        line = self._line(_MAX_CHUNK_LINE)
        if line is None:
            return False
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest(400, "The size of a chunk is malformed.")
        self._left = int(match[1], 16)
        self._seen += self._left
        if self._seen > self._max_body:
            raise BadRequest(413, f"The body is larger than {self._max_body} bytes.")
        self._state = "chunk-data" if self._left else "trailers"
        self._empty_lines = 0
        return True

    def _step_trailers(self) -> bool:
        line = self._line(_MAX_TRAILERS)
        if line is None:
            return False
        if not line:
            self._state = "head"
            return True
        self._empty_lines += len(line)
        if _FIELD.fullmatch(line) is None or self._empty_lines > _MAX_TRAILERS:
            raise BadRequest(400, "A trailer of the body is malformed or too long.")
        return True

    def _next_head(self) -> Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are skipped
            self._empty_lines += 1
            if self._empty_lines > _MAX_EMPTY_LINES:
                raise BadRequest(400, "Too many empty lines before the request.")
            del buffer[:2]
            self._scan = 0
        if not buffer:
            return None
        end = buffer.find(b"\r\n\r\n", max(self._scan - 3, 0), self._max_head + 4)
        if end < 0:
            self._check_unfinished(buffer)
            return None
        lines = bytes(buffer[:end]).split(b"\r\n")
        del buffer[: end + 4]
        self._scan = 0
        self._empty_lines = 0
        head = self._parse(lines)
        if head.length is None:
            self._state = "chunk-line"
            self._seen = 0
        elif head.length:
            self._state = "length"
            self._left = head.length
        return head

    def _check_unfinished(self, buffer: bytearray) -> None:
        """Refuse early what can never become a head, so that it need not wait for the clock."""
        if buffer[0] not in _TOKEN_BYTES and bytes(buffer) != b"\r":
            raise BadRequest(400, "This is not an HTTP/1.1 request.")
        newline = buffer.find(b"\n", self._scan)
        if newline >= 0 and buffer[newline - 1] != 13:
            raise BadRequest(400, "A line of the head does not end with CRLF.")
        if len(buffer) > self._max_head:
            line_ended = buffer.find(b"\r\n", 0, self._max_head) >= 0
            raise BadRequest(431 if line_ended else 414, f"The request's head is larger than {self._max_head} bytes.")
        self._scan = len(buffer)

    def _parse(self, lines: list[bytes]) -> Head:
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            raise BadRequest(400, "The request line is malformed.")
        method, target, major, minor = match.groups()
        if major != b"1":
            raise BadRequest(505, "Only HTTP/1.1 is spoken here.")
        if len(lines) - 1 > self._max_fields:
            raise BadRequest(431, f"More than {self._max_fields} header fields.")
        fields: list[tuple[bytes, bytes]] = []
        for line in lines[1:]:
            field = _FIELD.fullmatch(line)
            if field is None:
                raise BadRequest(400, "A header field is malformed.")
            fields.append((field[1].lower(), field[2].strip(b" \t")))
        path, query = _split_target(method, target)
        modern = minor != b"0"
        length, keep_alive, expects = _framing(fields, modern)
        if length is not None and length > self._max_body:
            raise BadRequest(413, f"The body is larger than {self._max_body} bytes.")
        version = "1.1" if modern else "1.0"
        return Head(method.decode("ascii"), path, query, version, fields, length, keep_alive, expects and modern)


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*" and method == b"OPTIONS":
        return b"*", b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest(400, "The request's target is neither a path nor a URL.")
    return absolute[1] or b"/", (absolute[2] or b"")[1:]


def _framing(fields: list[tuple[bytes, bytes]], modern: bool) -> tuple[int | None, bool, bool]:
    """Length of the body, keep-alive, ``Expect: 100-continue``: all that the header fields decide."""
    hosts = 0
    lengths: list[bytes] = []
    codings: list[bytes] = []
    keep_alive, expects = modern, False
    for name, value in fields:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                raise BadRequest(400, "The Host field is malformed.")
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            options = [option.strip() for option in value.lower().split(b",")]
            keep_alive = (keep_alive or b"keep-alive" in options) and b"close" not in options
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest(417, "The only expectation met here is 100-continue.")
            expects = True
    if hosts > 1 or (modern and not hosts):
        raise BadRequest(400, "A request carries exactly one Host field.")
    if codings:
        if lengths or not modern:
            raise BadRequest(400, "Transfer-Encoding excludes Content-Length and HTTP/1.0.")
        if codings != [b"chunked"]:
            raise BadRequest(501, "The only transfer coding understood here is chunked.")
        return None, keep_alive, expects
    if not lengths:
        return 0, keep_alive, False
    if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None:
        raise BadRequest(400, "Content-Length is malformed.")
    length = int(lengths[0])
    return length, keep_alive, expects and length > 0
