"""One front for several servers: requests are passed on to the server with the least expected wait.

A request goes through these steps: its sender is checked as by every `Server`; its limits and the queue are checked;
its head becomes an `Endpoint` whose prepared request the engine knows, so that a usual request costs two look-ups; then
`Call.run(forward)` is its life, with the retries, the breaker and the slots of the client. Bodies and events are passed
on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec

from ...core.codec.dialects import lacks_model
from ...core.codec.endpoint import Endpoint, Request
from ...core.policy.estimate import Usage
from ...core.policy.limits import Limits
from ...endpoints import ENDPOINTS
from ...engine.answer_cache import AnswerCache, is_repeatable, request_key
from ...engine.body import content_coding
from ...engine.call import Call
from ...engine.config import BaseURL, CallConfig
from ...engine.forward import ForwardedResponse, forward, forwarding_endpoint, usage_in
from ...errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    InFlightError,
    OpenAIError,
)
from ...transport.base import Transport
from ..app import Server
from ..asgi import Receive, Scope, Send
from ..context import RequestContext, error_event
from ..errors import HTTPError
from ..http import HTTPServer
from ..http_connection import ServerLimits
from ..presence import ClientLeft, Presence, ResponseBroken
from ..routing import Router
from .accounts import ANYONE, ClientKey, KeyRing, UsageTable, metric_lines
from .front_recording import REPLAYED, FrontRecording
from .passing import (
    TAIL,
    AnswerTail,
    EventBoundary,
    StreamedBody,
    read_body,
    request_fields,
    response_fields,
    static_fields,
)
from .upstreams import FrontUpstream, UpstreamGroup, UpstreamMember

__all__ = ["Front"]

_log = logging.getLogger("openaiasync.server")
_MAX_HEADS: Final = 1_000  # prepared heads, by path and header fields
_LAST_EVENT: Final = 1.0  # seconds for a client to take the event that ends a broken stream
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_KEYS: Final = frozenset({b"authorization", b"api-key"})
_RATE_FIELDS: Final = (b"x-ratelimit-",)
_CORS_FIELDS: Final = (b"access-control-",)
# Operations without state on the server beside those that the client balances.
_STATELESS: Final = frozenset(
    {"responses.create", "moderations.create", "images.edit", "images.create_variation", "audio.translations.create"}
)
_ALWAYS_EQUAL: Final = frozenset({"embeddings.create", "moderations.create"})  # the same answer to the same request
_CACHED: Final = frozenset({"chat.completions.create", "completions.create"}) | _ALWAYS_EQUAL
_FORM_MODEL: Final = re.compile(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')
_RESPONSE_ID: Final = re.compile(rb'"id"\s*:\s*"(resp_[\w-]{1,200})"')


class _BodySummary(msgspec.Struct, gc=False):
    """The fields of a JSON body that are looked at."""

    model: Any = None
    stream: Any = None
    previous_response_id: Any = None
    error: Any = None


_glance = msgspec.json.Decoder(_BodySummary)
_NOTHING: Final = _BodySummary()


class _Head:
    """What requests with the same method, path and repeating header fields share."""

    __slots__ = ("above", "model", "operation", "pinned", "response_id", "shared")

    def __init__(self, operation: str, shared: Endpoint, pinned: Endpoint, arguments: dict[str, str], above: bool):
        self.operation = operation
        self.shared = shared  # for requests that any server may get
        self.pinned = pinned
        self.model: str | None = arguments.get("model")
        self.response_id: str | None = arguments.get("response_id")
        self.above = above


class _Passage:
    """One request on its way through the front."""

    __slots__ = ("above", "cache_key", "call", "caller", "model", "owner", "request")

    def __init__(self, caller: str, request: Request, model: str | None, owner: int | None, above: bool) -> None:
        self.caller = caller
        self.request = request
        self.model = model
        self.owner = owner
        self.above = above
        self.cache_key: bytes | None = None
        self.call: Call | None = None


class Front(Server):
    """An OpenAI-compatible server that passes requests on to others, under the client's own limits.

        front = Front(["http://gpu1:8000/v1", "http://gpu2:8000/v1"], limits=Limits(max_in_flight=64))
        front.run(port=8000)                      # or: async with front.serving() as base_url

    Like every `Server` it is a plain ASGI application: it can be run by any ASGI server, and be mounted.

    Args:
        upstreams: base URLs, or `FrontUpstream`s where a key or a name is needed.
        keys: the keys of clients, as `ClientKey`s with names and limits, or as plain texts; without any, everybody may
            call, and the key that a client sends is passed on if no upstream has one.
        limits: slots, requests and tokens a minute for all upstreams together, perhaps shared with clients.
        max_queue: requests that may wait for a slot; more get 429 with ``Retry-After``.
        queue_timeout: seconds that a request waits for a slot, then 429.
        timeout: seconds until an upstream's response starts, then 504.
        stall_timeout: seconds without a byte once it has started.
        connect_timeout: seconds until a connection to an upstream is established.
        max_retries: attempts after the first one, as long as nothing of a response was passed on.
        max_body: bytes of a JSON body, which is read before it is sent; larger ones are a 413.
        max_upload: bytes of any other body, which is passed on while it arrives.
        cache: the SQLite file of a cache, which jobs and other fronts may share; it answers repeated requests with
            ``temperature`` 0, embeddings and moderations.
        record: a file in which all requests and answers are recorded (see `Cassette`); one that is there is replaced.
        replay: such a file, from which requests are answered; nothing is sent, and `upstreams` may be empty. A request
            that was not recorded gets 501 with the difference to the nearest one.
        send_timeout: seconds for a client that does not read.
        cors: as of `Server`.
        allowed_hosts: as of `Server`.
        debug: as of `Server`.
        transport: makes the transport of an event loop (default: a `TcpTransport`).

    Raises `ConfigurationError` for an invalid URL, key or limit, and for a file that is not a cache or a recording.
    """

    def __init__(
        self,
        upstreams: Sequence[FrontUpstream | str],
        *,
        keys: Iterable[ClientKey | str] = (),
        limits: Limits | None = None,
        max_queue: int = 100,
        queue_timeout: float | None = 30.0,
        timeout: float | None = 600.0,
        stall_timeout: float | None = 600.0,
        connect_timeout: float | None = 10.0,
        max_retries: int = 2,
        max_body: int = 32 * 1024 * 1024,
        max_upload: int = 1 << 30,
        cache: str | os.PathLike[str] | None = None,
        record: str | os.PathLike[str] | None = None,
        replay: str | os.PathLike[str] | None = None,
        send_timeout: float = 30.0,
        cors: Collection[str] = (),
        allowed_hosts: Collection[str] = (),
        debug: bool = False,
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        self._ring = KeyRing(keys)
        authenticate = self._identify if self._ring else None
        kit: dict[str, Any] = {"max_body": max_body, "send_timeout": send_timeout, "debug": debug}
        super().__init__(api_keys=authenticate, cors=cors, allowed_hosts=allowed_hosts, **kit)
        defaults = CallConfig(
            base=BaseURL("http://unset"),
            max_retries=max_retries,
            same_origin=True,
            connect_timeout=connect_timeout,
            start_timeout=timeout,
            stall_timeout=stall_timeout,
            queue_timeout=queue_timeout,
        )
        given = [upstreams] if isinstance(upstreams, str) else list(upstreams)
        if replay is not None and not given:
            given = [REPLAYED]
        self._recording = None if record is None and replay is None else FrontRecording(record, replay, transport)
        self._group = UpstreamGroup(given, defaults, limits, self._recording or transport)
        if self._recording is not None:
            self._recording.base_urls = self._group.base_urls()
        self._usage = UsageTable()
        self._cache_path = cache
        self._cache: AnswerCache | None = None
        self._max_queue = max_queue
        self._max_upload = max_upload
        self._listeners = 0
        self._active = 0  # requests that have a slot, or wait for one
        self._heads_made = 0
        self._heads: dict[tuple[str, bytes, bytes, tuple[tuple[bytes, bytes], ...]], _Head] = {}
        self._paths = Router((one.method, one.path, name) for name, one in ENDPOINTS.items())
        self._dropped = _KEYS if self._ring or any(one.has_key for one in self._group.members) else frozenset[bytes]()
        self._mark = f"openaiasync-{secrets.token_hex(8)}"  # in Via: a request that has it comes from this front
        self._open_cache()

    async def _identify(self, key: str | None, context: RequestContext) -> str | None:
        return self._ring.find(key)

    def upstreams(self) -> list[str]:
        """Return the names of the upstreams: host and port, where no other name was given."""
        return [member.name for member in self._group.members]

    # ---------------------------------------------------------------- lifetime

    def _open_cache(self) -> None:
        if self._cache_path is not None and self._cache is None:
            self._cache = AnswerCache(self._cache_path)

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Read the lists of models at the start of a listener; close connections and cache after the last one."""
        return self._lifespan_of_listener()

    @contextlib.asynccontextmanager
    async def _lifespan_of_listener(self) -> AsyncGenerator[None]:
        self._open_cache()
        self._listeners += 1
        self._group.refresh_soon()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                await self._close()

    async def _close(self) -> None:
        self._heads.clear()
        await self._group.aclose()
        if self._recording is not None:
            self._recording.close()
        cache, self._cache = self._cache, None
        if cache is not None:
            try:
                await cache.aclose()
            except Exception as error:  # a full disk: the answers were delivered all the same
                _log.warning("The last answers could not be written to the cache: %s", error)

    def listener(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> HTTPServer:
        """Return the built-in HTTP server for this application; `options` as for `serve`."""
        return super().listener(host, port, **{"limits": ServerLimits(max_body=self._max_upload), **options})

    # ---------------------------------------------------------------- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope. WebSockets are refused."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": "WebSockets are not passed on"})
            return
        await super().__call__(scope, receive, send)

    async def _dispatch(self, context: RequestContext) -> None:
        scope = context.scope
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        root: bytes = scope.get("root_path", "").encode()
        path = path.partition(b"?")[0].removeprefix(root) or b"/"
        if path == b"/health":
            context.operation = "health"
            await context.send_json({"status": "ok"})
            return
        await self._check_key(context)
        caller = str(context.identity) if self._ring else ANYONE
        if context.method == "GET" and path in _OWN:
            context.operation = _OWN[path]
            await self._respond_itself(context, caller)
            return
        self._check_passable(context, path)
        await self._pass(context, path, caller)

    async def _respond_itself(self, context: RequestContext, caller: str) -> None:
        if context.operation == "metrics":
            lines = metric_lines(self._group, self._usage, asyncio.get_running_loop().time())
            text = self.metrics.text(self.queue) + "\n".join(lines).encode() + b"\n"
            await context.send_bytes(text, b"text/plain; version=0.0.4; charset=utf-8")
        elif context.operation == "usage":
            rows = list(self._usage.rows(caller if self._ring else None))
            await context.send_json({"object": "list", "data": rows})
        else:
            group = self._group
            async with context.waiting():
                errors = await group.read_models()
            if len(errors) == len(group.members) and not any(one.models for one in group.members):
                raise self._refusal(errors[0], group.members[0])
            await context.send_body(group.model_list(), 200, (_JSON,))

    def _check_passable(self, context: RequestContext, path: bytes) -> None:
        """Raise `HTTPError` for a request that cannot be passed on."""
        if context.method in ("CONNECT", "TRACE"):
            raise HTTPError(405, f"Not allowed to {context.method} here.", code="method_not_allowed")
        upgrade = context.header(b"upgrade")
        if upgrade is not None and b"websocket" in upgrade.lower():
            message = "WebSockets are not passed on: connect to the server behind this one directly."
            raise HTTPError(501, message, code="websocket_not_supported")
        via = context.header(b"via")
        if via is not None and self._mark.encode() in via:
            message = "The request came back to this server: one of its upstreams is the server itself."
            raise HTTPError(508, message, code="loop_detected")
        if b"." in path or b"%2" in path:
            for segment in path.split(b"/"):
                if segment.lower().replace(b"%2e", b".") in (b".", b".."):
                    raise HTTPError(400, "The path contains the segment '.' or '..'.", code="invalid_path")

    # ---------------------------------------------------------------- the request

    async def _pass(self, context: RequestContext, path: bytes, caller: str) -> None:
        self._ring.admit(caller)
        passage: _Passage | None = None
        try:
            passage = await self._passage(context, path, caller)
            await self._answer(context, passage)
        except OpenAIError as error:
            self._usage.fail(caller, None if passage is None else passage.model)
            if context.answering or passage is None:
                raise
            await self._refuse(context, passage, error)
        except (HTTPError, ResponseBroken):
            self._usage.fail(caller, None if passage is None else passage.model)
            raise

    async def _passage(self, context: RequestContext, path: bytes, caller: str) -> _Passage:
        """Read the body of a request as far as it is needed, and return what is to be sent where."""
        kept, varying = request_fields(context.scope["headers"], self._dropped)
        key = (context.method, path, cast(bytes, context.scope["query_string"]), kept)
        head = self._heads.get(key) or self._head(*key)
        context.operation = head.operation
        body = await read_body(context, max_body=self._limits.max_body, max_upload=self._max_upload)
        summary, model = _NOTHING, head.model
        if body is not None:
            if isinstance(body, bytes) and body[:1] in b"{ \r\n\t":
                try:
                    summary = _glance.decode(body)
                except (ValueError, RecursionError):
                    pass  # the upstream explains what is wrong with it
                else:
                    model = summary.model if isinstance(summary.model, str) else None
            elif found := _FORM_MODEL.search(body[:65_536] if isinstance(body, bytes) else body.head[:65_536]):
                model = found[1].decode("utf-8", "replace")
        owner = self._group.owner(summary.previous_response_id or head.response_id)
        balanced = owner is None and (head.operation in _BALANCED or (not head.operation and model is not None))
        request = Request(head.shared if balanced else head.pinned, head.shared.path, body, summary.stream is True)
        request.headers = varying
        passage = _Passage(caller, request, model, owner, head.above)
        cacheable = self._cache is not None and head.operation in _CACHED
        if cacheable and (head.operation in _ALWAYS_EQUAL or is_repeatable(body)):
            passage.cache_key = request_key(head.operation, body)
        return passage

    def _head(self, method: str, path: bytes, query: bytes, kept: tuple[tuple[bytes, bytes], ...]) -> _Head:
        self._heads_made += 1
        if self._heads_made > _MAX_HEADS:
            self._heads_made = 0
            self._heads.clear()
            self._group.forget_heads()
        below = path[3:] if path.startswith(b"/v1/") else path
        operation, arguments = "", dict[str, str]()
        with contextlib.suppress(HTTPError):  # a path that the API does not have: the upstreams may
            operation, arguments = self._paths.find(method, below)
        above = not operation and below is path
        target = below.decode("ascii") + (f"?{query.decode('latin-1')}" if query else "")
        fields = static_fields(kept, f"1.1 {self._mark}", plain=self._cache is not None)
        name = operation or "forward"
        shared = forwarding_endpoint(name, method, target, fields, balanced=True)
        pinned = forwarding_endpoint(name, method, target, fields, balanced=False)
        head = _Head(operation, shared, pinned, arguments, above)
        if not arguments:
            self._heads[method, path, query, kept] = head
        return head

    # ---------------------------------------------------------------- the answer

    async def _answer(self, context: RequestContext, passage: _Passage) -> None:
        if passage.cache_key is not None and await self._answer_from_cache(context, passage):
            return
        body = passage.request.body
        receive = body.receive_after if isinstance(body, StreamedBody) else context.receive
        boundary: EventBoundary | None = None
        tail: AnswerTail | None = None
        try:
            async with context.waiting(receive) as presence:
                self._active += 1
                try:
                    response = await self._call(passage)
                    try:
                        member = self._member(passage)
                        member.statuses[response.status] += 1
                        coding = content_coding(response.raw_fields)
                        if response.body is not None and not coding and passage.cache_key is None:
                            fields = self._account(context, passage, response, usage_in(response.body[-TAIL:]))
                            await context.begin(response.status, fields)
                            await context.send_piece(response.body, more=False)
                            return
                        tail = AnswerTail(coding, whole=passage.cache_key is not None)
                        if response.body is not None:
                            await self._send_whole(context, passage, response, tail)
                        else:
                            if not coding and _is_events(response.raw_fields):
                                boundary = EventBoundary()
                            await self._send_pieces(context, passage, response, tail, boundary, presence)
                    finally:
                        response.release()
                finally:
                    self._active -= 1
        except (ClientLeft, ResponseBroken):
            raise
        except (OpenAIError, asyncio.CancelledError) as error:
            if not context.answering:
                raise
            await self._end_broken(context, passage, error, boundary, tail)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ResponseBroken from None

    async def _call(self, passage: _Passage) -> ForwardedResponse:
        """Send a request, and return the response at its first bytes."""
        self._check_queue()
        group = self._group
        group.refresh_soon()
        while True:
            engine = group.engine(passage.model, passage.owner, above=passage.above)
            call = passage.call = Call(engine, passage.request)
            balanced = bool(engine.others and passage.request.endpoint.group)
            if not balanced:
                group.member_of(engine).pinned += 1
            try:
                return await call.run(forward)
            except APIStatusError as error:
                model, member = passage.model, self._member(passage)
                # Not a failure of the request: the list of models is old or missing.
                if model is None or passage.owner is not None or not call.rewindable() or not lacks_model(error):
                    raise
                if len(group.members) == 1 or not group.lacks(member, model):
                    raise
                member.statuses[error.status_code] += 1
            finally:
                if not balanced:
                    group.member_of(engine).pinned -= 1

    def _check_queue(self) -> None:
        """Raise `HTTPError` (429) if a request would have to wait, and as many as may do so already."""
        limiter, pace = self._group.shared.limiter, self._group.shared.pace
        full = limiter.size is not None and limiter.used >= limiter.size
        wait = 0.0
        if pace is not None:
            wait = max(pace.requests.due, pace.tokens.due) - asyncio.get_running_loop().time()
        if (full or wait > 0) and self._active - limiter.used > self._max_queue:
            message = f"The server is busy: {limiter.used} requests are in flight, and {self._max_queue} may wait."
            raise HTTPError(429, message, code="server_busy", kind="requests", fields=_retry_after(max(wait, 1.0)))

    def _member(self, passage: _Passage) -> UpstreamMember:
        assert passage.call is not None
        return self._group.member_of(passage.call.engine)

    async def _send_whole(
        self, context: RequestContext, passage: _Passage, response: ForwardedResponse, tail: AnswerTail
    ) -> None:
        body = response.body or b""
        tail.feed(body)
        if self._cache is not None and response.exact:
            self._keep_answer(passage, response, tail)
        fields = self._account(context, passage, response, tail.usage())
        await context.begin(response.status, fields)
        await context.send_piece(body, more=False)

    async def _send_pieces(
        self,
        context: RequestContext,
        passage: _Passage,
        response: ForwardedResponse,
        tail: AnswerTail,
        boundary: EventBoundary | None,
        presence: Presence,
    ) -> None:
        fields = self._fields(context, response.raw_fields, self._ring.spend(passage.caller, 0))
        await context.begin(response.status, fields)
        send = context.send_piece
        pieces = response.first
        while pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            tail.feed(data)
            if boundary is not None:
                data = boundary.feed(data)
            if response.ended:
                break
            if data:
                presence.expect_send()
                await send(data, more=True)
                presence.sent()
            pieces = await response.pieces()
        else:
            data = b""
        if boundary is not None:
            data += boundary.finish()
        response.release()
        self._account(context, passage, response, tail.usage(), head_sent=True)
        presence.expect_send()
        if not response.exact and boundary is not None and not tail.completes_events:
            # The upstream closed the connection where nothing says that the stream ends: so does the front.
            await send(data, more=True)
            raise ResponseBroken
        if self._cache is not None and response.exact and (boundary is None or tail.completes_events):
            self._keep_answer(passage, response, tail)
        await send(data, more=False)

    def _account(
        self,
        context: RequestContext,
        passage: _Passage,
        response: ForwardedResponse,
        usage: Usage | None,
        *,
        head_sent: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Count an answer's tokens; return the fields of its response."""
        tokens = 0
        if usage is not None:
            tokens = usage.input + usage.output
            member = self._member(passage)
            member.input_tokens += usage.input
            member.output_tokens += usage.output
            self.metrics.add_tokens(tokens)
        self._usage.count(passage.caller, passage.model, usage)
        left = self._ring.spend(passage.caller, tokens)
        if passage.request.endpoint.name == "responses.create" and len(self._group.members) > 1:
            first = response.body if response.body is not None else b"".join(response.first)
            if found := _RESPONSE_ID.search(first[:4096]):
                self._group.own(found[1].decode(), self._member(passage))
        return [] if head_sent else self._fields(context, response.raw_fields, left)

    def _fields(
        self, context: RequestContext, raw_fields: bytes, left: list[tuple[bytes, bytes]] | None
    ) -> list[tuple[bytes, bytes]]:
        """Return the fields of a response: the upstream's, and the front's own where it has its own limits."""
        prefixes = (_RATE_FIELDS if left is not None else ()) + (_CORS_FIELDS if self._cors else ())
        fields = response_fields(raw_fields, prefixes=prefixes)
        own = context.fields  # the first is the request's id
        for name, _ in fields:
            if name == b"x-request-id":
                own = own[1:]
                break
        fields += own
        if left:
            fields += left
        return fields

    # ---------------------------------------------------------------- failures

    async def _refuse(self, context: RequestContext, passage: _Passage, error: OpenAIError) -> None:
        """Respond to a request that no upstream answered: with an upstream's error response, or with one of ours."""
        group = self._group
        member = group.members[0] if passage.call is None else self._member(passage)
        if not isinstance(error, APIStatusError):
            member.statuses[0] += 1
            raise self._refusal(error, member)
        response = error.response
        member.statuses[response.status_code] += 1
        raw = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in response.headers.raw_pairs())
        fields = self._fields(context, raw, self._ring.spend(passage.caller, 0))
        # The error was decoded, cut to 64 KiB, and rid of the front's own key.
        fields = [field for field in fields if field[0] not in (b"content-encoding", b"content-length")]
        content: bytes = response.content
        await context.begin(response.status_code, [*fields, (b"content-length", b"%d" % len(content))])
        await context.send_piece(content, more=False)

    def _refusal(self, error: OpenAIError, member: UpstreamMember) -> HTTPError:
        """Return the response to a request that failed before an upstream responded."""
        if isinstance(error, APITimeoutError) and error.clock == "queue":
            message = "The server is busy: the request waited too long for a slot and was not sent."
            return HTTPError(429, message, code="server_busy", kind="requests", fields=_retry_after(1.0))
        if isinstance(error, APITimeoutError):
            return HTTPError(
                504, f"The upstream {member.name} did not respond in time: {error}", code="upstream_timeout"
            )
        if isinstance(error, (ClientClosedError, InFlightError)):
            return HTTPError(503, "The server is shutting down.", code="server_shutting_down", fields=_retry_after(1.0))
        if isinstance(error, APIConnectionError):
            return HTTPError(502, f"The upstream {member.name} failed: {error}", code="upstream_failed")
        if isinstance(error, ConfigurationError):
            return HTTPError(400, f"The request cannot be passed on: {error}")
        return HTTPError(
            502, f"The response of the upstream {member.name} is not valid: {error}", code="upstream_invalid"
        )

    async def _end_broken(
        self,
        context: RequestContext,
        passage: _Passage,
        error: BaseException,
        boundary: EventBoundary | None,
        tail: AnswerTail | None,
    ) -> None:
        """Tell the client of a stream that it broke, in an event; other bodies can only be cut."""
        if boundary is None or tail is None or tail.completes_events:
            return
        if isinstance(error, OpenAIError):
            refusal = self._refusal(error, self._member(passage))
        else:
            refusal = HTTPError(503, "The server is shutting down.", code="server_shutting_down")
        async with asyncio.timeout(_LAST_EVENT):
            await context.send_piece(error_event(refusal), more=True)

    # ---------------------------------------------------------------- the cache

    async def _answer_from_cache(self, context: RequestContext, passage: _Passage) -> bool:
        assert passage.cache_key is not None
        body = None if self._cache is None else self._cache.get(passage.cache_key)
        if body is None:
            return False
        self._usage.count(passage.caller, passage.model, None, cached=True)
        left = self._ring.spend(passage.caller, 0) or []
        kind = _JSON if body[:1] == b"{" else _EVENTS
        length = (b"content-length", b"%d" % len(body))
        await context.begin(200, [kind, length, (b"x-cache", b"hit"), *context.fields, *left])
        await context.send_piece(body, more=False)
        return True

    def _keep_answer(self, passage: _Passage, response: ForwardedResponse, tail: AnswerTail) -> None:
        """Put a complete answer into the cache."""
        body = tail.whole()
        if body is None or passage.cache_key is None or self._cache is None or response.status != 200:
            return
        if body[:1] == b"{":
            try:
                if _glance.decode(body).error is not None:
                    return
            except (ValueError, RecursionError):
                return
        elif not tail.completes_events or b'"error":{' in body.replace(b'"error": {', b'"error":{'):
            return
        self._cache.put(passage.cache_key, body)


_OWN: Final = {b"/metrics": "metrics", b"/usage": "usage", b"/v1/usage": "usage", b"/v1/models": "models.list",
               b"/models": "models.list"}  # fmt: skip
_BALANCED: Final = frozenset(name for name, one in ENDPOINTS.items() if one.group) | _STATELESS | {"models.retrieve"}


def _is_events(raw_fields: bytes) -> bool:
    return b"\r\ncontent-type: text/event-stream" in b"\r\n" + raw_fields.lower().replace(b":text", b": text")


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", b"%d" % max(1, -int(-seconds // 1))), (b"retry-after-ms", b"%d" % (seconds * 1000)))
