"""The engine behind every method: builds requests from parameters, runs calls, and decodes answers."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Mapping
from types import CoroutineType
from typing import Any, Self

from ..core.codec.decode import Decoder, keep
from ..core.codec.endpoint import Endpoint, Request
from ..core.http.codings import CodingError
from ..core.model.meta import Meta
from ..core.model.omitted import is_omitted
from ..errors import APIError, APIStatusError
from ..transport.base import TransportResponse
from . import failures
from .body import cap_for, read_whole
from .call import Call
from .codecs import LARGE, Codec, codec_for
from .config import CallConfig, default_model, timeouts_for
from .method_names import name_method
from .pagination import Paginator
from .prepare import PreparedRequest, RequestBuilder
from .sealing import seal, sealed
from .streams import AsyncStream
from .upstream import Connections, Upstream

__all__ = ["Engine", "Middleware"]


class Middleware:
    """Middleware around an engine's requests: a session that fits them to the context window, `with_raw_response`.

    Each method passes its call on to the engine; a subclass overrides the methods it needs. `inner` is the engine
    without this middleware.
    """

    raw: bool = False
    """Whether answers are returned undecoded."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Awaitable[Any]:
        """See `Engine.run`."""
        return self.answer(self.inner.request(endpoint, params))

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Request:
        """See `Engine.request`."""
        return self.inner.request(endpoint, params, stream)

    def answer(self, request: Request) -> Coroutine[Any, Any, Any]:
        """See `Engine.answer`."""
        return self.inner.answer(request)

    def open(self, request: Request) -> Coroutine[Any, Any, Any]:
        """See `Engine.open`."""
        return self.inner.open(request)

    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        """See `Engine.pages`."""
        return self.inner.pages(endpoint, params)


