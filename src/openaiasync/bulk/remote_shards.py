"""Shards whose output is in an object store, where nothing can be appended and nothing can be locked.

A shard runs on files in a temporary folder of its machine, as any job does. About once a second, the changes of these
files are written to the store as the next *part*: a numbered object that is never changed. A shard that is resumed on
another machine starts with the files as of the last part. In ``OUT.shards``:

    plan.json              as for shards on a shared path
    PLAN/000003/000017     part 17 of shard 3, where PLAN is the time at which the plan was made
    PLAN/000003/done       all files of a finished shard, in place of its parts
    PLAN/000003/status     its numbers

* A part is never overwritten. If two processes run the same shard, the one that began earlier therefore fails to write
  its next part, and stops. A process that finds the parts of an unfinished run first watches whether more of them are
  written.
* Rows are sent before a part records them. Each part therefore states up to which row rows may be sent until the next
  part is written (`SendWindow`). A run that is resumed counts all of them as sent, and its report names them in
  ``paid_twice``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from ..storage.atomic import write_file
from ..storage.disk import FileInUseError, LockedFile, open_locked
from ..storage.segments import NEW, SegmentStore
from ..storage.threads import in_thread_to_its_end
from .fingerprint import JobError, JobRecord, JobRunningError, answers_path, folder_of, paths_of
from .job_sink import SendWindow
from .merging import merge
from .object_storage import ObjectFolder, is_url, place_of
from .progress import JobStatus
from .report import JobReport, html_page, save_json
from .shards import ShardPlan, shard_path, shards_folder

__all__ = ["RemoteOutput", "RemoteShard", "merge_output", "merge_shards"]

_SAVED = 1.0  # seconds between two parts
_WATCHED = 2.5  # of these times for which an unfinished run is watched before it is taken over
_AHEAD = 64  # rows at least that may be sent before the next part is written
_GIVE_UP = 60.0  # seconds without a part, after which the run of a shard ends
_TOGETHER = 64  # finished shards that are read at once
_GROWING = ("journal", "data-")  # files in the folder of a job that are only appended to
_LOCAL = ("reserve", "input.jsonl")  # files in the folder of a job that are made again if they are missing
_TEMPORARY = "openaiasync-shards-"


class _FileChange(msgspec.Struct, array_like=True):
    """What was added to a file; with `offset` 0 it is the whole file."""

    name: str
    offset: int
    data: bytes


class _SavedPart(msgspec.Struct, array_like=True):
    """What has changed in the files of a shard since the last part."""

    pieces: list[_FileChange]
    removed: list[str]
    is_whole: bool
    """Whether the pieces are all files of the shard."""
    ceiling: int
    """Rows before this one may be sent before the next part is written."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_SavedPart).decode


