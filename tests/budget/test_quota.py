"""Quotas: grants never exceed the limits, are divided by demand, and reach every worker, whatever fails."""

from __future__ import annotations

import math
import sys
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openaiasync.core.policy.leasing import Share
from openaiasync.core.policy.pacing import CONFIGURED_SHARE, DEBT
from openaiasync.core.policy.shared_quota import AHEAD, Grant, LeaseRequest, Quota, ReportedRefusal

sys.path.append(str(Path(__file__).parent))
from simulated import Simulation

SPAN = 0.25  # seconds of the longest slice


def request(worker: str, rows: float, each: float = 10.0, **more: object) -> LeaseRequest:
    return LeaseRequest(**{"worker": worker, "rpm": 6000.0, "requests": rows, "tokens": rows * each, **more})  # type: ignore[arg-type]


actions = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.2, 0.7, 1.5, -2.0]),  # seconds since the last one
        st.sampled_from(["lease"] * 8 + ["die", "forget", "leave"]),
        st.integers(0, 4),  # the worker
        st.sampled_from([0, 1, 3, 64, 1000]),  # rows that it has
        st.floats(0.0, 1.0),  # the part of its slice that it returns
        st.booleans(),  # whether a request was refused
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(actions, st.sampled_from([30.0, 600.0, 60_000.0]), st.sampled_from([100.0, 250.0]))
def test_no_window_exceeds_the_limit(
    events: list[tuple[float, str, int, int, float, bool]], rpm: float, ms: float
) -> None:
    """In no period is more granted than the rate allows, plus what may be leased ahead, under any order of leases,
    returns, refusals, deaths of workers and clocks set back. A quota that loses its data adds one slice."""
    quota, now, real = Quota(), 1000.0, 0.0
    held: dict[int, float] = {}
    names: dict[int, int] = {}
    granted: list[tuple[float, float, int]] = []  # real time, requests less those returned, losses of data so far
    losses = 0
    for seconds, kind, number, rows, part, refusal in events:
        now += seconds
        real += max(0.0, seconds)
        if kind == "die":  # what it held may be sent at any time; another worker takes its place
            held.pop(number, None)
            names[number] = names.get(number, 0) + 1
        elif kind == "forget":
            quota, losses = Quota(), losses + 1
        else:
            left = math.floor(part * held.get(number, 0.0))
            grant = quota.lease(now, LeaseRequest(
                worker=f"{number}.{names.get(number, 0)}", event="leave" if kind == "leave" else "", rpm=rpm,
                requests=float(rows), ms=ms, left_requests=float(left),
                refusals=[ReportedRefusal("requests", 0.05, 0.0)] if refusal else [],
            ))  # fmt: skip
            got = grant.requests or 0.0
            assert got == math.floor(got) >= 0
            assert got <= max(rows, 0)
            held[number] = got
            granted.append((real, got - left, losses))
    rate = rpm / 60.0 * CONFIGURED_SHARE
    for first in range(len(granted)):
        began, _, lost = granted[first]
        for (at, _, losses), total in zip(granted[first:], accumulate(one[1] for one in granted[first:]), strict=True):
            ahead = rate * (SPAN + AHEAD + DEBT) + 1.0
            assert total <= rate * (at - began) + ahead * (1 + losses - lost) + 1e-6


@pytest.mark.parametrize(("rate", "workers", "burst"), [(5, 3, 2.0), (150, 1, 0.2), (150, 3, 0.2), (100, 20, 0.5)])
def test_the_rate_is_used_and_not_exceeded(rate: float, workers: int, burst: float) -> None:
    """At least 95 % of the limit is used, with hardly a 429, however much the clocks differ, at 10 leases a second or
    fewer; no worker gets less than half of what another one gets."""
    world = Simulation(rate, burst=burst)
    for _ in range(workers):
        world.start()
        world.run(1.0 / workers)
    world.run(2.0)
    began, before = world.now, [one.accepted for one in world.workers.values()]
    world.run(10.0)
    assert world.share(began, world.now) >= 0.95
    assert 1000 * len(world.refused) <= 5 * len(world.sent) + 1000
    got = [one.accepted - old for one, old in zip(world.workers.values(), before, strict=True)]
    assert min(got) >= 0.5 * max(got)
    assert sum(at >= began for at, _ in world.leases) <= 10.0 * 10 * workers


