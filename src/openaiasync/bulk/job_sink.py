"""The sink of a job: writes finished rows to disk, counts them, and reports progress."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from zlib import crc32

import msgspec

from ..core.model.plain import mended_json
from ..errors import APIError, APIStatusError, OpenAIError
from ..storage.atomic import write_file
from ..storage.disk import this_host
from ..storage.segments import FAILED, OK, SegmentStore
from ..storage.spending import Spending
from ..storage.threads import in_thread
from .batch_file import encode_failure, encode_success
from .cost import JobCost
from .progress import JobProgress, JobStatus, JobTotals, Latencies, TimelinePoint, joined, thinned
from .row import Outcome, Stats, Usage, Work
from .scheduler import Scheduler

__all__ = ["Durability", "JobSink", "SendWindow"]

Durability = Literal["normal", "strict", "none"]

_SYNC = 0.1  # seconds between two synchronisations
_SHOWN = 0.25  # seconds between two calls of the progress callback
_SAMPLED = 1.0  # seconds between two samples, and two writings of the status
_FULL = 8 << 20  # unwritten bytes above which no row is started
_REASONS = 50  # distinct reasons of failures that are counted
_raw = msgspec.json.Decoder(msgspec.Raw)


class SendWindow:
    """The rows of a job that may be sent: in the order of the input, those before `ceiling`."""

    __slots__ = ("ceiling", "taken")

    def __init__(self) -> None:
        self.taken: int = 0
        """The row after the last one that was taken from the input."""
        self.ceiling: float = math.inf


class JobSink:
    """The `Sink` of a job. `keep` runs beside the scheduler; `close` ends it.

    A row's `context` is its request from the input, with defaults; the one sent may add a schema or a repair prompt.

    `stop` is called with the reason when no further row may be started: ``"cost"``, or ``"full"`` (a write error);
    `every_second` is called about once a second.
    """

    def __init__(
        self,
        store: SegmentStore,
        scheduler: Scheduler,
        totals: JobTotals,
        *,
        rows: int,
        window: SendWindow,
        prefix: str,
        durability: Durability,
        prices: Mapping[str, Any] | None,
        max_cost: float | None,
        stop: Callable[[str], None],
        every_second: Callable[[], None],
        show: Callable[[JobProgress], object] | None,
    ) -> None:
        self.store = store
        store.strict = durability == "strict"
        self.failure: OSError | None = None
        self._scheduler = scheduler
        self._before = totals
        self._rows = rows
        self._window = window
        self._prefix = prefix
        self._durability: Durability = durability
        self._cost = JobCost(totals.cost, prices, max_cost)
        store.spending = self._spent
        self._stop = stop
        self._every_second = every_second
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._work: asyncio.Event = asyncio.Event()
        self._flushed: asyncio.Event = asyncio.Event()
        self._began = self._loop.time()
        self._latencies = Latencies()
        self._latencies.counts.update(totals.latencies)
        self._latencies.total = sum(totals.latencies.values())
        self._recent = Latencies()  # since the last sample
        self._failures = dict(totals.failures)
        self._timeline = list(totals.timeline)
        finished = store.counts[OK] + store.counts[FAILED]  # in earlier runs
        self._last = (self._began, finished, store.counts[FAILED], 0, 0)  # of the last sample: time and counts
        self._rates: list[tuple[float, int]] = []  # times and finished rows, for the recent rate
        self._shown = self._sampled = 0.0
        self._ended = False
        if self._cost.is_over:  # in earlier runs
            stop("cost")

    # ---------------------------------------------------------------- the scheduler's sink

    @property
    def full(self) -> bool:
        """Whether no further row may be started now: too many bytes are unwritten, too much money is booked for rows in
        flight, or the next row is outside the window."""
        window = self._window
        return (
            self.store.pending > _FULL
            or window.taken >= window.ceiling
            or (self._cost.is_booked_up and self._scheduler.counts.in_flight > 0)
        )

    async def flushed(self) -> None:
        """Wait until buffered rows were written."""
        self._flushed.clear()
        await self._flushed.wait()

    def started(self, work: Work) -> None:
        """Mark the row as sent, on file before it is sent."""
        self._cost.book(work)
        try:
            self.store.sent(work.index, crc32(work.request.body))
        except OSError as error:
            self._cannot_write(error)
            raise
        if self.store.failure is not None:
            self._cannot_write(self.store.failure)

    def finished(self, work: Work, outcome: Outcome) -> None:
        """Buffer the row's line; all lines of one event-loop turn are written together."""
        ok = outcome.error is None
        self._cost.settle(work)
        self.take(work.index, ok, self._answered(work, outcome) if ok else self._failed(work, outcome))
        if not self._cost.booked and self._cost.is_spent:
            self._stop("cost")

    def take(self, row: int, ok: bool, line: bytes) -> None:
        """Schedule a row's line to be written at the end of this turn."""
        self.store.put(row, ok, line)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def row_id(self, row: int) -> str:
        """Return the ``id`` of a row's output line."""
        return f"{self._prefix}{row}"

    def _answered(self, work: Work, outcome: Outcome) -> bytes:
        if not outcome.cached:
            self._latencies.add(outcome.seconds)
            self._recent.add(outcome.seconds)
            if outcome.usage is not None:
                self._cost.learn(work, outcome.usage)
                self.spend(work.model or str(getattr(outcome.answer, "model", "")), outcome.usage)
        status = outcome.status or 200
        return encode_success(self.row_id(work.index), work.key, status, outcome.request_id, _json_of(outcome))

    def spend(self, model: str, usage: Usage) -> None:
        """Add the cost of an answer, if its price is known."""
        if not self._cost.add(model, usage):
            self._stop("price")
        elif self._cost.is_over:
            self._stop("cost")

    @property
    def stats(self) -> Stats:
        """The numbers of this run."""
        return self._scheduler.stats

    def count_failure(self, reason: str) -> None:
        """Count a failed row by its reason."""
        if reason not in self._failures and len(self._failures) >= _REASONS:
            reason = "other"
        self._failures[reason] = self._failures.get(reason, 0) + 1

    def _failed(self, work: Work, outcome: Outcome) -> bytes:
        error = outcome.error
        assert error is not None
        self.count_failure(_reason(error))
        code = getattr(error, "code", None) or getattr(error, "type", None) or type(error).__name__
        shown = {"code": str(code), "message": str(error), "type": type(error).__name__, "attempts": outcome.attempts}
        answer = _plain(error.body) if isinstance(error, APIError) else None
        url = f"/v1{work.request.endpoint.path}"
        return encode_failure(work.key, url, work.context, outcome.status, outcome.request_id, shown, answer)

    def _flush(self) -> None:
        self._scheduled = False
        try:
            self.store.flush()
            if self.store.failure is not None:
                self._cannot_write(self.store.failure)
        except OSError as error:
            self._cannot_write(error)
        self._flushed.set()
        if self._durability == "strict":
            self._work.set()

    def _cannot_write(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error
            self._stop("full")

    # ---------------------------------------------------------------- background work

    async def keep(self) -> None:
        """Copy results, synchronise, and show the progress, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SYNC):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._copy()
                await self._sync()
            except OSError as error:
                self._cannot_write(error)
            await self._cost.look_up()
            self._flushed.set()  # rows that were refused are not in flight, and keep no others from being sent
            now = self._loop.time()
            if now - self._sampled >= _SAMPLED:
                self._sampled = now
                self._sample(now)
                self._every_second()
                await self._save_status()
            if now - self._shown >= _SHOWN:
                self._shown = now
                self._tell(done=False)

    async def _copy(self) -> None:
        more = True
        while more:
            more = self.store.copy()
            await asyncio.sleep(0)  # a large step would hold up the answers of other rows

    async def _sync(self) -> None:
        plan = self.store.begin_sync()
        if plan is None:
            return
        if self._durability != "none":
            try:
                await in_thread(lambda: self.store.run_sync(plan))
            except asyncio.CancelledError:  # the rows have ended; `close` synchronises the rest
                self.store.take_back(plan)
                raise
        self.store.end_sync(plan)

    async def _save_status(self) -> None:
        data = msgspec.json.encode(self._status())
        path = os.path.join(self.store.folder, "status.json")
        with contextlib.suppress(OSError):  # a failed status write must not fail the job
            await in_thread(lambda: write_file(path, data))

    async def close(self) -> None:
        """Write everything to disk. Raises `OSError` on failure."""
        try:
            self.store.flush()
            await self._copy()
            await in_thread(self.store.sync)
            await in_thread(self.store.merge)
            await self._cost.look_up()
        finally:
            self._ended = True
            self._sample(self._loop.time())
            await self._save_status()

    def show_end(self) -> None:
        """Show the progress for the last time."""
        self._tell(done=self.store.counts[OK] + self.store.counts[FAILED] >= self._rows)

    def _tell(self, *, done: bool) -> None:
        """Call the callback for the progress, but never again once it has raised."""
        show = self._show
        if show is not None:
            self._show = None
            show(self.progress(done=done))
            self._show = show

    # ---------------------------------------------------------------- numbers

    @property
    def seconds(self) -> float:
        """The total duration of all runs of the job in seconds."""
        return self._before.seconds + self._loop.time() - self._began

    def progress(self, *, done: bool = False) -> JobProgress:
        """Return the job's progress."""
        stats, before = self._scheduler.stats, self._before
        ok, failed = self.store.counted(OK), self.store.counted(FAILED)
        finished = ok + failed
        rate = finished / self.seconds if done and self.seconds else self._rate(finished)
        left = self._rows - finished
        cost = self._cost.spent
        return JobProgress(
            rows=self._rows,
            ok=ok,
            failed=failed,
            in_flight=stats.in_flight,
            limit=stats.limit_in_flight,
            waiting=stats.waiting,
            rate=rate,
            rpm_share=stats.rpm_share,
            tpm_share=stats.tpm_share,
            refused=before.refused + stats.refused,
            input_tokens=before.input_tokens + stats.input_tokens,
            output_tokens=before.output_tokens + stats.output_tokens,
            cost=cost,
            cost_at_end=None if cost is None or not ok else cost * self._rows / ok,
            seconds=self.seconds,
            seconds_left=left / rate if rate > 0 else None,
            done=done,
        )

    def _rate(self, finished: int) -> float:
        """Return the rows per second over the last ten seconds."""
        now = self._loop.time()
        self._rates.append((now, finished))
        while len(self._rates) > 2 and now - self._rates[0][0] > 10:
            del self._rates[0]
        first, before = self._rates[0]
        if now - first < 0.05:
            return 0.0
        return (finished - before) / (now - first)

    def _sample(self, now: float) -> None:
        stats, counts = self._scheduler.stats, self.store.counts
        tokens = stats.input_tokens + stats.output_tokens
        finished, failed = counts[OK] + counts[FAILED], counts[FAILED]
        then, *before = self._last
        recent, self._recent = self._recent, Latencies()
        times = [recent.quantile(share) or 0.0 for share in (0.5, 0.9, 0.99)]
        point = TimelinePoint(
            round(self.seconds, 3),
            max(0.001, round(now - then, 3)),
            finished - before[0],
            failed - before[1],
            stats.refused - before[2],
            stats.in_flight,
            stats.limit_in_flight or 0,
            tokens - before[3],
            *times,
        )
        if now - then < 0.02 and self._timeline:  # the end, just after a sample: too short for rates
            point = joined(self._timeline.pop(), point)
        self._timeline.append(point)
        self._timeline = thinned(self._timeline)
        self._last = (now, finished, failed, stats.refused, tokens)

    def _spent(self) -> Spending:
        """Return the sums of finished requests, for the journal."""
        stats, before = self._scheduler.counts, self._before
        return Spending(
            before.input_tokens + stats.input_tokens,
            before.output_tokens + stats.output_tokens,
            before.requests + stats.requests - stats.in_flight,
            before.refused + stats.refused,
            before.retried + stats.retried,
            before.cached + stats.cached,
            self._cost.spent or 0.0,
        )

    def totals(self) -> JobTotals:
        """Return the totals of all runs, including this one."""
        stats, before = self._scheduler.stats, self._before
        return JobTotals(
            runs=before.runs + 1,
            seconds=self.seconds,
            requests=before.requests + stats.requests,
            refused=before.refused + stats.refused,
            retried=before.retried + stats.retried,
            cached=before.cached + stats.cached,
            input_tokens=before.input_tokens + stats.input_tokens,
            output_tokens=before.output_tokens + stats.output_tokens,
            cost=self._cost.spent,
            failures=self._failures,
            latencies=self._latencies.counts,
            timeline=self._timeline,
        )

    def latency(self) -> dict[str, float]:
        """Return quantiles of the latency of answers in seconds."""
        found = {name: self._latencies.quantile(share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
        return {name: round(seconds, 4) for name, seconds in found.items() if seconds is not None}

    def _status(self) -> JobStatus:
        progress, totals = self.progress(), self.totals()
        return JobStatus(
            pid=os.getpid(),
            host=this_host(),
            updated=time.time(),
            ended=self._ended,
            progress=progress,
            totals=totals,
        )


def _json_of(outcome: Outcome) -> bytes:
    """Return the body of an answer as JSON: the server's bytes, or the re-encoded answer."""
    body = outcome.body
    if body is not None:
        try:
            _raw.decode(body)
        except (ValueError, RecursionError):
            pass  # events instead of a whole answer, or numbers that JSON does not allow (NaN, Infinity)
        else:
            return body
    return mended_json(str(outcome.answer.to_json(indent=None))).encode()


def _plain(value: Any) -> Any:
    """Return a server's error as a JSON value."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _reason(error: OpenAIError) -> str:
    """Return a short reason for a failure, equal for failures of the same kind."""
    code = getattr(error, "code", None) or getattr(error, "type", None)
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}{f' {code}' if code else ''}"
    return f"{type(error).__name__}{f' {code}' if code else ''}"
