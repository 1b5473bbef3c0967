"""The report of a job: a `JobReport`, as text, JSON, and an HTML page with plots."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..plots import Curve, facts_list, line_plot, page_of, seconds_axis
from ..storage.atomic import write_file
from .progress import JobCounts, TimelinePoint, duration

__all__ = ["JobReport", "html_page"]

_STOPPED = {
    "stop": "stopped before its end",
    "cost": "stopped at its cost limit",
    "quota": "stopped: the account's quota is used up",
    "credentials": "stopped: the servers refuse the key",
    "missing": "stopped: the first rows were all answered with 404 (is the model's name right?)",
    "dead": "stopped: no server has answered for too long",
    "price": "stopped: the price of a model is unknown, so the cost limit cannot be enforced",
    "full": "stopped: the results could not be written",
    "shards": "shards are not finished",
}


class JobReport(JobCounts, kw_only=True):
    """The result of a job. Numbers cover all of its runs unless stated otherwise."""

    out: str
    """The file of answers."""
    table: str | None = None
    """The table made of them, if the job's output is a table."""
    errors: str | None
    """The file of failed rows, which can be sent again; `None` without failures."""
    rows: int
    ok: int
    failed: int
    stopped: str = ""
    """Why rows are left: ``""`` (none are left), ``"stop"``, ``"cost"``, ``"quota"``, ``"credentials"``, ``"missing"``,
    ``"dead"``, ``"price"``, ``"shards"`` (some shards have not started or not ended)."""
    error: str | None = None
    """The error that stopped the job, if any."""
    resumed: int = 0
    """Rows that were done before this run."""
    paid_twice: list[str] = msgspec.field(default_factory=list[str])
    """Rows (``custom_id``) that were in flight when a run was killed and were sent again: they may have been paid for
    twice."""
    same_name: list[str] = msgspec.field(default_factory=list[str])
    """A ``custom_id`` that rows of different shards have. Inputs above 256 MiB are not checked for it before."""
    latency: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """Seconds until the answer: ``p50``, ``p90``, ``p99``."""

    @property
    def left(self) -> int:
        """Rows that are not done yet."""
        return self.rows - self.ok - self.failed

    def __str__(self) -> str:
        return summary(self)


def summary(report: JobReport) -> str:
    """Return a report as a few lines of text."""
    lines = [f"{report.table or report.out}: {_state(report, report.errors)}"]
    if report.error:
        lines.append(f"  {report.error}")
    rate = (report.ok + report.failed) / report.seconds if report.seconds else 0.0
    spent = f"{report.input_tokens:,} + {report.output_tokens:,} tokens"
    if report.cost is not None:
        spent += f", ${report.cost:,.4f}"
    lines.append(f"  {duration(report.seconds)}, {rate:,.1f} rows/s, {spent}")
    cached = f", {report.cached:,} rows without one" if report.cached else ""
    lines.append(
        f"  {report.requests:,} requests, {report.refused:,} refused (429), {report.retried:,} repeated{cached}"
    )
    if report.latency:
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.latency.items())
        lines.append(f"  answers after {times}")
    for reason, count in sorted(report.failures.items(), key=lambda item: -item[1])[:5]:
        lines.append(f"  {count:,} × {reason}")
    if report.paid_twice:
        shown = ", ".join(report.paid_twice[:10])
        more = f" and {len(report.paid_twice) - 10:,} more" if len(report.paid_twice) > 10 else ""
        lines.append(f"  perhaps paid twice, since a run was killed while they were sent: {shown}{more}")
    if report.same_name:
        shown = ", ".join(report.same_name[:10])
        more = f" and {len(report.same_name) - 10:,} more" if len(report.same_name) > 10 else ""
        lines.append(f"  names (custom_id) that several rows have: {shown}{more}")
    return "\n".join(lines)


def _state(report: JobReport, errors: str | None = None) -> str:
    """Return how far the job is, with the path of its failed rows if that is given."""
    state = f"{report.ok:,} of {report.rows:,} rows answered"
    if report.failed:
        state += f", {report.failed:,} failed{'' if errors is None else f' ({errors})'}"
    if report.left:
        state += f", {report.left:,} left: {_STOPPED.get(report.stopped, 'not finished')}; the same call goes on"
    return state


