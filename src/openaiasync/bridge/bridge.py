"""The transport: turns the HTTP library's requests into calls of our engine, and their answers into responses."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from msgspec.structs import replace

from ..core.codec.endpoint import Endpoint, Request
from ..core.http.codings import CodingError
from ..core.http.sse import looks_like_events
from ..core.model.closing import AsyncClosing
from ..core.model.headers import Headers
from ..core.policy.limits import Limits
from ..engine.body import cap_of, content_coding, read_whole
from ..engine.call import Call
from ..engine.config import BaseURL
from ..engine.engine import Engine
from ..engine.streams import endpoint_at
from ..engine.upstream import Connections
from ..errors import APIStatusError, ConfigurationError, OpenAIError
from ..lazy import resolve_annotations
from ..options import CLIENT, ClientConfig, OptionSet
from ..transport.base import TransportResponse
from .bridged_request import bridge_request, is_outer_retry
from .bridged_response import Answer, Watch
from .errors import translated
from .httpx import LibraryName, library_named

if TYPE_CHECKING:
    import httpx2

__all__ = ["BridgeOptions", "transport"]

MOST_ORIGINS = 64  # whose settings are cached
_DECODED = frozenset({"content-encoding", "content-length"})


class BridgeOptions(TypedDict, total=False):
    """The keyword arguments of `transport`, with the names and units of `Client`."""

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
    # Redirects are left to the HTTP client, which gets them as responses.
    fixed={"max_redirects": 0, "repeat_timed_out": True},
    # Unlimited except for each request's own timeouts.
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
    """Return a transport that carries the official client's requests over this library's engine.

        openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=transport(limits=Limits(8))), max_retries=0)

    This library provides connections, slots in flight, retries and timeouts; error statuses are returned as responses;
    connection errors and timeouts are raised as ``httpx2`` raises them; a stream that breaks off, or ends before its
    answer is complete, raises ``RemoteProtocolError``, which is an ``openai.APIConnectionError`` as well. It is for
    servers of this API alone: event streams of others would look unfinished. Redirects are left to the HTTP client.
    Each request's own timeouts hold: ``connect``; ``read`` until an answer starts (a stream: its first event) and then
    for each unit of progress; ``pool`` for a slot in flight. May be used from several event loops.

    Args:
        library: the HTTP library to be a transport of, ``"httpx2"`` or ``"httpx"`` (by default the one that the
            installed ``openai`` requires; ``"httpx"`` for its versions before 3).
        http_max_in_flight: the maximum number of calls in flight (no limit).
        http_max_connections_per_host: connections to one host (1,000).
        http_timeout: seconds until an answer starts; here and below the shorter of this and the request's own holds.
        http_stall_timeout: seconds without progress once it started.
        http_connect_timeout: seconds until a connection is established.
        http_deadline: seconds for a call with all its attempts, up to its answer's end (no limit).
        http_other: further options of the connections, see `Client`; ``queue_timeout`` replaces the request's
    ``pool``.
        max_retries: retries of a failed call (2). A response after the last retry tells the official client not to
            retry, and its own retries after a connection error are not retried here; set its ``max_retries=0`` to leave
            all retries to the transport.
        limits: a `Limits` to share with other clients and transports, in place of `http_max_in_flight`.

    Raises `TypeError` for an unknown keyword, `ConfigurationError` for an invalid value, `ModuleNotFoundError` if the
    HTTP library is not installed.
    """
    return _classes(library_named(library))[0](options)


class Bridge(AsyncClosing):
    """The result of `transport`, combined with the HTTP library's base class."""

    library: Any
    answer_class: type[Answer]

    def __init__(self, options: BridgeOptions) -> None:
        self._config = ClientConfig(base=BaseURL("http://unset"), **_OPTIONS.values(options))
        self._retries = self._config.max_retries
        self._queue_given = "queue_timeout" in (options.get("http_other") or {})
        self._shared = Connections(self._config.max_in_flight, self._config.transport, self._config.limits)
        self._engines: dict[tuple[str, float | None], Engine] = {}

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request and return its response once the head has arrived, for JSON the whole body, for a stream the
        first event."""
        try:
            engine = self._engine_for(request)
        except ConfigurationError as error:
            raise translated(self.library, request, error) from error
        bridged, timeouts = await bridge_request(self.library, request, engine.config)
        if is_outer_retry(request):
            bridged.max_retries = 0
        call = Call(engine, bridged, timeouts)
        try:
            return await call.run(lambda call, response: self._receive(call, request, response))
        except APIStatusError as refusal:
            return self._refusal(refusal)
        except (OpenAIError, CodingError) as error:
            unsent = getattr(bridged.body, "sent", True) is False
            raise translated(self.library, request, error, call.reason, unsent=unsent) from error

    async def aclose(self) -> None:
        """Drop every connection, in all event loops; calls under way end with ``ReadError``. Idempotent."""
        await self._shared.aclose()

    def _engine_for(self, request: Any) -> Engine:
        """Return the engine for the request's origin and its timeout for a slot in flight."""
        url = request.url
        if url.scheme not in ("http", "https"):
            raise self.library.UnsupportedProtocol(f"the bridge carries http and https, not {url.scheme}")
        timeout: dict[str, float | None] = request.extensions.get("timeout") or {}
        patience = self._config.queue_timeout if self._queue_given else timeout.get("pool")
        root = f"{url.scheme}://{url.netloc.decode('ascii')}"
        engine = self._engines.get((root, patience))
        if engine is None:
            if len(self._engines) >= MOST_ORIGINS:
                self._engines.clear()
            config = replace(self._config, base=BaseURL(root), queue_timeout=patience)
            engine = self._engines[root, patience] = Engine(config, self._shared)
        return engine

    def _assembled(
        self,
        call: Call,
        incoming: TransportResponse,
        endpoint: Endpoint | None,
        body: bytes,
    ) -> bytes:
        """Return the answer in an event stream as JSON; raise for a broken stream."""
        from ..engine.assembled import assembled

        if endpoint is None:
            return body
        bridged = call.request
        answer = assembled(call.engine, Request(endpoint, bridged.path, bridged.body), call.meta(incoming), body)
        return bytes(answer.to_json(indent=None).encode())

    def _refusal(self, refusal: APIStatusError) -> Any:
        """Return a response with an error status, unchanged."""
        response = refusal.response
        fields = [pair for pair in response.headers.raw_pairs() if pair[0].lower() not in _FRAMING]
        if self._retries:
            # All sensible retries were made: tell the official client not to retry.
            fields = [pair for pair in fields if pair[0].lower() != "x-should-retry"]
            fields.append(("x-should-retry", "false"))
        return self.library.Response(response.status_code, headers=_bytes(fields), content=response.content)

    async def _receive(self, call: Call, request: Any, incoming: TransportResponse) -> Any:
        """Return a 2xx as a response of the library; its body is read later unless it is JSON. See `Receive`."""
        bridged = call.request
        raw = incoming.raw_fields
        headers = Headers(raw)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        events = kind == "text/event-stream"
        coding = content_coding(raw)
        dropped = _DECODED if coding else frozenset[str]()
        endpoint = endpoint_at(bridged.endpoint.method, bridged.path.partition("?")[0])
        unasked = events and not bridged.stream and endpoint is not None and isinstance(bridged.body, bytes)
        stream: Any
        if not bridged.stream and (unasked or kind == "application/json" or kind.endswith("+json")):
            body = await read_whole(call, incoming, cap_of(self._config, request.url.path))
            if looks_like_events(body):  # some servers stream even if the request does not ask for it
                body = self._assembled(call, incoming, endpoint, body)
                dropped, kind = _DECODED | {"content-type"}, "application/json"
            stream = self.library.ByteStream(body)
        else:
            watch = Watch(endpoint, bridged.body) if events or bridged.stream else None
            stream = self.answer_class(self.library, request, call, incoming, watch)
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


def _bytes(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


@functools.cache
def _classes(library: Any) -> tuple[type[Bridge], type[Answer]]:
    """Return `Bridge` and `Answer` as subclasses of the library's classes, which it checks with `isinstance`."""
    answer = type("Answer", (Answer, library.AsyncByteStream), {"__module__": __name__})
    names = {"__module__": __name__, "library": library, "answer_class": answer}
    return type("Bridge", (Bridge, library.AsyncBaseTransport), names), answer


resolve_annotations(__name__)