class RemoteOutput:
    """An output in an object store, with copies of its files in a temporary folder. Call `discard` at the end."""

    def __init__(self, url: str) -> None:
        self.url: str = answers_path(url)
        self.table: str | None = url if url != self.url else None
        self.folder: ObjectFolder = ObjectFolder(shards_folder(self.url))
        self._place = ObjectFolder(os.path.dirname(self.url))
        self._is_known = False  # whether a plan was found in the store
        self._scratch = _Scratch()
        self.local: str = os.path.join(self._scratch.path, os.path.basename(self.url))
        """The path of the output's copy."""

    def keep_apart(self, source: str) -> None:
        """Raise `ValueError` if the results would be written over the input."""
        if source in (self.url, self.table, *paths_of(self.url)):
            raise ValueError(f"{source} is the input and would be overwritten by the results: name another output")

    def fetch_plan(self) -> None:
        """Copy the plan, if there is one, to this machine. Blocks. Raises `OSError`."""
        self._scratch.make()
        with contextlib.suppress(FileNotFoundError):
            data = self.folder.read("plan.json")
            self._is_known = True
            os.makedirs(shards_folder(self.local), exist_ok=True)
            write_file(os.path.join(shards_folder(self.local), "plan.json"), data)

    def share_plan(self) -> ShardPlan:
        """Write the plan to the store unless another process was first, and return the one that is there. Blocks.

        Raises `JobChangedError` if that is the plan for another input or other settings, `JobError` if the output
        exists already and is not one of shards, `OSError`.
        """
        mine = ShardPlan.load(self.local)
        assert mine is not None
        if not self._is_known:
            for name in (os.path.basename(self.url), os.path.basename(paths_of(self.url)[0])):
                if self._place.has(name) and not self.folder.has("plan.json"):
                    raise JobError(
                        f"{self._place.url}/{name} exists and was not merged from shards; remove it, or name another "
                        "output"
                    )
        try:
            self.folder.write("plan.json", msgspec.json.format(msgspec.json.encode(mine), indent=1), exclusive=True)
        except FileExistsError:
            self.fetch_plan()
            known = ShardPlan.load(self.local)
            assert known is not None
            known.compare(mine, self.url)
            return known
        return mine

    def finished(self, plan: ShardPlan) -> dict[int, JobStatus]:
        """Return the finished shards, with their numbers. Blocks. Raises `OSError`."""
        names = self.folder.names(_plan_folder(plan))
        done = [os.path.dirname(name) for name in names if name.endswith("/done")]
        found: dict[int, JobStatus] = {}
        for start in range(0, len(done), _TOGETHER):
            wanted = [f"{name}/status" for name in done[start : start + _TOGETHER]]
            for name, data in self.folder.read_all(wanted).items():
                found[int(name.split("/")[-2])] = msgspec.json.decode(data, type=JobStatus)
        return found

    def merge(self, *, partial: bool = False, html: str | None = None) -> JobReport:
        """Copy all shards to this machine, merge them, and write the results to the store. Blocks.

        Raises as `merging.merge` does.
        """
        self.fetch_plan()
        plan = ShardPlan.load(self.local)
        if plan is None:
            raise JobError(f"{self.url} has no shards: there is no {self.folder.url}/plan.json")
        try:
            for name in sorted({name.split("/")[1] for name in self.folder.names(_plan_folder(plan))}):
                RemoteShard(self, int(name)).restore(plan)
            table = self.table and os.path.join(os.path.dirname(self.local), os.path.basename(self.table))
            report = merge(table or self.local, partial=partial)
            return self._publish(report, html)
        except FileNotFoundError as error:
            raise JobError(f"shards of {self.url} were removed while they were merged: {error}") from error
        except OSError as error:
            raise JobError(f"the shards of {self.url} cannot be merged: {error}") from error

    def _publish(self, report: JobReport, html: str | None) -> JobReport:
        """Write the results to the store, the report last."""
        store = self._place
        paths = {"out": report.out, "errors": report.errors, "table": report.table}
        for name, path in paths.items():
            if path is not None:
                store.upload(path, os.path.basename(path))
                setattr(report, name, f"{store.url}/{os.path.basename(path)}")
        if report.errors is None:
            store.remove([os.path.basename(paths_of(self.url)[0])])
        place = paths_of(self.local)[1]
        save_json(report, place)
        store.upload(place, os.path.basename(place))
        if html is not None:
            write_file(html, html_page(report).encode())
        return report

    def remove(self) -> None:
        """Remove the shards, so that the job can be started over. Blocks. Raises `OSError`."""
        self.folder.remove(self.folder.names())
        self._place.remove([os.path.basename(path) for path in (self.url, *paths_of(self.url))])
        self._is_known = False
        shutil.rmtree(shards_folder(self.local), ignore_errors=True)

    def discard(self) -> None:
        """Remove the copies. Blocks."""
        self._scratch.remove()


