"""The actor that runs shards on a node of a cluster, with the engine and the files of a job on one machine."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from typing import Any

import msgspec

from ..bulk.batch_file import InputFileError
from ..bulk.fingerprint import JobError, JobRunningError, answers_path
from ..bulk.job import Job
from ..bulk.object_storage import ObjectFolder, input_state, is_url, open_input
from ..bulk.progress import JobProgress
from ..bulk.report import JobReport
from ..bulk.shards import shards_folder
from ..bulk.tables import TableOptions
from ..client import Client
from ..errors import ConfigurationError, OpenAIError
from ..version import __version__
from .worker_options import WorkerOptions

__all__ = ["ShardResult", "ShardTask", "ShardWorker", "remove_token", "write_token"]

_SHARED = 0.02  # seconds between two divisions of the slots between two shards


class ShardTask(msgspec.Struct, kw_only=True):
    """The task that the driver sends to every worker. It contains no secrets."""

    library: str
    """The version of this library that the driver has."""
    source: str
    out: str
    total: int
    size: int
    """Bytes of the input as the driver sees it."""
    token: str
    """The name and content of a file in the folder of the shards, which a worker must be able to read."""
    worker: WorkerOptions
    options: dict[str, Any]
    """Further options of `client.job`, as JSON values."""
    table: dict[str, Any] | None = None


class ShardResult(msgspec.Struct, kw_only=True):
    """The result of running a shard; the answers are in its files."""

    progress: JobProgress
    stopped: str = ""
    error: str | None = None
    kind: str = ""
    """``""``: the run of the shard has ended; ``"busy"``: another process has it; ``"fatal"``: the same error would
    end every shard."""


class ShardWorker:
    """The actor that runs shards.

    One shard at a time starts rows. The next one begins while the last rows of the one before it are in flight, so that
    no slot is idle between them. Arguments and results are bytes.
    """

    def __init__(self, task: bytes) -> None:
        self._task = msgspec.json.decode(task, type=ShardTask)
        self._turn = asyncio.Lock()
        self._jobs: dict[int, Job] = {}
        self._clients: list[Client] = []
        self._complaint: str | None = None
        self._stopped = False

    async def check(self) -> str:
        """Return why this worker cannot run shards of the task, ``""`` if it can. Sends nothing."""
        if self._complaint is None:
            found = await asyncio.to_thread(self._check)
            self._complaint = found and f"worker on {socket.gethostname()} (process {os.getpid()}): {found}"
        return self._complaint

    def _check(self) -> str:
        task = self._task
        if task.library != __version__:
            return (
                f"openaiasync {__version__} is installed there, but {task.library} where the job was started: install "
                "the same version on all machines"
            )
        folder = shards_folder(answers_path(task.out))
        try:
            if (problem := _token_problem(folder, task.token)) is not None:
                return (
                    f"{folder} is not the folder that the driver sees{problem}: input and output must be on a file "
                    "system that all machines share, under the same path, or in an object store"
                )
            size = input_state(task.source).size
            with open_input(task.source):
                pass
        except OSError as error:
            return f"{task.source} cannot be read there: {error.strerror or error}"
        except ConfigurationError as error:
            return str(error)
        if size != task.size:
            return f"{task.source} has {size:,} bytes there, and {task.size:,} where the job was started"
        try:
            self._clients = task.worker.clients()
        except OpenAIError as error:
            return f"{error} (in the environment of the worker, where keys are read)"
        return ""

    async def run(self, number: int) -> bytes:
        """Run one shard to its end, or until it is stopped, and return a `ShardResult`."""
        if complaint := await self.check():
            return _encoded(ShardResult(progress=_nothing(), kind="fatal", error=complaint))
        try:
            report = await self._run(number)
        except JobRunningError as error:
            return _encoded(ShardResult(progress=_nothing(), kind="busy", error=str(error)))
        except (InputFileError, JobError, OpenAIError, OSError) as error:
            return _encoded(ShardResult(progress=_nothing(), kind="fatal", error=f"shard {number}: {error}"))
        except Exception as error:  # a bug, an invalid option: it would end the shard on any worker
            return _encoded(
                ShardResult(progress=_nothing(), kind="fatal", error=f"shard {number}: {_described(error)}")
            )
        finally:
            self._jobs.pop(number, None)
        progress = JobProgress(rows=report.rows, ok=report.ok, failed=report.failed, refused=report.refused)
        progress.input_tokens, progress.output_tokens = report.input_tokens, report.output_tokens
        progress.cost, progress.seconds, progress.done = report.cost, report.seconds, not report.left
        return _encoded(ShardResult(progress=progress, stopped=report.stopped, error=report.error))

    async def _run(self, number: int) -> JobReport:
        async with self._turn:
            job, before = self._job(number), list(self._jobs.values())
            self._jobs[number] = job
            if self._stopped:
                job.stop()
            self._share_slots(job, before)
            running = asyncio.create_task(_ended(job))
            drained = asyncio.create_task(job.drained.wait())
            try:
                while not (running.done() or drained.done()):
                    shared = self._share_slots(job, before)
                    await asyncio.wait(
                        {running, drained},
                        timeout=_SHARED if shared else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
            finally:
                drained.cancel()
        return await running

    def _share_slots(self, job: Job, before: list[Job]) -> bool:
        """Give a shard the slots that the last rows of the one before it do not have; return whether it has any."""
        most = self._task.worker.max_in_flight
        if not isinstance(most, int) or not before:
            return False
        used = sum(one.in_flight for one in before)
        job.limit_in_flight(max(1, most - used))
        if not used:
            before.clear()
        return used > 0

    def _job(self, number: int) -> Job:
        task = self._task
        options: Any = {**task.options, "limits": task.worker.limits(), "shard": (number, task.total)}
        if task.table is not None:
            options["table"] = TableOptions(**task.table)
        if task.worker.max_in_flight is not None:
            options["max_in_flight"] = task.worker.max_in_flight
        return Job(self._clients, task.source, task.out, **options)

    async def progress(self) -> bytes:
        """Return the progress of the shards that are running, as JSON."""
        found = [job.progress for job in self._jobs.values()]
        return msgspec.json.encode([one for one in found if one is not None])

    async def stop(self, now: bool) -> None:
        """Finish the rows in flight, or with `now` cancel them, and start no others."""
        self._stopped = True
        for job in self._jobs.values():
            job.stop(now=now)


def write_token(folder: str, token: str) -> None:
    """Write the file by which workers see that they share a folder with the driver. Blocks. Raises `OSError`."""
    if is_url(folder):
        ObjectFolder(folder).write(token, token.encode())
        return
    with open(os.path.join(folder, token), "wb") as file:
        file.write(token.encode())
        file.flush()
        os.fsync(file.fileno())


def remove_token(folder: str, token: str) -> None:
    """Remove the file. Blocks. Raises `OSError`."""
    if is_url(folder):
        ObjectFolder(folder).remove([token])
    else:
        os.unlink(os.path.join(folder, token))


def _token_problem(folder: str, token: str) -> str | None:
    """Return `None` if the file can be read, else the reason of an object store. Blocks."""
    try:
        if is_url(folder):
            found = ObjectFolder(folder).read(token)
        else:
            with open(os.path.join(folder, token), "rb") as file:
                found = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f" ({error})" if is_url(folder) else ""
    return None if found == token.encode() else ""


async def _ended(job: Job) -> JobReport:
    return await job


def _described(error: Exception) -> str:
    """Return an unexpected exception with its type, and where on which machine it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename}:{last.lineno}, on {socket.gethostname()} (process {os.getpid()})"
    return f"{type(error).__name__}: {error} ({place})"


def _encoded(result: ShardResult) -> bytes:
    return msgspec.json.encode(result)


def _nothing() -> JobProgress:
    return JobProgress(rows=0, ok=0, failed=0)
