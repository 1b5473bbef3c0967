"""Calls that somebody watches: hooks and telemetry see them pass, each end told once.

Loaded by the first call of a client that has observers, or of a call that has hooks; all other calls know nothing of
it. An observer (`CallConfig.observers`) is a function that is given the `ObservedCall` and answers its `CallObserver`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..core.codec.decode import keep
from ..core.codec.endpoint import Request
from ..core.model.meta import Meta
from ..errors import APIStatusError, OpenAIError
from ..transport.base import Credentials, TransportError, TransportResponse
from . import failures
from .call import Call
from .hooks import Hooks
from .log import logger
from .observer import CallObserver, Outcome
from .streams import AsyncStream

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["ObservedCall", "ObservedStream", "watched_answer", "watched_fetch"]

T = TypeVar("T")


class ObservedCall(Call):
    """A call that tells its watchers."""

    watched: ClassVar[bool] = True

    def __init__(self, calls: Engine, request: Request) -> None:
        super().__init__(calls, request)
        self.request: Request = copy.copy(request)
        self.asked: Mapping[str, Any] = request.headers or {}  # header fields that the caller named
        # With header fields of its own, if an empty set of them, a request asks `_credentials` before each try.
        self.request.headers = self.asked
        self.extra: dict[str, Any] = {}  # header fields that watchers add to the next try; `None` takes one away
        self.last: Meta | None = None  # of the last answer, of whatever status
        self._deferred = self._over = False
        self._failure: OpenAIError | None = None
        self._raised: BaseException | None = None  # what a watcher raised
        self.watchers: list[CallObserver] = [observer(self) for observer in calls.config.observers]
        if request.hooks is not None:
            self.watchers.append(Hooks(*request.hooks)(self))

    # ---------------------------------------------------------------- on its way

    def begin(self) -> None:
        """Nothing is sent at once: the watchers come first, in `head`."""

    async def _credentials(self, until: float | None) -> Credentials:
        await self.prepared(self._sending(), until, "the on_request hook took too long")
        return await super()._credentials(until)

    async def _sending(self) -> None:
        self.extra.clear()
        self.request.headers = self.asked
        try:
            for watcher in self.watchers:
                told = watcher.sending(self)
                if told is not None:
                    await told
        except BaseException as error:
            self._raised = error
            raise
        added = {name.lower() for name in self.extra}
        kept = {name: value for name, value in self.asked.items() if name.lower() not in added}
        self.request.headers = {**kept, **self.extra}

    async def head(self) -> TransportResponse:
        incoming = await super().head()
        self._failure = None
        meta = self.meta(incoming)
        for watcher in self.watchers:
            watcher.head(meta)
        return incoming

    def meta(self, incoming: TransportResponse, now: float | None = None) -> Meta:
        self.last = super().meta(incoming, now)
        return self.last

    def public(self, failure: TransportError) -> OpenAIError:
        self._failure = super().public(failure)
        return self._failure

    def retrying(self, error: OpenAIError, pause: float) -> None:
        super().retrying(error, pause)
        self._tell_retrying(error, pause)

    def _dead_on_reuse(self, failure: TransportError) -> bool:
        free = super()._dead_on_reuse(failure)
        if free:
            self._tell_retrying(self.public(failure), 0.0)
        return free

    def _renews(self) -> bool:
        renews = super()._renews()
        if renews and self.incoming is not None:
            error = failures.status_failure(self.meta(self.incoming), b"", self.tries, self.elapsed())
            self._tell_retrying(error, 0.0)
        return renews

    def _takes_back(self, error: APIStatusError) -> bool:
        taken = super()._takes_back(error)
        if taken:
            self._tell_retrying(error, 0.0)
        return taken

    def _tell_retrying(self, error: OpenAIError, pause: float) -> None:
        for watcher in self.watchers:
            watcher.retrying(error, pause)

    def item(self, item: object) -> None:
        for watcher in self.watchers:
            watcher.item(item)

    # ---------------------------------------------------------------- ends

    async def answered(self, made: Callable[[], Any]) -> None:
        await self._tell_answered(made, ends=True)

    async def handed_over(self) -> None:
        self._deferred = True
        await self._tell_answered(lambda: None, ends=False)

    async def _tell_answered(self, made: Callable[[], Any], *, ends: bool) -> None:
        if self._over or self.last is None:
            return
        try:
            for watcher in self.watchers:
                told = watcher.answered(self.last, made)
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
                for watcher in self.watchers:
                    told = watcher.failed(error)
                    if told is not None:
                        await told
        except BaseException as another:
            error = another
            raise
        finally:
            self._end(_outcome(error), error)

    def end(self) -> None:
        self._end("closed")

    def end_soon(self) -> None:
        # A finaliser may run anywhere, in the middle of an exporter that holds its lock, too.
        if not self._over:
            try:
                self.loop.call_soon_threadsafe(self.end)
            except RuntimeError:
                self.end()

    def leave(self) -> None:
        incoming = self.incoming
        super().leave()
        if self._deferred and not self._over:
            if incoming is not None and incoming.ended:
                self._end("answered")
            else:
                self._end("closed" if self._failure is None else "failed", self._failure)

    def _end(self, outcome: Outcome, error: BaseException | None = None) -> None:
        if self._over:
            return
        self._over = True
        for watcher in self.watchers:
            try:
                watcher.ended(outcome, error)
            except Exception:
                logger.warning("an observer failed at the end of a call", exc_info=True)


def _outcome(error: BaseException) -> Outcome:
    return "failed" if isinstance(error, Exception) else "cancelled"


# -------------------------------------------------------------------------------------------------- whole answers


async def watched_answer(calls: Engine, request: Request) -> Any:
    """As `Engine.answer`."""
    call = ObservedCall(calls, request)
    try:
        made = calls.made(request, *await calls.exchange(call.request, call))
        answer: Any = await made if made.__class__ is CoroutineType else made
    except BaseException as error:
        await call.failed(error)
        raise
    await call.answered(lambda: answer)
    return answer


async def watched_fetch(calls: Engine, request: Request) -> tuple[Meta, bytes]:
    """As `Engine.fetch`; the answer is not kept, since it is not decoded here."""
    call = ObservedCall(calls, request)
    try:
        fetched = await calls.exchange(call.request, call)
    except BaseException as error:
        await call.failed(error)
        raise
    await call.answered(lambda: None)
    return fetched


# -------------------------------------------------------------------------------------------------- streams


class ObservedStream(AsyncStream[T]):
    """An `AsyncStream` that tells its call's watchers."""

    _watched: Call | None = None

    def __init__(self, call: Call, incoming: TransportResponse) -> None:
        self._watched = call
        super().__init__(call, incoming)

    async def __anext__(self) -> T:
        call = self._watched
        assert call is not None
        try:
            item = await super().__anext__()
        except StopAsyncIteration:
            await call.answered(self._made)
            raise
        except BaseException as error:
            if self._call is None:  # else another task reads it, which is told of its end
                await call.failed(error)
            raise
        call.item(item)
        return item

    def _made(self) -> Any:
        return None if self.partial_source is None else keep(self.partial_source(), None, self.meta)

    async def close(self) -> None:
        """Free the connection and the place in flight at once. Idempotent."""
        await super().close()
        if self._watched is not None:
            self._watched.end()

    aclose = close

    def __del__(self) -> None:
        super().__del__()
        if self._watched is not None:
            self._watched.end_soon()

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, AsyncStream.__name__, 1)
