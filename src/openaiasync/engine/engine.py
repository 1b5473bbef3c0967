"""The engine behind every method: from parameters to a request, from a request to a call, from bytes to an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, cast
from urllib.parse import unquote

from ..core.codec.decode import (
    DecodeError,
    Decoder,
    decoder_for,
    keep,
    parsed,
)
from ..core.codec.endpoint import Endpoint, Request
from ..core.http.codings import CodingError
from ..core.http.sse import looks_like_events
from ..core.model.meta import Meta
from ..core.model.mixins import CONTENTS, has_content
from ..errors import APIError, APIStatusError
from ..transport.base import TransportResponse
from . import failures
from .binary import binary_answer, text_answer
from .body import cap_for, read_whole
from .call import Call
from .config import CallConfig, CallTimeouts, timeouts_for
from .embeddings import NO_VECTOR, as_embeddings, count_texts, fault
from .formats import TEXT_FORMATS, formatted_type
from .links import attach, needs_nothing
from .pagination import Paginator, page_type
from .prepare import RequestBuilder
from .sealing import seal, sealed
from .streams import AsyncStream
from .upstream import Connections, Upstream

__all__ = ["Engine", "Middleware"]

LARGE = 1 << 20  # bytes of a body above which it is decoded in steps
_CONFIRMED = frozenset({b"", b"{}", b"null"})  # bodies of a deletion that worked; Google's is an empty object


class Middleware:
    """What stands around the requests of an engine: a session that makes them fit, `with_raw_response`.

    Each method does what the engine itself would do; a subclass overrides those of interest. `inner` is the engine
    without it.
    """

    raw: bool = False
    """Whether answers are handed out undecoded."""

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
    """How a client's calls are made: its configuration, its server, and what it shares with its relatives."""

    def __init__(self, config: CallConfig, shared: Connections) -> None:
        self.shared = shared
        self.middleware: Middleware | None = None
        self.configure(config)

    def configure(self, config: CallConfig) -> None:
        """Use another configuration from now on."""
        self.config = config
        self.upstream: Upstream = self.shared.upstream(config.base)
        self.builder: RequestBuilder = RequestBuilder(config, self.shared)
        self._timeouts: dict[str, CallTimeouts] = {}
        self._decoders: dict[Endpoint, Decoder[Any]] = {}
        self._simply: dict[Endpoint, tuple[Callable[[bytes], Any], str] | None] = {}

    @property
    def raw(self) -> bool:
        """Whether answers are handed out undecoded."""
        return self.middleware is not None and self.middleware.raw

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # connections and keys are not copied: what holds calls shares them with its copies

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
        """Return the `Request` for these parameters, the default model filled in where none is named."""
        if self.middleware is not None:
            return self.middleware.request(endpoint, params, stream)
        try:
            given = params
            if group := endpoint.group:
                if "model" not in params:
                    models = self.config.models
                    model = models.get(group) or models.get("")
                    if model is not None and "model" in endpoint.known:
                        params = {**params, "model": model}
                if group == "embedding":
                    given = params
                    params = self.upstream.with_base64(params)
            request = endpoint.request(params, stream=stream)
            if group == "embedding":
                if params is not given:
                    request.unasked = ("encoding_format",)
                request.as_base64 = given.get("encoding_format") == "base64"
                request.texts = count_texts(given)
            if self.config.placing is not None:
                request.path = self.config.placing.path(request.path, params.get("model"))
            return request
        except Exception as error:
            seal(error)
            raise

    def stream_request(self, endpoint: Endpoint, params: dict[str, Any]) -> Request:
        """Return the `Request` for a stream whose usage is asked for, unless the caller gave ``stream_options``."""
        made = self.upstream.with_usage(params)
        request = self.request(endpoint, made, stream=True)
        if made is not params:
            request.unasked = ("stream_options",)
        return request

    def timeouts(self, request: Request) -> CallTimeouts:
        """Return the timeouts of a call with this request."""
        if request.has_clocks:
            return timeouts_for(self.config, request)
        kind = "stream" if request.stream else request.endpoint.answer
        timeouts = self._timeouts.get(kind)
        if timeouts is None:
            timeouts = self._timeouts[kind] = timeouts_for(self.config, request)
        return timeouts

    # ---------------------------------------------------------------- calls

    def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Awaitable[Any]:
        """Make the call and return what the endpoint's row says."""
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
        """Send a request for a stream, and return it when the head of a 2xx is there."""
        if self.middleware is not None:
            return self.middleware.open(request)
        return Call(self, request).run(AsyncStream.start)

    def fetch(self, request: Request) -> Coroutine[Any, Any, tuple[Meta, bytes]]:
        """Send a request that is not a stream; return what is known of the call, and the body of its 2xx."""
        return Call(self, request).run(self.receive_body, shown=False)

    @sealed
    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Paginator[Any, Any]:
        """Return a list operation: awaited it is the first page, iterated all items of all pages."""
        if self.middleware is not None:
            pages: Paginator[Any, Any] = self.middleware.pages(endpoint, params)
            return pages
        return Paginator(self, endpoint, params)

    def without_unasked(self, request: Request, error: BaseException) -> Request | None:
        """Return the request to send in the place of one that was refused in a 200; `None` if there is none.

        The driver does this for errors by status, and for those that come in the place of an answer.
        """
        if not request.unasked or not isinstance(error, APIError) or isinstance(error, APIStatusError):
            return None
        changed = self.upstream.without(request, error)
        return None if changed is None else changed[0]

    # ---------------------------------------------------------------- whole answers

    def receive(self, call: Call, response: TransportResponse) -> Any:
        """Return the decoded answer, or what waits for it; see `Receive`."""
        body = response.take()
        if body is None:
            return self._receive_rest(call, response)
        return self.made(call.request, call.meta(response, call.head_at), body)

    async def _receive_rest(self, call: Call, response: TransportResponse) -> Any:
        meta, body = await self.receive_body(call, response)
        call.release()  # a large answer is decoded in steps
        made = self.made(call.request, meta, body)
        return await made if isinstance(made, Coroutine) else made

    async def receive_body(self, call: Call, response: TransportResponse) -> tuple[Meta, bytes]:
        """Return what is known of the call, and the whole body, its coding undone; see `Receive`."""
        body = response.take()
        if body is None:
            request = call.request
            by_progress = request.endpoint.answer == "binary"
            try:
                body = await read_whole(call, response, cap_for(self.config, request), by_progress=by_progress)
            except CodingError as error:
                raise failures.invalid_answer(call.meta(response), b"", str(error)) from None
        return call.meta(response), body

    def made(self, request: Request, meta: Meta, body: bytes) -> Any:
        """The answer that a body is, as `decode` makes it; of a large one a coroutine that makes it."""
        if len(body) > LARGE:
            from .large import decode_large

            return decode_large(self, request, meta, body)
        simply = self._simply.get(request.endpoint)
        if simply is not None:
            decode, contents = simply
            try:
                answer = decode(body)
            except (ValueError, RecursionError):
                pass  # it does not conform, or is not an answer
            else:
                if not contents or getattr(answer, contents):
                    return keep(answer, body, meta)
        elif request.endpoint not in self._simply:
            self._simply[request.endpoint] = self._simple_decoder(request)
        return self.decode(request, meta, body)

    def decode(self, request: Request, meta: Meta, body: bytes) -> Any:
        """The answer that a body is, by its endpoint's row; `APIResponseValidationError` if it is none."""
        endpoint = request.endpoint
        kind = endpoint.answer
        if kind == "none":
            self._check_nothing(meta, body)
            return None
        if kind == "binary":
            return binary_answer(request, meta, body)
        if kind == "text":
            return body.decode("utf-8", "replace")
        if kind == "object-or-text" and request.response_format in TEXT_FORMATS:
            return text_answer(formatted_type(request), meta, body)
        if endpoint.method == "DELETE" and body.strip() in _CONFIRMED:
            return self._deleted(request, meta)
        try:
            answer, reason = self._read(request, body)
        except DecodeError as error:
            answer, reason = None, error.reason
        if not reason:
            return self.finished(request, answer, meta, body)
        if endpoint.method == "DELETE" and reason != failures.ERROR:
            from ..core.codec.success import is_confirmed

            if is_confirmed(body):
                return self._deleted(request, meta)
        if looks_like_events(body):
            from .assembled import assembled  # few servers stream what nobody asked them to

            return assembled(self, request, meta, body)
        refusal = failures.refused(meta, body, reason, kind=self.decoder(request).kind)
        if reason == failures.ERROR and answer is not None:
            refusal.partial = answer
        raise refusal

    def _check_nothing(self, meta: Meta, body: bytes) -> None:
        """Raise the error in a body where an answer without one was due."""
        from ..core.codec.success import is_error

        try:
            value = parsed(body) if body else None
        except DecodeError:
            return
        if isinstance(value, dict) and is_error(None, cast("dict[str, Any]", value)):
            raise failures.stream_error(meta, value)

    def _read(self, request: Request, body: bytes) -> tuple[Any, str]:
        """The answer that a body is, and why it may not be handed out, if so. Raises `DecodeError`."""
        decoder = self.decoder(request)
        try:
            answer = decoder.fast(body)
        except (ValueError, RecursionError):
            pass
        else:
            if failures.holds_error(answer):
                return None, failures.ERROR
            return answer, "" if has_content(answer) else "the answer is empty"
        from ..core.codec.success import as_page, read_leniently  # answers that conform need not load it

        value = parsed(body)
        if request.endpoint.answer == "page":
            collection = request.endpoint.path.rpartition("/")[2]
            value = as_page(value, collection, models=request.endpoint.path.endswith("/models"))
        elif request.endpoint.group == "embedding":
            value = as_embeddings(value)
        return read_leniently(decoder, value, body)

    def _deleted(self, request: Request, meta: Meta) -> Any:
        """The answer to a DELETE that the server confirmed with a status alone (204, or an empty 200)."""
        from ..core.codec.success import deleted

        decoder = self.decoder(request)
        last = unquote(request.path.partition("?")[0].rpartition("/")[2])
        made = deleted(decoder.kind, request.endpoint.ids_in(request.path), last)
        return keep(decoder.build(made, b""), None, meta)

    def finished(self, request: Request, answer: Any, meta: Meta, body: bytes) -> Any:
        """A decoded answer with what it needs beside: vectors checked, links that can be fetched, its meta."""
        if request.endpoint.group == "embedding" and (wrong := fault(request, answer)):
            if wrong == NO_VECTOR:
                raise failures.empty_answer(meta, body, wrong)
            raise failures.misfit(meta, body, wrong)
        attach(self, answer)
        return keep(answer, body, meta)

    def decoder(self, request: Request) -> Decoder[Any]:
        """The decoder of a request's answer."""
        endpoint = request.endpoint
        if endpoint.answer == "object-or-text":
            return decoder_for(formatted_type(request), strict=self.config.strict)
        decoder = self._decoders.get(endpoint)
        if decoder is None:
            made = page_type(endpoint) if endpoint.answer == "page" else endpoint.load(endpoint.type)
            decoder = self._decoders[endpoint] = decoder_for(made, strict=self.config.strict)
        return decoder

    def _simple_decoder(self, request: Request) -> tuple[Callable[[bytes], Any], str] | None:
        """The strict decoder of an endpoint whose answers need nothing done to them once they are decoded.

        What it decodes has no unknown field, and says by its own literal what it is: it cannot hold an error. Beside it
        the name of the list that has to hold something, if there is one.
        """
        endpoint = request.endpoint
        if endpoint.answer != "object" or endpoint.group in ("embedding", "text_to_speech"):
            return None
        decoder = self.decoder(request)
        if not needs_nothing(decoder.kind) or not failures.is_no_error(decoder.kind):
            return None
        return decoder.fast, CONTENTS.get(decoder.kind.__name__, "")
