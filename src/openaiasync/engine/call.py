"""One call on its way: its slot, its tries, its clocks, its redirects.

A try ends with the head of a 2xx, with a failure that `again` either turns into the next try or raises as the public
error, or with the caller's cancellation, which frees the socket and the slot at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..core.codec.endpoint import Request
from ..core.model.meta import Meta, RequestInfo
from ..core.model.secrets import Secrets
from ..core.policy.limits import Deadlock, Permit
from ..core.policy.retry import (
    LONGEST_SERVER_PAUSE,
    backoff,
    is_rate_limit,
    retryable_status,
    server_pause,
)
from ..errors import APIStatusError, APITimeoutError, ClientClosedError, InFlightError, OpenAIError
from ..transport.base import (
    AttemptTimeouts,
    Attended,
    Begun,
    Credentials,
    TransportError,
    TransportRequest,
    TransportResponse,
)
from . import failures, log
from .body import read_error_body
from .defaults import refuses_parameter
from .redirect import follow
from .timeouts import CallTimeouts, sooner

if TYPE_CHECKING:
    from .config import BaseURL
    from .engine import Engine
    from .prepare import PreparedRequest

__all__ = ["Call", "limited"]

T = TypeVar("T")

ERROR_PATIENCE = 10.0  # seconds
CANCEL_PATIENCE = 0.05  # seconds that a caller's function has to end once it is cancelled
_UNSET: Any = object()
_NEVER_RETRIED = frozenset({"closed", "protocol", "stuck", "tls", "upload"})


class Call:
    """The state of one call. Use: `await enter()`, then `await head()` as often as needed, at last `leave()`."""

    # What only some calls change has its default here, and costs the others nothing.
    watched: ClassVar[bool] = False
    target: str | None = None
    permit: Permit | None = None
    reader: object = None
    incoming: TransportResponse | None = None
    out: TransportRequest | None = None
    info: RequestInfo | None = None
    usual: PreparedRequest | None = None
    past: tuple[Credentials, ...] = ()  # of the tries before this one: an answer may echo them, too
    tries: int = 0
    retries: int = 0
    redirects: int = 0
    redirected: bool = False
    free_retry: bool = True
    renewed: bool = False
    refused: int = 0  # how many tries there were when the server last refused one
    taken_back: tuple[str, ...] = ()
    queued: float = 0.0
    try_began: float = 0.0
    head_at: float = 0.0
    began: float = 0.0
    until_clock: str = "deadline"
    deadline_at: float | None = None

    def __init__(self, calls: Engine, request: Request) -> None:
        self.calls: Engine = calls
        self.request: Request = request
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.base: BaseURL = calls.config.base
        self.clocks: CallTimeouts = calls.clocks(request)

    # ---------------------------------------------------------------- the slot

    def enters(self) -> bool:
        """Take a slot if that needs no waiting; if not, `enter` is due. (A coroutine costs as much again.)"""
        body = self.request.body
        shared = self.calls.shared
        if (body is not None and body.__class__ is not bytes) or shared.refusing:
            return False
        permit = shared.limiter.slots.try_acquire(asyncio.current_task(self.loop))
        if permit is None:
            return False
        self._begin(permit)
        return True

    async def enter(self) -> None:
        """Take a slot, waiting in line if need be; the clocks begin after it.

        Raises `OSError` for a file that is to be uploaded and cannot be read.
        """
        if self.request.body is not None and not isinstance(self.request.body, bytes):
            from .uploads import with_upload  # a client that uploads nothing need not load it

            self.request = await with_upload(self.request)
        shared = self.calls.shared
        permit = None if shared.refusing else shared.limiter.try_acquire(asyncio.current_task(self.loop))
        if permit is None:
            began = self.loop.time()
            patience = self.calls.config.queue_timeout
            permit = await admitted(self, None if patience is None else began + patience, None)
            self.queued = self.loop.time() - began
        self._begin(permit)

    def _begin(self, permit: Permit) -> None:
        self.permit = permit
        self.began = self.try_began = now = self.loop.time()
        deadline = self.clocks.deadline
        if deadline is not None:
            self.deadline_at = now + deadline

    def read_here(self) -> None:
        """The running task reads the answer from now on: it is the one whose waiting keeps the slot from being free."""
        self.reader = owner = asyncio.current_task(self.loop)
        permit, incoming = self.permit, self.incoming
        if permit is not None and permit.owner is not owner:
            self.calls.shared.limiter.slots.transfer(permit, owner)
        if isinstance(incoming, Attended):
            incoming.reader = owner

    def leave(self) -> None:
        """Give the slot back and drop the connection if the answer has not ended. Idempotent."""
        incoming, self.incoming = self.incoming, None
        permit, self.permit = self.permit, None
        shared = self.calls.shared
        try:
            if incoming is not None and not incoming.ended:
                incoming.abort()
        finally:  # whatever becomes of the socket, in a loop that was closed for example
            if permit is not None:
                shared.limiter.release(permit)
            if shared.refusing:
                self.left_upstream()

    def abandon(self) -> None:
        """As `leave`, from a finalizer, which may run in any thread: sockets belong to the thread of their loop."""
        with contextlib.suppress(RuntimeError):  # the event loop may be gone
            if self.loop.is_running() and not _runs_here(self.loop):
                self.loop.call_soon_threadsafe(self.leave)
                return
        with contextlib.suppress(RuntimeError):
            self.leave()

    def left_upstream(self) -> None:
        """If this call was the one to try a server that refuses, another may."""
        upstream = self.calls.shared.refusing.get(self.calls.config.base.origin)
        if upstream is not None:
            upstream.left(self)

    # ---------------------------------------------------------------- tries

    def begin(self) -> Begun | None:
        """Send the first try at once, if it is a usual one that needs no waiting: its head is to be awaited.

        `None` where `head` makes all tries. It spares two coroutines.
        """
        calls, request = self.calls, self.request
        usual = calls.composer.usual(request)
        if usual is None or log.logger.isEnabledFor(log.INFO):
            return None
        begin = getattr(calls.shared.transport(self.loop), "begin", None)
        if begin is None:
            return None
        begun: Begun | None = begin(
            usual.out, request.body or b"", self.clocks.of_try if self.clocks.fixed else self._clocks()
        )
        if begun is not None:
            begun.reader = None if self.permit is None else self.permit.owner
            self.tries = 1
            self.out, self.usual = usual.out, usual
        return begun

    async def head(self) -> TransportResponse:
        """Try until the head of a 2xx is there. Raises the public error of the last try."""
        calls = self.calls
        composer = calls.composer
        while True:
            request = self.request
            if self.redirected:  # the try goes on elsewhere, and its clocks with it
                self.redirected = False
            elif self.tries:  # the first began with the call
                self.try_began = self.loop.time()
            self.tries += 1
            self.incoming = None
            if self.out is not None:
                self.past = (*self.past, self.out.credentials)
            transport = calls.shared.transport(self.loop)
            clocks = self.clocks.of_try if self.clocks.fixed else self._clocks()
            try:
                usual = composer.usual(request) if self.target is None and not self.retries else None
                if usual is not None:
                    out = usual.outgoing(request.body or b"")
                else:
                    credentials = composer.fixed(request)
                    if credentials is None:
                        credentials = await self._credentials(clocks.until)
                    out = composer.outgoing(request, self.base, self.target, credentials)
                    composer.count(request, out, self.retries)
                self.out, self.usual, self.info = out, usual, None
                logged = log.logger.isEnabledFor(log.INFO)
                if logged:
                    log.sending(self)
                incoming = self.incoming = await transport.send(out, clocks)
                self.head_at = self.loop.time()
            except TransportError as caught:
                failure = caught
            else:
                if logged:
                    log.answered(self, incoming)
                if 200 <= incoming.status < 300:
                    if self.taken_back:
                        calls.shared.defaults.refused(calls.config.base, self.taken_back)
                    if calls.shared.refusing:
                        calls.shared.accepted(calls.config.base.origin)
                    return incoming
                await self.no_success(incoming)
                continue
            await self.again(failure)

    async def no_success(self, incoming: TransportResponse) -> None:
        """Have the next try follow a redirect; of any other status raise the error, or pause for the next try."""
        if incoming.status in (301, 302, 303, 307, 308):
            self.base, self.target = follow(self, incoming)
            self.tries -= 1
            incoming.abort()
            self.redirected = True
        else:
            await self._bad_status(incoming)

    async def _credentials(self, until: float | None) -> Credentials:
        composer = self.calls.composer
        if not composer.asks:
            return await composer.credentials(self.request)
        return await self.prepared(composer.credentials(self.request), until, "the api_key function took too long")

    async def prepared(self, work: Coroutine[Any, Any, T], until: float | None, why: str) -> T:
        """Return what a caller's function returns before a request: when the try ends, or the start clock, it raises.

        A try without an end of its own has a start clock that begins when the request is written; what comes before
        has as long.
        """
        clock, start = "until", self.clocks.start
        if start is not None and (until is None or self.try_began + start < until):
            clock, until = "start", self.try_began + start
        return await limited(work, until, why, clock)

    def _clocks(self) -> AttemptTimeouts:
        clocks = self.clocks
        until = self._until(clocks.first if clocks.whole is None else clocks.whole)
        return clocks.of_try._replace(until=until)

    def _until(self, seconds: float | None) -> float | None:
        """When this try ends at the latest: at the deadline, or so many seconds after its start."""
        until, self.until_clock = self.deadline_at, "deadline"
        if seconds is not None and (until is None or self.try_began + seconds < until):
            until, self.until_clock = self.try_began + seconds, "whole"
        return until

    def expect(
        self, incoming: TransportResponse, seconds: float | None, clock: str, since: float | None = None
    ) -> None:
        """Let waiting for `incoming` end `seconds` after `since` (default: now), or when the whole try ends."""
        until = self._until(self.clocks.whole)
        at = None if seconds is None else (self.loop.time() if since is None else since) + seconds
        if until is not None and (at is None or until < at):
            at, clock = until, "until"
        incoming.expire(at, clock)

    def expect_event(self, incoming: TransportResponse) -> None:
        """Let waiting for a stream's first event end with the start clock."""
        since = self.try_began if self.clocks.first is not None else self.try_began + incoming.connected
        self.expect(incoming, self.clocks.start, "start", since)

    def expect_error(self, incoming: TransportResponse) -> None:
        """Let waiting for the body of an error end soon: what has come by then will do."""
        since = self.try_began if self.clocks.first is not None else None
        self.expect(incoming, sooner(self.clocks.stall, ERROR_PATIENCE), "stall", since)

    async def _bad_status(self, incoming: TransportResponse) -> None:
        """Raise the error for a status that is no success, or pause before the next try."""
        self.refused = self.tries
        self.expect_error(incoming)
        raw = await read_error_body(incoming)
        incoming.abort()
        if incoming.status == 401 and self._renews():
            return
        error = failures.status_failure(self.meta(incoming), raw, self.tries, self.elapsed())
        if not (self.request.unasked and self._takes_back(error)):
            await self.again(error)

    @property
    def under_way(self) -> bool:
        """Whether a request may be with the server that it has not refused."""
        return self.out is not None and self.tries > self.refused

    def _takes_back(self, error: APIStatusError) -> bool:
        """Whether the server refuses what the library added by itself: the next try goes without, and is no retry."""
        changed = self.calls.shared.defaults.without(self.calls.config.base, self.request, error)
        if changed is None:
            return False
        self.request, self.taken_back = changed[0], (*self.taken_back, *changed[1])
        self.tries -= 1
        self.refused = self.tries
        self.try_began = self.loop.time()
        return True

    def _renews(self) -> bool:
        """Whether a token that was refused is had anew, once a call: it may have been withdrawn before its time."""
        renew = getattr(self.calls.config.key, "renew", None)
        if renew is None or self.renewed or self.out is None or not self.rewindable():
            return False
        self.renewed = True
        return bool(renew(self.out.credentials))

    # ---------------------------------------------------------------- failures

    def public(self, failure: TransportError) -> OpenAIError:
        """The public error for a failed exchange."""
        clock, seconds = failure.clock if failure.kind == "timeout" else None, 0.0
        if clock == "until":
            clock = self.until_clock
            if clock == "whole":
                clock = "stall" if failure.answered else "start"
        if clock is not None:
            seconds = getattr(self.clocks, clock) or 0.0
        return failures.from_transport(failure, self.where(), self.tries, self.elapsed(), clock, seconds)

    async def again(self, failure: TransportError | APIStatusError) -> None:
        """Return when the next try is due, or raise the public error. Only for what was not delivered yet."""
        if isinstance(failure, TransportError):
            if failure.kind == "upload" and failure.__cause__ is not None:
                raise failure.__cause__
            error: OpenAIError = self.public(failure)
            if self.incoming is not None:
                error.meta = self.meta(self.incoming)
            if self._dead_on_reuse(failure):
                return
            pause = backoff(self.retries) if self._may_repeat(failure) else None
        else:
            error, pause = failure, self._pause_after(failure)
        pause = self._affordable(pause, getattr(failure, "kind", "") == "timeout")
        if self.calls.shared.refusing or getattr(failure, "status_code", 0) == 429:
            self._tell_upstream(error, pause)
        if pause is None:
            raise error
        self.retries += 1
        self.retrying(error, pause)
        if pause > 0:
            await paused(self, error, pause)

    def _tell_upstream(self, error: OpenAIError, pause: float | None) -> None:
        """The server refused this call, or the call failed in another way; it is tried again after a pause, if any."""
        if isinstance(error, APIStatusError) and is_rate_limit(error.status_code, error.code, error.type):
            now = self.loop.time()
            self.calls.shared.refused(self.calls.config.base, self, now, None if pause is None else now + pause)
        else:
            self.left_upstream()

    def _dead_on_reuse(self, failure: TransportError) -> bool:
        """A reused connection that dies without a byte was closed by its idle server: one retry is free."""
        dead = failure.reused and not failure.answered and failure.kind in ("eof", "reset")
        free = dead and self.free_retry and self.rewindable()
        self.free_retry = self.free_retry and not dead
        return free

    def _may_repeat(self, failure: TransportError) -> bool:
        if failure.kind in _NEVER_RETRIED or failure.clock == "queue" or not self.rewindable():
            return False
        # What was sent whole and then timed out may have been worked on, and would be paid twice.
        paid = failure.kind == "timeout" and failure.sent
        return self.calls.config.repeat_timed_out or not paid

    def _pause_after(self, error: APIStatusError) -> float | None:
        headers = error.response.headers
        if not retryable_status(error.status_code, headers, error.code, error.type) or not self.rewindable():
            return None
        if refuses_parameter(self.request, error):
            return None
        asked = server_pause(headers, time.time())
        if asked is None:
            return backoff(self.retries)
        return asked if asked <= LONGEST_SERVER_PAUSE else None

    def rewindable(self) -> bool:
        """Whether the body can be sent again."""
        body = self.request.body
        return body is None or isinstance(body, bytes) or bool(body.rewindable)

    def _affordable(self, pause: float | None, timed_out: bool) -> float | None:
        """The pause before the next try; `None` if there is none: too many retries, the deadline, the budget."""
        request, config = self.request, self.calls.config
        most = config.max_retries if request.max_retries is None else request.max_retries
        if pause is None or self.retries >= most:
            return None
        if self.deadline_at is not None and self.loop.time() + pause >= self.deadline_at:
            return None
        return pause if self.calls.shared.budget.spend(timed_out) else None

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """The next try begins after a pause of so many seconds; this is why."""
        log.retrying(error, self, pause)

    # ---------------------------------------------------------------- who watches: nobody here, see `observe`

    def item(self, item: object) -> None:
        """A piece of the answer has come: an event, or bytes (`None`)."""

    async def answered(self, made: Callable[[], object]) -> None:
        """The call ended well; `made` gives the answer if somebody asks for it."""

    async def failed(self, error: BaseException) -> None:
        """The call ended with this error, or with the caller's cancellation. Raises what a hook raises."""

    async def handed_over(self) -> None:
        """The head of the answer is with the caller, who reads the body alone."""

    def end(self) -> None:
        """The answer was left before its end. No-op after the end."""

    def end_soon(self) -> None:
        """As `end`, from a finaliser: what it does is put off until the event loop runs."""

    # ---------------------------------------------------------------- facts

    def elapsed(self) -> float:
        """Seconds since the clocks began."""
        return self.loop.time() - self.began if self.began else 0.0

    def secrets(self) -> Secrets:
        """What was sent so far and nobody may see."""
        sent = () if self.out is None else (self.out.credentials,)
        return self.calls.composer.secrets_of(*self.past, *sent)

    def where(self) -> RequestInfo:
        """What errors show of the request."""
        if self.info is None:
            composer = self.calls.composer
            if self.usual is not None:
                self.info = self.usual.info.with_content(self.request.body or b"")
            elif self.out is not None:
                self.info = composer.info(self.out, self.base, self.secrets())
            else:
                request = self.request
                target = self.base.target(request.path)
                self.info = RequestInfo(request.endpoint.method, self.base.root, target, secrets=self.secrets())
        return self.info

    def meta(self, incoming: TransportResponse, now: float | None = None) -> Meta:
        """What is known of the call now."""
        usual = self.usual
        if now is None:
            now = self.loop.time()
        return Meta(
            incoming.status,
            incoming.raw_fields,
            self.where() if usual is None else usual.info,
            self.tries,
            self.queued,
            incoming.connected,
            self.head_at - self.try_began,
            now - self.began,
            None if usual is None else self.request.body,
        )