def test_shares_follow_demand() -> None:
    """A worker with three times the rows gets about three times as much."""
    world = Simulation(100.0)
    world.start(slots=90)
    world.start(slots=30)
    world.run(10.0)
    many, few = (one.accepted for one in world.workers.values())
    assert many / few == pytest.approx(3.0, rel=0.2)


def test_no_worker_starves_at_a_slow_rate() -> None:
    """20 a second for 100 workers: each of them gets rows, and none more than thrice its part."""
    world = Simulation(20.0)
    world.start(slots=8, count=100)
    world.run(25.0)
    got = [one.accepted for one in world.workers.values()]
    assert sum(got) == pytest.approx(500, rel=0.1)
    assert min(got) >= 1
    assert max(got) <= 15


def test_a_killed_workers_share_goes_to_the_others() -> None:
    """Within two seconds after one of three workers is gone, the others use the whole rate."""
    world = Simulation(150.0)
    world.start(count=3)
    world.run(5.0)
    world.workers[1].dead = True
    world.run(2.0)
    assert world.share(world.now - 2.0, world.now) >= 0.8
    world.run(5.0)
    assert world.share(world.now - 5.0, world.now) >= 0.98
    assert not [at for at in world.refused if at > 1.0]


@pytest.mark.parametrize("loses_data", [False, True])
def test_an_outage_of_the_store(loses_data: bool) -> None:
    """Five seconds without the budget: 80 % of the rate, and at most 20 429s; then all of it again."""
    world = Simulation(150.0)
    world.start(count=3)
    world.run(5.0)
    world.reachable = False
    world.run(5.0)
    assert 0.75 <= world.share(world.now - 4.5, world.now) <= 0.85
    world.reachable = True
    if loses_data:
        world.quota = Quota()
    world.run(1.0)
    world.run(5.0)
    assert world.share(world.now - 5.0, world.now) >= 0.98
    assert len(world.refused) <= 20


def test_what_one_worker_learns_all_know() -> None:
    """Without limits from the user, workers find the server's limit together, and use it."""
    world = Simulation(100.0, rpm=None)
    world.start(count=3)
    world.run(20.0)
    assert world.share(5.0, world.now) >= 0.9
    late = sum(at >= 10.0 for at in world.refused)
    assert late <= 0.05 * sum(at >= 10.0 for at in world.sent)


@pytest.mark.parametrize(
    ("rate", "workers"), [(1.0, 3), (1.0, 20), (10.0, 1), (10.0, 3), (10.0, 20), (100.0, 3), (100.0, 20), (1000.0, 3)]
)
def test_an_unknown_limit_is_found_without_a_flood(rate: float, workers: int) -> None:
    """However many workers begin at once, about as many requests are refused before they know as with one process
    alone, which has 64 slots: without a slow start it would be all slots of all workers."""
    world = Simulation(rate, rpm=None)
    world.start(count=workers)
    world.run(20.0)
    assert sum(at < 2.0 for at in world.refused) <= 40
    assert sum(at >= 10.0 for at in world.refused) <= 5 + 0.03 * sum(at >= 10.0 for at in world.sent)
    assert world.share(5.0, world.now) >= 0.75


def test_a_server_without_limits_is_used_fully_soon() -> None:
    """A slow start ends: after a few seconds, all slots of all workers are in use."""
    world = Simulation(1e9, rpm=None)
    world.start(count=20)
    world.run(8.0)
    assert sum(at >= 7.0 for at in world.sent) >= 0.95 * 20 * 64 / world.latency


def test_a_refusal_holds_all_workers() -> None:
    """A pause that one worker reports holds for the others."""
    quota = Quota()
    quota.lease(2.0, request("a", 64.0, refusals=[ReportedRefusal("requests", 0.05, 3.0)]))
    grant = quota.lease(2.1, request("b", 64.0))
    assert grant.requests == 0
    assert grant.hold == pytest.approx(2.9)
    assert quota.lease(5.1, request("b", 64.0)).requests


