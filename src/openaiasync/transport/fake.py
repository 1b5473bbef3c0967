"""A transport without a network, for tests of applications: scripted answers, recorded requests."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..core.http.request import authority
from ..core.http.response import HTTPGrammarError, ResponseParser
from ..core.model.headers import Headers
from .adapter import AdapterResponse, time_limit, whole_body
from .base import AttemptTimeouts, TransportError, TransportRequest

__all__ = ["FakeAnswer", "FakeRequest", "FakeTransport"]

_NOTHING: Any = object()


@dataclass(kw_only=True)
class FakeAnswer:
    """One scripted answer. Give one of `body`, `json` and `events`, or none for an empty body.

    With `events` the answer is a stream of server-sent events: each is a value to be encoded as JSON, or text or bytes
    that are sent unchanged (``"data: ...\\n\\n"``); ``[DONE]`` follows unless `done` is false. A list given as `body`
    is sent piece by piece. Times are in seconds; `pause` is one for all pieces, or one for each. `cut_after=n` breaks
    the connection after n pieces, before the body's end; `hang` keeps it open then, without another byte. `error` is
    the kind of a `TransportError` (``"refused"``, ``"dns"``, ``"reset"``, ...) raised instead of an answer. `raw` is
    sent in place of head and body without validation.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | str | Sequence[bytes] = b""
    json: Any = _NOTHING
    events: Iterable[Any] | None = None
    done: bool = True
    delay: float = 0.0  # before the head
    pause: float | Sequence[float] = 0.0  # before each piece of the body
    cut_after: int | None = None
    hang: bool = False
    error: str | None = None
    raw: bytes | None = None

    def pieces(self) -> list[bytes]:
        """Return the pieces of the body; one for each event."""
        if self.events is not None:
            return [*map(_event, self.events), *([b"data: [DONE]\n\n"] if self.done else [])]
        if self.json is not _NOTHING:
            return [json.dumps(self.json).encode()]
        if isinstance(self.body, str):
            return [self.body.encode()]
        return [self.body] if isinstance(self.body, bytes) else list(self.body)

    def pauses(self) -> Iterator[float]:
        """Yield the pause before each piece in seconds, without end."""
        if isinstance(self.pause, (int, float)):
            return itertools.repeat(self.pause)
        return itertools.chain(self.pause, itertools.repeat(0.0))

    def fields(self) -> dict[str, str]:
        """Return the fields of its head, with a ``Content-Type`` that fits."""
        fields = dict(self.headers)
        if not any(name.lower() == "content-type" for name in fields):
            if self.events is not None:
                fields["Content-Type"] = "text/event-stream"
            elif self.json is not _NOTHING:
                fields["Content-Type"] = "application/json"
        return fields

    def raw_fields(self) -> bytes:
        """Return the field lines of its head."""
        return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in self.fields().items())