async def merge_shards(
    out: str | os.PathLike[str], *, partial: bool = False, report: str | os.PathLike[str] | None = None
) -> JobReport:
    """Make one output of the shards of a job that was run with `shard`, in the order of the input.

    Writes the answers to `out` (and as a table, if it is one), failed rows to ``out.errors.jsonl``, and the sums of all
    reports to ``out.report.json``. It may be repeated, for example after failed rows of a shard were sent again.

    Args:
        out: the output that was given to all shards, a path or the URL of an object.
        partial: merge the existing answers if some shards have not started, are running, or have rows left.
        report: the path of an HTML report with plots.

    Raises:
        JobError: without shards; unless `partial`, if some lack rows, or one is running. The error names them.
        JobChangedError: if shards do not belong together: another input, cut, or settings.
        ConfigurationError: for a URL with a user, a password or a signature.
    """
    html = None if report is None else os.fspath(report)
    return await in_thread_to_its_end(lambda: merge_output(os.fspath(out), partial=partial, html=html))


def merge_output(out: str, *, partial: bool = False, html: str | None = None) -> JobReport:
    """Merge as `merge_shards` does. Blocks."""
    if not is_url(out):
        return merge(out, partial=partial, html=html)
    output = RemoteOutput(place_of(out))
    try:
        return output.merge(partial=partial, html=html)
    finally:
        output.discard()


