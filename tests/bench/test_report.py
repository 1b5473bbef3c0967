"""The bench judges what it found rightly, and writes a page of it."""

from __future__ import annotations

import importlib
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the bench, which is no package; none is left behind."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in sys.modules.keys() - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCH)):
            del sys.modules[name]


def test_ratios_are_those_of_rounds(bench: Any) -> None:
    """A noisy round changes neither the ratio nor the difference: both are medians over the rounds."""
    workers = bench("workers")
    costs = {"ours": [1.0, 50.0, 3.0], "openai": [10.0, 10.0, 30.0], "ours, plain": [0.5, 1.0, 1.0]}
    assert workers.ratio(costs, "openai") == pytest.approx(0.1)
    assert workers.more(costs) == 2.0
    assert workers.more({"ours": [1.0]}) is None


def test_growth_is_judged_at_the_large_end(bench: Any) -> None:
    """Cost per unit that doubles with the size has the exponent 1; what small sizes cost does not hide it."""
    exponent = bench("growth").exponent
    assert exponent({"1": 900.0, "10": 10.0, "100": 100.0, "1000": 1000.0}) == pytest.approx(1.0)
    assert exponent({"10": 5.0, "100": 5.0, "1000": 5.0}) == pytest.approx(0.0)
    assert exponent({"10": 5.0, "100": 5.0}) is None


def result(bench: Any) -> dict[str, Any]:
    """What a run finds that met every aim, or nearly."""
    rows = {}
    for row in bench("rows").ROWS:
        costs = {name: [100.0] for name in row.who} | {"ours": [1.0], "ours, plain": [0.5]}
        ratios = {name: 0.01 for name in costs if not name.startswith("ours")}
        rows[row.name] = {"costs": costs, "ratios": ratios, "more": 0.5 if row.beside else None}
    loads = [
        {"label": load.label, "streams": load.streams, "cost": [20.0], "late": [1.0], "gap": [21.0], "core": [0.5]}
        for load in bench("tokens").LOADS
    ]
    single = {"ours": [1.0, 1.0], "openai": [200.0, 30.0], "aiohttp+msgspec": [2.0]}
    others = dict.fromkeys(("import", "first call", "encoding", "waiting", "100,000 calls"), single)
    growth = {
        panel.name: {"ours": {str(size): 5.0 for size in panel.rows}, "openai": {str(min(panel.rows)): 50.0}}
        for panel in bench("growth").GROWTH
    }
    pauses = {answer: {"ours": [[9.0, 8.0, 700.0]]} for answer in bench("pause").ANSWERS}
    found = {"rows": rows, "tokens": loads, "others": others, "growth": growth, "pauses": pauses}
    return {**found, "python": "3.11", "machine": "here"}


def test_the_page_is_written(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row, load, panel and answer has its line; what stands around the tables is kept; the plot is XML."""
    report = bench("report")
    monkeypatch.setattr(report, "DOCS", tmp_path)
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n{report.BEGIN}old\n{report.END}## After\n")
    found = result(bench)
    report.write_page(found)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("## After\n")
    assert "old" not in text
    assert "missed" not in text
    assert "FASTER" not in text
    titles = [row.title for row in bench("rows").ROWS] + [panel.title for panel in bench("growth").GROWTH]
    assert [title for title in titles if title not in text] == []
    assert all(len({line.count(" | ") for line in block.splitlines()}) == 1 for block in tables(text))
    xml.etree.ElementTree.parse(tmp_path / "performance.svg")

    found["tokens"][0]["gap"] = [64.0]
    found["others"] = {"100,000 calls": {"ours": [3.0]}}
    found["growth"]["prompt"]["ours"] = {"1000": 1.0, "10000": 100.0, "100000": 10_000.0}
    found["pauses"]["large-floats"]["ours"] = [[100.0, 9.0, 900.0]]
    found["rows"]["strange"]["more"] = 20.0
    report.write_page(found)
    text = page.read_text()
    assert "missed: gap by 2.00×" in text
    assert text.count("missed by 2.00×") == 2
    assert "missed by 1.50×" in text
    assert text.count("FASTER") == 1


def tables(text: str) -> list[str]:
    """The blocks of lines that are tables."""
    return [block for block in text.split("\n\n") if block.startswith("|")]
