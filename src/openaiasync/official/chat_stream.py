"""`client.chat.completions.stream(...)`: chat as official events, and the answer with its values at the end."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ..engine.sealing import seal, sealing
from ..errors import OpenAIError
from .chat_state import ChatCompletionStreamState

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..core.model.meta import Meta
    from ..engine import AsyncStream, Engine
    from ..engine.streams import OpenResponse
    from ..types.chat import ChatCompletionChunk
    from .chat_events import ChatCompletionStreamEvent
    from .parsed_chat import ParsedChatCompletion

__all__ = ["AsyncChatCompletionStream", "AsyncChatCompletionStreamManager"]

T = TypeVar("T")


class AsyncChatCompletionStream(Generic[T]):
    """Iterate it for events. One pass, one reader; it holds a place in flight until its end, or `close`.

    Iterating raises `OpenAIError`: `IncompleteStreamError` of a stream that broke off, with the answer so far in
    `.partial`, and what the values of the answer raise.
    """

    def __init__(self, stream: AsyncStream[ChatCompletionChunk], state: ChatCompletionStreamState[T]) -> None:
        self._stream = stream
        self._state = state
        self._events: deque[ChatCompletionStreamEvent[T]] = deque()
        self._error: OpenAIError | None = None
        stream.partial_source = lambda: state.current_completion_snapshot
        stream.must_complete |= bool(state.wanted)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatCompletionStreamEvent[T]:
        if self._error is not None:
            raise self._error
        try:
            while not self._events:
                chunk = await self._stream.__anext__()
                kind: Any = chunk.object
                if kind == "":  # Azure's filter, which sends notes of its own between the chunks
                    continue
                self._events.extend(self._state.handle_chunk(chunk))
        except OpenAIError as error:
            seal(error, self.meta.request.secrets)
            self._error = error
            await self.close()
            raise
        return self._events.popleft()

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[Any]:
        """The answer so far, made anew each time."""
        return self._state.current_completion_snapshot

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
    async def get_final_completion(self) -> ParsedChatCompletion[T]:
        """The whole answer with its values; reads what is left of the stream, and raises what that raises.

        Raises `LengthFinishReasonError` and `ContentFilterFinishReasonError` for a choice that ended so, whatever was
        to be parsed; `StructuredOutputError` for one that does not fit its type.
        """
        from ..core.codec.decode import keep

        await self.until_done()
        return keep(self._state.get_final_completion(), None, self.meta)

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


class AsyncChatCompletionStreamManager(Generic[T]):
    """What `stream(...)` answers: ``async with`` it for the stream. Nothing is sent before."""

    def __init__(self, calls: Engine, request: Request, state: ChatCompletionStreamState[T]) -> None:
        self._calls = calls
        self._request = request
        self._state = state
        self._stream: AsyncChatCompletionStream[T] | None = None

    async def __aenter__(self) -> AsyncChatCompletionStream[T]:
        if self._stream is not None:
            raise RuntimeError("a stream is entered once: call stream() again for another")
        self._stream = AsyncChatCompletionStream(await self._calls.open(self._request), self._state)
        return self._stream

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            await self._stream.close()
