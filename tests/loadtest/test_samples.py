"""Percentiles, exact while there are few values, and within 0.4 % in bounded memory when there are many."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.loadtest import samples
from openaiasync.loadtest.samples import Samples

VALUES = st.lists(st.floats(min_value=0, max_value=1e5, allow_nan=False), min_size=1, max_size=300)
SHARES = st.floats(min_value=0, max_value=1)


def nearest_rank(values: list[float], share: float) -> float:
    """The definition: the smallest value that at least this share of the values does not exceed."""
    return next(value for value in sorted(values) if sum(one <= value for one in values) >= share * len(values) - 1e-9)


@given(VALUES, SHARES)
def test_few_values_are_exact(values: list[float], share: float) -> None:
    """Quantile, mean and extremes are those of the values, in whatever portions they were added."""
    found = Samples(values[: len(values) // 2])
    found.extend(values[len(values) // 2 :])
    assert found.quantile(share) == nearest_rank(values, share)
    assert found.count == len(values)
    assert math.isclose(found.mean, math.fsum(values) / len(values), rel_tol=1e-12)
    assert (found.smallest, found.largest) == (min(values), max(values))


@given(VALUES, SHARES)
def test_many_values_are_close(values: list[float], share: float) -> None:
    """Counted in buckets, a quantile is at most 1/256 away, and never outside of what was measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "EXACT", 0)
        found = Samples(values)
    expected = nearest_rank(values, share)
    assert abs(found.quantile(share) - expected) <= expected / 256 + 1e-300
    assert min(values) <= found.quantile(share) <= max(values)


def test_memory_is_bounded() -> None:
    """Many values over nine orders of magnitude take some thousand buckets; the summary is right."""
    draw = random.Random(1)
    found = Samples()
    for _ in range(20):
        found.extend([10 ** draw.uniform(-6, 3) for _ in range(10_000)])
    assert found._exact is None
    assert len(found._buckets) <= 256 * (math.log2(1e9) + 2)
    summary = found.summary()
    assert summary is not None
    assert summary.count == 200_000
    assert math.isclose(math.log10(summary.p50), -1.5, abs_tol=0.05)
    assert math.isclose(math.log10(summary.p99), 2.91, abs_tol=0.05)


def test_no_values() -> None:
    """Nothing measured is no number, and not zero."""
    empty = Samples()
    assert math.isnan(empty.quantile(0.5))
    assert math.isnan(empty.mean)
    assert empty.summary() is None
    assert empty.curve() == []


def test_zeros_and_negatives() -> None:
    """Gaps of tokens that arrive together are zero; clocks of other transports may even step back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "EXACT", 0)
        found = Samples([0.0, 0.0, 0.0, -1e-9, 1.0])
    assert found.quantile(0.5) == 0.0
    assert found.quantile(1.0) == pytest.approx(1.0, rel=1 / 256)
