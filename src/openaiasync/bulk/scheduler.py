"""The scheduler: sends rows as fast as the servers accept them, and loses none to rate limits and faults.

A waiting row consists of its `Work` alone: rows are read from the source when they can be sent. A row in flight has a
task, which continues with the next row while one may be sent; at a rate limit, one timer starts the next. Admission is
decided by one `Admission` for each server, without I/O (`core/policy/admission.py`).

After a failed attempt:

* 429: the row waits at the front of the queue, and the attempt does not count. After two 429s in a row it lets other
  rows go first, since a smaller one may fit the limit. A row that is larger than the limit fails.
* 5xx, a timeout, a lost connection: the row is repeated after a pause, up to `retries` times. If the breaker is
  open or its retry budget is spent, the server is at fault, not the row: the row waits, and the attempt does not count.
* A used-up quota, a refused key: the server is no longer used. When no server is left, the run stops.
* Any other failure fails this row alone. But if the first rows are all answered with 404, the model or the path is
  wrong for every row, and the run stops.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import types
from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable
from typing import Any, Literal, TypeAlias, cast

from ..budget.leases import Leases
from ..core.codec.dialects import exceeds_limit
from ..core.policy.admission import Admission, Flight
from ..core.policy.estimate import TokenEstimate
from ..core.policy.limits import Limits
from ..core.policy.pacing import Meter
from ..core.policy.retry import RETRY_COST, TIMEOUT_COST, backoff, is_rate_limit
from ..engine.answer_cache import AnswerCache
from ..engine.engine import Engine
from ..engine.log import logger
from ..engine.paced import PacedCalls, learn_limits, limits_of, pause_of, refusal_of
from ..errors import (
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    NotFoundError,
    OpenAIError,
)
from .reuse import AnswerReuse
from .row import Outcome, Review, Sink, Stats, Summary, Work
from .row_source import RowSource
from .sending import Reached, is_passing, loses_server, send

__all__ = ["MaxInFlight", "Scheduler", "engine_of"]

MaxInFlight: TypeAlias = int | Literal["auto"] | None

RETRIES = 5  # attempts after the first one
GIVE_UP_AFTER = 600.0  # seconds
UNBOUNDED = 100_000  # in flight
PASSED_OVER = 256  # rows that wait for the limit of their model, while rows for other models are sent
MISSING = 16  # 404s without any answer before, after which the run stops
REFUSALS = 2  # 429s in a row after which a row lets others go first
BREATH = 64  # rows from the cache after which other tasks get a turn


class _ServerState:
    """One server: its engine, its admission, and why it is no longer used, if so."""

    __slots__ = ("admission", "engine", "error", "lost", "reached", "troubled_at")

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine: Engine = engine
        self.reached: Reached | None = None
        self.admission: Admission = admission
        self.lost: str = ""
        self.error: OpenAIError | None = None
        self.troubled_at: float = math.inf
        """When the server began to do nothing but refuse and fail; ``inf`` while it works. An idle server is not in
        trouble, so that a slow source does not count."""

    def worked(self) -> None:
        """Note that the server works: it answered a row, or rejected it with a reason."""
        self.troubled_at = math.inf

    def struggled(self, now: float) -> None:
        """Note a refusal or a failure."""
        self.troubled_at = min(self.troubled_at, now)

    @property
    def url(self) -> str:
        return str(self.engine.config.base)

    def spend_retry(self, timed_out: bool) -> bool:
        """Pay for one retry; `False` if the server's budget does not allow it."""
        budget, cost = self.engine.upstream.budget, TIMEOUT_COST if timed_out else RETRY_COST
        enough = budget.tokens >= cost
        budget.spend(cost)
        return enough


def _shared_pace(limits: Limits | None) -> PacedCalls | None:
    """Return the pace of limits that plain calls or other processes share, if there is one."""
    if limits is not None and limits.pace is None and limits.shared is not None:
        limits.pace = PacedCalls(limits)
    return None if limits is None else cast("PacedCalls | None", limits.pace)


_Start: TypeAlias = tuple[Work, _ServerState, Flight]


