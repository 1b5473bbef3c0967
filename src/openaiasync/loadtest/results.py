"""The result of a load test: the measurements of its requests, summed up in bounded memory while it runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from .samples import USUAL, Distribution, Samples
from .verdict import ClientLoad, Verdict

__all__ = [
    "ErrorCount",
    "Goals",
    "Goodput",
    "Measured",
    "RequestRecord",
    "StageRecorder",
    "StageResult",
    "TimelineBucket",
    "parse_goals",
]

_BUCKETS = 240  # of a timeline; above this pairs are merged
_WORDS = 3  # different messages kept for each kind of error
_GOAL = re.compile(r"(\w+)=([0-9]*\.?[0-9]+)(us|ms|s)?")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1.0}


class Goals(msgspec.Struct, frozen=True, kw_only=True):
    """Targets of one request, in seconds; a request that misses any of them does not count for the goodput."""

    ttft: float | None = None
    """Time to the first token."""
    itl: float | None = None
    """Mean time between two tokens of the request."""
    gap: float | None = None
    """Longest pause between two chunks of the request."""
    latency: float | None = None
    """Time to the end of the answer."""

    def __bool__(self) -> bool:
        return any(value is not None for value in msgspec.structs.astuple(self))

    def __str__(self) -> str:
        pairs = zip(self.__struct_fields__, msgspec.structs.astuple(self), strict=True)
        return ", ".join(f"{name} ≤ {1000 * value:g} ms" for name, value in pairs if value is not None)


def parse_goals(texts: list[str] | tuple[str, ...]) -> Goals:
    """Return the goals written as ``ttft=500ms``, ``itl=50ms``, ``gap=0.2s``, ``latency=10s``; several in one text are
    separated by commas or blanks. Raises `ValueError`."""
    found: dict[str, float] = {}
    for text in re.split(r"[,\s]+", " ".join(texts).strip()):
        if not text:
            continue
        match = _GOAL.fullmatch(text)
        names = Goals.__struct_fields__
        if match is None or match[1] not in names or not float(match[2]) > 0:
            raise ValueError(f"{text!r} is not a goal: write {', '.join(names)} with a time, such as ttft=500ms")
        found[match[1]] = float(match[2]) * _UNITS[match[3]]
    return Goals(**found)


class Measured(msgspec.Struct, kw_only=True, gc=False):
    """One request. Times are of one clock, in seconds."""

    due: float
    """When it was to be sent. All latencies count from here, so that they include any wait for a stalled server or for
    a slot."""
    sent: float = 0.0
    late: float = 0.0
    """How late the client sent it, not counting the wait for a slot."""
    queued: float = 0.0
    """How long it waited for a slot of ``max_in_flight``."""
    first: float | None = None
    """When the first token was received."""
    last: float | None = None
    end: float = 0.0
    chunks: int = 0
    """Events with tokens."""
    input: int | None = None
    output: int | None = None
    """Tokens by the server's count."""
    kind: str = ""
    """The kind of the error, ``""`` for an answer."""
    words: str = ""


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The figures of one request, as a line of a file. Times are in seconds."""

    load: str
    """The load of its stage."""
    due: float
    """When it was to be sent, from the start of the stage."""
    measured: bool
    """False during ramp and warm-up."""
    late: float = 0.0
    """How late the client sent it, not counting the wait for a slot."""
    queued: float = 0.0
    """How long it waited for a slot of ``max_in_flight``."""
    ttft: float | None = None
    """From the instant at which it was due to its first token."""
    latency: float = 0.0
    """From the instant at which it was due to the end of its answer, or of its failure."""
    chunks: int = 0
    """Events with tokens."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """Tokens by the server's count; `None` without one."""
    gaps: list[float] = []
    """Times between its chunks."""
    error: str = ""
    """The kind of the error of a failed request."""
    message: str = ""
    """The words of the server, or of the network."""


class ErrorCount(msgspec.Struct, kw_only=True):
    """Failed requests of one kind."""

    kind: str
    count: int
    messages: list[str]
    """Some of the server's own words."""


class Goodput(msgspec.Struct, kw_only=True):
    """Requests that met all goals."""

    goals: Goals
    share: float
    """Of all requests that ended, failed ones included."""
    rate: float
    """Per second."""


