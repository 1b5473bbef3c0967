"""The progress of a job: its statistics, and a line that shows them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ..storage.disk import read_file
from ..storage.segments import FAILED, SENT, SegmentStore

__all__ = [
    "JobProgress",
    "JobStatus",
    "JobTotals",
    "Latencies",
    "TimelinePoint",
    "TokenPrice",
    "duration",
    "joined",
    "load_status",
    "price_for",
    "show_in_notebook",
    "sum_of_progress",
    "thinned",
    "totals_of",
]

_STEPS = 12  # latency buckets per factor e: their bounds are 9 % apart
_LOWEST = 1e-4  # seconds
_LARGEST = 256 << 20  # bytes of a status
_SAMPLES = 1200  # samples of a timeline; above this pairs are merged


class Latencies:
    """A histogram of latencies in buckets 9 % apart, of constant size."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total: int = 0

    def add(self, seconds: float) -> None:
        """Count one latency in seconds."""
        at = int(math.log(seconds / _LOWEST) * _STEPS) if seconds > _LOWEST else 0
        self.counts[at] = self.counts.get(at, 0) + 1
        self.total += 1

    def quantile(self, share: float) -> float | None:
        """Return the quantile for this share; `None` without samples."""
        left = share * self.total
        for at in sorted(self.counts):
            left -= self.counts[at]
            if left <= 0:
                return float(_LOWEST * math.exp((at + 0.5) / _STEPS))
        return None


class TimelinePoint(msgspec.Struct, array_like=True, gc=False):
    """One point of a job's timeline; counts are since the sample before."""

    at: float
    """Total duration of all runs of the job so far, in seconds."""
    seconds: float
    rows: int
    failed: int
    refused: int
    in_flight: int
    limit: int
    tokens: int
    p50: float
    p90: float
    p99: float


