"""One call: the driver of everything that is sent, from the slot in flight to the end of the answer.

`Call.run` is the only place where a slot is acquired, an attempt is made, and the retry policy is asked. Its `receive`
function handles a 2xx: it decodes the body, starts a stream, or hands the response over. A call ends with what
`receive` returns, with the public error of its last attempt, or with the caller's cancellation, which releases socket
and slot at once.

    waiting ── acquire ──▶ sending ── head of a 2xx ──▶ receiving ──▶ answered    slot and connection are free
       ▲                     │  ▲                          │    └───▶ taken over  a stream holds both until it is closed
       │                     ▼  │ redirect, `Resend`       │ `TransportError`, an error object in a 2xx
       └─── `Retry` ◀────── decide ◀───────────────────────┘
        the slot is free       └── `GiveUp` ──▶ failed
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from types import CoroutineType, MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from msgspec.structs import replace

from ..core.codec.endpoint import Request
from ..core.model.headers import Headers
from ..core.model.meta import Meta, RequestInfo
from ..core.model.secrets import Secrets
from ..core.policy.limits import Deadlock, Permit
from ..core.policy.retry import Failure, GiveUp, Resend, Retry, RetryFacts, decide, is_lost_idle
from ..errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    InFlightError,
    OpenAIError,
)
from ..lazy import resolve_annotations
from ..transport.base import (
    AttemptTimeouts,
    Credentials,
    TransportError,
    TransportRequest,
    TransportResponse,
    earlier,
)
from . import failures
from .balance import Health, choose
from .body import read_error_body
from .callback import limited
from .config import BaseURL, CallTimeouts, RenewableKey, sooner, timeouts_for
from .observers import NOBODY, Observers, logger
from .sealing import seal
from .upstream import Upstream, refuses_parameter

if TYPE_CHECKING:
    from ..core.policy.admission import ModelPace
    from .engine import Engine
    from .prepare import PreparedRequest

__all__ = ["Call", "Receive"]

T = TypeVar("T")

ERROR_PATIENCE = 10.0  # seconds
_INFO = 20  # logging.INFO
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PLAIN = frozenset({bytes, type(None)})  # bodies that need no file to be opened

Receive: TypeAlias = Callable[["Call", TransportResponse], Coroutine[Any, Any, T] | T]
"""Turns a 2xx into the result of the call. It may be a plain function if it need not wait.

