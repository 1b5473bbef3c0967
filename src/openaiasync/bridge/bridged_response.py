"""Pass an answer's body on to the HTTP library, under the timeouts; a truncated body raises.

An event stream is passed on byte for byte and watched: it may end only when its answer is complete, by the rules of
`core.codec.completion`. Any other end raises, where the official client would accept a truncated answer.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from ..core.codec.completion import CompletionDetector, Verdict
from ..core.codec.endpoint import Endpoint
from ..core.codec.whole import events_of_whole, requested_choices
from ..core.http.codings import CodingError
from ..core.http.sse import (
    Event,
    EventReader,
    SSEError,
    is_done,
    is_silent,
)
from ..engine import log
from ..engine.body import PROGRESS, BodyReader
from ..engine.call import Call
from ..engine.failures import is_error_body, words_of
from ..engine.sealing import seal
from ..engine.streams import LINGER, PATIENCE
from ..errors import IncompleteStreamError, OpenAIError
from ..transport.base import TransportError, TransportResponse
from .errors import translated

__all__ = ["Answer", "Watch"]


class _ChoiceState(msgspec.Struct):
    index: object = 0
    finish_reason: object = None


class _EventSummary(msgspec.Struct):
    """The fields of an event that are inspected."""

    choices: list[_ChoiceState] | None = None
    type: object = None
    error: object = None


_glance = msgspec.json.Decoder(_EventSummary)


class Watch:
    """Inspects the events of a stream: counts them, and tells whether the answer may end here.

    `endpoint` is the requested operation, `None` for a path without an endpoint; `body` is the request's.
    """

    def __init__(self, endpoint: Endpoint | None, body: Any) -> None:
        self.events: int = 0
        self.done: bool = False  # [DONE] was received
        self.endpoint = endpoint
        self.reader: EventReader = EventReader()
        self.whole = False  # the answer was sent as one object, whose events were passed on
        self._over = False  # an error object was sent: the reader raises it
        self._by_choice = CompletionDetector(":ChatCompletionChunk", lambda: requested_choices(body))
        self._by_name = CompletionDetector("")

    def feed(self, piece: bytes) -> None:
        """Inspect a piece. Raises `SSEError` for an event over the cap."""
        for event in self.reader.feed(piece):
            self._see(event)

    def finish(self) -> None:
        """Inspect a last event without an empty line, as the message ended where its framing says."""
        for event in self.reader.finish():
            self._see(event)

    def _see(self, event: bytes | Event) -> None:
        name, data = ("", event) if isinstance(event, bytes) else (event.event, event.data)
        if is_done(event):
            self.events += 1
            self.done = True
            self._by_name.feed_name(name)
            return
        if is_silent(event):
            self._by_name.feed_name(name)
            return
        self.events += 1
        try:
            item = _glance.decode(data)
        except (ValueError, RecursionError):
            item = _EventSummary()  # data that is not an object decides nothing; the event's name may
        self._over = self._over or bool(item.error) or "error" in (name, item.type)
        self._by_choice.feed(item, name)
        self._by_name.feed(item, name)

    @property
    def complete(self) -> bool:
        """Whether the answer is complete, however the message ends."""
        return self._over or self._by_choice.complete or self._by_name.complete

    @property
    def undecided(self) -> bool:
        """Whether the end of the message decides, since ``[DONE]`` arrived without a completion signal."""
        return self.done and self.verdict(exact=False) == "short"

    def verdict(self, *, exact: bool) -> Verdict:
        """Return whether the answer may end now, at the exact end of the message or not."""
        if self._over or self._by_name.complete or (self.endpoint is None and (exact or not self.done)):
            return "complete"
        if self._by_choice.began or self.endpoint is None:
            return self._by_choice.end(done=self.done, exact=exact)
        return self._by_name.end(done=self.done, exact=exact)


class Answer:
    """The body of one 2xx, combined with the HTTP library's class of asynchronous byte streams.

    It holds connection and slot in flight until its end, `aclose`, an error, or garbage collection.
    """

    def __init__(
        self, library: Any, request: Any, call: Call, incoming: TransportResponse, watch: Watch | None
    ) -> None:
        """Take over a call whose 2xx this is."""
        call.keep()
        self._library = library
        self._request = request
        self._call: Call | None = call
        self._incoming = incoming
        self._watch = watch
        # Events are the progress of an event stream, bytes that of any other body.
        self._reader = BodyReader(call, incoming, unit=PROGRESS if watch is None else None)
        self._held = b""
        self._short_of: IncompleteStreamError | None = None  # raised after the bytes before it were returned

    async def begin(self) -> None:
        """Wait for the first event of a stream, so that a failure before it can be retried.

        Raises `TransportError`, and the public error of a stream that ended before its first event; the driver then
        owns the call again.
        """
        call, watch = self._call, self._watch
        assert call is not None
        try:
            if watch is not None:
                call.expect_event(self._incoming)
                while not watch.events:
                    piece = await self._next(call)
                    if not piece:
                        self._check_end(call)
                        return
                    self._held += piece
            self._reader.progress()
        except BaseException:
            self._call = None
            raise

    def __aiter__(self) -> Answer:
        if self._call is not None:
            self._call.transfer()
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            piece, self._held = self._held, b""
            return piece
        call = self._call
        if call is None:
            raise StopAsyncIteration
        try:
            piece = await self._next(call)
            if not piece:
                self._check_end(call)
        except TransportError as failure:
            if self._watch is None or not self._watch.complete:
                error = call.public(failure)
                raise self._broken(call, error) from error
            piece = b""  # the answer is complete; only the connection is lost
        except (OpenAIError, CodingError) as caught:
            raise self._broken(call, caught) from caught
        except BaseException:
            self._release()
            raise
        if not piece:
            self._release()
            raise StopAsyncIteration
        return piece

    def _broken(self, call: Call, error: OpenAIError | CodingError) -> Exception:
        self._release()
        seal(error)
        return translated(self._library, self._request, error, call.reason, midway=True)

    async def _next(self, call: Call) -> bytes:
        """Return the next bytes, decoded; ``b""`` at the end of the message.

        An object sent instead of a stream yields one piece: its events.
        """
        watch = self._watch
        while pieces := await self._reader.pieces():
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._look(call, piece)
            if watch is not None and watch.undecided:
                return await self._decided(call, piece)
            if watch is None or not watch.reader.is_whole:
                return piece
        if self._short_of is not None:
            raise self._short_of
        if watch is not None and watch.reader.is_whole and not watch.events:
            return self._made(call, watch)
        return b""

    async def _decided(self, call: Call, piece: bytes) -> bytes:
        """Wait for the end of the message before passing on ``[DONE]``, after which clients stop reading.

        If the answer is truncated, the bytes before ``[DONE]`` are passed on, and the error follows.
        """
        patience = call.timeouts.stall
        self._incoming.expire(call.loop.time() + (PATIENCE if patience is None else min(patience, PATIENCE)), "stall")
        with contextlib.suppress(TransportError):
            while not self._incoming.ended:
                await self._incoming.pieces()
        self._reader.ended = True
        try:
            self._check_end(call)
        except IncompleteStreamError as error:
            before = piece[: piece.rfind(b"\n", 0, max(0, piece.rfind(b"[DONE]"))) + 1]
            if not before:
                raise
            self._short_of = error
            return before
        return piece

    def _made(self, call: Call, watch: Watch) -> bytes:
        """Return the events of a whole answer. Raises an error with the server's message for any other body."""
        body = watch.reader.body
        try:
            value: Any = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            value = None
        event = None if watch.endpoint is None else watch.endpoint.event
        made = [] if is_error_body(value) else events_of_whole(event, value)
        if not made:
            words = words_of(call.meta(self._incoming), body)
            raise self._short(call, f"expected an event stream, but the server sent something else: {words}")
        watch.events += len(made)
        watch.whole = True
        return b"".join(b"data: %b\n\n" % event for event in made) + b"data: [DONE]\n\n"

    def _look(self, call: Call, piece: bytes) -> None:
        """Count every event of an event stream, and nothing else, as progress."""
        watch = self._watch
        if watch is None:
            return
        seen = watch.events
        try:
            watch.feed(piece)
        except SSEError as error:
            raise self._short(call, f"the stream is damaged: {error}") from None
        if watch.events > seen:
            self._reader.progress()

    def _check_end(self, call: Call) -> None:
        watch = self._watch
        if watch is None or watch.whole:
            return
        exact = self._incoming.ended and (self._incoming.exact or watch.endpoint is None)
        if exact:
            watch.finish()
        verdict = watch.verdict(exact=exact)
        if verdict == "unfinished":
            log.unfinished(call.engine, call.request)
        elif verdict == "short":
            words = words_of(call.meta(self._incoming), watch.reader.words)
            why = "the stream ended before its answer was complete"
            raise self._short(call, f"{why}; the server said: {words}" if words else why)

    def _short(self, call: Call, why: str) -> IncompleteStreamError:
        request = call.meta(self._incoming).request
        return IncompleteStreamError(message=f"{request.method} {request.url}: {why}", request=request)

    def _release(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.release()

    async def aclose(self) -> None:
        """Release connection and slot at once; after ``[DONE]`` the end of the message is read first. Idempotent."""
        call, self._call = self._call, None
        self._held = b""
        if call is None:
            return
        try:
            if self._watch is not None and self._watch.done and not self._reader.ended:
                self._incoming.expire(call.loop.time() + LINGER, "stall")
                while not self._incoming.ended and await self._incoming.pieces():
                    pass
        except TransportError:
            pass  # the answer is complete; only the connection is lost
        finally:
            call.release()

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            call.abandon()
