"""Budgets: what is granted never exceeds the limits, is divided by demand, and is the same for every backend."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from openaiasync.core.policy.leasing import Share
from openaiasync.core.policy.shared_quota import Grant, LeaseRequest, Quota, ReportedRefusal


def ask(worker: str, rows: float, each: float = 10.0, **more: object) -> LeaseRequest:
    return LeaseRequest(**{"worker": worker, "rpm": 6000.0, "requests": rows, "tokens": rows * each, **more})  # type: ignore[arg-type]


def granted(quota: Quota, workers: dict[str, float], seconds: float, began: float = 0.0) -> dict[str, float]:
    """Lease for workers with a constant demand whenever their lease is due; return the requests of each."""
    rng, found = random.Random(1), dict.fromkeys(workers, 0.0)
    due = {name: began + rng.random() * 0.1 for name in workers}
    while (name := min(due, key=due.__getitem__)) and due[name] < began + seconds:
        grant = quota.lease(due[name], ask(name, workers[name]))
        found[name] += grant.requests or 0.0
        due[name] += max(grant.again, 0.1)
    return found


def test_the_rate_is_used_and_never_exceeded() -> None:
    """100 a second: three hungry workers get all of it, in equal parts, and not more."""
    found = granted(Quota(), dict.fromkeys("abc", 64.0), 20.0)
    assert 0.98 * 2000 <= sum(found.values()) <= 2000 + 0.35 * 100
    assert min(found.values()) > 0.9 * max(found.values())


def test_shares_follow_demand() -> None:
    """A worker with three times the rows gets about three times as much."""
    found = granted(Quota(), {"a": 90.0, "b": 30.0}, 20.0)
    assert found["a"] / found["b"] == pytest.approx(3.0, rel=0.15)


def test_nobody_starves_at_a_slow_rate() -> None:
    """100 a second for 400 workers: each of them gets requests."""
    found = granted(Quota(), {f"w{number}": 8.0 for number in range(400)}, 40.0)
    assert sum(found.values()) == pytest.approx(4000, rel=0.05)
    assert min(found.values()) >= 4
    assert max(found.values()) <= 20


def test_a_dead_worker_gives_its_share_back() -> None:
    """A worker that leases no more is forgotten within a second, and the other takes all."""
    quota = Quota()
    granted(quota, {"a": 64.0, "b": 64.0}, 5.0)
    found = granted(quota, {"a": 64.0}, 4.0, began=5.0)
    assert found["a"] >= 0.9 * 400 - 100


def test_a_refusal_slows_everybody() -> None:
    """A pause that one worker reports holds for the others, and the rate is cut for a while."""
    quota = Quota()
    granted(quota, {"a": 64.0, "b": 64.0}, 2.0)
    quota.lease(2.0, ask("a", 64.0, refusals=[ReportedRefusal("requests", 0.05, 3.0)]))
    grant = quota.lease(2.1, ask("b", 64.0))
    assert grant.requests == 0
    assert grant.hold == pytest.approx(2.9)


def test_other_limits_are_refused_while_somebody_is_there() -> None:
    """Joining with other limits is an error that names those in use; once nobody is there, the new ones count."""
    quota = Quota()
    quota.lease(0.0, ask("a", 1.0))
    grant = quota.lease(0.5, LeaseRequest(worker="b", event="join", rpm=60.0))
    assert (grant.error, grant.rpm) == ("limits", 6000.0)
    assert quota.lease(5.0, LeaseRequest(worker="b", event="join", rpm=60.0)).error == ""
    assert quota.lease(5.1, LeaseRequest(worker="b", event="join", rpm=60.0)).rpm == 60.0


def test_a_worker_sends_what_was_granted_evenly() -> None:
    """Rows of a slice are spread over it; then nothing is sent before the next one."""
    share = Share("a", 600.0, None)
    sent = share.request(0.0, 8.0)
    share.granted(0.0, sent, Grant(requests=4.0, span=0.2, share_requests=20.0))
    at: list[float] = []
    now = 0.0
    while (due := share.due) < math.inf:
        now = max(now, due)
        at.append(now)
        share.requests.book(now, 1.0)
        share.tokens.book(now, 100.0)
    assert len(at) == 4
    assert [later - sooner for sooner, later in pairwise(at)][1:] == pytest.approx([0.05, 0.05])


def test_without_the_budget_a_worker_keeps_most_of_its_share() -> None:
    """80 % of the last share; said to be new once; back to leases with the next grant."""
    share = Share("a", 6000.0, None)
    share.granted(0.0, share.request(0.0, 8.0), Grant(requests=4.0, share_requests=50.0))
    assert share.lost(1.0)
    assert not share.lost(1.5)
    now, count = 1.5, 0
    while (now := max(now, share.due)) < 11.5:
        share.requests.book(now, 1.0)
        count += 1
    assert count == pytest.approx(400, rel=0.03)
    share.granted(12.0, share.request(12.0, 8.0), Grant(requests=0.0, share_requests=50.0))
    assert share.due == math.inf
