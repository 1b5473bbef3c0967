"""Polling: an object is retrieved repeatedly until it is finished, at the server's pace and under a deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.model.omitted import is_omitted
from ..core.policy.request_options import OPTION_NAMES, RequestOptions
from ..engine.failures import invalid_answer
from ..engine.sealing import sealing
from ..errors import APITimeoutError, PollTimeoutError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..core.codec.endpoint import Endpoint
    from ..engine import Engine

__all__ = ["OF_ALL", "PollOptions", "Poller", "WaitOptions"]

DEFAULT_INTERVAL = 1.0  # seconds
LONGEST_HINT = 60.0  # seconds: the longest pause that a server can ask for
_FIRST_ONLY = frozenset({"extra_query", "extra_body"})
OF_ALL = OPTION_NAMES - _FIRST_ONLY - {"deadline"}  # options that apply to every request of a helper


class PollOptions(RequestOptions, total=False):
    """The options of a helper that polls.

    `poll_interval_ms` is the time between two requests in milliseconds. Default: the server's hint (the field
    ``openai-poll-after-ms``, at most a minute), or 1,000. `deadline` (seconds) applies to the whole helper, including
    pauses. `extra_query` and `extra_body` apply to its first request, the other options to all of them.
    """

    poll_interval_ms: float


class WaitOptions(PollOptions, total=False):
    """The options of a helper that polls, with a limit for the polling alone: `max_wait_seconds` from its start."""

    max_wait_seconds: float


class Poller:
    """One call of a helper that polls. It removes its options from `params`; the rest belongs to the first request.

    Raises `ValueError` and `TypeError` for times that are not numbers, or out of range.
    """

    def __init__(self, calls: Engine, params: dict[str, Any]) -> None:
        interval = _number(params, "poll_interval_ms")
        self._calls = calls
        self._interval = None if interval is None else interval / 1000
        self._most = _number(params, "max_wait_seconds")
        self._most_until: float | None = None
        deadline = _number(params, "deadline")
        self._until = None if deadline is None else asyncio.get_running_loop().time() + deadline
        self._options = {name: params[name] for name in OF_ALL & params.keys()}
        self._once = {name: params[name] for name in _FIRST_ONLY & params.keys()}
        self._latest: Any = None

    @sealing
    async def first(self, endpoint: Endpoint, params: dict[str, Any], needs: str = "id") -> Any:
        """Return the answer of a request that the next one builds on.

        Raises `APIResponseValidationError` if it lacks one of the fields in `needs`.
        """
        self._once = {}
        answer = await self._ask(endpoint, params)
        for name in needs.split():
            value = getattr(answer, name, None)
            if not isinstance(value, str) or not value:
                raw: bytes = answer.__dict__.get("_raw") or b""
                raise invalid_answer(answer.meta, raw, f"it has no {name!r}")
        return answer

    @sealing
    async def end(self, endpoint: Endpoint, ids: dict[str, Any], waits: Callable[[Any], bool]) -> Any:
        """Retrieve the object until `waits` is false for its status, and return it.

        Raises `PollTimeoutError` when time is up, with the object as last received in `.partial`, and `OpenAIError`.
        """
        loop = asyncio.get_running_loop()
        self._most_until = None if self._most is None else loop.time() + self._most
        headers = {"X-Stainless-Poll-Helper": "true"}  # servers send their hints if they see this field
        if self._interval is not None:
            headers["X-Stainless-Custom-Poll-Interval"] = f"{self._interval * 1000:.0f}"
        params = {**self._options, **self._once, **ids}
        params["extra_headers"] = {**headers, **(params.get("extra_headers") or {})}
        while True:
            answer = self._latest = await self._ask(endpoint, params)
            if not waits(getattr(answer, "status", None)):
                return answer
            await self._pause(_hint(answer.meta.headers) if self._interval is None else self._interval)

    async def _ask(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        left = self._left(self._until)
        if left is not None:
            params = {**params, "deadline": left}
        try:
            return await self._calls.run(endpoint, params)
        except APITimeoutError as error:
            if error.clock == "deadline" and self._until is not None:
                raise self._too_late(error.request) from error
            error.partial = self._latest
            raise

    async def _pause(self, seconds: float) -> None:
        for until in (self._until, self._most_until):
            left = self._left(until)
            seconds = seconds if left is None else min(seconds, left)
        await self._calls.shared.pause(seconds)

    def _left(self, until: float | None) -> float | None:
        if until is None:
            return None
        left = until - asyncio.get_running_loop().time()
        if left > 0:
            return left
        raise self._too_late()

    def _too_late(self, request: Any = None) -> PollTimeoutError:
        latest = self._latest
        if latest is None:
            return PollTimeoutError(request, message="The deadline of this helper has passed.")
        return PollTimeoutError(
            latest.meta.request,
            message=f"Time is up: {getattr(latest, 'id', 'the object')} is still {latest.status!r}.",
            partial=latest,
        )


def _number(params: dict[str, Any], name: str) -> float | None:
    """Remove a time from the options and return it; `None` if it was not given."""
    value = params.pop(name, None)
    if value is None or is_omitted(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not math.isfinite(value) or value < 0 or (name == "deadline" and not value):
        raise ValueError(f"{name} must be a finite number {'above' if name == 'deadline' else 'from'} 0, not {value!r}")
    return float(value)


def _hint(headers: Mapping[str, str]) -> float:
    """Return the seconds that the server asks to wait; only a whole number of milliseconds counts."""
    text = headers.get("openai-poll-after-ms", "").strip()
    if not (text.isascii() and text.isdigit()):
        return DEFAULT_INTERVAL
    return min(int(text[:12]) / 1000, LONGEST_HINT)


resolve_annotations(__name__)
