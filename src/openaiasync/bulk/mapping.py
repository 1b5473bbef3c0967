"""`client.map`: many rows as many calls, in a list or as they complete."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec

from ..core.codec.endpoint import Endpoint, Request
from ..core.model.closing import AsyncClosing
from ..core.policy.estimate import Usage, model_of
from ..core.policy.limits import Limits
from ..endpoints import (
    CHAT_COMPLETIONS_CREATE,
    COMPLETIONS_CREATE,
    EMBEDDINGS_CREATE,
    MODERATIONS_CREATE,
    RESPONSES_CREATE,
)
from ..engine.answer_cache import AnswerCache
from ..engine.engine import Engine
from ..errors import ConfigurationError, OpenAIError, Side
from .repair import Into
from .row import Outcome, Stats, Summary, Work
from .scheduler import MaxInFlight, Scheduler
from .sources import rows_of

__all__ = ["Call", "ManyCallsError", "MapOptions", "Operation", "Row", "RowError", "RowStream"]

A = TypeVar("A")
P = TypeVar("P")

Operation = Literal["chat", "completions", "embeddings", "responses", "moderations"]
Call = str | list[Any] | Mapping[str, Any]

_SHOWN = 40  # characters of the text in the repr of a row
AHEAD = 256  # finished rows not yet taken by the iterating task; above this nothing new is sent
_OPERATIONS: dict[str, tuple[Endpoint, str]] = {
    "chat": (CHAT_COMPLETIONS_CREATE, "messages"),
    "completions": (COMPLETIONS_CREATE, "prompt"),
    "embeddings": (EMBEDDINGS_CREATE, "input"),
    "responses": (RESPONSES_CREATE, "input"),
    "moderations": (MODERATIONS_CREATE, "input"),
}
_WHY = {
    "quota": "the account's quota is used up",
    "credentials": "the key was refused",
    "missing": "the server knows neither the model nor the path of the first rows",
    "dead": "no server has worked for too long",
}


class RowError(OpenAIError, ValueError):
    """A row contains a value that JSON cannot represent: a lone surrogate, an infinite number. It was not sent."""


class ManyCallsError(OpenAIError):
    """A run was stopped before its end: a quota is used up, a key is refused, a model is unknown, or no server works.

    If `client.map` was awaited, `rows` are the finished ones in the order of the input. `reason` is
    ``"quota"``, ``"credentials"``, ``"missing"`` (404 for the first rows) or ``"dead"``. The error that stopped the run
    is the ``__cause__``.
    """

    def __init__(self, message: str, *, reason: str, rows: list[Row[Any, Any]], cause: OpenAIError | None) -> None:
        super().__init__(message)
        self.reason: str = reason
        self.rows: list[Row[Any, Any]] = rows
        self.side: Side = "server" if cause is None else cause.side
        self.retryable: bool = reason == "dead"


class Row(Generic[A, P]):
    """The result of one row of `client.map`."""

    __slots__ = ("_answer", "_parsed", "attempts", "cached", "error", "index", "item", "key", "seconds", "usage")

    def __init__(self, index: int, key: Any, item: Any, outcome: Outcome) -> None:
        self.index: int = index
        """Its position in the input, from 0."""
        self.key: Any = key
        """Its key, by ``key=``; by default its index."""
        self.item: Any = item
        """The row as given."""
        self.error: OpenAIError | None = outcome.error
        """Why the row has no answer; `None` if it has one."""
        self.attempts: int = outcome.attempts
        """The number of attempts, not counting 429s."""
        self.cached: bool = outcome.cached
        """Whether the answer is from the cache or an equal row."""
        self.seconds: float = outcome.seconds
        """The duration of the last attempt in seconds."""
        self.usage: Usage | None = outcome.usage
        """Tokens as the server counted them: `input` and `output`."""
        self._answer: Any = outcome.answer
        self._parsed: Any = outcome.parsed

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def answer(self) -> A:
        """The answer, as a single call returns it. Raises the row's `error` if it failed."""
        if self.error is not None:
            raise self.error
        return cast("A", self._answer)

    @property
    def parsed(self) -> P:
        """The answer as a value of the type given as ``into=``, else `None`. Raises the row's `error`."""
        if self.error is not None:
            raise self.error
        return cast("P", self._parsed)

    @property
    def text(self) -> str:
        """The answer's text. Raises the row's `error`; `AttributeError` for embeddings and moderations."""
        answer: Any = self.answer
        text = getattr(answer, "output_text", None)
        return text if isinstance(text, str) else str(answer.text)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over pairs, for ``dict(row)`` and frameworks that turn an object into JSON by it.

        `error` is the error's text, `usage` a dict, and `answer` and `parsed` are `None` in a failed row.
        """
        for name in ("index", "key", "item", "attempts", "cached", "seconds"):
            yield name, getattr(self, name)
        yield "error", None if self.error is None else str(self.error)
        yield "usage", None if self.usage is None else {"input": self.usage.input, "output": self.usage.output}
        yield "answer", self._answer
        parsed = self._parsed
        yield "parsed", msgspec.to_builtins(parsed) if isinstance(parsed, msgspec.Struct) else parsed

    def __repr__(self) -> str:
        if self.error is not None:
            what = f"error={self.error!r}"
        else:
            try:
                text = " ".join(self.text.split())
                what = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
            except AttributeError:  # embeddings and moderations have no text
                what = "ok"
        return f"<Row {self.key!r} {what} attempts={self.attempts}>"


class MapOptions(NamedTuple):
    """The options of a run of `client.map`, which documents them."""

    make: Callable[[Any], Any] | None = None
    key: str | Callable[[Any], Any] | None = None
    operation: Operation = "chat"
    into: Any = None
    repair: int = 1
    limits: Limits | None = None
    max_in_flight: MaxInFlight = "auto"
    retries: int = 5
    give_up_after: float = 600.0
    cache: str | os.PathLike[str] | AnswerCache | None = None
    dedupe: bool | None = None


class RowStream(AsyncClosing, Generic[A, P]):
    """The rows of one `client.map`. Await it for all of them in order, or iterate it for each as it completes.

    Iteration holds a few hundred rows at most: while finished rows are not taken, no further ones are sent. Leaving the
    loop ends the calls in flight soon after; leaving an ``async with`` around it, at once.
    """

    def __init__(self, engines: list[Engine], source: Any, options: MapOptions, params: dict[str, Any]) -> None:
        if options.operation not in _OPERATIONS:
            raise ValueError(f"endpoint is one of {', '.join(map(repr, _OPERATIONS))}, not {options.operation!r}")
        self._engines = engines
        self._endpoint, self._main = _OPERATIONS[options.operation]
        self._items = rows_of(source)
        self._options = options
        self._params = params
        self._into = None if options.into is None else Into(options.into, options.repair)
        self._default_model = ""
        self._done: deque[Row[A, P]] = deque()
        self._all = False
        self._used = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        # A weak reference: the run must not keep this object alive, since leaving the loop over its rows frees it and
        # so ends the run.
        self._rows: weakref.ref[AsyncGenerator[Row[A, P], None]] | None = None
        self._task: asyncio.Task[Summary] | None = None
        self._scheduler = Scheduler(
            engines,
            limits=options.limits or getattr(engines[0].config, "limits", None),
            max_in_flight=options.max_in_flight,
            retries=options.retries,
            give_up_after=options.give_up_after,
            dedupe=options.dedupe,
            review=self._into,
        )

    # ---------------------------------------------------------------- for callers

    def __await__(self) -> Generator[Any, None, list[Row[A, P]]]:
        return self._list().__await__()

    def __aiter__(self) -> AsyncIterator[Row[A, P]]:
        rows = self._iterate()
        self._rows = weakref.ref(rows)
        return rows

    async def aclose(self) -> None:
        """End the calls in flight. Idempotent."""
        rows = None if self._rows is None else self._rows()
        if rows is not None:
            await rows.aclose()
        if self._task is not None:  # the loop was left: the run ends by itself a little later
            await _end(self._task)

    @property
    def stats(self) -> Stats:
        """The current statistics of the run."""
        return self._scheduler.stats

    def set_limits(self, **limits: Any) -> None:
        """Change `rpm`, `tpm` or `max_in_flight` during the run."""
        self._scheduler.set_limits(**limits)

    def stop(self) -> None:
        """Send no further row; those in flight finish, and iteration ends after them."""
        self._scheduler.stop()

    def __repr__(self) -> str:
        stats = self.stats
        state = f"{stats.ok} ok, {stats.failed} failed" if self._used else "not started"
        return f"<RowStream of {self._options.operation}: {state}>"

    # ---------------------------------------------------------------- the run

    def _begin(self) -> None:
        if self._used:
            raise RuntimeError("the rows of a map() can be iterated or awaited only once; call map() again")
        self._used = True

    async def _list(self) -> list[Row[A, P]]:
        self._begin()
        self._all = True
        summary = await self._run()
        rows = sorted(self._done, key=lambda row: row.index)
        if summary.stopped in _WHY:
            raise self._stopped(summary, rows)
        return rows

    async def _iterate(self) -> AsyncGenerator[Row[A, P], None]:
        self._begin()
        run = self._task = asyncio.create_task(self._run())
        run.add_done_callback(lambda _: self._news.set())
        try:
            while not run.done() or self._done:
                while self._done:
                    yield self._done.popleft()
                    if len(self._done) <= AHEAD // 2:
                        self._room.set()
                self._news.clear()
                if not run.done():
                    await self._news.wait()
            summary = run.result()
            if summary.stopped in _WHY:
                raise self._stopped(summary, [])
        finally:
            await _end(run)
            self._task = None  # its traceback holds the source

    async def _run(self) -> Summary:
        cache = self._options.cache
        own = None if cache is None or isinstance(cache, AnswerCache) else AnswerCache(cache)
        self._scheduler.use_cache(own or (cache if isinstance(cache, AnswerCache) else None))
        try:
            items, self._items = self._items, ()
            works = self._works_of(items) if isinstance(items, AsyncIterable) else self._works(items)
            del items  # the run alone holds the source, which is freed with it
            return await self._scheduler.run(works, self)
        finally:
            if own is not None:
                await own.aclose()

    def _stopped(self, summary: Summary, rows: list[Row[A, P]]) -> ManyCallsError:
        stats = summary.stats
        message = f"stopped after {stats.ok} rows with an answer and {stats.failed} that failed: "
        error = ManyCallsError(
            f"{message}{_WHY[summary.stopped]}: {summary.error}",
            reason=summary.stopped,
            rows=cast("list[Row[Any, Any]]", rows),
            cause=summary.error,
        )
        error.__cause__ = summary.error
        return error

    # ---------------------------------------------------------------- requests

    def _works(self, items: Iterable[Any]) -> Iterator[Work]:
        for index, item in enumerate(items):
            work = self._work(index, item)
            if work is not None:
                yield work

    async def _works_of(self, items: AsyncIterable[Any]) -> AsyncIterator[Work]:
        index = 0
        async for item in items:
            work = self._work(index, item)
            if work is not None:
                yield work
            index += 1

    def _work(self, index: int, item: Any) -> Work | None:
        """Return a row's work; `None` for a row that JSON cannot represent, which fails."""
        options, key = self._options, cast("Any", index)
        if options.key is not None:
            key = item[options.key] if isinstance(options.key, str) else options.key(item)
        made = item if options.make is None else options.make(item)
        params = self._params_of(made)
        try:
            request = self._request(params, index)
        except ValueError as error:
            failure = RowError(f"row {index} cannot be sent: {error}")
            self._finish(index, key, item, Outcome(error=failure))
            self._scheduler.count_failed()
            return None
        model = params.get("model")
        if not isinstance(model, str):
            model = self._default_model = self._default_model or model_of(request.body)
        return Work(str(key), index, request, context=(key, item), model=model)

    def _params_of(self, made: Any) -> dict[str, Any]:
        if isinstance(made, Mapping):
            return {**self._params, **cast("Mapping[str, Any]", made)}
        if self._main == "messages" and isinstance(made, str):
            made = [{"role": "user", "content": made}]
        elif not isinstance(made, (str, list)):
            raise TypeError(
                f"a row is a text, a list or a dict with the parameters of its request, not {type(made).__name__}: "
                "pass a function that makes one, map(rows, lambda row: {...})"
            )
        return {**self._params, self._main: made}

    def _request(self, params: dict[str, Any], index: int) -> Request:
        if params.get("stream"):
            raise TypeError("map() returns whole answers and does not take stream=True")
        request = self._engines[0].request(self._endpoint, params)
        if self._into is not None:
            self._into.prepare(request, index)
        return request

    # ---------------------------------------------------------------- the scheduler's sink

    @property
    def full(self) -> bool:
        """Whether finished rows wait to be taken."""
        return len(self._done) >= AHEAD and not self._all

    def started(self, work: Work) -> None:
        """Do nothing; rows in flight are not recorded."""

    def finished(self, work: Work, outcome: Outcome) -> None:
        """Queue a finished row for the caller."""
        key, item = work.context
        self._finish(work.index, key, item, outcome)

    def _finish(self, index: int, key: Any, item: Any, outcome: Outcome) -> None:
        self._done.append(Row(index, key, item, outcome))
        if not self._news.is_set():
            self._news.set()

    async def flushed(self) -> None:
        """Wait until rows were taken."""
        while self.full:
            self._room.clear()
            await self._room.wait()


async def _end(run: asyncio.Task[Summary]) -> None:
    run.cancel()
    await asyncio.wait({run})
    if not run.cancelled():
        run.exception()  # the caller has left


def engines_of(engine: Engine, others: Iterable[Any]) -> list[Engine]:
    """Return the engines of a run: the client's own, and those of further clients."""
    from .scheduler import engine_of

    found = [engine, *engine.others]
    for one in map(engine_of, others):
        found += [one, *one.others]
    if any(one.raw for one in found):
        raise ConfigurationError("map() makes many calls and has no raw response")
    return found
