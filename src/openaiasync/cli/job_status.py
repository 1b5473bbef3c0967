"""What the commands show of jobs: their progress, of all shards together too, their report, their exit code."""

from __future__ import annotations

import os
import sys
import time

import msgspec
from rich.text import Text

from ..bulk.fingerprint import JobRecord, answers_path, folder_of
from ..bulk.object_storage import is_url
from ..bulk.progress import JobProgress, JobStatus, load_status, sum_of_progress
from ..bulk.report import JobReport
from ..bulk.shards import ShardPlan, shard_path
from ..storage.disk import this_host
from .console import CommandError, Exit, err, out

__all__ = ["exit_code", "local_answers", "note_report", "record_of", "show_status"]

_FRESH = 10.0  # seconds after which a status counts as out of date


def local_answers(target: str) -> str:
    """Return the path of a job's answers. Raises `CommandError` for an output in an object store."""
    if is_url(target):
        raise CommandError(
            f"{target} is in an object store, where this command cannot look: `openaiasync merge --partial` makes one "
            "output of the existing answers, and shows the numbers"
        )
    return answers_path(os.path.realpath(target))


def record_of(target: str) -> tuple[str, JobRecord]:
    """Return the folder and the record of the job with this output. Raises `CommandError`."""
    place = local_answers(target)
    folder = folder_of(place)
    record = JobRecord.load(folder)
    if record is None:
        raise CommandError(f"{target} is not the output of a job: there is no {folder}")
    return folder, record


def note_report(report: JobReport) -> None:
    """Print the summary of a job on stderr."""
    console = err()
    for line in str(report).splitlines():
        console.print(Text(line), soft_wrap=True)


def exit_code(report: JobReport, *, interrupted: bool = False) -> int:
    """Return the exit code for a job with this report."""
    if report.left:
        return Exit.INTERRUPTED if interrupted else Exit.FAILED
    return Exit.ROWS_FAILED if report.failed else Exit.OK


def show_status(target: str, as_json: bool) -> int:
    """Print the progress of a job, or of all shards; return the exit code."""
    answers = local_answers(target)
    if (plan := ShardPlan.load(answers)) is not None:
        return _show_shards(answers, plan, as_json)
    folder, record = record_of(target)
    status = load_status(folder)
    if status is None:
        out().print(Text(f"{target}: started, {record.rows:,} rows; nothing is known yet"))
        return Exit.OK
    running = is_running(status)
    progress = status.progress
    if as_json:
        value = {**msgspec.to_builtins(progress), "running": running, "pid": status.pid if running else None}
        out().print(Text(msgspec.json.encode(value).decode()), soft_wrap=True)
        return Exit.OK
    done = progress.finished >= progress.rows
    state = (
        f"running (process {status.pid})" if running else "done" if done else "stopped; the same command continues it"
    )
    out().print(Text(f"{target}: {state}"), soft_wrap=True)
    out().print(Text(f"  {progress}"), soft_wrap=True)
    for reason, count in sorted(status.totals.failures.items(), key=lambda item: -item[1])[:5]:
        out().print(Text(f"  {count:,} × {reason}"), soft_wrap=True)
    return Exit.OK


def is_running(status: JobStatus) -> bool:
    """Return whether the process that wrote a status is still running."""
    if status.ended or time.time() - status.updated >= _FRESH:
        return False
    return status.host not in ("", this_host()) or _is_alive(status.pid)


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # os.kill would end the process there, so the age of the status decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _show_shards(target: str, plan: ShardPlan, as_json: bool) -> int:
    """Print the progress of all shards of an output together."""
    rows, running, started, finished = 0, 0, 0, 0
    parts: list[JobProgress] = []
    failures: dict[str, int] = {}
    began, updated = float("inf"), 0.0
    for number in range(plan.count):
        folder = folder_of(shard_path(target, number))
        record, status = JobRecord.load(folder), load_status(folder)
        if record is None:
            continue
        started += 1
        rows += record.rows
        if status is None:
            continue
        now = is_running(status)
        running += now
        finished += status.progress.finished >= record.rows
        began, updated = min(began, status.updated - status.progress.seconds), max(updated, status.updated)
        if not now:
            status.progress.rate, status.progress.in_flight, status.progress.limit = 0.0, 0, None
        parts.append(status.progress)
        for reason, count in status.totals.failures.items():
            failures[reason] = failures.get(reason, 0) + count
    whole = plan.rows or (round(rows * plan.count / started) if started else 0)
    progress = sum_of_progress(whole, parts, max(0.0, updated - began) if parts else 0.0)
    progress.done = finished == plan.count
    if as_json:
        shards = {"total": plan.count, "started": started, "finished": finished, "running": running}
        value = {**msgspec.to_builtins(progress), "running": running > 0, "shards": shards}
        out().print(Text(msgspec.json.encode(value).decode()), soft_wrap=True)
        return Exit.OK
    state = f"{plan.count:,} shards, {finished:,} finished, {running:,} running, {plan.count - started:,} not started"
    out().print(Text(f"{target}: {state}"), soft_wrap=True)
    out().print(Text(f"  {progress}"), soft_wrap=True)
    for reason, count in sorted(failures.items(), key=lambda item: -item[1])[:5]:
        out().print(Text(f"  {count:,} × {reason}"), soft_wrap=True)
    return Exit.OK
