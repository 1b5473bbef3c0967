"""What a server is sent: limits told, learned and found, concurrency that finds itself, measured in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from openaiasync.core.policy.admission import Admission, RateLimitRefusal
from openaiasync.core.policy.breaker import Breaker
from openaiasync.core.policy.pacing import DEBT, HeaderRate, Meter, Pacer, RefusalRate
from traffic import Bucket, Gcra, Sliding, Traffic, Window

SEEDS = range(1, 2)
KINDS: list[Any] = [Gcra, Bucket, Window, Sliding]


class TestTold:
    """A limit that the user told is used to 99 %, and refused less than once in 2,000."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("rate", [2.0, 20.0])
    def test_share_and_waste(self, kind: Any, rate: float) -> None:
        """Whatever way the server counts, with an event loop that is late now and then."""
        seconds = 600 if rate < 10 else 120
        for seed in SEEDS:
            traffic = Traffic(Admission(rpm=rate * 60), seconds, seed, requests=kind(rate), stalls=0.5).run()
            assert traffic.taken(60, seconds) >= 0.99 * rate
            assert traffic.wasted(0, seconds) <= 0.5

    def test_tokens(self) -> None:
        """Tokens are booked by an estimate that is far off, and corrected by each answer."""
        for seed in SEEDS:
            admission = Admission(tpm=600_000)
            traffic = Traffic(
                admission,
                90,
                seed,
                tokens=Gcra(10_000, 2.0),
                size=lambda rng: rng.uniform(50, 350),
                estimate=300.0,
                latency=0.3,
            ).run()
            assert traffic.taken(30, 90, tokens=True) >= 0.97 * 10_000
            assert traffic.wasted(0, 90) <= 5

    def test_a_limit_that_changes(self) -> None:
        """Told anew, it holds from the next request on."""

        def change(now: float, traffic: Any) -> None:
            traffic.requests.rate = 50.0 if 20 <= now < 40 else 100.0
            traffic.admission.requests.configured = traffic.requests.rate
            traffic.admission.requests.changed(now)

        traffic = Traffic(Admission(rpm=6000), 60, 1, requests=Gcra(100.0), change=change).run()
        assert traffic.taken(23, 40) >= 0.98 * 50
        assert traffic.taken(43, 60) >= 0.98 * 100
        assert len(traffic.refused) <= 20


