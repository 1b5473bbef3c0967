"""The transport itself: requests of the HTTP library in, answers out, our engine between them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

from ..core.codec.endpoint import Endpoint, Request
from ..core.http.codings import CodingError
from ..core.http.sse import looks_like_events
from ..core.model.headers import Headers
from ..core.policy.limits import Limits
from ..engine.body import cap_of, content_coding, read_whole
from ..engine.config import BaseURL
from ..engine.engine import Engine
from ..engine.sealing import seal
from ..engine.shared import Shared
from ..engine.streams import endpoint_at
from ..errors import APIStatusError, ConfigurationError, OpenAIError
from ..options import CLIENT, ClientConfig, OptionSet
from ..transport.base import TransportError, TransportResponse
from .errors import translated
from .httpx import LibraryName, library_named
from .request import BridgedRequest, asked_of, is_outer_retry
from .response import Answer, BridgeCall, Watch

if TYPE_CHECKING:
    import httpx2

__all__ = ["BridgeOptions", "transport"]

MOST_ORIGINS = 64  # whose settings are kept at hand
_DECODED = frozenset({"content-encoding", "content-length"})


class BridgeOptions(TypedDict, total=False):
    """The words of `transport`; those of `Client`, with the same units."""

    http_max_in_flight: int | None
    http_max_connections_per_host: int | None
    http_timeout: float | None
    http_stall_timeout: float | None
    http_deadline: float | None
    http_connect_timeout: float | None
    http_other: Mapping[str, Any] | None
    max_retries: int
    limits: Limits | None


_OPTIONS = OptionSet(
    "transport()",
    [(name, CLIENT.keywords[name]) for name in BridgeOptions.__annotations__],
    CLIENT.other.values(),
    # Where a redirect leads is the HTTP client's business: it gets the redirect as a response.
    fixed={"max_redirects": 0, "repeat_timed_out": True},
    # Unlimited but for the timeouts that each request brings along.
    defaults={
        **dict.fromkeys(("max_in_flight", "start_timeout", "stall_timeout", "connect_timeout")),
        "max_connections_per_host": 1000,
    },
)


@overload
def transport(
    *, library: Literal["httpx2"] | None = None, **options: Unpack[BridgeOptions]
) -> httpx2.AsyncBaseTransport: ...
@overload
def transport(*, library: Literal["httpx"], **options: Unpack[BridgeOptions]) -> Any: ...
def transport(*, library: LibraryName | None = None, **options: Unpack[BridgeOptions]) -> Any:
    """A transport that carries the official client's requests over this library's engine.

        openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=transport(limits=Limits(8))), max_retries=0)

    Connections, places in flight, retries and clocks are ours; answers with an error status come out as answers;
    connection errors and timeouts as ``httpx2`` raises them; a stream that breaks off, or ends before its answer is
    complete, raises ``RemoteProtocolError``, which is an ``openai.APIConnectionError`` as well. It is for servers of
    this API alone: event streams of others would look unfinished. Redirects are left to the HTTP client. Each request's
    own timeouts hold: ``connect``; ``read`` until an answer starts (a stream: its first event) and then per unit of
    progress; ``pool`` for a place in flight. May be used from several event loops.

    Args:
        library: the HTTP library to be a transport of, ``"httpx2"`` or ``"httpx"`` (by default the one that the
            installed ``openai`` requires; ``"httpx"`` for its versions before 3).
        http_max_in_flight: how many calls the servers see at once (no limit).
        http_max_connections_per_host: connections to one host (1,000).
        http_timeout: seconds until an answer starts; here and below the shorter of this and the request's own holds.
        http_stall_timeout: seconds without progress once it started.
        http_connect_timeout: seconds until a connection stands.
        http_deadline: seconds for a call with all its tries, up to its answer's end (no limit).
        http_other: further options of the connections, see `Client`; ``queue_timeout`` holds in place of the
            request's ``pool``.
        max_retries: how often a failed call is tried again (2). What we give up is marked for the official client not
            to try again, and what it tries again after a connection error we do not; its ``max_retries=0`` says it
            plainly.
        limits: a `Limits` to share with other clients and transports, in place of `http_max_in_flight`.

    Raises `TypeError` for an unknown word, `ConfigurationError` for a value that cannot work, `ModuleNotFoundError`
    where the HTTP library is not installed.
    """
    return _classes(library_named(library))[0](options)


class Bridge:
    """What `transport` answers, beside the HTTP library's own base class."""

    library: Any
    answer_class: type[Answer]

    def __init__(self, options: BridgeOptions) -> None:
        self._config = ClientConfig(base=BaseURL("http://unset"), **_OPTIONS.values(options))
        self._retries = self._config.max_retries
        self._queue_given = "queue_timeout" in (options.get("http_other") or {})
        self._shared = Shared(self._config.max_in_flight, self._config.transport, self._config.limits)
        self._calls: dict[tuple[str, float | None], _Calls] = {}

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request; its answer when the head is there, of JSON the whole, of a stream the first event."""
        try:
            calls = self._calls_for(request)
        except ConfigurationError as error:
            raise translated(self.library, request, error) from error
        asked = await asked_of(self.library, request, calls.config)
        if is_outer_retry(request):
            asked.max_retries = 0
        call = BridgeCall(calls, asked)
        try:
            await call.enter()
            return await self._answer(call, asked, request)
        except (OpenAIError, CodingError) as error:
            call.leave()
            seal(error)
            raise translated(self.library, request, error, call.reason, unsent=call.unsent) from error
        except BaseException:
            call.leave()
            raise

    async def aclose(self) -> None:
        """Drop every connection, in all event loops; calls under way end with ``ReadError``. Idempotent."""
        await self._shared.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _calls_for(self, request: Any) -> _Calls:
        """The engine's settings for the request's origin and its patience for a place in flight."""
        url = request.url
        if url.scheme not in ("http", "https"):
            raise self.library.UnsupportedProtocol(f"the bridge carries http and https, not {url.scheme}")
        timeout: dict[str, float | None] = request.extensions.get("timeout") or {}
        patience = self._config.queue_timeout if self._queue_given else timeout.get("pool")
        root = f"{url.scheme}://{url.netloc.decode('ascii')}"
        calls = self._calls.get((root, patience))
        if calls is None:
            if len(self._calls) >= MOST_ORIGINS:
                self._calls.clear()
            config = replace(self._config, base=BaseURL(root), queue_timeout=patience)
            calls = self._calls[root, patience] = _Calls(config, self._shared)
        return calls

    async def _answer(self, call: BridgeCall, asked: BridgedRequest, theirs: Any) -> Any:
        while True:  # until there is something to hand out, or `again` raises
            try:
                incoming = await call.head()
            except APIStatusError as refusal:
                call.leave()
                return self._refusal(refusal)
            call.reason = None  # from here on it is the answer that may be at fault
            try:
                return await self._accepted(call, asked, theirs, incoming)
            except TransportError as caught:
                failure = caught
            incoming.abort()
            await call.again(failure)

    def _assembled(
        self,
        call: BridgeCall,
        asked: BridgedRequest,
        incoming: TransportResponse,
        endpoint: Endpoint | None,
        body: bytes,
    ) -> bytes:
        """The whole answer that a stream of events is, as JSON; what is wrong with it raises."""
        from ..engine.assembled import assembled

        if endpoint is None:
            return body
        answer = assembled(call.calls, Request(endpoint, asked.path, asked.body), call.meta(incoming), body)
        return bytes(answer.to_json(indent=None).encode())

    def _refusal(self, refusal: APIStatusError) -> Any:
        """An answer with an error status, as it came."""
        response = refusal.response
        fields = [pair for pair in response.headers.raw_pairs() if pair[0].lower() not in _FRAMING]
        if self._retries:
            # We have tried again as often as that was sensible: the official client is told to leave it.
            fields = [pair for pair in fields if pair[0].lower() != "x-should-retry"]
            fields.append(("x-should-retry", "false"))
        return self.library.Response(response.status_code, headers=_bytes(fields), content=response.content)

    async def _accepted(self, call: BridgeCall, asked: BridgedRequest, theirs: Any, incoming: TransportResponse) -> Any:
        """A 2xx as an answer of the library's; its body still to come unless it is JSON."""
        raw = incoming.raw_fields
        headers = Headers(raw)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        events = kind == "text/event-stream"
        coding = content_coding(raw)
        dropped = _DECODED if coding else frozenset[str]()
        endpoint = endpoint_at(asked.endpoint.method, asked.path.partition("?")[0])
        unasked = events and not asked.stream and endpoint is not None and isinstance(asked.body, bytes)
        stream: Any
        if not asked.stream and (unasked or kind == "application/json" or kind.endswith("+json")):
            body = await read_whole(call, incoming, cap_of(self._config, theirs.url.path))
            if looks_like_events(body):  # some servers stream whatever the request says
                body = self._assembled(call, asked, incoming, endpoint, body)
                dropped, kind = _DECODED | {"content-type"}, "application/json"
            stream = self.library.ByteStream(body)
            call.leave()
            self._shared.budget.refill()
        else:
            watch = Watch(endpoint, asked.body) if events or asked.stream else None
            stream = self.answer_class(self.library, theirs, call, incoming, watch)
            await stream.begin()
            if watch is not None and watch.whole:
                dropped, kind = _DECODED | {"content-type"}, "text/event-stream"
        pairs = [pair for pair in headers.raw_pairs() if pair[0].lower() not in dropped]
        if "content-type" in dropped:
            pairs.append(("Content-Type", kind))
        return self.library.Response(
            incoming.status, headers=_bytes(pairs), stream=stream, extensions={"http_version": b"HTTP/1.1"}
        )


_FRAMING = _DECODED | {"transfer-encoding"}


class _Calls(Engine):
    """`Engine` of which each request brings its own clocks."""

    def clocks(self, request: Any) -> Any:
        return request.clocks


def _bytes(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


@functools.cache
def _classes(library: Any) -> tuple[type[Bridge], type[Answer]]:
    """`Bridge` and `Answer` as classes of the library's, which looks at what it is given with `isinstance`."""
    answer = type("Answer", (Answer, library.AsyncByteStream), {"__module__": __name__})
    names = {"__module__": __name__, "library": library, "answer_class": answer}
    return type("Bridge", (Bridge, library.AsyncBaseTransport), names), answer
