"""Limits for callers (requests and tokens per minute, requests in flight), and the server's metrics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from ..lazy import resolve_annotations
from .asgi import READY
from .errors import HTTPError

if TYPE_CHECKING:
    from .context import RequestContext

__all__ = ["HandlerSlot", "InFlightQueue", "RequestRateLimit", "ServerMetrics"]

_MAX_CALLERS: Final = 10_000
Fields = list[tuple[bytes, bytes]]


class _Bucket:
    """Holds up to `per_minute` units and refills at that rate; a single spending may take it below zero."""

    __slots__ = ("_level", "_limit", "_rate", "_seen", "name")

    def __init__(self, name: bytes, per_minute: int, now: float) -> None:
        self._limit = per_minute
        self._rate = per_minute / 60
        self._level = float(per_minute)
        self._seen = now
        self.name = name

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until this amount is available, 0.0 if it is."""
        self._refill(now)
        return max(0.0, (min(amount, self._limit) - self._level) / self._rate)

    def spend(self, amount: int, now: float) -> None:
        self._refill(now)
        self._level -= amount

    def _refill(self, now: float) -> None:
        self._level = min(self._limit, self._level + (now - self._seen) * self._rate)
        self._seen = now

    def fields(self) -> Fields:
        reset = (self._limit - self._level) / self._rate
        shown = b"%dms" % max(reset * 1000, 1) if reset < 1 else b"%.2fs" % reset
        return [
            (b"x-ratelimit-limit-" + self.name, b"%d" % self._limit),
            (b"x-ratelimit-remaining-" + self.name, b"%d" % max(self._level, 0)),
            (b"x-ratelimit-reset-" + self.name, shown),
        ]


class RequestRateLimit:
    """Limits requests and tokens per minute for each caller, with 429 and ``x-ratelimit-*`` fields."""

    def __init__(self, requests: int | None = None, tokens: int | None = None) -> None:
        self._limits = [
            (name, limit) for name, limit in ((b"requests", requests), (b"tokens", tokens)) if limit is not None
        ]
        self._callers: dict[bytes, list[_Bucket]] = {}

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a limit on tokens."""
        return any(name == b"tokens" for name, _ in self._limits)

    def _buckets(self, caller: bytes, now: float) -> list[_Bucket]:
        found = self._callers.get(caller)
        if found is None:
            while len(self._callers) >= _MAX_CALLERS:
                del self._callers[next(iter(self._callers))]
            found = self._callers[caller] = [_Bucket(name, limit, now) for name, limit in self._limits]
        return found

    def admit(self, caller: bytes) -> None:
        """Count a request. Raises `HTTPError` (429), which says how long to wait, if the caller's limit is used up."""
        now = time.monotonic()
        buckets = self._buckets(caller, now)
        wait = max((bucket.wait(now, 1.0) for bucket in buckets), default=0.0)
        if wait > 0:
            fields = [field for bucket in buckets for field in bucket.fields()]
            message = f"Rate limit reached. Try again in {wait:.2f} s."
            raise HTTPError(
                429, message, code="rate_limit_exceeded", kind="requests", fields=(*fields, *_retry_after(wait))
            )
        for bucket in buckets:
            if bucket.name == b"requests":
                bucket.spend(1, now)

    def spend(self, caller: bytes, tokens: int) -> Fields:
        """Count the tokens of a request and return the ``x-ratelimit-*`` fields."""
        now = time.monotonic()
        buckets = self._buckets(caller, now)
        for bucket in buckets:
            if bucket.name == b"tokens":
                bucket.spend(tokens, now)
        return [field for bucket in buckets for field in bucket.fields()]


def _retry_after(seconds: float) -> Fields:
    return [(b"retry-after", b"%d" % max(1, -int(-seconds // 1))), (b"retry-after-ms", b"%d" % (seconds * 1000))]


class InFlightQueue:
    """Limits the requests in progress to `limit`; up to `max_queue` more wait, first come, first served."""

    def __init__(self, limit: int | None, max_queue: int) -> None:
        self._limit = limit
        self._max_queue = max_queue
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running: int = 0

    @property
    def waiting(self) -> int:
        """The number of requests that wait for a slot."""
        return len(self._waiting)

    def try_acquire(self) -> bool:
        """Take a slot if one is free. Return whether it was."""
        if self._limit is not None and (self.running >= self._limit or self._waiting):
            return False
        self.running += 1
        return True

    async def acquire(self) -> None:
        """Take a slot, waiting for one. Raises `HTTPError` (429) if the queue is full."""
        if self.try_acquire():
            return
        if len(self._waiting) >= self._max_queue:
            message = f"The server is busy with {self.running} requests, and {len(self._waiting)} are waiting."
            raise HTTPError(429, message, code="server_busy", kind="requests", fields=tuple(_retry_after(1.0)))
        ready = asyncio.get_running_loop().create_future()
        self._waiting.append(ready)
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                self.release()  # the slot was handed over at the same moment
            elif ready in self._waiting:  # or it was cancelled, and then passed over by `release`
                self._waiting.remove(ready)
            raise

    def release(self) -> None:
        """Release the slot, or hand it to the first waiting request."""
        while self._waiting:
            ready = self._waiting.popleft()
            if not ready.done():
                ready.set_result(None)
                return
        self.running -= 1


class HandlerSlot:
    """A block that holds a slot of a queue. A client that leaves while it waits loses its place."""

    __slots__ = ("_context", "_queue")

    def __init__(self, queue: InFlightQueue, context: RequestContext) -> None:
        self._queue = queue
        self._context = context

    # Nearly always a slot is free. Two coroutines that never wait would then cost more than the slot.

    def __aenter__(self) -> Awaitable[None]:
        return READY if self._queue.try_acquire() else self._wait()

    async def _wait(self) -> None:
        async with self._context.waiting():
            await self._queue.acquire()

    def __aexit__(self, *raised: object) -> Awaitable[None]:
        self._queue.release()
        return READY


class ServerMetrics:
    """Counters since the server's start, in the Prometheus text format."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, float] = {}
        self._tokens = 0
        self.in_flight: int = 0

    def count(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that has ended; status 499 is a client that left."""
        self._requests[operation or "unknown", status] += 1
        name = operation or "unknown"
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def add_tokens(self, tokens: int) -> None:
        """Count the tokens of a request."""
        self._tokens += tokens

    def text(self, queue: InFlightQueue) -> bytes:
        """Return all counters."""
        lines = ["# TYPE openaiasync_requests_total counter"]
        for (operation, status), count in sorted(self._requests.items()):
            lines.append(f'openaiasync_requests_total{{operation="{operation}",status="{status}"}} {count}')
        lines.append("# TYPE openaiasync_request_seconds summary")
        totals: Counter[str] = Counter()
        for (operation, _), count in self._requests.items():
            totals[operation] += count
        for operation, seconds in sorted(self._seconds.items()):
            lines.append(f'openaiasync_request_seconds_sum{{operation="{operation}"}} {seconds:.6f}')
            lines.append(f'openaiasync_request_seconds_count{{operation="{operation}"}} {totals[operation]}')
        plain: dict[str, tuple[str, Any]] = {
            "openaiasync_tokens_total": ("counter", self._tokens),
            "openaiasync_requests_in_flight": ("gauge", self.in_flight),
            "openaiasync_handlers_running": ("gauge", queue.running),
            "openaiasync_requests_waiting": ("gauge", queue.waiting),
        }
        for name, (kind, value) in plain.items():
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        return ("\n".join(lines) + "\n").encode()


resolve_annotations(__name__)
