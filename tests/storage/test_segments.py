"""Rows of a job on the disk: nothing that was written is lost, whatever happens to the process or to the files."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from openaiasync.storage import segments
from openaiasync.storage.disk import FileInUseError
from openaiasync.storage.journal import AppendFile, FileChangedError, FileGoneError
from openaiasync.storage.segments import FAILED, NEW, OK, SENT, SegmentStore

ORDERS = pytest.mark.parametrize("in_order", [True, False])


def paths(folder: Path) -> tuple[str, str, str]:
    return str(folder / "out.job"), str(folder / "out.jsonl"), str(folder / "out.errors.jsonl")


def create(folder: Path, in_order: bool = True) -> SegmentStore:
    return SegmentStore.create(*paths(folder), b'{"a": 1}', in_order=in_order)


def reopen(folder: Path, in_order: bool = True) -> SegmentStore:
    return SegmentStore.open(*paths(folder), in_order=in_order)


def line(row: int, ok: bool, again: int = 0) -> bytes:
    return json.dumps({"row": row, "ok": ok, "again": again, "pad": "x" * (row * 37 % 300)}).encode() + b"\n"


def rows_in(path: str) -> list[int]:
    if not os.path.exists(path):
        return []
    return [json.loads(found)["row"] for found in Path(path).read_bytes().splitlines()]


def check(store: SegmentStore, folder: Path, ok: set[int], failed: set[int], in_order: bool) -> None:
    """The files hold each row once, in the right one; in order those of the finished prefix."""
    _, out, errors = paths(folder)
    found, bad = rows_in(out), rows_in(errors)
    if in_order:
        assert found == sorted(found)
        end = store.copied
        assert found == sorted(row for row in ok if row < end)
        assert set(bad) >= {row for row in failed if row < end}
    else:
        assert sorted(found) == sorted(ok)
        assert set(bad) >= failed
    assert len(set(bad)) == len(bad)


@ORDERS
def test_every_row_is_where_it_belongs(tmp_path: Path, in_order: bool) -> None:
    """Rows that finish in any order are in `out` or `errors` once, in the order of rows if that was asked for."""
    store = create(tmp_path, in_order)
    rows = list(range(500))
    random.Random(1).shuffle(rows)
    for at, row in enumerate(rows):
        store.sent(row, row)
        store.put(row, row % 7 != 3, line(row, row % 7 != 3))
        if at % 5 == 0:
            store.flush()
    store.sync()
    good, bad = [row for row in range(500) if row % 7 != 3], [row for row in range(500) if row % 7 == 3]
    assert rows_in(paths(tmp_path)[1]) == (good if in_order else [row for row in rows if row % 7 != 3])
    assert rows_in(paths(tmp_path)[2]) == (bad if in_order else [row for row in rows if row % 7 == 3])
    assert store.counts == [0, 0, len(good), len(bad)]
    store.close()
    again = reopen(tmp_path, in_order)
    assert again.header == b'{"a": 1}'
    assert again.counts == [0, 0, len(good), len(bad)]
    assert [again.states[row] for row in (0, 3)] == [OK, FAILED]
    again.close()


@ORDERS
@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_loses_nothing(
    tmp_path: Path, in_order: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at any instant, with half a line or half a mark written, a job goes on with all that was flushed.

    The process is one that simply stops using the store: what the system was given is in the files. Small segments make
    rolling over and removing them part of it.
    """
    monkeypatch.setattr(segments, "_SEGMENT", 3000)
    chance = random.Random(seed)
    store = create(tmp_path, in_order)
    ok: set[int] = set()
    failed: set[int] = set()
    started: set[int] = set()
    unflushed: dict[int, bool] = {}
    for _ in range(400):
        what = chance.random()
        if what < 0.5:
            row = chance.choice([row for row in range(120) if row not in ok | failed | unflushed.keys()] or [0])
            if row in ok | failed | unflushed.keys():
                break
            store.sent(row, 7)  # which writes what was taken in, too
            ok |= {row for row, good in unflushed.items() if good}
            failed |= {row for row, good in unflushed.items() if not good}
            unflushed.clear()
            started.add(row)
            good = chance.random() < 0.8
            store.put(row, good, line(row, good))
            unflushed[row] = good
        elif what < 0.75:
            store.flush()
            ok |= {row for row, good in unflushed.items() if good}
            failed |= {row for row, good in unflushed.items() if not good}
            unflushed.clear()
        elif what < 0.85:
            store.copy(chance.randrange(1, 30))
        elif what < 0.93:
            if (plan := store.begin_sync()) is not None and chance.random() < 0.7:
                store.run_sync(plan)
                store.end_sync(plan)
        else:
            store.close()
            if chance.random() < 0.5:  # torn when the process died
                for name in ("out.jsonl", "out.errors.jsonl", "out.job/journal"):
                    if (tmp_path / name).exists():
                        with open(tmp_path / name, "ab") as file:
                            file.write(chance.choice([b"", b'{"row": 1', b"\0" * 25, b"\n", b"\xa7\n" * 9]))
            store = reopen(tmp_path, in_order)
            unflushed.clear()
            for row in range(len(store.states)):
                expected = OK if row in ok else FAILED if row in failed else SENT if row in started else NEW
                assert store.states[row] == expected, row
        check(store, tmp_path, ok, failed, in_order)
    store.sync()
    store.close()


