"""A lazy, single-pass stream that accumulates its events into the text and the answer so far and the final answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, Self, TypeVar

from ..core.codec.decode import keep
from ..core.codec.endpoint import Request
from ..core.model.base import BaseModel
from ..core.model.closing import AsyncClosing, refuse_second_pass
from ..errors import OpenAIError
from ..lazy import resolve_annotations
from .engine import Engine
from .sealing import sealing
from .streams import AsyncStream

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["AccumulatingStream", "ChatStream"]

C = TypeVar("C")
A = TypeVar("A", bound=BaseModel)
A_co = TypeVar("A_co", covariant=True)
C_contra = TypeVar("C_contra", contravariant=True)


class Accumulator(Protocol[C_contra, A_co]):
    """Accumulates the events of a stream into an answer."""

    def add(self, chunk: C_contra, /) -> None: ...
    @property
    def text(self) -> str: ...
    @property
    def reasoning(self) -> str: ...
    def partial(self) -> A_co: ...
    def final(self) -> A_co: ...


class AccumulatingStream(AsyncClosing, Generic[C, A]):
    """A stream of chunks that accumulates them into an answer.

    The request is sent when the stream is entered, iterated or asked for its `final` answer. Leave it with ``async
    with`` or `close`; it holds a slot in flight until then or until its end. One pass, one reader.
    """

    def __init__(
        self, calls: Engine, request: Request, accumulator: Accumulator[C, A], *, must_complete: bool = False
    ) -> None:
        """Create an unopened stream; with `must_complete` an answer without a completion signal raises, see
        `AsyncStream`."""
        self._calls = calls
        self._request = request
        self._sum = accumulator
        self._must_complete = must_complete
        self._stream: AsyncStream[C] | None = None
        self._closed = False
        self._ended = False
        self._error: OpenAIError | None = None
        # The usage chunk has no choices; a loop written like the official client's examples would fail on it.
        self._hides_usage: bool = "stream_options" in request.unasked

    async def _open(self) -> AsyncStream[C]:
        if self._closed:
            raise RuntimeError("this stream was closed before its end; `.partial` holds what was received")
        if self._stream is None:
            self._stream = await self._calls.open(self._request)
            self._stream.partial_source = self._sum.partial
            self._stream.must_complete |= self._must_complete
        return self._stream

    def __await__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not awaited: enter it with 'async with', or await its final()")

    def __aiter__(self) -> Self:
        refuse_second_pass(self._ended, "final() has the answer")
        if self._stream is not None:
            self._stream.hand_over()
        return self

    async def __anext__(self) -> C:
        if self._error is not None:
            raise self._error
        if self._ended:
            raise StopAsyncIteration
        stream = await self._open() if self._stream is None or self._closed else self._stream
        try:
            chunk = await stream.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise
        except OpenAIError as error:
            changed = None if self._came() else self._calls.without_unasked(self._request, error)
            if changed is None:
                self._error = error
                raise
            self._request, self._stream = changed, None
            return await self.__anext__()
        self._sum.add(chunk)
        if self._hides_usage:
            fields: Any = chunk
            if not fields.choices and fields.usage is not None:
                return await self.__anext__()
        return chunk

    def _came(self) -> bool:
        """Return whether any part of the answer was received, which a second request would repeat."""
        partial: Any = self._sum.partial()
        return bool(getattr(partial, "choices", True))

    @property
    def text(self) -> str:
        """The text so far, of the first choice."""
        return self._sum.text

    @property
    def reasoning(self) -> str:
        """The model's reasoning so far, where the server shows it."""
        return self._sum.reasoning

    @property
    def partial(self) -> A:
        """The answer accumulated so far."""
        return self._sum.partial()

    @property
    def meta(self) -> Meta:
        """Metadata of the call; `RuntimeError` before the stream is opened."""
        if self._stream is None:
            raise RuntimeError("nothing was sent yet: enter or iterate the stream first")
        return self._stream.meta

    @sealing
    async def final(self) -> A:
        """Read the rest of the stream and return the whole answer.

        Raises what reading raises, and raises it again on later calls: `OpenAIError`, whose `.partial` holds what a
        broken stream delivered; `RuntimeError` if the stream was closed before its end.
        """
        if not self._ended:
            async for _ in self:
                pass
        answer = self._sum.final()
        return keep(answer, None, self.meta)

    async def close(self) -> None:
        """Release the connection and the slot in flight at once. Idempotent."""
        if not self._ended:
            self._closed = True
        if self._stream is not None:
            await self._stream.close()

    aclose = close

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    def __repr__(self) -> str:
        state = "not sent" if self._stream is None else "ended" if self._ended else "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self._request!r} {state}>"


if TYPE_CHECKING:
    _Chunks = AccumulatingStream[ChatCompletionChunk, ChatCompletion]
else:
    _Chunks = AccumulatingStream


class ChatStream(_Chunks):
    """A streamed chat completion: iterate its `ChatCompletionChunk`s; `final()` is the whole `ChatCompletion`."""


resolve_annotations(__name__)
