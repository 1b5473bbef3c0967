"""`with_raw_response` and `with_streaming_response`: raw answers, decoded on request.

A namespace seen through one of them is the same class over another `Engine`, so that every method has a raw variant
without additional code.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from ..core.codec.endpoint import Endpoint, Request
from ..core.model.headers import Headers
from ..core.model.meta import Meta, RequestInfo, ResponseInfo
from ..core.model.method_signatures import explicit_signatures
from ..lazy import json
from ..transport.base import TransportResponse
from .body import body_pieces, cap_for, too_large
from .call import Call
from .engine import Engine, Middleware
from .pagination import turn
from .sealing import seal, sealing
from .streams import AsyncStream

__all__ = ["Namespace", "RawMethods", "RawResponse", "RawViews", "StreamedMethods", "StreamedResponse"]

T = TypeVar("T")
P = TypeVar("P", str, bytes)


class _Facts:
    """The metadata shared by both kinds of raw answers."""

    meta: Meta

    @property
    def status_code(self) -> int:
        """The status."""
        return self.meta.status

    @property
    def headers(self) -> Headers:
        """The header fields of the answer."""
        return self.meta.headers

    @property
    def request_id(self) -> str | None:
        """The server's request id."""
        return self.meta.request_id

    @property
    def http_request(self) -> RequestInfo:
        """The request, without credentials."""
        return self.meta.request

    @property
    def http_response(self) -> ResponseInfo:
        """Status, header fields and request together, and the body if it was read."""
        return ResponseInfo(self.meta.status, self.meta.headers, self.meta.request, self._held())

    def _held(self) -> bytes:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The URL of the response, after redirects."""
        return self.meta.url

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.meta.request.method

    @property
    def http_version(self) -> str:
        """The HTTP version."""
        return "HTTP/1.1"

    @property
    def retries_taken(self) -> int:
        """The number of retries."""
        return self.meta.tries - 1

    @property
    def elapsed(self) -> datetime.timedelta:
        """The time from the first attempt to the head or the end of the answer."""
        return datetime.timedelta(seconds=self.meta.total)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code} {self.url}>"


class RawResponse(_Facts, Generic[T]):
    """An answer that was read whole and not decoded: `parse()` returns the method's usual result.

    For ``stream=True`` the body is not read yet, `parse()` returns the open stream, and `content` is empty.
    """

    def __init__(self, meta: Meta, content: bytes, parse: Callable[[Any], Any]) -> None:
        self.meta = meta
        self.content = content
        self._parse = parse
        self._parsed: dict[Any, Any] = {}

    def parse(self, *, to: Any = None) -> T:
        """Return the decoded answer, of the method's type or of `to`. Raises `APIResponseValidationError`."""
        key = None if to is None else repr(to)
        if key not in self._parsed:
            try:
                self._parsed[key] = self._parse(to)
            except BaseException as error:
                seal(error)
                raise
        return cast("T", self._parsed[key])

    def then(self, finish: Callable[[Any], Any]) -> RawResponse[Any]:
        """Return a copy whose `parse()` applies `finish` to the decoded answer."""
        parse = self._parse
        return RawResponse(self.meta, self.content, lambda to: parse(to) if to is not None else finish(parse(None)))

    def _held(self) -> bytes:
        return self.content

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body as JSON; `ValueError` if it is not JSON."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            seal(error, self.meta.request.secrets)
            raise

    def read(self) -> bytes:
        """Return the body."""
        return self.content

    @property
    def is_closed(self) -> bool:
        """Whether the connection is free again: a raw answer was read to its end."""
        return True


def decode_as(calls: Engine, request: Request, meta: Meta, body: bytes, to: Any) -> Any:
    """Return the body decoded to the endpoint's type, or to `to`."""
    if to is None:
        return (
            calls.decode(request, meta, body) if request.cast is None else request.cast.read(calls, request, meta, body)
        )
    from .cast import cast_for

    return cast_for(to).read(calls, request, meta, body)


