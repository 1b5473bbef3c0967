"""Pace plain calls by limits on requests and tokens per minute, and read the limits in responses.

A call that would exceed a limit is scheduled in order of arrival and sleeps until its time; only then does it take a
slot. Nothing is counted twice: an attempt after a pause is booked as another request, an immediate one is not. Tokens
are booked by an estimate and corrected by the answer's usage; for streams the estimate stays.
"""

from __future__ import annotations

import asyncio
import math
import time
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

__all__ = ["PacedCalls", "learn_limits", "limits_of", "pause_of", "refusal_of"]

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
        share.states(pace.requests.headers.rate, pace.tokens.headers.rate)


class PacedCalls:
    """The pace of all calls that share one `Limits`, over all clients and event loops.

    The user's limits count all calls together; those learned from a server count its calls for one model.
    """

    def __init__(self, limits: Limits) -> None:
        self.leases: Leases | None = None
        """The leases of slices, where other processes share these limits."""
        if limits.shared is None:
            self.requests: Pacer = Pacer(limits.rpm)
            self.tokens: Pacer = Pacer(limits.tpm)
        else:
            from ..budget.leases import Leases

            self.leases = Leases(limits.shared.reveal(), limits.rpm, limits.tpm)
            self.requests, self.tokens = self.leases.share.requests, self.leases.share.tokens
        self._waiting = 0  # calls
        self._servers: dict[tuple[str, str], ModelPaces] = {}
        self._estimate = TokenEstimate()

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
        """Wait until the call may be sent, and book it. Raises `TimeoutError` at once if that is after `until`."""
        loop = call.loop
        pace = call.pace = self.models(call.upstream).of(model_of(call.request.body))
        cost = self._estimate.of(call.request.body)
        while True:
            if self.leases is not None:
                await self._lease(self.leases, call, until)
            now = loop.time()
            at = max(self.requests.due, self.tokens.due, pace.due)
            if until is not None and at > until:
                raise TimeoutError
            self.requests.book(now, 1.0)
            self.tokens.book(now, cost)
            pace.book(now, cost)
            call.tokens, call.paced_at = cost, max(at, now)
            if at <= now:
                return
            try:
                await call.engine.shared.pause(at - now)
            except BaseException:
                self._return(call, pace)
                raise
            # A pause that the server has asked for meanwhile also holds for calls scheduled before.
            if max(self.requests.held, self.tokens.held, pace.held) <= loop.time():
                call.paced_at = loop.time()
                return
            self._return(call, pace)

    async def _lease(self, leases: Leases, call: Call, until: float | None) -> None:
        """Wait for a slice of the budget that processes share. Raises `TimeoutError` after `until`."""
        share, loop = leases.share, call.loop
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                call.engine.shared.admit(leases)
                await leases.join()
                while share.due == math.inf or share.lease_at <= loop.time():
                    call.engine.shared.admit(leases)  # raises once the client is closed
                    await leases.turn(lambda: float(self._waiting))
        finally:
            self._waiting -= 1

    @property
    def share(self) -> Share | None:
        """The part of a budget that processes share, if any."""
        return None if self.leases is None else self.leases.share

    def _return(self, call: Call, pace: ModelPace) -> None:
        self.requests.correct(1.0, 0.0)
        self.tokens.correct(call.tokens, 0.0)
        pace.returned(call.tokens)

    def answered(self, call: Call, value: Any, meta: Meta | None) -> None:
        """Record a successful call."""
        now, usage, pace = call.loop.time(), usage_of(value), call.pace
        spent = call.tokens if usage is None else usage.input + usage.output
        if usage is not None:
            self._estimate.seen(call.request.body, usage)
        self.tokens.correct(call.tokens, spent)
        if pace is not None:
            learn_limits(now, pace, limits_of(meta), self.share)
            pace.answered(now, call.tokens, spent)

    def settle(self, call: Call, usage: Usage) -> None:
        """Correct what was booked for an answered call whose usage was not known then: that of a forwarded answer."""
        spent = float(usage.input + usage.output)
        self._estimate.seen(call.request.body, usage)
        self.tokens.correct(call.tokens, spent)
        if call.pace is not None:
            call.pace.tokens.correct(call.tokens, spent)
        call.tokens = spent

    def failed(self, call: Call, error: OpenAIError) -> None:
        """Record a failed attempt."""
        if not isinstance(error, APIStatusError) or not is_rate_limit(error.status_code, error.code, error.type):
            return
        now, limits, pace = call.loop.time(), limits_of(error.meta), call.pace
        self.tokens.correct(call.tokens, 0.0)
        if pace is None:
            return
        learn_limits(now, pace, limits, self.share)
        refusal = refusal_of(error, limits)
        if refusal.kind == "slots":
            pace.tokens.correct(call.tokens, 0.0)
        elif self.share is not None:
            pace.returned(call.tokens)
            self.share.refused(now, refusal.kind, call.paced_at, refusal.retry_after)
        else:
            pace.refused(now, call.paced_at, call.tokens, refusal.kind, refusal.retry_after)


resolve_annotations(__name__)