def test_limits_in_header_fields_reach_all_workers() -> None:
    """A limit that one worker reads from a response slows the others; it ends once it turns out to be wrong."""
    quota = Quota()
    quota.lease(0.0, request("a", 10.0, header_requests=20.0))
    assert (quota.lease(0.1, request("b", 10.0)).share_requests or 0.0) == pytest.approx(0.985 * 10)
    quota.lease(0.2, request("a", 10.0, header_requests=0.0))
    assert (quota.lease(0.3, request("b", 10.0)).share_requests or 0.0) == pytest.approx(0.997 * 50)


def test_other_limits_are_refused_while_workers_are_there() -> None:
    """Joining with other limits is an error that names those in use; without any worker, the new ones count."""
    quota = Quota()
    quota.lease(0.0, request("a", 1.0))
    grant = quota.lease(0.5, LeaseRequest(worker="b", event="join", rpm=60.0))
    assert (grant.error, grant.rpm) == ("limits", 6000.0)
    assert quota.lease(5.0, LeaseRequest(worker="b", event="join", rpm=60.0)).error == ""
    assert quota.lease(5.1, LeaseRequest(worker="b", event="join", rpm=60.0)).rpm == 60.0


def test_changed_limits_hold_for_all_workers_at_once() -> None:
    """A change from one row a minute to 100 a second does not wait for the former rate."""
    quota = Quota()
    quota.lease(0.0, request("a", 5.0, rpm=1.0))
    quota.lease(0.1, request("a", 5.0, rpm=1.0))
    assert quota.lease(0.2, request("a", 5.0, rpm=6000.0, event="change")).rpm == 6000.0
    assert quota.lease(1.4, request("b", 5.0, rpm=1.0)).requests == 5


def test_a_clock_that_is_set_back_stops_no_worker() -> None:
    """A store that takes over with an earlier time grants at once, and no more than the rate."""
    quota = Quota()
    for step in range(10):
        quota.lease(1000.0 + 0.1 * step, request("a", 64.0))
    got = sum(quota.lease(900.0 + 0.1 * step, request("a", 64.0)).requests or 0.0 for step in range(20))
    assert 150 <= got <= 250


def test_tokens_are_limited_too() -> None:
    """The limit that is used up first counts; rows that cost more than was booked are made up for."""
    quota = Quota()
    limits = {"rpm": 6000.0, "tpm": 60_000.0}  # 100 rows, 1000 tokens a second
    got = sum(quota.lease(0.1 * step, request("a", 64.0, each=100.0, **limits)).requests or 0.0 for step in range(100))
    assert got == pytest.approx(100, rel=0.1)
    quota.lease(10.0, request("a", 64.0, each=100.0, left_tokens=-2000.0, **limits))
    got = sum(
        quota.lease(10 + 0.1 * step, request("a", 64.0, each=100.0, **limits)).requests or 0.0 for step in range(20)
    )
    assert got <= 3


def test_a_worker_sends_what_was_granted_evenly() -> None:
    """Rows of a slice are spread over it; then no row is sent before the next one."""
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
    """80 % of the last share, or of the one that it joined with; said to be new once; leases again with a grant."""
    for grants in (True, False):
        share = Share("a", 6000.0, None)
        share.joined(Grant(share_requests=50.0))
        if grants:
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


def test_limits_can_be_changed_without_the_budget() -> None:
    """`limits set` during an outage changes the rate in proportion, and the budget's limits afterwards."""
    share = Share("a", 6000.0, None)
    share.joined(Grant(share_requests=50.0))
    share.lost(0.0)
    share.change(3000.0, None)
    assert share.requests.configured == pytest.approx(0.8 * 25.0)
    asked = share.request(1.0, 8.0)
    assert (asked.event, asked.rpm) == ("change", 3000.0)
    share.granted(1.0, asked, Grant(requests=1.0, rpm=3000.0))
    assert share.request(2.0, 8.0).event == ""