# -------------------------------------------------------------------------------------------------- waiting


async def admitted(call: Call, until: float | None, error: OpenAIError | None) -> Permit:
    """A permit for a call, once its server takes calls and there is a slot; up to the loop's time `until`.

    Where it cannot be had a call that is to be tried again (`error` is why) raises that error, any other
    `InFlightError` (it would wait for ever) or `APITimeoutError` with clock ``"queue"``. The slot is taken last, so
    that calls that wait for a server keep no call of another one from being sent.
    """
    shared, origin = call.calls.shared, call.calls.config.base.origin
    limiter, returning = shared.limiter, error is not None
    owner = asyncio.current_task(call.loop)
    try:
        while True:
            upstream = shared.refusing.get(origin)
            if upstream is not None and not upstream.admit(call, call.loop.time()):
                await upstream.wait(call, until=until, returning=returning)
                if shared.closed:
                    raise ClientClosedError("the client was closed while the call waited for its server")
            permit = limiter.try_acquire(owner)
            if permit is None:
                permit = await limiter.acquire(owner, until=until, family=shared.family, returning=returning)
            upstream = shared.refusing.get(origin)
            if upstream is None or upstream.admit(call, call.loop.time()):
                return permit
            limiter.release(permit)
            returning = True
    except (Deadlock, TimeoutError) as ended:
        call.left_upstream()
        if error is not None:
            raise error from None
        if isinstance(ended, Deadlock):
            raise InFlightError(limiter.advice()) from None
        seconds = call.calls.config.queue_timeout or 0.0
        message = f"no slot in flight became free within {seconds:g} s; nothing was sent"
        message = f"{message}: {limiter.advice()}" if ended.args else message
        raise APITimeoutError(call.where(), message=message, clock="queue") from None
    except BaseException:
        call.left_upstream()
        raise


