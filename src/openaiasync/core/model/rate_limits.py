"""Read the limits that responses state in their header fields.

Servers and gateways write them in several ways, all of which are read:

* ``x-ratelimit-limit-requests``, ``-remaining-``, ``-reset-``, the same for ``tokens`` (OpenAI, Azure, Groq, vLLM
  gateways, LiteLLM); with the window at the end (``x-ratelimit-limit-tokens-minute``: Mistral, Cerebras; Kong without
  a unit), or in ``x-ratelimit-renewalperiod-requests`` (Azure);
* ``RateLimit`` and ``RateLimit-Policy`` of the IETF's draft-ietf-httpapi-ratelimit-headers, in its lists
  (``"minute";q=100;w=60``) and in the form of revision 7 (``limit=100, remaining=50, reset=30``);
* ``RateLimit-Limit``, ``-Remaining``, ``-Reset`` of the earlier revisions (``100, 100;w=60``), also with ``X-`` before.

Where several limits are stated, the one with the lowest rate counts. Values that make no sense count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["RateLimit", "RateLimits", "read_rate_limits"]


class _RateLimitFields(NamedTuple):
    limit: int | None
    remaining: int | None
    reset: float | None


class RateLimit(_RateLimitFields):
    """One limit as the server states it: `limit` allowed, `remaining`, and `reset`, seconds until it is full again.

    `None` where it does not say, or where the field is neither a number nor a duration like "1m30s". `window` is the
    number of seconds that `limit` is for, where the server states it.
    """

    window: float | None = None


class RateLimits(NamedTuple):
    """The header fields about limits as numbers."""

    requests: RateLimit
    tokens: RateLimit


_LONGEST = 1000  # bytes of a field; a longer one is nonsense
_EPOCH = 1e9  # a reset from here on is a Unix time, from 1e11 on in milliseconds
_DURATION = r"(\d+(?:\.\d+)?)(ms|d|h|m|s)?"
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_FIELD = re.compile(
    r"(?:x-)?ratelimit-(limit|remaining|reset|renewalperiod)(?:-(req|requests?|tokens?))?(?:-(second|minute|hour|day))?"
)
_DEFAULT_WINDOW = 60.0


class _Stated:
    """One limit while its fields are collected."""

    def __init__(self, window: float | None = None) -> None:
        self.limit: int | None = None
        self.remaining: int | None = None
        self.reset: float | None = None
        self.window = window

    @property
    def rate(self) -> float:
        """Units a second, to find the lowest; a limit with less information sorts last."""
        return float("inf") if self.limit is None else self.limit / (self.window or _DEFAULT_WINDOW)

    def result(self) -> RateLimit:
        found = RateLimit(self.limit, self.remaining, self.reset)
        if self.window is not None:
            found.window = self.window
        return found


def read_rate_limits(pairs: Iterable[tuple[str, str]]) -> RateLimits:
    """Return the limits that the header fields state."""
    stated: dict[tuple[str, str], _Stated] = {}  # by unit and window, and by unit and name of the IETF's policies
    policies: list[str] = []
    states: list[str] = []
    date = ""
    for field, value in pairs:
        name = field.lower()
        if name == "date":
            date = value
        elif "ratelimit" not in name or len(value) > _LONGEST or not value.isascii():
            continue
        elif name in ("ratelimit", "x-ratelimit"):
            states.append(value)
        elif name in ("ratelimit-policy", "x-ratelimit-policy"):
            policies.append(value)
        elif match := _FIELD.fullmatch(name):
            what, unit, window = match.groups()
            key = ("tokens" if unit and unit[0] == "t" else "requests" if unit else "", window or "")
            _take(stated.setdefault(key, _Stated(_WINDOWS.get(window or ""))), what, value)
    _take_policies(stated, ", ".join(policies), ", ".join(states))
    for (unit, _), one in stated.items():
        if one.reset is not None and one.reset >= _EPOCH:
            one.reset = _until(one.reset, date)
        if not unit and one.window is None and one.reset is None:
            one.limit = None  # a number without a unit and a time says nothing
    return RateLimits(_lowest(stated, "requests"), _lowest(stated, "tokens"))


def _lowest(stated: dict[tuple[str, str], _Stated], unit: str) -> RateLimit:
    """Return the limit with the lowest rate. Fields without a unit are about requests."""
    found = [one for (name, _), one in stated.items() if (name or "requests") == unit]
    return min(found, key=lambda one: one.rate).result() if found else RateLimit(None, None, None)


def _take(one: _Stated, what: str, value: str) -> None:
    """Take one field of the forms with ``-limit``, ``-remaining``, ``-reset``."""
    if what == "limit":
        number, *others = value.split(",")
        one.limit = _count(number.strip())
        for quota, parameters in _items(",".join(others)):
            if _count(quota) == one.limit and one.window is None:
                one.window = _window(parameters.get("w"))
    elif what == "remaining":
        one.remaining = _count(value.strip())
    elif what == "reset":
        one.reset = _duration(value)
    elif one.window is None:
        one.window = _window(value)


def _take_policies(stated: dict[tuple[str, str], _Stated], policies: str, states: str) -> None:
    """Take the IETF's two fields: what is allowed, and what is left of it."""
    named: dict[str, _Stated] = {}
    for name, parameters in _items(policies):
        limit = _count(parameters.get("q") or name)  # the name is the quota in revisions up to 7
        if limit is None:
            continue
        unit = parameters.get("qu", "")
        if unit not in ("", "requests", "tokens"):
            continue  # bytes, concurrent requests
        if not unit and "token" in name.lower():
            unit = "tokens"
        one = named[name] = stated[unit or "requests", f"policy {name}"] = _Stated(_window(parameters.get("w")))
        one.limit = limit
    whole: dict[str, str] = {}  # of the form of revision 7
    for name, parameters in _items(states):
        key, separator, value = name.partition("=")
        if separator:
            whole[key] = value
        elif name in named:
            named[name].remaining, named[name].reset = _count(parameters.get("r")), _duration(parameters.get("t"))
    if whole:
        limit = _count(whole.get("limit"))
        same = [one for one in named.values() if one.limit == limit]
        one = same[0] if same else stated.setdefault(("", "whole"), _Stated())
        one.limit, one.remaining, one.reset = limit, _count(whole.get("remaining")), _duration(whole.get("reset"))


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the items of a list as RFC 9651 writes them, each with its parameters; quotes are removed."""
    for item in text.split(","):
        name, *parameters = [part.strip() for part in item.split(";")]
        if name:
            values = [part.partition("=") for part in parameters]
            yield name.strip('"'), {key.strip(): value.strip().strip('"') for key, _, value in values}


def _until(moment: float, date: str) -> float | None:
    """Return the seconds until a Unix time by the server's own clock, its ``Date``; `None` without one."""
    from email.utils import parsedate_to_datetime  # slow to load, and such servers are rare

    try:
        now = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, (moment / 1000 if moment >= 100 * _EPOCH else moment) - now)


def _window(text: str | None) -> float | None:
    seconds = _duration(text)
    return seconds if seconds is not None and 0 < seconds <= 32 * 86400 else None


def _duration(text: str | None) -> float | None:
    """Return the seconds in "6m0s", "20ms" or "1.5", as OpenAI-compatible servers write them."""
    if not text or not text.isascii() or len(text) > 99:
        return None
    parts = re.findall(_DURATION, text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
