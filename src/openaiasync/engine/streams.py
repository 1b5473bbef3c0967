"""Streams of server-sent events as typed objects; a truncated stream raises.

`AsyncStream` is what the official methods return for ``stream=True``. It ends where `core.codec.completion` says that
the answer is complete; any other end raises. A whole object sent instead of a stream is converted to events, see
`core.codec.whole`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from asyncio import current_task, sleep
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from ..core.codec.completion import CompletionDetector
from ..core.codec.decode import DecodeError, decoder_for, keep
from ..core.codec.endpoint import Endpoint, Request
from ..core.http.codings import CodingError, UnknownCodingError
from ..core.http.sse import (
    Event,
    EventReader,
    SSEError,
    is_done,
    is_silent,
)
from ..core.model.base import keep_raw
from ..core.model.closing import AsyncClosing, refuse_second_pass
from ..core.model.headers import Headers
from ..core.model.meta import Meta, ResponseInfo
from ..core.model.plain import json_of, parse_json
from ..errors import APIConnectionError, OpenAIError
from ..lazy import json
from ..transport.base import TransportError, TransportResponse
from . import failures, log
from .body import inflater_of
from .call import Call
from .config import sooner
from .observers import NOBODY
from .sealing import seal

__all__ = ["LINGER", "PATIENCE", "AsyncStream", "ending_of", "endpoint_at"]

T = TypeVar("T")

LINGER = 0.2  # seconds that the end of the message may take after [DONE], so that the connection can be used again
PATIENCE = 1.0  # seconds that it may take if it decides whether the answer is complete
TURN = 250  # events of one read that are delivered before other tasks run: some 3 ms of CPU
_NO_EVENTS = "expected an event stream, but the server sent something else"


class OpenResponse(ResponseInfo):
    """A view of a stream's response with the attribute names of the official client."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncStream[Any]) -> None:
        super().__init__(stream.meta.status, stream.meta.headers, stream.meta.request)
        self._stream = stream

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended or was closed: its connection is free."""
        return self._stream.is_closed

    async def aclose(self) -> None:
        """Close the stream. Idempotent."""
        await self._stream.close()


class AsyncStream(AsyncClosing, Generic[T]):
    """An open stream: iterate it for its events; leave it with ``async with`` or `close` to free its connection.

    Holds a slot in flight until it ends or is closed. One pass, one reader at a time. `meta` holds the call's metadata;
    `response` shows status and header fields as the official client does.

    At the end `meta.complete` tells whether the answer signalled its completion. If the server ended the stream
    properly but without that signal, iteration ends and a warning is logged; with `must_complete` it raises.
    """

    def __init__(self, call: Call, response: TransportResponse) -> None:
        """Take over a call whose 2xx this is."""
        self._call: Call | None = call
        self._observers = call.observers
        self._begin(call, response)
        endpoint = call.request.endpoint
        strict = call.engine.config.strict
        kind: Any = endpoint.load(endpoint.event)
        self._decoder = decoder_for(Any if kind is object else kind, strict=strict).stream()
        self._ending = ending_of(call.request)
        self._see = self._ending.feed
        self._whole_type = None if self._ending.native else endpoint.event
        self._chunks = endpoint.event.endswith((":ChatCompletionChunk", ":Completion"))  # what choices are in
        # The fast path: a strict decoder, while chunks conform and no observer needs them.
        self._strictly: Any = self._decoder.fast if self._chunks and call.observers is NOBODY else None
        # Assistants name the kind of an event outside of its data; the object holds both.
        self._wrapped = endpoint.event.endswith(":AssistantStreamEvent")
        self._queue: deque[bytes | Event] = deque()
        self._ahead: Iterator[bytes | Event] = iter(())  # events of the same read that are not in the queue yet
        self._delivered = False
        self._done = False
        self._whole = False  # the answer was sent as one object: it is complete
        self._reading = False
        self._ended = False  # its end or an error was delivered, or it was closed
        self._messages = False  # choices have a message instead of a delta
        self._aside = b""  # a plain-text event, which may say why the answer ends early
        self._damage = ""  # the error in the bytes that follow the queued events
        self.must_complete: bool = strict
        """Whether an answer without a completion signal raises."""
        self.partial_source: Any = None  # set by an accumulating stream: returns the answer so far

    def _begin(self, call: Call, response: TransportResponse) -> None:
        """Switch to this response; also a `Receive`, for a stream that broke before its first event."""
        call.keep()
        self._response = response
        self._events = EventReader()
        self.meta: Meta = call.meta(response)
        self.meta.complete = False
        self.raw_fields: bytes = response.raw_fields
        self._inflater = inflater_of(response)

    @classmethod
    async def start(cls, call: Call, response: TransportResponse) -> AsyncStream[Any]:
        """Return the stream of a 2xx; see `Receive`.

        If the server does not label it as an event stream, this waits for the first event, or raises an error with the
        body.
        """
        stream = cls(call, response)
        try:
            while not (stream._is_labelled or stream._queue):
                if not await stream._more(call):
                    stream._done = True
                    stream._release()
                    break
        except BaseException:
            stream._call = None  # the driver owns the response again
            raise
        return stream

    @property
    def _is_labelled(self) -> bool:
        kind = Headers(self.raw_fields).get("content-type", "")
        return kind.partition(";")[0].strip().lower() == "text/event-stream"

    # ---------------------------------------------------------------- iteration

    def __aiter__(self) -> AsyncStream[T]:
        refuse_second_pass(self._ended, "keep its items in a list, or make the call again")
        self.hand_over()
        return self

    def hand_over(self) -> None:
        """Let the running task read the stream from now on."""
        if self._call is not None:
            self._call.transfer()

    async def __anext__(self) -> T:
        queue, strictly = self._queue, self._strictly
        if strictly is not None and queue:
            # Nearly all chunks conform. Anything else, including the end, takes the general path.
            event = queue.popleft()
            try:
                item = strictly(event)
            except (ValueError, RecursionError, TypeError):
                queue.appendleft(event)
                if isinstance(event, bytes) and not (is_done(event) or is_silent(event)):
                    self._strictly = None
            else:
                item._raw = event  # only the bytes tell which nulls were sent
                self._see(item, "")
                chunk: T = item
                return chunk
        try:
            while True:
                call = self._call
                if call is None:
                    raise StopAsyncIteration
                if queue:
                    if is_done(queue[0]):
                        await self._finish(call)
                        raise StopAsyncIteration
                    if not self._is_silent(queue[0]):
                        item = self._typed()
                        break
                    queue.popleft()
                elif self._done:
                    raise StopAsyncIteration
                elif not await self._more_or_again(call):
                    self._done = True
                    self._release()
        except StopAsyncIteration:
            self._ended = True
            if self._observers is not NOBODY:
                await self._observers.answered(self._made)
            raise
        except BaseException as error:
            if self._call is None:  # otherwise another task reads it and notices its end
                self._ended = True
                await self._observers.failed(error)
            if isinstance(error, OpenAIError):
                seal(error)
            raise
        if self._observers is not NOBODY:
            self._observers.item(item)
        return item

    async def _more_or_again(self, call: Call) -> bool:
        """Call `_more`; restart a stream that broke before anything was delivered, if the driver decides so."""
        try:
            return await self._more(call)
        except TransportError as caught:
            failure = caught
        try:
            await call.run(self._begin, failure=failure)
        except BaseException:
            self._release()
            raise
        return True

    def _made(self) -> Any:
        """Return the accumulated answer for observers; `None` if it is not kept."""
        return None if self.partial_source is None else keep(self.partial_source(), None, self.meta)

    def _is_silent(self, event: bytes | Event) -> bool:
        """Whether to skip an empty event. On paths that are not OpenAI's an empty value is a value."""
        if not is_silent(event) or (self._ending.native and event in (b"{}", b"[]", b'""')):
            return False
        if isinstance(event, Event):
            self._ending.feed_name(event.event)
        return True

    async def _more(self, call: Call) -> bool:
        """Wait for events; return `False` at a complete end.

        Raises the public error of a broken stream, or its `TransportError` if nothing was delivered yet.
        """
        if self._reading:
            raise RuntimeError("another task is reading this stream: a stream has one reader")
        response, queue = self._response, self._queue
        if current_task(call.loop) is not call.reader:
            call.transfer()
        if self._delivered:
            call.expect(response, call.timeouts.stall, "stall")
        else:
            call.expect_event(response)
        self._reading = True
        try:
            while not queue:
                if self._queue_turn():
                    await sleep(0)  # a long burst would keep other tasks from running
                elif self._damage:
                    raise SSEError(self._damage)
                elif pieces := await response.pieces():
                    self._feed(pieces)
                    self._queue_turn()
                else:
                    self._end(call)
                    break
                while queue and self._is_silent(queue[0]):  # keep-alive comments are not progress
                    queue.popleft()
        except TransportError as failure:
            if self._ending.complete:
                self.meta.complete = True
                return False
            if not self._delivered and failure.kind != "closed":
                raise
            raise self._broken(call, failure) from failure.__cause__
        except UnknownCodingError as error:  # no part of the answer could be read
            self._release()
            raise failures.invalid_answer(self.meta, b"", str(error)) from None
        except (SSEError, CodingError) as error:
            self._release()
            raise self._short(f"the stream is damaged: {error}") from None
        except BaseException:
            self._release()
            raise
        finally:
            self._reading = False
        self._delivered = self._delivered or bool(queue)
        return bool(queue)

    def _feed(self, pieces: list[bytes]) -> None:
        inflater, decode = self._inflater, self._events.feed
        events: list[bytes | Event] = []
        try:
            if inflater is None:  # in one batch: events that arrive together cost one step in C each
                events = decode(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            else:
                for piece in pieces:
                    events += decode(inflater.feed(piece))
        except UnknownCodingError:
            raise
        except (SSEError, CodingError) as error:
            self._damage = str(error)  # raised after the events before it are delivered
        self._ahead = iter(events)

    def _queue_turn(self) -> bool:
        """Queue at most `TURN` of the events that were read; return whether there were any."""
        self._queue.extend(islice(self._ahead, TURN))
        return bool(self._queue)

    def _typed(self) -> T:
        """Return the object of the next event. Raises for an error object, and for an event that cannot be decoded."""
        event = self._queue.popleft()
        name, data = ("", event) if isinstance(event, bytes) else (event.event, event.data)
        if self._wrapped and name.startswith("thread."):
            data = b'{"event":%b,"data":%b}' % (json.dumps(name).encode(), data)
        item: Any = None
        reason = failures.ERROR
        try:
            item = self._decoder.decode(data)
            if self._chunks and not self._decoder.conforming and _lacks_delta(item):
                item = self._with_deltas(item, data)
        except DecodeError as error:
            reason = error.reason
        except BaseException:  # raised by a caller's own type
            self._abandon()
            raise
        else:
            if not self._is_error(item, name, data):
                keep_raw(item, data)
                self._ending.feed(item, name)
                typed: T = item
                return typed
        refusal = failures.refused(self.meta, data, reason, name)
        refusal.partial = self._partial()
        self._abandon()
        raise refusal

    def _with_deltas(self, item: Any, data: bytes) -> Any:
        """Return the chunk with non-standard names in its choices replaced by the standard ones."""
        from ..core.codec.whole import as_chunk, as_completion

        fields: dict[str, Any] = parse_json(data)
        if type(item).__name__ == "Completion":
            return self._decoder.decode(json_of(as_completion(fields)))
        ending = self._ending
        whole = item.object == "chat.completion" and ending.began and not self._messages
        repeats = ending.finished or whole
        self._messages = self._messages or not repeats
        return self._decoder.decode(json_of(as_chunk(fields, repeats=repeats)))

    def _is_error(self, item: Any, name: str, data: bytes) -> bool:
        """Whether an event is an error. Two substring searches rule this out for a chunk with choices."""
        if name == "error":
            return True
        if not self._chunks:
            return failures.is_error_event(item, data)
        if self._decoder.conforming:
            return False
        choices: Any = item.choices
        if choices.__class__ is not list:
            choices = item.choices = list[Any]()
        if choices and data.find(b'error"') < 0:
            return False
        if failures.is_error_event(item, data):
            return True
        if not (choices or item.usage or self._aside) and failures.has_words(data):
            self._aside = data
        return False

    # ---------------------------------------------------------------- ends

    async def _finish(self, call: Call) -> None:
        """After ``[DONE]``: read the end of the message, which may decide whether the answer is complete."""
        event = self._queue[0]
        self._clear()
        self._done = True
        if isinstance(event, Event):
            self._ending.feed_name(event.event)
        verdict = self._ending.end(done=True, exact=False)
        patience = LINGER if verdict == "complete" else sooner(call.timeouts.stall, PATIENCE)
        exact = False
        try:
            self._response.expire(call.loop.time() + (patience or PATIENCE), "stall")
            while not self._response.ended:
                await self._response.pieces()
            exact = self._ending.native or self._response.exact
        except TransportError:
            pass  # the answer is complete; only the connection is lost
        except BaseException:
            self._release()
            raise
        self._conclude(call, done=True, exact=exact)
        self._release()

    def _end(self, call: Call) -> None:
        """At the end of the message: queue the remaining events, or those of a whole object; or raise."""
        exact = self._response.exact
        if self._inflater is not None and (rest := self._inflater.finish()):
            self._queue.extend(self._events.feed(rest))
        if exact:
            self._queue.extend(self._events.finish())
        if self._events.is_whole and not self._whole:
            self._take_whole()
        if not self._queue:
            self._conclude(call, done=False, exact=exact)

    def _conclude(self, call: Call, *, done: bool, exact: bool) -> None:
        """Let the stream end here, or raise."""
        verdict = "complete" if self._whole else self._ending.end(done=done, exact=exact)
        if verdict == "complete":
            self.meta.complete = True
        elif verdict == "short" or self.must_complete or self._aside:
            self._release()
            raise self._cut(done)
        else:
            log.unfinished(call.engine, call.request)

    def _cut(self, done: bool) -> OpenAIError:
        """Return the error for an answer that ended too early, including the server's message."""
        words = self._events.words or self._aside
        if words and (not self._ending.began or failures.is_error_body(failures.parsed(words))):
            error = self._something_else(words)
            error.partial = self._partial()
            return error
        if not (self._delivered or self._is_labelled):
            return failures.invalid_answer(self.meta, b"", "expected an event stream, but the server sent nothing")
        why = "the stream ended before its answer was complete"
        if done and self._ending.began:
            why = "the stream ended with [DONE], but nothing in it says that its answer is complete"
        elif done:
            why = "the stream ended with [DONE], but without an answer"
        return self._short(f"{why}; the server said: {failures.words_of(self.meta, words)}" if words else why)

    def _something_else(self, raw: bytes) -> OpenAIError:
        """Return the error for a body that is not an event stream."""
        if failures.is_error_body(failures.parsed(raw)):
            return failures.refused(self.meta, raw, failures.ERROR)
        return failures.invalid_answer(self.meta, raw, f"{_NO_EVENTS}: {failures.words_of(self.meta, raw)}")

    def _take_whole(self) -> None:
        """Convert a body that is one object, or a list of chunks, to its events; or raise."""
        from ..core.codec.whole import events_of_whole

        body = self._events.body
        made: list[bytes] = []
        with contextlib.suppress(ValueError, RecursionError):
            value: Any = msgspec.json.decode(body)
            if not failures.is_error_body(value):
                made = events_of_whole(self._whole_type, value)
        if not made:
            self._release()
            raise self._something_else(body)
        self._whole = True
        self._queue.extend(made)

    def _broken(self, call: Call, failure: TransportError) -> OpenAIError:
        """Return the error for a broken stream, with the answer so far."""
        self._response.abort()
        error: OpenAIError = call.public(failure)
        self._release()
        if failure.kind not in ("timeout", "closed"):
            return self._short(f"the connection broke in mid-stream ({failure.message})")
        error.meta = self.meta
        if isinstance(error, APIConnectionError):
            error.partial = self._partial()
        return error

    def _short(self, why: str) -> OpenAIError:
        return failures.broken_stream(self.meta, why, self._partial())

    def _partial(self) -> Any:
        return self.partial_source() if self.partial_source is not None else None

    def _release(self) -> None:
        call, self._call = self._call, None
        self._strictly = None
        if call is not None:
            self.meta.total = call.elapsed()
            call.release()

    def _abandon(self) -> None:
        self._done = True
        self._clear()
        self._release()

    def _clear(self) -> None:
        self._queue.clear()
        self._ahead = iter(())

    # ---------------------------------------------------------------- leaving

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended or was closed: its connection is free."""
        return self._call is None

    async def close(self) -> None:
        """Release the connection and the slot at once. Idempotent."""
        self._ended = True
        self._abandon()
        self._observers.closed()

    aclose = close

    async def __aenter__(self) -> AsyncStream[T]:
        self.hand_over()
        return self

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            self._call = None
            call.abandon()
        if (observers := getattr(self, "_observers", NOBODY)) is not NOBODY:
            observers.closed_soon()

    @property
    def response(self) -> OpenResponse:
        """The response with status and header fields; closing it closes the stream."""
        return OpenResponse(self)

    def __repr__(self) -> str:
        state = "open" if self._call is not None else "closed"
        return f"<{type(self).__name__} {self.meta.request.method} {self.meta.url} {state}>"


def ending_of(request: Request) -> CompletionDetector:
    """Return the completion detector for this request. On paths without an endpoint a stream ends with its message."""
    endpoint = request.endpoint
    event: str | None = endpoint.event
    if endpoint.event.startswith(":"):  # a path given by the caller
        named = endpoint_at(endpoint.method, request.path.partition("?")[0])
        event = None if named is None else named.event
    return CompletionDetector(event, functools.partial(_requested_choices, request))


def _requested_choices(request: Request) -> int:
    from ..core.codec.whole import requested_choices

    return requested_choices(request.body)


def _lacks_delta(chunk: Any) -> bool:
    """Return whether a choice in a leniently decoded chunk lacks its delta, or has a delta instead of a text."""
    choices: Any = chunk.choices
    return choices.__class__ is list and any(
        getattr(choice, "delta", choice) is None or "delta" in getattr(choice, "__dict__", ()) for choice in choices
    )


@functools.cache
def _streaming() -> list[tuple[re.Pattern[str], Endpoint]]:
    from .. import endpoints

    rows = [row for row in vars(endpoints).values() if isinstance(row, Endpoint) and row.event]
    return [(re.compile(".*" + re.sub(r"\{\w+\}", "[^/]+", row.path)), row) for row in rows]


def endpoint_at(method: str, path: str) -> Endpoint | None:
    """Return the operation that streams at this path, below any base; `None` for a path without an endpoint."""
    for pattern, row in _streaming():
        if row.method == method and pattern.fullmatch(path):
            return row
    return None
