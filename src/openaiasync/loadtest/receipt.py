"""One request of a load test, with the times at which its bytes were received.

A stream is received as a whole, with a time for each read (`TimedExchange`), before it is decoded, so that decoding
delays the times of other requests as little as possible. A stream of plain chunks that ends properly takes a fast path,
which looks only for tokens and usage and costs a quarter of the general path. Any other stream is read by the
`AsyncStream` that callers iterate, so that the same streams fail here with the same errors. Other transports are read
piece by piece, with the time at which the reader was woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from types import CoroutineType
from typing import Any

import msgspec

from ..bulk.batch_file import as_object
from ..core.codec.endpoint import Request
from ..core.http.sse import EventReader, is_done
from ..core.model.headers import Headers
from ..core.policy.estimate import usage_of
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.streams import AsyncStream
from ..errors import APIError, APIStatusError, APITimeoutError, OpenAIError
from ..transport.base import TransportError, TransportResponse
from ..transport.timed import TimedExchange
from .results import Measured

__all__ = ["Received", "kind_of", "open_answer"]

_CAP = 1 << 30  # bytes of one answer
_SLICE = 32  # events that are decoded without a turn of the event loop in between


class _DeltaTokens(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Any = None


class _ChoiceTokens(msgspec.Struct, gc=False):
    delta: _DeltaTokens | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: Any = None


class _UsageCounts(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _ChunkTokens(msgspec.Struct, gc=False):
    """What a load test needs of a chunk of a chat or a completion."""

    choices: list[_ChoiceTokens]
    usage: _UsageCounts | None = None
    error: Any = None


_decode_chunks = msgspec.json.Decoder(list[_ChunkTokens]).decode


class TimedResponse:
    """A `TransportResponse` whose `at` is when the pieces returned last were received."""

    reader: object = None

    def __init__(self, response: TransportResponse, clock: Callable[[], float]) -> None:
        self._response = response
        self._clock = clock
        self._arrivals: Iterator[tuple[float, bytes]] | None = None
        self._failure: TransportError | None = None
        self.at: float = 0.0
        self.end: float = 0.0
        """When the whole body had been received, or the answer had failed."""
        self.status: int = response.status
        self.raw_fields: bytes = response.raw_fields
        self.connected: float = response.connected
        self.ended: bool = False

    async def receive(self, call: Call) -> None:
        """Receive the whole body at once, where the transport notes the times."""
        response = self._response
        if isinstance(response, TimedExchange):
            call.expect_event(response)
            self._failure = await response.receive_all(_CAP, call.timeouts.stall)
            self._arrivals = zip(*response.arrivals(), strict=True)
            self.at = response.received_at
            self.end = self.at if self._failure is None else self._clock()

    @property
    def is_plain(self) -> bool:
        """Whether the body is labelled as uncompressed events, and arrived whole."""
        if self._arrivals is None or self._failure is not None or not self.exact:
            return False
        fields = Headers(self.raw_fields)
        return fields.get("content-type", "").startswith("text/event-stream") and not fields.get("content-encoding")

    def arrivals(self) -> tuple[list[float], list[bytes]]:
        """Return the times of all pieces of the body, and the pieces."""
        assert isinstance(self._response, TimedExchange)
        return self._response.arrivals()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to wait for."""
        return self._arrivals is not None

    @property
    def exact(self) -> bool:
        return self._response.exact

    def expire(self, at: float | None, clock: str) -> None:
        if self._arrivals is None:
            self._response.expire(at, clock)

    async def pieces(self) -> list[bytes]:
        if self._arrivals is None:
            pieces = await self._response.pieces()
            self.at, self.ended = self._clock(), self._response.ended
            return pieces
        arrival = next(self._arrivals, None)
        if arrival is not None:
            self.at, piece = arrival
            return [piece]
        if self._failure is not None:
            raise self._failure
        self.ended = True
        return []

    async def read(self, cap: int) -> bytes:
        body: list[bytes] = []
        while pieces := await self.pieces():
            body += pieces
        return b"".join(body)

    def take(self) -> bytes | None:
        return None

    def abort(self) -> None:
        self._response.abort()


class Received:
    """An answer that has arrived, or a stream that is still arriving (`complete` is false)."""

    def __init__(
        self,
        call: Call,
        end: float,
        *,
        response: TimedResponse | None = None,
        stream: AsyncStream[Any] | None = None,
        answer: Any = None,
    ) -> None:
        self.end: float = end
        self._call = call
        self._response = response
        self._stream = stream
        self._answer = answer

    @property
    def complete(self) -> bool:
        """Whether reading it waits for nothing."""
        return self._response is None or self._response.complete

    async def read(self, one: Measured) -> list[float]:
        """Decode the answer, note its times and tokens in `one`, and return the seconds between its chunks.

        Raises `OpenAIError` for a stream that broke, after noting what was received of it.
        """
        one.end = self.end
        if self._response is None:
            _note_usage(one, self._answer)
            return []
        if self._stream is None:
            gaps = await _read_plain(self._response, one)
            if gaps is not None:
                return gaps
        stream: AsyncStream[Any] = self._stream or AsyncStream(self._call, self._response)
        return await _read_stream(stream, self._response, one)


