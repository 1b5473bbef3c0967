"""When requests are due: the rate, its spread, the ramp, the seed."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.loadtest.schedule import Arrivals, arrivals, worker_starts


def until(end: float, rate: float, **options: object) -> list[float]:
    return list(itertools.takewhile(lambda at: at < end, arrivals(rate, **options)))  # type: ignore[arg-type]


@given(
    st.floats(min_value=0.01, max_value=1e5),
    st.floats(min_value=0, max_value=100),
    st.sampled_from(["poisson", "constant"]),
)
def test_times_never_go_back(rate: float, ramp: float, kind: Arrivals) -> None:
    """They begin after 0 and grow, whatever the rate and the ramp."""
    times = list(itertools.islice(arrivals(rate, kind=kind, ramp=ramp), 200))
    assert times[0] > 0
    assert all(one <= other for one, other in itertools.pairwise(times))


def test_constant_arrivals_are_evenly_spaced() -> None:
    """A request each 1/rate seconds; the error of a thousand steps does not add up."""
    times = list(itertools.islice(arrivals(40, kind="constant"), 1000))
    assert times == pytest.approx([(number + 1) / 40 for number in range(1000)], abs=1e-9)


def test_poisson_arrivals_are_independent() -> None:
    """Gaps are exponential: their mean is 1/rate and their deviation equals it; equal seeds repeat them."""
    times = list(itertools.islice(arrivals(50, seed=3), 20_000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(1 / 50, rel=0.03)
    assert statistics.pstdev(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert sum(gap > 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.02)
    assert times == list(itertools.islice(arrivals(50, seed=3), 20_000))
    assert times != list(itertools.islice(arrivals(50, seed=4), 20_000))


@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_the_ramp_rises_linearly(kind: Arrivals) -> None:
    """Half of the requests of full load within the ramp, a quarter of these in its first half; then the full rate."""
    times = until(40, 200.0, kind=kind, ramp=20.0)
    slack = 0.01 if kind == "constant" else 0.08
    assert sum(at < 20 for at in times) == pytest.approx(2000, rel=slack)
    assert sum(at < 10 for at in times) == pytest.approx(500, rel=2 * slack)
    assert sum(at >= 20 for at in times) == pytest.approx(4000, rel=slack)


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_an_impossible_rate(rate: float) -> None:
    """A rate that is no number above 0 is refused at once."""
    with pytest.raises(ValueError, match="rate"):
        next(arrivals(rate))


def test_workers_start_one_after_the_other() -> None:
    """The first at once, the last before the end of the ramp."""
    assert worker_starts(4, 2.0) == [0.0, 0.5, 1.0, 1.5]
    assert worker_starts(3, 0.0) == [0.0, 0.0, 0.0]