async def paused(call: Call, error: OpenAIError, seconds: float) -> None:
    """Pause before a retry. The slot is free meanwhile, and is taken again before anybody who has not been sent yet.

    That counts against the deadline; where there is no slot to be had, the error that led here is raised.
    """
    shared = call.calls.shared
    permit, call.permit = call.permit, None
    if permit is not None:
        shared.limiter.release(permit)
    await shared.pause(seconds)
    patience = call.calls.config.queue_timeout
    until = call.deadline_at
    if patience is not None:
        queued = call.loop.time() + patience
        until = queued if until is None or queued < until else until
    call.permit = await admitted(call, until, error)


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def limited(work: Coroutine[Any, Any, T], until: float | None, why: str, clock: str = "until") -> T:
    """Return what `work` returns; raise `TransportError` (`why`, `clock`) at the loop's time `until`.

    `work` is a caller's function, which may swallow cancellations. It runs in a task of its own, so that the call ends
    on time whatever the function does; a function that does not end when it is cancelled is left behind.
    """
    if until is None:
        return await work
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    task = loop.create_task(work, context=context)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
    except BaseException:
        await _cancelled(task)
        raise
    if not done:
        await _cancelled(task)
        late = TransportError("timeout", why, clock=clock)
        late.by_caller = True
        raise late
    for variable, value in context.items():  # what the function has set holds for its caller, as in a plain `await`
        if variable.get(_UNSET) is not value:
            variable.set(value)
    return task.result()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and let it end, up to a moment."""
    task.cancel()
    task.add_done_callback(_retrieved)
    await asyncio.wait({task}, timeout=CANCEL_PATIENCE)


def _retrieved(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # its caller has left
