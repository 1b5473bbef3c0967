"""Recording and replaying below the engine: responses pass through unchanged and are added to a cassette.

`RecordingTransport` wraps another transport. A transport gets credentials apart from the request, so that they can be
kept out of the file; and retries, timeouts and decoding happen above it, in the same way for recorded and replayed
responses.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
from collections.abc import Generator, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from ..core.codec.completion import CompletionDetector
from ..core.http.codings import CodingError, Inflater
from ..core.http.sse import Event, SSEDecoder, is_done, looks_like_events
from ..core.model.headers import Headers
from ..core.model.secrets import Secret
from ..core.policy.retry import is_lost_idle
from ..storage.threads import in_thread, in_thread_to_its_end
from .adapter import AdapterResponse, time_limit, whole_body
from .base import AttemptTimeouts, Transport, TransportError, TransportRequest, TransportResponse, added_secrets
from .canonical import StoredRequest, below_base, store_request
from .cassette import Cassette, Interaction, StoredFailure, StoredResponse, stored_body, stored_piece
from .scrubber import Scrubber

__all__ = ["RecordingTransport", "sender_fields"]

MAX_ANSWER = 256 << 20  # bytes of an answer that is recorded; a larger one passes and is not
_MAX_RATIO = 1000
_LARGE = 64 << 10  # bytes from which a body is scrubbed and compared in a thread
_EMPTY_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")  # the end of an event (WHATWG HTML, section 9.2.5)
# Failures of the recording machine rather than of the server. They are raised and not recorded.
_LOCAL = frozenset({"dns", "refused", "tls", "proxy", "closed", "upload", "stuck"})
_LOCAL_CLOCKS = frozenset({"queue", "connect"})

sender_fields: Final[ContextVar[Sequence[tuple[str, str]]]] = ContextVar("openaiasync_sender_fields", default=())
"""Header fields of the client whose request is sent on, where they are not sent: their secrets are not recorded."""


class _Typed(msgspec.Struct):
    type: Any = None


_typed = msgspec.json.Decoder(_Typed)


class RecordingTransport:
    """A `Transport` that replays responses from a `Cassette` and records those of another transport.

    `transport` (default: a `TcpTransport` with default settings) sends the requests that are to be recorded. Paths are
    stored relative to the servers' base URLs, `base_urls` (default: ``/v1`` on any server), so that a cassette does not
    depend on where the server is. An unmatched request that may not be sent gets status 501 with an explanation, which
    is added to `Cassette.unmatched`. Closing this transport closes the wrapped one, but not the cassette.
    """

    def __init__(
        self, cassette: Cassette, transport: Transport | None = None, *, base_urls: Sequence[str] | str = ()
    ) -> None:
        if transport is None:
            from .tcp import TcpTransport

            transport = TcpTransport()
        self.cassette: Cassette = cassette
        self._transport: Transport = transport
        self._base_urls = [base_urls] if isinstance(base_urls, str) else list(base_urls)
        self._current: set[_ReplayedResponse] = set()

    async def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> TransportResponse:
        """See `Transport.send`."""
        body = await whole_body(request)
        if body is not request.body:
            request = copy.copy(request)
            request.body, request.length = body, len(body)
        fields = _fields_of(request)
        sent = request.target.partition("?")[2]
        scrubber = Scrubber(
            request.credentials, fields=[*fields, *sender_fields.get()], query=sent, texts=self.cassette.secrets
        )

        def look_up() -> tuple[StoredRequest, Interaction | None]:
            path, query = below_base(request.origin, request.target, self._base_urls)
            content_type = next((value for name, value in fields if name.lower() == "content-type"), "")
            stored = store_request(request.method, path, query, content_type, body, scrubber)
            return stored, self.cassette.take(stored)

        stored, found = look_up() if len(body) < _LARGE else await in_thread(look_up)
        if found is not None:
            return await self._replay(found, timeouts, bodiless=request.method == "HEAD")
        if not self.cassette.records:
            return self._replayed(_refusal(self.cassette.refuse(stored)), timeouts)
        return await self._record(request, timeouts, stored, scrubber)

    async def _record(
        self, request: TransportRequest, timeouts: AttemptTimeouts, stored: StoredRequest, scrubber: Scrubber
    ) -> TransportResponse:
        line = Interaction(stored, order=self.cassette.number())
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            response = await self._transport.send(request, timeouts)
        except TransportError as error:
            if error.kind not in _LOCAL and error.clock not in _LOCAL_CLOCKS and not is_lost_idle(error):
                line.failure = StoredFailure.of(error, scrubber.text(error.message))
                self.cassette.add(line)
            raise
        except asyncio.CancelledError:
            line.failure = StoredFailure("left")
            self.cassette.add(line)
            raise
        return _RecordedResponse(response, self.cassette, line, scrubber, loop.time() - began)

    async def _replay(self, line: Interaction, timeouts: AttemptTimeouts, *, bodiless: bool) -> TransportResponse:
        speed = self.cassette.speed
        async with time_limit(timeouts):
            if line.failure is not None and line.failure.kind == "left":
                await (
                    asyncio.get_running_loop().create_future()
                )  # the recorded client gave up waiting; so will this one
            if line.response is not None and speed:
                await asyncio.sleep(line.response.wait / speed)
        if line.failure is not None:
            raise line.failure.error()
        return self._replayed(line.response or StoredResponse(200), timeouts, speed, bodiless=bodiless)

    def _replayed(
        self, stored: StoredResponse, timeouts: AttemptTimeouts, speed: float = 0.0, *, bodiless: bool = False
    ) -> TransportResponse:
        response = _ReplayedResponse(stored, speed, self._current, bodiless=bodiless)
        response.expire(timeouts.until, "until")
        return response

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        for response in list(self._current):
            response.end("the client was closed")
        await self._transport.aclose()

    def secrets(self) -> Iterable[Secret]:
        """Return the secrets that the other transport adds to requests: a proxy's password."""
        return added_secrets(self._transport)