def thinned(samples: list[TimelinePoint]) -> list[TimelinePoint]:
    """Return a shortened timeline, with pairs of samples merged."""
    while len(samples) > _SAMPLES:
        pairs = [samples[at : at + 2] for at in range(0, len(samples), 2)]
        samples = [joined(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return samples


def joined(one: TimelinePoint, other: TimelinePoint) -> TimelinePoint:
    """Return one point for two that follow each other."""
    return TimelinePoint(
        other.at,
        one.seconds + other.seconds,
        one.rows + other.rows,
        one.failed + other.failed,
        one.refused + other.refused,
        max(one.in_flight, other.in_flight),
        other.limit,
        one.tokens + other.tokens,
        (one.p50 + other.p50) / 2,
        max(one.p90, other.p90),
        max(one.p99, other.p99),
    )


class JobProgress(msgspec.Struct, kw_only=True):
    """The progress of a job, passed to its `progress` callback about four times a second. `str()` is one line."""

    rows: int
    """Rows of the input."""
    ok: int
    failed: int
    in_flight: int = 0
    limit: int | None = None
    """The current limit on rows in flight."""
    waiting: int = 0
    """Rows that were refused or failed and will be sent again."""
    rate: float = 0.0
    """Rows finished per second, recently."""
    rpm_share: float | None = None
    tpm_share: float | None = None
    refused: int = 0
    """429s, over all runs of the job."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """Dollars so far, over all runs; `None` if no price is known."""
    cost_at_end: float | None = None
    seconds: float = 0.0
    """Total duration of all runs of the job, in seconds."""
    seconds_left: float | None = None
    done: bool = False

    @property
    def finished(self) -> int:
        """Rows that are done, with an answer or without."""
        return self.ok + self.failed

    def __str__(self) -> str:
        parts = [
            f"{self.finished:,}/{self.rows:,} rows",
            f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.1f}/s",
        ]
        for name, share in (("RPM", self.rpm_share), ("TPM", self.tpm_share)):
            if share is not None:
                parts.append(f"{name} {share:.0%}")
        limit = "" if self.limit is None else f"/{self.limit}"
        parts.append(f"{self.in_flight}{limit} in flight")
        parts.append(f"{self.failed:,} failed")
        parts.append(f"{_tokens(self.input_tokens + self.output_tokens)} tokens")
        if self.cost is not None:
            at_end = "" if self.cost_at_end is None or self.done else f" of ~${self.cost_at_end:,.2f}"
            parts.append(f"${self.cost:,.2f}{at_end}")
        if self.done:
            parts.append(f"in {duration(self.seconds)}")
        elif self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return " · ".join(parts)


def _tokens(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Return a duration in a readable form: ``7.2 s``, ``41 s``, ``3:05``, ``2:10:00``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class JobCounts(msgspec.Struct, kw_only=True):
    """The numbers of all runs of a job, of its totals and of its report."""

    runs: int = 0
    seconds: float = 0.0
    requests: int = 0
    refused: int = 0
    """429s."""
    retried: int = 0
    """Requests that failed otherwise and were repeated."""
    cached: int = 0
    """Rows without a request: from the cache, or equal to another row."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """Dollars; `None` without a price."""
    failures: dict[str, int] = {}
    """The number of failed rows by reason."""
    timeline: list[TimelinePoint] = []

    def counts(self) -> dict[str, Any]:
        """Return these numbers by name."""
        return {name: getattr(self, name) for name in JobCounts.__struct_fields__}


class JobTotals(JobCounts, kw_only=True):
    """The totals of all runs of a job, kept in its folder."""

    latencies: dict[int, int] = msgspec.field(default_factory=dict[int, int])


class JobStatus(msgspec.Struct, kw_only=True):
    """The status of a job for other processes: ``status.json`` in its folder, written every second."""

    pid: int
    host: str = ""
    """The machine that the process `pid` runs on."""
    updated: float
    ended: bool = False
    """Whether the run has ended in any way other than being killed."""
    progress: JobProgress
    totals: JobTotals


def load_status(folder: str) -> JobStatus | None:
    """Return a job's last written status; `None` before the first one."""
    try:
        return msgspec.json.decode(read_file(os.path.join(folder, "status.json"), _LARGEST), type=JobStatus)
    except (OSError, ValueError):
        return None


def sum_of_progress(rows: int, parts: Iterable[JobProgress], seconds: float) -> JobProgress:
    """Return the progress of a whole of so many rows from that of its shards, which has run for so many seconds."""
    total = JobProgress(rows=rows, ok=0, failed=0, seconds=seconds)
    for part in parts:
        total.limit = None if part.limit is None and total.limit is None else (total.limit or 0) + (part.limit or 0)
        for name in ("ok", "failed", "in_flight", "waiting", "rate", "refused", "input_tokens", "output_tokens"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        for name in ("rpm_share", "tpm_share", "cost"):
            if (found := getattr(part, name)) is not None:
                setattr(total, name, (getattr(total, name) or 0.0) + found)
    total.done = total.finished >= rows
    if total.cost is not None and total.ok:
        total.cost_at_end = total.cost * rows / total.ok
    if total.rate > 0:
        total.seconds_left = (rows - total.finished) / total.rate
    return total


# -------------------------------------------------------------------------------------------------- prices

TokenPrice = tuple[float, float]
"""Dollars for a million tokens of prompts, and of answers."""


def price_for(model: str, prices: Mapping[str, Any] | None) -> TokenPrice | None:
    """Return the price of a model: from a table of the caller, else from ``genai-prices`` if it is installed.

    A table maps models, or ``"*"`` for all others, to two numbers: dollars for a million tokens of prompt and answer.
    Raises `ValueError` for an invalid table.
    """
    if prices is not None:
        found = prices.get(model, prices.get("*"))
        if found is None:
            return None
        try:
            prompt, answer = found
            return float(prompt), float(answer)
        except (TypeError, ValueError):
            raise ValueError(
                f"prices[{model!r}] is not two numbers, dollars for a million tokens of prompt and of answer"
            ) from None
    try:
        from genai_prices import (  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore
            Usage,  # pyright: ignore[reportUnknownVariableType]
            calc_price,  # pyright: ignore[reportUnknownVariableType]
        )
    except ImportError:
        return None
    try:
        # Few tokens: some models cost more per token in long prompts, which rows of a job seldom have.
        used = Usage(input_tokens=1000, output_tokens=1000)  # pyright: ignore
        found = calc_price(used, model_ref=model)  # pyright: ignore
        prompt, answer = float(found.input_price) * 1000, float(found.output_price) * 1000  # pyright: ignore
    except Exception:  # the package raises LookupError for models that it does not know, and others for odd names
        return None
    return prompt, answer


# -------------------------------------------------------------------------------------------------- notebooks


def show_in_notebook() -> Callable[[JobProgress], None] | None:
    """Return a callback that keeps one line of a notebook's output up to date; `None` outside of notebooks."""
    import sys

    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    display: Any = sys.modules["IPython"].display
    handle = display.display({"text/plain": ""}, raw=True, display_id=True)

    def show(progress: JobProgress) -> None:
        handle.update({"text/plain": str(progress)}, raw=True)

    return show


def totals_of(status: JobStatus | None, store: SegmentStore) -> JobTotals:
    """Return the totals of all runs so far: those of the last status, which may be a second old when a process is
    killed, corrected by the sums in the journal and the rows that were in flight then."""
    totals, spent = JobTotals() if status is None else status.totals, store.spent
    if status is None or not status.ended:
        totals.requests = spent.requests + store.states.count(SENT)
        totals.runs = max(1, totals.runs)
    totals.input_tokens = max(totals.input_tokens, spent.input_tokens)
    totals.output_tokens = max(totals.output_tokens, spent.output_tokens)
    totals.refused = max(totals.refused, spent.refused)
    totals.retried = max(totals.retried, spent.retried)
    totals.cached = max(totals.cached, spent.cached)
    if spent.cost > (totals.cost or 0.0):
        totals.cost = spent.cost
    missing = store.counts[FAILED] - sum(totals.failures.values())
    if missing > 0:
        totals.failures = {**totals.failures, "other": totals.failures.get("other", 0) + missing}
    return totals
