"""The scheduler: sends rows as fast as servers take them, and loses none to their limits and faults.

Nothing exists for a row that waits but its `Work`: rows are read from the source when they can be sent. A row in flight
has a task, which goes on with the next row as long as one may be sent; where limits decide, one timer starts the next.
What may be sent when is decided by one `Admission` for each server, without I/O (`core/policy/admission.py`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from time import time as wall_clock
from typing import Any, Literal

from ..core.policy.admission import Admission, Flight
from ..core.policy.limits import Limits
from ..core.policy.retry import backoff, is_rate_limit, retryable_status, server_pause
from ..engine.engine import Engine
from ..errors import APIConnectionError, APIError, APIStatusError, OpenAIError
from .row import Outcome, Sink, Stats, Summary, Work
from .sending import send

__all__ = ["Scheduler", "engine_of"]

RETRIES = 5  # attempts after the first one
GIVE_UP_AFTER = 600.0  # seconds
SLOTS = 64  # in flight, for each server
AHEAD = 256  # rows of an asynchronous source that are read before they can be sent
REFUSALS = 2  # 429s in a row after which a row lets others go first


class _Server:
    """One server: the engine that reaches it, and what it may be sent."""

    __slots__ = ("admission", "engine", "lost")

    def __init__(self, engine: Engine, admission: Admission) -> None:
        self.engine = engine
        self.admission = admission
        self.lost: OpenAIError | None = None  # why it is not asked any more


class Scheduler:
    """Sends `Work` from a source and tells a `Sink` what became of each row.

    Args:
        engines: how the servers are reached: an engine, several, or a client.
        limits: `Limits` for each server; what it leaves open is learned from the servers.
        max_in_flight: rows in flight at each server; ``"auto"`` finds the number, `None` is no limit.
        retries: how often a row that failed through the fault of a server or of the network is sent again.
        give_up_after: seconds without any working server after which the run stops.
    """

    def __init__(
        self,
        engines: Any,
        *,
        limits: Limits | None = None,
        max_in_flight: int | Literal["auto"] | None = "auto",
        retries: int = RETRIES,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        reached: Sequence[Any] = engines if isinstance(engines, (list, tuple)) else (engines,)
        slots = max_in_flight if isinstance(max_in_flight, int) else SLOTS
        self._servers = [_Server(engine_of(one), Admission(slots=slots)) for one in reached]
        self._retries = retries
        self._give_up_after = give_up_after
        self.stats: Stats = Stats()
        self._front: deque[Work] = deque()  # refused rows, which go before all others
        self._back: deque[Work] = deque()  # rows whose turn comes after the next one of the source
        self._delayed: list[tuple[float, int, Work]] = []  # a heap of rows that pause before they are repeated
        self._order = itertools.count()
        self._source: Iterator[Work] | None = None
        self._buffer: deque[Work] = deque()
        self._exhausted = False
        self._reader: asyncio.Task[None] | None = None
        self._room: asyncio.Event = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Event = asyncio.Event()
        self._failure: BaseException | None = None
        self._stopped = ""
        self._error: OpenAIError | None = None

    # ---------------------------------------------------------------- the run

    async def run(self, source: AsyncIterable[Work] | Iterable[Work], sink: Sink) -> Summary:
        """Send every row of the source; return when each is finished, or the run was stopped.

        Raises what the source or the sink raises: what the source raises once the rows in flight are finished, what
        the sink raises at once. Cancelled, it cancels the rows in flight.
        """
        self._loop = asyncio.get_running_loop()
        self._sink = sink
        began = self._loop.time()
        if isinstance(source, AsyncIterable):
            self._reader = self._loop.create_task(self._read(source))
        else:
            self._source = iter(source)
        try:
            await self._until_done()
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        return Summary(self.stats, self._loop.time() - began, self._stopped, self._error)

    async def _until_done(self) -> None:
        sink, changed = self._sink, self._changed
        while True:
            changed.clear()
            self._pump()
            if not self._tasks and (self._stopped or self._failure is not None or self._is_empty()):
                return
            if sink.full and not self._stopped:
                await sink.flushed()
                continue
            await changed.wait()

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = [*self._tasks, *([] if self._reader is None else [self._reader])]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def stop(self, *, now: bool = False) -> None:
        """Start no further row; with `now` cancel those in flight, too. `run` returns when none is left."""
        self._stop("stop", None)
        if now:
            for task in self._tasks:
                task.cancel()

    def _stop(self, why: str, error: OpenAIError | None) -> None:
        if not self._stopped:
            self._stopped, self._error = why, error
        self._changed.set()

    def _fail(self, error: BaseException) -> None:
        """End the run with an error of the sink or the source."""
        if self._failure is None:
            self._failure = error
        self._changed.set()

    # ---------------------------------------------------------------- the source

    async def _read(self, source: AsyncIterable[Work]) -> None:
        """Read an asynchronous source ahead, as far as there is room."""
        try:
            async for work in source:
                self._buffer.append(work)
                self._pump()
                while len(self._buffer) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._fail(error)
        finally:
            self._exhausted = True
            self._changed.set()

    def _is_empty(self) -> bool:
        return self._exhausted and not (self._front or self._back or self._delayed or self._buffer)

    def _next(self, now: float) -> Work | None:
        """Take the row whose turn it is; `None` if there is none now."""
        if self._front:
            return self._front.popleft()
        if self._delayed and self._delayed[0][0] <= now:
            return heapq.heappop(self._delayed)[2]
        if self._failure is None:
            if self._buffer:
                work = self._buffer.popleft()
                if len(self._buffer) <= AHEAD // 2:
                    self._room.set()
                return work
            if self._source is not None and not self._exhausted:
                try:
                    return next(self._source)
                except StopIteration:
                    self._exhausted = True
                except Exception as error:
                    self._exhausted = True
                    self._fail(error)
        if self._back:
            return self._back.popleft()
        return None

    # ---------------------------------------------------------------- who is sent where

    def _take(self) -> tuple[Work, _Server, Flight] | None:
        """Take a row and the server that it is to be sent to; `None` (and a timer, if need be) if none may be sent."""
        if self._stopped or self._sink.full:
            self._changed.set()
            return None
        now = self._loop.time()
        work = self._next(now)
        if work is None:
            if self._delayed:
                self._arm(self._delayed[0][0])
            return None
        best: _Server | None = None
        soonest, least = math.inf, math.inf
        for server in self._servers:
            if server.lost is not None:
                continue
            admission = server.admission
            at = admission.ready_at(work.tokens)
            if at > now:
                soonest = min(soonest, at)
                continue
            wait = admission.latency * (admission.in_flight + 1) / admission.slots
            if best is None or wait < least:
                best, least = server, wait
        if best is not None:
            return work, best, best.admission.start(now, work.tokens)
        self._front.appendleft(work)
        if soonest < math.inf:
            self._arm(soonest)
        return None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._due)

    def _due(self) -> None:
        self._timer = None
        self._pump()

    def _pump(self) -> None:
        """Start rows as long as one may be sent."""
        while (started := self._take()) is not None:
            task = self._loop.create_task(self._work(*started))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        if not self._tasks:
            self._changed.set()

    # ---------------------------------------------------------------- one row

    async def _work(self, work: Work, server: _Server, flight: Flight) -> None:
        """Send a row, and further ones for as long as they may be sent."""
        started: tuple[Work, _Server, Flight] | None = (work, server, flight)
        while started is not None:
            await self._attempt(*started)
            started = self._take()
        self._pump()

    async def _attempt(self, work: Work, server: _Server, flight: Flight) -> None:
        stats, admission, loop = self.stats, server.admission, self._loop
        self._sink.started(work)
        stats.in_flight += 1
        stats.requests += 1
        try:
            _, outcome = await send(server.engine, work)
        except OpenAIError as error:
            stats.in_flight -= 1
            self._failed(work, server, flight, error)
            return
        except BaseException:
            stats.in_flight -= 1
            admission.left(loop.time(), flight)
            raise
        stats.in_flight -= 1
        usage = outcome.usage
        admission.answered(loop.time(), flight, None if usage is None else usage.input + usage.output)
        work.attempts += 1
        outcome.attempts = work.attempts
        self._finish(work, outcome)

    def _finish(self, work: Work, outcome: Outcome) -> None:
        stats, usage = self.stats, outcome.usage
        if outcome.error is None:
            stats.ok += 1
        else:
            stats.failed += 1
        if usage is not None and not outcome.cached:
            stats.input_tokens += usage.input
            stats.output_tokens += usage.output
        self._sink.finished(work, outcome)

    def _failed(self, work: Work, server: _Server, flight: Flight, error: OpenAIError) -> None:
        """Decide what becomes of a row whose attempt failed: it waits, is repeated, or has failed for good."""
        now, admission = self._loop.time(), server.admission
        status = error.status_code if isinstance(error, APIStatusError) else None
        pause = server_pause(error.response.headers, wall_clock()) if isinstance(error, APIStatusError) else None
        if isinstance(error, APIError) and "insufficient_quota" in (error.code, error.type):
            admission.left(now, flight, works=True)
            self._front.appendleft(work)
            self._stop("quota", error)
            return
        if isinstance(error, APIStatusError) and is_rate_limit(error.status_code, error.code, error.type):
            self.stats.refused += 1
            admission.refused(now, flight, pause)
            work.refusals += 1
            if work.refusals % (REFUSALS + 1) < REFUSALS:
                self._front.appendleft(work)
            else:
                self._back.append(work)
            return
        work.refusals = 0
        if not _is_passing(error):
            admission.left(now, flight, works=status is not None)
            work.attempts += 1
            self._give_up(work, error)
            return
        admission.failed(now, flight, pause)
        if admission.breaker.is_open and not (flight.probe and self._is_empty()):
            self.stats.retried += 1
            self._back.append(work)  # the server's fault, not the row's
            return
        work.attempts += 1
        if work.attempts > self._retries:
            self._give_up(work, error)
            return
        self.stats.retried += 1
        wait = backoff(work.attempts - 1, random.random()) if pause is None else pause
        heapq.heappush(self._delayed, (now + wait, next(self._order), work))

    def _give_up(self, work: Work, error: OpenAIError) -> None:
        status = error.status_code if isinstance(error, APIStatusError) else None
        request_id = None if error.meta is None else error.meta.request_id
        self._finish(
            work,
            Outcome(status=status, error=error, request_id=request_id, attempts=work.attempts, seconds=error.elapsed),
        )


def _is_passing(error: OpenAIError) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, APIStatusError):
        return retryable_status(error.status_code, error.response.headers, error.code, error.type)
    return error.retryable or isinstance(error, APIConnectionError)


def engine_of(one: Any) -> Engine:
    """Return the engine of a client, or the engine itself. Raises `TypeError` for anything else."""
    engine: Any = one if isinstance(one, Engine) else getattr(one, "_calls", None)
    if not isinstance(engine, Engine):
        raise TypeError(f"a client is needed, not {type(one).__name__}")
    return engine