def save_json(report: JobReport, path: str) -> None:
    """Write a report as JSON. Blocks. Raises `OSError`."""
    write_file(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


# -------------------------------------------------------------------------------------------------- the page


def html_page(report: JobReport) -> str:
    """Return a report as a self-contained page: numbers, plots over time, reasons of failures."""
    samples = _whole(report.timeline)
    lines = "".join(_plots(samples)) if len(samples) > 1 else "<p>The job was too short for plots.</p>"
    failures = ""
    if report.failures:
        rows = "".join(
            f"<tr><td>{count:,}</td><td>{html.escape(reason)}</td></tr>"
            for reason, count in sorted(report.failures.items(), key=lambda item: -item[1])
        )
        failures = f"<h2>Failed rows</h2><table>{rows}</table>"
    twice = ""
    if report.paid_twice:
        keys = ", ".join(html.escape(key) for key in report.paid_twice[:200])
        twice = f"<h2>Perhaps paid twice ({len(report.paid_twice):,})</h2><p>{keys}</p>"
    body = f"{facts_list(_facts(report))}{lines}{failures}{twice}"
    return page_of(os.path.basename(report.table or report.out), _state(report), body)


def _facts(report: JobReport) -> list[tuple[str, str]]:
    rate = (report.ok + report.failed) / report.seconds if report.seconds else 0.0
    facts = [
        ("rows answered", f"{report.ok:,} / {report.rows:,}"),
        ("rows failed", f"{report.failed:,}"),
        ("time", duration(report.seconds)),
        ("rows a second", f"{rate:,.1f}"),
        ("requests", f"{report.requests:,}"),
        ("refused (429)", f"{report.refused:,}"),
        ("repeated", f"{report.retried:,}"),
        ("tokens in", f"{report.input_tokens:,}"),
        ("tokens out", f"{report.output_tokens:,}"),
    ]
    if report.cost is not None:
        facts.append(("cost", f"${report.cost:,.4f}"))
    if report.cached:
        facts.append(("without a request", f"{report.cached:,}"))
    facts += [(f"latency {name}", f"{seconds:.2f} s") for name, seconds in report.latency.items()]
    return facts


def _whole(samples: Sequence[TimelinePoint]) -> Sequence[TimelinePoint]:
    """Return the samples without a much shorter last one, whose rates would end each plot with a jump."""
    if len(samples) > 2 and samples[-1].seconds < samples[-2].seconds / 2:
        return samples[:-1]
    return samples


def _plots(samples: Sequence[TimelinePoint]) -> list[str]:
    def every(sample: TimelinePoint) -> float:
        return sample.seconds or 1.0

    return [
        _plot("Throughput", "rows a second", samples, [("rows", "a", lambda s: s.rows / every(s)),
              ("failed", "c", lambda s: s.failed / every(s))]),
        _plot("Latency", "seconds", samples, [("p50", "a", lambda s: s.p50), ("p90", "b", lambda s: s.p90),
              ("p99", "c", lambda s: s.p99)]),
        _plot("In flight", "requests", samples, [("limit", "d", lambda s: s.limit),
              ("in flight", "a", lambda s: s.in_flight)]),
        _plot("Refused", "429s a second", samples, [("429", "c", lambda s: s.refused / every(s))]),
        _plot("Tokens", "tokens a second", samples, [("tokens", "a", lambda s: s.tokens / every(s))]),
    ]  # fmt: skip


def _plot(
    title: str,
    unit: str,
    samples: Sequence[TimelinePoint],
    curves: list[tuple[str, str, Callable[[TimelinePoint], float]]],
) -> str:
    lines = [Curve(name, color, [(one.at, curve(one)) for one in samples]) for name, color, curve in curves]
    return line_plot(title, unit, lines, seconds_axis(samples[-1].at, duration))


def as_json(report: JobReport) -> Any:
    """Return a report as a plain value, without its timeline."""
    value: dict[str, Any] = msgspec.to_builtins(report)
    value.pop("timeline", None)
    return value