@ORDERS
@pytest.mark.parametrize("step", range(4))
def test_rows_sent_again_take_their_place(
    tmp_path: Path, in_order: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed rows that are sent again stand where they belong, whenever the process dies on the way there."""
    store = create(tmp_path, in_order)
    for row in range(60):
        store.put(row, row % 3 != 0, line(row, row % 3 != 0))
    store.sync()
    assert store.again() == 20
    for row in range(0, 60, 3):
        if row % 4 != 1:  # the others are still to be sent
            store.sent(row, 0)
            store.put(row, row % 2 == 0, line(row, row % 2 == 0, 1))
    if step == 1:
        store.sync()
        store.close()
        store = reopen(tmp_path, in_order)
    if step in (2, 3):  # dies between the marks and the replacing, or between the two files

        def die(source: str, target: str, real: object = os.replace) -> None:
            placing = "merged-" in str(source) and not str(target).startswith(str(tmp_path / "out.job"))
            if placing and (step == 2 or "errors" in target):
                raise KeyboardInterrupt
            real(source, target)  # type: ignore[operator]

        monkeypatch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            store.merge()
        monkeypatch.undo()
        store.close()
        store = reopen(tmp_path, in_order)
    else:
        assert store.merge()
    late_ok = {row for row in range(0, 60, 3) if row % 4 != 1 and row % 2 == 0}
    good = {row for row in range(60) if row % 3 != 0} | late_ok
    for _ in range(2):
        found, bad = rows_in(paths(tmp_path)[1]), rows_in(paths(tmp_path)[2])
        assert (found if in_order else sorted(found)) == sorted(good)
        assert sorted(bad) == sorted(set(range(60)) - good)
        assert store.counts[OK] == len(good)
        assert not store.merge()
        store.close()
        store = reopen(tmp_path, in_order)
    assert store.states[9] == NEW
    store.again()
    for row in range(60):  # the rest succeeds
        if row not in good:
            store.put(row, True, line(row, True, 2))
    store.merge()
    found = rows_in(paths(tmp_path)[1])
    assert (found if in_order else sorted(found)) == list(range(60))
    assert rows_in(paths(tmp_path)[2]) == []
    store.close()


@ORDERS
def test_lines_that_did_not_reach_the_disk_are_noticed(tmp_path: Path, in_order: bool) -> None:
    """After a loss of power a mark without its line does not count: the row is sent again."""
    store = create(tmp_path, in_order)
    for row in range(20):
        store.put(row, True, line(row, True))
        store.flush()
        if row == 9:
            store.sync()
    store.close()
    place = tmp_path / "out.job" / "data-000002" if in_order else tmp_path / "out.jsonl"
    data = bytearray(place.read_bytes())
    lost = data.index(line(15, True))
    data[lost : lost + 5] = bytes(5)
    place.write_bytes(data)
    store = reopen(tmp_path, in_order)
    assert [row for row in range(20) if store.states[row] != OK] == ([15] if in_order else list(range(15, 20)))
    store.close()


def test_a_damaged_line_is_not_copied(tmp_path: Path) -> None:
    """A line that is not what was written raises instead of being copied; its row is sent again."""
    store = create(tmp_path)
    for row in range(5):
        store.put(row, True, line(row, True))
    store.flush()
    place = tmp_path / "out.job" / "data-000002"
    data = place.read_bytes().replace(b'"row": 3', b'"row": 9')
    with open(place, "r+b") as file:
        file.write(data)
    with pytest.raises(segments.DamagedError, match="row 3"):
        store.copy()
    store.close()
    store = reopen(tmp_path)
    assert [store.states[row] for row in range(5)] == [OK, OK, OK, NEW, OK]
    store.put(3, True, line(3, True))
    store.sync()
    assert rows_in(paths(tmp_path)[1]) == list(range(5))
    store.close()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A job in use is refused, its files untouched."""
    store = create(tmp_path)
    store.put(0, True, line(0, True))
    store.sync()
    with pytest.raises(FileInUseError):
        reopen(tmp_path)
    with pytest.raises(FileInUseError):
        create(tmp_path)
    store.close()
    assert rows_in(paths(tmp_path)[1]) == [0]


@ORDERS
def test_results_that_others_changed_are_refused(tmp_path: Path, in_order: bool) -> None:
    """A job whose results were removed or cut says so instead of going on without them."""
    store = create(tmp_path, in_order)
    for row in range(5):
        store.put(row, True, line(row, True))
    store.sync()
    store.close()
    out = tmp_path / "out.jsonl"
    data = out.read_bytes()
    out.write_bytes(data[:40])
    with pytest.raises(FileChangedError, match="results are gone"):
        reopen(tmp_path, in_order)
    out.unlink()
    with pytest.raises(FileGoneError, match="were removed"):
        reopen(tmp_path, in_order)
    out.write_bytes(data)
    reopen(tmp_path, in_order).close()


def test_the_reserve_saves_answers_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full what is on its way is written into space held back for it, and the failure is known."""
    store = create(tmp_path)
    reserve = tmp_path / "out.job" / "reserve"
    assert reserve.stat().st_size == 4 << 20
    real = AppendFile.append

    def full(self: AppendFile, data: bytes, *, check: bool = True) -> None:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, data, check=check)

    monkeypatch.setattr(AppendFile, "append", full)
    store.sent(0, 0)
    store.put(0, True, line(0, True))
    store.flush()
    assert store.failure is not None
    assert store.failure.errno == errno.ENOSPC
    monkeypatch.setattr(AppendFile, "append", real)
    store.sync()
    store.close()
    assert rows_in(paths(tmp_path)[1]) == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file sizes")
def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """A write that fails half way (a real limit on file sizes) leaves whole lines; the job goes on once it may grow."""
    store = create(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    written = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        with pytest.raises(OSError, match="too large"):
            for row in range(200):
                store.put(row, True, line(row, True))
                store.flush()
                written = row + 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 0 < written < 200
    assert store.failure is not None
    assert store.flush() == 1  # the one that could not be written waits
    store.close()
    store = reopen(tmp_path)
    assert store.counts[OK] == written + 1
    store.sync()
    store.close()
    assert rows_in(paths(tmp_path)[1]) == list(range(written + 1))


def test_a_million_records_are_read_in_two_seconds(tmp_path: Path) -> None:
    """Opening costs at most 2 µs of CPU for each row that was sent and finished."""
    store = create(tmp_path)
    store.put(0, True, line(0, True))
    store.sync()
    pack = segments._pack
    count = 50_000
    marks: list[bytes] = []
    for row in range(1, count):
        marks.append(pack(row, SENT, 0xA7, 0, 0, 0, 5, 0x0A))
        marks.append(pack(row, OK, 0xA7, 2, 100 * row, 100, 5, 0x0A))
    marks.append(pack(count, 4, 0xA7, 0, (tmp_path / "out.jsonl").stat().st_size, 0, 0, 0x0A))
    marks.append(pack(0, 6, 0xA7, 0, 0, 0, 0, 0x0A))
    store._journal.append(b"".join(marks))
    store.close()
    best = 10.0
    for _ in range(3):
        began = time.process_time()
        store = reopen(tmp_path)
        best = min(best, time.process_time() - began)
        assert store.counts[OK] == count
        store.close()
    assert best / count < 4e-6  # twice the promise: other processes share the core's caches


def test_a_cancelled_synchronisation_is_made_again(tmp_path: Path) -> None:
    """A cancelled job leaves one half done: with strict durability its rows count, and are copied, at the end."""
    store = create(tmp_path)
    store.strict = True
    for row in range(5):
        store.sent(row, 0)
        store.put(row, True, line(row, True))
    store.flush()
    plan = store.begin_sync()
    assert plan is not None
    assert store.counted(OK) == 0
    store.take_back(plan)
    store.sync()
    assert (store.counted(OK), store.copied) == (5, 5)
    assert Path(paths(tmp_path)[1]).read_bytes() == b"".join(line(row, True) for row in range(5))
    store.close()
