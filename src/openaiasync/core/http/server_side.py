"""The server side of HTTP/1.1 without I/O (RFC 9112): requests from bytes, responses to bytes.

`RequestParser` is strict: every shape of request smuggling is an error. Bytes go in by `feed`; `next` returns a
`RequestHead`, then pieces of the body, then ``b""`` at the exact end of the message. `ResponseFraming` turns one
response into bytes: the head, and a body framed by its length, in chunks, or until the connection closes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import unquote

from .grammar import CHUNK_EXTENSIONS, CHUNK_SIZE, FIELD_TEXT, TOKEN, TOKEN_BYTES, chunk, persists

__all__ = ["BadRequest", "RequestHead", "RequestParser", "ResponseFraming", "status_line"]

_REQUEST_LINE: Final = re.compile(rf"({TOKEN}) ([\x21\x22\x24-\x7e]+) HTTP/([0-9])\.([0-9])".encode())
_FIELD: Final = re.compile(rf"({TOKEN}):({FIELD_TEXT})".encode())
_ABSOLUTE: Final = re.compile(rb"https?://[^/?]+(/[^?]*)?(\?.*)?", re.IGNORECASE)
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-_~!$&'()*+,;=:%\[\]]*")
_CHUNK_LINE: Final = re.compile(rf"({CHUNK_SIZE})(?:{CHUNK_EXTENSIONS})?".encode())
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_MAX_CHUNK_LINE: Final = 1024
_MAX_EMPTY_LINES: Final = 4
_MAX_TRAILERS: Final = 16 * 1024


class BadRequest(Exception):
    """Raised for bytes that are not a valid request.

    `status` is the status to respond with. The connection cannot be used any further.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHead(NamedTuple):
    """The head of a request. `length` is the size of the body in bytes, 0 without a body, `None` if it is chunked."""

    method: str
    raw_path: bytes
    query: bytes
    version: str  # "1.0" or "1.1"
    fields: list[tuple[bytes, bytes]]  # names in lower case, in the order received
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8."""
        path = self.raw_path.decode("ascii")
        return unquote(path) if "%" in path else path


class RequestParser:
    """Parse the bytes of one connection into requests.

    `max_head` and `max_body` are in bytes, `max_fields` counts header fields. Beyond a limit `BadRequest` is raised
    with status 431 (414 for the request line alone) or 413.
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
        self._scan = 0  # where to resume searching the buffer: a client that sends byte by byte costs linear time
        self._left = 0  # bytes still to come of the body, or of the current chunk
        self._seen = 0  # bytes of a chunked body received so far
        self._empty_lines = 0
        self._max_head = max_head
        self._max_fields = max_fields
        self._max_body = max_body

    @property
    def buffered(self) -> int:
        """The number of bytes fed and not yet returned by `next`."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add bytes received from the network."""
        self._buffer += data

    def next(self) -> RequestHead | bytes | None:
        """Return the next head, piece of the body, or ``b""`` at the end of a body; `None` if more bytes are needed.

        A head whose `length` is 0 is a complete message: no ``b""`` follows it. Raises `BadRequest`.
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

    def body_ended(self) -> bool:
        """Take the ``b""`` at the end of the body if it comes next and needs no further bytes. Return whether it did.

        It spares another `next` after a body that arrived as a whole.
        """
        if self._state == "length" and not self._left:
            self._state = "head"
            return True
        return False

    def _take(self) -> bytes:
        buffer, size = self._buffer, self._left
        if size >= len(buffer):
            size = len(buffer)
            piece = bytes(buffer)
            buffer.clear()
        else:
            with memoryview(buffer) as view:
                piece = bytes(view[:size])
            del buffer[:size]
        self._left -= size
        if not self._left and self._state == "chunk-data":
            self._state = "chunk-end"
        return piece

    def _line(self, cap: int) -> bytes | None:
        """Return the next line without its CRLF, `None` if it is not complete."""
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
        """Advance through the framing of a chunked body. Return whether there were enough bytes to do so."""
        if state == "chunk-end":
            if len(self._buffer) < 2:
                return False
            if not self._buffer.startswith(b"\r\n"):
                raise BadRequest(400, "A chunk is longer than its declared size.")
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
            raise BadRequest(400, "A chunk size is malformed.")
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
            raise BadRequest(400, "A trailer field is malformed or too long.")
        return True

    def _next_head(self) -> RequestHead | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: a server skips empty lines before a request
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
        """Raise `BadRequest` at once for bytes that cannot become a valid head, rather than at the head's timeout."""
        if buffer[0] not in TOKEN_BYTES and bytes(buffer) != b"\r":
            raise BadRequest(400, "This is not an HTTP/1.1 request.")
        newline = buffer.find(b"\n", self._scan)
        if newline >= 0 and buffer[newline - 1] != 13:
            raise BadRequest(400, "A line of the head does not end with CRLF.")
        if len(buffer) > self._max_head:
            line_ended = buffer.find(b"\r\n", 0, self._max_head) >= 0
            raise BadRequest(
                431 if line_ended else 414, f"The head of the request is larger than {self._max_head} bytes."
            )
        self._scan = len(buffer)

    def _parse(self, lines: list[bytes]) -> RequestHead:
        match = _REQUEST_LINE.fullmatch(lines[0])
        if match is None:
            raise BadRequest(400, "The request line is malformed.")
        method, target, major, minor = match.groups()
        if major != b"1":
            raise BadRequest(505, "This server supports HTTP/1.1 only.")
        if len(lines) - 1 > self._max_fields:
            raise BadRequest(431, f"More than {self._max_fields} header fields.")
        # Most lines of a client's requests are the same in all of them.
        fields = [_known_fields.get(line) or _field_of(line) for line in lines[1:]]
        path, query = _split_target(method, target)
        modern = minor != b"0"
        length, keep_alive, expects = _framing(fields, modern)
        if length is not None and length > self._max_body:
            raise BadRequest(413, f"The body is larger than {self._max_body} bytes.")
        version = "1.1" if modern else "1.0"
        return RequestHead(method.decode("ascii"), path, query, version, fields, length, keep_alive, expects and modern)


