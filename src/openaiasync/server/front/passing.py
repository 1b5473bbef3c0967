"""What a front passes on: header fields without those of the connection, bodies as they are, the end of an answer.

A body of up to a megabyte, and JSON up to the front's limit, is read before it is sent, so that it can be sent again; a
longer upload is streamed through and sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any, Final

from ...core.http.codings import CodingError, Inflater
from ...core.policy.estimate import Usage
from ...engine.forward import usage_in
from ..asgi import Message, Receive
from ..context import RequestContext
from ..errors import HTTPError
from ..presence import ClientLeft

__all__ = [
    "BYTES_A_TOKEN",
    "AnswerTail",
    "EventBoundary",
    "StreamedBody",
    "read_body",
    "request_fields",
    "response_fields",
    "static_fields",
]

READ_FIRST: Final = 1 << 20  # bytes of a body other than JSON up to which it is read before it is sent
TAIL: Final = 64 * 1024  # bytes of the end of an answer, which has its usage
_MAX_CACHED: Final = 8 << 20  # bytes of an answer that is put into the cache
_LONGEST_EVENT: Final = 1 << 20  # bytes after which an unfinished event is passed on
BYTES_A_TOKEN: Final = 4  # of an answer without usage
_MAX_STREAM: Final = 1 << 40
_MAX_RATIO: Final = 1 << 20  # no limit: only the tail is kept, and a step of the decoder is bounded

# RFC 9110, section 7.6.1, and fields that concern only the connection to this server.
_OF_CONNECTION: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive", b"proxy-authenticate",
     b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
# Of the response: the front's own server writes the first two, the others are about the upstream's origin.
_OF_SERVER: Final = frozenset({b"date", b"server", b"alt-svc", b"strict-transport-security"})
# Fields with another value in each request, which are kept out of the prepared heads.
_VARYING: Final = frozenset(
    {b"x-request-id", b"x-client-request-id", b"traceparent", b"tracestate", b"baggage", b"idempotency-key", b"cookie",
     b"range", b"if-range", b"if-none-match", b"if-match", b"x-stainless-retry-count", b"authorization", b"api-key",
     b"x-api-key", b"x-forwarded-for"}
)  # fmt: skip

_SPECIAL: Final = _OF_CONNECTION | _VARYING
_FIRST_TRY: Final = (b"x-stainless-retry-count", b"0")  # of the official client, in nearly all requests

Fields = list[tuple[bytes, bytes]]


def request_fields(
    headers: Iterable[tuple[bytes, bytes]], dropped: Collection[bytes]
) -> tuple[tuple[tuple[bytes, bytes], ...], dict[str, str] | None]:
    """Return the fields of a request to pass on: the ones that repeat from request to request, and the others.

    Those of the connection are left out, as are those that ``Connection`` names, and `dropped` credentials.
    """
    kept: Fields = []
    varying: Fields = []
    named: set[bytes] = set()
    for field in headers:
        name = field[0]
        if name not in _SPECIAL or field == _FIRST_TRY:
            kept.append(field)
        elif name in _VARYING:
            if name not in dropped:
                varying.append(field)
        elif name == b"connection":
            named.update(one.strip().lower() for one in field[1].split(b","))
    if named - {b"keep-alive", b"close"}:
        kept = [field for field in kept if field[0] not in named]
        varying = [field for field in varying if field[0] not in named]
    return tuple(kept), _joined(varying) if varying else None


def _joined(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return fields as text, several of one name as one (RFC 9110, 5.3; cookies: RFC 6265, 5.4)."""
    made: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in made:
            value = f"{made[name]}{'; ' if name == 'cookie' else ', '}{value}"
        made[name] = value
    return made


def static_fields(kept: Iterable[tuple[bytes, bytes]], via: str, *, plain: bool) -> tuple[tuple[str, str], ...]:
    """Return the repeating fields as they are sent. `via` is added to ``Via``.

    Only codings that the front can read are asked for, none at all if `plain`, since it counts tokens and caches.
    """
    made = _joined(kept)
    made["via"] = f"{made['via']}, {via}" if "via" in made else via
    if "accept-encoding" in made:
        made["accept-encoding"] = "gzip" if "gzip" in made["accept-encoding"] and not plain else "identity"
    return tuple(made.items())


