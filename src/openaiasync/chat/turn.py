"""One turn: ask the model, run its tools, check its answer, and repeat until it is complete; whole or streamed."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast

from ..core.codec.accumulate import ChatAccumulator
from ..core.codec.reasoning import ThinkSplitter
from ..core.model.closing import AsyncClosing, refuse_second_pass
from ..core.schema.structured import PartialValue
from ..endpoints import CHAT_COMPLETIONS_CREATE
from ..engine.accumulating import ChatStream
from ..engine.engine import Engine
from ..engine.failures import broken_stream
from ..engine.sealing import seal, sealing
from ..errors import APIError
from ..lazy import resolve_annotations
from .format_fallback import FormatFallback
from .reply import (
    PartialObject,
    Piece,
    ReasoningPiece,
    RepairStarted,
    Reply,
    TextPiece,
    ToolFinished,
    ToolStarted,
)
from .tool_loop import ToolLoop
from .tools import ToolRun
from .turn_options import TurnOptions

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["TurnStream", "run_turn"]

T = TypeVar("T")


@sealing
async def run_turn(
    engine: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions
) -> Reply[Any]:
    """Run one turn and return its reply. `params` are the request's parameters without messages and tools.

    Raises the errors of the calls, of `ToolLoop.take` and of the tools, with the `Reply` so far as `.partial`; the
    `CancelledError` of a cancelled turn has it too. Running tools are cancelled.
    """
    loop = _tool_loop(engine, messages, params, options)
    try:
        while not loop.done:
            loop.take(await _answer(engine, loop))
            if loop.calls:
                loop.add_results(await _tool_run(engine, loop).all())
    except BaseException as error:
        _attach(error, loop)
        raise
    return loop.reply()


def _tool_loop(engine: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions) -> ToolLoop:
    fallback: FormatFallback | None = None
    if options.into is not None:
        fallback = FormatFallback(engine, options.into, params.get("model"), options.format)
    return ToolLoop(messages, params, options, fallback)


def _tool_run(engine: Engine, loop: ToolLoop) -> ToolRun:
    options, scrub = loop.options, engine.builder.scrub
    return ToolRun(loop.calls, options.tools, scrub, permit=options.permit, on_tool_error=options.on_tool_error)


async def _answer(engine: Engine, loop: ToolLoop) -> ChatCompletion:
    """Return the next answer, requested in a format that the server supports."""
    while True:
        try:
            answer: ChatCompletion = await engine.run(CHAT_COMPLETIONS_CREATE, loop.params())
        except APIError as error:
            _retry_or_raise(loop, error)
        else:
            if loop.fallback is not None:
                loop.fallback.accepted()
            if not answer.meta.complete:  # the server sent a stream that was not requested
                raise broken_stream(answer.meta, "nothing in the answer says that it is complete", answer)
            return answer


def _retry_or_raise(loop: ToolLoop, error: APIError) -> None:
    """Change the next request, or raise the error."""
    if loop.retry_after(error):
        return
    if loop.fallback is None:
        raise error
    loop.fallback.refused(error)


def _attach(error: BaseException, loop: ToolLoop, answer: ChatCompletion | None = None) -> None:
    """Set `error.partial` to the reply so far, with the received part of an `answer`."""
    cast("Any", error).partial = loop.partial(answer)


class TurnStream(AsyncClosing, Generic[T]):
    """A turn piece by piece: iterate it; `final()` returns the whole `Reply`.

    Nothing is sent before the stream is entered, iterated or asked for its final reply. Leave it with ``async with`` or
    `close`, which frees its connection and cancels its tools. One pass, one reader: a second pass raises
    `RuntimeError`. Raises the errors of `run_turn` after the pieces before them, and again on every later read.
    """

    def __init__(
        self, engine: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions
    ) -> None:
        self._options = options
        self._begin(engine, messages, params)
        self._live: ChatStream | None = None
        self._cut: ChatCompletion | None = None  # the received part of an abandoned answer
        self._tools: ToolRun | None = None
        self._splitter: ThinkSplitter | None = None
        self._value: PartialValue | None = None
        self._pieces: deque[Piece] = deque()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._meta: Meta | None = None
        self._error: Exception | None = None
        self._reading = False
        self._closed = False
        self._exhausted = False  # iteration has reached the end
        self._untouched = False  # nothing of the current answer has been received

    def _begin(self, engine: Engine, messages: Iterable[Any], params: Mapping[str, Any]) -> None:
        """Set the contents of the turn's requests. A subclass may call it again before anything is sent."""
        self._calls = engine
        self._loop = _tool_loop(engine, messages, params, self._options)

    # ---------------------------------------------------------------- received so far

    @property
    def text(self) -> str:
        """The text so far of the current answer, or of the last one."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far of the current answer, or of the last one."""
        return "".join(self._reasoning)

    @property
    def partial(self) -> Reply[T | None]:
        """The reply so far."""
        return self._loop.partial(self._under_way)

    @property
    def _under_way(self) -> ChatCompletion | None:
        return self._cut if self._live is None else self._live.partial

    @property
    def meta(self) -> Meta:
        """Metadata of the last call; `RuntimeError` before the first answer starts."""
        if self._meta is None:
            raise RuntimeError("no answer has started yet: enter or iterate the stream first")
        return self._meta

    # ---------------------------------------------------------------- reading

    def __await__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not awaited: enter it with 'async with', or await its final()")

    def __aiter__(self) -> Self:
        refuse_second_pass(self._exhausted, "final() has the reply")
        return self

    async def __anext__(self) -> Piece:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._loop.done:
                self._exhausted = True
                raise StopAsyncIteration
            await self._advance(self._step)
        return self._pieces.popleft()

    @sealing
    async def final(self) -> Reply[T]:
        """Read the rest of the stream and return the whole reply.

        Raises the errors of reading, and `RuntimeError` if the stream was closed before its end.
        """
        if not self._exhausted:
            async for _ in self:
                pass
        return cast("Reply[T]", self._loop.reply())

    async def _advance(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step. Keep its error until the pieces before it have been read."""
        if self._closed:
            raise RuntimeError("this stream was closed before its end; `.partial` holds what was received")
        if self._reading:
            raise RuntimeError("another task is reading this stream: a stream has one reader")
        self._reading = True
        try:
            await step()
        except BaseException as error:
            _attach(error, self._loop, self._under_way)
            seal(error)
            if not isinstance(error, Exception):
                await self.close()
                raise
            self._error = error
            await self._release()
        finally:
            self._reading = False

    async def _step(self) -> None:
        if self._tools is not None:
            result = await self._tools.next()
            if result is not None:
                self._pieces.append(ToolFinished(result))
            else:
                self._loop.add_results(self._tools.results())
                self._tools = None
        elif self._live is None:
            await self._ask()
        else:
            try:
                chunk = await self._live.__anext__()
            except StopAsyncIteration:
                await self._end_answer(self._live)
            except APIError as error:
                if not self._loop.retry_after(error):
                    await self._reconsider(error)
                await self._ask_again(self._live)
            else:
                self._take(chunk)

    async def _ask(self) -> None:
        """Send the next request in a format that the server supports."""
        engine = self._calls
        while self._live is None:
            request = engine.stream_request(CHAT_COMPLETIONS_CREATE, self._loop.params())
            live = ChatStream(engine, request, ChatAccumulator(), must_complete=True)
            try:
                self._live = await live.__aenter__()
            except APIError as error:
                _retry_or_raise(self._loop, error)
                self._announce_repair()
        self._untouched = True
        self._meta = self._live.meta
        self._text, self._reasoning = [], []
        self._value = None if self._options.into is None else self._options.into.growing()
        self._splitter = ThinkSplitter() if self._options.think_tags else None

    def _take(self, chunk: ChatCompletionChunk) -> None:
        if self._untouched:
            self._untouched = False
            if self._loop.fallback is not None:
                self._loop.fallback.accepted()
        text, reasoning = chunk.text, chunk.reasoning
        if text and self._splitter is not None:
            text, thought = self._splitter.feed(text)
            reasoning += thought
        self._append(text, reasoning)

    def _append(self, text: str, reasoning: str) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            self._pieces.append(ReasoningPiece(reasoning))
        if text:
            self._text.append(text)
            self._pieces.append(TextPiece(text))
            if self._value is not None:
                self._value.feed(text)
                if (value := self._value.value) is not None:
                    self._pieces.append(PartialObject(value))

    async def _end_answer(self, live: ChatStream) -> None:
        """Interpret an answer that has been received whole."""
        if self._splitter is not None:
            self._append(*self._splitter.end())
        answer: ChatCompletion = await live.final()
        await live.close()
        self._live = None
        loop = self._loop
        loop.take(answer)
        if loop.calls:
            self._pieces.extend(map(ToolStarted, loop.calls))
            self._tools = _tool_run(self._calls, loop)
        else:
            self._announce_repair()

    async def _reconsider(self, error: APIError) -> None:
        """Send another form of the request if the stream ended with an error before any text, or raise the error."""
        if self._text or self._reasoning:
            raise error
        if not await self._refits(error):
            _retry_or_raise(self._loop, error)

    async def _refits(self, error: APIError) -> bool:
        """Return whether the next request will be shorter, after the server refused this one within the stream."""
        return False

    async def _ask_again(self, live: ChatStream) -> None:
        """Drop a stream that ended with an error after which the turn continues."""
        await live.close()
        self._live = None
        self._announce_repair()

    def _announce_repair(self) -> None:
        if self._loop.problem:
            self._pieces.append(RepairStarted(self._loop.problem))
            self._loop.problem = ""

    # ---------------------------------------------------------------- leaving

    async def _release(self) -> None:
        live, self._live = self._live, None
        tools, self._tools = self._tools, None
        if live is not None:
            self._cut = live.partial
            await live.close()
        if tools is not None:
            await tools.close()

    async def close(self) -> None:
        """Free the connection and the slot at once, cancel the tools and wait until they have ended. Idempotent."""
        if not self._loop.done:
            self._closed = True
        await self._release()

    aclose = close

    async def __aenter__(self) -> Self:
        if self._live is None and self._tools is None and not self._loop.done:
            await self._advance(self._ask)
            if self._error is not None:
                raise self._error
        return self

    def __del__(self) -> None:
        tools = getattr(self, "_tools", None)
        if tools is not None:
            with contextlib.suppress(RuntimeError):  # its event loop may be gone, along with the tasks
                tools.cancel()

    def __repr__(self) -> str:
        state = "ended" if self._loop.done else "closed" if self._closed else "failed" if self._error else "open"
        return f"<{type(self).__name__} {state if self._meta or self._closed else 'not sent'}>"


resolve_annotations(__name__)
