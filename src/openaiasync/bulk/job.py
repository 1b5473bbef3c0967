"""Durable jobs: from a file of requests to a file of answers; repeating the call resumes a stopped job.

`Job` combines the parts: it checks the input and the ownership of the output (`batch_file`, `fingerprint`), opens the
rows on disk (`storage/segments`), lets the scheduler send them (`scheduler`) into a `JobSink`, and reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from ..core.codec.endpoint import Endpoint, nearest
from ..core.policy.limits import Limits
from ..engine.answer_cache import AnswerCache
from ..engine.config import default_model
from ..errors import ConfigurationError
from ..installation import install_command
from ..storage.atomic import write_file
from ..storage.disk import FileInUseError, this_host
from ..storage.segments import FAILED, OK, SegmentStore
from ..storage.threads import in_thread, in_thread_to_its_end, open_in_thread
from .batch_api import BatchRun
from .batch_file import (
    BatchLine,
    BodyFields,
    CheckedFile,
    InputFileError,
    LinePosition,
    LineProblem,
    check_file,
    endpoint_at,
    parse_line,
    read_lines,
    request_of,
    skip_rows,
    with_defaults,
)
from .fingerprint import (
    ADVICE,
    JobChangedError,
    JobError,
    JobRecord,
    JobRunningError,
    answers_path,
    folder_of,
    paths_of,
)
from .job_limits import JobLimits, LimitsFile
from .job_sink import Durability, JobSink, SendWindow
from .object_storage import copy_range, input_state, is_url, place_of
from .progress import JobProgress, JobTotals, load_status, price_for, show_in_notebook, totals_of
from .remote_shards import RemoteOutput, RemoteShard
from .repair import Into
from .report import JobReport, html_page, save_json
from .row import Summary, Work
from .scheduler import GIVE_UP_AFTER, RETRIES, Scheduler, engine_of
from .shards import Shard, part_of, shard_of
from .tables import TableOptions, export_results, is_table, need_parquet, write_requests

_log = logging.getLogger("openaiasync")

__all__ = ["Job", "JobOptions", "Order"]

Order = Literal["input", "completion"]
_ORDERS = ("input", "completion")
_DURABILITIES = ("normal", "strict", "none")
_WATCHED = 2.5  # seconds: two and a half times the period in which a running job writes its status


class JobOptions(TypedDict, total=False):
    """The options of `client.job` besides its files."""

    model: str | None
    """The model for rows that name none. Default: the client's."""
    params: Mapping[str, Any] | None
    """Default fields for bodies that lack them."""
    order: Order
    """The order of the output: that of the input (``"input"``, the default), or of completion (``"completion"``)."""
    durability: Durability
    """What survives a power loss: all but the last tenth of a second (``"normal"``, the default), every counted row
    (``"strict"``), or only data that the system has already written (``"none"``). A killed process loses nothing with
    any of them."""
    new: bool
    """Start over, discarding the contents of the output. Default: False."""
    retry: bool
    """Send failed rows again. Default: False."""
    limits: Limits | None
    """The servers' rate limits; limits not given are learned from the servers' responses. They replace those that
    `openaiasync limits set` has set before."""
    max_in_flight: int | Literal["auto"] | None
    """Rows in flight at each server. Default ``"auto"``: found by measuring; `None`: no limit."""
    retries: int
    """How often a row is sent again after a server or network failure. Default: 5."""
    give_up_after: float
    """Seconds after which the job stops, to be resumed, if servers do nothing but refuse (429) and fail. Default:
    600."""
    max_cost: float | None
    """Dollars at which the job stops; needs `prices`, or the package ``genai-prices``."""
    prices: Mapping[str, tuple[float, float]] | None
    """By model, dollars for a million tokens of prompt and of answer; ``"*"`` for all others."""
    progress: Callable[[JobProgress], object] | bool | None
    """A function called with a `JobProgress` about four times a second; True shows a line in a notebook. What it raises
    ends the job at once, which can be resumed, and is raised to the caller."""
    report: str | os.PathLike[str] | None
    """The path of an HTML report with plots, written at the end."""
    cache: str | os.PathLike[str] | None
    """An SQLite file of answers, used by any number of jobs: requests with an answer in it are not sent."""
    dedupe: bool | None
    """Send equal requests once. Default: those with ``temperature`` 0."""
    schema: Any
    """The form of each answer: a JSON schema, or a type as for `client.chat.parse`. Answers are validated; a row
    whose answer does not fit is sent again, up to `repair` times, and then fails."""
    repair: int
    """How often a row is sent again if its answer does not fit the `schema`. Default: 1."""
    table: TableOptions | None
    """For a table (CSV, TSV, Parquet) as input: how to convert its rows to requests."""
    via: Literal["calls", "batch"]
    """``"batch"``: through the server's Batch API, in files of at most 50,000 rows. Default: ``"calls"``."""
    shard: tuple[int, int] | str | None
    """One of several equal parts of the input, as its number from 0 and their total, ``(3, 16)`` or ``"3/16"``. Its
    files are in ``out.jsonl.shards``; `merge_shards` makes one output of all. `max_cost` is divided among them."""
    note: Mapping[str, Any] | None
    """Stored with the job: `openaiasync retry` finds the servers there. Must not contain secrets."""


