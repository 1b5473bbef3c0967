"""The base of the helpers' streams: events made from those of the server, and a snapshot that grows."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from ..core.model.closing import AsyncClosing, refuse_second_pass
from ..engine.sealing import seal, sealing
from ..errors import OpenAIError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..core.model.meta import Meta
    from ..engine import AsyncStream, Engine
    from ..engine.streams import OpenResponse
    from .parsing import ParseSpec

__all__ = ["HelperStream", "HelperStreamManager", "StreamState"]

E = TypeVar("E")


class StreamState(Protocol):
    """The state of a stream: the answer so far, and the specification for parsing it."""

    @property
    def spec(self) -> ParseSpec:
        """The specification for parsing the answer."""
        ...

    @property
    def snapshot(self) -> Any:
        """The answer so far."""
        ...


class HelperStream(AsyncClosing, Generic[E]):
    """Iterate it for events. One pass, one reader; it holds a slot in flight until its end, or `close`.

    Iterating raises `OpenAIError`: `IncompleteStreamError` for a stream that broke off, with the answer so far in
    `.partial`, and `StructuredOutputError` for a text that does not fit its type.
    """

    def __init__(self, stream: AsyncStream[Any], state: StreamState) -> None:
        self._stream = stream
        self._error: OpenAIError | None = None
        self._ended = False
        stream.partial_source = lambda: state.snapshot
        stream.must_complete |= bool(state.spec)

    async def _next(self) -> E:
        """Return the next event, made from one or more of the server's."""
        raise NotImplementedError

    def __aiter__(self) -> Self:
        refuse_second_pass(self._ended, "its get_final_…() has the answer")
        return self

    async def __anext__(self) -> E:
        if self._error is not None:
            raise self._error
        try:
            return await self._next()
        except StopAsyncIteration:
            self._ended = True
            raise
        except OpenAIError as error:
            seal(error, self.meta.request.secrets)
            self._error = error
            await self.close()
            raise

    @property
    def meta(self) -> Meta:
        """Metadata of the call."""
        return self._stream.meta

    @property
    def response(self) -> OpenResponse:
        """Status and header fields of the answer."""
        return self._stream.response

    @sealing
    async def until_done(self) -> Self:
        """Read the rest of the stream. Raises the errors of reading."""
        if not self._ended:
            async for _ in self:
                pass
        return self

    async def close(self) -> None:
        """Free the connection and the slot in flight at once. Idempotent."""
        await self._stream.close()

    aclose = close


S = TypeVar("S", bound=HelperStream[Any])


class HelperStreamManager(Generic[S]):
    """Returned by ``stream(...)``: enter it with ``async with`` for the stream. Nothing is sent before."""

    def __init__(self, calls: Engine, request: Request, make: Callable[[AsyncStream[Any]], S]) -> None:
        self._calls = calls
        self._request = request
        self._make = make
        self._stream: S | None = None

    async def __aenter__(self) -> S:
        if self._stream is not None:
            raise RuntimeError("a stream is entered once: call stream() again for another")
        self._stream = self._make(await self._calls.open(self._request))
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.close()


resolve_annotations(__name__)