class _Raw(Middleware):
    """Returns answers as `RawResponse`s."""

    raw = True

    def answer(self, request: Request) -> Coroutine[Any, Any, Any]:
        return Call(self.inner, request).run(self._receive, shown=False)

    async def _receive(self, call: Call, response: TransportResponse) -> RawResponse[Any]:
        meta, body = await self.inner.receive_body(call, response)
        request = call.request
        return RawResponse(meta, body, lambda to: decode_as(self.inner, request, meta, body, to))

    async def open(self, request: Request) -> Any:
        stream = await self.inner.open(request)
        return RawResponse[Any](stream.meta, b"", lambda to: stream)

    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        return self._page(endpoint, params)

    async def _page(self, endpoint: Endpoint, params: dict[str, Any]) -> RawResponse[Any]:
        response = await self.answer(self.inner.request(endpoint, params))
        parse = response._parse

        def turned(to: Any) -> Any:
            page = parse(to)
            return turn(page, self.inner, endpoint, params) if to is None else page

        return RawResponse(response.meta, response.content, turned)


class StreamedResponse(_Facts, Generic[T]):
    """An answer whose head has arrived and whose body is read on request: in pieces, by lines, whole, or decoded."""

    def __init__(self, calls: Engine, call: Call, response: TransportResponse) -> None:
        """Take over a call whose 2xx this is."""
        call.keep()
        self._calls = calls
        self._call = call
        self._request = call.request
        self._response = response
        self.meta: Meta = call.meta(response)
        self._content: bytes | None = None
        self._taken = False
        self._finish: Callable[[Any], Any] | None = None

    async def read(self) -> bytes:
        """Read the rest of the body and return it; later calls return the same bytes."""
        if self._content is None:
            request = self._request
            cap, size = cap_for(self._calls.config, request), 0
            pieces: list[bytes] = []
            async for piece in self.iter_bytes():
                pieces.append(piece)
                size += len(piece)
                if size > cap:
                    await self.close()
                    raise self._call.public(too_large(cap))
            self._content = b"".join(pieces)
        return self._content

    async def text(self) -> str:
        """Return the whole body as text."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """Return the whole body as JSON; `ValueError` if it is not JSON."""
        try:
            return json.loads(await self.read())
        except ValueError as error:
            seal(error, self.meta.request.secrets)
            raise

    def _held(self) -> bytes:
        return self._content or b""

    async def parse(self, *, to: Any = None) -> T:
        """Return the method's usual result: for a binary answer its bytes, for ``stream=True`` the stream."""
        request = self._request
        if to is None and request.cast is None and request.endpoint.binary and not request.stream:
            to = bytes  # this object itself has the reading methods of a binary answer
        finish: Callable[[Any], Any] = _as_it_is if to is not None or self._finish is None else self._finish
        try:
            if self._request.stream and to is None:
                self._taken = True
                return cast("T", AsyncStream(self._call, self._response))
            return cast("T", finish(decode_as(self._calls, self._request, self.meta, await self.read(), to)))
        except BaseException as error:
            seal(error)
            raise

    def then(self, finish: Callable[[Any], Any]) -> StreamedResponse[Any]:
        """Return a copy whose `parse()` applies `finish` to the decoded answer."""
        self._finish = finish
        return self

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Return the body in pieces as they arrive, or of `chunk_size` bytes each (the last may be shorter)."""
        return _sealed(self._bytes(chunk_size))

    async def _bytes(self, chunk_size: int | None) -> AsyncIterator[bytes]:
        if self._content is not None:
            yield self._content
            return
        if self._taken:
            raise RuntimeError("this body was read already; read() returns it again")
        self._taken = True
        held = bytearray()
        async for piece in body_pieces(self._call, self._response):
            if chunk_size is None:
                yield piece
                continue
            held += piece
            while len(held) >= chunk_size:
                yield bytes(held[:chunk_size])
                del held[:chunk_size]
        if held:
            yield bytes(held)

    def iter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """Return the body as text, in pieces that never split a character."""
        return _sealed(self._text(chunk_size))

    async def _text(self, chunk_size: int | None) -> AsyncIterator[str]:
        import codecs

        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        async for piece in self._bytes(chunk_size):
            if text := decode(piece):
                yield text
        if text := decode(b"", final=True):
            yield text

    def iter_lines(self) -> AsyncIterator[str]:
        """Return the body line by line, without line ends (LF, CRLF or CR)."""
        return _sealed(self._lines())

    async def _lines(self) -> AsyncIterator[str]:
        from ..core.http.lines import LineDecoder

        decoder = LineDecoder()
        async for text in self._text(None):
            for line in decoder.feed(text):
                yield line
        for line in decoder.feed("", final=True):
            yield line

    @sealing
    async def stream_to_file(self, file: str | os.PathLike[str], *, chunk_size: int | None = None) -> None:
        """Write the body to a file, in threads, replacing it atomically once the body is complete.

        A pipe or a device is written to as bytes arrive. Raises `OSError` and the errors of reading.
        """
        from ..storage.atomic import write_pieces

        await write_pieces(file, self.iter_bytes(chunk_size))

    @property
    def is_closed(self) -> bool:
        """Whether the connection is free again."""
        return self._call.permit is None

    async def close(self) -> None:
        """Release the connection and the slot at once. Idempotent."""
        self._call.release()

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None and not self._taken:  # else a stream has taken the call over, or is being read
            call.abandon()


def _as_it_is(answer: Any) -> Any:
    return answer


async def _sealed(pieces: AsyncIterator[P]) -> AsyncIterator[P]:
    """Yield the pieces without holding one when an error is raised, since a traceback shows the locals of its
    frames."""
    piece: P | None = None
    try:
        async for piece in pieces:
            yield piece
    except BaseException as error:
        piece = None
        seal(error)
        raise


class _Opening(Generic[T]):
    """The result of a method of `with_streaming_response`: ``async with`` it for the `StreamedResponse`."""

    def __init__(self, opening: Coroutine[Any, Any, StreamedResponse[T]]) -> None:
        self._opening = opening
        self._response: StreamedResponse[T] | None = None

    async def __aenter__(self) -> StreamedResponse[T]:
        self._response = await self._opening
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            await self._response.close()


class _Streamed(Middleware):
    """Returns answers as `StreamedResponse`s when their head arrives."""

    raw = True

    def answer(self, request: Request) -> Coroutine[Any, Any, Any]:
        return Call(self.inner, request).run(self._receive)

    open = answer

    async def _receive(self, call: Call, response: TransportResponse) -> StreamedResponse[Any]:
        await call.observers.handed_over()
        return StreamedResponse[Any](self.inner, call, response)

    def pages(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        return self.answer(self.inner.request(endpoint, params))


class RawMethods:
    """A namespace, or a client, whose methods return `RawResponse`s: ``client.chat.completions.with_raw_response``."""

    def __init__(self, namespace: Any, calls: Engine) -> None:
        self._namespace = namespace
        self._namespace_calls = calls

    def _wrap(self, attribute: Any) -> Any:
        return attribute

    def _view(self) -> Any:
        return _over(self._namespace, self._namespace_calls.within(_Raw(self._namespace_calls)))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._view(), name)
        if isinstance(getattr(attribute, "_calls", None), Engine):
            return type(self)(attribute, self._namespace_calls)
        if not callable(attribute) or getattr(attribute, "no_raw_twin", False):
            raise AttributeError(f"{name!r} is not a method with a raw answer")
        return self._wrap(attribute)

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Call the namespace itself, as in ``client.chat(...)``, for a raw answer."""
        view = self._view()
        if not callable(view):
            raise TypeError(f"{type(self._namespace).__name__} cannot be called; its methods can")
        return self._wrap(view)(*args, **params)


