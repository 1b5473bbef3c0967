"""A stream of server-sent events as typed objects: complete or an error, never short and silent.

`AsyncStream` is what the official methods answer for ``stream=True``. It ends only when the answer is complete:
after ``[DONE]``, after a terminal event, or after a finish reason for every choice seen; whatever else ends it raises.
"""

from __future__ import annotations

import json
from asyncio import current_task
from collections import deque
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..core.coding import CodingError, Inflater, UnknownCodingError
from ..core.decode import DecodeError, decoder_for
from ..core.ending import Ending
from ..core.sse import Event, SSEDecoder, SSEError
from ..errors import APIConnectionError, OpenAIError
from ..headers import Headers
from ..meta import Meta, ResponseInfo
from ..model import keep_raw
from ..transport.base import Incoming, TransportError
from . import failure as failures
from .body import MAX_RATIO, content_coding, read_error_body
from .call import Call

__all__ = ["AsyncStream"]

T = TypeVar("T")

_DONE = b"[DONE]"
_LINGER = 0.2  # seconds that the end of the message may take after [DONE], so that the connection can be used again
_MAX_STREAM = 1 << 40  # bytes: events are capped one by one


class OpenResponse(ResponseInfo):
    """What a stream shows of its answer, under the names that users of the official client know."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncStream[Any]) -> None:
        super().__init__(stream.meta.status, stream.meta.headers, stream.meta.request)
        self._stream = stream

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended or was closed: its connection is free."""
        return self._stream._call is None

    async def aclose(self) -> None:
        """Close the stream. Idempotent."""
        await self._stream.close()