_known_fields: Final[dict[bytes, tuple[bytes, bytes]]] = {}
_MAX_KNOWN: Final = 1024
_LONGEST_KNOWN: Final = 200  # bytes of a line
_OF_FRAMING: Final = frozenset({b"content-length", b"host", b"transfer-encoding", b"connection", b"expect"})
_NOT_KEPT: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"api-key", b"x-api-key", b"cookie", b"set-cookie"}
)


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a field line. Raises `BadRequest`. Lines without secrets are remembered.

    Everything that can be wrong with a single line is checked here, so that a known line is not checked again.
    """
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadRequest(400, "A header field is malformed.")
    field = name, value = match[1].lower(), match[2].strip(b" \t")
    if name == b"host" and _HOST.fullmatch(value) is None:
        raise BadRequest(400, "The Host field is malformed.")
    if name == b"expect" and value.lower() != b"100-continue":
        raise BadRequest(417, "The only supported expectation is 100-continue.")
    if len(line) <= _LONGEST_KNOWN and name not in _NOT_KEPT:
        if len(_known_fields) >= _MAX_KNOWN:
            _known_fields.clear()
        _known_fields[line] = field
    return field


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query
    if target == b"*" and method == b"OPTIONS":
        return b"*", b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest(400, "The request target is neither a path nor a URL.")
    return absolute[1] or b"/", (absolute[2] or b"")[1:]


def _framing(fields: list[tuple[bytes, bytes]], modern: bool) -> tuple[int | None, bool, bool]:
    """Return the length of the body, keep-alive, and whether ``Expect: 100-continue`` was sent."""
    hosts = 0
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    expects = False
    for name, value in fields:
        if name not in _OF_FRAMING:
            continue
        if name == b"content-length":
            lengths.append(value)
        elif name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            options.append(value.lower())
        else:
            expects = True
    keep_alive = modern if not options else persists(options, http_1_0=not modern)
    if hosts > 1 or (modern and not hosts):
        raise BadRequest(400, "A request must have exactly one Host field.")
    if codings:
        if lengths or not modern:
            raise BadRequest(400, "Transfer-Encoding cannot be combined with Content-Length or HTTP/1.0.")
        if codings != [b"chunked"]:
            raise BadRequest(501, "The only supported transfer coding is chunked.")
        return None, keep_alive, expects
    if not lengths:
        return 0, keep_alive, False
    if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None:
        raise BadRequest(400, "Content-Length is malformed.")
    length = int(lengths[0])
    return length, keep_alive, expects and length > 0


# -------------------------------------------------------------------------------------------------- responses

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODYLESS: Final = frozenset({204, 304})
_OF_RESPONSE: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


_known_lines: Final[dict[tuple[bytes, bytes], bytes]] = {}


def _line_of(name: bytes, value: bytes) -> bytes:
    """Return the line of a field. Raises `RuntimeError` for a line break in it. Most lines are remembered.

    Not those that are long, may be secret, or are about framing, which have to be looked at in each response.
    """
    line = b"%b: %b\r\n" % (name, value)
    if line.count(b"\n") != 1 or line.count(b"\r") != 1:
        raise RuntimeError("a header field contains a line break")
    lower = name.lower()
    if len(line) <= _LONGEST_KNOWN and lower not in _NOT_KEPT and lower not in _OF_RESPONSE and type(value) is bytes:
        if len(_known_lines) >= _MAX_KNOWN:
            _known_lines.clear()
        _known_lines[name, value] = line
    return line


def status_line(status: int) -> bytes:
    """Return the status line with its CRLF."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


