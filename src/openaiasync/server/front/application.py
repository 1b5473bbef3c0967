"""One front for several servers: requests are passed on to the server with the least expected wait.

A request goes through these steps: its sender is checked as by every `Server`; the limits of its key are checked; its
head becomes an `Endpoint` whose prepared request the engine knows, so that a usual request costs two look-ups; then it
is a `Passage`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec

from ...core.codec.endpoint import Endpoint, Request
from ...core.policy.limits import Limits
from ...endpoints import ENDPOINTS
from ...engine.answer_cache import AnswerCache, is_repeatable, request_key
from ...engine.config import BaseURL, CallConfig
from ...engine.forward import forwarding_endpoint
from ...errors import APIStatusError, OpenAIError
from ...transport.base import Transport
from ...transport.cassette import CassetteError
from ..app import Server
from ..context import RequestContext
from ..errors import HTTPError
from ..http import HTTPServer
from ..http_connection import ServerLimits
from ..routing import NO_ARGUMENTS, Router
from .accounts import ANYONE, ClientKey, KeyRing, metric_lines
from .front_recording import REPLAYED, FrontRecording
from .passage import FrontState, Passage, refusal_for
from .passing import (
    read_body,
    request_fields,
    static_fields,
)
from .upstreams import FrontUpstream, UpstreamGroup

__all__ = ["Front"]

_log = logging.getLogger("openaiasync.server")
_MAX_HEADS: Final = 1_000  # prepared heads, by path and header fields
_JSON: Final = (b"content-type", b"application/json")
_KEYS: Final = frozenset({b"authorization", b"api-key", b"x-api-key"})
# Operations without state on the server beside those that the client balances.
_STATELESS: Final = frozenset(
    {"responses.create", "moderations.create", "images.edit", "images.create_variation", "audio.translations.create"}
)
_ALWAYS_EQUAL: Final = frozenset({"embeddings.create", "moderations.create"})  # the same answer to the same request
_CACHED: Final = frozenset({"chat.completions.create", "completions.create"}) | _ALWAYS_EQUAL
_FORM_MODEL: Final = re.compile(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')


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

    def __init__(self, operation: str, shared: Endpoint, pinned: Endpoint, arguments: Mapping[str, str], above: bool):
        self.operation = operation
        self.shared = shared  # for requests that any server may get
        self.pinned = pinned
        self.model: str | None = arguments.get("model")
        self.response_id: str | None = arguments.get("response_id")
        self.above = above


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
        record: a file in which all requests and answers are recorded (see `Cassette`); an existing one is
            replaced.
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
        ring = KeyRing(keys)
        authenticate = self._identify if ring else None
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
        self._mark = f"openaiasync-{secrets.token_hex(8)}"  # in Via: a request that has it comes from this front
        via = f"1.1 {self._mark}"
        self._group = UpstreamGroup(given, defaults, limits, self._recording or transport, via)
        if self._recording is not None:
            self._recording.base_urls = self._group.base_urls()
        self._state = FrontState(self._group, ring, self.metrics, max_queue=max_queue, cors=bool(cors))
        self._cache_path = cache
        self._max_upload = max_upload
        self._listeners = 0
        self._heads_made = 0
        self._heads: dict[tuple[str, bytes, bytes, tuple[tuple[bytes, bytes], ...]], _Head] = {}
        self._paths = Router((one.method, one.path, name) for name, one in ENDPOINTS.items())
        self._dropped = _KEYS if ring or any(one.has_key for one in self._group.members) else frozenset[bytes]()
        self._open_cache()

    async def _identify(self, key: str | None, context: RequestContext) -> str | None:
        return self._state.ring.find(key)

    def upstreams(self) -> list[str]:
        """Return the names of the upstreams: host and port, where no other name was given."""
        return [member.name for member in self._group.members]

    # ---------------------------------------------------------------- lifetime

    def _open_cache(self) -> None:
        if self._cache_path is not None and self._state.cache is None:
            self._state.cache = AnswerCache(self._cache_path)

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
            try:
                self._recording.close()
            except CassetteError as error:
                _log.error("The recording is incomplete: %s", error)
        cache, self._state.cache = self._state.cache, None
        if cache is not None:
            try:
                await cache.aclose()
            except Exception as error:  # a full disk: the answers were delivered all the same
                _log.warning("The last answers could not be written to the cache: %s", error)

    def listener(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> HTTPServer:
        """Return the built-in HTTP server for this application; `options` as for `serve`."""
        return super().listener(host, port, **{"limits": ServerLimits(max_body=self._max_upload), **options})

    # ---------------------------------------------------------------- ASGI

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
        caller = str(context.identity) if self._state.ring else ANYONE
        self._check_passable(context, path)
        if context.method == "GET" and path in _OWN:
            context.operation = _OWN[path]
            await self._respond_itself(context, caller)
            return
        await self._pass(context, path, caller)

    async def _respond_itself(self, context: RequestContext, caller: str) -> None:
        if context.operation == "metrics":
            lines = metric_lines(self._group, self._state.usage, asyncio.get_running_loop().time())
            text = self.metrics.text(self.queue) + "\n".join(lines).encode() + b"\n"
            await context.send_bytes(text, b"text/plain; version=0.0.4; charset=utf-8")
        elif context.operation == "usage":
            rows = list(self._state.usage.rows(caller if self._state.ring else None))
            await context.send_json({"object": "list", "data": rows})
        else:
            group = self._group
            async with context.waiting():
                errors = await group.models(self._passed_to_lists(context))
            if len(errors) == len(group.members) and not any(one.models for one in group.members):
                await self._refuse_list(context, errors[0])
                return
            await context.send_body(group.model_list(), 200, (_JSON,))

    async def _refuse_list(self, context: RequestContext, error: OpenAIError) -> None:
        if not isinstance(error, APIStatusError):
            raise refusal_for(error, self._group.members[0])
        kind = error.response.headers.get("content-type", "application/json").encode("latin-1")
        await context.send_body(error.response.content, error.status_code, ((b"content-type", kind),))

    def _passed_to_lists(self, context: RequestContext) -> dict[str, str] | None:
        """Return the fields of a request for the list of models that the upstreams' lists have to be asked with.

        These are the client's own key, where the upstreams get it, and the fronts that the request came through.
        """
        passed = [name for name in (b"authorization", b"api-key", b"x-api-key") if name not in self._dropped]
        found = ((name, context.header(name)) for name in (*passed, b"via"))
        return {name.decode(): value.decode("latin-1") for name, value in found if value is not None} or None

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
            # Each front of the circle would send it again.
            raise HTTPError(508, message, code="loop_detected", fields=((b"x-should-retry", b"false"),))
        if not path.isascii():
            raise HTTPError(400, "The path has bytes that are not ASCII: percent-encode them.", code="invalid_path")
        if b"." in path or b"%2" in path:
            for segment in path.split(b"/"):
                if segment.lower().replace(b"%2e", b".") in (b".", b".."):
                    raise HTTPError(400, "The path contains the segment '.' or '..'.", code="invalid_path")

    # ---------------------------------------------------------------- the request

    async def _pass(self, context: RequestContext, path: bytes, caller: str) -> None:
        self._state.ring.admit(caller)
        try:
            passage = await self._passage(context, path, caller)
        except HTTPError:
            self._state.usage.fail(caller, None)
            raise
        await passage.run()

    async def _passage(self, context: RequestContext, path: bytes, caller: str) -> Passage:
        """Read as much of the body as is needed, and return the `Passage` of the request."""
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
        if self._recording is not None:
            self._recording.hide(context.headers, self._dropped)
        passage = Passage(self._state, context, caller, request, model=model, owner=owner, above=head.above)
        cacheable = self._state.cache is not None and head.operation in _CACHED
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
        operation, arguments = "", NO_ARGUMENTS
        with contextlib.suppress(HTTPError):  # a path that the API does not have: the upstreams may
            operation, arguments = self._paths.find(method, below)
        above = not operation and below is path
        target = below.decode("ascii") + (f"?{query.decode('latin-1')}" if query else "")
        fields = static_fields(kept, f"1.1 {self._mark}", plain=self._cache_path is not None)
        name = operation or "forward"
        shared = forwarding_endpoint(name, method, target, fields, balanced=True)
        pinned = forwarding_endpoint(name, method, target, fields, balanced=False)
        head = _Head(operation, shared, pinned, arguments, above)
        if not arguments:
            self._heads[method, path, query, kept] = head
        return head


_OWN: Final = {b"/metrics": "metrics", b"/usage": "usage", b"/v1/usage": "usage", b"/v1/models": "models.list",
               b"/models": "models.list"}  # fmt: skip
_BALANCED: Final = frozenset(name for name, one in ENDPOINTS.items() if one.group) | _STATELESS | {"models.retrieve"}
