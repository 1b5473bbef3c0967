"""The simulation of many machines: what its tables say follows from the parts that it simulates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "bulk"))
import simulate


def test_workers_share_an_allowance() -> None:
    """Three workers use at least 95 % of it, never more, and in equal parts, at ten leases a second at most."""
    found = simulate.simulate_budget(3, 100.0, seconds=6.0)
    assert 0.95 <= found["share"] <= 1.01
    assert found["least"] > 0.9
    assert found["leases_per_worker"] <= 10
    assert found["budget_cpu"] < 0.01


def test_a_job_takes_what_its_slots_take() -> None:
    """The simulated run is the work divided by the slots, plus the end when some workers have no shard any more."""
    found = simulate.simulate_job(200_000, 10)
    assert found["shards"] == 100
    assert found["run"] == pytest.approx(200_000 / 10 / 32, rel=0.15)
    assert found["paid_twice"] == 0
    deadly = simulate.simulate_job(200_000, 10, deaths_per_hour=20.0)
    assert deadly["deaths"] > 10
    assert deadly["paid_twice"] == deadly["deaths"] * simulate.IN_FLIGHT
    assert deadly["run"] > found["run"]


def test_a_driver_saturates_later_with_larger_shards() -> None:
    """Fewer shards are less work for the driver."""
    assert 1_000 < simulate.saturation() < simulate.saturation(shard=20_000)
