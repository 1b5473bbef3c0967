"""One turn: the model is asked, its tools are run, its answer is checked, as often as that takes; whole or streamed."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from ..core.codec.accumulate import ChatAccumulator
from ..core.codec.endpoint import Endpoint
from ..core.codec.reasoning import ThinkSplitter
from ..core.schema.structured import PartialValue
from ..engine.accumulating import ChatStream
from ..engine.engine import Engine
from ..engine.failures import broken_stream
from ..engine.sealing import seal, sealing
from ..errors import APIError
from .format_fallback import FormatFallback
from .reply import PartialObject, Piece, ReasoningPiece, RepairStarted, Reply, TextPiece, ToolFinished, ToolStarted
from .tool_loop import ToolLoop
from .tools import ToolRun
from .turn_options import TurnOptions

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["TurnOptions", "TurnStream", "run_turn"]

T = TypeVar("T")


@functools.cache
def _endpoint() -> Endpoint:
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    return CHAT_COMPLETIONS_CREATE


@sealing
async def run_turn(
    calls: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions
) -> Reply[Any]:
    """Make one turn whole. `params` are those of the request but messages and tools.

    Raises what the calls raise and what `ToolLoop.take` and the tools do, each with a `Reply` of what had come in
    `.partial`; a cancelled turn's `CancelledError` has it too. Tools that still run then are cancelled.
    """
    rounds = _rounds(calls, messages, params, options)
    try:
        while not rounds.done:
            rounds.take(await _answer(calls, rounds))
            if rounds.calls:
                rounds.told(await _tool_run(calls, rounds).all())
    except BaseException as error:
        _attach(error, rounds)
        raise
    return rounds.reply()


def _rounds(calls: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions) -> ToolLoop:
    ladder: FormatFallback | None = None
    if options.into is not None:
        ladder = FormatFallback(calls, options.into, params.get("model"), options.format)
    return ToolLoop(messages, params, options, ladder)


def _tool_run(calls: Engine, rounds: ToolLoop) -> ToolRun:
    options = rounds.options
    scrub = calls.builder.scrub
    return ToolRun(rounds.calls, options.tools, scrub, permit=options.permit, on_tool_error=options.on_tool_error)


async def _answer(calls: Engine, rounds: ToolLoop) -> ChatCompletion:
    """The next answer, asked for in a way that the server takes."""
    while True:
        try:
            answer: ChatCompletion = await calls.run(_endpoint(), rounds.params())
        except APIError as error:
            _lower(rounds, error)
        else:
            _held(rounds)
            if not answer.meta.complete:  # it came as a stream that nobody asked for
                raise broken_stream(answer.meta, "nothing in the answer says that it is complete", answer)
            return answer


def _lower(rounds: ToolLoop, error: APIError) -> None:
    """Ask in another way next time, or once more, or raise."""
    if rounds.slipped(error):
        return
    if rounds.ladder is None:
        raise error
    rounds.ladder.lower(error)


def _held(rounds: ToolLoop) -> None:
    if rounds.ladder is not None:
        rounds.ladder.held()


def _attach(error: BaseException, rounds: ToolLoop, answer: ChatCompletion | None = None) -> None:
    """Let an error hold the turn so far, with the beginning of the `answer` under way."""
    cast("Any", error).partial = rounds.partial(answer)


class TurnStream(Generic[T]):
    """A turn as it goes: iterate its pieces; `final()` is the whole `Reply`.

    Nothing is sent before it is entered, iterated or asked for its end. Leave it with ``async with`` or `close`, which
    frees its connection and cancels its tools. One pass, one reader. Errors are those of `run_turn`, raised after what
    came was delivered, and again whenever it is read on.
    """

    def __init__(self, calls: Engine, messages: Iterable[Any], params: Mapping[str, Any], options: TurnOptions) -> None:
        self._options = options
        self._begin(calls, messages, params)
        self._live: ChatStream | None = None
        self._cut: ChatCompletion | None = None  # what had come of the answer that was left
        self._tools: ToolRun | None = None
        self._splitter: ThinkSplitter | None = None
        self._growing: PartialValue | None = None
        self._pieces: deque[Piece] = deque()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._meta: Meta | None = None
        self._error: Exception | None = None
        self._reading = False
        self._closed = False
        self._unheld = False  # nothing of the answer under way has come

    def _begin(self, calls: Engine, messages: Iterable[Any], params: Mapping[str, Any]) -> None:
        """Say what the turn is made of; a subclass may do so again before anything is sent."""
        self._calls = calls
        self._rounds = _rounds(calls, messages, params, self._options)

    # ---------------------------------------------------------------- what came so far

    @property
    def text(self) -> str:
        """The text so far of the answer under way, or of the last one."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning so far of the answer under way, or of the last one."""
        return "".join(self._reasoning)

    @property
    def partial(self) -> Reply[T]:
        """The turn so far."""
        return self._rounds.partial(self._under_way)

    @property
    def _under_way(self) -> ChatCompletion | None:
        return self._cut if self._live is None else self._live.partial

    @property
    def meta(self) -> Meta:
        """What is known of the last call; `RuntimeError` before the first was answered."""
        if self._meta is None:
            raise RuntimeError("nothing was answered yet: enter or iterate the stream first")
        return self._meta

    # ---------------------------------------------------------------- reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._rounds.done:
                raise StopAsyncIteration
            await self._advance(self._step)
        return self._pieces.popleft()

    @sealing
    async def final(self) -> Reply[T]:
        """The whole reply; reads what is left. Raises what reading raises, `RuntimeError` if it was closed before."""
        async for _ in self:
            pass
        return cast("Reply[T]", self._rounds.reply())

    async def _advance(self, step: Any) -> None:
        """Take a step; an error of it waits until what came before it is read."""
        if self._closed:
            raise RuntimeError("this stream was closed before its end; `.partial` holds what had come")
        if self._reading:
            raise RuntimeError("another task is reading this stream: a stream has one reader")
        self._reading = True
        try:
            await step()
        except Exception as error:
            _attach(error, self._rounds, self._under_way)
            seal(error)
            self._error = error
            await self._release()
        except BaseException as error:
            _attach(error, self._rounds, self._under_way)
            seal(error)
            await self.close()
            raise
        finally:
            self._reading = False

    async def _step(self) -> None:
        if self._tools is not None:
            result = await self._tools.next()
            if result is not None:
                self._pieces.append(ToolFinished(result))
            else:
                self._rounds.told(self._tools.results())
                self._tools = None
        elif self._live is None:
            await self._ask()
        else:
            try:
                chunk = await self._live.__anext__()
            except StopAsyncIteration:
                await self._end_round(self._live)
            except APIError as error:
                if not self._rounds.slipped(error):
                    await self._reconsider(error)
                await self._ask_again(self._live)
            else:
                self._take(chunk)

    async def _ask(self) -> None:
        """Send the next request, in a way that the server takes."""
        calls = self._calls
        while self._live is None:
            request = calls.stream_request(_endpoint(), self._rounds.params())
            live = ChatStream(calls, request, ChatAccumulator(), must_complete=True)
            try:
                self._live = await live.__aenter__()
            except APIError as error:
                _lower(self._rounds, error)
                self._repairing()
        self._unheld = True
        self._meta = self._live.meta
        self._text, self._reasoning = [], []
        self._growing = None if self._options.into is None else self._options.into.growing()
        self._splitter = ThinkSplitter() if self._options.think_tags else None

    def _take(self, chunk: ChatCompletionChunk) -> None:
        if self._unheld:
            self._unheld = False
            _held(self._rounds)
        text, reasoning = chunk.text, chunk.reasoning
        if text and self._splitter is not None:
            text, thought = self._splitter.feed(text)
            reasoning += thought
        self._say(text, reasoning)

    def _say(self, text: str, reasoning: str) -> None:
        if reasoning:
            self._reasoning.append(reasoning)
            self._pieces.append(ReasoningPiece(reasoning))
        if text:
            self._text.append(text)
            self._pieces.append(TextPiece(text))
            if self._growing is not None:
                self._growing.feed(text)
                if (value := self._growing.value) is not None:
                    self._pieces.append(PartialObject(value))

    async def _end_round(self, live: ChatStream) -> None:
        """An answer is whole: see what it means."""
        if self._splitter is not None:
            self._say(*self._splitter.end())
        answer: ChatCompletion = await live.final()
        await live.close()
        self._live = None
        rounds = self._rounds
        rounds.take(answer)
        if rounds.calls:
            self._pieces.extend(map(ToolStarted, rounds.calls))
            self._tools = _tool_run(self._calls, rounds)
        else:
            self._repairing()

    async def _reconsider(self, error: APIError) -> None:
        """A stream ended with an error: ask in another way if nothing of it had come, or raise."""
        if self._text or self._reasoning:
            raise error
        if not await self._refits(error):
            _lower(self._rounds, error)

    async def _refits(self, error: APIError) -> bool:
        """Whether the next request will be shorter, after the server refused this one in the stream itself."""
        return False

    async def _ask_again(self, live: ChatStream) -> None:
        """The server ended a stream with an error that need not be the end of the turn."""
        await live.close()
        self._live = None
        self._repairing()

    def _repairing(self) -> None:
        if self._rounds.problem:
            self._pieces.append(RepairStarted(self._rounds.problem))
            self._rounds.problem = ""

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
        """Free the connection and the place in flight at once, cancel the tools and wait for their end. Idempotent."""
        if not self._rounds.done:
            self._closed = True
        await self._release()

    aclose = close

    async def __aenter__(self) -> Self:
        if self._live is None and self._tools is None and not self._rounds.done:
            await self._advance(self._ask)
            if self._error is not None:
                raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        tools = getattr(self, "_tools", None)
        if tools is not None:
            with contextlib.suppress(RuntimeError):  # its event loop may be gone, and the tasks with it
                tools.cancel()

    def __repr__(self) -> str:
        state = "ended" if self._rounds.done else "closed" if self._closed else "failed" if self._error else "open"
        return f"<{type(self).__name__} {state if self._meta or self._closed else 'not sent'}>"