class RemoteShard:
    """One shard of an output in an object store, whose job runs on the files at `output.local`."""

    def __init__(self, output: RemoteOutput, number: int) -> None:
        self._output = output
        self._store = output.folder
        self._number = number
        self._path = shard_path(output.local, number)
        self._folder = ""  # in the store; known with the plan
        self._next = 0  # number of the next part
        self._claims: list[int] = []  # parts that runs began with, from the first one that did not finish
        self._ceiling = 0  # that of the last part
        self._pending: _SavedPart | None = None  # a part that is to be written before anything else
        self._saved: dict[str, tuple[int, int, int]] = {}  # inode, size and modification of the files in the last part

    # ---------------------------------------------------------------- before and after the run

    @property
    def local(self) -> str:
        """The path of the output's copy on this machine."""
        return self._output.local

    def discard(self) -> None:
        """Remove the copies. Blocks."""
        self._output.discard()

    def fetch(self) -> None:
        """Copy the plan and the files of an earlier run to this machine. Blocks.

        Raises `JobRunningError` if that run goes on, `JobError` if the store cannot be read.
        """
        url = self._output.url
        try:
            self._output.fetch_plan()
            plan = ShardPlan.load(self._output.local)
            if plan is None:
                return
            if self._is_running(plan):
                raise self._in_use()
            self.restore(plan)
            self._mark_sent()
        except OSError as error:
            raise JobError(f"shard {self._number} of {url} cannot be read: {error}") from error

    def _is_running(self, plan: ShardPlan) -> bool:
        """Watch whether a run that has not ended writes another part."""
        before = self._parts(plan)
        if not before or before[-1].endswith(("/done", "/stopped")):
            return False
        time.sleep(_WATCHED * _SAVED)
        return self._parts(plan) != before

    def _in_use(self) -> JobRunningError:
        return JobRunningError(f"another process is running shard {self._number} of {self._output.url}")

    def _parts(self, plan: ShardPlan) -> list[str]:
        """Return the objects of the shard, in order; those that end a run come last."""
        self._folder = f"{_plan_folder(plan)}/{self._number:06d}"
        return [name for name in self._store.names(self._folder) if not name.endswith("/status")]

    def restore(self, plan: ShardPlan) -> None:
        """Copy the files as of the last part to this machine. Blocks. Raises `OSError`, `JobError`."""
        names = self._parts(plan)
        numbers = [int(name[-6:]) for name in names if name[-6:].isdigit()]
        self._next = numbers[-1] + 1 if numbers else 0
        if f"{self._folder}/done" in names:
            self._claims = []
            self._apply(_decode(self._store.read(f"{self._folder}/done")))
            return
        data = self._store.read_all([self._part_name(number) for number in numbers])
        expected = -1
        for number in numbers:
            content = data[self._part_name(number)]
            if not content:
                continue  # of a run before the last one that finished
            part = _decode(content)
            if part.is_whole:
                self._claims.append(number)
            elif number != expected:
                raise JobError(f"part {expected} of shard {self._number} of {self._output.url} is missing")
            self._apply(part)
            expected = number + 1

    def _part_name(self, number: int) -> str:
        return f"{self._folder}/{number:06d}"

    def _apply(self, part: _SavedPart) -> None:
        base = shards_folder(self._output.local)
        if part.is_whole:
            shutil.rmtree(folder_of(self._path), ignore_errors=True)
        for piece in part.pieces:
            path = os.path.join(base, piece.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "r+b" if piece.offset else "wb") as file:
                file.seek(piece.offset)
                file.write(piece.data)
        for name in part.removed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(base, name))
        self._ceiling = part.ceiling

    def _mark_sent(self) -> None:
        """Mark as sent the rows that may have been sent after the last part was written."""
        folder = folder_of(self._path)
        record = JobRecord.load(folder)
        if record is None or not self._ceiling or not os.path.exists(os.path.join(folder, "journal")):
            return
        errors = paths_of(self._path)[0]
        store = SegmentStore.open(folder, self._path, errors, in_order=record.order == "input")
        try:
            states = store.states
            for row in range(min(self._ceiling, record.rows)):
                if row >= len(states) or states[row] == NEW:
                    store.sent(row, 0)
        finally:
            store.close()

    # ---------------------------------------------------------------- the run

    async def run(self, job: Coroutine[Any, Any, JobReport], window: SendWindow) -> JobReport:
        """Run the job of the shard, which is open but has sent nothing, and write parts until it has ended.

        Raises `JobRunningError` if another process has taken the shard over, `JobError` if no part can be written, and
        whatever the job raises.
        """
        try:
            await in_thread_to_its_end(self._claim)
        except BaseException as error:
            job.close()
            if isinstance(error, OSError):
                raise JobError(f"{self._output.url} cannot be written: {error}") from error
            raise
        window.ceiling = _AHEAD
        running = asyncio.create_task(job)
        try:
            await self._keep(running, window)
            report = await running
        except JobRunningError:
            await _cancelled(running)
            raise
        except BaseException:
            await _cancelled(running)
            with contextlib.suppress(JobError, OSError):  # saves the rows that have finished since the last part
                await in_thread_to_its_end(self._write_rest)
            raise
        await self._finish(report)
        return report

    def _claim(self) -> None:
        """Write the plan, and a part with all files, before anything is sent. Blocks."""
        parts = self._parts(self._output.share_plan())
        self._claims.append(self._next)
        self._pending = self._changes(_AHEAD)
        self._write()
        self._store.remove([name for name in parts if name.endswith(("/stopped", "/done"))])

    async def _keep(self, running: asyncio.Task[JobReport], window: SendWindow) -> None:
        """Write a part about once a second, until the job has ended."""
        loop = asyncio.get_running_loop()
        saved_at = loop.time()
        before = taken = 0
        while not running.done():
            await asyncio.wait({running}, timeout=_SAVED)
            if self._pending is None:  # between two steps of the job, in its thread
                before, taken = taken, window.taken
                self._pending = self._changes(taken + max(_AHEAD, 2 * (taken - before)))
            if self._pending is None:
                continue
            ceiling = self._pending.ceiling
            try:
                await in_thread_to_its_end(self._write)
            except OSError as error:  # rows before the last ceiling are sent meanwhile
                if loop.time() - saved_at > _GIVE_UP:
                    raise JobError(f"{self._output.url} cannot be written: {error}") from error
            else:
                saved_at, window.ceiling = loop.time(), ceiling

    async def _finish(self, report: JobReport) -> None:
        """Write the end of the run: in place of the parts, if no row is left."""
        url, path = self._output.url, shards_folder(self._output.url)
        try:
            await in_thread_to_its_end(lambda: self._write_end(not report.left))
        except OSError as error:
            raise JobError(f"{url} cannot be written: {error}") from error
        report.out = f"{path}/{os.path.basename(report.out)}"
        report.errors = report.errors and f"{path}/{os.path.basename(report.errors)}"

    def _write_end(self, is_done: bool) -> None:
        if not is_done:
            self._write_rest()
            self._store.write(f"{self._folder}/stopped", b"")
            return
        self._saved = {}
        whole = self._changes(0)
        assert whole is not None  # the job has ended
        with open(os.path.join(folder_of(self._path), "status.json"), "rb") as file:
            self._store.write(f"{self._folder}/status", file.read())
        self._store.write(f"{self._folder}/done", _encode(whole))
        # From here on the parts are of no use. A run that was taken over, and does not know it yet, must still find the
        # part that took it over.
        takeovers = self._claims[1:]
        for number in takeovers:
            self._store.write(self._part_name(number), b"")
        self._store.remove(
            [self._part_name(number) for number in range(self._claims[0], self._next) if number not in takeovers]
        )

    def _write_rest(self) -> None:
        """Write what has changed until the end of the job."""
        self._write()
        self._pending = self._changes(0)
        self._write()

    def _write(self) -> None:
        """Write the pending part. After an `OSError` it stays pending: it may have been written all the same, and the
        next attempt must write the same bytes."""
        if self._pending is None:
            return
        try:
            self._store.write(self._part_name(self._next), _encode(self._pending), exclusive=True)
        except FileExistsError:
            raise self._in_use() from None
        self._next += 1
        self._pending = None

    def _changes(self, ceiling: int) -> _SavedPart | None:
        """Return what has changed in the files since the last call, reading only what was added to growing files.

        Called in the thread of the job's event loop, between two of its steps. Only at the end of a job does another
        thread write to the files: `None` if it did so just now.
        """
        base, folder = shards_folder(self._output.local), folder_of(self._path)
        errors, report = paths_of(self._path)
        growing, found = {self._path, errors}, [self._path, errors, report]
        for entry in os.scandir(folder):
            if entry.name.startswith(_GROWING):
                growing.add(entry.path)
            if entry.name not in _LOCAL and not entry.name.startswith("."):
                found.append(entry.path)
        pieces: list[_FileChange] = []
        states: dict[str, tuple[int, int, int]] = {}
        # Marks in the journal are written after what they refer to: it is read first.
        known, journal = self._saved, os.path.join(folder, "journal")
        for path in sorted(found, key=lambda path: path != journal):
            try:
                about = os.stat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(about.st_mode):
                continue
            name = os.path.relpath(path, base)
            states[name] = now = (about.st_ino, about.st_size, about.st_mtime_ns)
            before = known.get(name)
            if now == before:
                continue
            is_longer = before is not None and before[0] == now[0] and before[1] <= now[1] and path in growing
            offset = before[1] if before is not None and is_longer else 0
            with open(path, "rb") as file:
                file.seek(offset)
                pieces.append(_FileChange(name, offset, file.read(now[1] - offset)))
        removed = sorted(known.keys() - states.keys())
        self._saved = states
        if os.path.getsize(journal) != states[os.path.relpath(journal, base)][1]:
            self._saved = known
            return None
        return _SavedPart(pieces, removed, not known, ceiling)


async def _cancelled(running: asyncio.Task[JobReport]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _plan_folder(plan: ShardPlan) -> str:
    """Return the folder of the parts: a job that was started over has another one, and sees no late part of before."""
    return f"{int(plan.created * 1000):x}"


class _Scratch:
    """A temporary folder, which is locked while its process lives: later ones remove those of killed processes."""

    def __init__(self) -> None:
        self.path: str = os.path.join(tempfile.gettempdir(), f"{_TEMPORARY}{os.urandom(6).hex()}")
        self._lock: LockedFile | None = None

    def make(self) -> None:
        """Create the folder. Idempotent; blocks."""
        if self._lock is not None:
            return
        parent = os.path.dirname(self.path)
        for name in os.listdir(parent):
            if name.startswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    file = open_locked(os.path.join(parent, name, ".lock"))
                    shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
                    file.close()
        while self._lock is None:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            lock = os.path.join(self.path, ".lock")
            with contextlib.suppress(FileNotFoundError, FileInUseError):  # another process was about to remove it
                with open(lock, "ab"):
                    self._lock = open_locked(lock)

    def remove(self) -> None:
        """Remove the folder. Idempotent; blocks."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