def _event(event: Any) -> bytes:
    if isinstance(event, bytes):
        return event
    return (event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n").encode()


class FakeRequest:
    """A request that a `FakeTransport` was asked to send."""

    def __init__(self, out: TransportRequest, body: bytes) -> None:
        self.method: str = out.method
        self.url: str = out.url
        self.path: str = urlsplit(self.url).path
        self.query: str = urlsplit(self.url).query
        self.body = body
        self._fields = _sent_fields(out)
        self._credentials = out.credentials

    @property
    def headers(self) -> Headers:
        """Its header fields, without credentials."""
        return Headers(pairs=self._fields)

    def headers_with_credentials(self) -> Headers:
        """Its header fields, including the key."""
        return Headers(pairs=(*self._fields, *self._credentials.fields()))

    def json(self) -> Any:
        """Its body, decoded. Raises `ValueError` if it is not JSON, or nested too deep."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the body is nested too deep") from None

    def __repr__(self) -> str:
        return f"<FakeRequest {self.method} {self.url}>"


Handler = Callable[[FakeRequest], FakeAnswer | Awaitable[FakeAnswer]]
Route = FakeAnswer | Sequence[FakeAnswer] | Handler


class FakeTransport:
    """A `Transport` with scripted answers that records requests in `requests`.

    `routes` is a function for everything (``handler(request) -> FakeAnswer``, also ``async``), or a mapping from
    ``"METHOD /path"`` to an answer, to a list of answers (one for each request, in order), or to such a function::

        fake = FakeTransport({
            "POST /v1/embeddings": FakeAnswer(json={"object": "list", "data": [], "model": "m"}),
            "POST /v1/chat/completions": [
                FakeAnswer(status=503, headers={"Retry-After": "0"}),
                FakeAnswer(events=[first_chunk, second_chunk], pause=0.01),
            ],
        })
        ...
        assert fake.requests[0].json()["model"] == "m"

    A request without a route raises a `LookupError` that names it and the routes.
    """

    def __init__(self, routes: Mapping[str, Route] | Handler) -> None:
        self.requests: list[FakeRequest] = []
        self._table: Mapping[str, Route] = {} if callable(routes) else routes
        self._handler: Handler | None = None if isinstance(routes, Mapping) else routes
        self._given: dict[str, int] = {}
        self._current: set[_FakeResponse] = set()
        self._closed = False

    async def send(self, request: TransportRequest, timeouts: AttemptTimeouts) -> AdapterResponse:
        """See `Transport.send`; `start` and `until` apply, there is nothing to connect."""
        if self._closed:
            raise TransportError("closed", "the client was closed")
        async with time_limit(timeouts):
            seen = FakeRequest(request, await whole_body(request))
            self.requests.append(seen)
            answer = await self._answer(seen)
            await asyncio.sleep(answer.delay)
        if answer.error is not None:
            sent = answer.error not in ("dns", "refused", "tls", "proxy")
            raise TransportError(answer.error, f"a scripted failure ({answer.error})", sent=sent)
        response = _FakeResponse(*_head_of(answer, request.method == "HEAD"), answer, self._current)
        response.expire(timeouts.until, "until")
        return response

    async def _answer(self, request: FakeRequest) -> FakeAnswer:
        name = f"{request.method} {request.path}"
        route = self._handler or self._table.get(name)
        if isinstance(route, FakeAnswer):
            return route
        if callable(route):
            made = route(request)
            return await made if inspect.isawaitable(made) else made
        number = self._given[name] = self._given.get(name, -1) + 1
        if route is None or number >= len(route):
            known = ", ".join(self._table)
            raise LookupError(f"no answer is scripted for {name} (request {number + 1} of its kind; routes: {known})")
        return route[number]

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._closed = True
        for response in list(self._current):
            response.end("the client was closed")


class _FakeResponse(AdapterResponse):
    def __init__(
        self,
        status: int,
        raw_fields: bytes,
        pieces: list[bytes],
        end: TransportError | None,
        answer: FakeAnswer,
        current: set[_FakeResponse],
    ) -> None:
        super().__init__(status, raw_fields)
        self._rest = pieces
        self._end = end
        self._pauses = answer.pauses()
        self._paced = any(itertools.islice(answer.pauses(), len(pieces)))
        self._hang = answer.hang
        self._current = current
        current.add(self)

    def take(self) -> bytes | None:
        if self._paced or self._end is not None or self._hang or b"content-encoding:" in self.raw_fields.lower():
            return None
        body, self._rest = b"".join(self._rest), []
        self.ended = True
        self._drop()
        return body

    async def _next(self) -> bytes:
        if self._rest:
            await asyncio.sleep(next(self._pauses))
            return self._rest.pop(0)
        if self._hang:
            await asyncio.get_running_loop().create_future()
        if self._end is not None:
            raise self._end
        self._drop()
        return b""

    def _drop(self) -> None:
        self._current.discard(self)


def _head_of(answer: FakeAnswer, bodiless: bool) -> tuple[int, bytes, list[bytes], TransportError | None]:
    """Return status, field lines, the pieces of the body, and the error at its end, if it breaks off."""
    cut = TransportError("eof", "a scripted cut", sent=True, answered=True)
    if answer.raw is None:
        pieces = [] if bodiless else [piece for piece in answer.pieces() if piece]
        if answer.cut_after is None:
            return answer.status, answer.raw_fields(), pieces, None
        return answer.status, answer.raw_fields(), pieces[: answer.cut_after], cut
    parser = ResponseParser(bodiless=bodiless)
    end: TransportError | None = None
    try:
        parser.feed(answer.raw)
        if not parser.feed_eof():
            end = cut
    except HTTPGrammarError as error:
        end = TransportError("protocol", str(error), sent=True, answered=True)
    if end is not None and not parser.status:
        raise end
    return parser.status, parser.raw_fields, parser.pieces, end


def _sent_fields(out: TransportRequest) -> tuple[tuple[str, str], ...]:
    """Return the header fields that were sent, except credentials and framing."""
    if out.prebuilt is None:
        return (("Host", authority(*out.origin)), *out.fields)
    lines = out.prebuilt.decode("latin-1").split("\r\n")[1:-1]
    return tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
