"""What is summed up of the requests of a stage."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.loadtest.load_report import LoadReport, html_page, stage_lines
from openaiasync.loadtest.results import Goals, Measured, StageRecorder, StageTimeline, parse_goals


def request(due: float, first: float, end: float, chunks: int = 11, **more: object) -> Measured:
    return Measured(due=due, sent=due, first=first, last=end, end=end, chunks=chunks, **more)  # type: ignore[arg-type]


def test_latencies_count_from_the_schedule() -> None:
    """A request that was sent late, or waited for a slot, has waited for that time."""
    recorder = StageRecorder(100.0, 100.0, Goals())
    recorder.add(
        Measured(due=101.0, sent=103.0, queued=1.5, late=0.5, first=103.2, last=104.2, end=104.2, chunks=11), [0.1] * 10
    )
    found = recorder.result(load="x")
    assert found.ttft is not None
    assert found.latency is not None
    assert found.tpot is not None
    assert found.queued is not None
    assert (found.ttft.p50, found.latency.p50, found.tpot.p50) == pytest.approx((2.2, 3.2, 0.1))
    assert found.queued.p50 == 1.5


def test_the_window_measures_what_happened_in_it() -> None:
    """Requests due before the window count for its throughput and concurrency as far as they reach into it."""
    recorder = StageRecorder(0.0, 10.0, Goals(), 20.0)
    recorder.add(request(5.0, 6.0, 16.0, output=101), [])  # 6 s of 11 in the window, 60 of its tokens
    recorder.add(request(12.0, 13.0, 15.0, output=21, input=7), [])
    recorder.add(request(18.0, 19.0, 29.0, output=101), [])  # 2 s in the window, 10 % of its tokens
    found = recorder.result(load="x")
    assert found.seconds == 10.0
    assert found.ok == 2, "only requests that were due in the window count themselves"
    assert found.in_flight == pytest.approx((6 + 3 + 2) / 10, rel=0.01)
    assert found.request_rate == 0.2
    assert found.sent_rate == 0.2
    assert found.tokens_per_second * 10 == pytest.approx(60.6 + 21 + 10.1, rel=0.1)
    assert (found.input_tokens, found.output_tokens) == (7, 122)


def test_a_server_without_usage() -> None:
    """Chunks are counted as tokens, and the result says so."""
    recorder = StageRecorder(0.0, 0.0, Goals())
    recorder.add(request(1.0, 2.0, 3.0, chunks=5), [])
    assert recorder.result(load="x").counted_by == "chunks"
    recorder.add(request(1.0, 2.0, 3.0, output=5), [])
    found = recorder.result(load="x")
    assert (found.counted_by, found.output_tokens) == ("mixed", 10)


def test_errors_by_kind_with_words() -> None:
    """The most frequent kind is first, with at most three different messages."""
    recorder = StageRecorder(0.0, 0.0, Goals())
    for number in range(10):
        recorder.add(Measured(due=1.0, sent=1.0, end=1.0, kind="429", words=f"wait {number % 5} s"), [])
    recorder.add(Measured(due=1.0, sent=1.0, end=1.0, kind="500", words="oops"), [])
    found = recorder.result(load="x")
    assert [(one.kind, one.count, len(one.messages)) for one in found.errors] == [("429", 10, 3), ("500", 1, 1)]
    assert found.failed == 11
    assert found.latency is None


@pytest.mark.parametrize(
    ("goals", "met"),
    [
        (Goals(ttft=1.0), True),
        (Goals(ttft=0.9), False),
        (Goals(itl=0.1), True),
        (Goals(itl=0.09), False),
        (Goals(gap=0.3), True),
        (Goals(gap=0.2), False),
        (Goals(latency=2.0), True),
        (Goals(latency=1.9), False),
        (Goals(ttft=1.0, itl=0.1, gap=0.3, latency=1.0), False),
    ],
)
def test_goodput(goals: Goals, met: bool) -> None:
    """All goals have to be met; a failed request meets none."""
    recorder = StageRecorder(0.0, 0.0, goals)
    recorder.add(request(0.0, 1.0, 2.0, output=11), [0.0] * 5 + [0.3] + [0.175] * 4)
    recorder.add(Measured(due=0.0, sent=0.0, end=2.0, kind="500", words=""), [])
    goodput = recorder.result(load="x").goodput
    assert goodput is not None
    assert (goodput.share, goodput.rate) == ((0.5, 0.5) if met else (0.0, 0.0))


def test_goals_as_text() -> None:
    """Units are microseconds to seconds; several may be in one text."""
    assert parse_goals(["ttft=500ms", "itl=50ms"]) == Goals(ttft=0.5, itl=0.05)
    assert parse_goals(["ttft=1.5s,gap=900us latency=10"]) == Goals(ttft=1.5, gap=0.0009, latency=10.0)
    assert not parse_goals([])
    assert str(Goals(ttft=0.5, itl=0.02)) == "ttft ≤ 500 ms, itl ≤ 20 ms"


@pytest.mark.parametrize("text", ["ttft", "ttft=", "ttft=5m", "speed=5ms", "ttft=-1", "ttft=0", "=5", "ttft=5ms;itl=1"])
def test_a_text_that_is_not_a_goal(text: str) -> None:
    """The error names the goals that there are."""
    with pytest.raises(ValueError, match="ttft, itl, gap, latency"):
        parse_goals([text])


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=60))
def test_a_timeline_keeps_every_amount(spans: list[tuple[float, float, float]]) -> None:
    """However long it gets, its intervals are bounded in number, and together hold what was added."""
    timeline = StageTimeline(0.0)
    for begin, length, amount in spans:
        timeline.spread("tokens", begin, begin + length, amount)
    assert len(timeline.buckets) <= 240
    total = math.fsum(bucket.tokens for bucket in timeline.buckets)
    assert total == pytest.approx(math.fsum(amount for _, _, amount in spans), rel=1e-6, abs=1e-6)
    assert all(bucket.at == pytest.approx(index * timeline.width) for index, bucket in enumerate(timeline.buckets))


def test_names_on_the_page_are_text() -> None:
    """URL, model, load and versions are escaped, whatever characters they have."""
    recorder = StageRecorder(0.0, 0.0, Goals())
    recorder.add(request(1.0, 2.0, 3.0, output=5), [0.1])
    stage = recorder.result(load="<b>load</b>")
    report = LoadReport(
        url='http://h/<i>&"', model="org/é <i>x", started="now", workload="<u>", versions={"<s>": "1"}, stages=[stage]
    )
    page = html_page(report)
    assert not [tag for tag in ("<i>", "<b>load", "<u>", "<s>") if tag in page]
    assert "org/é &lt;i&gt;x" in page
    assert "http://h/&lt;i&gt;&amp;" in page


def test_text_of_a_stage_has_what_it_measured() -> None:
    """Asked beside achieved rate, requests that were never sent, tokens in and out, the speed of one answer."""
    recorder = StageRecorder(0.0, 0.0, Goals(), 10.0, (50.0, 99.9))
    recorder.add(request(1.0, 2.0, 3.0, output=11, input=20), [0.1] * 10)
    stage = recorder.result(load="rate 5/s", rate=5.0, unsent=49)
    lines = stage_lines(stage)
    assert lines[0] == "rate 5/s: 1 answers in 10 s, 49 never sent"
    assert lines[1].split() == ["mean", "p50", "p99.9", "max"]
    text = "\n".join(lines)
    assert "sent 0.10/s of 5/s" in text
    assert "1.1 tokens/s out, 2.0 in" in text
    assert "speed of one answer: 10.0 tokens/s" in text
