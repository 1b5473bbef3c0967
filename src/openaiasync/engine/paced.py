"""Pace plain calls by limits on requests and tokens per minute, and read the limits in responses.

A call that would exceed a limit is scheduled in order of arrival and sleeps until its time; only then does it take a
slot. Nothing is counted twice: an attempt after a pause is booked as another request, an immediate one is not. Tokens
are booked by an estimate and corrected by the answer's usage; for streams the estimate stays.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..core.codec.dialects import tells_limit
from ..core.model.meta import Meta, RateLimits
from ..core.policy.admission import RateLimitRefusal
from ..core.policy.estimate import TokenEstimate, usage_of
from ..core.policy.limits import Limits
from ..core.policy.pacing import Pacer
from ..core.policy.retry import is_rate_limit, server_pause
from ..errors import APIStatusError, OpenAIError

if TYPE_CHECKING:
    from .call import Call

__all__ = ["PacedCalls", "learn_limits", "limits_of", "pause_of", "refusal_of"]


def limits_of(meta: Meta | None) -> RateLimits | None:
    """Return the limits in the ``x-ratelimit-*`` fields of a response; `None` without any."""
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


def learn_limits(now: float, requests: Pacer, tokens: Pacer, limits: RateLimits | None) -> None:
    """Adjust the pacers of a server to the limits in a response."""
    if limits is None:
        return
    for pacer, state in ((requests, limits.requests), (tokens, limits.tokens)):
        if state.limit is not None:
            pacer.headers.see(now, state.limit, state.remaining, state.reset)
            pacer.changed(now)


class PacedCalls:
    """The pace of all calls that share one `Limits`, over all clients and event loops."""

    def __init__(self, limits: Limits) -> None:
        self.requests: Pacer = Pacer(limits.rpm)
        self.tokens: Pacer = Pacer(limits.tpm)
        self._estimate = TokenEstimate()

    async def wait(self, call: Call, until: float | None) -> None:
        """Wait until the call may be sent, and book it. Raises `TimeoutError` at once if that is after `until`."""
        loop, requests, tokens = call.loop, self.requests, self.tokens
        cost = self._estimate.of(call.request.body)
        while True:
            now = loop.time()
            at = max(requests.due, tokens.due)
            if until is not None and at > until:
                raise TimeoutError
            requests.book(now, 1.0)
            tokens.book(now, cost)
            call.tokens, call.paced_at = cost, max(at, now)
            if at <= now:
                return
            try:
                await call.engine.shared.pause(at - now)
            except BaseException:
                self._return(call)
                raise
            # A pause that the server has asked for meanwhile also holds for calls scheduled before.
            if max(requests.held, tokens.held) <= loop.time():
                call.paced_at = loop.time()
                return
            self._return(call)

    def _return(self, call: Call) -> None:
        self.requests.correct(1.0, 0.0)
        self.tokens.correct(call.tokens, 0.0)

    def answered(self, call: Call, value: Any, meta: Meta | None) -> None:
        """Record a successful call."""
        now, usage = call.loop.time(), usage_of(value)
        learn_limits(now, self.requests, self.tokens, limits_of(meta))
        self.requests.answered(now, 1.0, 1.0)
        if usage is None:
            self.tokens.answered(now, call.tokens, call.tokens)
        else:
            self.tokens.answered(now, call.tokens, usage.input + usage.output)
            self._estimate.seen(call.request.body, usage)

    def failed(self, call: Call, error: OpenAIError) -> None:
        """Record a failed attempt."""
        if not isinstance(error, APIStatusError) or not is_rate_limit(error.status_code, error.code, error.type):
            return
        now, limits = call.loop.time(), limits_of(error.meta)
        learn_limits(now, self.requests, self.tokens, limits)
        refusal = refusal_of(error, limits)
        if refusal.kind == "tokens":
            self.tokens.refused(now, call.paced_at, call.tokens, refusal.retry_after)
        else:
            self.tokens.correct(call.tokens, 0.0)
            if refusal.kind != "slots":
                self.requests.refused(now, call.paced_at, 1.0, refusal.retry_after)
