"""Print rows, and write the tables and the plot of `docs/performance.md`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from growth import GROWTH, TOLERANCE, exponent
from pause import ANSWERS, MOST
from plot import Panel, plot
from rows import ROWS, Row
from tokens import LOADS

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"


class _Other(NamedTuple):
    """One line of the table of single measurements."""

    title: str
    row: str
    place: int = 0
    peer: str = "openai"
    ratio: float | None = None
    most: float | None = None


_OTHERS = (
    _Other("import and first client, ms of CPU", "import", 0, ratio=1 / 8),
    _Other("import and first client, MB", "import", 1, ratio=1 / 3),
    _Other("first call after the import, ms of CPU", "first call", ratio=1 / 4),
    _Other("request encoding, 8 messages, µs", "encoding", ratio=1 / 100),
    _Other("memory for each of 2,000 waiting calls, KB", "waiting", ratio=1 / 3),
    _Other("", "waiting", peer="aiohttp+msgspec", ratio=1.0),
    _Other("growth over 95,000 calls, after 5,000, MB", "100,000 calls", peer="", most=2.0),
)


def fraction(value: float) -> str:
    """Return a ratio in readable form: 1/42, or 1.31."""
    return f"1/{1 / value:.3g}" if 0 < value < 0.5 else f"{value:.2f}"


def _verdict(got: float, aim: float | None) -> str:
    if aim is None:
        return ""
    return "met" if got <= aim else f"missed by {got / aim:.2f}×"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _more(row: Row, found: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return the additional cost over our plain variant, the aim and the verdict."""
    if row.at_most_more is None or found.get("more") is None:
        return None
    return f"+{found['more']:.1f} µs", f"+{row.at_most_more:g} µs", _verdict(found["more"], row.at_most_more)


def print_row(row: Row, found: dict[str, Any]) -> None:
    """Return the medians and ratios of one row."""
    print(f"\n{row.title}")
    for name, values in found["costs"].items():
        compared = ""
        if name in found["ratios"]:
            aimed = f"  (aim {fraction(row.targets[name])})" if name in row.targets else ""
            compared = f"  ours is {fraction(found['ratios'][name])} of it{aimed}"
        print(f"  {name:20} {statistics.median(values):10.2f}  (least {min(values):.2f}){compared}", flush=True)
    beside = _more(row, found)
    if beside:
        print("  more than plain: {}  (aim {}: {})".format(*beside))


def _rows(measured: dict[str, Any]) -> list[str]:
    lines = [_line(["work", "contender", "median", "least", "ours by it", "aim", ""])]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | --- |")
    for row in ROWS:
        found = measured.get(row.name)
        if not found:
            continue
        title = row.title
        for name, values in found["costs"].items():
            got, aim = found["ratios"].get(name), row.targets.get(name)
            judged = ("", "", "")
            if got is not None:
                judged = (fraction(got), "" if aim is None else fraction(aim), _verdict(got, aim))
            if name == "ours, plain":
                judged = _more(row, found) or judged
            lines.append(_line([title, name, f"{statistics.median(values):,.1f}", f"{min(values):,.1f}", *judged]))
            title = ""
    return lines


