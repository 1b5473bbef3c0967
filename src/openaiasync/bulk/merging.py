"""Merging: one output, file of failed rows and report from the shards of an input.

Each shard in turn is opened and locked as the job that it is, which finishes what a killed process left half done. Its
journal then tells for each row whether it is answered, so that a row that is missing, or there twice, is noticed. Lines
are copied in the order of the shards, in constant memory; both files replace older ones atomically.
"""

from __future__ import annotations

import os
from collections import Counter

import msgspec

from ..storage.atomic import AtomicFile, write_file
from ..storage.disk import FileInUseError, read_file
from ..storage.segments import FAILED, OK, SegmentStore
from .batch_file import SeenOnce, digest_of
from .fingerprint import JobChangedError, JobError, JobRecord, answers_path, folder_of, paths_of
from .progress import JobStatus, JobTotals, Latencies, TimelinePoint, load_status, thinned, totals_of
from .report import JobReport, html_page, save_json
from .shards import ShardPlan, shard_path, shards_folder
from .tables import export_results

__all__ = ["merge", "plan_of"]

_COPIED = 1 << 20  # bytes
_SHOWN = 10  # shards or rows that an error names
_REPORT = 256 << 20  # bytes
_key = msgspec.json.Decoder(msgspec.defstruct("_Key", [("custom_id", str)]))


class _Line(msgspec.Struct, gc=False):
    custom_id: str


_decode_line = msgspec.json.Decoder(_Line).decode


def merge(out: str, *, partial: bool = False, html: str | None = None, seconds: float | None = None) -> JobReport:
    """Merge the shards of an output that is a path, as `remote_shards.merge_shards` does. Blocks.

    `seconds` is the duration of the whole run, if the caller knows it.
    """
    place = os.path.realpath(out)
    answers = answers_path(place)
    plan = plan_of(answers)
    records = {number: record for number in range(plan.count) if (record := _record_of(answers, number)) is not None}
    _check_records(plan, records, answers)
    merging = _Merge(answers, plan, records)
    try:
        for number in range(plan.count):
            merging.take(number)
        if merging.lacking and not partial:
            raise JobError(merging.what_lacks())
        report = merging.commit(None if answers == place else place, seconds)
        if html is not None:
            write_file(html, html_page(report).encode())
    except OSError as error:
        raise JobError(f"the shards of {answers} cannot be merged: {error}") from error
    finally:
        merging.discard()
    return report


def plan_of(out: str) -> ShardPlan:
    """Return the plan of an output's shards. Raises `JobError` for an output without shards."""
    plan = ShardPlan.load(out)
    if plan is None:
        folder = shards_folder(out)
        raise JobError(f"{out} has no shards: there is no {folder} (is it where every machine wrote its shards?)")
    return plan


def _record_of(out: str, number: int) -> JobRecord | None:
    return JobRecord.load(folder_of(shard_path(out, number)))


def _check_records(plan: ShardPlan, records: dict[int, JobRecord], out: str) -> None:
    """Raise `JobChangedError` unless the shards are parts of the same input, made with the same settings."""
    fresh = f"run it again after removing its files in {shards_folder(out)}"
    for number, record in records.items():
        if record.shard != (number, plan.count):
            raise JobChangedError(f"shard {number} of {out} is that of another cut ({record.shard}); {fresh}")
        if record.settings() != plan.settings:
            raise JobChangedError(f"shard {number} of {out} was run with other settings; {fresh}")
        if record.is_made:
            first = records[min(records)]
            if record.table_digest != first.table_digest:
                raise JobChangedError(
                    f"shard {number} of {out} was made from another version of the input than shard {min(records)}; "
                    f"{fresh}"
                )
            continue
        after = records.get(number + 1)
        start = record.start if number else 0
        end = record.size if number + 1 < plan.count else plan.size
        if record.start != start or record.size != end or (after is not None and after.start != record.size):
            raise JobChangedError(
                f"shard {number} of {out} has bytes {record.start:,} to {record.size:,} of the input, which overlap "
                f"those of its neighbours or leave a gap: the input was changed while shards ran; {fresh}"
            )
    _compare_input(plan, records, out)


def _compare_input(plan: ShardPlan, records: dict[int, JobRecord], out: str) -> None:
    """Raise `JobChangedError` if the input, where it is still to be found, is not what a shard has answered."""
    for number, record in records.items():
        source = record.source if os.path.isfile(record.source) else plan.source
        if record.is_made or not os.path.isfile(source):
            continue
        about = os.stat(source)
        if (about.st_size, about.st_mtime_ns) == (plan.size, record.modified):
            continue
        if digest_of(source, record.size, record.start) != record.digest:
            raise JobChangedError(
                f"{source} was changed since shard {number} of {out} was run; restore it, or remove "
                f"{shards_folder(out)} to start over"
            )


