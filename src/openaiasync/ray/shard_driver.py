"""The driver of a job on Ray: it assigns shards to actors, and merges what they have written.

Rows never pass through Ray. An actor reads its part of the input and writes the files of its shard, on a file system
that all machines share or in an object store; the driver sends the number of a shard and receives counts. When a
worker, a node or the driver dies, nothing is lost: the next run of the shard continues from its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import importlib
import logging
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from ..bulk.batch_file import check_file
from ..bulk.fingerprint import JobError, JobRecord, JobRunningError, answers_path, folder_of, paths_of
from ..bulk.job import Job
from ..bulk.merging import merge
from ..bulk.object_storage import is_url, place_of
from ..bulk.progress import JobProgress, load_status, sum_of_progress
from ..bulk.remote_shards import RemoteOutput
from ..bulk.report import JobReport
from ..bulk.shards import ShardPlan, plan_shards, shard_path, shards_folder
from ..bulk.tables import TableOptions, count_rows, is_table
from ..client import Client
from ..errors import ConfigurationError
from ..installation import install_command
from ..storage.threads import in_thread, in_thread_to_its_end
from ..version import __version__
from .shard_worker import ShardResult, ShardTask, ShardWorker, remove_token, write_token
from .worker_options import WorkerOptions

__all__ = ["ROWS", "RayJob"]

ROWS = 2000
"""Approximate number of rows of a shard."""
_AHEAD = 2  # shards that a worker runs: one that starts rows, and one whose last rows are in flight
_DEATHS = 10  # workers that may die while running one shard
_BUSY = 60.0  # seconds for which a dead worker's process may still hold the lock of its shard
_PATIENCE = 10.0  # seconds that the first worker waits for others
_REACHED = 5.0  # seconds for a connection to the cluster
_FRESH = 10.0  # seconds for which a status says that a process is running
_HARMLESS = ("", "stop", "cost")  # reasons for stopping a shard that do not stop the job
_log = logging.getLogger("openaiasync")


class _Actor:
    """A worker, and the numbers of the shards that it is running."""

    def __init__(self, actor: Any, number: int) -> None:
        self.actor = actor
        self.number = number
        self.shards: set[int] = set()
        self.progress: list[JobProgress] = []


class RayJob:
    """A job whose shards run on a Ray cluster. Awaiting `run` runs it; the same job continues a stopped one.

    Args:
        address: of the cluster: ``"auto"``, or ``HOST:PORT``.
        source: the file of requests or table, on a file system that all machines share, or the URL of an object.
        out: the file of answers, there too. If it is the URL of an object, shards are kept beside it in the store.
        workers: how many actors run shards; each needs one CPU. Default: the number of nodes with a CPU.
        worker: how workers reach the servers.
        show: called with the progress about once a second.
        rows: approximate number of rows of a shard. Default: 2,000.
        new: start over.
        report: the path of an HTML report.
        max_cost: dollars at which the job stops; checked once a second.
        options: further options of `client.job` that are JSON values, and `table`.
    """

    def __init__(
        self,
        address: str,
        source: str,
        out: str,
        *,
        workers: int | None = None,
        worker: WorkerOptions | None = None,
        show: Callable[[JobProgress], object] | None = None,
        rows: int = ROWS,
        new: bool = False,
        report: str | None = None,
        max_cost: float | None = None,
        **options: Any,
    ) -> None:
        self._ray = _ray()
        self._address = address
        self._source = place_of(source)
        self._place = place_of(out, follow=True)
        self._remote = RemoteOutput(self._place) if is_url(self._place) else None
        self._out = answers_path(self._place)
        if self._remote is not None:
            self._remote.keep_apart(self._source)
            self._out = self._remote.local
        self._count = workers
        self._worker = worker or WorkerOptions()
        self._worker.check()
        self._show = show
        self._rows = rows
        self._new = new
        self._html = report
        self._max_cost = max_cost
        table: TableOptions | None = options.pop("table", None)
        self._table = table
        for name in ("cache", "limits", "progress", "shard", "note"):
            if options.pop(name, None) is not None:
                raise ConfigurationError(f"{name} is not an option of jobs on Ray")
        if options.get("via") == "batch":
            raise ConfigurationError("via='batch' (--via batch) needs no workers: run the job on one machine")
        self._options: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        for name, value in self._options.items():
            try:
                msgspec.json.encode(value)
            except (TypeError, ValueError) as error:
                what = "a JSON schema" if name == "schema" else "a JSON value"
                raise ConfigurationError(f"{name} is sent to other machines, and must be {what}: {error}") from None
        self._workers: list[_Actor] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._queue: list[int] = []
        self._left: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._busy: Counter[int] = Counter()
        self._done = JobProgress(rows=0, ok=0, failed=0)
        self._total_rows = 0
        self._changed = asyncio.Condition()
        self._stopped = ""
        self._failure: Exception | None = None
        self._began = 0.0

    # ---------------------------------------------------------------- the run

    async def run(self) -> JobReport:
        """Run the job to its end, or until it is stopped.

        Raises:
            ConfigurationError: the cluster cannot be reached, or Ray is not installed.
            JobError: workers cannot run shards (another version, no shared file system, no key), a shard failed as a
                whole; as for `client.job`.
        """
        try:
            plan = await in_thread_to_its_end(self._plan)
            if self._left:
                await self._on_cluster(plan)
            if self._failure is not None:
                raise self._failure
            partial = bool(self._left)
            report = await in_thread_to_its_end(lambda: self._merge(partial))
        finally:
            if self._remote is not None:
                await in_thread_to_its_end(self._remote.discard)
        if partial:
            report.stopped = report.stopped if report.stopped not in ("shards", "") else self._stopped or "stop"
        self._tell(done=not partial)
        return report

    def _merge(self, partial: bool) -> JobReport:
        if self._remote is not None:
            return self._remote.merge(partial=partial, html=self._html)
        return merge(self._place, partial=partial, html=self._html)

    async def _on_cluster(self, plan: ShardPlan) -> None:
        await in_thread_to_its_end(self._connect)
        token = f".token-{uuid.uuid4().hex}"
        folder = shards_folder(answers_path(self._place))
        try:
            await in_thread(lambda: write_token(folder, token))
            await self._run_shards(plan, token)
        finally:
            self._end_workers()
            with contextlib.suppress(OSError):
                await in_thread_to_its_end(lambda: remove_token(folder, token))

    def stop(self, *, now: bool = False) -> None:
        """Start no further row and end once those in flight are done; with `now`, cancel them."""
        self._stop("stop", now)

    def _stop(self, why: str, now: bool = False) -> None:
        self._stopped = self._stopped or why
        self._queue.clear()
        for worker in self._workers:
            worker.actor.stop.remote(now)
        self._notify()

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._stop("error")

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        self._spawned(notify())

    # ---------------------------------------------------------------- before anything is sent

    def _plan(self) -> ShardPlan:
        """Check the input and cut it, or find the plan of an earlier run. Blocks."""
        try:
            if self._remote is not None:
                self._remote.fetch_plan()
            known = ShardPlan.load(self._out)
            if self._new and known is not None:
                self._remove_old(known)
                known = None
        except OSError as error:
            raise JobError(f"the shards of {self._place} cannot be read: {error}") from error
        # A job that is never run checks the options, and knows what its requests are made with.
        example = Job(
            [Client(api_base="http://127.0.0.1:9/v1", api_key="none")],
            self._source,
            self._out,
            shard=(0, 1),
            table=self._table,
            **self._options,
        )
        try:
            rows, checked = self._check_input() if known is None else (0, True)
            count = max(1, -(-rows // self._rows)) if known is None else known.count
            errors = paths_of(self._out)[0]
            plan = plan_shards(self._source, self._out, errors, count, example.settings, checked=checked)
        except OSError as error:
            raise JobError(f"{self._source} cannot be read: {error}") from error
        try:
            if self._remote is not None:
                plan = self._remote.share_plan()
            self._find_left(plan)
        except OSError as error:
            raise JobError(f"the shards of {self._place} cannot be read or written: {error}") from error
        self._total_rows = plan.rows or rows
        return plan

    def _check_input(self) -> tuple[int, bool]:
        """Return the number of rows of the input, and whether all of them were checked. Blocks.

        Raises `InputFileError`, `OSError`.
        """
        if is_table(self._source):
            return count_rows(self._source), False
        found = check_file(self._source)
        if (error := found.error()) is not None:
            raise error
        return found.rows, True

    def _remove_old(self, plan: ShardPlan) -> None:
        if self._remote is not None:
            self._remote.remove()
            return
        for number in range(plan.count):
            status = load_status(folder_of(shard_path(self._out, number)))
            if status is not None and not status.ended and time.time() - status.updated < _FRESH:
                raise JobRunningError(f"process {status.pid} on {status.host} is running shard {number} of {self._out}")
        shutil.rmtree(shards_folder(self._out))
        for path in (self._out, *paths_of(self._out)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _find_left(self, plan: ShardPlan) -> None:
        """Find the shards that are not finished. Blocks."""
        finished = {} if self._remote is None else self._remote.finished(plan)
        for number in range(plan.count):
            if self._remote is not None:
                if number in finished:
                    self._add(finished[number].progress)
                else:
                    self._left.add(number)
                continue
            folder = folder_of(shard_path(self._out, number))
            record, status = JobRecord.load(folder), load_status(folder)
            if record is not None and status is not None and status.ended and status.progress.finished >= record.rows:
                self._add(status.progress)
            else:
                self._left.add(number)
        self._queue = sorted(self._left)

    def _connect(self) -> None:
        """Connect to the cluster. Blocks. Raises `ConfigurationError`."""
        ray = self._ray
        if ray.is_initialized():
            return
        host, colon, port = self._address.rpartition(":")
        if colon and port.isdigit() and "/" not in host:
            try:  # Ray itself tries for a minute, and then ends the process
                socket.create_connection((host, int(port)), _REACHED).close()
            except OSError as error:
                raise ConfigurationError(f"no Ray cluster answers at {self._address}: {error}") from None
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            first = str(error).partition("\n")[0]
            raise ConfigurationError(
                f"no Ray cluster can be reached with {self._address!r}: {first} (start one with `ray start --head`)"
            ) from error

    def _start_workers(self, plan: ShardPlan, token: str) -> None:
        ray = self._ray
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not nodes:
            raise JobError(f"the Ray cluster at {self._address} has no node with a CPU")
        task = ShardTask(
            library=__version__,
            source=self._source,
            out=self._place,
            total=plan.count,
            size=plan.size,
            token=token,
            worker=self._worker,
            # A shard has an equal share of it, which a shard of long answers would exceed: `_poll` adds up the costs.
            options=self._options
            if self._max_cost is None
            else self._options | {"max_cost": self._max_cost * plan.count},
            table=None if self._table is None else self._table._asdict(),
        )
        encoded = msgspec.json.encode(task)
        count = min(self._count or len(nodes), max(1, len(self._left)))
        actor = ray.remote(ShardWorker).options(
            num_cpus=1, max_restarts=-1, max_task_retries=0, max_concurrency=_AHEAD + 4, scheduling_strategy="SPREAD"
        )
        self._workers = [_Actor(actor.remote(encoded), number) for number in range(count)]

    def _end_workers(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(Exception):  # the connection to the cluster may be lost
                self._ray.kill(worker.actor)

    async def _check_workers(self) -> None:
        """Wait until workers report that they can run shards, before any of them sends a row. Raises `JobError`."""
        checks = [asyncio.ensure_future(self._checked(worker)) for worker in self._workers]
        patience: float | None = None
        noted = False
        try:
            waiting: set[asyncio.Future[str]] = set(checks)
            while waiting and not self._stopped:
                done, waiting = await asyncio.wait(
                    waiting, timeout=patience or _PATIENCE, return_when=asyncio.FIRST_COMPLETED
                )
                complaints = [found for one in done if (found := one.result())]
                if complaints:
                    raise JobError("; ".join(complaints))
                if done:
                    patience = _PATIENCE
                elif patience is not None:
                    return  # some can begin; the others are checked before they get a shard
                elif not noted:
                    noted = True
                    _log.warning("waiting for the Ray cluster to start workers, each of which needs one CPU")
        finally:
            for one in checks:
                one.cancel()

    async def _checked(self, worker: _Actor) -> str:
        """Return why a worker cannot run shards."""
        try:
            return str(await worker.actor.check.remote())
        except self._ray.exceptions.RayError as error:
            return self._fault_in(error)  # a worker that died is started again

    # ---------------------------------------------------------------- shards

    async def _run_shards(self, plan: ShardPlan, token: str) -> None:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        try:
            await in_thread_to_its_end(lambda: self._start_workers(plan, token))
            await self._check_workers()
            polling = self._spawned(self._poll(plan))
            serving = [self._spawned(self._serve(worker)) for worker in self._workers for _ in range(_AHEAD)]
            async with self._changed:
                await self._changed.wait_for(self._is_over)
            for task in (polling, *serving):
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_over(self) -> bool:
        if any(task.done() and not task.cancelled() and task.exception() for task in self._tasks):
            return True
        return not self._left or (bool(self._stopped) and not any(worker.shards for worker in self._workers))

    def _spawned(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled() or task.exception() is None:
                self._tasks.discard(task)
            else:
                self._notify()

        task.add_done_callback(ended)
        return task

    async def _serve(self, worker: _Actor) -> None:
        """Give shards to a worker, one after another."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._queue) and not self._stopped)
                number = heapq.heappop(self._queue)
            worker.shards.add(number)
            try:
                result = msgspec.json.decode(await worker.actor.run.remote(number), type=ShardResult)
            except self._ray.exceptions.RayError as error:
                if fault := self._fault_in(error):
                    worker.shards.discard(number)
                    self._fail(JobError(f"shard {number} of {self._place}: {fault}"))
                else:
                    await self._lost(worker, number, error)
                continue
            worker.shards.discard(number)
            await self._take(number, result)

    def _fault_in(self, error: Exception) -> str:
        """Return the text of an error that any other worker would raise too, ``""`` if the worker or its node died.

        Ray raises `RayTaskError` for an exception of a worker that is alive, and `ActorDiedError` both for a killed
        worker and for one whose constructor raises each time it is started.
        """
        known = self._ray.exceptions
        is_fault = isinstance(error, (known.RayTaskError, known.RuntimeEnvSetupError, known.ActorUnschedulableError))
        if not is_fault and not getattr(error, "actor_init_failed", False):
            return ""
        if "openaiasync" in str(error) and "import" in str(error).lower():
            return f"workers cannot import openaiasync: install openaiasync[ray]=={__version__} on every node"
        return f"a worker failed: {str(getattr(error, 'cause', None) or error).strip().splitlines()[-1][:500]}"

    async def _lost(self, worker: _Actor, number: int, error: Exception) -> None:
        """Put the shard of a worker that died back, and wait until Ray has started the worker again, perhaps on another
        node."""
        worker.shards.discard(number)
        worker.progress = []
        self._deaths[number] += 1
        _log.warning(
            "worker %d died with shard %d, which is continued: %s", worker.number, number, type(error).__name__
        )
        if self._deaths[number] >= _DEATHS:
            reason = str(error).strip().splitlines()[0]
            self._fail(JobError(f"{_DEATHS} workers died while they ran shard {number} of {self._place}: {reason}"))
            return
        await self._put_back(number)
        while True:
            try:
                complaint = await worker.actor.check.remote()
            except self._ray.exceptions.RayError as died:
                if not (complaint := self._fault_in(died)):
                    await asyncio.sleep(0.5)
                    continue
            if complaint:
                self._fail(JobError(complaint))
            return

    async def _put_back(self, number: int) -> None:
        async with self._changed:
            if not self._stopped:
                heapq.heappush(self._queue, number)
            self._changed.notify_all()

    async def _take(self, number: int, result: ShardResult) -> None:
        if result.kind == "busy":
            self._busy[number] += 1
            if self._busy[number] >= _BUSY:
                self._fail(JobError(f"shard {number} of {self._place} is run by another process: {result.error}"))
                return
            await asyncio.sleep(1.0)
            await self._put_back(number)
            return
        if result.kind:
            self._fail(JobError(result.error or f"shard {number} failed"))
            return
        if result.progress.done:
            self._left.discard(number)
            self._add(result.progress)
        elif result.stopped not in _HARMLESS and not self._stopped:
            self._stop(result.stopped)
        async with self._changed:
            self._changed.notify_all()

    # ---------------------------------------------------------------- numbers

    def _add(self, progress: JobProgress) -> None:
        done = self._done
        for name in ("rows", "ok", "failed", "refused", "input_tokens", "output_tokens"):
            setattr(done, name, getattr(done, name) + getattr(progress, name))
        if progress.cost is not None:
            done.cost = (done.cost or 0.0) + progress.cost

    async def _poll(self, plan: ShardPlan) -> None:
        """Poll the progress of each worker once a second, of at most 200 workers a second."""
        while True:
            await asyncio.gather(*(self._ask(worker) for worker in self._workers if worker.shards))
            self._tell(done=False, count=plan.count)
            if self._max_cost is not None and not self._stopped:
                spent = (self._done.cost or 0.0) + sum(
                    one.cost or 0.0 for worker in self._workers for one in worker.progress
                )
                if spent >= self._max_cost:
                    self._stop("cost")
            await asyncio.sleep(max(1.0, len(self._workers) / 200))

    async def _ask(self, worker: _Actor) -> None:
        try:
            async with asyncio.timeout(1.0):
                found = await worker.actor.progress.remote()
        except (TimeoutError, self._ray.exceptions.RayError):
            return
        worker.progress = msgspec.json.decode(found, type=list[JobProgress])

    def _tell(self, *, done: bool, count: int = 0) -> None:
        if self._show is None:
            return
        parts = [one for worker in self._workers for one in worker.progress if worker.shards and not done]
        seen = self._done.rows + sum(one.rows for one in parts)
        finished = count - len(self._left)
        known = finished + len(parts)
        rows = self._done.rows if done else self._total_rows or (round(seen * count / known) if known else 0)
        seconds = asyncio.get_running_loop().time() - self._began if self._began else 0.0
        progress = sum_of_progress(rows, [self._done, *parts], seconds)
        progress.done = done
        self._show(progress)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")  # which has no complete types
    except ImportError:
        raise ConfigurationError(f"jobs on a Ray cluster need Ray: {install_command('ray')}") from None