class Engine:
    """Makes a client's calls: holds its configuration, its server, and the state that it shares with its derived
    clients."""

    def __init__(self, config: CallConfig, shared: Connections) -> None:
        self.shared = shared
        self.middleware: Middleware | None = None
        self.others: tuple[Engine, ...] = ()
        """The engines of further servers that share the calls."""
        self.configure(config)

    def configure(self, config: CallConfig) -> None:
        """Use another configuration from now on."""
        self.config = config
        self.upstream: Upstream = self.shared.upstream(config.base)
        self.builder: RequestBuilder = RequestBuilder(config, self.shared)
        self._prepared: dict[tuple[Endpoint, bool, bool], PreparedRequest] = {}
        self._models: Mapping[str, str] = config.models
        self._default_models: dict[Endpoint, str | None] = {}
        self._codecs: dict[Endpoint, Codec] = {}

    @property
    def raw(self) -> bool:
        """Whether answers are returned undecoded."""
        return self.middleware is not None and self.middleware.raw

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # connections and keys are not copied: copies share them

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("the methods of a client hold connections and a key and cannot be pickled")

    def under(self, config: CallConfig) -> Engine:
        """Return an engine with another configuration that shares connections and limits with this one."""
        return Engine(config, self.shared)

    def within(self, middleware: Middleware) -> Engine:
        """Return an engine that shares everything with this one and has a middleware around its requests."""
        made = object.__new__(Engine)
        made.__dict__.update(self.__dict__)
        made.middleware = middleware
        return made

    # ---------------------------------------------------------------- requests

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None = None) -> Request:
        """Return the `Request` for these parameters, with the default model if they name none."""
        if self.middleware is not None:
            return self.middleware.request(endpoint, params, stream)
        try:
            if endpoint.default_of and params.get("model").__class__ is not str:
                params = self._with_model(endpoint, params)
            if endpoint.codec == "json":
                request = endpoint.request(params, stream=stream)
            else:
                codec = self.codec(endpoint)
                made = codec.ask(self.upstream, params)
                request = endpoint.request(made, stream=stream)
                request.unasked = tuple(name for name, value in made.items() if params.get(name) is not value)
                codec.note(request, params)
            if self.config.placing is not None:
                request.path = self.config.placing.path(request.path, params.get("model"))
            return request
        except Exception as error:
            name_method(error, endpoint.shown)
            seal(error)
            raise

    def _with_model(self, endpoint: Endpoint, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with the default model, unless they name one."""
        given = params.get("model")
        if endpoint.names_model and (given is None or is_omitted(given)):
            given = params.get(endpoint.names_model)
        if given is not None and not is_omitted(given):
            return params
        try:
            model = self._default_models[endpoint]
        except KeyError:
            model = self._default_models[endpoint] = default_model(self._models, endpoint.default_of)
        return params if model is None else {**params, "model": model}

    def stream_request(self, endpoint: Endpoint, params: dict[str, Any]) -> Request:
        """Return the `Request` for a stream and ask for its usage, unless the caller gave ``stream_options``."""
        made = self.upstream.with_usage(params)
        request = self.request(endpoint, made, stream=True)
        if made is not params:
            request.unasked = ("stream_options",)
        return request

    def prepared(self, request: Request) -> PreparedRequest:
        """Return the state shared by all requests of this kind."""
        key = (request.endpoint, request.stream, request.body is None)
        prepared = self._prepared.get(key)
        if prepared is None:
            endpoint = request.endpoint
            timeouts = timeouts_for(self.config, Request(endpoint, endpoint.path, None, request.stream))
            prepared = self._prepared[key] = PreparedRequest(self.codec(endpoint), timeouts)
        return prepared

    # ---------------------------------------------------------------- calls

    def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Awaitable[Any]:
        """Make the call and return the answer that the endpoint table names."""
        if self.middleware is not None:
            return self.middleware.run(endpoint, params)
        return Call(self, self.request(endpoint, params)).run(self.receive)

    async def run_or_stream(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Any:
        """Make the call of the official ``create(stream=...)``: an answer, or an open `AsyncStream`."""
        request = self.request(endpoint, params, stream)
        return await (self.open(request) if request.stream else self.answer(request))

    def answer(self, request: Request) -> Coroutine[Any, Any, Any]:
        """Send a request that is not a stream; return the decoded answer."""
        if self.middleware is not None:
            return self.middleware.answer(request)
        return Call(self, request).run(self.receive)

    def open(self, request: Request) -> Coroutine[Any, Any, AsyncStream[Any]]:
        """Send a request for a stream, and return the stream when the head of a 2xx arrives."""
        if self.middleware is not None:
            return self.middleware.open(request)
        return Call(self, request).run(AsyncStream.start)

    def fetch(self, request: Request) -> Coroutine[Any, Any, tuple[Meta, bytes]]:
        """Send a request that is not a stream; return the call's metadata and the body of its 2xx."""
        return Call(self, request).run(self.receive_body, shown=False)

    @sealed
    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Paginator[Any, Any]:
        """Return a list operation: await it for the first page, iterate it for all items of all pages."""
        if self.middleware is not None:
            pages: Paginator[Any, Any] = self.middleware.pages(endpoint, params)
            return pages
        return Paginator(self, endpoint, params)

    def without_unasked(self, request: Request, error: BaseException) -> Request | None:
        """Return the replacement for a request that was refused in a 200; `None` if it is not sent again.

        The driver does this for error statuses, and for errors sent instead of an answer.
        """
        if not request.unasked or not isinstance(error, APIError) or isinstance(error, APIStatusError):
            return None
        changed = self.upstream.without(request, error)
        return None if changed is None else changed[0]

    # ---------------------------------------------------------------- whole answers

    def receive(self, call: Call, response: TransportResponse) -> Any:
        """Return the decoded answer, or an awaitable of it; see `Receive`."""
        body = response.take()
        if body is None:
            return self._receive_rest(call, response)
        meta, codec = call.meta(response, call.head_at), call.prepared.codec
        if codec.strictly is not None and len(body) <= LARGE:
            try:
                answer = codec.strictly(body)
            except (ValueError, RecursionError):
                pass  # it does not conform, or is not an answer
            else:
                if not codec.content or getattr(answer, codec.content):
                    return keep(answer, body, meta)
        return self.made(call.request, meta, body)

    async def _receive_rest(self, call: Call, response: TransportResponse) -> Any:
        meta, body = await self.receive_body(call, response)
        call.release()  # a large answer is decoded in steps
        made: Any = self.made(call.request, meta, body)
        return await made if made.__class__ is CoroutineType else made

    async def receive_body(self, call: Call, response: TransportResponse) -> tuple[Meta, bytes]:
        """Return the call's metadata and the whole body, decoded; see `Receive`."""
        body = response.take()
        if body is None:
            request = call.request
            cap, binary = cap_for(self.config, request), request.endpoint.binary
            try:
                body = await read_whole(call, response, cap, by_progress=binary)
            except CodingError as error:
                raise failures.invalid_answer(call.meta(response), b"", str(error)) from None
        return call.meta(response), body

    def made(self, request: Request, meta: Meta, body: bytes) -> Any:
        """Return the decoded answer; for a large body, a coroutine that decodes it."""
        codec = self.codec(request.endpoint)
        return (codec.decode_large if len(body) > LARGE else codec.decode)(self, request, meta, body)

    def decode(self, request: Request, meta: Meta, body: bytes) -> Any:
        """Return the decoded answer. Raises `APIResponseValidationError` if the body is not one."""
        return self.codec(request.endpoint).decode(self, request, meta, body)

    def codec(self, endpoint: Endpoint) -> Codec:
        """Return the codec of an operation's answers."""
        codec = self._codecs.get(endpoint)
        if codec is None:
            codec = self._codecs[endpoint] = codec_for(endpoint, self.config.strict)
        return codec

    def decoder(self, request: Request) -> Decoder[Any]:
        """Return the decoder of the object that the answer to a request is."""
        return self.codec(request.endpoint).decoder(request)