class TimelineBucket(msgspec.Struct, kw_only=True, gc=False):
    """What happened in one interval of a stage; times are in seconds from its start."""

    at: float
    seconds: float
    in_flight: float = 0.0
    """Mean number of requests under way."""
    ended: int = 0
    failed: int = 0
    tokens: float = 0.0
    """Output tokens received."""
    ttft_sum: float = 0.0
    ttft_max: float = 0.0
    ttft_count: int = 0

    @property
    def ttft(self) -> float:
        """The mean time to the first token of requests that got it in this interval."""
        return self.ttft_sum / self.ttft_count if self.ttft_count else 0.0


class StageResult(msgspec.Struct, kw_only=True):
    """The figures of one load. Only requests that were due after ramp and warm-up count."""

    load: str
    """The load in words, such as ``concurrency 32`` or ``rate 10/s``."""
    concurrency: int | None = None
    rate: float | None = None
    requests: int | None = None
    """The number of requests after which the stage ended; `None`: it ended by time."""
    max_in_flight: int | None = None
    seconds: float = 0.0
    """Length of the measured window."""
    ok: int = 0
    failed: int = 0
    unfinished: int = 0
    """Requests that were given up at the end."""
    unsent: int = 0
    """Requests of an open loop's schedule that this client was too slow to send."""
    errors: list[ErrorCount] = []
    in_flight: float = 0.0
    """Achieved concurrency: requests under way, averaged over the window."""
    sent_rate: float = 0.0
    """Requests sent per second of the window."""
    request_rate: float = 0.0
    """Answers per second of the window."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Tokens of the counted requests."""
    counted_by: str = "usage"
    """``"usage"``: the server's count; ``"chunks"``: it sends none, and every chunk counts as one token;
    ``"mixed"``."""
    tokens_per_second: float = 0.0
    """Output tokens received per second of the window."""
    input_tokens_per_second: float = 0.0
    """Input tokens, of requests whose first token was received in the window, per second of it."""
    ttft: Distribution | None = None
    itl: Distribution | None = None
    """Time between two chunks."""
    tpot: Distribution | None = None
    """Time per token of a request after its first one."""
    latency: Distribution | None = None
    queued: Distribution | None = None
    goodput: Goodput | None = None
    client: ClientLoad | None = None
    verdict: Verdict | None = None
    interrupted: bool = False
    curves: dict[str, list[float]] = {}
    """Quantiles at 0 %, 1 %, … 100 % of ``ttft``, ``itl`` and ``latency``."""
    timeline: list[TimelineBucket] = []


class StageTimeline:
    """Amounts over time, in a bounded number of intervals."""

    def __init__(self, start: float, width: float = 0.25) -> None:
        self.start = start
        self.width: float = width
        self.buckets: list[TimelineBucket] = []

    def bucket(self, at: float) -> TimelineBucket:
        """Return the interval of a time."""
        index = max(0, int((at - self.start) / self.width))
        while index >= _BUCKETS:
            self._merge()
            index //= 2
        while len(self.buckets) <= index:
            self.buckets.append(TimelineBucket(at=len(self.buckets) * self.width, seconds=self.width))
        return self.buckets[index]

    def spread(self, name: str, begin: float, end: float, amount: float) -> None:
        """Add an amount that is spread evenly from `begin` to `end`."""
        self.bucket(end)
        if end <= begin:
            bucket = self.bucket(end)
            setattr(bucket, name, getattr(bucket, name) + amount)
            return
        begin = max(begin, self.start)
        for index in range(int((begin - self.start) / self.width), len(self.buckets)):
            low = self.start + index * self.width
            share = min(end, low + self.width) - max(begin, low)
            if share <= 0:
                break
            bucket = self.buckets[index]
            setattr(bucket, name, getattr(bucket, name) + amount * (share / (end - begin)))

    def _merge(self) -> None:
        self.width *= 2
        old, self.buckets = self.buckets, []
        for index in range(0, len(old), 2):
            one = old[index]
            one.seconds = self.width
            for other in old[index + 1 : index + 2]:
                for name in ("in_flight", "ended", "failed", "tokens", "ttft_sum", "ttft_count"):
                    setattr(one, name, getattr(one, name) + getattr(other, name))
                one.ttft_max = max(one.ttft_max, other.ttft_max)
            self.buckets.append(one)

    def finished(self) -> list[TimelineBucket]:
        """Return the intervals, with in-flight seconds as means."""
        for bucket in self.buckets:
            bucket.in_flight /= bucket.seconds
        return self.buckets