class StreamedMethods(RawMethods):
    """A namespace, or a client, whose methods return context managers of `StreamedResponse`s."""

    def _view(self) -> Any:
        return _over(self._namespace, self._namespace_calls.within(_Streamed(self._namespace_calls)))

    def _wrap(self, attribute: Callable[..., Awaitable[Any]]) -> Any:
        def opening(*args: Any, **params: Any) -> _Opening[Any]:
            return _Opening(cast("Any", attribute(*args, **params)))

        return opening


def _over(thing: Any, calls: Engine) -> Any:
    """Return the same namespace, or client, over another engine; its cached attributes are rebuilt."""
    view: Any = object.__new__(thing.__class__)
    view._calls = calls
    return view


class RawViews:
    """The raw views of a namespace, and of a whole client."""

    _calls: Engine

    @property
    def with_raw_response(self) -> RawMethods:
        """The same methods, returning a `RawResponse`: status, header fields, body; `parse()` decodes."""
        return RawMethods(self, self._calls)

    @property
    def with_streaming_response(self) -> StreamedMethods:
        """The same methods, returning a context manager of a `StreamedResponse`, whose body is read on request."""
        return StreamedMethods(self, self._calls)


class Namespace(RawViews):
    """The base of every group of methods (`client.chat`): an ordinary object, created once per client, that can be
    patched."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        explicit_signatures(cls)

    def __init__(self, calls: Engine) -> None:
        self._calls = calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