class Scheduler:
    """Sends `Work` from a source and reports each outcome to a `Sink`. For one run.

    Args:
        engines: how the servers are reached: a client or an `Engine`, or a list of them.
        limits: `rpm` and `tpm` of each server; limits not set are learned from the server's responses. Its
    `max_in_flight` applies if `max_in_flight` is ``"auto"``.
        max_in_flight: rows in flight at each server; ``"auto"`` finds the number, `None` is no limit.
        retries: how often a row is sent again after a failure of a server or of the network.
        give_up_after: seconds after which the run stops if no server did anything but refuse (429) and fail.
        cache: rows with an answer in it are not sent; new answers are added to it.
        dedupe: whether equal requests are sent once; `None`: those with ``temperature`` 0.
        review: checks each answer before it counts.
    """

    lasting: bool = True
    """A run keeps its lease of shared limits to its end (see `Lessee`)."""

    def __init__(
        self,
        engines: Any,
        *,
        limits: Limits | None = None,
        max_in_flight: MaxInFlight = "auto",
        retries: int = RETRIES,
        give_up_after: float = GIVE_UP_AFTER,
        cache: AnswerCache | None = None,
        dedupe: bool | None = None,
        review: Review | None = None,
    ) -> None:
        many: list[Any] = list(engines) if engines.__class__ in (list, tuple) else [engines]
        if not many:
            raise ConfigurationError("a run needs at least one client")
        _check_options(limits, retries, give_up_after)
        self._servers = [_ServerState(engine_of(one), Admission()) for one in many]
        self._leases: Leases | None = None
        self._calls = _shared_pace(limits)
        self._rates: dict[str, float | None] = {"rpm": None, "tpm": None}
        self._retries = retries
        self._give_up_after = give_up_after
        self._review = review
        self._estimate = TokenEstimate()
        self._stats = Stats()
        self._rows = Meter(5.0)
        self._sent, self._spent = Meter(5.0), Meter(5.0)  # requests, tokens
        self._front: deque[Work] = deque()  # refused rows, which go before all others
        self._back: deque[Work] = deque()  # rows that let others go first
        self._waiting: dict[str, deque[Work]] = {}  # rows by model that wait for its limit
        self._passed_over = 0  # how many those are
        self._delayed: list[tuple[float, int, Work]] = []  # a heap of rows that pause before they are repeated
        self._order = itertools.count()
        self._reuse = AnswerReuse(cache, dedupe, review, self._finish, self._front.append)
        self._source: RowSource
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float = math.inf
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._stopped = ""
        self._stop_cause: tuple[OpenAIError | None, Work | None] = (None, None)
        self._missing = 0  # rows that were answered with 404
        self._loop: asyncio.AbstractEventLoop | None = None
        self.set_limits(
            rpm=None if limits is None else limits.rpm,
            tpm=None if limits is None else limits.tpm,
            max_in_flight=limits.max_in_flight or "auto" if limits and max_in_flight == "auto" else max_in_flight,
        )

    # ---------------------------------------------------------------- limits that other calls share

    async def _join(self) -> None:
        """Count rows against limits that plain calls or other processes share. Raises as `Leases.join` does."""
        if self._calls is None:
            return
        assert self._loop is not None
        pace = self._calls.pace(self._loop)
        if pace.leases is not None and not pace.leases.joined:
            pace.leases.change(self._rates["rpm"], self._rates["tpm"])
            await pace.leases.join()
        for server in self._servers:
            admission = server.admission
            admission.requests, admission.tokens, admission.share = pace.requests, pace.tokens, pace.share
            admission.models = self._calls.models(server.engine.upstream)
        self._leases = pace.leases

    # ---------------------------------------------------------------- limits and numbers

    def set_limits(
        self,
        *,
        rpm: float | Literal["same"] | None = "same",
        tpm: float | Literal["same"] | None = "same",
        max_in_flight: MaxInFlight | Literal["same"] = "same",
    ) -> None:
        """Change the limits of every server, also during the run.

        `None` removes a limit on requests or tokens per minute, so that it is learned from the server.
        """
        for name, per_minute in (("rpm", rpm), ("tpm", tpm)):
            if not isinstance(per_minute, str):
                self._rates[name] = None if per_minute is None else _positive(per_minute)
        for server in self._servers:
            admission = server.admission
            for pacer, per_minute in ((admission.requests, rpm), (admission.tokens, tpm)):
                if not isinstance(per_minute, str) and not (self._calls and self._calls.is_shared):
                    pacer.configured = math.inf if per_minute is None else _positive(per_minute) / 60.0
            if max_in_flight != "same":
                fixed = UNBOUNDED if max_in_flight is None else None if max_in_flight == "auto" else max_in_flight
                if fixed is not None and _positive(fixed) % 1:
                    raise ConfigurationError(f"max_in_flight is a whole number, not {fixed!r}")
                admission.slots.fixed = fixed
            if self._loop is not None:
                admission.requests.changed(self._loop.time())
                admission.tokens.changed(self._loop.time())
        if self._leases is not None:
            self._leases.change(self._rates["rpm"], self._rates["tpm"])
        if self._loop is not None:
            self._disarm()
            self._changed.set()

    def use_cache(self, cache: AnswerCache | None) -> None:
        """Use these answers, before the run."""
        self._reuse.cache = cache

    def count_failed(self) -> None:
        """Count a row of the source that could not be converted to `Work`."""
        self._stats.failed += 1

    @property
    def counts(self) -> Stats:
        """Return the same object as `stats`, without bringing its rates and shares up to date."""
        return self._stats

    @property
    def stats(self) -> Stats:
        """Return the current statistics of the run; every call returns the same object."""
        stats = self._stats
        if self._loop is None:
            return stats
        now = self._loop.time()
        alive = [server.admission for server in self._servers if not server.lost]
        stats.waiting = len(self._front) + len(self._back) + len(self._delayed)
        stats.limit_in_flight = sum(one.slots.slots() for one in alive)
        stats.rows_per_second = self._rows.rate(now)
        stats.rpm_share = _share(self._sent.rate(now), [one.limit("requests") for one in alive])
        stats.tpm_share = _share(self._spent.rate(now), [one.limit("tokens") for one in alive])
        return stats

    # ---------------------------------------------------------------- the run

    async def run(self, source: AsyncIterable[Work] | Iterable[Work], sink: Sink) -> Summary:
        """Send every row of the source; return when each is finished, or the run was stopped.

        Raises exceptions of the source once the rows in flight are finished, exceptions of the sink at once, and
        `ClientClosedError` if a client is closed meanwhile. Cancelling it cancels the rows in flight.
        """
        if self._loop is not None:
            raise RuntimeError("a scheduler runs once; make a new one")
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        await self._join()
        self._source = RowSource(source, self._source_advanced, self._fail)
        began = self._loop.time()
        for server in self._servers:
            server.reached = Reached(server.engine, self._client_closed)
            server.engine = server.reached.engine
        self._reuse.open(self._servers[0].engine)
        if self._leases is not None:
            self._leases.attach(self)
        try:
            await self._until_done()
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        return Summary(self.stats, self._loop.time() - began, self._stopped, *self._stop_cause)

    async def _until_done(self) -> None:
        sink, changed = self._sink, self._changed
        while True:
            changed.clear()
            self._reuse.served = 0
            self._pump()
            if not self._tasks and (self._stopped or self._failure is not None or self._is_empty()):
                return
            if sink.full and not self._stopped and self._failure is None:
                await sink.flushed()
            elif self._reuse.served >= BREATH:
                await asyncio.sleep(0)
            else:
                await changed.wait()

    async def _end(self) -> None:
        self._disarm()
        for task in self._tasks:
            task.cancel()
        self._source.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._leases is not None:
            await self._leases.release(self)
        self._stats.in_flight = 0  # of tasks that were cancelled before their first step
        await self._source.aclose()
        for server in self._servers:
            if server.reached is not None:
                await server.reached.aclose()
        await self._reuse.aclose()

    def stop(self, *, now: bool = False) -> None:
        """Start no further row; with `now`, also cancel those in flight. `run` returns when none is in flight."""
        self._stop("stop", None)
        if now:
            for task in self._tasks:
                task.cancel()

    def _stop(self, why: str, error: OpenAIError | None, work: Work | None = None) -> None:
        if not self._stopped:
            self._stopped, self._stop_cause = why, (error, work)
        self._changed.set()

    def _fail(self, error: BaseException) -> None:
        """End the run with an error of the sink or the source."""
        if self._failure is None:
            self._failure = error
        self._changed.set()

    def _client_closed(self) -> None:
        self._fail(ClientClosedError("the client was closed while a run was using it"))
        for task in self._tasks:
            task.cancel()

    # ---------------------------------------------------------------- waiting rows

    def _is_empty(self) -> bool:
        return self._source.is_empty and not (self._front or self._waiting or self._back or self._delayed)

    def rows(self) -> float:
        """Return how many rows could be sent soon: those known, or as many as there are slots while there are more."""
        slots = sum(one.admission.slots.slots() for one in self._servers if not one.lost)
        known = len(self._front) + len(self._back) + len(self._delayed) + self._passed_over
        return float(min(slots, known + self._source.known))

    def _next(self, now: float) -> Work | None:
        """Take the next row that was not refused; `None` if no such row waits now."""
        if self._delayed and self._delayed[0][0] <= now:
            return heapq.heappop(self._delayed)[2]
        reuse = self._reuse
        while self._failure is None and reuse.served < BREATH and not reuse.is_full:
            work = self._source.take()
            if work is None:
                break
            if not reuse.serve(work):
                return work
            if self._sink.full:
                return None
        return self._back.popleft() if self._back else None

    # ---------------------------------------------------------------- dispatch

    def _take(self) -> _Start | None:
        """Take a row and its server; return `None`, with a timer if needed, when none may be sent."""
        if self._stopped or self._failure is not None:
            return None
        if self._sink.full:
            self._changed.set()  # `_until_done` waits for room
            return None
        assert self._loop is not None
        now = self._loop.time()
        free: list[_ServerState] = []
        soonest = math.inf
        for server in self._servers:
            if server.lost:
                continue
            at = server.admission.free_at(now)
            if at <= now:
                free.append(server)
            elif at < soonest:
                soonest = at
        if soonest < math.inf and len(free) < len(self._servers):
            self._arm(soonest)
        if not free:
            return None
        start = self._pick(free, now)
        if start is None:
            if self._delayed:
                self._arm(self._delayed[0][0])
            if self._reuse.served >= BREATH:
                self._changed.set()
        return start

    def _pick(self, free: list[_ServerState], now: float) -> _Start | None:
        """Take the next row that one of these servers may be sent: refused rows first, then those that wait for their
        model's limit, then the others. Rows whose model has to wait are passed over, up to a bound."""
        while self._front:
            refused = self._front.popleft()
            if (start := self._start(refused, free, now)) is not None:
                return start
            self._waiting.setdefault(refused.model, deque()).appendleft(refused)
            self._passed_over += 1
        for model, line in self._waiting.items():
            if (start := self._start(line[0], free, now)) is not None:
                line.popleft()
                self._passed_over -= 1
                if not line:
                    del self._waiting[model]
                return start
        while self._passed_over < PASSED_OVER:
            work = self._next(now)
            if work is None:
                return None
            if (start := self._start(work, free, now)) is not None:
                return start
            self._waiting.setdefault(work.model, deque()).append(work)
            self._passed_over += 1
        return None

    def _start(self, work: Work, free: list[_ServerState], now: float) -> _Start | None:
        """Book a row at the server with the least expected wait; `None`, with a timer, if its model has to wait."""
        best: _ServerState | None = None
        soonest, least, model = math.inf, math.inf, work.model
        for server in free:
            admission = server.admission
            at = admission.models.of(model).due
            if at > now:
                soonest = min(soonest, at)
                continue
            wait = admission.latency * (admission.in_flight + 1) / admission.slots.slots()
            if best is None or wait < least:
                best, least = server, wait
        if best is None:
            self._arm(soonest)
            return None
        # The sink is notified here, not by the row's task, since it may limit the number of rows in flight.
        self._sink.started(work)
        stats = self._stats
        stats.in_flight += 1
        stats.requests += 1
        self._sent.add(now)
        tokens = work.tokens or self._estimate.of(work.request.body)
        return work, best, best.admission.start(now, tokens, model)

    def _arm(self, at: float) -> None:
        assert self._loop is not None
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        # uvloop returns a handle without `when` for a time that has come.
        self._timer, self._timer_at = self._loop.call_at(at, self._due), at

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._source_advanced()

    def granted(self) -> None:
        """Send rows, because there may be a new slice of shared limits."""
        self._source_advanced()

    def _source_advanced(self) -> None:
        self._pump()
        if not self._tasks:
            self._changed.set()  # perhaps that was the end of the source

    def _pump(self) -> None:
        """Start rows while any may be sent."""
        try:
            while (start := self._take()) is not None:
                assert self._loop is not None
                task = self._loop.create_task(self._work(start))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
        except Exception as error:  # of the sink, or of the cache
            self._fail(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # a middleware or a transport cancelled it: its row has no outcome
            if not self._stopped and self._failure is None:
                self._fail(OpenAIError("a call was cancelled from outside of the run, which cannot be completed"))
        elif (error := task.exception()) is not None:
            self._fail(error)
            for other in self._tasks:
                other.cancel()
        if not self._tasks:
            self._changed.set()

    # ---------------------------------------------------------------- one row

    async def _work(self, start: _Start | None) -> None:
        """Send a row, and further ones for as long as they may be sent."""
        while start is not None:
            await self._attempt(*start)
            # Rows that are answered in the same turn finish first: their lines are one write, before the next is sent.
            await _turn()
            start = self._take()
            if start is not None and start[1].admission.has_slots:
                self._pump()  # the limit has grown, or another server works again
        self._pump()

    async def _attempt(self, work: Work, server: _ServerState, flight: Flight) -> None:
        assert self._loop is not None
        stats, admission, loop = self._stats, server.admission, self._loop
        try:
            meta, outcome = await send(server.engine, work)
        except OpenAIError as error:
            stats.in_flight -= 1
            self._failed(work, server, flight, error)
            return
        except BaseException:
            stats.in_flight -= 1
            admission.left(loop.time(), flight)
            raise
        stats.in_flight -= 1
        now, usage = loop.time(), outcome.usage
        learn_limits(now, flight.pace, limits_of(meta), admission.share)
        if usage is None:
            admission.answered(now, flight)
        else:
            admission.answered(now, flight, usage.input + usage.output, usage.output)
            self._estimate.seen(work.request.body, usage)
            self._spent.add(now, usage.input + usage.output)
            stats.input_tokens += usage.input
            stats.output_tokens += usage.output
        server.worked()
        work.attempts += 1
        work.refusals = 0
        outcome.attempts = work.attempts
        if self._review is not None:
            reviewed = self._review.answered(work, outcome)
            if reviewed is None:
                stats.repaired += 1
                self._front.append(work)
                return
            outcome = reviewed
        self._finish(work, outcome)

    def _finish(self, work: Work, outcome: Outcome) -> None:
        assert self._loop is not None
        stats = self._stats
        if outcome.error is None:
            stats.ok += 1
            stats.cached += outcome.cached
        else:
            stats.failed += 1
        self._rows.add(self._loop.time())
        self._sink.finished(work, outcome)
        if work.cache_key is not None:
            self._reuse.share(work, outcome)

    # ---------------------------------------------------------------- failed attempts

    def _failed(self, work: Work, server: _ServerState, flight: Flight, error: OpenAIError) -> None:
        """Handle a failed attempt: retry the row, hold it back, or finish it."""
        assert self._loop is not None
        now, admission, stats = self._loop.time(), server.admission, self._stats
        if isinstance(error, ClientClosedError):
            admission.left(now, flight)
            self._fail(error)
        elif why := loses_server(error):
            admission.left(now, flight, works=True)
            self._front.appendleft(work)
            self._lose(server, why, error, work)
        elif isinstance(error, APIStatusError) and is_rate_limit(error.status_code, error.code, error.type):
            stats.refused += 1
            self._refused(work, server, flight, error)
        elif self._review is not None and (again := self._review.refused(work, error)) is not False:
            admission.left(now, flight, works=True)
            server.worked()
            if again:
                self._front.append(work)
            else:
                work.attempts += 1
                self._give_up(work, error)
        elif is_passing(error):
            self._repeat(work, server, flight, error)
        else:
            admission.left(now, flight, works=isinstance(error, APIStatusError))
            server.worked()
            work.attempts += 1
            self._give_up(work, error)
            self._missing += isinstance(error, NotFoundError)
            if self._missing >= MISSING and not stats.ok:
                self._stop("missing", error, work)

    def _refused(self, work: Work, server: _ServerState, flight: Flight, error: APIStatusError) -> None:
        """Handle a 429: the row waits at the front of the queue, after two in a row behind others."""
        assert self._loop is not None
        now, admission = self._loop.time(), server.admission
        limits = limits_of(error.meta)
        learn_limits(now, flight.pace, limits, admission.share)
        refusal = refusal_of(error, limits)
        if exceeds_limit(error):
            admission.left(now, flight, works=True)
            server.worked()
            work.attempts += 1
            self._give_up(work, error)
            return
        admission.refused(now, flight, refusal)
        server.struggled(now)
        work.refusals += 1
        if work.refusals % (REFUSALS + 1) == REFUSALS:
            self._back.append(work)
        else:
            self._front.append(work)
        self._check_alive(now, error, work)

    def _repeat(self, work: Work, server: _ServerState, flight: Flight, error: OpenAIError) -> None:
        """Handle a server or network failure: the row is sent again while it has retries left."""
        assert self._loop is not None
        now, breaker, pause = self._loop.time(), server.admission.breaker, pause_of(error)
        was_open = breaker.is_open
        if isinstance(error, APIResponseValidationError):
            server.admission.left(now, flight, works=True)
            server.worked()
        else:
            server.struggled(now)
            server.admission.failed(now, flight, pause)
            if not breaker.is_open and not server.spend_retry(isinstance(error, APITimeoutError)):
                breaker.open(now)
        if breaker.is_open:
            if not was_open:
                logger.warning("%s does not work: %s; rows wait for it", server.url, error)
            self._check_alive(now, error, work)
            if not (flight.probe and self._is_empty() and not self._tasks_besides()):
                self._stats.retried += 1
                self._back.append(work)
                return
        work.attempts += 1
        if work.attempts > self._retries:
            self._give_up(work, error)
            return
        self._stats.retried += 1
        wait = backoff(work.attempts - 1, random.random()) if pause is None else pause
        heapq.heappush(self._delayed, (now + wait, next(self._order), work))

    def _tasks_besides(self) -> bool:
        """Return whether other rows are in flight."""
        return len(self._tasks) > 1

    def _give_up(self, work: Work, error: OpenAIError) -> None:
        status = error.status_code if isinstance(error, APIStatusError) else None
        self._finish(
            work,
            Outcome(status=status, error=error, meta=error.meta, attempts=work.attempts, seconds=error.elapsed),
        )

    def _lose(self, server: _ServerState, why: str, error: OpenAIError, work: Work) -> None:
        """Stop using a server; the run stops when none is left."""
        if not server.lost:
            server.lost, server.error = why, error
            logger.warning("%s is no longer used: %s", server.url, error)
        if all(one.lost for one in self._servers):
            self._stop(why, error, work)

    def _check_alive(self, now: float, error: OpenAIError, work: Work) -> None:
        """Stop the run if no server has worked for `give_up_after` seconds, or each asks for a longer pause.

        A server that refuses every request for that long counts as dead, so that the run ends.
        """
        for server in self._servers:
            dead = now - server.troubled_at >= self._give_up_after
            if not (server.lost or dead or server.admission.held > now + self._give_up_after):
                return
        self._stop("dead", error, work)


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the event loop have one turn, as ``asyncio.sleep(0)`` does."""
    yield


def _share(rate: float, limits: list[float]) -> float | None:
    total = sum(limits)
    return rate / total if 0 < total < math.inf else None


def _positive(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"a limit is a number above 0, or None for no limit, not {value!r}")
    return value


def _check_options(limits: object, retries: object, give_up_after: object) -> None:
    """Raise `TypeError` or `ConfigurationError` for invalid options of a run."""
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ConfigurationError(f"retries is a whole number from 0 up, not {retries!r}")
    if not isinstance(give_up_after, (int, float)) or not give_up_after > 0:
        raise ConfigurationError(f"give_up_after is a number of seconds above 0, not {give_up_after!r}")


def engine_of(one: Any) -> Engine:
    """Return the engine of a client, or the engine itself. Raises `TypeError` for anything else."""
    engine: Any = one if isinstance(one, Engine) else getattr(one, "_calls", None)
    if not isinstance(engine, Engine):
        raise TypeError(f"a client is needed, not {type(one).__name__}")
    return engine