def _tokens(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        _line(
            ["contender", "streams", "µs a token", "first token late, ms", "99 % of gaps within, ms", "core used", ""]
        )
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for load, measured in zip(LOADS, found, strict=False):
        if not measured["cost"]:
            continue
        got = {name: statistics.median(measured[name]) for name in ("cost", "late", "gap", "core")}
        aims = {"cost": load.cost, "late": load.late, "gap": load.gap}
        missed = [f"{name} by {got[name] / aim:.2f}×" for name, aim in aims.items() if aim and got[name] > aim]
        cells = [f"{got[name]:,.1f}" + (f" (aim {aim:g})" if aim else "") for name, aim in aims.items()]
        verdict = f"missed: {', '.join(missed)}" if missed else "met" if load.cost else ""
        lines.append(_line([load.label, str(load.streams), *cells, f"{got['core']:.0%}", verdict]))
    return lines


def _others(found: dict[str, Any]) -> list[str]:
    lines = [_line(["", "ours", "peer", "", "ratio", "aim", ""]), "| --- | ---: | --- | ---: | ---: | ---: | --- |"]
    for other in _OTHERS:
        ours, theirs = (found.get(other.row, {}).get(who) for who in ("ours", other.peer))
        if not ours:
            continue
        mine = ours[other.place]
        cells = [other.title, f"{mine:,.1f}", other.peer, "", "", ""]
        verdict = ""
        if theirs and other.ratio:
            got = mine / theirs[other.place]
            cells[3:] = [f"{theirs[other.place]:,.1f}", fraction(got), fraction(other.ratio)]
            verdict = _verdict(got, other.ratio)
        elif other.most is not None:
            cells[5] = f"{other.most:g}"
            verdict = _verdict(mine, other.most)
        lines.append(_line([*cells, verdict]))
    return lines


def _growth(grown: dict[str, Any]) -> list[str]:
    lines = [
        _line(["by", "ours", "aiohttp+msgspec", "openai", "linear is", ""]),
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for panel in GROWTH:
        found = {name: exponent(line) for name, line in grown.get(panel.name, {}).items()}
        got = found.get("ours")
        if got is None:
            continue
        cells = [
            "" if (one := found.get(name)) is None else f"{one:+.2f}" for name in ("ours", "aiohttp+msgspec", "openai")
        ]
        verdict = "not faster" if got <= panel.linear + TOLERANCE else "FASTER"
        lines.append(_line([panel.title, *cells, str(panel.linear), f"{verdict} than linearly"]))
    return lines


def _pauses(found: dict[str, Any]) -> list[str]:
    lines = [_line(["answer", "contender", "longest pause, ms", "of it CPU, ms", "whole call, ms", f"aim {MOST:g} ms"])]
    lines.append("| --- | --- | ---: | ---: | ---: | --- |")
    for answer, title in ANSWERS.items():
        for name, runs in found.get(answer, {}).items():
            wall, cpu, took = (statistics.median(column) for column in zip(*runs, strict=True))
            verdict = _verdict(wall, MOST) if name == "ours" else ""
            lines.append(_line([title, name, f"{wall:,.1f}", f"{cpu:,.1f}", f"{took:,.0f}", verdict]))
            title = ""
    return lines


def write_page(result: dict[str, Any]) -> None:
    """Write the tables between the marks of `docs/performance.md`, and the plot beside it."""
    grown = result.get("growth", {})
    panels = [Panel(panel.title, grown[panel.name]) for panel in GROWTH if panel.name in grown]
    parts = [f"Python {result['python']} on {result['machine']}."]
    sections = (
        ("Calls and events", "µs of CPU of the client's process, for one call or one event.", _rows, "rows"),
        (
            "Streams of 50 tokens/s on one core",
            "Times by the client's clock; tokens are sent 20 ms apart.",
            _tokens,
            "tokens",
        ),
        ("Importing, first calls, memory", "Each number is measured in separate processes.", _others, "others"),
        (
            "The longest pause of the event loop",
            "While one answer of 50 MB is received and decoded.",
            _pauses,
            "pauses",
        ),
        (
            "How cost grows",
            "The exponent of a unit's cost at the large end, over the two largest steps.",
            _growth,
            "growth",
        ),
    )
    for title, explained, table, key in sections:
        if result.get(key):
            parts += ["", f"### {title}", "", explained, "", *table(result[key])]
    if panels:
        (DOCS / "performance.svg").write_text(plot(panels), encoding="utf-8")
        parts += ["", "![Cost by size, on logarithmic axes](performance.svg)"]
    page = DOCS / "performance.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}" + "\n".join(parts) + f"\n{END}{tail}", encoding="utf-8")