def response_fields(raw_fields: bytes, *, prefixes: tuple[bytes, ...] = ()) -> Fields:
    """Return the fields of a response to pass on; those beginning with `prefixes` are left out.

    ``Content-Length`` stays: the body is passed on as it is.
    """
    # The name of a line that is not passed on is empty.
    made = [field for line in raw_fields.split(b"\r\n") if (field := _LINES.get(line) or _parsed(line))[0]]
    if prefixes:
        made = [field for field in made if not field[0].startswith(prefixes)]
    if b"connection" in raw_fields.lower():
        options = [value.lower() for name, value in made if name == b"connection"]
        named = {b"connection", *(option.strip() for value in options for option in value.split(b","))}
        made = [field for field in made if field[0] not in named]
    return made


_LINES: Final[dict[bytes, tuple[bytes, bytes]]] = {}  # most lines of a server's responses are the same in all
_LINES_KEPT: Final = 512
_LONGEST_LINE: Final = 200  # bytes
_NOT_PASSED: Final = (_OF_CONNECTION | _OF_SERVER) - {b"connection", b"content-length"}


def _parsed(line: bytes) -> tuple[bytes, bytes]:
    """Return name and value of a field line; an empty name for one that is not passed on."""
    name, colon, value = line.partition(b":")
    name = name.lower()
    field = (name, value.strip(b" \t")) if colon and name not in _NOT_PASSED else (b"", b"")
    if len(line) <= _LONGEST_LINE and name != b"set-cookie":
        if len(_LINES) >= _LINES_KEPT:
            _LINES.clear()
        _LINES[line] = field
    return field


# -------------------------------------------------------------------------------------------------- bodies


class StreamedBody:
    """The body of an upload that is passed on while it arrives.

    It can be sent again only as long as nothing of it was sent.
    """

    def __init__(
        self, head: list[bytes], receive: Receive, *, length: int | None, max_upload: int, content_type: str
    ) -> None:
        self.length: int | None = length
        self.content_type: str = content_type
        self._head = head
        self._receive = receive
        self._max_upload = max_upload
        self._began = False
        self._ended = asyncio.Event()

    @property
    def rewindable(self) -> bool:
        """Whether nothing was sent yet."""
        return not self._began

    @property
    def head(self) -> bytes:
        """The first bytes of the body."""
        return b"".join(self._head)

    async def open(self) -> AsyncIterator[bytes]:
        """Yield the pieces. Raises `ClientLeft`, and `HTTPError` (413) for an upload above the limit."""
        self._began = True
        head, self._head = self._head, []
        size = 0
        for piece in head:
            size += len(piece)
            yield piece
        while True:
            message = await _received(self._receive)
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_upload:
                raise HTTPError(413, f"The upload is larger than {self._max_upload} bytes.")
            if piece:
                yield piece
            if not message.get("more_body", False):
                self._ended.set()
                return

    async def receive_after(self) -> Message:
        """Return what the client's connection reports once the body was passed on."""
        await self._ended.wait()
        return await self._receive()


async def _received(receive: Receive) -> Message:
    try:
        return await receive()
    except OSError:  # some ASGI servers raise it for a client that left
        return {"type": "http.disconnect"}


async def read_body(context: RequestContext, *, max_body: int, max_upload: int) -> bytes | StreamedBody | None:
    """Return the body of a request: bytes, or a `StreamedBody` for a long one that is not JSON; `None` without one.

    Raises `HTTPError` (413) for JSON above `max_body` bytes and uploads above `max_upload`, `ClientLeft`.
    """
    message: Message
    try:
        message = await context.receive()
    except OSError:  # see `_received`
        message = {"type": "http.disconnect"}
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= max_body:
        return body or None
    kind = context.header(b"content-type") or b""
    is_json = b"json" in kind.lower()
    limit = max_body if is_json else max_upload
    too_large = HTTPError(413, f"The body of the request is larger than {limit} bytes.")
    given = context.header(b"content-length")
    length = int(given) if given is not None and given.isdigit() else None
    if (length or 0) > limit:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large
        if not message.get("more_body", False):
            return b"".join(pieces) or None
        if size > READ_FIRST and not is_json:
            break
        message = await _received(context.receive)
    return StreamedBody(
        pieces,
        context.receive,
        length=length,
        max_upload=max_upload,
        content_type=kind.decode("latin-1") or "application/octet-stream",
    )