class _RecordedResponse:
    """A response of the wrapped transport, recorded while it is read."""

    def __init__(
        self, inner: TransportResponse, cassette: Cassette, line: Interaction, scrubber: Scrubber, wait: float
    ) -> None:
        self._inner = inner
        self.reader: object = inner.reader
        self._cassette = cassette
        self._line: Interaction | None = line
        self._scrubber = scrubber
        self._wait = wait
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._arrived: list[tuple[float, bytes]] = []  # seconds since the head, bytes
        self._size = 0

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "reader":  # deadlocks are detected by the reader of the response that has the connection
            self._inner.reader = value

    @property
    def status(self) -> int:
        return self._inner.status

    @property
    def raw_fields(self) -> bytes:
        return self._inner.raw_fields

    @property
    def connected(self) -> float:
        return self._inner.connected

    @property
    def ended(self) -> bool:
        return self._inner.ended

    @property
    def exact(self) -> bool:
        return self._inner.exact

    def expire(self, at: float | None, clock: str) -> None:
        self._inner.expire(at, clock)

    async def pieces(self) -> list[bytes]:
        with self._recording_failures():
            pieces = await self._inner.pieces()
        for piece in pieces:
            self._note(piece)
        if self._inner.ended:
            await self._ends()
        return pieces

    async def read(self, cap: int) -> bytes:
        with self._recording_failures():
            body = await self._inner.read(cap)
        self._note(body)
        await self._ends()
        return body

    def take(self) -> bytes | None:
        return None  # `read` may record it in a thread

    def abort(self) -> None:
        self._inner.abort()
        self._end(StoredFailure("left"))

    def _note(self, piece: bytes) -> None:
        self._size += len(piece)
        if piece and self._size <= MAX_ANSWER:
            self._arrived.append((self._loop.time() - self._began, piece))

    async def _ends(self) -> None:
        """Record the complete response; one that is or may be large in a thread, because scrubbing takes time."""
        if self._size < _LARGE and not Headers(self.raw_fields).get("content-encoding"):
            self._end()
        else:
            await in_thread_to_its_end(self._end)

    @contextlib.contextmanager
    def _recording_failures(self) -> Generator[None]:
        try:
            yield
        except TransportError as error:
            self._end(StoredFailure.of(error, self._scrubber.text(error.message)))
            raise
        except BaseException:
            self._end(StoredFailure("left"))
            raise

    def _end(self, broken: StoredFailure | None = None) -> None:
        """Record the response, once."""
        line, self._line = self._line, None
        if line is None or self._size > MAX_ANSWER:
            return
        line.response = stored = self._stored(broken)
        if broken is not None and broken.kind == "left" and stored.pieces and _is_last(stored.timed_pieces()[-1][1]):
            stored.broken = None  # clients may close the connection after the last event
        self._cassette.add(line)

    def _stored(self, broken: StoredFailure | None) -> StoredResponse:
        fields = Headers(self.raw_fields)
        headers = self._scrubber.fields(self.raw_fields)
        arrived = self._arrived
        coding = fields.get("content-encoding", "")
        if coding:
            try:
                arrived = _decoded(arrived, coding, cut=broken is not None)
                headers = [pair for pair in headers if pair[0] != "content-encoding"]
            except CodingError:
                pass  # damaged, or an unknown coding: recorded unchanged
        stored = StoredResponse(self.status, headers, wait=_rounded(self._wait), broken=broken)
        stored.inexact = broken is None and not self._inner.exact
        _store_body(stored, arrived, fields, self._scrubber)
        return stored


def _decoded(arrived: list[tuple[float, bytes]], coding: str, *, cut: bool) -> list[tuple[float, bytes]]:
    """Return the pieces without their content coding. Raises `CodingError`."""
    inflater = Inflater(coding, cap=MAX_ANSWER, ratio=_MAX_RATIO)
    made = [(at, inflater.feed(piece)) for at, piece in arrived]
    if not cut:
        made.append((arrived[-1][0] if arrived else 0.0, inflater.finish()))
    return [(at, piece) for at, piece in made if piece]