class StageRecorder:
    """The sums of the requests of one stage.

    The window of its rates is from `measure_from` to `measure_to` (`None`: to the end of the last request).
    """

    def __init__(
        self,
        start: float,
        measure_from: float,
        goals: Goals,
        measure_to: float | None = None,
        percentiles: Sequence[float] = USUAL,
    ) -> None:
        self.measure_from: float = measure_from
        self.measure_to: float | None = measure_to
        self.goals: Goals = goals
        self.percentiles: Sequence[float] = percentiles
        self.ok: int = 0
        self.failed: int = 0
        self.unfinished: int = 0
        self.good: int = 0
        self.sent_in_window: int = 0
        self.ended_in_window: int = 0
        self.good_in_window: int = 0
        self.busy: float = 0.0
        self.tokens_in_window: float = 0.0
        self.input_in_window: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.with_usage: int = 0
        self.without_usage: int = 0
        self.ttft: Samples = Samples()
        self.itl: Samples = Samples()
        self.tpot: Samples = Samples()
        self.latency: Samples = Samples()
        self.queued: Samples = Samples()
        self.late: Samples = Samples()
        self.errors: dict[str, tuple[int, Counter[str]]] = {}
        self.timeline: StageTimeline = StageTimeline(start)
        self.last_end: float = start

    def give_up(self, one: Measured) -> None:
        """Count a request that was abandoned before its end; it was part of the load until then."""
        if one.sent:
            self.timeline.spread("in_flight", one.sent, one.end, one.end - one.sent)
            end = one.end if self.measure_to is None else min(one.end, self.measure_to)
            self.busy += max(0.0, end - max(one.sent, self.measure_from))
            self.sent_in_window += self._in_window(one.sent)
        self.unfinished += one.due >= self.measure_from

    def close_window(self, at: float) -> None:
        """End the window now, as the stage was stopped."""
        self.measure_to = at if self.measure_to is None else min(self.measure_to, at)

    def record(self, load: str, one: Measured, gaps: list[float]) -> RequestRecord:
        """Return the figures of a request that has ended, to the microsecond."""
        return RequestRecord(
            load=load,
            due=round(one.due - self.timeline.start, 6),
            measured=one.due >= self.measure_from,
            late=round(one.late, 6),
            queued=round(one.queued, 6),
            ttft=None if one.first is None else round(one.first - one.due, 6),
            latency=round(one.end - one.due, 6),
            chunks=one.chunks,
            input_tokens=one.input,
            output_tokens=one.output,
            gaps=[round(gap, 6) for gap in gaps],
            error=one.kind,
            message=one.words,
        )

    def add(self, one: Measured, gaps: list[float]) -> None:
        """Count a request that has ended; `gaps` are the seconds between its chunks."""
        tokens = one.chunks if one.output is None else one.output
        self._draw(one, tokens)
        self._add_to_window(one, tokens)
        if one.due < self.measure_from:
            return
        self.late.add(one.late)
        if one.queued:
            self.queued.add(one.queued)
        if one.kind:
            self._add_error(one)
            return
        self.ok += 1
        self.input_tokens += one.input or 0
        self.output_tokens += tokens
        if one.output is None:
            self.without_usage += 1
        else:
            self.with_usage += 1
        self.latency.add(one.end - one.due)
        if one.first is not None and one.last is not None:
            self.ttft.add(one.first - one.due)
            self.itl.extend(gaps)
            if tokens > 1 and one.last > one.first:
                self.tpot.add((one.last - one.first) / (tokens - 1))
        if self.goals and self._is_good(one, gaps, tokens):
            self.good += 1
            if self._in_window(one.end):
                self.good_in_window += 1

    def _add_error(self, one: Measured) -> None:
        self.failed += 1
        count, messages = self.errors.get(one.kind, (0, Counter[str]()))
        if one.words in messages or len(messages) < _WORDS:
            messages[one.words] += 1
        self.errors[one.kind] = count + 1, messages

    def _is_good(self, one: Measured, gaps: list[float], tokens: int) -> bool:
        goals = self.goals
        streamed = one.first is not None and one.last is not None
        met: list[bool] = []
        if goals.latency is not None:
            met.append(one.end - one.due <= goals.latency)
        if goals.ttft is not None:
            met.append(streamed and one.first is not None and one.first - one.due <= goals.ttft)
        if goals.itl is not None:
            span = (one.last or 0.0) - (one.first or 0.0)
            met.append(streamed and span <= goals.itl * max(tokens - 1, 1))
        if goals.gap is not None:
            met.append(streamed and max(gaps, default=0.0) <= goals.gap)
        return all(met)

    def _in_window(self, at: float) -> bool:
        return at >= self.measure_from and (self.measure_to is None or at <= self.measure_to)

    def _add_to_window(self, one: Measured, tokens: int) -> None:
        self.last_end = max(self.last_end, one.end)
        end = self.measure_to if self.measure_to is not None else one.end
        if one.sent:
            self.busy += max(0.0, min(one.end, end) - max(one.sent, self.measure_from))
            self.sent_in_window += self._in_window(one.sent)
        if not one.kind:
            self.ended_in_window += self._in_window(one.end)
        first, last = one.first, one.last
        if first is None or last is None:
            first = last = one.end
        if self._in_window(first):
            self.input_in_window += one.input or 0
        if last > first:
            self.tokens_in_window += tokens * max(0.0, min(last, end) - max(first, self.measure_from)) / (last - first)
        elif self._in_window(last):
            self.tokens_in_window += tokens

    def _draw(self, one: Measured, tokens: int) -> None:
        timeline = self.timeline
        bucket = timeline.bucket(one.end)
        bucket.ended += 1
        bucket.failed += bool(one.kind)
        if one.sent:
            timeline.spread("in_flight", one.sent, one.end, one.end - one.sent)
        if one.first is not None and one.last is not None:
            timeline.spread("tokens", one.first, one.last, tokens)
            bucket = timeline.bucket(one.first)
            bucket.ttft_sum += one.first - one.due
            bucket.ttft_count += 1
            bucket.ttft_max = max(bucket.ttft_max, one.first - one.due)
        else:
            timeline.bucket(one.end).tokens += tokens

    def result(self, **more: Any) -> StageResult:
        """Return the figures of the stage; `more` are the fields that the caller knows."""
        end = self.last_end if self.measure_to is None else self.measure_to
        seconds = max(end - self.measure_from, 1e-9)
        ended = self.ok + self.failed
        goodput = None
        if self.goals:
            goodput = Goodput(
                goals=self.goals, share=self.good / ended if ended else 0.0, rate=self.good_in_window / seconds
            )
        counted_by = "usage" if not self.without_usage else "mixed" if self.with_usage else "chunks"
        errors = [
            ErrorCount(kind=kind, count=count, messages=[words for words, _ in messages.most_common(_WORDS)])
            for kind, (count, messages) in sorted(self.errors.items(), key=lambda item: -item[1][0])
        ]
        samples = {"ttft": self.ttft, "itl": self.itl, "latency": self.latency}
        return StageResult(
            seconds=seconds,
            ok=self.ok,
            failed=self.failed,
            unfinished=self.unfinished,
            errors=errors,
            in_flight=self.busy / seconds,
            sent_rate=self.sent_in_window / seconds,
            request_rate=self.ended_in_window / seconds,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            counted_by=counted_by,
            tokens_per_second=self.tokens_in_window / seconds,
            input_tokens_per_second=self.input_in_window / seconds,
            ttft=self.ttft.summary(self.percentiles),
            itl=self.itl.summary(self.percentiles),
            tpot=self.tpot.summary(self.percentiles),
            latency=self.latency.summary(self.percentiles),
            queued=self.queued.summary(self.percentiles),
            goodput=goodput,
            curves={name: values.curve() for name, values in samples.items() if values.count},
            timeline=self.timeline.finished(),
            **more,
        )
