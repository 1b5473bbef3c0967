"""The rows of a job on disk: lines in append-only segments, and a journal with the state of each row.

A job has a folder with `journal` and the segments, and two files for its user: `out` with the lines of answered rows,
`errors` with those of failed rows. The journal is a line of JSON (the header, defined by the caller) and then records
of 25 bytes: row, kind, the location and length of the row's line, and the checksum of its bytes.

* A row is marked as sent before it is sent, and as finished once its line is written. All rows that finish together are
  one `write` each of lines and marks: a killed process (SIGKILL) loses no flushed row.
* Against a loss of power the files are synchronised from a thread, and the journal records how far. Lines written
later are verified by their checksums when the job is opened again.
* In input order (`in_order`) lines wait in segments until all rows before them have finished, and are then copied to
  `out` and `errors`; a segment is removed once all of its lines are copied. Otherwise `out` and `errors` are the
  segments.
* Lines of rows that are sent again (`again`) are kept separately until `merge` puts them in their place, replacing both
  files atomically.

Memory: one byte per row, and 16 for each row that waits for an earlier one. All methods block, most only for the
duration of one write.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from .atomic import AtomicFile
from .disk import open_regular
from .journal import AppendFile, FileChangedError, FileGoneError
from .spending import SPENT, Spending

__all__ = ["FAILED", "NEW", "OK", "SENT", "DamagedError", "SegmentStore", "SyncPlan"]

NEW, SENT, OK, FAILED = range(4)  # states of a row, and kinds of records
_COPIED, _COPIED_ERRORS, _SYNCED, _AGAIN, _MERGING, _MERGING_ERRORS, _MERGED, _DOUBTFUL = range(4, 12)
_RECORD = struct.Struct("<IBBHQIIB")  # row, kind, magic, file, offset, length, checksum, line feed
_MAGIC, _END = 0xA7, 0x0A
_OUT, _ERRORS, _FIRST = 0, 1, 2  # numbers of the files that records name; segments follow
_SEGMENT = 64 << 20  # size of a segment in bytes from which a new one is begun
_RESERVE = 4 << 20  # bytes released when the disk is full, so that rows in flight can be saved
_SCANNED = _RECORD.size * 40_000  # bytes of the journal that are read at once
_BLOCK = 1 << 18  # bytes of a segment that are read at once
_HEADER = 16 << 20  # bytes
_GROWTH = 4096  # rows by which tables grow
_pack = _RECORD.pack


class DamagedError(OSError):
    """A row's bytes differ from those written; the row was marked to be sent again."""


class _Place(NamedTuple):
    file: int
    offset: int
    length: int
    checksum: int


class SyncPlan(NamedTuple):
    """The files that a synchronisation makes durable, and the resulting journal entries."""

    files: list[AppendFile]
    copied: int
    out: int
    errors: int
    removable: list[int]
    unsynced: dict[int, int]
    dirty: set[int]


class _LineTable:
    """The locations of lines that wait for an earlier row."""

    def __init__(self, base: int) -> None:
        self.base = base
        self._skip = 0  # entries at the front that are no longer used
        self._where = array("Q")
        self._length = array("I")
        self._checksum = array("I")

    def put(self, row: int, file: int, offset: int, length: int, checksum: int) -> None:
        at = row - self.base + self._skip
        if at >= len(self._where):
            missing = at + _GROWTH - len(self._where)
            self._where.frombytes(bytes(8 * missing))
            self._length.frombytes(bytes(4 * missing))
            self._checksum.frombytes(bytes(4 * missing))
        self._where[at] = file << 40 | offset
        self._length[at] = length
        self._checksum[at] = checksum

    def get(self, row: int) -> _Place | None:
        at = row - self.base + self._skip
        if at >= len(self._where) or not self._where[at]:
            return None
        where = self._where[at]
        return _Place(where >> 40, where & (1 << 40) - 1, self._length[at], self._checksum[at])

    def advance(self, base: int) -> None:
        """Forget the rows before `base`."""
        self._skip += base - self.base
        self.base = base
        if self._skip >= len(self._where):
            self._skip = 0
            for column in (self._where, self._length, self._checksum):
                del column[:]
        elif self._skip > 8192:
            for column in (self._where, self._length, self._checksum):
                del column[: self._skip]
            self._skip = 0