def open_answer(engine: Engine, request: Request, clock: Callable[[], float]) -> Coroutine[Any, Any, Received]:
    """Send a request; return its answer when all of it was received, where the transport allows that.

    Raises `OpenAIError`. Failures of a stream are raised by `Received.read`.
    """
    chunks = request.endpoint.event.endswith((":ChatCompletionChunk", ":Completion"))

    async def receive(call: Call, response: TransportResponse) -> Received:
        if request.stream:
            timed = TimedResponse(response, clock)
            await timed.receive(call)
            stream = None if chunks and timed.is_plain else await AsyncStream.start(call, timed)
            return Received(call, timed.end, response=timed, stream=stream)
        answer = engine.receive(call, response)
        if answer.__class__ is CoroutineType:
            answer = await answer
        end = response.received_at if isinstance(response, TimedExchange) else clock()
        return Received(call, end, answer=answer)

    return Call(engine, request).run(receive)


async def _read_plain(response: TimedResponse, one: Measured) -> list[float] | None:
    """Read a stream of plain chunks that ends properly, as `_read_stream` does; return `None` for any other stream."""
    gaps: list[float] = []
    first = last = 0.0
    chunks = 0
    usage: _UsageCounts | None = None
    finished = False
    try:
        for times, events in _plain_events(*response.arrivals()):
            if is_done(events[-1]):
                events.pop()
            # Decoding them in one call costs less than half as much as a call for each.
            decoded = _decode_chunks(b"[%b]" % b",".join(events))
            if len(decoded) != len(events):
                return None
            for at, chunk in zip(times, decoded, strict=False):
                has_tokens = False
                for choice in chunk.choices:
                    if choice.finish_reason:
                        finished = True
                        if choice.finish_reason == "error":
                            return None
                    if choice.error is not None:
                        return None
                    delta = choice.delta
                    if delta is None:
                        has_tokens = has_tokens or bool(choice.text)
                    elif delta.content or _has_delta(delta):
                        has_tokens = True
                if chunk.error is not None:
                    return None
                if has_tokens:
                    if chunks:
                        gaps.append(at - last)
                    else:
                        first = at
                    chunks += 1
                    last = at
                if chunk.usage is not None:
                    usage = chunk.usage
            await asyncio.sleep(0)
    except ValueError:
        return None
    if not finished:
        return None
    one.chunks = chunks
    if chunks:
        one.first, one.last = first, last
    if usage is not None:
        one.input, one.output = usage.prompt_tokens, usage.completion_tokens
    return gaps


def _plain_events(times: list[float], pieces: list[bytes]) -> Iterator[tuple[list[float], list[bytes]]]:
    """Yield the data of events, some dozens at a time, with the times of the pieces that completed them.

    Raises `ValueError` for an event with a name, and for one over the limit.
    """
    reader = EventReader()
    stamps: list[float] = []
    events: list[bytes] = []
    for at, piece in zip(times, pieces, strict=True):
        for event in reader.feed(piece):
            if not isinstance(event, bytes):
                raise ValueError("an event with a name")
            stamps.append(at)
            events.append(event)
        if len(events) >= _SLICE:
            yield stamps, events
            stamps, events = [], []
    if events:
        yield stamps, events


async def _read_stream(stream: AsyncStream[Any], response: TimedResponse, one: Measured) -> list[float]:
    """Read any stream; see `Received.read`."""
    gaps: list[float] = []
    last, events = 0.0, 0
    try:
        async with stream:
            async for item in stream:
                events += 1
                if has_token(item):
                    at = response.at
                    if one.chunks:
                        gaps.append(at - last)
                    else:
                        one.first = at
                    one.chunks += 1
                    last = at
                if getattr(item, "usage", None) is not None or getattr(item, "response", None) is not None:
                    _note_usage(one, getattr(item, "response", None) or item)
                if not events % _SLICE:
                    await asyncio.sleep(0)
    finally:
        if not response.complete:
            one.end = response.at
        if one.chunks:
            one.last = last
    return gaps


def _note_usage(one: Measured, answer: Any) -> None:
    usage = usage_of(answer)
    if usage is not None:
        one.input, one.output = usage.input, usage.output


def has_token(item: Any) -> bool:
    """Return whether an event carries text, reasoning or arguments of a tool, and not just a role or an end."""
    choices = getattr(item, "choices", None)
    if choices is None:  # an event of the Responses API
        return bool(getattr(item, "delta", None)) and str(getattr(item, "type", "")).endswith(".delta")
    for choice in choices:
        delta = getattr(choice, "delta", None)
        if delta is None:
            if getattr(choice, "text", None):
                return True
        elif _has_delta(delta):
            return True
    return False


def _has_delta(delta: Any) -> bool:
    return bool(
        delta.content
        or delta.tool_calls
        or getattr(delta, "reasoning_content", None)
        or getattr(delta, "reasoning", None)
        or delta.refusal
    )


def kind_of(error: OpenAIError) -> tuple[str, str]:
    """Return the kind of an error, by which failed requests are counted, and the message of the server or network."""
    words = error.message if isinstance(error, APIError) else str(error)
    meta = error.meta
    if meta is not None:
        words = words.removeprefix(f"{meta.request.method} {meta.url}: ")
    words = words.removesuffix("; `.partial` holds the answer so far")
    said = as_object(error.body if isinstance(error, APIError) else None).get("message")
    if isinstance(said, str):
        words = said  # without the URL, the attempts and the time, which differ from error to error
    name = type(error).__name__
    if isinstance(error, APIStatusError):
        code = f", {error.code}" if error.code else ""
        return f"{error.status_code} {name}{code}", words
    if isinstance(error, APITimeoutError):
        return f"{name}, {error.clock}" if error.clock else name, words
    return name, words
