"""Whether, when and how often a call is tried again. No I/O, no clock: the time comes in as a number.

The budget is what keeps a dead backend from being hammered: each retry costs tokens that only successes bring back.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping

__all__ = ["Budget", "backoff", "is_rate_limit", "retryable_status", "server_pause"]

FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 8.0  # seconds
LONGEST_SERVER_PAUSE = 120.0  # seconds; a server that asks for more gets no retry at all

RETRY_COST = 5
TIMEOUT_COST = 10
CAPACITY = 500

_STATUSES = frozenset({408, 409, 425, 429})
_FINAL = frozenset({501, 505})  # what a server does not implement, it will not implement in a second either
_SECONDS = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d", re.ASCII)


class Budget:
    """Tokens for retries, shared by a client's calls: 500 at first, 5 a retry, 10 after a timeout, 1 back a success.

    With nothing but failures 1,000 calls make at most 100 retries, so that a dead backend sees 1.1 times the load.
    """

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens = CAPACITY

    @property
    def tokens(self) -> int:
        """What is left."""
        return self._tokens

    def spend(self, timed_out: bool) -> bool:
        """Pay for one retry; `False` if the budget does not allow it."""
        cost = TIMEOUT_COST if timed_out else RETRY_COST
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True

    def refill(self) -> None:
        """A call succeeded."""
        if self._tokens < CAPACITY:
            self._tokens += 1


def retryable_status(status: int, headers: Mapping[str, str], code: str | None, kind: str | None) -> bool:
    """Whether an error status may go away by itself: 408, 409, 425, 429, and 5xx but for 501 and 505.

    An exhausted quota does not.
    ``x-should-retry`` has the last word. `code` and `kind` are the fields ``code`` and ``type`` of the error object.
    """
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        return wish == "true"
    if "insufficient_quota" in (code, kind):
        return False
    return status in _STATUSES or (status >= 500 and status not in _FINAL)


def is_rate_limit(status: int, code: str | None, kind: str | None) -> bool:
    """Whether an error status says that too many calls come: 429, unless the quota is used up."""
    return status == 429 and "insufficient_quota" not in (code, kind)


def server_pause(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks to wait (``retry-after-ms``, ``Retry-After`` of RFC 9110 10.2.3); `None` if it does not.

    `now` is the wall clock as a Unix time, for dates. A result above `LONGEST_SERVER_PAUSE` means: do not retry.
    What is neither a number from 0 up nor a date to come counts as absent, "inf" and "nan" included.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if _SECONDS.fullmatch(text):
            if math.isfinite(seconds := float(text) * scale):
                return seconds
        elif _TIME_OF_DAY.search(text) and (date := _date(text)) is not None and date >= now:
            return date - now
    return None


def _date(text: str) -> float | None:
    """An HTTP date of any of its three forms (RFC 9110, section 5.6.7) as a Unix time; one without a zone is in UTC."""
    from datetime import UTC
    from email.utils import parsedate_to_datetime  # slow to load, and dates are rare

    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def backoff(retries: int) -> float:
    """Seconds to wait before a retry when the server names none: 0.5 s doubled each time, 8 s at most, jittered.

    The jitter takes up to half away, so that clients that failed together do not come back together.
    """
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(retries, 10))
    return ceiling * (0.5 + 0.5 * random.random())
