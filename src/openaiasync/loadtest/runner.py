"""Runs a load test: an open loop, in which requests are sent on a schedule, or a closed loop of workers.

Every request has an instant at which it is due, fixed in absolute time, and all latencies count from it. In an open
loop a server that stalls does not slow the schedule down: the waiting of the requests that were due meanwhile is part
of the figures. (Tools that send a request only when the previous one was answered leave out these requests, which is
known as coordinated omission.) In a closed loop the next request of a worker is due when its answer was received.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from ..bulk.scheduler import engine_of
from ..bulk.sending import Reached
from ..engine.engine import Engine
from ..errors import ConfigurationError, OpenAIError
from ..transport.tcp import TcpTransport
from ..transport.timed import TimedExchange
from .load_requests import Workload
from .receipt import Received, kind_of, open_answer
from .results import Goals, Measured, RequestRecord, StageRecorder, StageResult
from .samples import USUAL, Distribution
from .schedule import Arrivals, arrivals, worker_starts
from .verdict import ClientMonitor, judge

__all__ = ["Load", "LoadTest"]

_FAILED_PAUSE, _LONGEST_PAUSE = 0.1, 1.0  # seconds that a worker waits after failures: a dead server fails at once
_GRACE = 0.25  # seconds after the end of the measurement in which overdue requests are still sent
_SPARE_FILES = 64  # open files that are left for everything except connections
_BATCH = 8  # overdue requests that are sent without a turn of the event loop in between


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One load: either `rate` (open loop) or `concurrency` (closed loop), until `duration` or `requests`."""

    concurrency: int | None = None
    """Workers, each with one request at a time."""
    rate: float | None = None
    """Requests per second."""
    arrivals: Arrivals = "poisson"
    """How the requests of an open loop are spaced."""
    max_in_flight: int | None = None
    """Most requests of an open loop that are under way; others wait, and their waiting counts."""
    ramp: float = 0.0
    """Seconds over which the load grows to its full size. They are not measured."""
    warmup: float = 0.0
    """Seconds at full load that are not measured."""
    duration: float | None = None
    """Seconds that are measured."""
    requests: int | None = None
    """Number of measured requests."""
    drain: float = 30.0
    """Seconds that requests under way get at the end; then they are given up."""
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigurationError` if this is not a load, or needs more connections than this process may open."""
        if (self.concurrency is None) == (self.rate is None):
            raise ConfigurationError("a load needs either a concurrency or a rate")
        if self.duration is None and self.requests is None:
            raise ConfigurationError("a load needs a duration or a number of requests")
        for name in ("concurrency", "rate", "max_in_flight", "duration", "requests"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"{name} must be a finite number above 0, not {value!r}")
        for name in ("ramp", "warmup", "drain"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name} must be a number of seconds, not {getattr(self, name)!r}")

        limit = connection_limit()
        if limit is not None and (self.concurrency or 0) > limit:
            raise ConfigurationError(
                f"a concurrency of {self.concurrency:,} needs more connections than this process may open "
                f"({limit:,}); raise its limit on open files (ulimit -n)"
            )

    def __str__(self) -> str:
        if self.rate is not None:
            limit = f", at most {self.max_in_flight} in flight" if self.max_in_flight else ""
            return f"rate {self.rate:g}/s{limit}"
        return f"concurrency {self.concurrency}"


def connection_limit() -> int | None:
    """Return how many connections this process may have; `None` without a limit, and on Windows."""
    try:
        import resource
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _SPARE_FILES)


class LoadTest:
    """Load tests of one server over separate connections: ``async with LoadTest(client, workload) as test``.

    `clock` must have the event loop's time base; the default is finer than the clock of uvloop.
    """

    def __init__(
        self,
        client: Any,
        workload: Workload,
        *,
        goals: Goals | None = None,
        percentiles: Sequence[float] = USUAL,
        on_request: Callable[[RequestRecord], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`percentiles` (from 0 to 100) are those of the report; `on_request` gets every request that has ended."""
        self._engine: Engine = engine_of(client)
        self._clock = clock
        self._setup = _Setup(workload, goals or Goals(), percentiles, on_request, clock)
        self._reached: Reached | None = None
        self._stage: _Stage | None = None
        self._sent = 0
        self.stopped: bool = False

    async def __aenter__(self) -> Self:
        self._reached = Reached(self._engine, self.stop)
        transport = self._reached.engine.shared.transport(self._reached.loop)
        if isinstance(transport, TcpTransport) and self._reached.engine.shared is not self._engine.shared:
            transport.exchange = functools.partial(TimedExchange, clock=self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reached is not None:
            await self._reached.aclose()

    async def check(self) -> Measured:
        """Send one request and return its figures. Raises the `OpenAIError` of a request that fails."""
        now = self._clock()
        one = Measured(due=now, sent=now)
        request = self._setup.workload.request(self._open_engine(), self._sent)
        self._sent += 1
        await (await open_answer(self._open_engine(), request, self._clock)).read(one)
        return one

    async def run(self, load: Load, on_progress: Callable[[StageRecorder, int], None] | None = None) -> StageResult:
        """Put a load on the server and return the figures; after `stop`, the figures up to that time.

        `on_progress` is called about twice a second with the recorder and the number of requests under way.
        """
        load.check()
        stage = self._stage = _Stage(self._open_engine(), self._setup, load, self._sent)
        if self.stopped:
            stage.stop()
        try:
            return await stage.run(on_progress)
        finally:
            self._sent = stage.number
            self._stage = None

    def stop(self) -> None:
        """End the stage under way, abandoning its requests, and prevent later ones."""
        self.stopped = True
        if self._stage is not None:
            self._stage.stop()

    def _open_engine(self) -> Engine:
        if self._reached is None:
            raise ConfigurationError("use a load test as `async with LoadTest(...)`")
        return self._reached.engine


def _median(one: Distribution | None) -> float | None:
    return None if one is None else one.p50


class _Setup(NamedTuple):
    """What all stages of a load test have in common."""

    workload: Workload
    goals: Goals
    percentiles: Sequence[float]
    on_request: Callable[[RequestRecord], None] | None
    clock: Callable[[], float]


class _Stage:
    """One load under way."""

    def __init__(self, engine: Engine, setup: _Setup, load: Load, number: int) -> None:
        self._engine, self._setup, self._load, self._clock = engine, setup, load, setup.clock
        self.number = number
        self._start = self._clock()
        self._measure_from = self._start + load.ramp + load.warmup
        timed = load.duration is not None and load.requests is None
        measure_to = self._measure_from + (load.duration or 0.0) if timed else None
        self._recorder = StageRecorder(self._start, self._measure_from, setup.goals, measure_to, setup.percentiles)
        self._monitor = ClientMonitor(self._clock)
        self._stopped = asyncio.Event()
        self._over = False  # nothing more is sent
        self._due = 0.0  # measured requests so far
        self._held_back = False  # a request had to wait for a slot
        self._unsent = 0.0  # those of the schedule that are never sent
        self._fault: BaseException | None = None
        self._under_way: dict[asyncio.Task[Any], Measured] = {}
        # Without files a process cannot even import: an open loop stops before that, and the verdict names the limit.
        limits = [one for one in (load.max_in_flight, connection_limit()) if one is not None]
        self._most: int | None = min(limits, default=None)
        self._slots = None if self._most is None or load.rate is None else asyncio.Semaphore(self._most)
        self._arrived: deque[tuple[Received, Measured]] = deque()
        self._arrival, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()

    def stop(self) -> None:
        """End at once."""
        self._over = True
        self._stopped.set()

    async def run(self, on_progress: Callable[[StageRecorder, int], None] | None) -> StageResult:
        load = self._load
        reader = asyncio.create_task(self._read_arrived())
        reporter = asyncio.create_task(self._report(on_progress)) if on_progress is not None else None
        starting = asyncio.get_running_loop().call_later(
            max(0.0, self._measure_from - self._clock()), self._monitor.start
        )
        if self._measure_from <= self._start:
            self._monitor.start()
        try:
            sending = asyncio.create_task(self._closed() if load.concurrency is not None else self._open())
            await self._unless_stopped(sending, None)
            self._over = True
            client = self._monitor.load(self._recorder.late)
            self._monitor.stop()
            if self._stopped.is_set():
                self._recorder.close_window(self._clock())
            await self._finish()
        finally:
            starting.cancel()
            self._monitor.stop()
            for task in (*self._under_way, reader, *((reporter,) if reporter else ())):
                task.cancel()
            await asyncio.gather(*self._under_way, reader, *((reporter,) if reporter else ()), return_exceptions=True)
        return self._result(msgspec.structs.replace(client, late=self._recorder.late.summary()))

    def _result(self, client: Any) -> StageResult:
        load, recorder = self._load, self._recorder
        result = recorder.result(
            load=str(load),
            concurrency=load.concurrency,
            rate=load.rate,
            requests=load.requests,
            max_in_flight=load.max_in_flight,
            unsent=round(self._unsent),
            client=client,
            interrupted=self._stopped.is_set(),
        )
        expected = None if load.rate is None or load.requests is not None or result.interrupted else load.rate
        # The schedule is random: what was due within the window is what the client had to send.
        if expected is not None:
            expected = self._due / result.seconds
        result.verdict = judge(
            client,
            start=_median(result.ttft or result.latency),
            gap=_median(result.itl),
            rate=expected,
            sent_rate=result.sent_rate,
            held_back=self._held_back,
            most_connections=self._most if self._held_back and self._most != load.max_in_flight else None,
        )
        return result

    # ---------------------------------------------------------------- loops

    def _wanted(self, due: float) -> bool:
        """Return whether a request that is due at this time belongs to the load; count it if it is measured."""
        load = self._load
        if self._over or (load.duration is not None and due >= self._measure_from + load.duration):
            return False
        if due >= self._measure_from:
            if load.requests is not None and self._due >= load.requests:
                return False
            self._due += 1
        return True

    async def _open(self) -> None:
        load, behind = self._load, 0
        end = None if load.duration is None else self._measure_from + load.duration
        for offset in arrivals(load.rate or 1.0, kind=load.arrivals, ramp=load.ramp, seed=load.seed):
            due = self._start + offset
            if not self._wanted(due):
                break
            behind = 0 if await self._until(due) else behind + 1
            if behind and not behind % _BATCH:
                await asyncio.sleep(0)
            if self._over:
                break
            if end is not None and self._clock() > end + _GRACE:
                # Too late: what is still due would be sent after the end, however long that takes.
                self._unsent = 1 + (load.rate or 0.0) * (end - due)
                self._due += self._unsent - 1
                break
            self._spawn(Measured(due=due))
        if end is not None and load.requests is None:
            await self._until(end)

    async def _closed(self) -> None:
        load = self._load
        workers = [
            asyncio.create_task(self._work(self._start + offset))
            for offset in worker_starts(load.concurrency or 1, load.ramp)
        ]
        end = None if load.duration is None else self._measure_from + load.duration
        try:
            await self._unless_stopped(asyncio.ensure_future(asyncio.wait(set(workers))), end)
            self._over = True
        finally:
            for worker in workers:
                if worker not in self._under_way:
                    worker.cancel()

    async def _work(self, due: float) -> None:
        """Send one request after the other.

        They share this task, so that a request is sent in the turn of the event loop in which the previous answer was
        received.
        """
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(self._ended)
        failures = 0
        await self._until(due)
        while self._wanted(due):
            one = self._under_way[task] = Measured(due=due)
            await self._send(one)
            self._under_way.pop(task, None)
            if not one.kind:
                failures, due = 0, one.end
                continue
            failures += 1
            await asyncio.sleep(min(_FAILED_PAUSE * failures, _LONGEST_PAUSE))
            due = self._clock()

    async def _until(self, due: float) -> bool:
        """Wait until the clock shows `due`; return whether there was time to wait."""
        waited = False
        while (left := due - self._clock()) > 0 and not self._over:
            waited = True
            await asyncio.sleep(left)
        return waited

    # ---------------------------------------------------------------- requests

    def _spawn(self, one: Measured) -> None:
        task = asyncio.create_task(self._send(one))
        self._under_way[task] = one
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault  # a request that cannot be made, or a fault of this library
            self.stop()

    async def _send(self, one: Measured) -> None:
        number, self.number = self.number, self.number + 1
        began = self._clock()
        one.late = max(0.0, began - one.due)
        slots = self._slots
        if slots is not None and slots.locked():
            self._held_back = True
            async with slots:
                one.queued = self._clock() - began
                await self._exchange(one, number)
        else:
            async with slots or contextlib.nullcontext():
                await self._exchange(one, number)

    async def _exchange(self, one: Measured, number: int) -> None:
        try:
            request = self._setup.workload.request(self._engine, number)
            one.sent = self._clock()
            received = await open_answer(self._engine, request, self._clock)
            one.end = received.end
            if received.complete:
                self._arrived.append((received, one))
                self._arrival.set()
                self._idle.clear()
            else:
                await self._read(received, one)
        except OpenAIError as error:
            one.kind, one.words = kind_of(error)
            one.end = self._clock()
            self._add(one, [])

    async def _read_arrived(self) -> None:
        """Decode what has arrived, one answer after the other."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            while self._arrived:
                await self._read(*self._arrived.popleft())
            self._idle.set()

    async def _read(self, received: Received, one: Measured) -> None:
        gaps: list[float] = []
        try:
            gaps = await received.read(one)
        except OpenAIError as error:
            one.kind, one.words = kind_of(error)
        self._add(one, gaps)

    def _add(self, one: Measured, gaps: list[float]) -> None:
        self._recorder.add(one, gaps)
        if self._setup.on_request is not None:
            self._setup.on_request(self._recorder.record(str(self._load), one, gaps))

    # ---------------------------------------------------------------- the end

    async def _unless_stopped(self, work: asyncio.Future[Any], at: float | None) -> None:
        """Wait for `work`, but not beyond `at`, nor after `stop`; then cancel it. Raises its exception."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        timeout = None if at is None else max(0.0, at - self._clock())
        try:
            await asyncio.wait({work, stopped}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and not work.cancelled():
                work.result()
        finally:
            stopped.cancel()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _finish(self) -> None:
        """Wait for the requests under way, and abandon those that take longer than `drain`."""
        if self._under_way and not self._stopped.is_set():
            ended = asyncio.ensure_future(asyncio.wait(set(self._under_way)))
            await self._unless_stopped(ended, self._clock() + self._load.drain)
        for task, one in list(self._under_way.items()):
            task.cancel()
            one.end = self._clock()
            self._recorder.give_up(one)
        if self._under_way:
            await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._idle.wait()
        if self._fault is not None:
            raise self._fault

    async def _report(self, on_progress: Callable[[StageRecorder, int], None]) -> None:
        while True:
            on_progress(self._recorder, len(self._under_way))
            await asyncio.sleep(0.5)
