"""Sums of what was spent, in the records of a journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from openaiasync.storage.segments import SegmentStore
from openaiasync.storage.spending import Spending


@pytest.mark.parametrize(
    "total",
    [
        Spending(10, 5, 1, 0, 0, 0, 0.25),
        Spending(2**32 + 7, 3, 70_000, 65_536, 300, 1000, 1e-9),
        Spending(2**40, 2**33, 2, 1, 0, 0, 0.1),
    ],
)
def test_records_add_up(total: Spending) -> None:
    """The records between two sums lead from one to the other, however large the numbers are."""
    before = Spending(3, 2, 1, 0, 0, 0, 0.125)
    total = Spending(*(one + other for one, other in zip(total, before, strict=True)))
    marks, found = total.since(before), before
    assert len(marks) % 25 == 0
    for at in range(0, len(marks), 25):
        found = found.plus(marks[at : at + 25])
    assert found[:6] == total[:6]
    assert found.cost == pytest.approx(total.cost)
    assert total.since(total) == b""


def test_sums_are_on_file_with_the_rows(tmp_path: Path) -> None:
    """A store that was not closed properly has the sums of all rows that it has."""
    paths = [str(tmp_path / name) for name in ("job", "out", "errors")]
    store = SegmentStore.create(*paths, b"header")
    spent = Spending()
    store.spending = lambda: spent
    for row in range(100):
        store.sent(row, 1)
        spent = Spending(10 * row, row, row + 1, 0, 0, 0, row / 8)
        store.put(row, True, b"line\n")
        store.flush()
    spent = Spending(10**6, 10**6, 10**6, 0, 0, 0, 1e6)  # never flushed
    store.close()
    again = SegmentStore.open(*paths)
    assert again.spent == Spending(990, 99, 100, 0, 0, 0, 99 / 8)
    assert again.counts[2] == 100
    again.close()