A `TransportError` that it raises is a failure of the attempt, as is an error object that the server sent; it must not
have delivered anything then. It calls `Call.keep` if its result continues to read the response.
"""


class Call:
    """The state of one call, and its driver. Use: ``await Call(engine, request).run(receive)``."""

    # Attributes that most calls neither change nor read default on the class, at no cost to them. The others are set in
    # `__init__`: a default on the class costs several times as much to read.
    moved: tuple[BaseURL, str] | None
    """Base and target that a redirect led to."""
    kept: bool
    """Whether the answer is read after `run` has returned: a stream has taken over slot and connection."""
    reader: object = None
    """The task that reads the kept response."""
    out: TransportRequest | None = None
    """The request of the attempt under way, or of the last one."""
    plain: bool
    """Whether `out` was made from the prepared request."""
    info: RequestInfo | None = None
    past: tuple[Credentials, ...] = ()
    """The credentials of earlier attempts: a response may echo them."""
    attempts: int
    retries: int = 0
    redirects: int = 0
    may_reconnect: bool = True
    """Whether the immediate retry after a lost idle connection was not used yet."""
    renewed: bool = False
    """Whether a rejected token was renewed: tokens may be revoked before they expire; one renewal is tried per call."""
    refused: int = 0
    """The number of attempts made when the server last refused one."""
    taken_back: tuple[str, ...]
    """Defaults of this library that were removed from the request, as the server seems to refuse them."""
    failure: OpenAIError | None
    """How the last exchange failed, until a 2xx arrives."""
    reason: str | None = None
    """The same as the kind of its `TransportError`."""
    last_meta: Meta | None = None
    """Of the last response of whatever status, for observers."""
    requested_headers: Mapping[str, Any] = MappingProxyType({})
    """Header fields that the caller named, for observers."""
    extra: dict[str, Any]
    """Header fields that observers add to the next attempt; `None` removes one."""
    failed_at: tuple[Engine, ...] = ()
    """The engines of the attempts that failed, where the client has several servers."""
    health: Health | None
    """The state of the call's server, where the client has several."""
    tokens: float = 0.0
    """Tokens booked for the call, the event loop's time from which it may be sent, and the limits of its model that
    it was booked against: see `PacedCalls`."""
    paced_at: float = 0.0
    pace: ModelPace | None = None
    began: float = 0.0
    attempt_began: float = 0.0
    head_at: float = 0.0
    until_clock: str = "deadline"
    deadline_at: float | None = None

    def __init__(self, engine: Engine, request: Request, timeouts: CallTimeouts | None = None) -> None:
        """Create a call; `timeouts` replaces those of the engine's configuration and of the request."""
        self.engine: Engine = engine
        self.request: Request = request
        self.upstream: Upstream = engine.upstream
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.prepared: PreparedRequest = engine.prepared(request)
        if timeouts is None:
            timeouts = timeouts_for(engine.config, request) if request.has_clocks else self.prepared.timeouts
        self.timeouts: CallTimeouts = timeouts
        self.permit: Permit | None = None
        self.response: TransportResponse | None = None
        self.moved = self.failure = self.health = None
        self.kept = self.plain = False
        self.attempts = 0
        self.taken_back = ()
        self.queued: float = 0.0
        self.observers: Observers = NOBODY
        if engine.config.observers or request.hooks is not None or logger.isEnabledFor(_INFO):
            from .hooks import ActiveObservers  # most clients have none

            self.observers = ActiveObservers(self)

    # ---------------------------------------------------------------- the driver

    async def run(self, receive: Receive[T], *, failure: TransportError | None = None, shown: bool = True) -> T:
        """Run the call and return what `receive` makes of a 2xx, after as many attempts as the retry policy allows.

        A stream that breaks before anything was delivered is passed in again with its `failure`. `shown` says whether
        observers see the result of `receive`.

        Raises `OpenAIError`; `OSError` for an upload's file that cannot be read; the exceptions of `receive`.
        """
        if self.engine.others and self.balanced:  # usually there is one server: no property to call then
            self._choose()
        observers, upstream, pace = self.observers, self.upstream, self.engine.shared.pace
        broken: TransportError | APIError | None = failure
        error: OpenAIError | None = None  # why there is another attempt
        try:
            while True:
                if broken is not None:
                    error, upstream = await self._next(broken), self.upstream
                if self.permit is None:
                    # Fast path without a coroutine: a slot is free, and there is no file to open first. Together with
                    # the prepared request of `_send` it saves about 10 µs of the 50 that a small call takes.
                    if not upstream.refusals and pace is None and self.request.body.__class__ in _PLAIN:
                        self.permit = self.engine.shared.limiter.slots.try_acquire(asyncio.current_task(self.loop))
                    if self.permit is None:
                        await self._acquire(error)
                    elif error is None:
                        self.began = self.attempt_began = began = self.loop.time()
                        if (deadline := self.timeouts.deadline) is not None:
                            self.deadline_at = began + deadline
                broken = None
                try:
                    response = self.response = await self._send()
                    self.head_at = self.loop.time()
                    if observers is not NOBODY:
                        observers.responded(response)
                    if 200 <= response.status < 300 or response.status == 101:  # 101: a WebSocket is open
                        upstream.observe(self)
                        if self.failure is not None:
                            self.failure = self.reason = None
                        made: Any = receive(self, response)
                        value: T = await made if made.__class__ is CoroutineType else made
                        break
                    broken = await self._refused(response)
                except TransportError as caught:
                    broken = caught
                except APIError as caught:
                    if not self.request.unasked or isinstance(caught, APIStatusError):
                        raise
                    broken = caught  # a 2xx with an error, perhaps about a default that this library added
            if self.request.unasked or self.taken_back:
                upstream.settle(self)
            if pace is not None:
                pace.answered(self, value, self.meta(response))
            if not self.kept:
                self.release()
                if observers is not NOBODY:
                    await observers.answered((lambda: value) if shown else _nothing)
            return value
        except BaseException as caught:
            await self._failed(caught)
            raise

    async def _next(self, broken: TransportError | APIError) -> OpenAIError:
        """Wait until the next attempt is due and return its reason, or raise the public error if there is no further
        attempt."""
        if isinstance(broken, TransportError):
            if broken.kind == "upload" and broken.__cause__ is not None:
                raise broken.__cause__
            error: OpenAIError = self.public(broken)
            if self.response is not None:
                error.meta = self.meta(self.response)
        else:
            error = broken
        response, self.response = self.response, None
        self.kept = False
        if response is not None:
            response.abort()
        if self.engine.shared.pace is not None:
            self.engine.shared.pace.failed(self, error)
        described = _described(broken)
        facts = self._facts(described, error)
        if is_lost_idle(described):
            self.may_reconnect = False
        match decide(described, facts):
            case Resend():
                self.observers.retrying(error, 0.0)
            case Retry(after, cost):
                self.upstream.budget.spend(cost)
                self.upstream.observe(self, error, self.loop.time() + after)
                self.retries += 1
                if self.balanced:
                    self.failed_at = (*self.failed_at, self.engine)
                    if self._choose():
                        after = 0.0
                self.observers.retrying(error, after)
                permit = self.permit
                if after > 0 and permit is not None:
                    self.permit = None  # it is free meanwhile
                    self.engine.shared.limiter.release(permit)
                if after > 0:
                    await self.engine.shared.pause(after)
            case GiveUp():
                self.upstream.observe(self, error)
                raise error
        self.attempt_began = self.loop.time()
        return error

    @property
    def balanced(self) -> bool:
        """Whether any of several servers may be sent the request."""
        return bool(self.engine.others) and bool(self.request.endpoint.group)

    def observe_health(self) -> None:
        """Record load, latency and failures of the call's server, though there is no other one to choose."""
        self.health = self.upstream.health
        self.health.started(self)

    def _choose(self) -> bool:
        """Choose one of several servers for the next attempt; return whether it differs from the last one."""
        known = self.engine
        engine = choose((known, *known.others), self.loop.time(), self.failed_at)
        if self.health is not None:
            self.health.left(self)
        self.health = engine.upstream.health
        self.health.started(self)
        if engine is known:
            return False
        self.engine, self.upstream, self.moved = engine, engine.upstream, None
        self.prepared = engine.prepared(self.request)
        return True

    def _facts(self, failure: Failure, error: OpenAIError) -> RetryFacts:
        """Return the facts for the retry policy, renewing a rejected token and removing a refused default first."""
        request, config = self.request, self.engine.config
        status = failure.kind == "status"
        renewed = failure.status == 401 and self._renew_token()
        removed = not renewed and bool(request.unasked) and isinstance(error, APIError) and self._remove_default(error)
        return RetryFacts(
            now=time.time(),
            random=random.random(),
            retries=self.retries,
            max_retries=config.max_retries if request.max_retries is None else request.max_retries,
            left=None if self.deadline_at is None else self.deadline_at - self.loop.time(),
            tokens=self.upstream.budget.tokens,
            rewindable=self.rewindable(),
            may_reconnect=self.may_reconnect,
            repeat_timed_out=config.repeat_timed_out,
            token_renewed=renewed,
            default_removed=removed,
            hopeless=status and isinstance(error, APIError) and refuses_parameter(request, error),
        )

    def _renew_token(self) -> bool:
        """Discard a rejected token, at most once per call; return whether a new one is available."""
        key = self.engine.config.key
        if self.renewed or self.out is None or not self.rewindable() or not isinstance(key, RenewableKey):
            return False
        self.renewed = True
        return key.renew(self.out.credentials)

    def _remove_default(self, error: APIError) -> bool:
        """Remove a default that this library added to the request, if the error is about it."""
        changed = self.upstream.without(self.request, error)
        if changed is None:
            return False
        self.request, self.taken_back = changed[0], (*self.taken_back, *changed[1])
        self.attempts -= 1
        self.refused = self.attempts
        return True

    def rewindable(self) -> bool:
        """Return whether the body can be sent again."""
        body = self.request.body
        return body is None or isinstance(body, bytes) or bool(body.rewindable)

    # ---------------------------------------------------------------- the slot

    async def _acquire(self, error: OpenAIError | None) -> None:
        """Wait for a slot, once the server takes calls; the timers begin after it.

        A call that is retried because of `error` goes before calls that have not been sent, and raises that error if it
        gets no slot in time. Any other call raises `InFlightError` (it would wait for ever) or `APITimeoutError` with
        clock ``"queue"``. The slot is taken last, so that calls that wait for one server do not keep calls to another
        one from being sent.
        """
        if error is None and self.request.body is not None and not isinstance(self.request.body, bytes):
            from .uploads import with_upload  # only uploads need it

            self.request = await with_upload(self.request)
        shared, upstream, loop = self.engine.shared, self.upstream, self.loop
        limiter, returning, owner = shared.limiter, error is not None, asyncio.current_task(loop)
        began = loop.time()
        patience = self.engine.config.queue_timeout
        until = None if error is None else self.deadline_at
        if patience is not None:
            until = began + patience if until is None else min(until, began + patience)
        try:
            if shared.pace is not None:
                await shared.pace.wait(self, until)
            while True:
                if not upstream.admit(self, loop.time()):
                    await upstream.wait(self, until=until, returning=returning)
                    if shared.closed:
                        raise ClientClosedError("the client was closed while the call waited for its server")
                permit = limiter.try_acquire(owner)
                if permit is None:
                    permit = await limiter.acquire(owner, until=until, family=shared.family, returning=returning)
                if upstream.admit(self, loop.time()):
                    break
                limiter.release(permit)
                returning = True
        except (Deadlock, TimeoutError) as ended:
            upstream.left(self)
            if error is not None:
                raise error from None
            raise self._no_slot(ended) from None
        except BaseException:
            upstream.left(self)
            raise
        self.permit = permit
        self.attempt_began = now = loop.time()
        if error is None:
            self.began, self.queued = now, now - began
            if (deadline := self.timeouts.deadline) is not None:
                self.deadline_at = now + deadline

    def _no_slot(self, ended: BaseException) -> OpenAIError:
        limiter = self.engine.shared.limiter
        if isinstance(ended, Deadlock):
            return InFlightError(limiter.advice())
        message = (
            f"no slot in flight became free within {self.engine.config.queue_timeout or 0.0:g} s; nothing was sent"
        )
        message = f"{message}: {limiter.advice()}" if ended.args else message
        return APITimeoutError(self.where(), message=message, clock="queue")

    def keep(self) -> None:
        """Leave slot and connection to the result of `receive`, which calls `release`."""
        self.kept = True
        permit, response = self.permit, self.response
        if permit is not None and response is not None:
            response.reader = permit.owner

    def transfer(self) -> None:
        """Make the running task the slot's owner for deadlock detection: it reads the answer from now on."""
        self.reader = owner = asyncio.current_task(self.loop)
        permit, response = self.permit, self.response
        if permit is not None and permit.owner is not owner:
            self.engine.shared.limiter.slots.transfer(permit, owner)
        if response is not None:
            response.reader = owner

    def release(self) -> None:
        """Release the slot, and drop the connection if the response has not ended. Idempotent."""
        response, self.response = self.response, None
        try:
            if response is not None and not response.ended:
                response.abort()
        finally:  # even if the socket cannot be closed because its loop is closed
            if self.health is not None:
                self.health.left(self)
                self.health = None
            permit, self.permit = self.permit, None
            if permit is not None:
                limiter = self.engine.shared.limiter
                waiter = limiter.slots.release(permit)
                if waiter is not None:
                    limiter.wake(waiter)
            if self.upstream.probe is self:
                self.upstream.left(self)
            if self.observers is not NOBODY:
                self.observers.released(response)

    def abandon(self) -> None:
        """Release from a finalizer, which may run in any thread: sockets belong to the thread of their loop."""
        with contextlib.suppress(RuntimeError):  # the event loop may be gone
            if self.loop.is_running() and not _runs_here(self.loop):
                self.loop.call_soon_threadsafe(self.release)
                return
        with contextlib.suppress(RuntimeError):
            self.release()

    async def _failed(self, error: BaseException) -> None:
        """Release everything, notify the observers, and remove secrets from the error and its traceback."""
        self.release()
        if self.observers is not NOBODY:
            try:
                await self.observers.failed(error)
            except BaseException as another:
                seal(another, self.secrets())
                raise
        seal(error)

    # ---------------------------------------------------------------- an attempt

    def _send(self) -> Coroutine[Any, Any, TransportResponse]:
        """Send the request and return an awaitable of its response head.

        Nearly every first attempt uses a prepared request, in which only the body is new.
        """
        request, timeouts = self.request, self.timeouts
        prepared = self.prepared.out
        if (
            prepared is None
            or self.attempts
            or self.moved is not None
            or self.observers is not NOBODY
            or request.path != request.endpoint.path
            or request.body.__class__ not in _PLAIN
        ):
            return self._compose_and_send()
        if request.headers is None:
            self.plain = True
            out = prepared.__copy__()
        else:
            extended = self.engine.builder.extended(self.prepared, request.headers)
            if extended is None:
                return self._compose_and_send()
            out = extended
        self.attempts = 1
        self.out = out
        out.body = request.body or b""
        if request.idempotency_key is not None:
            out.add_field("Idempotency-Key", request.idempotency_key)
        until = timeouts.of_attempt if timeouts.fixed else self._attempt_timeouts()
        return self.engine.shared.transport(self.loop).send(out, until)

    async def _compose_and_send(self) -> TransportResponse:
        """Send an attempt off the fast path: with a key function, hooks, a retry or a redirect."""
        engine, request = self.engine, self.request
        builder, observers = engine.builder, self.observers
        self.attempts += 1
        self.response = None
        if self.out is not None:
            self.past = (*self.past, self.out.credentials)
        transport = engine.shared.transport(self.loop)
        timeouts = self._attempt_timeouts()
        if observers is not NOBODY:
            await self.prepared_by(observers.sending(), timeouts.until, "the on_request hook took too long")
            request = self.request
        credentials = builder.fixed(request)
        if credentials is None:
            made = builder.credentials(request)
            if builder.asks:
                credentials = await self.prepared_by(made, timeouts.until, "the api_key function took too long")
            else:
                credentials = await made
        base, target = self.moved or (engine.config.base, None)
        self.out = out = builder.outgoing(request, base, target, credentials, self.prepared)
        builder.count(request, out, self.retries)
        if request.idempotency_key is not None:
            out.add_field("Idempotency-Key", request.idempotency_key)
        self.plain, self.info = False, None
        if observers is not NOBODY:
            observers.sent()
        return await transport.send(out, timeouts)

    async def _refused(self, response: TransportResponse) -> APIStatusError | None:
        """Return the error for an unsuccessful status; `None` if the next attempt follows a redirect."""
        if response.status in REDIRECTS:
            self.redirects += 1
            led = self._destination(response)
            if isinstance(led, str):
                raise failures.refused_redirect(self.meta(response), led, self.attempts, self.elapsed())
            self.moved = led
            self.attempts -= 1
            response.abort()
            return None
        self.refused = self.attempts
        self.expect_error(response)
        raw = await read_error_body(response)
        response.abort()
        return failures.status_failure(self.meta(response), raw, self.attempts, self.elapsed())

    def _destination(self, response: TransportResponse) -> tuple[BaseURL, str] | str:
        """Return where a redirect leads, or why it is not followed.

        The key and the prompt never cross an origin, and a POST never becomes a GET: 307 and 308 keep the method, while
        after 301, 302 and 303 other clients send a GET (RFC 9110, section 15.4), which is a different request from the
        caller's.
        """
        config, here = self.engine.config, self.base
        if self.redirects > config.max_redirects:
            return f"the redirect after {config.max_redirects} redirects is not followed (http_max_redirects)"
        location = Headers(response.raw_fields).get("location")
        if not location:
            return "a redirect without a Location"
        led = here.joined(self.target, location)
        if led is None:
            return "a redirect to something that is not an http URL"
        base = led[0]
        method, body = self.request.endpoint.method, self.request.body
        if method not in ("GET", "HEAD") and response.status in (301, 302, 303):
            return f"a {method} is redirected in a way that would make it a GET: set api_base to where it leads"
        if not self.rewindable():
            return "an upload whose file cannot be rewound is not sent again: set api_base to where it leads"
        if base.origin != here.origin:
            if config.same_origin:
                return "a redirect to another origin is left to the client"
            if body is not None or (self.out is not None and self.out.credentials):
                return "a redirect to another origin is not followed with a key or a body: set api_base to it"
            if here.origin.scheme == "https" and base.origin.scheme == "http":
                return "a redirect from https to http is not followed"
        return led

    async def prepared_by(self, work: Coroutine[Any, Any, T], until: float | None, why: str) -> T:
        """Return the result of a caller's function that runs before a request, limited by the attempt or start timeout.

        Without a timeout for the whole attempt the start timeout begins when the request is written; the function gets
        the same time before that.
        """
        start = self.timeouts.start
        until, clock = earlier(until, "until", None if start is None else self.attempt_began + start, "start")
        return await limited(work, until, why, clock)

    # ---------------------------------------------------------------- timeouts

    def _attempt_timeouts(self) -> AttemptTimeouts:
        timeouts = self.timeouts
        if timeouts.fixed:
            return timeouts.of_attempt
        until = self._until(timeouts.first if timeouts.whole is None else timeouts.whole)
        return replace(timeouts.of_attempt, until=until)

    def _until(self, seconds: float | None) -> float | None:
        """Return the latest end of this attempt: the deadline, or its timeout after its start."""
        until, self.until_clock = self.deadline_at, "deadline"
        if seconds is not None and (until is None or self.attempt_began + seconds < until):
            until, self.until_clock = self.attempt_began + seconds, "whole"
        return until

    def expect(
        self, response: TransportResponse, seconds: float | None, clock: str, since: float | None = None
    ) -> None:
        """Set the read deadline: `seconds` after `since` (default: now), or the end of the whole attempt."""
        until = self._until(self.timeouts.whole)
        at = None if seconds is None else (self.loop.time() if since is None else since) + seconds
        if until is not None and (at is None or until < at):
            at, clock = until, "until"
        response.expire(at, clock)

    def expect_event(self, response: TransportResponse) -> None:
        """Set the read deadline for the first event of a stream: the start timeout covers it."""
        since = self.attempt_began if self.timeouts.first is not None else self.attempt_began + response.connected
        self.expect(response, self.timeouts.start, "start", since)

    def expect_error(self, response: TransportResponse) -> None:
        """Set a short read deadline for an error body, of which a part is enough."""
        since = self.attempt_began if self.timeouts.first is not None else None
        self.expect(response, sooner(self.timeouts.stall, ERROR_PATIENCE), "stall", since)

    # ---------------------------------------------------------------- facts

    @property
    def base(self) -> BaseURL:
        """The base of the attempt under way."""
        return self.engine.config.base if self.moved is None else self.moved[0]

    @property
    def target(self) -> str:
        """The request target of the attempt under way."""
        return self.engine.config.base.target(self.request.path) if self.moved is None else self.moved[1]

    @property
    def under_way(self) -> bool:
        """Whether the server may have received a request that it has not refused."""
        return self.out is not None and self.attempts > self.refused

    def public(self, failure: TransportError) -> OpenAIError:
        """Return the public error for a failed exchange."""
        clock, seconds = failure.clock if failure.kind == "timeout" else None, 0.0
        if clock == "until":
            clock = self.until_clock
            if clock == "whole":
                clock = "stall" if failure.answered else "start"
        if clock is not None:
            seconds = getattr(self.timeouts, clock) or 0.0
        error = failures.from_transport(failure, self.where(), self.attempts, self.elapsed(), clock, seconds)
        self.failure, self.reason = error, failure.kind
        return error

    def lost(self, failure: TransportError) -> OpenAIError:
        """Return the public error for a response that broke after it was handed over, which its server's state
        records."""
        error = self.public(failure)
        self.upstream.observe(self, error)
        return error

    def elapsed(self) -> float:
        """Return the seconds since the call began."""
        return self.loop.time() - self.began if self.began else 0.0

    def secrets(self) -> Secrets:
        """Return the secrets sent so far."""
        sent = () if self.out is None else (self.out.credentials,)
        return self.engine.builder.secrets_of(*self.past, *sent)

    def where(self) -> RequestInfo:
        """Return the view of the request that errors show."""
        if self.info is None:
            builder = self.engine.builder
            if self.plain and self.prepared.info is not None:
                self.info = self.prepared.info.with_content(self.request.body or b"")
            elif self.out is not None:
                self.info = builder.info(self.out, self.base, self.secrets())
            else:
                method = self.request.endpoint.method
                self.info = RequestInfo(method, self.base.root, self.target, secrets=self.secrets())
        return self.info

    def meta(self, response: TransportResponse, now: float | None = None) -> Meta:
        """Return the metadata of the call; `now` is the event loop's time, if known."""
        info = self.prepared.info if self.plain else None
        if now is None:
            now = self.loop.time()
        meta = Meta(
            response.status,
            response.raw_fields,
            info or self.where(),
            self.attempts,
            self.queued,
            response.connected,
            self.head_at - self.attempt_began,
            now - self.began,
            None if info is None else self.request.body,
        )
        if self.observers is not NOBODY:
            self.last_meta = meta
        return meta


def _nothing() -> None:
    return None


def _described(broken: TransportError | APIError) -> Failure:
    """Return a failure as the retry policy's type."""
    if isinstance(broken, TransportError):
        clock, reused = broken.clock, broken.reused
        return Failure(broken.kind, clock=clock, reused=reused, sent=broken.sent, answered=broken.answered)
    if isinstance(broken, APIStatusError):
        return Failure("status", broken.status_code, broken.response.headers, broken.code, broken.type)
    return Failure("answer")


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


resolve_annotations(__name__)