class _Merge:
    """The sums of a merge, and its two files, which are not visible before `commit`."""

    def __init__(self, out: str, plan: ShardPlan, records: dict[int, JobRecord]) -> None:
        self.lacking: list[tuple[int, str]] = []
        """Shards that are not finished, and in what way."""
        self._out = out
        self._plan = plan
        self._records = records
        self._errors, self._report_path = paths_of(out)
        self._files = {OK: AtomicFile.open(out), FAILED: AtomicFile.open(self._errors)}
        self._found: Counter[int] = Counter()
        self._rows = 0
        self._resumed = 0
        self._totals = JobTotals()
        self._latencies = Latencies()
        self._spans: list[tuple[float, float]] = []
        self._timeline = _Timeline()
        self._paid_twice: list[str] = []
        self._stopped = ""
        self._error: str | None = None
        rows = sum(record.rows for record in records.values())
        self._seen = None if plan.checked else SeenOnce(max(1, rows))
        self._suspects: set[str] = set()

    def take(self, number: int) -> None:
        """Add one shard. Raises `OSError`, `JobError`."""
        record = self._records.get(number)
        if record is None:
            self.lacking.append((number, "has not started"))
            return
        path = shard_path(self._out, number)
        folder = folder_of(path)
        self._rows += record.rows
        status = load_status(folder)
        try:
            store = SegmentStore.open(folder, path, paths_of(path)[0], in_order=record.order == "input")
        except FileNotFoundError:
            self.lacking.append((number, "has not started"))
            return
        except FileInUseError:
            self.lacking.append((number, "is running"))
            self._copy_running(path)
            self._add_numbers(status, JobTotals() if status is None else status.totals)
            return
        try:
            store.merge()
            ok, failed = store.counts[OK], store.counts[FAILED]
            left = record.rows - ok - failed
            if left:
                self.lacking.append((number, f"has {left:,} of {record.rows:,} rows left"))
            copied = {OK: self._copy(path, OK), FAILED: self._copy(paths_of(path)[0], FAILED)}
            for state, line in store.waiting():
                copied[state] += 1
                self._write(state, line)
            if (copied[OK], copied[FAILED]) != (ok, failed):
                raise JobError(
                    f"{path} has {copied[OK]:,} answered and {copied[FAILED]:,} failed rows; by the journal of shard "
                    f"{number} there are {ok:,} and {failed:,}: run the shard again"
                )
            self._add_numbers(status, totals_of(status, store))
            self._add_report(paths_of(path)[1], left)
        finally:
            store.close()

    # ---------------------------------------------------------------- lines

    def _copy(self, path: str, state: int, *, torn: bool = False) -> int:
        """Copy a file of lines and return their number; with `torn`, without an incomplete last line."""
        rest, count = b"", 0
        if not os.path.exists(path):
            return 0
        with open(path, "rb") as file:
            while block := file.read(_COPIED):
                block = rest + block
                end = block.rfind(b"\n") + 1
                count += block.count(b"\n")
                self._write(state, block[:end])
                rest = block[end:]
        if rest and not torn:
            raise JobError(f"{path} ends in the middle of a line: run this shard again")
        return count

    def _copy_running(self, path: str) -> None:
        """Copy what a running shard has written so far."""
        self._copy(path, OK, torn=True)
        self._copy(paths_of(path)[0], FAILED, torn=True)

    def _write(self, state: int, lines: bytes) -> None:
        self._files[state].write(lines)
        self._found[state] += lines.count(b"\n")
        if self._seen is not None:
            for line in lines.splitlines():
                key = _decode_line(line).custom_id
                if self._seen.add(key):
                    self._suspects.add(key)

    def _same_names(self) -> list[str]:
        """Return the names that several rows have, in order. Reads the shards again if there are suspects."""
        if not self._suspects:
            return []
        counts: Counter[str] = Counter()
        for number in self._records:
            for path in (shard_path(self._out, number), paths_of(shard_path(self._out, number))[0]):
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        keys = (_decode_line(line).custom_id for line in file if line.endswith(b"\n"))
                        counts.update(key for key in keys if key in self._suspects)
        return sorted(key for key, count in counts.items() if count > 1)

    # ---------------------------------------------------------------- numbers

    def _add_numbers(self, status: JobStatus | None, found: JobTotals) -> None:
        total = self._totals
        total.runs = max(total.runs, found.runs)
        for name in ("requests", "refused", "retried", "cached", "input_tokens", "output_tokens"):
            setattr(total, name, getattr(total, name) + getattr(found, name))
        if found.cost is not None:
            total.cost = (total.cost or 0.0) + found.cost
        for reason, count in found.failures.items():
            total.failures[reason] = total.failures.get(reason, 0) + count
        for at, count in found.latencies.items():
            self._latencies.counts[at] = self._latencies.counts.get(at, 0) + count
            self._latencies.total += count
        if status is not None:
            began = status.updated - status.totals.seconds
            self._spans.append((began, status.updated))
            for point in found.timeline:
                self._timeline.add(began, point)

    def _add_report(self, path: str, left: int) -> None:
        try:
            report = msgspec.json.decode(read_file(path, _REPORT), type=JobReport)
        except (OSError, ValueError):
            return  # the shard was killed before it ended
        self._paid_twice += report.paid_twice
        self._resumed += report.resumed
        if left and report.stopped:
            self._stopped = report.stopped if self._stopped in ("", "stop") else self._stopped
            self._error = self._error or report.error

    # ---------------------------------------------------------------- the end

    def what_lacks(self) -> str:
        """Return the message for an incomplete set of shards."""
        shown = ", ".join(f"{number} {what}" for number, what in self.lacking[:_SHOWN])
        more = f", and {len(self.lacking) - _SHOWN:,} more" if len(self.lacking) > _SHOWN else ""
        text = (
            f"{len(self.lacking):,} of the {self._plan.count:,} shards of {self._out} are not finished: {shown}{more}"
        )
        if len(self._records) <= 1 < self._plan.count:
            text += f". Is {shards_folder(self._out)} on a file system that all machines share?"
        return f"{text}. Run them again with the same commands, or merge existing answers with --partial (partial=True)"

    def commit(self, table: str | None, seconds: float | None) -> JobReport:
        """Make the files visible, write the report and return it. Raises `OSError`."""
        same = self._same_names()
        failed = self._found[FAILED]
        self._files[OK].commit(sync=True)
        if failed:
            self._files[FAILED].commit(sync=True)
        elif os.path.exists(self._errors):
            os.unlink(self._errors)
        if table is not None:
            export_results([self._out], table)
        report = self._report(table, same, seconds)
        save_json(report, self._report_path)
        return report

    def discard(self) -> None:
        """Remove what is not committed."""
        for file in self._files.values():
            file.discard()

    def _report(self, table: str | None, same: list[str], seconds: float | None) -> JobReport:
        totals, plan = self._totals, self._plan
        times = {name: self._latencies.quantile(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
        rows = self._rows
        missing = plan.count - len(self._records)
        if missing:  # their rows are not counted anywhere: an estimate, unless it is a table
            rows = plan.rows or max(rows + 1, round(rows * plan.count / max(1, len(self._records))))
        counts = totals.counts()
        counts["seconds"] = _covered(self._spans) if seconds is None else seconds
        counts["timeline"] = self._timeline.points()
        return JobReport(
            out=self._out,
            table=table,
            errors=self._errors if self._found[FAILED] else None,
            rows=rows,
            ok=self._found[OK],
            failed=self._found[FAILED],
            stopped=(self._stopped or "shards") if self.lacking else "",
            error=self._error,
            resumed=self._resumed,
            **counts,
            paid_twice=self._paid_twice,
            same_name=same,
            latency={name: round(found, 4) for name, found in times.items() if found is not None},
        )


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the seconds during which at least one shard ran; clocks of machines may differ by seconds."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


class _Timeline:
    """The sums of several timelines, by second."""

    def __init__(self) -> None:
        self._seconds: dict[int, list[float]] = {}

    def add(self, began: float, point: TimelinePoint) -> None:
        """Add a point of a shard that `began` at this time; a long one is spread over its seconds."""
        last = int(began + point.at)
        many = max(1, round(point.seconds))
        for step in range(many):
            sums = self._seconds.setdefault(last - step, [0.0] * 9)
            for at, count in enumerate((point.rows, point.failed, point.refused, point.tokens)):
                sums[at] += count // many + (step < count % many)
            sums[4] += point.in_flight
            sums[5] += point.limit
            sums[6] += point.p50 * (point.rows or 1)
            sums[7] = max(sums[7], point.p90)
            sums[8] = max(sums[8], point.p99)

    def points(self) -> list[TimelinePoint]:
        """Return the merged timeline; seconds without any shard are left out."""
        found: list[TimelinePoint] = []
        for at, second in enumerate(sorted(self._seconds), 1):
            rows, failed, refused, tokens, in_flight, limit, p50, p90, p99 = self._seconds[second]
            counts = (int(rows), int(failed), int(refused), int(in_flight), int(limit), int(tokens))
            found.append(TimelinePoint(float(at), 1.0, *counts, p50 / max(1.0, rows), p90, p99))
        return thinned(found)