class ResponseFraming:
    """Turn one response into bytes.

    `standard` are the server's own field lines (``Date``, ``Server``), each with its CRLF. `whole` is the size of the
    body in bytes if the first message is also the last one. Afterwards `keep_alive` says whether the connection can
    carry another request. Raises `RuntimeError` for a response that cannot be framed: a field with a line break, a body
    whose size differs from its ``Content-Length``.
    """

    __slots__ = ("_chunked", "_owed", "_silent", "head", "keep_alive")

    def __init__(
        self,
        request: RequestHead,
        status: int,
        fields: Iterable[tuple[bytes, bytes]],
        keep_alive: bool,
        whole: int | None,
        standard: bytes = b"",
    ) -> None:
        bodyless = status in _BODYLESS
        self._silent = bodyless or request.method == "HEAD"
        self._owed: int | None = None  # bytes of the body still to come, by Content-Length
        self._chunked = False
        start = _STATUS_LINES.get(status) or status_line(status)
        parts: list[bytes] = []
        fields = list(fields)
        known: Iterable[bytes | None]
        try:  # most fields of a server's responses are the same in all of them
            known = list(map(_known_lines.get, fields))
        except TypeError:  # some applications send lists or bytearrays
            known = [None] * len(fields)
        for field, line in zip(fields, known, strict=True):
            if line is not None:
                parts.append(line)
                continue
            name, value = field
            if (lower := name.lower()) in _OF_RESPONSE:
                if lower == b"transfer-encoding":
                    continue
                if lower == b"connection" and value.lower() == b"close":
                    keep_alive = False
                    continue
                if lower == b"content-length":
                    self._owed = int(value)
            parts.append(_line_of(name, value))
        if self._owed is None and not bodyless:
            if whole is not None:
                self._owed = whole
                if whole or not self._silent:
                    parts.append(b"content-length: %d\r\n" % whole)
            elif request.version == "1.1":
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                keep_alive = False
        if not keep_alive:
            parts.append(b"connection: close\r\n")
        elif request.version == "1.0":
            parts.append(b"connection: keep-alive\r\n")
        self.head: bytes = b"%b%b%b\r\n" % (start, standard, b"".join(parts))
        self.keep_alive: bool = keep_alive

    def body(self, data: bytes, more: bool) -> bytes:
        """Return a piece of the body as it is sent."""
        if self._silent:
            return b""
        if self._chunked:
            piece = chunk(data) if data else b""  # an empty chunk would end the body
            return piece if more else piece + chunk(b"")
        if self._owed is not None:
            self._owed -= len(data)
            if self._owed < 0 or (self._owed and not more):
                raise RuntimeError("the body is longer or shorter than its Content-Length")
        return data
