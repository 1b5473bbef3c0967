"""The retry policy of every call: whether a failed attempt is followed by another one, and when.

`decide` is the whole policy, a pure function: the time, a random number and the remaining budget are among its facts,
and it returns the decision as a value, which the caller carries out. It checks, in this order:

1. A failure that is not the fault of the request is followed by the same request at once, without counting as a retry
   (`Resend`): a rejected token that can be replaced, a default of this library that the server refuses, an idle
   connection that the server closed.
2. A request that would fail again, cannot be sent again, or might be charged twice ends the call (`GiveUp`).
3. Any other failure is followed by a `Retry`, after the pause that the server asks for or an exponential one with
   jitter, as long as the number of retries, the deadline and the budget allow it.

The budget limits the load on a failing server: each retry costs tokens that only successes restore.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

__all__ = [
    "Failure",
    "GiveUp",
    "Resend",
    "Retry",
    "RetryBudget",
    "RetryFacts",
    "backoff",
    "decide",
    "is_lost_idle",
    "is_rate_limit",
    "retryable_status",
    "server_pause",
]

FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 8.0  # seconds
LONGEST_SERVER_PAUSE = 120.0  # seconds; a server that asks for more gets no retry at all

RETRY_COST = 5
TIMEOUT_COST = 10
CAPACITY = 500

_NEVER_RETRIED = frozenset({"answer", "closed", "protocol", "stuck", "tls", "upload"})
_STATUSES = frozenset({408, 409, 425, 429})
_FINAL = frozenset({501, 505})  # "not implemented" does not change within seconds
_SECONDS = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"  # compiled at the first use, as the next
_TIME_OF_DAY = r"\d\d:\d\d:\d\d"


class Failure(msgspec.Struct, frozen=True):
    """The failure of an attempt, described without classes of transports or errors."""

    kind: str
    """``"status"`` for a status that is not a success, ``"answer"`` for an error in a 2xx, else that of the
    `TransportError`."""
    status: int = 0
    headers: Mapping[str, str] = {}
    code: str | None = None
    """``code`` and `type` are the fields of the server's error object."""
    type: str | None = None
    clock: str | None = None
    """Which timeout expired."""
    reused: bool = False
    """Whether the connection had served a request before."""
    sent: bool = False
    """Whether any byte of the request may have been sent."""
    answered: bool = False
    """Whether any byte of a response was received."""


class RetryFacts(msgspec.Struct, frozen=True):
    """The facts about a call after a failed attempt."""

    now: float
    """The Unix time, to compare with dates in ``Retry-After``."""
    random: float
    """A random number from 0 to 1, for the jitter."""
    retries: int = 0
    """Retries so far."""
    max_retries: int = 2
    left: float | None = None
    """Seconds up to the call's deadline, `None` without one."""
    tokens: int = CAPACITY
    """The remaining tokens of the server's `RetryBudget`."""
    rewindable: bool = True
    """Whether the body can be sent again."""
    may_reconnect: bool = True
    """Whether the immediate retry after a lost idle connection, one per call, is still available."""
    repeat_timed_out: bool = False
    """Whether a request that was sent and then timed out is sent again: it may be charged twice."""
    token_renewed: bool = False
    """Whether the token that the server rejected was replaced by another one."""
    default_removed: bool = False
    """Whether the request was changed because the server refused a default of this library."""
    hopeless: bool = False
    """Whether the server names a parameter that it does not support, so that the same request would fail again."""


class Retry(msgspec.Struct, frozen=True):
    """Send the request again after a pause in seconds, at a cost in tokens of the budget."""

    after: float
    cost: int


class Resend(msgspec.Struct, frozen=True):
    """Send the request again at once, without counting it as a retry."""

    reason: Literal["token", "default", "connection"]


class GiveUp(msgspec.Struct, frozen=True):
    """Raise the error."""


