"""Measure how cost grows with concurrent calls and streams, the size of prompts and events, and events per read."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

import payloads
from rows import Row
from servers import Place
from workers import measure

# An exponent may exceed that of linear growth by this much: data beyond the processor's caches costs more.
TOLERANCE = 0.15

BOTH = ("ours", "aiohttp+msgspec")
ALL = (*BOTH, "openai")


class Growth(NamedTuple):
    """One panel of the plot: the cost of a unit by size. `linear`: the exponent of that cost for linear growth."""

    name: str
    title: str
    rows: dict[int, Row]
    linear: int


def _row(work: str, answer: str, units: int, at_once: int, who: tuple[str, ...], prompt: int = 0) -> Row:
    return Row("growth", "", work, answer, units, at_once, who, {}, prompt=prompt, warm=1)


GROWTH = (
    Growth(
        "in flight",
        "µs a small chat, by calls in flight",
        {
            size: _row("chat", "chat", max(size * 2, 640), size, BOTH if size > 512 else ALL)
            for size in (1, 8, 64, 512, 2000)
        },
        0,
    ),
    Growth(
        "streams",
        "µs an event, by streams at once",
        {size: _row("stream", "tokens-100-100-20-1", size, size, BOTH) for size in (100, 500, 1000)},
        0,
    ),
    Growth(
        "prompt",
        "µs a call, by bytes of the prompt",
        {
            size: _row("chat", "chat", max(400_000 // size, 40), 8, ALL, size)
            for size in (1_000, 10_000, 100_000, 1_000_000)
        },
        1,
    ),
    Growth(
        "event",
        "µs an event, by bytes of its text",
        {size: _row("stream", f"events-{size}", max(20_000 // size, 4), 2, ALL) for size in payloads.EVENT_SIZES},
        1,
    ),
    Growth(
        "read",
        "µs an event, by events per read",
        {size: _row("stream", f"tokens-10-0-128-{size}", 12, 12, ALL) for size in (1, 4, 16, 64)},
        0,
    ),
)


def growth(place: Place, rounds: int, pythons: dict[str, str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by panel and contender the median cost of a unit by size (as text, since JSON has no other keys)."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for panel in GROWTH:
        lines: dict[str, dict[str, float]] = {}
        for size, row in panel.rows.items():
            for name, costs in measure(row, place, min(rounds, 2), pythons, row.who).items():
                lines.setdefault(name, {})[str(size)] = statistics.median(costs)
        found[panel.name] = lines
        for name, line in lines.items():
            print(
                f"growth, {panel.title}: {name} { ({size: round(cost, 1) for size, cost in line.items()}) }", flush=True
            )
    return found


def exponent(line: dict[str, float]) -> float | None:
    """Return the exponent of a unit's cost at large sizes, the steepest of the last two steps; None for too few."""
    points = sorted((int(size), cost) for size, cost in line.items())[-3:]
    if len(points) < 3:
        return None
    (small, before), _, (large, after) = points
    return math.log(after / before) / math.log(large / small)
