"""The engine behind every method: a request's way through limits, transport, retries and decoding."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, ClassVar, Self, cast
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
from ..transport.base import TransportError, TransportResponse
from . import failures
from .binary import binary_answer, text_answer
from .body import cap_for, read_whole
from .call import Call
from .config import CallConfig
from .embeddings import NO_VECTOR, as_embeddings, count_texts, fault
from .formats import TEXT_FORMATS, formatted_type
from .links import attach, needs_nothing
from .pagination import Paginator, page_type
from .prepare import RequestBuilder
from .sealing import seal, sealed
from .shared import Shared
from .streams import AsyncStream
from .timeouts import CallTimeouts, clocks_for

__all__ = ["Engine"]

LARGE = 1 << 20  # bytes of a body above which it is decoded in steps
_CONFIRMED = frozenset({b"", b"{}", b"null"})  # bodies of a deletion that worked; Google's is an empty object


class Engine:
    """How a client's calls are made: its configuration and what it shares with its relatives."""

    raw: ClassVar[bool] = False
    """Whether answers are handed out as they came."""

    def __init__(self, config: CallConfig, shared: Shared) -> None:
        self.shared = shared
        self.configure(config)

    def configure(self, config: CallConfig) -> None:
        """Use another configuration from now on."""
        self.config = config
        self.composer: RequestBuilder = RequestBuilder(config, self.shared)
        self._clocks: dict[str, CallTimeouts] = {}
        self._decoders: dict[Endpoint, Decoder[Any]] = {}
        self._simply: dict[Endpoint, tuple[Callable[[bytes], Any], str] | None] = {}

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # connections and keys are not copied: what holds calls shares them with its copies

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("the methods of a client hold connections and a key and cannot be pickled")

    def under(self, config: CallConfig) -> Engine:
        """Calls under another configuration that share connections, limits and retry budget with these."""
        return Engine(config, self.shared)

    # ---------------------------------------------------------------- requests

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None = None) -> Request:
        """The `Request` for these parameters, the default model filled in where none is named."""
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
                    params = self.shared.defaults.with_base64(self.config.base, params)
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
        """The `Request` for a stream whose usage is asked for, unless the caller gave ``stream_options``."""
        made = self.shared.defaults.with_usage(self.config.base, params)
        request = self.request(endpoint, made, stream=True)
        if made is not params:
            request.unasked = ("stream_options",)
        return request

    def clocks(self, request: Request) -> CallTimeouts:
        """The clocks that a call with this request runs under."""
        if request.has_clocks:
            return clocks_for(self.config, request)
        kind = "stream" if request.stream else request.endpoint.answer
        clocks = self._clocks.get(kind)
        if clocks is None:
            clocks = self._clocks[kind] = clocks_for(self.config, request)
        return clocks

    # ---------------------------------------------------------------- whole answers

    def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Awaitable[Any]:
        """Make the call and answer what the endpoint's row says."""
        return self.answer(self.request(endpoint, params))

    async def run_or_stream(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Any:
        """The official ``create(stream=...)``: an answer, or an open `AsyncStream`."""
        request = self.request(endpoint, params, stream)
        if not request.stream:
            return await self.answer(request)
        return await self.open(request)

    async def answer(self, request: Request) -> Any:
        """Send a request that is not a stream; the decoded answer."""
        try:
            if self.config.observers or request.hooks is not None:
                from .observed import watched_answer  # who watches nothing need not load it

                return await watched_answer(self, request)
            answer = self.made(request, *await self.exchange(request))
            return await answer if answer.__class__ is CoroutineType else answer
        except BaseException as error:
            changed = self.without_unasked(request, error)
            if changed is None:
                seal(error)
                raise
        return await self.answer(changed)

    def without_unasked(self, request: Request, error: BaseException) -> Request | None:
        """The request to send in the place of one that was refused in a 200; `None` if the error is the caller's.

        Of errors by status the call itself has seen to that.
        """
        if not request.unasked or not isinstance(error, APIError) or isinstance(error, APIStatusError):
            return None
        changed = self.shared.defaults.without(self.config.base, request, error)
        return None if changed is None else changed[0]

    def call(self, request: Request) -> Call:
        """A call with this request; one that is watched where somebody watches."""
        if not self.config.observers and request.hooks is None:
            return Call(self, request)
        from .observed import ObservedCall

        return ObservedCall(self, request)

    async def fetch(self, request: Request) -> tuple[Meta, bytes]:
        """Send a request that is not a stream; what is known of the call, and the body of its 2xx."""
        try:
            return await self.exchange(request)
        except BaseException as error:
            seal(error)
            raise

    async def exchange(self, request: Request, call: Call | None = None) -> tuple[Meta, bytes]:
        """As `fetch`, for callers that seal what it raises. Whoever passes the `call` tells it how it ended."""
        if call is None:
            if self.config.observers or request.hooks is not None:
                from .observed import watched_fetch

                return await watched_fetch(self, request)
            call = Call(self, request)
        try:
            if not call.enters():
                await call.enter()
            incoming: TransportResponse | None = None
            begun = call.begin()
            while True:  # until a whole answer is there, or `again` raises
                try:
                    if begun is None:
                        incoming = await call.head()
                    else:
                        incoming, begun = begun, None
                        await incoming.head()
                        call.incoming, call.head_at = incoming, call.loop.time()
                        if not 200 <= incoming.status < 300:
                            await call.no_success(incoming)
                            continue
                        if self.shared.refusing:
                            self.shared.accepted(self.config.base.origin)
                    now = call.head_at
                    body = incoming.take()
                    if body is None:
                        body = await self._rest(call, incoming)
                        now = call.loop.time()
                    break
                except TransportError as caught:
                    failure = caught
                if incoming is not None:
                    incoming.abort()
                await call.again(failure)
            meta = call.meta(incoming, now)
        finally:
            call.leave()
        self.shared.budget.refill()
        if call.request.unasked:
            self.shared.defaults.taken(self.config.base, call.request)
        return meta, body

    async def _rest(self, call: Call, incoming: TransportResponse) -> bytes:
        """The body that did not come with its head, or has a content coding."""
        request = call.request
        binary = request.endpoint.answer == "binary"
        try:
            return await read_whole(call, incoming, cap_for(self.config, request), by_progress=binary)
        except CodingError as error:
            raise failures.invalid_answer(call.meta(incoming), b"", str(error)) from None

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

    # ---------------------------------------------------------------- streams and pages

    async def open(self, request: Request) -> AsyncStream[Any]:
        """Send a request for a stream; answers when the head of a 2xx is there."""
        call = self.call(request)
        try:
            await call.enter()
            kind: type[AsyncStream[Any]] = AsyncStream
            if call.watched:
                from .observed import ObservedStream as kind
            stream = await kind.open(call)
            if call.request.unasked:
                self.shared.defaults.taken(self.config.base, call.request)
            return stream
        except BaseException as error:
            call.leave()
            await call.failed(error)
            # Some servers refuse with a whole object in a 200, in the place of the stream.
            changed = self.without_unasked(request, error)
            if changed is None:
                seal(error)
                raise
        return await Engine.open(self, changed)

    @sealed
    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Paginator[Any, Any]:
        """A list operation: awaited the first page, iterated all items of all pages."""
        return Paginator(self, endpoint, params)
