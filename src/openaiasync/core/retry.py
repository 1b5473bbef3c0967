"""Whether, when and how often a call is tried again. No I/O, no clock: the time comes in as a number.

The budget is what keeps a dead backend from being hammered: each retry costs tokens that only successes bring back.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

__all__ = ["Budget", "backoff", "retryable_status", "server_pause"]

FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 8.0  # seconds
LONGEST_SERVER_PAUSE = 120.0  # seconds; a server that asks for more gets no retry at all

RETRY_COST = 5
TIMEOUT_COST = 10
CAPACITY = 500

_STATUSES = frozenset({408, 409, 425, 429})


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
    """Whether an error status may go away by itself: 408, 409, 425, 429 and 5xx, unless the quota is used up.

    ``x-should-retry`` has the last word. `code` and `kind` are the fields ``code`` and ``type`` of the error object.
    """
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        return wish == "true"
    if "insufficient_quota" in (code, kind):
        return False
    return status in _STATUSES or status >= 500


def server_pause(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks to wait (``retry-after-ms``, ``Retry-After`` of RFC 9110 10.2.3); `None` if it does not.

    `now` is the wall clock as a Unix time, for dates. An answer above `LONGEST_SERVER_PAUSE` means: do not retry.
    What is no number and no date is as if it were absent, and so are negative and non-finite numbers.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            from email.utils import parsedate_to_datetime  # slow to load, and dates are rare

            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
        if seconds == math.inf:
            return seconds
    return None


def backoff(retries: int) -> float:
    """Seconds to wait before a retry when the server names none: 0.5 s doubled each time, 8 s at most, jittered.

    The jitter takes up to half away, so that clients that failed together do not come back together.
    """
    ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(retries, 10))
    return ceiling * (0.5 + 0.5 * random.random())