class Job:
    """A job that is run by awaiting it: ``report = await job``. Made by `client.job`, which documents its options."""

    def __init__(
        self,
        engines: Sequence[Any],
        source: str | os.PathLike[str],
        out: str | os.PathLike[str],
        **options: Unpack[JobOptions],
    ) -> None:
        _check(options)
        report, progress, cache = options.get("report"), options.get("progress"), options.get("cache")
        self._source: str = place_of(source)
        place = place_of(out, follow=True)
        if (remote := _remote_shard(self._source, place, options.get("shard"))) is not None:
            place = remote.local
        self._remote = remote
        self._merged = answers_path(place)  # the output of the whole input
        self._shard, self._out = shard_of(options.get("shard"), self._merged)
        self._out_table = place if place != self._out and self._shard is None else None
        need_parquet(self._source, place)
        self._folder = folder_of(self._out)
        self._errors, self._report_path = paths_of(self._out)
        self._params = dict(options.get("params") or {})
        self._engine = engine_of(engines[0])
        models: Mapping[str, str] = getattr(self._engine.config, "models", {})
        self._model = options.get("model")
        self._models = {} if self._model is not None else dict(models)
        self._order: Order = options.get("order", "input")
        self._durability: Durability = options.get("durability", "normal")
        self._new, self._retry = options.get("new", False), options.get("retry", False)
        self._max_cost, self._prices = _share_of(options.get("max_cost"), self._shard), options.get("prices")
        self._html = None if report is None else os.fspath(report)
        self._keep_apart(cache)
        self._show: Callable[[JobProgress], object] | None
        self._show = show_in_notebook() if isinstance(progress, bool) and progress else progress or None
        self._table = options.get("table")
        _check_table(self._source, self._table)
        self._via = options.get("via", "calls")
        self._into = _into(options.get("schema"), options.get("repair", 1), self._via)
        self._note = dict(options.get("note") or {})
        self._cache = None if cache is None else AnswerCache(cache)
        self._scheduler = Scheduler(
            engines,
            limits=options.get("limits"),
            max_in_flight=options.get("max_in_flight", "auto"),
            retries=options.get("retries", RETRIES),
            give_up_after=options.get("give_up_after", GIVE_UP_AFTER),
            cache=self._cache,
            dedupe=options.get("dedupe"),
            review=self._into,
        )
        self._limits = LimitsFile(self._folder)
        self._named_limits = _named_limits(options)
        self.drained: asyncio.Event = asyncio.Event()
        """Set once the last row was taken by the scheduler: no more will be started than are in flight or repeated."""
        self._stopped = ""
        self._halted: asyncio.Event = asyncio.Event()
        self._window = SendWindow()
        self._poll = 1.0  # seconds between the first two polls of the Batch API
        self._sink: JobSink | None = None
        self._totals = JobTotals()
        self._resumed = 0

    def _keep_apart(self, cache: str | os.PathLike[str] | None) -> None:
        """Raise `ValueError` if one file of the job would overwrite another, even under different names."""
        files = {"the input": self._source, "the output": self._merged, "the answers": self._out,
                 "the table of answers": self._out_table,
                 "the file of failed rows": self._errors, "report.json": self._report_path, "the report": self._html,
                 "the cache": cache}  # fmt: skip
        places: dict[str, str] = {}
        for what, path in files.items():
            if path is None or (what == "the answers" and path == self._merged):
                continue
            other = places.setdefault(os.path.realpath(path), what)
            if other == what:
                continue
            if other == "the input":
                raise ValueError(f"{path} is the input and would be overwritten by {what}: name another file")
            raise ValueError(f"{path} would be both {other} and {what}: name another file")

    def __await__(self) -> Generator[Any, None, JobReport]:
        return self._run().__await__()

    def stop(self, *, now: bool = False) -> None:
        """Start no further row and end once those in flight are done; with `now`, cancel them. The job can be
        resumed."""
        self._stopped = self._stopped or "stop"
        self._halted.set()
        self._scheduler.stop(now=now)

    @property
    def in_flight(self) -> int:
        """The number of rows that are with a server now."""
        return self._scheduler.counts.in_flight

    def limit_in_flight(self, number: int) -> None:
        """Change `max_in_flight`, before or during the run."""
        self._scheduler.set_limits(max_in_flight=number)

    @property
    def progress(self) -> JobProgress | None:
        """The job's progress; `None` before it has begun."""
        return None if self._sink is None else self._sink.progress()

    # ---------------------------------------------------------------- the run

    async def _run(self) -> JobReport:
        remote = self._remote
        if remote is None:
            return await self._run_here()
        try:
            await in_thread_to_its_end(remote.fetch)
            return await self._run_here()
        finally:
            await in_thread_to_its_end(remote.discard)

    async def _run_here(self) -> JobReport:
        record, store = await open_in_thread(self._open, lambda opened: opened[1].close())
        try:
            sending = self._send(record, store)
            return await (sending if self._remote is None else self._remote.run(sending, self._window))
        finally:
            store.close()
            if self._cache is not None:
                await self._cache.aclose()

    async def _send(self, record: JobRecord, store: SegmentStore) -> JobReport:
        sink = self._sink = JobSink(
            store,
            self._scheduler,
            self._totals,
            rows=record.rows,
            window=self._window,
            prefix=f"batch_req_{record.nonce}_",
            durability=self._durability,
            prices=self._prices,
            max_cost=self._max_cost,
            stop=self._stop_for,
            every_second=self._follow_limits,
            show=self._show,
        )
        self._follow_limits()
        states = store.states
        start = await in_thread(
            lambda: skip_rows(record.input, record.size, lambda row: _is_done(states, row), record.start)
        )
        keeping = asyncio.create_task(sink.keep())
        keeping.add_done_callback(self._kept)
        summary: Summary | None = None
        try:
            if self._via == "batch":
                rows = partial(self._rows, record, store, start)
                await BatchRun(self._engine, record, sink, rows, self._halted, poll=self._poll).run()
            else:
                summary = await self._scheduler.run(self._rows(record, store, start), sink)
        except OSError as error:
            if sink.failure is None:
                raise JobError(f"{self._source} can no longer be read: {error}") from error
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            failure = await self._close(sink)
        if failure is not None:
            raise JobError(
                f"the results of {self._out} cannot be written ({failure}); rows that were not saved are sent again "
                "when the same call goes on"
            ) from failure
        if not keeping.cancelled():
            keeping.result()  # raises what the caller's `progress` raised
        doubtful = await in_thread(lambda: _keys_of(record, store.doubtful))
        report = self._report(record, sink, summary, doubtful)
        await in_thread(lambda: self._save_reports(report))
        sink.show_end()
        return report

    async def _close(self, sink: JobSink) -> OSError | None:
        """Write everything to disk and return the error that prevented it, if any."""
        try:
            await sink.close()
        except OSError as error:
            return sink.failure or error
        return sink.failure

    def _kept(self, keeping: asyncio.Task[None]) -> None:
        """End the job at once if the `progress` callback has raised."""
        if not keeping.cancelled():
            self.stop(now=True)

    def _follow_limits(self) -> None:
        """Apply limits newly written by `openaiasync limits set`."""
        limits = self._limits.changed()
        if limits is not None:
            try:
                self._scheduler.set_limits(**limits.changes())
            except (ValueError, TypeError):
                _log.warning("the limits in %s are not used: %s", self._folder, limits)

    def _stop_for(self, why: str) -> None:
        self._stopped = self._stopped or why
        self._halted.set()
        self._scheduler.stop()

    def _rows(self, record: JobRecord, store: SegmentStore, start: LinePosition) -> Iterator[Work]:
        """Yield the unfinished rows as `Work`."""
        states, sink = store.states, self._sink
        nonce = record.nonce.encode()
        defaults: dict[Endpoint, dict[str, Any]] = {}
        blake2b = hashlib.blake2b
        into, window = self._into, self._window
        assert sink is not None
        for index, (number, text) in enumerate(read_lines(record.input, record.size, start), start.row):
            if index < len(states) and states[index] >= OK:
                continue
            try:
                line, fields = parse_line(text)
            except (ValueError, RecursionError):
                line, fields = BatchLine(msgspec.Raw()), BodyFields()
            endpoint = endpoint_at(line.url)
            if endpoint is None:  # the file was right when it was checked
                raise InputFileError(self._source, [LineProblem(number, "was changed while the job was running")])
            body = bytes(line.body)
            missing = defaults.get(endpoint)
            if missing is None:
                missing = defaults[endpoint] = self._defaults(endpoint)
            if missing:
                body = with_defaults(body, missing)
            key = line.custom_id
            named = blake2b(b"%b\n%b\n%b" % (nonce, key.encode(), body), digest_size=16).hexdigest()
            model = fields.model or missing.get("model")
            request = request_of(endpoint, body, fields)
            if into is not None:
                into.prepare(request, index)
            window.taken = index + 1
            yield Work(key, index, request, 0, named, body, str(model or ""))
        self.drained.set()

    def _defaults(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the default fields of this endpoint's bodies."""
        model = self._model or default_model(self._models, endpoint.default_of)
        return self._params if model is None else {**self._params, "model": model}

    # ---------------------------------------------------------------- opening

    def _open(self) -> tuple[JobRecord, SegmentStore]:
        """Check everything and open the rows; nothing is sent before this returns. Blocks."""
        record = None if self._new else JobRecord.load(self._folder)
        new_record = self._new_record()
        part = part_of(self._source, self._merged, self._shard, new_record.settings())
        if record is not None:
            record.compare_settings(new_record, self._out)
            if self._shard is not None and self._source != record.source:  # the plan knows that it is the same file
                record.input = self._source if record.input == record.source else record.input
                record.source, record.modified, record.table_modified = self._source, 0, 0
            if self._source != record.source and not _same_bytes(self._source, record):
                raise JobChangedError(f"{self._out} belongs to a job with the input {record.source}; {ADVICE}")
            if record.is_made:
                record.input = new_record.input  # on the machine that ran it before, the folder may have been another
                if not os.path.exists(record.input):  # object stores keep only the results of a shard
                    self._make_input(record, part)
            store = self._continue(record)
        else:
            record = new_record
            store = self._begin(record, part)
        try:
            if self._note:
                record.options = self._note
                record.save(self._folder)
            replaced = self._limits.supersede(self._named_limits)
        except BaseException:
            store.close()
            raise
        if self._max_cost is not None and self._prices is None:
            price_for("", None)  # imports what takes long here, and not in the event loop
        if replaced != JobLimits():
            _log.warning(
                "%s, set earlier for %s, is replaced by this run's %s", replaced, self._out, self._named_limits
            )
        return record, store

    def _new_record(self) -> JobRecord:
        """Return the record of this job, as if it had not started yet."""
        return JobRecord(
            nonce=os.urandom(6).hex(),
            source=self._source,
            input=self._source
            if self._table is None and not is_url(self._source)
            else os.path.join(self._folder, "input.jsonl"),
            model=self._model,
            models=self._models,
            params=self._params,
            schema=None if self._into is None else dict(self._into.shape.schema),
            table=None if self._table is None else self._table._asdict(),
            order=self._order,
            created=time.time(),
            shard=self._shard,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the requests are made with; shards of one input must agree on it."""
        return self._new_record().settings()

    def _begin(self, record: JobRecord, part: tuple[int, int] | None) -> SegmentStore:
        if not self._new:
            for path in (self._out, self._errors):
                if os.path.exists(path) and os.path.getsize(path):
                    raise JobError(
                        f"{path} exists and does not belong to this job; pass new=True (--new) to replace it"
                    )
        with _in_use(self._out):
            held = self._lock_old()
            try:
                made = part
                if record.is_made:
                    os.makedirs(self._folder, exist_ok=True)
                    record.note_source(self._source)
                    self._make_input(record, part)
                    made = None if part is None else (0, os.path.getsize(record.input))
                checked = check_file(record.input, made)
                if (error := checked.error()) is not None:
                    if record.is_made:
                        os.unlink(record.input)
                        error = self._in_source(error, part)
                    raise error
                self._need_prices(checked)
                record.takes(checked)
                record.save(self._folder)
            finally:
                if held is not None:
                    held.close()
                with contextlib.suppress(OSError):
                    os.rmdir(self._folder)  # empty if it was not used
            return SegmentStore.create(
                self._folder, self._out, self._errors, record.nonce.encode(), in_order=self._order == "input"
            )

    def _make_input(self, record: JobRecord, part: tuple[int, int] | None) -> None:
        """Make the file of requests: from rows of the table, or as a copy of bytes of the object."""
        if self._table is not None:
            write_requests(self._source, record.input, self._table, part or (0, None))
            return
        with open(record.input, "wb") as file:
            copy_range(self._source, file, *(part or (0, input_state(self._source).size)))

    def _in_source(self, error: InputFileError, part: tuple[int, int] | None) -> InputFileError:
        """Return an error of the file that was made from the source as one of the source itself."""
        first = part[0] if part else 0
        if self._table is None:
            where = f" (lines counted from byte {first:,})" if first else ""
            return InputFileError(f"{self._source}{where}", error.problems, error.count)
        # The file has one line for each row.
        rows = [LineProblem(0, f"row {first + line}: {text}" if line else text) for line, text in error.problems]
        return InputFileError(self._source, rows, error.count)

    def _need_prices(self, checked: CheckedFile) -> None:
        """Raise `JobError` if a cost limit cannot be enforced because the price of a model is unknown."""
        if self._max_cost is None:
            return
        default = self._model or next(iter(self._models.values()), "")
        for name in sorted({name or default for name in checked.models}):
            if price_for(name, self._prices) is None:
                raise JobError(
                    f"max_cost (--max-cost) needs the price of {name or 'the model'}: pass prices= (--prices FILE) "
                    f"with it, or {install_command('prices')}, which may know it"
                )

    def _lock_old(self) -> SegmentStore | None:
        """Check that no process runs the job to be replaced."""
        try:
            return SegmentStore.open(self._folder, self._out, self._errors, in_order=self._order == "input")
        except FileInUseError:
            raise
        except OSError:
            return None

    def _continue(self, record: JobRecord) -> SegmentStore:
        checked = record.compare_input(self._out)
        _refuse_second_host(self._folder, self._out)
        with _in_use(self._out):
            in_order = self._order == "input"
            try:
                if SegmentStore.read_header(self._folder) != record.nonce.encode():
                    raise FileNotFoundError  # killed between the record and the journal: nothing was sent
                store = SegmentStore.open(self._folder, self._out, self._errors, in_order=in_order)
            except FileNotFoundError:
                store = SegmentStore.create(
                    self._folder, self._out, self._errors, record.nonce.encode(), in_order=in_order
                )
        try:
            if checked is not None:
                record.takes(checked)
                record.save(self._folder)
            self._totals = totals_of(load_status(self._folder), store)
            if self._retry and store.again():
                self._totals.failures = {}
            if self._via == "calls":  # a batch created earlier is found again, so that none of its rows is sent twice
                store.note_doubtful()
            self._resumed = store.counts[OK] + store.counts[FAILED]
        except BaseException:
            store.close()
            raise
        return store

    # ---------------------------------------------------------------- the report

    def _report(self, record: JobRecord, sink: JobSink, summary: Summary | None, doubtful: list[str]) -> JobReport:
        totals, progress = sink.totals(), sink.progress()
        error = None if summary is None else summary.error
        left = record.rows - progress.finished
        return JobReport(
            out=self._out,
            table=self._out_table,
            errors=self._errors if progress.failed else None,
            rows=record.rows,
            ok=progress.ok,
            failed=progress.failed,
            stopped=(self._stopped or ("" if summary is None else summary.stopped) or "stop") if left else "",
            error=None if error is None else f"{type(error).__name__}: {error}",
            resumed=self._resumed,
            paid_twice=doubtful,
            latency=sink.latency(),
            **totals.counts(),
        )

    def _save_reports(self, report: JobReport) -> None:
        try:
            if self._out_table is not None:
                export_results([self._out], self._out_table)
            save_json(report, self._report_path)
            if self._html is not None:
                write_file(self._html, html_page(report).encode())
        except OSError as error:
            raise JobError(f"all rows are saved in {self._out}, but not the table or report: {error}") from error


def _remote_shard(source: str, out: str, shard: tuple[int, int] | str | None) -> RemoteShard | None:
    """Return the shard of an output in an object store, `None` for an output that is a path."""
    if not is_url(out):
        return None
    if shard is None:
        raise ConfigurationError(
            f"{out} is in an object store, which only shards can write to: pass shard=(0, 1) (--shard 0/1), or run the "
            "job on Ray (--ray)"
        )
    output = RemoteOutput(out)
    output.keep_apart(source)
    return RemoteShard(output, Shard.of(shard).number)


def _check(options: JobOptions) -> None:
    """Raise `TypeError` for unknown options, `ValueError` for invalid values."""
    if unknown := options.keys() - JobOptions.__annotations__.keys():
        name = min(unknown)
        raise TypeError(f"job() has no option {name!r}{nearest(name, frozenset(JobOptions.__annotations__))}")
    order, durability = options.get("order", "input"), options.get("durability", "normal")
    max_cost = options.get("max_cost")
    if order not in _ORDERS:
        raise ValueError(f"order is one of {', '.join(_ORDERS)}, not {order!r}")
    if durability not in _DURABILITIES:
        raise ValueError(f"durability is one of {', '.join(_DURABILITIES)}, not {durability!r}")
    if max_cost is not None and not max_cost > 0:
        raise ValueError("max_cost is a number of dollars above 0")
    if options.get("shard") is not None and options.get("report") is not None:
        raise ValueError("report: each shard would write this page over that of another; merging writes one for all")


def _check_table(source: str, table: TableOptions | None) -> None:
    """Raise `ValueError` for a table without the options that convert its rows."""
    if table is None and is_table(source):
        raise ValueError(f"{source} is a table: pass table=TableOptions(prompt=...) to convert its rows to requests")


def _share_of(max_cost: float | None, shard: Shard | None) -> float | None:
    """Return the dollars that this job may spend: a shard has an equal share."""
    return max_cost if max_cost is None or shard is None else max_cost / shard.total


def _named_limits(options: JobOptions) -> JobLimits:
    """Return the limits that the caller names."""
    limits, in_flight = options.get("limits"), options.get("max_in_flight")
    if limits is None:
        return JobLimits(max_in_flight=in_flight)
    return JobLimits(rpm=limits.rpm, tpm=limits.tpm, max_in_flight=in_flight or limits.max_in_flight)


def _into(schema: Any, repair: int, via: str) -> Into | None:
    """Return the required form of answers, if any. Raises `ValueError`, `TypeError` for an unsupported one."""
    if via not in ("calls", "batch"):
        raise ValueError(f"via is calls or batch, not {via!r}")
    if schema is not None and via == "batch":
        raise ValueError("schema needs via='calls': rows of the Batch API are not asked again")
    return None if schema is None else Into(schema, repair)


def _keys_of(record: JobRecord, rows: set[int]) -> list[str]:
    """Return the ``custom_id`` of rows, in their order. Blocks."""
    if not rows:
        return []
    lines = enumerate(islice(read_lines(record.input, record.size, LinePosition(record.start)), max(rows) + 1))
    return [parse_line(text)[0].custom_id for row, (_, text) in lines if row in rows]


def _is_done(states: bytearray, row: int) -> bool:
    return row < len(states) and states[row] >= OK


def _same_bytes(path: str, record: JobRecord) -> bool:
    """Return whether a file with another name is the job's input, which was moved."""
    try:
        found: CheckedFile = check_file(path)
    except OSError:
        return False
    if record.table is not None or found.size != record.size or found.digest != record.digest:
        return False
    record.source = record.input = path
    record.modified = found.modified
    return True


@contextlib.contextmanager
def _in_use(out: str) -> Generator[None, None, None]:
    """Convert errors of locked, removed or changed files to job errors."""
    try:
        yield
    except InputFileError:
        raise
    except FileInUseError as error:
        raise JobRunningError(f"another process is running the job of {out}") from error
    except OSError as error:
        raise JobError(f"the job of {out} cannot be opened: {error}") from error


def _refuse_second_host(folder: str, out: str) -> None:
    """Raise `JobError` if another machine runs the job, on a file system whose locks other machines do not see.

    Clocks of machines differ, so the status is watched instead of compared with the time. Blocks for up to 2.5 s if
    another machine's run has not ended, which a killed run has not either.
    """
    before = load_status(folder)
    if before is None or before.ended or before.host in ("", this_host()):
        return
    end = time.monotonic() + _WATCHED
    while time.monotonic() < end:
        time.sleep(0.1)
        now = load_status(folder)
        if now is None or now.ended:
            return
        if now.updated != before.updated:
            raise JobRunningError(f"another process is running the job of {out}: process {now.pid} on {now.host}")
