"""Measured values in bounded memory, and their percentiles."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from math import floor, log2

import msgspec

__all__ = ["USUAL", "Distribution", "Samples"]

USUAL = (50.0, 90.0, 95.0, 99.0)
"""The percentiles of a report."""

EXACT = 8192  # values that are kept one by one
_STEPS = 256  # buckets for each factor of two
_ZERO = -1 << 20  # the bucket of zero and of negative values


class Distribution(msgspec.Struct, kw_only=True):
    """A summary of measured values, in seconds."""

    count: int
    mean: float
    std: float = 0.0
    """The standard deviation."""
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    percentiles: dict[str, float] = {}
    """The percentiles that the report shows, by name, such as ``"p99.9"``."""


class Samples:
    """A collection of values of which quantiles are asked: exact up to 8,192 values, then in buckets 0.3 % wide.

    Buckets are spaced by the logarithm, as in an HDR histogram: memory depends on the range of the values, not on their
    number. Mean, minimum and maximum stay exact.
    """

    __slots__ = ("_buckets", "_exact", "_sorted", "_squares", "count", "largest", "smallest", "total")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.count: int = 0
        self.total: float = 0.0
        self.smallest: float = math.inf
        self.largest: float = -math.inf
        self._squares = 0.0
        self._exact: array[float] | None = array("d")
        self._sorted = False
        self._buckets: Counter[int] = Counter()
        self.extend(values)

    def add(self, value: float) -> None:
        """Add one value."""
        self.extend((value,))

    def extend(self, values: Iterable[float]) -> None:
        """Add several values."""
        exact = self._exact
        added = values if isinstance(values, (list, tuple)) else list(values)
        if not added:
            return
        self.count += len(added)
        self.total += math.fsum(added)
        self._squares += sum([value * value for value in added])
        self.smallest = min(self.smallest, min(added))
        self.largest = max(self.largest, max(added))
        if exact is not None:
            exact.extend(added)
            self._sorted = False
            if len(exact) <= EXACT:
                return
            self._exact = None
            added = exact.tolist()
        self._buckets.update([floor(log2(value) * _STEPS) if value > 0 else _ZERO for value in added])

    def quantile(self, share: float) -> float:
        """Return the smallest value that at least this share of all values does not exceed; NaN without values."""
        if not self.count:
            return math.nan
        rank = min(max(1, math.ceil(round(share * self.count, 9))), self.count)  # 0.999 × 1000 is above 999
        exact = self._exact
        if exact is not None:
            if not self._sorted:
                exact = self._exact = array("d", sorted(exact))
                self._sorted = True
            return exact[rank - 1]
        left = rank
        for at in sorted(self._buckets):
            left -= self._buckets[at]
            if left <= 0:
                return min(max(_middle(at), self.smallest), self.largest)
        return self.largest

    @property
    def mean(self) -> float:
        """The arithmetic mean; NaN without values."""
        return self.total / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """The standard deviation; NaN without values."""
        return math.sqrt(max(0.0, self._squares / self.count - self.mean**2)) if self.count else math.nan

    def summary(self, percentiles: Sequence[float] = USUAL) -> Distribution | None:
        """Return the mean, the usual percentiles and the given ones (from 0 to 100); `None` without values."""
        if not self.count:
            return None
        p50, p90, p95, p99 = (self.quantile(percent / 100) for percent in USUAL)
        return Distribution(
            count=self.count,
            mean=self.mean,
            std=self.std,
            min=self.smallest,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            max=self.largest,
            percentiles={f"p{percent:g}": self.quantile(percent / 100) for percent in percentiles},
        )

    def curve(self, points: int = 100) -> list[float]:
        """Return the quantiles at 0, 1/`points`, … 1; empty without values."""
        return [self.quantile(step / points) for step in range(points + 1)] if self.count else []


def _middle(at: int) -> float:
    if at == _ZERO:
        return 0.0
    return float(2 ** ((at + 0.5) / _STEPS))
