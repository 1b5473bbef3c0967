"""Plot lines on logarithmic axes, several panels in one SVG."""

from __future__ import annotations

import math
from typing import NamedTuple

COLOURS = {"ours": "#0a7", "aiohttp+msgspec": "#c60", "openai": "#46c"}
WIDTH, HEIGHT, LEFT, TOP, LOW = 380, 260, 62, 34, 220
RIGHT = WIDTH - 20
COLUMNS = 2
TEXT = 'font-family="sans-serif" font-size="12"'


class Panel(NamedTuple):
    """Return the data of one panel: costs by size for each contender."""

    title: str
    lines: dict[str, dict[str, float]]


def _short(number: float) -> str:
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= unit:
            return f"{number / unit:g} {name}"
    return f"{number:g}"


def _drawn(panel: Panel) -> list[str]:
    costs = [cost for line in panel.lines.values() for cost in line.values()] or [1.0]
    sizes = sorted({int(size) for line in panel.lines.values() for size in line}) or [1]
    floor, top = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    span = math.log(sizes[-1] / sizes[0]) or 1.0

    def x(size: float) -> float:
        return LEFT + math.log(size / sizes[0]) / span * (RIGHT - LEFT)

    def y(cost: float) -> float:
        return LOW - (math.log10(cost) - floor) / max(top - floor, 1) * (LOW - TOP)

    parts = [f'<text x="{LEFT}" y="20" {TEXT} font-weight="bold">{panel.title}</text>']
    for power in range(floor, top + 1):
        at = y(10**power)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.0f}" y2="{at:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.0f}" text-anchor="end" {TEXT}>{_short(10**power)}</text>')
    parts += [
        f'<text x="{x(size):.0f}" y="{LOW + 18}" text-anchor="middle" {TEXT}>{_short(size)}</text>' for size in sizes
    ]
    for name, line in panel.lines.items():
        places = [(x(int(size)), y(cost)) for size, cost in line.items()]
        points = " ".join(f"{at:.1f},{cost:.1f}" for at, cost in places)
        colour = COLOURS.get(name, "#888")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{at:.1f}" cy="{cost:.1f}" r="2.5" fill="{colour}"/>' for at, cost in places]
    return parts


def plot(panels: list[Panel]) -> str:
    """Draw the panels in rows, with a legend below."""
    rows = -(-len(panels) // COLUMNS)
    width, height = WIDTH * COLUMNS, HEIGHT * rows + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        down, across = divmod(number, COLUMNS)
        parts += [f'<g transform="translate({across * WIDTH} {down * HEIGHT})">', *_drawn(panel), "</g>"]
    for number, (name, colour) in enumerate(COLOURS.items()):
        at = LEFT + number * 160
        parts.append(
            f'<line x1="{at}" x2="{at + 24}" y1="{height - 16}" y2="{height - 16}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{at + 30}" y="{height - 12}" {TEXT}>{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
