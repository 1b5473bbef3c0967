"""The body of an answer on its way to the HTTP library: as it comes, under the clocks, and complete or an error.

An event stream is passed on byte for byte and watched: it may end only when its answer is complete, by the rules of
`core.ending`. Everything that ends it otherwise raises, where the official client would take it for whole.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ..calls.body import MAX_RATIO, PROGRESS, content_coding
from ..calls.call import Call
from ..calls.clocks import Clocks
from ..calls.sealing import seal
from ..core.coding import CodingError, Inflater
from ..core.ending import Ending
from ..core.sse import Event, SSEDecoder, SSEError
from ..errors import IncompleteStreamError, OpenAIError
from ..transport.base import Incoming, TransportError
from .asked import Asked
from .errors import translated

__all__ = ["Answer", "BridgeCall", "Watch"]

_DONE = b"[DONE]"
_LINGER = 0.2  # seconds that the end of the message may take after [DONE], so that the connection can be used again
_MAX_STREAM = 1 << 40  # bytes: events are capped one by one


class BridgeCall(Call):
    """A call that remembers why its last exchange failed, since the exception to be raised depends on it."""

    reason: str | None = None  # the kind of a `TransportError`

    @property
    def patience(self) -> float | None:
        """Seconds that an answer may go without progress."""
        clocks: Clocks = cast("Asked", self.request).clocks
        return clocks.stall

    def public(self, failure: TransportError) -> OpenAIError:
        self.reason = failure.kind
        return super().public(failure)

    @property
    def unsent(self) -> bool:
        """Whether a body that is sent piece by piece has not come to its end."""
        return getattr(self.request.body, "sent", True) is False


class _Choice(msgspec.Struct):
    index: object = 0
    finish_reason: object = None


class _Glance(msgspec.Struct):
    """All that is looked at of an event."""

    choices: list[_Choice] | None = None
    type: object = None
    error: object = None


_glance = msgspec.json.Decoder(_Glance)


class Watch:
    """Sees the events of a stream go by: how many there were, and whether the answer may end here."""

    def __init__(self) -> None:
        self.events: int = 0
        self.done: bool = False  # [DONE] came
        self._over = False  # an error object came: the reader raises it
        self._decoder = SSEDecoder()
        self._by_choice = Ending(":ChatCompletionChunk")
        self._by_name = Ending("")

    def feed(self, piece: bytes) -> None:
        """Take note of a piece. Raises `SSEError` for an event over the cap."""
        for event in self._decoder.feed(piece):
            self.events += 1
            if isinstance(event, Event):
                self._see(event.event, event.data)
            else:
                self._see("", event)

    def _see(self, name: str, data: bytes) -> None:
        if data == _DONE:
            self.done = True
            return
        try:
            item = _glance.decode(data)
        except (ValueError, RecursionError):
            item = _Glance()  # what is no object decides nothing; its name may
        self._over = self._over or bool(item.error) or "error" in (name, item.type)
        self._by_choice.see(item, name)
        self._by_name.see(item, name)

    @property
    def complete(self) -> bool:
        """Whether nothing more has to come."""
        return self.done or self._over or self._by_choice.complete or self._by_name.complete


class Answer:
    """The body of one 2xx, beside the HTTP library's own class of asynchronous byte streams.

    Holds connection and place in flight until its end, `aclose`, an error, or until nobody refers to it any more.
    """

    def __init__(self, library: Any, theirs: Any, call: BridgeCall, incoming: Incoming, watch: Watch | None) -> None:
        """Raises `CodingError` for a coding that is not known."""
        self._library = library
        self._theirs = theirs
        self._call: BridgeCall | None = call
        self._incoming = incoming
        self._watch = watch
        coding = content_coding(incoming.raw_fields)
        self._inflater = Inflater(coding, cap=_MAX_STREAM, ratio=MAX_RATIO) if coding else None
        self._unit = PROGRESS  # bytes still to come until the stall clock begins anew
        self._held = b""
        self._ended = False

    async def begin(self) -> None:
        """Wait for the first event of a stream, so that all that fails before it can be tried again.

        Raises `TransportError`, and the public error of a stream that is over before it began; the call is not this
        answer's any more then.
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
            call.expect(self._incoming, call.patience, "stall")
        except BaseException:
            self._call = None
            raise

    def __aiter__(self) -> Answer:
        if self._call is not None:
            self._call.read_here()
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
            piece = b""  # the answer is there; only the connection is lost
        except (OpenAIError, CodingError) as caught:
            raise self._broken(call, caught) from caught
        except BaseException:
            self._release()
            raise
        if not piece:
            call.calls.shared.budget.refill()
            self._release()
            raise StopAsyncIteration
        return piece

    def _broken(self, call: BridgeCall, error: OpenAIError | CodingError) -> Exception:
        self._release()
        seal(error)
        return translated(self._library, self._theirs, error, call.reason, midway=True)

    async def _next(self, call: BridgeCall) -> bytes:
        """The next bytes, their coding undone; ``b""`` at the end of the message."""
        while not self._ended:
            pieces = await self._incoming.pieces()
            self._ended = not pieces
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._progress(call, len(piece))
            if self._inflater is not None:
                piece = self._inflater.feed(piece) if piece else self._inflater.finish()
            if piece:
                self._look(call, piece)
                return piece
        return b""

    def _progress(self, call: BridgeCall, size: int) -> None:
        """Of a body that is no event stream 64 KiB are progress."""
        self._unit -= size
        if self._unit <= 0 and self._watch is None:
            self._unit = PROGRESS
            call.expect(self._incoming, call.patience, "stall")

    def _look(self, call: BridgeCall, piece: bytes) -> None:
        """Of an event stream every event is progress, and nothing else."""
        watch = self._watch
        if watch is None:
            return
        seen = watch.events
        try:
            watch.feed(piece)
        except SSEError as error:
            raise self._short(call, f"the stream is damaged: {error}") from None
        if watch.events > seen:
            call.expect(self._incoming, call.patience, "stall")

    def _check_end(self, call: BridgeCall) -> None:
        if self._watch is not None and not self._watch.complete:
            raise self._short(call, "the stream ended before its answer was complete")

    def _short(self, call: BridgeCall, why: str) -> IncompleteStreamError:
        request = call.meta(self._incoming).request
        return IncompleteStreamError(message=f"{request.method} {request.url}: {why}", request=request)

    def _release(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.leave()

    async def aclose(self) -> None:
        """Free connection and place at once; after ``[DONE]`` the end of the message is taken first. Idempotent."""
        call, self._call = self._call, None
        self._held = b""
        if call is None:
            return
        try:
            if self._watch is not None and self._watch.done:
                call.calls.shared.budget.refill()
                self._incoming.expire(call.loop.time() + _LINGER, "stall")
                while not self._incoming.ended and await self._incoming.pieces():
                    pass
        except TransportError:
            pass  # the answer is complete; only the connection is lost
        finally:
            call.leave()

    def __del__(self) -> None:
        call: Call | None = getattr(self, "_call", None)
        if call is not None:
            call.abandon()
