"""The server kit: any Python function becomes a model of an OpenAI-compatible server.

    app = Server()

    @app.chat("my-model")
    async def reply(request):
        yield "Hello "
        yield request.messages[-1].text

`Server` is an ASGI 3 application: run it with uvicorn or a similar server, mount it in a larger application, or use the
built-in HTTP server: ``app.run()``, ``async with app.serving() as base_url``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ..endpoints import ENDPOINTS
from ..lazy import resolve_annotations
from ..storage.threads import in_thread
from .asgi import READY, Receive, Scope, Send
from .context import RequestContext
from .errors import HTTPError, described
from .handlers import KINDS, Handler, HandlerRegistry
from .http import HTTPServer, serve, serve_until_signal
from .operations import PUBLIC, not_served, operation, routes
from .origin import check_host, check_origin
from .presence import ClientLeft, PresenceMonitor, RequestLimits, ResponseBroken
from .quota import HandlerSlot, InFlightQueue, RequestRateLimit, ServerMetrics
from .routing import Router
from .validation import check_body, decode_object, kinds_of_field

if TYPE_CHECKING:
    from .batches import BatchStore
    from .files import FileStore
    from .images import PictureStore
    from .responses import ResponseStore
    from .store import CompletionStore

__all__ = ["Authenticate", "Server"]

Authenticate: TypeAlias = Callable[[str | None, RequestContext], Awaitable[Any]]
"""Takes the caller's key, if any, and returns the caller's identity, or a false value. It may raise `HTTPError`."""

_log = logging.getLogger("openaiasync.server")
_H = TypeVar("_H", bound=Handler)
_ALLOWED_HEADERS: Final = b"authorization, content-type, x-request-id, openai-organization, openai-project"
_LARGE: Final = 512 * 1024  # bytes of a request's body
_LAST_ANSWERS: Final = 1.0  # seconds that cancelled requests have to send their last bytes
_RETRY: Final = ((b"retry-after", b"1"),)
_ANYONE: Final = "anyone"  # the identity of callers if no keys are required


class ListenerContext:
    """What the requests of one listener share: the value of its lifespan, and their number."""

    __slots__ = ("_idle", "running", "value")

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        self.running: int = 0
        """The number of requests in progress."""
        self._idle: asyncio.Event | None = None

    def request_ended(self) -> None:
        """Note that a request has ended."""
        self.running -= 1
        if self._idle is not None and not self.running:
            self._idle.set()

    async def wait_idle(self, timeout: float) -> None:
        """Wait until no request is in progress, `timeout` seconds at most."""
        if self.running:
            self._idle = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._idle.wait()


class Server:
    """An OpenAI-compatible server over handlers.

    `api_keys`: a key, several, or an async function that takes the key and the request and returns the caller's
    identity; by default no key is required. `strict` refuses request fields that the API does not have; `validate`
    checks all others against OpenAI's description. `debug` shows the text of a handler's exceptions to the client.

    Limits: `max_body` in bytes; `send_timeout` in seconds, for a client that does not read; `handler_timeout` in
    seconds for a whole answer and `first_token_timeout` until its start (504 after them); `max_in_flight` handlers at
    once, `max_queue` waiting requests, and 429 for any further one; `rpm` and `tpm`, requests and tokens per minute for
    each key. All but `max_queue` are above 0, otherwise `ValueError` is raised.

    `cors`: the origins of web pages that may call, ``["*"]`` for all. `allowed_hosts`: host names with a dot that are
    accepted on the loopback interface, for a proxy on the same machine; other names get 403, since a web page may
    have made them resolve to 127.0.0.1 (DNS rebinding). `lifespan` returns an async context manager, entered once for
    each listener; every request gets its value as `context.state`.

    A subclass may define handlers as methods, for the names in `models` or for any model if there are none::

        class MyServer(Server):
            models = ["my-model"]

            async def on_chat(self, request): ...

    They are ``on_chat``, ``on_completion``, ``on_embedding``, ``on_image``, ``on_speech``, ``on_transcription``,
    ``on_translation``, ``on_moderation``, ``on_response`` and ``on_unknown_route``; `authenticate` and `lifespan` may
    be overridden too.
    """

    models: Sequence[str] = ()
    owned_by: str = "openaiasync"

    def __init__(
        self,
        *,
        api_keys: str | Collection[str] | Authenticate | None = None,
        strict: bool = False,
        validate: bool = True,
        debug: bool = False,
        max_body: int = 32 * 1024 * 1024,
        send_timeout: float = 30.0,
        handler_timeout: float | None = None,
        first_token_timeout: float | None = None,
        max_in_flight: int | None = None,
        max_queue: int = 100,
        rpm: int | None = None,
        tpm: int | None = None,
        cors: Collection[str] = (),
        allowed_hosts: Collection[str] = (),
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        _check_limits(
            max_body=max_body,
            send_timeout=send_timeout,
            handler_timeout=handler_timeout,
            first_token_timeout=first_token_timeout,
            max_in_flight=max_in_flight,
            rpm=rpm,
            tpm=tpm,
        )
        if max_queue < 0:
            raise ValueError(f"max_queue={max_queue!r}: give 0 for no queue, or a positive number")
        self.handlers: HandlerRegistry = HandlerRegistry()
        self.metrics: ServerMetrics = ServerMetrics()
        self.queue: InFlightQueue = InFlightQueue(max_in_flight, max_queue)
        self._limits = RequestLimits(max_body, send_timeout, handler_timeout, first_token_timeout)
        self._rate: RequestRateLimit | None = None if rpm is None and tpm is None else RequestRateLimit(rpm, tpm)
        self._authenticate: Authenticate | None = api_keys if callable(api_keys) else None
        self._keys: tuple[bytes, ...] = () if callable(api_keys) else _encoded_keys(api_keys)
        # Without keys, as most servers on a loopback interface are, no request has to be checked for one.
        self._open: bool = not (self._keys or self._authenticate) and type(self).authenticate is Server.authenticate
        self._strict = strict
        self._validate = validate
        self._debug = debug
        self._cors: frozenset[bytes] = frozenset(origin.rstrip("/").encode() for origin in cors)
        self._allowed_hosts: frozenset[str] = frozenset(name.lower() for name in allowed_hosts)
        # Of the last request whose `Host` was accepted.
        self._accepted_address: object = None
        self._accepted_host: bytes | None = None
        self._lifespan = lifespan
        # Of the listener's context in ASGI's state, which several servers mounted in one application share.
        self._state_key: str = f"openaiasync-{id(self):x}"
        self._unknown: Callable[[RequestContext], Awaitable[None]] | None = getattr(self, "on_unknown_route", None)
        self._router = Router(routes(), not_served())
        self._monitor: PresenceMonitor | None = None  # of the loop that the last request came from
        self.created: int = int(time.time())
        """The creation time in the models' objects, a Unix time."""
        for kind in KINDS:
            method: Handler | None = getattr(self, f"on_{kind}", None)
            if method is not None:
                self.handlers.add(kind, self.models, method)

    # ---------------------------------------------------------------- handlers

    def _register(self, kind: str, models: tuple[str, ...]) -> Callable[[_H], _H]:
        def register(handler: _H) -> _H:
            self.handlers.add(kind, models, handler)
            return handler

        return register

    def chat(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of chat completions for the named models, or for any model.

        The handler takes a `ChatRequest`, and returns or yields strings and other pieces. It also serves
        ``/responses``.
        """
        return self._register("chat", models)

    def completion(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of text completions. It takes a `CompletionRequest`, and returns or yields text."""
        return self._register("completion", models)

    def embedding(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of embeddings. It takes an `EmbeddingRequest`, and returns a vector for each input."""
        return self._register("embedding", models)

    def image(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of images. It takes an `ImageRequest`, and returns the bytes of a picture, or its URL.

        A handler that yields shows unfinished pictures before the last one.
        """
        return self._register("image", models)

    def speech(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of speech. It takes a `SpeechRequest`, and returns or yields bytes of sound."""
        return self._register("speech", models)

    def transcription(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of transcriptions, and of translations unless the model has a handler for them.

        It takes a `TranscriptionRequest`, and returns a text or a `Transcript`, or yields texts or segments.
        """
        return self._register("transcription", models)

    def translation(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of translations. It takes and returns the same as one of `transcription`."""
        return self._register("translation", models)

    def moderation(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler of moderation. It takes a `ModerationRequest`, and returns scores by category for each
        input."""
        return self._register("moderation", models)

    def response(self, *models: str) -> Callable[[_H], _H]:
        """Register a handler for ``/responses``. It returns the whole response object, or yields events.

        Either serves both forms of the answer. The last event is ``response.completed`` or another terminal one.
        """
        return self._register("response", models)

    def unknown_route(
        self, handler: Callable[[RequestContext], Awaitable[None]]
    ) -> Callable[[RequestContext], Awaitable[None]]:
        """Register an async handler for unknown paths and methods, which sends the response itself."""
        self._unknown = handler
        return handler

    def model_names(self) -> list[str]:
        """Return the names of the models, in the order they were registered."""
        return self.handlers.names()

    def model_object(self, name: str) -> dict[str, Any]:
        """Return the model's object. Raises `HTTPError` (404)."""
        if name not in self.handlers.names():
            message = f"The model {name!r} does not exist."
            raise HTTPError(404, message, param="model", code="model_not_found")
        return {"id": name, "object": "model", "created": self.created, "owned_by": self.owned_by}

    # ---------------------------------------------------------------- stores, created on first use

    @cached_property
    def completions(self) -> CompletionStore:
        """The stored chat completions."""
        from .store import CompletionStore

        return CompletionStore()

    @cached_property
    def responses_kept(self) -> ResponseStore:
        """The responses of the Responses API."""
        from .responses import ResponseStore

        return ResponseStore()

    @cached_property
    def files(self) -> FileStore:
        """The uploaded files, and the output of batches."""
        from .files import FileStore

        return FileStore()

    @cached_property
    def pictures(self) -> PictureStore:
        """The pictures that links in answers lead to."""
        from .images import PictureStore

        return PictureStore()

    @cached_property
    def batches(self) -> BatchStore:
        """The batches."""
        from .batches import BatchStore

        return BatchStore()

    # ---------------------------------------------------------------- hooks for subclasses

    async def authenticate(self, key: str | None, context: RequestContext) -> Any:
        """Return the identity of a key's owner, or a false value. The default checks `api_keys`."""
        if self._authenticate is not None:
            found: Any = self._authenticate(key, context)
            return await found if inspect.isawaitable(found) else found
        if not self._keys:
            return _ANYONE
        from hmac import compare_digest  # it loads OpenSSL, for servers with keys

        given = (key or "").encode()
        # All keys are compared, in constant time each, so that the duration reveals nothing about them.
        same = sum(compare_digest(given, one) for one in self._keys)
        return key if same else None

    def lifespan(self) -> AbstractAsyncContextManager[Any]:
        """Return the context manager of one listener."""
        return nullcontext() if self._lifespan is None else self._lifespan()

    # ---------------------------------------------------------------- called by the operations

    async def read_body(self, context: RequestContext) -> dict[str, Any]:
        """Return the validated body of a request. Raises `HTTPError` (400, 413, 415)."""
        operation = context.operation
        if ENDPOINTS[operation].body == "multipart":
            body = await context.read_form(kinds_of_field(operation))
        else:
            context.check_media_type()
            body = decode_object(await context.read())
        if context.size > _LARGE:  # checking it may take seconds, in which other requests have to run
            await in_thread(lambda: self.check_body(operation, body))
        else:
            self.check_body(operation, body)
        return body

    def check_body(self, operation: str, body: dict[str, Any]) -> None:
        """Validate the body of an operation as this server is configured. Raises `HTTPError` (400)."""
        check_body(operation, body, strict=self._strict, types=self._validate)

    def admitted(self, context: RequestContext) -> HandlerSlot:
        """Hold a slot in flight for the block. A client that disconnects while it waits for the slot loses its turn."""
        if self._rate is not None:
            self._rate.admit(_caller(context))
        return HandlerSlot(self.queue, context)

    def spend(self, context: RequestContext, tokens: int) -> None:
        """Count the tokens of a request, and add the header fields that show the caller's remaining allowance."""
        self.metrics.add_tokens(tokens)
        if self._rate is not None:
            context.fields += self._rate.spend(_caller(context), tokens)

    # ---------------------------------------------------------------- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope. WebSockets are refused. Raises `ValueError` for unknown types of scopes."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        monitor = self._monitor
        if monitor is None or monitor.loop is not loop:
            monitor = self._monitor = PresenceMonitor(loop)
        context = RequestContext(scope, receive, send, self._limits, monitor)
        context.debug = self._debug
        state = scope.get("state")
        listener: ListenerContext | None = state.get(self._state_key) if state else None
        if listener is not None:
            context.state = listener.value
            listener.running += 1
        self.metrics.in_flight += 1
        try:
            try:
                await self._respond(context)
            except (ClientLeft, ResponseBroken):
                raise
            except BaseException as error:
                refusal = context.failure(error, "The server failed to answer this request.")
                if refusal is None:
                    raise
                if context.answering:
                    raise ResponseBroken from None
                await context.send_json(refusal.to_dict(), refusal.status, refusal.fields)
        except ClientLeft:
            context.status = 499  # as nginx counts clients that leave
        except ResponseBroken:
            pass  # the ASGI server cuts a response that has no end
        except asyncio.CancelledError:
            if not context.answering:
                await self._refuse_cancelled(context)
            raise
        finally:
            if listener is not None:
                listener.request_ended()
            self.metrics.in_flight -= 1
            self.metrics.count(context.operation, context.status, time.monotonic() - context.started)

    async def _refuse_cancelled(self, context: RequestContext) -> None:
        """Respond that the server is shutting down, which is why ASGI servers cancel requests."""
        refusal = HTTPError(503, "The server is shutting down.", code="server_shutting_down", fields=_RETRY)
        with suppress(TimeoutError, ClientLeft, asyncio.CancelledError):
            async with asyncio.timeout(_LAST_ANSWERS):
                await context.send_json(refusal.to_dict(), refusal.status, refusal.fields)

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a scope that is not of HTTP."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # Before the handshake is accepted, ASGI servers send it as 403.
            await send({"type": "websocket.close", "code": 1003, "reason": "WebSockets are not served here"})
        else:
            raise ValueError(f"only HTTP is served, not {scope['type']!r}")

    # No coroutine is made for a step that does not wait: what is awaited is nearly always the operation's own.

    def _respond(self, context: RequestContext) -> Awaitable[None]:
        """Refuse a request that may not be served, or begin to respond. Awaiting the result does the rest."""
        if self._cors and context.method == "OPTIONS" and context.header(b"access-control-request-method"):
            self._allow_origin(context)
            return context.send_body(b"", 204, ())
        self._check_sender(context)
        return self._dispatch(context)

    def _dispatch(self, context: RequestContext) -> Awaitable[None]:
        """Authenticate the caller, find the operation of a request, and respond."""
        scope = context.scope
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        root: str = scope.get("root_path", "")
        try:
            context.operation, context.arguments = self._router.find(
                context.method, path.removeprefix(root.encode()) if root else path
            )
        except HTTPError as error:
            return self._serve_unknown(context, error)
        if context.operation not in PUBLIC:
            checked = self._check_key(context)
            if checked is not READY:
                return self._serve_authenticated(context, checked)
        return operation(context.operation)(self, context)

    async def _serve_unknown(self, context: RequestContext, error: HTTPError) -> None:
        await self._check_key(context)
        if self._unknown is None:
            raise error
        await self._unknown(context)

    async def _serve_authenticated(self, context: RequestContext, checked: Awaitable[None]) -> None:
        await checked
        await operation(context.operation)(self, context)

    def _check_sender(self, context: RequestContext) -> None:
        """Refuse requests that a web page may have sent without its user's knowledge."""
        headers = context.headers
        server = context.scope.get("server")
        address, host = server[0] if server else None, headers.get(b"host")
        if host != self._accepted_host or address != self._accepted_address:  # nearly all requests have the same two
            check_host(address, host, self._allowed_hosts)
            self._accepted_address, self._accepted_host = address, host
        if self._cors and self._allow_origin(context):
            return
        if (b"origin" in headers or b"sec-fetch-site" in headers) and not self._keys and self._authenticate is None:
            check_origin(context.method, host, headers.get(b"origin"), headers.get(b"sec-fetch-site"))

    def _allow_origin(self, context: RequestContext) -> bool:
        """Add the CORS fields for a page of an allowed origin, and return whether the origin is allowed."""
        origin = context.header(b"origin")
        if origin is None or not (b"*" in self._cors or origin in self._cors):
            return False
        context.fields += [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"*"),
            (b"vary", b"origin"),
        ]
        if context.method == "OPTIONS":
            requested = context.header(b"access-control-request-headers") or _ALLOWED_HEADERS
            context.fields += [
                (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
                (b"access-control-allow-headers", requested),
                (b"access-control-max-age", b"600"),
            ]
        return True

    def _check_key(self, context: RequestContext) -> Awaitable[None]:
        """Find out who sent a request. Awaiting the result raises `HTTPError` (401)."""
        if self._open and "authenticate" not in self.__dict__:
            context.identity = _ANYONE
            return READY
        return self._authenticated(context)

    async def _authenticated(self, context: RequestContext) -> None:
        given = context.header(b"authorization")
        scheme, _, key = (given or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            key = context.header(b"api-key") or context.header(b"x-api-key") or b""
        identity = await self.authenticate(key.strip().decode("latin-1") or None, context)
        context.identity = identity
        if identity:
            return
        if not key:
            message = "You did not provide an API key: send it in the header field 'Authorization: Bearer KEY'."
        else:
            message = "Incorrect API key provided."
        raise HTTPError(401, message, code="invalid_api_key", fields=((b"www-authenticate", b"Bearer"),))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        phase = "startup"
        try:
            async with self.mounted_lifespan() as state:
                if isinstance(scope.get("state"), dict):
                    scope["state"].update(state)
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()
        except Exception as error:
            _log.exception("The lifespan of the server failed")
            await send({"type": f"lifespan.{phase}.failed", "message": described(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def mounted_lifespan(self, app: object = None) -> AsyncGenerator[dict[str, Any]]:
        """Run the lifespan for a listener of the application that this server is mounted in.

        FastAPI and Starlette do not run the lifespan of what is mounted. They take this method as theirs,
        ``FastAPI(lifespan=kit.mounted_lifespan)``; an application with another lifespan enters it there, and adds what
        it yields to its state. `app`, the application, is not used.
        """
        async with self.lifespan() as state:
            listener = ListenerContext(state)
            yield {self._state_key: listener}
            # uvicorn cancels requests and ends the process without waiting for them
            await listener.wait_idle(_LAST_ANSWERS)
            if "batches" in vars(self):
                await self.batches.close()

    # ---------------------------------------------------------------- the built-in HTTP server

    def listener(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> HTTPServer:
        """Return the built-in HTTP server for this application. `options` are those of `serve`."""
        return serve(self, host, port, **options)

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> AsyncGenerator[str]:
        """Serve for a block, and yield the base URL. Port 0 is any free port; `options` are those of `serve`."""
        async with self.listener(host, port, **options) as server:
            yield server.base_url

    def run(self, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serve until SIGINT or SIGTERM; answers in progress then have `grace` seconds (default 30) to end."""
        options = {"grace": 30.0, **options}
        asyncio.run(serve_until_signal(self.listener(host, port, **options)))


def _check_limits(**limits: float | None) -> None:
    """Raise `ValueError` for a limit with which no request could be served."""
    for name, value in limits.items():
        if value is not None and not value > 0:  # NaN included
            none = "" if name in ("max_body", "send_timeout") else ", or None for no limit"
            raise ValueError(f"{name}={value!r}: give a number above 0{none}")


def _encoded_keys(keys: str | Collection[str] | None) -> tuple[bytes, ...]:
    """Return a key or several as bytes. Raises `ValueError` for an empty one."""
    given = [keys] if isinstance(keys, str) else keys or ()
    if not all(given):
        raise ValueError("api_keys has an empty key: is an environment variable not set?")
    return tuple(key.encode() for key in given)


def _caller(context: RequestContext) -> bytes:
    return context.header(b"authorization") or context.header(b"api-key") or context.header(b"x-api-key") or b""


resolve_annotations(__name__)