def _store_body(
    stored: StoredResponse, arrived: list[tuple[float, bytes]], fields: Headers, scrubber: Scrubber
) -> None:
    """Set the body of the stored response, or its pieces.

    JSON, and a body with a length, is stored whole, however the network split it. Events are reassembled, so that each
    piece is readable text, and scrubbed together.
    """
    whole = b"".join([piece for _, piece in arrived])
    events = fields.get("content-type", "").startswith("text/event-stream") or looks_like_events(whole[:64])
    if not events and (len(arrived) < 2 or "content-length" in fields or whole.lstrip()[:1] in (b"{", b"[")):
        stored.took = _rounded(arrived[-1][0]) if arrived else 0.0
        stored.body = stored_body(scrubber.body(whole))
        return
    stored.pieces = []
    before = 0.0
    if events and whole:
        arrived = _by_event(arrived, whole)
        cleaned = scrubber.events([piece for _, piece in arrived])
    else:
        cleaned = [scrubber.body(piece) for _, piece in arrived]
    for (at, _), clean in zip(arrived, cleaned, strict=True):
        try:
            made: str | dict[str, str] = clean.decode()
        except UnicodeDecodeError:
            made = stored_piece(clean)
        stored.pieces.append((_rounded(at - before), made))
        before = at


def _by_event(arrived: list[tuple[float, bytes]], whole: bytes) -> list[tuple[float, bytes]]:
    """Return the events of a stream, each with the time at which it was complete."""
    ends = [match.end() for match in _EMPTY_LINE.finditer(whole)]
    if not ends or ends[-1] < len(whole):
        ends.append(len(whole))
    made: list[tuple[float, bytes]] = []
    start = received = number = 0
    for end in ends:
        while received < end:
            received += len(arrived[number][1])
            number += 1
        made.append((arrived[number - 1][0], whole[start:end]))
        start = end
    return made


def _is_last(piece: bytes) -> bool:
    """Whether a piece is the last event of a stream."""
    ending = CompletionDetector("")
    for event in SSEDecoder().feed(piece):
        name, data = (event.event, event.data) if isinstance(event, Event) else ("", event)
        try:
            ending.feed(_typed.decode(data), name)
        except (ValueError, RecursionError):
            ending.feed_name(name)
        if is_done(event) or ending.complete:
            return True
    return False


def _rounded(seconds: float) -> float:
    return round(max(seconds, 0.0), 4)


class _ReplayedResponse(AdapterResponse):
    """A recorded response."""

    def __init__(
        self, stored: StoredResponse, speed: float, current: set[_ReplayedResponse], *, bodiless: bool
    ) -> None:
        lines = [f"{name}: {value}\r\n" for name, value in stored.headers]
        self._rest = [] if bodiless else stored.timed_pieces()[::-1]
        if not (bodiless or stored.inexact or stored.status in (204, 304)):
            # The original framing, for clients that show progress.
            length = sum(len(piece) for _, piece in self._rest)
            chunked = stored.pieces is not None or stored.broken is not None
            lines.append("transfer-encoding: chunked\r\n" if chunked else f"content-length: {length}\r\n")
        super().__init__(stored.status, "".join(lines).encode("latin-1", "replace"))
        self._speed = speed
        self._broken = stored.broken
        # A client that left before any event gave up waiting, and will do so again. A client that left a stream may
        # have seen enough; one that reads on gets an error instead of waiting forever.
        self._waits = stored.broken is not None and stored.broken.kind == "left" and not stored.pieces
        self.framed = not stored.inexact
        self._current = current
        current.add(self)

    def take(self) -> bytes | None:
        if self._speed or self._broken is not None or not self.framed or "content-encoding" in Headers(self.raw_fields):
            return None
        body = b"".join([piece for _, piece in reversed(self._rest)])
        self.ended = True
        self._drop()
        return body

    async def _next(self) -> bytes:
        while self._rest:
            gap, piece = self._rest[-1]
            if self._speed:
                await asyncio.sleep(gap / self._speed)
            self._rest.pop()
            if piece:
                return piece
        if self._broken is not None:
            if self._waits:
                await asyncio.get_running_loop().create_future()
            raise self._broken.error()
        self._drop()
        return b""

    def _drop(self) -> None:
        self._current.discard(self)


def _refusal(message: str) -> StoredResponse:
    error = {"message": message, "type": "unexpected_request", "param": None, "code": "unexpected_request"}
    headers = [("content-type", "application/json"), ("x-should-retry", "false")]
    return StoredResponse(501, headers, body={"text": msgspec.json.encode({"error": error}).decode()})


def _fields_of(request: TransportRequest) -> list[tuple[str, str]]:
    """Return the header fields of a request except its credentials."""
    if request.prebuilt is None:
        return list(request.fields)
    return list(Headers(request.prebuilt.partition(b"\r\n")[2]).raw_pairs())
