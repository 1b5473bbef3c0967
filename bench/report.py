"""Prints rows, and writes `docs/performance.md` with its plot."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from rows import ROWS, Row

DOCS = Path(__file__).resolve().parents[1] / "docs"
_OTHERS = {
    "import": (("import and first client, ms of CPU", 1 / 8), ("import and first client, MB", 1 / 3)),
    "first call": (("first call after the import, ms of CPU", 1 / 4),),
    "encoding": (("request encoding, 8 messages, µs", 1 / 100),),
    "waiting": (("memory for each of 2,000 waiting calls, KB", 1 / 3),),
    "100,000 calls": (("growth over 95,000 calls, after 5,000, MB", None),),
}
_COLOURS = {"ours": "#0a7", "aiohttp+msgspec": "#c60", "openai": "#46c"}


def fraction(value: float) -> str:
    """A ratio as people say it: 1/42, or 1.31."""
    return f"1/{1 / value:.3g}" if value < 0.5 else f"{value:.2f}"


def print_row(row: Row, costs: dict[str, list[float]], ratios: dict[str, float]) -> None:
    """Medians and ratios of one row."""
    print(f"\n{row.title}")
    for name, values in costs.items():
        aimed = f"  (aim {fraction(row.targets[name])})" if name in row.targets else ""
        compared = f"  ours is {fraction(ratios[name])} of it{aimed}" if name in ratios else ""
        print(f"  {name:20} {statistics.median(values):10.2f}  (least {min(values):.2f}){compared}", flush=True)


def _verdict(got: float, aim: float | None) -> str:
    if aim is None:
        return ""
    return "met" if got <= aim else f"missed by {got / aim:.2f}×"


def _row_table(result: dict[str, Any]) -> list[str]:
    lines = [
        "| work | contender | median | least | ours by it | aim | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in ROWS:
        measured = result["rows"].get(row.name)
        title = row.title
        for name, values in measured["costs"].items() if measured else ():
            got, aim = measured["ratios"].get(name), row.targets.get(name)
            cells = [
                title,
                name,
                f"{statistics.median(values):,.1f}",
                f"{min(values):,.1f}",
                "" if got is None else fraction(got),
                "" if aim is None else fraction(aim),
                "" if got is None else _verdict(got, aim),
            ]
            lines.append("| " + " | ".join(cells) + " |")
            title = ""
    return lines


def _other_table(found: dict[str, Any]) -> list[str]:
    lines = ["| | ours | openai | ratio | aim | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for key, titles in _OTHERS.items():
        for place, (title, aim) in enumerate(titles):
            ours, theirs = (found.get(key, {}).get(who) for who in ("ours", "openai"))
            mine = f"{ours[place]:.1f}" if ours else ""
            cells = [title, mine, "", "", "", ""]
            if ours and theirs:
                cells[2] = f"{theirs[place]:,.1f}"
                if aim:
                    got = ours[place] / theirs[place]
                    cells[3:] = [fraction(got), fraction(aim), _verdict(got, aim)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def plot(grown: dict[str, dict[int, float]]) -> str:
    """Cost by calls in flight, both axes logarithmic, as SVG."""
    width, height, left, low = 640, 360, 70, 310
    values = [cost for line in grown.values() for cost in line.values()] or [1.0]
    floor, top = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(size: float) -> float:
        return left + math.log2(size) / 11 * (width - left - 140)

    def y(cost: float) -> float:
        return low - (math.log10(cost) - floor) / max(top - floor, 1) * (low - 40)

    text = 'font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20" {text}>µs of CPU for a small chat, by calls in flight</text>',
    ]
    for power in range(floor, top + 1):
        at = y(10**power)
        parts.append(f'<line x1="{left}" x2="{width - 140}" y1="{at:.0f}" y2="{at:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{at + 4:.0f}" text-anchor="end" {text}>{10**power:,}</text>')
    parts += [
        f'<text x="{x(size):.0f}" y="{low + 20}" text-anchor="middle" {text}>{size:,}</text>'
        for size in (1, 8, 64, 512, 2000)
    ]
    for name, line in grown.items():
        if not line:
            continue
        points = " ".join(f"{x(size):.1f},{y(cost):.1f}" for size, cost in line.items())
        last, cost = list(line.items())[-1]
        colour = _COLOURS.get(name, "#888")
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x(last) + 6:.0f}" y="{y(cost) + 4:.0f}" fill="{colour}" {text}>{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_page(result: dict[str, Any]) -> None:
    """The tables between the marks of `docs/performance.md`, and the plot beside it."""
    (DOCS / "performance.svg").write_text(plot(result["growth"]), encoding="utf-8")
    page = DOCS / "performance.md"
    head, _, rest = page.read_text(encoding="utf-8").partition("<!-- measured -->\n")
    _, _, tail = rest.partition("<!-- end of measured -->\n")
    made = [
        f"Python {result['python']} on {result['machine']}. µs of CPU (user and system) of the client's process.",
        "",
        *_row_table(result),
        "",
        *_other_table(result.get("others", {})),
        "",
        "![Cost of a small chat by calls in flight](performance.svg)",
    ]
    page.write_text(
        head + "<!-- measured -->\n" + "\n".join(made) + "\n<!-- end of measured -->\n" + tail, encoding="utf-8"
    )
