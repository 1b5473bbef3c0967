"""An account of requests and tokens per minute, told in the ``x-ratelimit-*`` fields. Nothing is refused by it."""

from __future__ import annotations

import time

__all__ = ["SimulatedRateLimit"]


class _Bucket:
    """Fills at `per_minute` up to that much; what is spent is missing until it has filled up again."""

    __slots__ = ("_level", "_limit", "_rate", "_seen", "head")

    def __init__(self, name: bytes, per_minute: int, now: float) -> None:
        self._limit = per_minute
        self._rate = per_minute / 60
        self._level = float(per_minute)
        self._seen = now
        self.head = name

    def spend(self, amount: int, now: float) -> list[tuple[bytes, bytes]]:
        level = min(self._limit, self._level + (now - self._seen) * self._rate)
        self._level = level = max(level - amount, 0.0)
        self._seen = now
        reset = (self._limit - level) / self._rate
        shown = b"%dms" % max(reset * 1000, 1) if reset < 1 else b"%.2fs" % reset
        return [
            (b"x-ratelimit-limit-" + self.head, b"%d" % self._limit),
            (b"x-ratelimit-remaining-" + self.head, b"%d" % level),
            (b"x-ratelimit-reset-" + self.head, shown),
        ]


class SimulatedRateLimit:
    """What a client has left of a generous minute."""

    def __init__(self, requests: int = 1_000_000, tokens: int = 100_000_000) -> None:
        now = time.monotonic()
        self._requests = _Bucket(b"requests", requests, now)
        self._tokens = _Bucket(b"tokens", tokens, now)

    def spend(self, tokens: int) -> list[tuple[bytes, bytes]]:
        """Note one request of so many tokens; the header fields that tell what is left."""
        now = time.monotonic()
        return self._requests.spend(1, now) + self._tokens.spend(tokens, now)
