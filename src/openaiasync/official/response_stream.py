"""`client.responses.stream(...)`: the events of a response with what it says so far, and the whole of it at the end."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ..engine.sealing import seal, sealing
from ..errors import OpenAIError
from .response_state import ResponseStreamState

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..core.model.meta import Meta
    from ..engine import AsyncStream, Engine
    from ..engine.streams import OpenResponse
    from .parsed_responses import ParsedResponse
    from .response_events import ResponseStreamEvent

__all__ = ["AsyncResponseStream", "AsyncResponseStreamManager"]

T = TypeVar("T")


class AsyncResponseStream(Generic[T]):
    """Iterate it for events. One pass, one reader; it holds a place in flight until its end, or `close`.

    Iterating raises `OpenAIError`: `IncompleteStreamError` of a stream that broke off, with the response so far in
    `.partial`, and `StructuredOutputError` for a text that does not fit its type.
    """

    def __init__(self, stream: AsyncStream[Any], state: ResponseStreamState[T], starting_after: int | None) -> None:
        self._stream = stream
        self._state = state
        self._after = starting_after
        self._error: OpenAIError | None = None
        stream.partial_source = lambda: state.snapshot
        stream.must_complete |= bool(state.wanted)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResponseStreamEvent[T]:
        if self._error is not None:
            raise self._error
        try:
            while True:
                event: Any = self._state.handle_event(await self._stream.__anext__())
                number: Any = getattr(event, "sequence_number", None)
                if self._after is None or type(number) is not int or number > self._after:
                    made: ResponseStreamEvent[T] = event
                    return made
        except OpenAIError as error:
            seal(error, self.meta.request.secrets)
            self._error = error
            await self.close()
            raise

    @property
    def current_response_snapshot(self) -> ParsedResponse[Any] | None:
        """The response so far, made anew each time; `None` before its first event."""
        return self._state.snapshot

    @property
    def meta(self) -> Meta:
        """What is known of the call."""
        return self._stream.meta

    @property
    def response(self) -> OpenResponse:
        """Status and header fields of the answer."""
        return self._stream.response

    @sealing
    async def until_done(self) -> Self:
        """Read what is left; raises what reading raises."""
        async for _ in self:
            pass
        return self

    @sealing
    async def get_final_response(self) -> ParsedResponse[T]:
        """The complete response with its values; reads what is left of the stream, and raises what that raises.

        Raises `UnfinishedResponseError` (a `RuntimeError`), which holds it, for one that failed or is incomplete.
        """
        from ..core.codec.decode import keep

        await self.until_done()
        return keep(self._state.final(), None, self.meta)

    async def close(self) -> None:
        """Free the connection and the place in flight at once. Idempotent."""
        await self._stream.close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncResponseStreamManager(Generic[T]):
    """What `stream(...)` answers: ``async with`` it for the stream. Nothing is sent before."""

    def __init__(
        self, calls: Engine, request: Request, state: ResponseStreamState[T], starting_after: int | None = None
    ) -> None:
        self._calls = calls
        self._request = request
        self._state = state
        self._after = starting_after
        self._stream: AsyncResponseStream[T] | None = None

    async def __aenter__(self) -> AsyncResponseStream[T]:
        if self._stream is not None:
            raise RuntimeError("a stream is entered once: call stream() again for another")
        self._stream = AsyncResponseStream(await self._calls.open(self._request), self._state, self._after)
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.close()