class TestLearned:
    """A limit that the server's fields tell is used to 97 %, and refused twice in 1,000 at most."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("rate", [5.0, 20.0])
    def test_share_and_waste(self, kind: Any, rate: float) -> None:
        """From the first answer on."""
        seconds = 240 if rate < 10 else 120
        for seed in SEEDS:
            traffic = Traffic(Admission(), seconds, seed, requests=kind(rate), headers=True, stalls=0.5).run()
            assert traffic.taken(60, seconds) >= 0.97 * rate
            assert traffic.wasted(10, seconds) <= 2

    def test_a_limit_that_halves_and_returns(self) -> None:
        """At most ten refusals a change, and 95 % of the new limit within three seconds."""

        def change(now: float, traffic: Any) -> None:
            traffic.requests.rate = 50.0 if 20 <= now < 40 else 100.0

        for seed in SEEDS:
            traffic = Traffic(Admission(), 60, seed, requests=Gcra(100.0), headers=True, change=change).run()
            for at, rate in ((20, 50.0), (40, 100.0)):
                assert traffic.taken(at + 3, at + 19) >= 0.95 * rate
                assert sum(at <= one < at + 19 for one in traffic.refused) <= 10

    @pytest.mark.parametrize(
        "fields",
        [(0, 0, 1.0), (-5, 0, 1.0), (10, 20, 1.0), (None, None, None), (math.inf, 0, 0), (1e20, 5, 3.0)],
    )
    def test_nonsense_is_ignored(self, fields: Any) -> None:
        """An impossible limit changes nothing."""
        rate = HeaderRate()
        rate.see(0.0, *fields)
        assert rate.rate == math.inf

    def test_a_limit_that_is_not_kept_is_none(self) -> None:
        """A server that says 1 a minute and answers hundreds is not believed."""
        rate = HeaderRate()
        for number in range(400):
            rate.see(number * 0.1, 1, 0, 60.0)
            rate.accepted(number * 0.1, 1.0)
        assert rate.rate == math.inf

    def test_a_limit_a_day_is_one_a_day(self) -> None:
        """Groq tells requests a day: what is missing, and the time until nothing is missing, show it."""
        rate = HeaderRate()
        for number in range(1, 30):
            rate.see(number * 1.0, 14400, 14400 - number, number * 6.0)
        assert rate.rate == pytest.approx(14400 / 86400)

    def test_windows_of_other_lengths(self) -> None:
        """A reset that is an hour away belongs to a limit an hour."""
        rate = HeaderRate()
        rate.see(0.0, 3600, 3500, 3000.0)
        assert rate.rate == 1.0

    def test_a_stated_window_counts(self) -> None:
        """A limit for ten seconds is one for ten seconds, whatever the other fields look like."""
        rate = HeaderRate()
        for now in range(30):
            rate.see(float(now), 100, 50, 3000.0, 10.0)
        assert rate.rate == 10.0


class TestFound:
    """A limit that only 429s tell of is used to 93 %, and refused ten times in 1,000."""

    @pytest.mark.parametrize("retry_after", [False, True])
    @pytest.mark.parametrize("kind", KINDS)
    def test_share_and_waste(self, kind: Any, retry_after: bool) -> None:
        """After the first minute, in which the limit is found.

        A log of the last minute that names no pause is the hardest: what was sent at once is taken back at once.
        """
        least = 0.8 if kind is Sliding and not retry_after else 0.93
        for seed in SEEDS:
            traffic = Traffic(Admission(), 180, seed, requests=kind(25.0), retry_after=retry_after).run()
            assert traffic.taken(60, 180) >= least * 25
            assert traffic.wasted(60, 180) <= 10

    def test_a_limit_that_halves(self) -> None:
        """Ten refusals, and 95 % of the new limit after three seconds."""

        def change(now: float, traffic: Any) -> None:
            traffic.requests.rate = 50.0 if now >= 20 else 100.0

        for seed in SEEDS:
            traffic = Traffic(Admission(), 40, seed, requests=Gcra(100.0), change=change).run()
            assert traffic.taken(23, 33) >= 0.95 * 50
            assert sum(20 <= one < 23 for one in traffic.refused) <= 12

    def test_a_limit_that_returns(self) -> None:
        """It is found again, the sooner the higher it is."""

        def change(now: float, traffic: Any) -> None:
            traffic.requests.rate = 100.0 if 20 <= now < 40 else 200.0

        for seed in SEEDS:
            traffic = Traffic(Admission(), 54, seed, requests=Gcra(200.0), change=change).run()
            assert traffic.taken(46, 54) >= 0.95 * 200

    def test_retry_after_holds_for_everybody(self) -> None:
        """Nothing is sent before the time that one refusal names; after it requests are spaced."""
        admission = Admission(max_in_flight=100)
        flights = [admission.start(0.0, 0) for _ in range(10)]
        admission.refused(0.1, flights[0], RateLimitRefusal("requests", 5.0))
        assert admission.ready_at(0.1) >= 5.1
        admission.start(6.0, 0)
        assert admission.ready_at(6.0) > 6.0 - DEBT


class TestConcurrency:
    """The number in flight that a server gives its throughput at."""

    @pytest.mark.parametrize("latency", [0.05, 0.2, 1.0])
    def test_the_knee_of_a_server_that_queues(self, latency: float) -> None:
        """64 slots, and no 429 ever: 97 % of the throughput at 1.5 times the latency, after ten seconds."""
        for seed in SEEDS:
            traffic = Traffic(Admission(), 40, seed, slots=64, latency=latency, noise=0.3).run()
            after = [taken for at, taken in traffic.latencies if at >= 12]
            assert len(after) / 28 >= 0.96 * 64 / latency
            assert sum(after) / len(after) <= 1.5 * (latency + 0.011)

    @pytest.mark.parametrize("latency", [0.1, 0.2])
    def test_a_hard_cap(self, latency: float) -> None:
        """64 in flight, 429 without a word beyond: 95 % of the throughput, ten refusals for 1,000 rows."""
        for seed in SEEDS:
            traffic = Traffic(Admission(), 60, seed, cap=64, latency=latency).run()
            assert traffic.taken(10, 60) >= 0.95 * 64 / (latency + 0.011)
            assert traffic.wasted(0, 60) <= 10

    def test_a_server_that_works_in_batches(self) -> None:
        """Where every answer gets slower with each further one, most of the throughput is found."""
        traffic = Traffic(Admission(), 100, 1, work=lambda working: 0.5 * (1 + working / 64)).run()
        assert traffic.taken(60, 100) >= 0.6 * 128

    def test_a_small_server(self) -> None:
        """Eight slots are not flooded with hundreds."""
        traffic = Traffic(Admission(), 40, 2, slots=8, latency=0.2, noise=0.2).run()
        assert traffic.taken(15, 40) >= 0.95 * 40
        assert max(beside for at, beside in traffic.flights if at > 15) <= 32

    def test_what_is_told_is_kept(self) -> None:
        """A fixed number is never passed."""
        traffic = Traffic(Admission(max_in_flight=7), 5, 0, latency=0.05).run()
        assert max(beside for _, beside in traffic.flights) == 7


class TestBreaker:
    """No calls to a server that does not work, but for probes."""

    def test_it_opens_probes_and_closes(self) -> None:
        """Three failures in a row open it; pauses double up to four seconds; a success closes it."""
        breaker = Breaker()
        for _ in range(2):
            breaker.failed(0.0, False)
        breaker.succeeded(0.0)
        for _ in range(3):
            assert not breaker.is_open
            breaker.failed(10.0, False)
        assert breaker.ready_at() == 11.0
        now, pauses = 11.0, []
        for _ in range(4):
            assert breaker.start()
            assert breaker.ready_at() == math.inf
            breaker.failed(now, True)
            pauses.append(breaker.ready_at() - now)
            now = breaker.ready_at()
        assert pauses == [2.0, 4.0, 4.0, 4.0]
        assert breaker.start()
        breaker.succeeded(now)
        assert (breaker.is_open, breaker.ready_at()) == (False, -math.inf)

    def test_failures_of_a_crowd(self) -> None:
        """Of 64 calls in flight eight in a row have to fail: the few that fail at once return before all others."""
        breaker = Breaker()
        for _ in range(7):
            breaker.failed(0.0, False, in_flight=64)
            assert not breaker.is_open
        breaker.failed(0.0, False, in_flight=64)
        assert breaker.is_open

    def test_late_failures_and_cancelled_probes(self) -> None:
        """Failures of calls from before do not move the probe; a probe that was cancelled makes room for another."""
        breaker = Breaker()
        breaker.open(0.0, pause=3.0)
        breaker.failed(0.5, False)
        assert breaker.ready_at() == 3.0
        assert breaker.start()
        breaker.left(True)
        assert breaker.ready_at() == 3.0


class TestPacer:
    """Virtual time."""

    def test_a_late_timer_loses_nothing(self) -> None:
        """Up to the debt requests are made up for; idle time beyond it is gone."""
        pacer = Pacer(600)
        pacer.book(0.0, 1.0)
        assert pacer.due == pytest.approx(0.1 / 0.997 - DEBT)
        pacer = Pacer(6000)
        sent, now = 0, 100.0
        while pacer.due <= now:
            pacer.book(now, 1.0)
            sent += 1
        assert sent == pytest.approx(DEBT * 100 + 1, abs=1)

    def test_corrections_meet(self) -> None:
        """What was booked too much is there for the next rows, even where time has passed."""
        pacer = Pacer(60)
        pacer.book(0.0, 10.0)
        pacer.correct(10.0, 2.0)
        before = pacer.due
        pacer.book(before, 8.0)
        assert pacer.due == pytest.approx(before)

    @pytest.mark.parametrize("gap", [0.001, 0.1, 2.0])
    def test_a_meter_counts_a_second(self, gap: float) -> None:
        """Whatever the distance of events."""
        meter, now = Meter(5.0), 0.0
        for _ in range(int(60 / gap)):
            meter.add(now)
            now += gap
        assert meter.rate(now) == pytest.approx(1 / gap, rel=0.25)

    def test_a_refusal_of_what_was_not_booked(self) -> None:
        """A limit on tokens shows itself by a refusal before anything was known to book."""
        admission = Admission(max_in_flight=10)
        flight = admission.start(0.0, 0.0)
        admission.refused(0.1, flight, RateLimitRefusal("tokens"))
        assert 0.1 < admission.ready_at(0.1) < 10

    def test_a_rate_that_is_not_used_does_not_grow(self) -> None:
        """Nothing follows from a rate that nobody sent at."""
        found = RefusalRate()
        now = 0.0
        for _ in range(100):
            found.sent(now, 1.0)
            now += 0.01
        found.refused(now, now - 0.005, 1.0, None)
        rate = found.rate()
        for _ in range(1000):
            now += 5.0
            found.sent(now, 1.0)
        assert found.rate() <= 1.1 * rate


def test_a_server_that_fails_is_left_alone_and_found_again() -> None:
    """An open breaker lets one probe through, and everything after its success."""
    admission = Admission(max_in_flight=10)
    flights = [admission.start(0.0, 0) for _ in range(5)]
    ready: Callable[[float], float] = admission.ready_at
    for flight in flights:
        admission.failed(1.0, flight)
    assert ready(1.0) == 2.0
    probe = admission.start(2.0, 0)
    assert ready(2.0) == math.inf
    admission.answered(2.5, probe)
    assert ready(2.5) <= 2.5
    assert admission.in_flight == 0