def decide(failure: Failure, facts: RetryFacts) -> Retry | Resend | GiveUp:
    """Return the next step after a failed attempt of which nothing was delivered to the caller."""
    if facts.token_renewed:
        return Resend("token")
    if facts.default_removed:
        return Resend("default")
    if is_lost_idle(failure) and facts.may_reconnect and facts.rewindable:
        return Resend("connection")
    pause = _pause_after(failure, facts) if facts.rewindable else None
    if pause is None or facts.retries >= facts.max_retries:
        return GiveUp()
    if facts.left is not None and pause >= facts.left:
        return GiveUp()
    cost = TIMEOUT_COST if failure.kind == "timeout" else RETRY_COST
    return Retry(pause, cost) if cost <= facts.tokens else GiveUp()


class _Broken(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def reused(self) -> bool: ...
    @property
    def answered(self) -> bool: ...


def is_lost_idle(failure: _Broken) -> bool:
    """Return whether a reused connection ended without a byte of a response: the server had closed it while idle.

    `failure` is a `Failure` or a `TransportError`.
    """
    return failure.reused and not failure.answered and failure.kind in ("eof", "reset")


def _pause_after(failure: Failure, facts: RetryFacts) -> float | None:
    """Return the seconds before the next attempt; `None` for a failure that is not retried."""
    if failure.kind == "status":
        if facts.hopeless or not retryable_status(failure.status, failure.headers, failure.code, failure.type):
            return None
        requested = server_pause(failure.headers, facts.now)
        if requested is not None:
            return requested if requested <= LONGEST_SERVER_PAUSE else None
    elif failure.kind in _NEVER_RETRIED or failure.clock == "queue":
        return None
    elif failure.kind == "timeout" and failure.sent and not facts.repeat_timed_out:
        return None  # the server may have processed it
    return backoff(facts.retries, facts.random)


class RetryBudget:
    """Tokens for retries, shared by all calls to one server: 500 at first; a retry costs 5, after a timeout 10.

    Each success restores one. If every call fails, 1,000 calls make at most 100 retries, so that a failing server gets
    1.1 times the load.
    """

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens: int = CAPACITY
        """The remaining tokens."""

    def spend(self, cost: int) -> None:
        """Pay for one retry."""
        self.tokens = max(0, self.tokens - cost)

    def refill(self) -> None:
        """Restore one token, after a successful call."""
        if self.tokens < CAPACITY:
            self.tokens += 1


def retryable_status(status: int, headers: Mapping[str, str], code: str | None, kind: str | None) -> bool:
    """Return whether an error status may be temporary: 408, 409, 425, 429, and 5xx except 501 and 505.

    An exhausted quota is not temporary. The header field ``x-should-retry`` overrides all of this. `code` and `kind`
    are the fields ``code`` and ``type`` of the error object.
    """
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        return wish == "true"
    if "insufficient_quota" in (code, kind):
        return False
    return status in _STATUSES or (status >= 500 and status not in _FINAL)


def is_rate_limit(status: int, code: str | None, kind: str | None) -> bool:
    """Return whether an error status means that calls are sent too fast: 429, unless the quota is exhausted."""
    return status == 429 and "insufficient_quota" not in (code, kind)


def server_pause(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that the server asks to wait (``retry-after-ms``; ``Retry-After``, RFC 9110 section 10.2.3).

    `None` if it does not ask. `now` is the Unix time, for dates. Values that are neither a number from 0 up nor a
    future date count as absent, "inf" and "nan" included.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(_SECONDS, text, re.ASCII):
            if math.isfinite(seconds := float(text) * scale):
                return seconds
        elif re.search(_TIME_OF_DAY, text, re.ASCII) and (date := _date(text)) is not None and date >= now:
            return date - now
    return None


def _date(text: str) -> float | None:
    """Return the Unix time of an HTTP date in any of its forms (RFC 9110, section 5.6.7), in UTC without a zone."""
    from datetime import UTC
    from email.utils import parsedate_to_datetime  # slow to load, and dates are rare

    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def backoff(retries: int, random: float) -> float:
    """Return the pause before a retry in seconds: 0.5 s doubled each time, 8 s at most, less up to half as jitter.

    `random` is a random number from 0 to 1. Without jitter, clients that failed together would come back together.
    """
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(retries, 10))
    return ceiling * (0.5 + 0.5 * random)
