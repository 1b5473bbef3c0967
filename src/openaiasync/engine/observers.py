"""What observes calls: the interface that hooks, telemetry and the log implement, and who passes events on to them.

An observer of a client (`CallConfig.observers`) is a function that is given a `Call` and returns a `CallObserver` for
it. The driver tells `Call.observers`, which is `NOBODY` where nobody observes: then nothing of it costs anything.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..errors import OpenAIError
    from ..transport.base import TransportResponse
    from .call import Call

__all__ = ["NOBODY", "CallObserver", "Observers", "Outcome", "observers_of"]

Outcome = Literal["answered", "failed", "cancelled", "closed"]
"""How a call ended; ``"closed"``: its stream was left before its end."""


class CallObserver:
    """One observer's view of one call. A subclass overrides what it is interested in.

    What a method raises fails the call, except for `ended`, which comes last, once, whatever happened, and is not
    waited for. What `sending`, `answered` and `failed` return is awaited.
    """

    def sending(self, call: Call) -> Awaitable[object] | None:
        """A request is about to be sent: the first, a retry, or to where a redirect led. May change `call.extra`."""

    def sent(self, call: Call) -> None:
        """The request of an attempt, `call.out`, is composed."""

    def responded(self, call: Call, response: TransportResponse) -> None:
        """The head of a response of any status has come."""

    def head(self, meta: Meta) -> None:
        """The head of a 2xx has come."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """An attempt ended with this error; the next one begins after so many seconds."""

    def item(self, item: object) -> None:
        """An event of a stream was delivered, or (`None`) bytes have come."""

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        """The call ended well; `made` returns the answer, `None` where nothing keeps it.

        Of a body that the caller reads: its head is there.
        """

    def failed(self, error: Exception) -> Awaitable[object] | None:
        """The call ended with this error. Not told of the caller's cancellation."""

    def ended(self, outcome: Outcome, error: BaseException | None) -> None:
        """The call is over. The error may be another one than `failed` was told: one that a hook raised."""


class Observers:
    """The observers of one call as its driver sees them. This base class is nobody: every method does nothing."""

    async def sending(self) -> None:
        """A request is about to be sent."""

    def sent(self) -> None:
        """The request of an attempt is composed."""

    def responded(self, response: TransportResponse) -> None:
        """The head of a response has come."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """The next attempt begins after so many seconds; this is why."""

    def item(self, item: object) -> None:
        """A piece of the answer was delivered: an event, or bytes (`None`)."""

    async def answered(self, made: Callable[[], object]) -> None:
        """The call ended well; `made` returns the answer if an observer asks for it. Raises what a hook raises."""

    async def failed(self, error: BaseException) -> None:
        """The call ended with this error, or with the caller's cancellation. Raises what a hook raises."""

    async def handed_over(self) -> None:
        """The head of the answer is with the caller, who reads the body alone."""

    def released(self, response: TransportResponse | None) -> None:
        """The call has given its slot back; `response` is what it read last."""

    def closed(self) -> None:
        """The answer was left before its end. No effect after the end."""

    def closed_soon(self) -> None:
        """As `closed`, from a finalizer: what it does is put off until the event loop runs."""


NOBODY = Observers()
logger = logging.getLogger("openaiasync")


class _Told(Observers):
    """Observers that are told of every step, and of the end once."""

    def __init__(self, call: Call) -> None:
        engine, request = call.engine, call.request
        self._call = call
        self._deferred = self._over = False
        self._raised: BaseException | None = None  # what an observer raised
        call.request = copy.copy(request)
        call.asked = request.headers or {}
        # With header fields of its own, even an empty set of them, the fields of each attempt are made anew.
        call.request.headers = call.asked
        call.extra = {}
        self.observers: list[CallObserver] = [observer(call) for observer in engine.config.observers]
        if request.hooks is not None:
            from .hooks import Hooks  # most clients have none

            self.observers.append(Hooks(*request.hooks)(call))
        if logger.isEnabledFor(logging.INFO):
            from .log import LogObserver

            self.observers.append(LogObserver(call))

    async def sending(self) -> None:
        call = self._call
        asked, extra = call.asked, call.extra
        extra.clear()
        call.request.headers = asked
        try:
            for observer in self.observers:
                told = observer.sending(call)
                if told is not None:
                    await told
        except BaseException as error:
            self._raised = error
            raise
        added = {name.lower() for name in extra}
        kept = {name: value for name, value in asked.items() if name.lower() not in added}
        call.request.headers = {**kept, **extra}

    def sent(self) -> None:
        for observer in self.observers:
            observer.sent(self._call)

    def responded(self, response: TransportResponse) -> None:
        for observer in self.observers:
            observer.responded(self._call, response)
        if 200 <= response.status < 300:
            meta = self._call.meta(response)
            for observer in self.observers:
                observer.head(meta)

    def retrying(self, error: OpenAIError, pause: float) -> None:
        for observer in self.observers:
            observer.retrying(error, pause)

    def item(self, item: object) -> None:
        for observer in self.observers:
            observer.item(item)

    async def answered(self, made: Callable[[], Any]) -> None:
        await self._answered(made, ends=True)

    async def handed_over(self) -> None:
        self._deferred = True
        await self._answered(lambda: None, ends=False)

    async def _answered(self, made: Callable[[], Any], *, ends: bool) -> None:
        meta = self._call.last_meta
        if self._over or meta is None:
            return
        try:
            for observer in self.observers:
                told = observer.answered(meta, made)
                if told is not None:
                    await told
        except BaseException as error:
            self._end(_outcome(error), error)
            raise
        if ends:
            self._end("answered")

    async def failed(self, error: BaseException) -> None:
        if self._over:
            return
        try:
            # Hooks are told of failures, not of each other's.
            if isinstance(error, Exception) and error is not self._raised:
                for observer in self.observers:
                    told = observer.failed(error)
                    if told is not None:
                        await told
        except BaseException as another:
            error = another
            raise
        finally:
            self._end(_outcome(error), error)

    def released(self, response: TransportResponse | None) -> None:
        if not self._deferred or self._over:
            return
        if response is not None and response.ended:
            self._end("answered")
        else:
            failure = self._call.failure
            self._end("closed" if failure is None else "failed", failure)

    def closed(self) -> None:
        self._end("closed")

    def closed_soon(self) -> None:
        # A finalizer may run anywhere, in the middle of an exporter that holds its lock, too.
        if not self._over:
            try:
                self._call.loop.call_soon_threadsafe(self.closed)
            except RuntimeError:
                self.closed()

    def _end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self._over:
            return
        self._over = True
        for observer in self.observers:
            try:
                observer.ended(outcome, error)
            except Exception:
                logger.warning("an observer failed at the end of a call", exc_info=True)


def _outcome(error: BaseException) -> Outcome:
    return "failed" if isinstance(error, Exception) else "cancelled"


def observers_of(call: Call) -> Observers:
    """Return who observes this call, and let them prepare its request."""
    return _Told(call)