# -------------------------------------------------------------------------------------------------- answers


# An empty line after CR, LF or CRLF (WHATWG HTML, 9.2.5).
_ENDS: Final = (b"\n\n", b"\n\r\n", b"\r\r")
_LONGEST_END: Final = 2  # bytes before the last one of an end


class EventBoundary:
    """Passes an event stream on in whole events, so that it can be ended by an error event wherever it breaks."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # joined once, since a long event may arrive in many small pieces
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete; the beginning of the next one is held back."""
        if not self._held:
            if data.endswith(_ENDS):
                return data
            seen = data
        else:
            seen = self._last_bytes() + data  # an end may be cut, too
        size = self._size + len(data)
        end = max((seen.rfind(one) + len(one) for one in _ENDS if one in seen), default=0)
        if end or size > _LONGEST_EVENT:
            whole = self.finish() + data
            cut = len(whole) if size > _LONGEST_EVENT else size - len(seen) + end
            data, whole = whole[cut:], whole[:cut]
        else:
            whole = b""
        if data:
            self._held.append(data)
            self._size += len(data)
        return whole

    def _last_bytes(self) -> bytes:
        last = self._held[-1][-_LONGEST_END:]
        return last if len(last) == _LONGEST_END else b"".join(self._held[-_LONGEST_END:])[-_LONGEST_END:]

    def finish(self) -> bytes:
        """Return what is left at the exact end of the stream."""
        held, self._held, self._size = self._held, [], 0
        return b"".join(held)


class AnswerTail:
    """The end of an answer that is passed on, and its usage; or all of the answer, for the cache.

    A compressed answer is decoded. If that fails, nothing more is known of it. `events` says whether it is an event
    stream, whose tokens are estimated by its events.
    """

    __slots__ = ("_count", "_events", "_inflater", "_parts", "_size", "_total", "_unread", "_usage", "_whole")

    def __init__(self, coding: str, *, events: bool, whole: bool) -> None:
        self._parts: list[bytes] = []
        self._size = 0  # of the parts
        self._total = 0
        self._count = 0
        self._events = events
        self._whole = whole and not coding
        self._usage: Usage | None = None  # in the part that was dropped
        self._unread = False
        self._inflater: Inflater | None = None
        if coding:
            self._inflater = Inflater(coding, cap=_MAX_STREAM, ratio=_MAX_RATIO)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        if self._inflater is not None and not self._unread:
            try:
                data = self._inflater.feed(data)
            except CodingError:
                self._unread = True
        if self._unread:
            return
        if self._events:
            self._count += data.count(b"data:")
        self._parts.append(data)
        self._size += len(data)
        self._total += len(data)
        if self._whole:
            self._whole = self._size <= _MAX_CACHED
        elif self._size > 2 * TAIL:
            # The usage may be followed by more than the tail: llama.cpp sends that of embeddings before the vectors.
            self._usage = self.usage()
            self._parts = [self._joined()[-TAIL:]]
            self._size = TAIL

    def _joined(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def usage(self) -> Usage | None:
        """Return the tokens that the answer has reported so far."""
        found = usage_in(self._joined())
        return found if self._usage is None or (found is not None and sum(found) > sum(self._usage)) else self._usage

    @property
    def estimated_tokens(self) -> int:
        """The tokens of an answer that does not report them: one for each event, or for each four bytes."""
        return self._count if self._events else self._total // BYTES_A_TOKEN

    def whole(self) -> bytes | None:
        """Return the whole answer if it was kept, and is not too large for the cache."""
        return self._joined() if self._whole else None

    @property
    def completes_events(self) -> bool:
        """Whether an event stream may end here: with ``[DONE]``, or the last event of the Responses API."""
        end = self._joined()[-TAIL:]
        return b"data: [DONE]" in end[-64:] or b"data:[DONE]" in end[-64:] or any(one in end for one in _LAST_EVENTS)


_LAST_EVENTS: Final[tuple[Any, ...]] = (
    b"event: response.completed",
    b"event: response.incomplete",
    b"event: response.failed",
    b'"type":"response.completed"',
    b'"type":"speech.audio.done"',
    b'"type":"transcript.text.done"',
    b'"type":"image_generation.completed"',
)
