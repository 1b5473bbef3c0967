"""Pace plain calls by limits on requests and tokens per minute, and read the limits in responses.

A call that would exceed a limit is scheduled in order of arrival and sleeps until its time; only then does it take a
slot. Nothing is counted twice: an attempt after a pause is booked as another request, an immediate one is not. Tokens
are booked by an estimate and corrected by the answer's usage; for streams the estimate stays.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ..core.codec.dialects import tells_limit
from ..core.model.meta import Meta, RateLimits
from ..core.policy.admission import ModelPace, ModelPaces, RateLimitRefusal
from ..core.policy.estimate import TokenEstimate, Usage, model_of, usage_of
from ..core.policy.leasing import Share
from ..core.policy.limits import Limits
from ..core.policy.pacing import Pacer
from ..core.policy.retry import is_rate_limit, server_pause
from ..errors import APIStatusError, OpenAIError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..budget.leases import Leases
    from .call import Call
    from .upstream import Upstream

__all__ = ["Pace", "PacedCalls", "learn_limits", "limits_of", "pause_of", "refusal_of"]

_MOST_SERVERS = 64


def limits_of(meta: Meta | None) -> RateLimits | None:
    """Return the limits that the header fields of a response state; `None` without any."""
    return meta.rate_limits if meta is not None and meta.has_rate_limits else None


def pause_of(error: OpenAIError) -> float | None:
    """Return the pause in seconds that the server asks for; `None` if it asks for none."""
    return server_pause(error.response.headers, time.time()) if isinstance(error, APIStatusError) else None


def refusal_of(error: APIStatusError, limits: RateLimits | None) -> RateLimitRefusal:
    """Return the reason for a 429, from its error object, then its message, then its header fields."""
    named_limit = str(error.type or error.code or "").lower()
    kind: Any = named_limit if named_limit in ("tokens", "requests") else tells_limit(error)
    if not kind and limits is not None:
        used = [name for name in ("requests", "tokens") if getattr(limits, name).remaining == 0]
        kind = used[0] if len(used) == 1 else ""
    return RateLimitRefusal(kind, pause_of(error))


def learn_limits(now: float, pace: ModelPace, limits: RateLimits | None, share: Share | None = None) -> None:
    """Adjust the pace of a model, and the budget that processes share, to the limits in a response."""
    if limits is None:
        return
    for pacer, state in ((pace.requests, limits.requests), (pace.tokens, limits.tokens)):
        if state.limit is not None:
            pacer.headers.see(now, *state, state.window)
            pacer.changed(now)
    if share is not None:
        share.header_limits(pace.requests.headers.rate, pace.tokens.headers.rate)


class Pace:
    """The user's limits, as they are kept in this process.

    With shared limits, `leases` are the slices of this worker; the calls of its event loop wait for them in order.
    """

    lasting: bool = False

    def __init__(self, requests: Pacer, tokens: Pacer, leases: Leases | None = None) -> None:
        self.requests: Pacer = requests
        self.tokens: Pacer = tokens
        self.leases: Leases | None = leases
        self._queue: OrderedDict[object, asyncio.Future[None]] = OrderedDict()
        self._booked = 0  # calls since the last lease

    @property
    def share(self) -> Share | None:
        """The part of the limits that other processes share, if any."""
        return None if self.leases is None else self.leases.share

    @property
    def due(self) -> float:
        """When the next request may be sent; ``inf`` where a slice has to be leased first."""
        return max(self.requests.due, self.tokens.due)

    def book(self, now: float, tokens: float) -> None:
        """Note that a request is sent."""
        self.requests.book(now, 1.0)
        self.tokens.book(now, tokens)
        self._booked += 1

    async def slice(self, call: Call, leases: Leases) -> None:
        """Wait for a slice with a request left. Raises as `Leases.join` does, and `ClientClosedError`."""
        shared, share = call.engine.shared, leases.share
        shared.admit(leases)
        if not leases.joined:
            await leases.join()
            share = leases.share
        leases.attach(self)
        if not self._queue and share.due < math.inf:
            return
        turn = object()
        self._queue[turn] = ticket = call.loop.create_future()
        leases.attach(self)
        try:
            while True:
                await shared.wait(ticket)
                if share.due < math.inf:
                    return
                self._queue[turn] = ticket = call.loop.create_future()
        finally:
            del self._queue[turn]
            self.granted()

    def rows(self) -> float:
        """Return how many calls wait, or were sent since the last lease: others like them will follow."""
        rows, self._booked = max(len(self._queue), self._booked), 0
        return float(rows)

    def granted(self) -> None:
        """Wake the call that is next."""
        if self._queue and self.due < math.inf:
            ticket = next(iter(self._queue.values()))
            if not ticket.done():
                ticket.set_result(None)


class PacedCalls:
    """The pace of all calls that share one `Limits`, over all clients and event loops.

    The user's limits count all calls together; those learned from a server count its calls for one model.
    """

    def __init__(self, limits: Limits) -> None:
        """Raises `ConfigurationError` if the URL of shared limits cannot be used."""
        self._limits = limits
        self._paces: dict[asyncio.AbstractEventLoop, Pace] = {}  # of shared limits
        self._pace: Pace | None = None
        if limits.shared is None:
            self._pace = Pace(Pacer(limits.rpm), Pacer(limits.tpm))
        else:
            from ..budget.leases import open_budget

            open_budget(limits.shared.reveal())
        self.is_shared: bool = limits.shared is not None
        """Whether other processes share these limits."""
        self._servers: dict[tuple[str, str], ModelPaces] = {}
        self._estimate = TokenEstimate()

    def pace(self, loop: asyncio.AbstractEventLoop) -> Pace:
        """Return the pace of the calls of this event loop, which is running."""
        if self._pace is not None:
            return self._pace
        pace = self._paces.get(loop)
        if pace is None:
            from ..budget.leases import Leases, open_budget

            assert self._limits.shared is not None
            for old in [old for old in self._paces if old.is_closed()]:
                del self._paces[old]
            leases = Leases(open_budget(self._limits.shared.reveal()), self._limits.rpm, self._limits.tpm)
            pace = self._paces[loop] = Pace(leases.share.requests, leases.share.tokens, leases)
        return pace

    def expected_wait(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return the seconds until a call may be sent, negative for one that may be sent now."""
        pace = self.pace(loop)
        due = pace.due
        if due == math.inf and pace.share is not None:
            due = pace.share.lease_at
        return due - loop.time()

    def models(self, upstream: Upstream) -> ModelPaces:
        """Return what was learned about a server's limits, by model."""
        key = (upstream.base.root, upstream.base.path)
        known = self._servers.get(key)
        if known is None:
            if len(self._servers) >= _MOST_SERVERS:
                del self._servers[next(iter(self._servers))]
            known = self._servers[key] = ModelPaces()
        return known

    async def wait(self, call: Call, until: float | None) -> None:
        """Wait until the call may be sent, and book it. Raises `TimeoutError` at once if that is after `until`.

        With limits that processes share it raises `SharedLimitsError` and `ConfigurationError`, too.
        """
        loop = call.loop
        model = call.pace = self.models(call.upstream).of(model_of(call.request.body))
        pace, cost = self.pace(loop), self._estimate.of(call.request.body)
        while True:
            if pace.leases is not None:
                async with asyncio.timeout_at(until):
                    await pace.slice(call, pace.leases)
            now = loop.time()
            at = max(pace.due, model.due)
            if until is not None and at > until:
                raise TimeoutError
            pace.book(now, cost)
            model.book(now, cost)
            call.tokens, call.paced_at = cost, max(at, now)
            if at <= now:
                return
            try:
                await call.engine.shared.pause(at - now)
            except BaseException:
                self._return(call, pace, model)
                raise
            # A pause that the server has asked for meanwhile also holds for calls scheduled before.
            if max(pace.requests.held, pace.tokens.held, model.held) <= loop.time():
                call.paced_at = loop.time()
                return
            self._return(call, pace, model)

    def _return(self, call: Call, pace: Pace, model: ModelPace) -> None:
        pace.requests.correct(1.0, 0.0)
        pace.tokens.correct(call.tokens, 0.0)
        model.returned(call.tokens)

    def answered(self, call: Call, value: Any, meta: Meta | None) -> None:
        """Record a successful call."""
        now, usage, model, pace = call.loop.time(), usage_of(value), call.pace, self.pace(call.loop)
        spent = call.tokens if usage is None else usage.input + usage.output
        if usage is not None:
            self._estimate.seen(call.request.body, usage)
        pace.tokens.correct(call.tokens, spent)
        if model is not None:
            learn_limits(now, model, limits_of(meta), pace.share)
            model.answered(now, call.tokens, spent)

    def settle(self, call: Call, usage: Usage) -> None:
        """Correct what was booked for an answered call whose usage was not known then: that of a forwarded answer."""
        spent = float(usage.input + usage.output)
        self._estimate.seen(call.request.body, usage)
        self.pace(call.loop).tokens.correct(call.tokens, spent)
        if call.pace is not None:
            call.pace.tokens.correct(call.tokens, spent)
        call.tokens = spent

    def failed(self, call: Call, error: OpenAIError) -> None:
        """Record a failed attempt."""
        if not isinstance(error, APIStatusError) or not is_rate_limit(error.status_code, error.code, error.type):
            return
        now, limits, model, pace = call.loop.time(), limits_of(error.meta), call.pace, self.pace(call.loop)
        pace.tokens.correct(call.tokens, 0.0)
        if model is None:
            return
        learn_limits(now, model, limits, pace.share)
        refusal = refusal_of(error, limits)
        if refusal.kind in ("slots", "tokens"):
            pace.requests.correct(1.0, 0.0)
        if refusal.kind == "slots":
            model.tokens.correct(call.tokens, 0.0)
        elif pace.share is not None:
            model.returned(call.tokens)
            pace.share.refused(now, refusal.kind, call.paced_at, refusal.retry_after)
        else:
            model.refused(now, call.paced_at, call.tokens, refusal.kind, refusal.retry_after)


resolve_annotations(__name__)
