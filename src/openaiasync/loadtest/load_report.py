"""The report of a load test: text for a terminal of any width, JSON, and one HTML page with plots."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator

import msgspec

from ..bulk.progress import duration
from ..plots import Axis, Curve, facts_list, line_plot, number, page_of, seconds_axis
from .results import StageResult
from .samples import Distribution

__all__ = ["LoadReport", "html_page", "stage_lines", "sweep_table"]

_ROWS = (
    ("time to first token", "ttft"),
    ("between chunks", "itl"),
    ("per token", "tpot"),
    ("whole answer", "latency"),
    ("waiting for a slot", "queued"),
)


class LoadReport(msgspec.Struct, kw_only=True):
    """What a load test measured, and how."""

    url: str
    model: str
    started: str
    """The time (ISO 8601, UTC) at which the first stage began."""
    workload: str
    versions: dict[str, str]
    stages: list[StageResult] = []


def ms(seconds: float) -> str:
    """Return a time with three digits, as milliseconds below 1 s."""
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1000 * seconds)} ms"


def stage_lines(stage: StageResult, width: int = 100) -> list[str]:
    """Return the figures of a stage as lines of text, none longer than `width` if that is at least 30."""
    ended = f"{stage.ok:,} answers in {ms(stage.seconds) if stage.seconds < 1 else duration(stage.seconds)}"
    for count, what in ((stage.failed, "failed"), (stage.unfinished, "given up"), (stage.unsent, "never sent")):
        if count:
            ended += f", {count:,} {what}"
    lines = [f"{stage.load}: {ended}"]
    rows = [(name, getattr(stage, field)) for name, field in _ROWS]
    lines += _times([(name, one) for name, one in rows if one is not None], width)
    lines += _rate_lines(stage)
    if stage.goodput is not None:
        good = stage.goodput
        lines.append(f"goodput {100 * good.share:.1f} %, {good.rate:,.2f}/s within {good.goals}")
    for error in stage.errors:
        lines.append(f"{error.count:,} × {error.kind}: {'; '.join(error.messages)}")
    lines += _client_lines(stage)
    return [part for line in lines for part in _folded(line, width)]


def _rate_lines(stage: StageResult) -> list[str]:
    counted = "" if stage.counted_by == "usage" else f" (counted by {stage.counted_by}: the server sends no usage)"
    if stage.concurrency is not None:
        peak = f" of {stage.concurrency}"
    else:
        peak = f" (most {max((one.in_flight for one in stage.timeline), default=0.0):,.0f})"
    # A number of requests takes longer to be answered than to be sent: the two rates cannot be compared then.
    rate = "" if stage.rate is None or stage.requests is not None else f" of {stage.rate:g}/s"
    lines = [
        f"in flight {stage.in_flight:,.1f}{peak}, sent {stage.sent_rate:,.2f}/s{rate}",
        f"throughput {stage.request_rate:,.2f} answers/s, {stage.tokens_per_second:,.1f} tokens/s out{counted}",
    ]
    if stage.input_tokens:
        lines[-1] += f", {stage.input_tokens_per_second:,.1f} in"
        each = stage.ok or 1
        lines.append(
            f"tokens per request: {stage.input_tokens / each:,.1f} in, {stage.output_tokens / each:,.1f} out (mean)"
        )
    if stage.tpot is not None and stage.tpot.p50 > 0:
        lines.append(f"speed of one answer: {1 / stage.tpot.p50:,.1f} tokens/s after its first token (median)")
    return lines


def _client_lines(stage: StageResult) -> list[str]:
    client, verdict = stage.client, stage.verdict
    if client is None or verdict is None:
        return []
    facts = [f"core {100 * client.cpu:.0f} % (peak {100 * client.cpu_peak:.0f} %)"]
    if client.waiting is not None:
        facts.append(f"waited for a core {100 * client.waiting:.0f} %")
    for name, one in (("event loop late", client.lag), ("sends late", client.late)):
        if one is not None:
            facts.append(f"{name} {ms(one.p99)} (p99)")
    reasons = [f"  - {reason}" for reason in verdict.reasons]
    return [f"client: {', '.join(facts)}", f"VERDICT: {verdict.text}", *reasons]


def _columns(one: Distribution) -> dict[str, str]:
    """Return the cells of a distribution by the names of their columns."""
    return {
        "mean": ms(one.mean),
        **{name: ms(value) for name, value in one.percentiles.items()},
        "max": ms(one.max),
    }


def _times(rows: list[tuple[str, Distribution]], width: int) -> list[str]:
    """Return the distributions as a table, or as one list each where a table is too wide."""
    cells = [(name, _columns(one)) for name, one in rows]
    if not cells:
        return []
    table = [["", *cells[0][1]], *([name, *columns.values()] for name, columns in cells)]
    sizes = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    if sum(sizes) + 2 * (len(sizes) - 1) <= width:
        return [
            "  ".join(
                [row[0].ljust(sizes[0]), *(cell.rjust(size) for cell, size in zip(row[1:], sizes[1:], strict=True))]
            )
            for row in table
        ]
    return [
        line
        for name, columns in cells
        for line in (f"{name}:", *(f"  {column:<5}{value}" for column, value in columns.items()))
    ]


def _folded(line: str, width: int) -> Iterator[str]:
    """Yield a line in parts that fit the width, broken at blanks; all but the first are indented."""
    while len(line) > max(width, 30):
        at = line.rfind(" ", 3, max(width, 30) + 1)
        if at < 0:
            at = max(width, 30)
        yield line[:at].rstrip()
        line = f"  {line[at:].strip()}"
    yield line


def sweep_table(stages: list[StageResult], width: int = 100) -> list[str]:
    """Return a table with a line for each stage, and fewer columns on a narrow terminal."""
    columns: list[tuple[str, Callable[[StageResult], str]]] = [
        ("load", lambda one: one.load.removeprefix("concurrency ").removeprefix("rate ")),
        ("tokens/s", lambda one: number(one.tokens_per_second)),
        ("TTFT p50", lambda one: _p(one.ttft, "p50")),
        ("p99", lambda one: _p(one.ttft, "p99")),
        ("chunk p50", lambda one: _p(one.itl, "p50")),
        ("p99", lambda one: _p(one.itl, "p99")),
        ("answers/s", lambda one: number(one.request_rate)),
        ("in flight", lambda one: number(one.in_flight)),
        ("failed", lambda one: f"{one.failed:,}"),
        ("goodput", lambda one: "" if one.goodput is None else f"{100 * one.goodput.share:.0f} %"),
        (
            "client",
            lambda one: "" if one.verdict is None else {"server": "ok"}.get(one.verdict.level, one.verdict.level),
        ),
    ]
    cells = [[name, *(get(stage) for stage in stages)] for name, get in columns]
    sizes = [max(map(len, column)) for column in cells]
    shown = len(cells)
    while shown > 1 and sum(sizes[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    return [
        "  ".join(cells[at][row].rjust(sizes[at]) for at in range(shown)).rstrip() for row in range(len(stages) + 1)
    ]


def _p(one: Distribution | None, name: str) -> str:
    return "" if one is None else ms(getattr(one, name))


# -------------------------------------------------------------------------------------------------- the page


def html_page(report: LoadReport) -> str:
    """Return the report as a self-contained page: the sweep, then each stage with its verdict, figures and plots."""
    body = [facts_list([("model", report.model), ("requests", report.workload), ("started", report.started)])]
    if len(report.stages) > 1:
        body.append("".join(_sweep_plots(report.stages)))
    body += map(_stage_html, report.stages)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    body.append(f'<p class="state">{html.escape(versions)}</p>')
    return page_of(f"Load test of {report.url}", "", "".join(body))


def _sweep_plots(stages: list[StageResult]) -> Iterator[str]:
    axis: Axis = [
        (float(one.concurrency or one.rate or 0), number(float(one.concurrency or one.rate or 0))) for one in stages
    ]
    at = [value for value, _ in axis]
    what = "concurrency" if stages[0].concurrency is not None else "requests/s"

    def curve(name: str, color: str, get: Callable[[StageResult], float | None]) -> Curve:
        pairs = [(x, get(stage)) for x, stage in zip(at, stages, strict=True)]
        return Curve(name, color, [(x, y) for x, y in pairs if y is not None])

    yield line_plot(
        f"Throughput by {what}", "tokens a second", [curve("output", "a", lambda one: one.tokens_per_second)], axis
    )
    for title, field in (("Time to first token", "ttft"), ("Time between chunks", "itl")):
        curves = [
            curve(name, color, _millis(field, name)) for name, color in (("p50", "a"), ("p90", "b"), ("p99", "c"))
        ]
        if any(one.points for one in curves):
            yield line_plot(f"{title} by {what}", "milliseconds", curves, axis)


def _millis(field: str, name: str) -> Callable[[StageResult], float | None]:
    def get(stage: StageResult) -> float | None:
        one: Distribution | None = getattr(stage, field)
        return None if one is None else 1000 * float(getattr(one, name))

    return get


def _stage_html(stage: StageResult) -> str:
    facts = [
        ("answers", f"{stage.ok:,}"),
        ("failed", f"{stage.failed:,}"),
        ("measured", duration(stage.seconds)),
        ("in flight", f"{stage.in_flight:,.1f}" + (f" of {stage.concurrency}" if stage.concurrency else "")),
        ("sent", f"{stage.sent_rate:,.2f}/s" + (f" of {stage.rate:g}/s" if stage.rate and not stage.requests else "")),
        ("answers a second", f"{stage.request_rate:,.2f}"),
        ("tokens a second out", f"{stage.tokens_per_second:,.1f}"),
        ("tokens a second in", f"{stage.input_tokens_per_second:,.1f}"),
    ]
    if stage.unsent:
        facts.append(("never sent", f"{stage.unsent:,}"))
    if stage.goodput is not None:
        facts.append(("goodput", f"{100 * stage.goodput.share:.1f} %, {stage.goodput.rate:,.2f}/s"))
    parts = [f"<h1>{html.escape(stage.load)}</h1>", _verdict_html(stage), facts_list(facts), _times_html(stage)]
    parts += _time_plots(stage)
    if len(stage.curves) and stage.ok > 1:
        axis: Axis = [(float(at), f"{at} %") for at in range(0, 101, 10)]
        for title, field in (("Time to first token", "ttft"), ("Time between chunks", "itl"), ("Latency", "latency")):
            values = stage.curves.get(field)
            if values:
                points = [(float(at), 1000 * value) for at, value in enumerate(values)]
                parts.append(
                    line_plot(f"{title} by share of values", "milliseconds", [Curve("quantile", "a", points)], axis)
                )
    if stage.errors:
        rows = "".join(
            f"<tr><td>{one.count:,}</td><td>{html.escape(one.kind)}: {html.escape('; '.join(one.messages))}</td></tr>"
            for one in stage.errors
        )
        parts.append(f"<h2>Failed requests</h2><table>{rows}</table>")
    return f"<section>{''.join(parts)}</section>"


def _verdict_html(stage: StageResult) -> str:
    if stage.verdict is None:
        return ""
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in stage.verdict.reasons)
    return f'<p class="{stage.verdict.level}"><b>{html.escape(stage.verdict.text)}</b></p><ul>{reasons}</ul>'


def _times_html(stage: StageResult) -> str:
    rows = [(name, _columns(one)) for name, field in _ROWS if (one := getattr(stage, field)) is not None]
    if not rows:
        return ""
    head = "".join(f"<th>{column}</th>" for column in rows[0][1])
    body = "".join(
        f"<tr><th>{name}</th>{''.join(f'<td>{value}</td>' for value in columns.values())}</tr>"
        for name, columns in rows
    )
    return f'<div class="plot"><table class="times"><tr><th></th>{head}</tr>{body}</table></div>'


def _time_plots(stage: StageResult) -> list[str]:
    buckets = stage.timeline
    if len(buckets) < 3:
        return []
    axis = seconds_axis(buckets[-1].at + buckets[-1].seconds, duration)
    middle = [one.at + one.seconds / 2 for one in buckets]

    def curve(name: str, color: str, values: list[float]) -> Curve:
        return Curve(name, color, list(zip(middle, values, strict=True)))

    with_ttft = [(at, one) for at, one in zip(middle, buckets, strict=True) if one.ttft_count]
    plots = [
        line_plot(
            "Output over time", "a second", [curve("tokens", "a", [one.tokens / one.seconds for one in buckets])], axis
        ),
        line_plot(
            "Answers over time",
            "a second",
            [
                curve("ended", "a", [one.ended / one.seconds for one in buckets]),
                curve("failed", "c", [one.failed / one.seconds for one in buckets]),
            ],
            axis,
        ),
        line_plot(
            "In flight over time", "requests", [curve("in flight", "a", [one.in_flight for one in buckets])], axis
        ),
    ]
    if with_ttft:
        curves = [
            Curve("mean", "a", [(at, 1000 * one.ttft) for at, one in with_ttft]),
            Curve("longest", "c", [(at, 1000 * one.ttft_max) for at, one in with_ttft]),
        ]
        plots.append(line_plot("Time to first token over time", "milliseconds", curves, axis))
    return plots
