"""Pages of figures: line plots as inline SVG, and the page around them. Light and dark, without any external file."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

__all__ = ["Axis", "Curve", "facts_list", "line_plot", "number", "page_of", "seconds_axis"]

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
section { border-top: 2px solid var(--line); margin-top: 2.5rem; padding-top: 1.5rem } .client b { color: var(--c) }
.strained b { color: var(--b) } .times td, .times th { text-align: right; font-weight: 400; white-space: nowrap }
.times tr th:first-child, .times tr:first-child th { text-align: left; color: var(--dim) }
.times tr:first-child th { text-align: right } .times td:first-of-type { width: auto }
td:first-child { text-align: right; width: 6rem; font-variant-numeric: tabular-nums }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 960, 180, 56, 22
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)  # seconds


class Curve(NamedTuple):
    """One line of a plot; `color` is ``"a"`` to ``"d"``."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]


Axis = Sequence[tuple[float, str]]
"""The labels of a horizontal axis, with their values."""


def page_of(title: str, state: str, body: str) -> str:
    """Return a self-contained page; `body` is HTML, the other texts are not."""
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f'<h1>{name}</h1><p class="state">{html.escape(state)}</p>{body}</html>\n'
    )


def facts_list(facts: Iterable[tuple[str, str]]) -> str:
    """Return names with their values as HTML."""
    items = (f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(value)}</dd></div>" for what, value in facts)
    return f"<dl>{''.join(items)}</dl>"


def seconds_axis(end: float, label: Callable[[float], str]) -> Axis:
    """Return the axis of a time from 0 to `end` seconds."""
    every = next((step for step in _TICKS if end / step <= 8), _TICKS[-1] * math.ceil(end / _TICKS[-1] / 8))
    ticks = (tick * every for tick in range(int(end / every) + 1))
    return [(at, label(at).replace(".0 s", " s") if at else "0") for at in ticks]


def line_plot(title: str, unit: str, curves: Sequence[Curve], axis: Axis) -> str:
    """Return one plot with its legend as HTML. Both axes start at 0."""
    points = [point for curve in curves for point in curve.points]
    highest = _round_up(max((y for _, y in points), default=0.0))
    end = max((x for x, _ in points), default=0.0)
    end = max(end, 1e-9)
    width, height = _WIDTH - _LEFT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for step in range(5):
        y = height - (height - 8) * step / 4
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(highest * step / 4)}</text>')
    for at, label in axis:
        x = _LEFT + width * at / end
        anchor = "start" if at == 0 else "end" if x > _WIDTH - 20 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{html.escape(label)}</text>')
    for curve in curves:
        line = " ".join(
            f"{_LEFT + width * x / end:.1f},{height - (height - 8) * y / highest:.1f}" for x, y in curve.points
        )
        parts.append(f'<polyline class="{curve.color}" points="{line}"/>')
    key = " ".join(f'<b class="{curve.color}">{html.escape(curve.name)}</b>' for curve in curves)
    return (
        f'<h2>{html.escape(title)}</h2><div class="key">{html.escape(unit)}: {key}</div>'
        f'<div class="plot"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">'
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


def number(value: float) -> str:
    """Return a number with three digits, or as many as it has before the point."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
