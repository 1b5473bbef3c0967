"""The report of a job: a `JobReport`, as text, JSON, and an HTML page with plots."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

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

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #6b7280; --line: #d9dce1; --paper: #fff; --a: #2563eb;
  --b: #b45309; --c: #dc2626; --d: #6b7280 }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --dim: #9ca3af; --line: #374151; --paper: #111418;
  --a: #60a5fa; --b: #fbbf24; --c: #f87171; --d: #9ca3af } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .3rem }
p.state { color: var(--dim); margin: .2rem 0 1.2rem }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; margin: 0 }
dt { color: var(--dim); font-size: .8rem } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums }
.plot { overflow-x: auto } svg { width: 100%; min-width: 640px; height: auto; display: block }
svg text { fill: var(--dim); font-size: 11px }
.grid { stroke: var(--line); stroke-width: 1 } .a { stroke: var(--a) } .b { stroke: var(--b) } .c { stroke: var(--c) }
.d { stroke: var(--d) } polyline { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.key { font-size: .8rem; color: var(--dim) } .key b { font-weight: 600 } .key .a { color: var(--a) }
.key .b { color: var(--b) } .key .c { color: var(--c) } .key .d { color: var(--d) }
table { border-collapse: collapse; width: 100% } td { border-top: 1px solid var(--line); padding: .3rem .5rem .3rem 0 }
td:first-child { text-align: right; width: 6rem; font-variant-numeric: tabular-nums }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 960, 180, 56, 22
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)  # seconds


def html_page(report: JobReport) -> str:
    """Return a report as a self-contained page: numbers, plots over time, reasons of failures."""
    name = html.escape(os.path.basename(report.table or report.out))
    state = html.escape(_state(report))
    facts = "".join(
        f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(value)}</dd></div>" for what, value in _facts(report)
    )
    samples = _whole(report.timeline)
    plots = "".join(_plots(samples)) if len(samples) > 1 else "<p>The job was too short for plots.</p>"
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
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f'<h1>{name}</h1><p class="state">{state}</p><dl>{facts}</dl>{plots}{failures}{twice}</html>\n'
    )


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
    """Return one plot as inline SVG, with its legend."""
    highest = _round_up(max((curve(sample) for sample in samples for _, _, curve in curves), default=0.0))
    end = max(samples[-1].at, 1e-9)
    width, height = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for step in range(5):
        y = height - (height - 8) * step / 4
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(highest * step / 4)}</text>')
    every = next((step for step in _TICKS if end / step <= 8), _TICKS[-1] * math.ceil(end / _TICKS[-1] / 8))
    for tick in range(int(end / every) + 1):
        x = _LEFT + width * tick * every / end
        anchor = "start" if tick == 0 else "end" if x > _WIDTH - 20 else "middle"
        label = duration(tick * every).replace(".0 s", " s") if tick else "0"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{label}</text>')
    for _, color, curve in curves:
        points = " ".join(
            f"{_LEFT + width * sample.at / end:.1f},{height - (height - 8) * curve(sample) / highest:.1f}"
            for sample in samples
        )
        parts.append(f'<polyline class="{color}" points="{points}"/>')
    key = " ".join(f'<b class="{color}">{html.escape(name)}</b>' for name, color, _ in curves)
    return (
        f'<h2>{title}</h2><div class="key">{unit}: {key}</div>'
        f'<div class="plot"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg></div>"
    )


def _round_up(value: float) -> float:
    """Return the next round number for the end of a scale."""
    if value <= 0:
        return 1.0
    size = 1.0
    while size < value:
        size *= 10
    while size / 10 >= value:
        size /= 10
    return next((size * share for share in (0.2, 0.4, 0.5, 0.8) if size * share >= value), size)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def as_json(report: JobReport) -> Any:
    """Return a report as a plain value, without its timeline."""
    value: dict[str, Any] = msgspec.to_builtins(report)
    value.pop("timeline", None)
    return value