class SegmentStore:
    """The files of one job, locked by one process at a time. Created by `create` or `open`; `close` releases them.

    Attributes:
        header: the value stored by the caller.
        states: the state of each row, one byte per row: `NEW`, `SENT`, `OK`, `FAILED`.
        counts: the number of rows by state; rows without a record are not counted.
        failure: the last write error; `None` without one.
    """

    def __init__(self, folder: str, out: str, errors: str, in_order: bool, journal: AppendFile, header: bytes) -> None:
        self.folder = folder
        self.header = header
        self.states: bytearray = bytearray()
        self.counts: list[int] = [0, 0, 0, 0]
        self.failure: OSError | None = None
        self.spent: Spending = Spending()
        """The sums in the journal."""
        self.spending: Callable[[], Spending] | None = None
        """Returns the current sums, which are written with the rows that finish."""
        self._in_order = in_order
        self._paths = {_OUT: out, _ERRORS: errors}
        self._journal = journal
        self._files: dict[int, AppendFile] = {}
        self._left: dict[int, int] = {}  # lines of each segment that are not copied yet
        self._current = _FIRST - 1  # the segment that is written to
        self._window = _LineTable(0)
        self._late: dict[int, _Place | None] = {}  # rows before the window that are sent again, with their new lines
        self._failed: dict[int, _Place] = {}  # lines in `errors`, where it is a segment
        self._pending: list[tuple[int, int, bytes]] = []
        self._pending_bytes = 0
        self._dirty: set[int] = set()
        self.doubtful: set[int] = set()
        """Rows that were sent when a process was killed, and then sent again."""
        self.strict = False
        """Whether a row counts, and is copied, only once the disk has it."""
        self._unsynced: dict[int, int] = {}  # with `strict`: rows that the disk may not have, and their states
        self._marked = 0  # rows that the journal knows to be copied
        self._removable: list[int] = []  # segments all of whose lines are copied
        self._unneeded: list[int] = []  # those that are recorded as copied in the journal
        self._block: tuple[int, int, bytes] = (-1, 0, b"")

    # ---------------------------------------------------------------- making and opening

    @classmethod
    def create(cls, folder: str, out: str, errors: str, header: bytes, *, in_order: bool = True) -> SegmentStore:
        """Create a job, removing the previous contents of `folder`, `out` and `errors`. Raises `OSError`,
        `FileInUseError`."""
        os.makedirs(folder, exist_ok=True)
        journal = AppendFile.create(os.path.join(folder, "journal"), header + b"\n", lambda first: None)
        store = cls(folder, out, errors, in_order, journal, header)
        try:
            for name in os.listdir(folder):
                if name.startswith(("data-", "merged-")):
                    os.unlink(os.path.join(folder, name))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(errors)
            _take_away(out)
            store._file(_OUT)
            store._reserve()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(cls, folder: str, out: str, errors: str, *, in_order: bool = True) -> SegmentStore:
        """Open an existing job: truncate partial writes of a killed process, and read the state of each row.

        Raises `FileNotFoundError` if there is no such job, `FileInUseError`, `FileGoneError` and `FileChangedError` if
        `out` or `errors` were removed or changed, `OSError`.
        """
        path = os.path.join(folder, "journal")
        journal = AppendFile.resume(path)
        try:
            header = cls.read_header(folder)
            store = cls(folder, out, errors, in_order, journal, header)
        except BaseException:
            journal.close()
            raise
        try:
            store._scan(len(header) + 1)
            store._reserve()
        except BaseException:
            store.close()
            raise
        return store

    @staticmethod
    def read_header(folder: str) -> bytes:
        """Return the header of a job, even while it is in use. Raises `FileNotFoundError`, `OSError`."""
        with open_regular(os.path.join(folder, "journal")) as file:
            found = b""
            while b"\n" not in found and len(found) < _HEADER and (piece := file.read(1 << 16)):
                found += piece
        return found.partition(b"\n")[0]

    def close(self) -> None:
        """Close all files. Unflushed lines are lost."""
        for file in (*self._files.values(), self._journal):
            file.close()
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, "reserve"))

    def _path(self, number: int) -> str:
        return self._paths.get(number) or os.path.join(self.folder, f"data-{number:06d}")

    def _file(self, number: int) -> AppendFile:
        """Return the file with a number, opening or creating it if needed."""
        file = self._files.get(number)
        if file is None:
            path = self._path(number)
            try:
                file = AppendFile.resume(path)
            except FileNotFoundError:
                # The mode follows the umask: results are the user's files.
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                file = AppendFile.resume(path)
            self._files[number] = file
        return file

    def _reserve(self) -> None:
        """Reserve space for the answers in flight when the disk becomes full."""
        with contextlib.suppress(OSError):
            descriptor = os.open(os.path.join(self.folder, "reserve"), os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, _RESERVE)
            finally:
                os.close(descriptor)

    def _use_reserve(self, error: OSError) -> None:
        """Release the reserved space for the answers in flight. Raises the error if none is left."""
        self.failure = self.failure or error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        try:
            os.unlink(os.path.join(self.folder, "reserve"))
        except OSError:
            raise error from None

    # ---------------------------------------------------------------- reading the journal

    def _scan(self, start: int) -> None:
        """Read all records, and truncate the files after the last recorded line."""
        size, lengths, merging = start, {_OUT: 0, _ERRORS: 0}, {_OUT: -1, _ERRORS: -1}
        recent: list[tuple[int, ...]] = []  # records of rows that finished since the last synchronisation
        with open_regular(self._journal.path) as file:
            file.seek(start)
            while chunk := file.read(_SCANNED):
                whole = len(chunk) - len(chunk) % _RECORD.size
                good = self._apply(chunk[:whole], lengths, merging, recent)
                size += good
                if good < len(chunk):
                    break
        self._journal.truncate(size)
        if merging[_ERRORS] >= 0:
            self._finish_merge()
            lengths = dict(merging)
        self._check_recent(recent, lengths)
        for number in (_OUT, _ERRORS):
            self._open_result(number, lengths[number])
        for row in range(self._window.base, len(self.states)):
            if self.states[row] >= OK and (place := self._window.get(row)):
                self._left[place.file] = self._left.get(place.file, 0) + 1
        for place in self._late.values():
            if place is not None:
                self._left[place.file] = self._left.get(place.file, 0) + 1
        for name in os.listdir(self.folder):
            if name.startswith("merged-") or (name.startswith("data-") and int(name[5:]) not in self._left):
                os.unlink(os.path.join(self.folder, name))
        counts = [self.states.count(state) for state in range(4)]
        self.counts = [0, *counts[1:]]
        self._marked = self._window.base

    def _apply(
        self, records: bytes, lengths: dict[int, int], merging: dict[int, int], recent: list[tuple[int, ...]]
    ) -> int:
        """Apply the records and return how many of their bytes are valid."""
        states, window, late, good = self.states, self._window, self._late, 0
        put, in_order = window.put, self._in_order
        for record in _RECORD.iter_unpack(records):
            row, kind, magic, file, offset, length, checksum, end = record
            if magic != _MAGIC or end != _END or not SENT <= kind <= SPENT:
                break
            good += 1
            if kind <= FAILED:
                if row >= len(states):
                    states.extend(bytes(row + _GROWTH - len(states)))
                states[row] = kind
                if kind == SENT:
                    continue
                recent.append(record)
                if row in late:
                    late[row] = _Place(file, offset, length, checksum)
                elif in_order:
                    put(row, file, offset, length, checksum)
                if file > self._current:
                    self._current = file
                if not in_order:
                    self._note_result(row, kind, _Place(file, offset, length, checksum), lengths)
            elif kind == _SYNCED:
                recent.clear()
            elif kind == _COPIED:
                window.advance(row)
                lengths[_OUT] = offset
            elif kind == _COPIED_ERRORS:
                lengths[_ERRORS] = offset
            elif kind == _AGAIN:
                states[row] = NEW
                if not in_order or row < window.base:
                    late[row] = None
            elif kind == SPENT:
                self.spent = self.spent.plus(records[(good - 1) * _RECORD.size : good * _RECORD.size])
            elif kind == _DOUBTFUL:
                self.doubtful.add(row)
            elif kind in (_MERGING, _MERGING_ERRORS):
                merging[_OUT if kind == _MERGING else _ERRORS] = offset
            else:
                lengths.update(merging)
                merging.update({_OUT: -1, _ERRORS: -1})
                for merged in [row for row, place in late.items() if place is not None]:
                    del late[merged]
                self._failed.clear()  # their marks are repeated
        return good * _RECORD.size

    def _note_result(self, row: int, kind: int, place: _Place, lengths: dict[int, int]) -> None:
        """Record a line that is already in `out` or `errors`."""
        lengths[place.file] = max(lengths[place.file], place.offset + place.length)
        if kind == FAILED:
            self._failed[row] = place

    def _check_recent(self, recent: list[tuple[int, ...]], lengths: dict[int, int]) -> None:
        """Verify the checksums of lines that may not have reached the disk; rows whose line is missing or damaged are
        sent again."""
        ends: dict[int, float] = defaultdict(lambda: math.inf)
        for row, kind, _, file, offset, length, checksum, _ in recent:
            place = _Place(file, offset, length, checksum)
            if self.states[row] != kind or (self._in_order and row < self._window.base and row not in self._late):
                continue  # sent again since, or copied and perhaps removed here
            try:
                data = self._file(place.file).read(place.offset, place.length)
            except OSError:
                data = b""
            if len(data) == place.length and crc32(data) == place.checksum and place.offset < ends[place.file]:
                continue
            self.states[row] = NEW
            if row in self._late:
                self._late[row] = None
            if not self._in_order:  # the file is truncated there, so that later lines are lost too
                ends[place.file] = min(ends[place.file], place.offset)
                if kind == FAILED:
                    self._failed.pop(row, None)
        for number in lengths:
            lengths[number] = int(min(lengths[number], ends[number]))

    def _open_result(self, number: int, length: int) -> None:
        """Open `out` or `errors`, checking it against the journal."""
        path = self._path(number)
        if not os.path.exists(path):
            if length:
                raise FileGoneError(errno.ENOENT, f"{length:,} bytes of the job's results were removed", path)
            if number == _ERRORS:
                return  # made with the first failure
        try:
            self._file(number).truncate(length)
        except FileChangedError as error:
            text = f"some of the job's {length:,} bytes of results are gone"
            raise FileChangedError(errno.EEXIST, text, path) from error

    # ---------------------------------------------------------------- rows

    def sent(self, row: int, checksum: int) -> None:
        """Mark a row as sent, returning once the mark is written. `checksum` is that of its request. Raises `OSError`.

        Buffered rows are written first: the new row takes the slot of one of them, and a process killed now must not
        lose both.
        """
        states = self.states
        if row >= len(states):
            states.extend(bytes(row + _GROWTH - len(states)))
        if states[row] == SENT:
            self.flush()
            return
        mark = _pack(row, SENT, _MAGIC, 0, 0, 0, checksum, _END)
        if self._pending:
            self.flush(mark)
        else:
            self._append_marks(mark)
        states[row] = SENT
        self.counts[SENT] += 1

    def put(self, row: int, ok: bool, line: bytes) -> None:
        """Buffer the line of a finished row; `flush` writes it."""
        self._pending.append((row, OK if ok else FAILED, line))
        self._pending_bytes += len(line)

    @property
    def pending(self) -> int:
        """The number of bytes that are not flushed yet."""
        return self._pending_bytes

    def counted(self, state: int) -> int:
        """Return the number of rows in a state; with strict durability only durable rows count."""
        return self.counts[state] - sum(kind == state for kind in self._unsynced.values())

    def flush(self, more: bytes = b"") -> int:
        """Write all buffered lines and marks and return the number of rows. After an `OSError` they stay buffered.

        `more` are marks written after them in the same step.
        """
        pending = self._pending
        if not pending:
            return 0
        spent = self.spent if self.spending is None else self.spending()
        if self._in_order:
            places = self._append_lines(self._segment(), pending)
        else:
            places = [_Place(-1, 0, 0, 0)] * len(pending)
            for number, wanted in ((_OUT, OK), (_ERRORS, FAILED)):
                chosen = [at for at, (_, kind, _) in enumerate(pending) if kind == wanted]
                if chosen:
                    written = self._append_lines(number, [pending[at] for at in chosen])
                    for at, place in zip(chosen, written, strict=True):
                        places[at] = place
        self._append_marks(
            b"".join(
                [
                    _pack(row, kind, _MAGIC, file, offset, length, checksum, _END)
                    for (row, kind, _), (file, offset, length, checksum) in zip(pending, places, strict=True)
                ]
            )
            + more
            + spent.since(self.spent)
        )
        self.spent = spent
        self._pending, self._pending_bytes = [], 0
        for (row, kind, _), place in zip(pending, places, strict=True):
            self._finished(row, kind, place)
        return len(pending)

    def _finished(self, row: int, kind: int, place: _Place) -> None:
        states, counts = self.states, self.counts
        if row >= len(states):
            states.extend(bytes(row + _GROWTH - len(states)))
        elif states[row]:
            counts[states[row]] -= 1
        states[row] = kind
        counts[kind] += 1
        if self.strict:
            self._unsynced[row] = kind
        if row in self._late:
            self._late[row] = place
        if self._in_order:
            self._left[place.file] = self._left.get(place.file, 0) + 1
            if row >= self._window.base:
                self._window.put(row, *place)
        elif kind == FAILED:
            self._failed[row] = place

    def _append_lines(self, number: int, pending: list[tuple[int, int, bytes]]) -> list[_Place]:
        file = self._file(number)
        offset = file.size
        data = b"".join([line for _, _, line in pending])
        self._append(file, data, number < _FIRST)
        self._dirty.add(number)
        places: list[_Place] = []
        for _, _, line in pending:
            length = len(line)
            places.append(_Place(number, offset, length, crc32(line)))
            offset += length
        return places

    def _append_marks(self, marks: bytes) -> None:
        self._append(self._journal, marks, False)

    def _append(self, file: AppendFile, data: bytes, check: bool) -> None:
        try:
            file.append(data, check=check)
        except OSError as error:
            self._use_reserve(error)
            file.append(data, check=check)

    def _segment(self) -> int:
        """Return the current segment, beginning another one if it is full or cannot grow."""
        if self._current < _FIRST or self._file(self._current).size >= _SEGMENT:
            if self._left.get(self._current) == 0:
                self._removable.append(self._current)
            self._current = max(self._current + 1, _FIRST)
        return self._current

    def again(self, state: int = FAILED) -> int:
        """Mark all rows of a state (`FAILED`) to be sent again and return their number. Call `flush` first. Raises
        `OSError`."""
        rows = [row for row, found in enumerate(self.states) if found == state]
        if rows:
            self._append_marks(b"".join([_pack(row, _AGAIN, _MAGIC, 0, 0, 0, 0, _END) for row in rows]))
        for row in rows:
            self._unfinish(row)
        return len(rows)

    def note_doubtful(self) -> None:
        """Record durably which rows were sent but not finished when the job was opened. Raises `OSError`."""
        rows = [row for row, state in enumerate(self.states) if state == SENT and row not in self.doubtful]
        if rows:
            self._append_marks(b"".join([_pack(row, _DOUBTFUL, _MAGIC, 0, 0, 0, 0, _END) for row in rows]))
            self.doubtful.update(rows)

    def _unfinish(self, row: int) -> None:
        self.counts[self.states[row]] -= 1
        self.states[row] = NEW
        if not self._in_order or row < self._window.base:
            self._late[row] = None

    # ---------------------------------------------------------------- results in order

    @property
    def copied(self) -> int:
        """The number of leading rows whose lines are in `out` or `errors` (with `in_order` only)."""
        return self._window.base

    def copy(self, most: int = 2000) -> bool:
        """Copy the lines of up to `most` rows that are next in order; return whether there are more. Raises `OSError`.

        Raises `DamagedError` for a damaged line, whose row is sent again when the job is resumed.
        """
        if not self._in_order:
            return False
        states, window, unsynced = self.states, self._window, self._unsynced
        row = first = window.base
        lines: dict[int, list[bytes]] = {OK: [], FAILED: []}
        touched: list[int] = []
        while row < len(states) and row - first < most and states[row] >= OK and row not in unsynced:
            place = window.get(row)
            if place is None:
                break
            lines[states[row]].append(self._read(row, place))
            touched.append(place.file)
            row += 1
        if row == first:
            return False
        self._append_results(b"".join(lines[OK]), b"".join(lines[FAILED]))
        window.advance(row)
        for number in touched:
            self._copied_from(number)
        return row - first == most

    def waiting(self) -> Iterator[tuple[int, bytes]]:
        """Yield the state and line of rows that are finished but not copied, as an earlier row is not finished. Raises
        `DamagedError`, `OSError`."""
        if self._in_order:
            for row in range(self._window.base, len(self.states)):
                place = self._window.get(row)
                if self.states[row] >= OK and place is not None:
                    yield self.states[row], self._read(row, place)

    def _copied_from(self, number: int) -> None:
        self._left[number] -= 1
        if not self._left[number] and number != self._current:
            del self._left[number]
            self._removable.append(number)

    def _append_results(self, out: bytes, errors: bytes) -> None:
        """Append to both files or to neither."""
        before = self._file(_OUT).size
        try:
            if out:
                self._file(_OUT).append(out)
                self._dirty.add(_OUT)
            if errors:
                self._file(_ERRORS).append(errors)
                self._dirty.add(_ERRORS)
        except OSError as error:
            self.failure = self.failure or error
            with contextlib.suppress(OSError):
                self._file(_OUT).truncate(before)
            raise

    def _read(self, row: int, place: _Place) -> bytes:
        """Return the line of a row, from a cached block, since neighbours are read one after another."""
        number, start, block = self._block
        at = place.offset - start
        if number != place.file or at < 0 or at + place.length > len(block):
            start = max(0, place.offset - _BLOCK // 4)
            block = self._file(place.file).read(start, max(_BLOCK, place.offset - start + place.length))
            self._block = (place.file, start, block)
            at = place.offset - start
        line = block[at : at + place.length]
        if crc32(line) != place.checksum:
            self._append_marks(_pack(row, _AGAIN, _MAGIC, 0, 0, 0, 0, _END))
            self._unfinish(row)
            raise DamagedError(errno.EIO, f"the line of row {row} is damaged; it is sent again", self._path(place.file))
        return line

    # ---------------------------------------------------------------- synchronisation

    def begin_sync(self) -> SyncPlan | None:
        """Return what must be synchronised; `None` if nothing was written. Follow with `run_sync`, then `end_sync`."""
        if not self._dirty:
            return None
        dirty, self._dirty = self._dirty, set()
        files = [self._file(number) for number in sorted(dirty, reverse=True)]
        errors = self._files.get(_ERRORS)
        removable, self._removable = self._removable, []
        return SyncPlan(
            [*files, self._journal],
            self._window.base,
            self._file(_OUT).size,
            0 if errors is None else errors.size,
            removable,
            dict(self._unsynced),
            dirty,
        )

    def take_back(self, plan: SyncPlan) -> None:
        """Make a synchronisation that was cancelled part of the next: its rows would never count as durable."""
        self._dirty |= plan.dirty
        self._removable = plan.removable + self._removable

    @staticmethod
    def run_sync(plan: SyncPlan) -> None:
        """Synchronise the files to disk, from any thread. Raises `OSError`."""
        for file in plan.files:
            file.sync()

    def end_sync(self, plan: SyncPlan) -> None:
        """Record in the journal what is durable now, and remove unneeded segments. Raises `OSError`."""
        for row in plan.unsynced:
            self._unsynced.pop(row, None)
        marks = [_pack(0, _SYNCED, _MAGIC, 0, 0, 0, 0, _END)]
        if self._in_order and plan.copied > self._marked:
            marks.append(_pack(plan.copied, _COPIED, _MAGIC, 0, plan.out, 0, 0, _END))
            marks.append(_pack(0, _COPIED_ERRORS, _MAGIC, 0, plan.errors, 0, 0, _END))
            self._marked = plan.copied
        self._append_marks(b"".join(marks))
        # The marks that make a segment unneeded must be on disk before it is removed, that is, after the next
        # synchronisation.
        self._remove_segments()
        self._unneeded = plan.removable

    def _remove_segments(self) -> None:
        for number in self._unneeded:
            if (file := self._files.pop(number, None)) is not None:
                file.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path(number))

    def sync(self) -> None:
        """Flush, copy all rows that are next in order, and synchronise. Raises `OSError`."""
        self.flush()
        if self._unsynced and (plan := self.begin_sync()) is not None:
            self.run_sync(plan)
            self.end_sync(plan)
        while self.copy():
            pass
        plan = self.begin_sync()
        if plan is not None:
            self.run_sync(plan)
            self.end_sync(plan)
        self._journal.sync()
        self._remove_segments()
        self._unneeded = []

    # ---------------------------------------------------------------- rows that were sent again

    def merge(self) -> bool:
        """Put the lines of rows that were sent again in their place; return whether there were any. Raises `OSError`.

        Both files are rewritten and replace the old ones; if the process is killed at any point, `open` finishes the
        merge.
        """
        self.sync()
        if not any(place is not None for place in self._late.values()):
            return False
        made: dict[int, AtomicFile] = {}
        sizes = {_OUT: 0, _ERRORS: 0}
        try:
            for number in sizes:
                made[number] = AtomicFile.open(os.path.join(self.folder, f"merged-{number}"))
            for number, line in self._merged_lines():
                made[number].write(line)
                sizes[number] += len(line)
            for file in made.values():
                file.commit(sync=True)
        except BaseException:
            for file in made.values():
                file.discard()
            raise
        marks = [
            _pack(0, _MERGING, _MAGIC, 0, sizes[_OUT], 0, 0, _END),
            _pack(0, _MERGING_ERRORS, _MAGIC, 0, sizes[_ERRORS], 0, 0, _END),
        ]
        self._append_marks(b"".join(marks))
        self._journal.sync()
        self._finish_merge()
        for number in sizes:
            self._file(number)
        return True

    def _finish_merge(self) -> None:
        """Replace the results with the merged files."""
        for number in (_OUT, _ERRORS):
            merged = os.path.join(self.folder, f"merged-{number}")
            if not os.path.exists(merged):
                continue
            if (file := self._files.pop(number, None)) is not None:
                file.close()
            os.replace(merged, self._path(number))
        marks = [_pack(0, _MERGED, _MAGIC, 0, 0, 0, 0, _END)]
        if not self._in_order:
            marks += self._moved_failures()
        self._append_marks(b"".join(marks))
        self._journal.sync()
        for place in self._late.values():
            if place is not None and place.file in self._left:
                self._copied_from(place.file)
        self._late = {row: None for row, place in self._late.items() if place is None}

    def _merged_lines(self) -> Iterator[tuple[int, bytes]]:
        if not self._in_order:
            yield from self._kept_lines()
            return
        with open(self._path(_OUT), "rb") as out, contextlib.ExitStack() as stack:
            errors = stack.enter_context(open(self._path(_ERRORS), "rb"))
            for row in range(self._window.base):
                late = self._late.get(row)
                if row in self._late:
                    line = errors.readline()  # it had failed before
                    if late is None:
                        yield _ERRORS, line  # still to be sent
                    else:
                        yield (_OUT if self.states[row] == OK else _ERRORS), self._read(row, late)
                elif self.states[row] == OK:
                    yield _OUT, out.readline()
                else:
                    yield _ERRORS, errors.readline()

    def _kept_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of `out`, and those of `errors` whose rows still have no answer."""
        with open(self._path(_OUT), "rb") as out:
            while piece := out.read(1 << 20):
                yield _OUT, piece
        for row, place in self._in_errors():
            yield _ERRORS, self._read(row, place)

    def _in_errors(self) -> list[tuple[int, _Place]]:
        kept = [(row, place) for row, place in self._failed.items() if self.states[row] != OK]
        return sorted(kept, key=lambda found: found[1].offset)

    def _moved_failures(self) -> list[bytes]:
        """Return marks with the new locations of the lines in `errors`."""
        marks: list[bytes] = []
        moved: dict[int, _Place] = {}
        at = 0
        for row, (_, _, length, checksum) in self._in_errors():
            moved[row] = _Place(_ERRORS, at, length, checksum)
            marks.append(_pack(row, FAILED, _MAGIC, _ERRORS, at, length, checksum, _END))
            if self.states[row] != FAILED:
                marks.append(_pack(row, _AGAIN, _MAGIC, 0, 0, 0, 0, _END))
            at += length
        self._failed = moved
        self._block = (-1, 0, b"")
        return marks

    # ---------------------------------------------------------------- the end

    def remove(self) -> None:
        """Close the job and remove its folder; the results stay. Raises `OSError`."""
        self.close()
        shutil.rmtree(self.folder)


def _take_away(path: str) -> None:
    """Remove a file that will be rewritten. Raises `OSError` for a target that is not a regular file."""
    try:
        with open_regular(path):
            pass
    except FileNotFoundError:
        return
    os.unlink(path)