class AsyncStream(Generic[T]):
    """An open stream: iterate it for its events; leave it with ``async with`` or `close` to free its connection.

    Holds a place in flight until it ends or is closed. One pass, one reader at a time. `meta` tells of the call,
    `response` shows status and header fields as the official client does.
    """

    def __init__(self, call: Call, incoming: Incoming) -> None:
        self._call: Call | None = call
        self._begin(call, incoming)
        endpoint = call.request.endpoint
        strict = call.calls.config.strict
        self._decoder = decoder_for(endpoint.load(endpoint.event), strict=strict).stream()
        self._ending = Ending(endpoint.event)
        self._strictly: Any = self._decoder.fast if self._ending.by_choice else None
        # Assistants name the kind of an event outside of its data; as an object it is both.
        self._wrapped = endpoint.event.endswith(":AssistantStreamEvent")
        self._scrub = call.calls.composer.scrub
        self._queue: deque[bytes | Event] = deque()
        self._delivered = False
        self._done = False
        self._reading = False
        self._damage = ""  # what is wrong with the bytes behind the events in the queue
        self.partial_source: Any = None  # whoever accumulates puts a function here: what came so far

    def _begin(self, call: Call, incoming: Incoming) -> None:
        self._incoming = incoming
        self._events = SSEDecoder()
        self.meta: Meta = call.meta(incoming)
        self.raw_fields: bytes = incoming.raw_fields
        coding = content_coding(incoming.raw_fields)
        try:
            self._inflater = Inflater(coding, cap=_MAX_STREAM, ratio=MAX_RATIO) if coding else None
        except CodingError as error:
            raise failures.invalid_answer(self.meta, b"", str(error)) from None

    @classmethod
    async def open(cls, call: Call) -> AsyncStream[Any]:
        """The stream for a call that holds its place; raises what the call raises."""
        incoming = await call.head()
        await _require_events(call, incoming)
        return cls(call, incoming)

    # ---------------------------------------------------------------- iteration

    def __aiter__(self) -> AsyncStream[T]:
        if self._call is not None:
            self._call.read_here()
        return self

    async def __anext__(self) -> T:
        queue = self._queue
        if queue and self._strictly is not None and queue[0].__class__ is bytes and self._call is not None:
            # A chunk that is as described, which nearly all are. Anything else, the end too, takes the general way.
            try:
                item = self._strictly(queue[0])
            except (ValueError, RecursionError):
                if queue[0] != _DONE:
                    self._strictly = None
            else:
                item._raw = queue.popleft()  # which nulls came is told by the bytes alone
                self._ending.see(item, "")
                return item  # type: ignore[no-any-return]
        while True:
            if self._queue:
                if _is_done(self._queue[0]):
                    await self._finish()
                    raise StopAsyncIteration
                if self._call is None:
                    raise StopAsyncIteration
                return self._typed()
            if self._done or self._call is None:
                raise StopAsyncIteration
            if not await self._more(self._call):
                self._done = True
                self._release()

    async def _more(self, call: Call) -> bool:
        """Wait until an event is there; `False` at a complete end. Raises the public error of a broken stream."""
        if self._reading:
            raise RuntimeError("another task is reading this stream: a stream has one reader")
        incoming = self._incoming
        if current_task(call.loop) is not call.reader:
            call.read_here()
        if self._delivered:
            call.expect(incoming, call.clocks.stall, "stall")
        else:
            call.expect_event(incoming)
        self._reading = True
        try:
            while not self._queue:
                if self._damage:
                    raise SSEError(self._damage)
                pieces = await incoming.pieces()
                if not pieces:
                    self._check_end(call)
                    return False
                self._feed(pieces)
        except TransportError as failure:
            return await self._broken(call, failure)
        except UnknownCodingError as error:  # nothing of the answer could be read
            self._release()
            raise failures.invalid_answer(self.meta, b"", str(error)) from None
        except (SSEError, CodingError) as error:
            self._release()
            raise self._short(call, f"the stream is damaged: {error}") from None
        except BaseException:
            self._release()
            raise
        finally:
            self._reading = False
        self._delivered = True
        return True

    def _feed(self, pieces: list[bytes]) -> None:
        inflater, decode, queue = self._inflater, self._events.feed, self._queue
        try:
            if inflater is None:  # at once: events that came together cost one step in C each
                queue.extend(decode(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
                return
            for piece in pieces:
                queue.extend(decode(inflater.feed(piece)))
        except UnknownCodingError:
            raise
        except (SSEError, CodingError) as error:
            self._damage = str(error)  # raised when what came before it is delivered

    def _typed(self) -> T:
        """The object of the next event. An error object raises, and so does what cannot be decoded."""
        event = self._queue.popleft()
        name, data = ("", event) if isinstance(event, bytes) else (event.event, event.data)
        if self._wrapped and name.startswith("thread."):
            data = b'{"event":%b,"data":%b}' % (json.dumps(name).encode(), data)
        item: Any = None
        reason = "an error"
        try:
            item = self._decoder.decode(data)
        except DecodeError as error:
            reason = error.reason
        else:
            usual = self._ending.by_choice and not self._decoder.strayed and name != "error"
            if usual or not (name == "error" or failures.holds_error(item)):
                keep_raw(item, data)
                self._ending.see(item, name)
                return item  # type: ignore[no-any-return]
        refusal = failures.refused(self.meta, self._scrub(data), reason, name)
        del event, data, item  # the server may have echoed a key, which no frame of a traceback may hold
        self._abandon()
        raise refusal

    # ---------------------------------------------------------------- ends

    async def _finish(self) -> None:
        """After ``[DONE]``: take the end of the message, so that the connection can be used again, and let go."""
        self._done = True
        self._queue.clear()
        call, incoming = self._call, self._incoming
        if call is not None:
            call.calls.shared.budget.refill()
            try:
                incoming.expire(call.loop.time() + _LINGER, "stall")
                while not incoming.ended and not await incoming.pieces():
                    pass
            except TransportError:
                pass  # the answer is complete; only the connection is lost
            finally:
                self._release()

    def _check_end(self, call: Call) -> None:
        if self._inflater is not None:
            self._inflater.finish()
        if self._ending.complete:
            call.calls.shared.budget.refill()
            return
        self._release()
        raise self._short(call, "the stream ended before its answer was complete")

    async def _broken(self, call: Call, failure: TransportError) -> bool:
        """A stream that broke: tried again while nothing was delivered, else the error that says what had come."""
        if self._ending.complete:
            return False
        self._incoming.abort()
        if self._delivered or failure.kind == "closed":
            error: OpenAIError = call.public(failure)
            self._release()
            if failure.kind in ("timeout", "closed"):
                error.meta = self.meta
                if isinstance(error, APIConnectionError):
                    error.partial = self._partial()
                raise error from None
            raise self._short(call, f"the connection broke in mid-stream ({failure.message})") from None
        try:
            await call.again(failure)
            incoming = await call.head()
            await _require_events(call, incoming)
            self._begin(call, incoming)
        except BaseException:
            self._release()
            raise
        return True

    def _short(self, call: Call, why: str) -> OpenAIError:
        return failures.broken_stream(self.meta, why, self._partial())

    def _partial(self) -> Any:
        return self.partial_source() if self.partial_source is not None else None

    def _release(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            self.meta.total = call.elapsed()
            call.leave()

    def _abandon(self) -> None:
        self._done = True
        self._queue.clear()
        self._release()

    # ---------------------------------------------------------------- leaving

    async def close(self) -> None:
        """Free the connection and the place in flight at once. Idempotent."""
        self._abandon()

    aclose = close

    async def __aenter__(self) -> AsyncStream[T]:
        return self.__aiter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            self._call = None
            call.abandon()

    @property
    def response(self) -> OpenResponse:
        """Status and header fields of the answer; closing it closes the stream."""
        return OpenResponse(self)

    def __repr__(self) -> str:
        state = "open" if self._call is not None else "closed"
        return f"<{type(self).__name__} {self.meta.request.method} {self.meta.url} {state}>"


def _is_done(event: bytes | Event) -> bool:
    return (event if isinstance(event, bytes) else event.data) == _DONE  # assistants give it a name


async def _require_events(call: Call, incoming: Incoming) -> None:
    """Refuse what is no event stream, with what it is instead."""
    kind = Headers(incoming.raw_fields).get("content-type", "")
    if kind.partition(";")[0].strip().lower() == "text/event-stream":
        return
    call.expect_error(incoming)
    raw = call.calls.composer.scrub(await read_error_body(incoming))
    incoming.abort()
    raise failures.undecodable(call.meta(incoming), raw, "asked for a stream of events, the server sent something else")
