"""A stage for ``Dataset.map_batches`` of Ray Data: each row of a batch is a request, and gets its answer as columns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec

from ..bulk.batch_file import BodyFields, as_object, endpoint_at, request_of
from ..bulk.row import Outcome, Work
from ..bulk.scheduler import GIVE_UP_AFTER, RETRIES, MaxInFlight, Scheduler
from ..bulk.tables import CellError, TableOptions, body_of, flat
from ..core.model.plain import parse_json
from ..errors import ConfigurationError
from .worker_options import WorkerOptions

__all__ = ["Requests"]

_COLUMNS = ("text", "finish_reason", "input_tokens", "output_tokens", "error")
_STOPPED = {
    "quota": "the account's quota is used up",
    "credentials": "the servers refuse the key",
    "missing": "the first rows were all answered with 404",
    "dead": "no server has answered for too long",
}
_log = logging.getLogger("openaiasync")


class _PendingRow:
    """A row in the scheduler, and the future of the batch that waits for it."""

    __slots__ = ("done", "work")

    def __init__(self, work: Work, done: asyncio.Future[Outcome]) -> None:
        self.work = work
        self.done = done


class Requests:
    """A callable class for ``map_batches``: it sends a request for each row, and adds the answers as columns.

    ``ds.map_batches(Requests, fn_constructor_kwargs={"prompt": "Classify: {text}", "model": "m"}, concurrency=2)``

    The rows of all batches go through one scheduler, which keeps its slots full from batch to batch, waits for rate
    limits, and repeats what failed. A row that fails for good has its error in a column; it never ends the data set.

    Columns that are added: ``text``, ``finish_reason``, ``input_tokens``, ``output_tokens``, ``error`` (null for an
    answered row), and ``embedding`` for ``/v1/embeddings``. The key is read from the environment of the workers, or
    printed there by `key_command`; arguments of this class are visible in Ray.

    Args:
        prompt: template of the user's message, with columns in braces. Without it, rows have a column ``messages`` (or
            ``input``, ``prompt``), or ``body`` with the JSON of a whole request.
        system: template of the system prompt.
        url: the endpoint. Default: ``/v1/chat/completions``.
        model: for requests that name none.
        params: further fields of the requests.
        base_url: the server, or several. Default: ``OPENAI_BASE_URL`` of the workers, or OpenAI's API.
        timeout: seconds until an answer starts. Default: 120.
        key_command: a command that prints the key, run on the workers.
        rpm, tpm: requests and tokens per minute of each server, for each worker, unless `shared`.
        shared: the URL of an allowance that all workers share. Default: ``OPENAIASYNC_SHARED`` of the workers.
        max_in_flight: rows in flight in each worker: a number, or ``"auto"``. Default: 64.
        retries: how often a row is sent again after a failure of the server or the network. Default: 5.
        give_up_after: seconds after which rows fail if servers do nothing but refuse and fail. Default: 600.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        system: str | None = None,
        url: str = "/v1/chat/completions",
        model: str | None = None,
        params: Mapping[str, Any] | None = None,
        base_url: str | list[str] | None = None,
        timeout: float | None = None,
        key_command: str | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        shared: str | None = None,
        max_in_flight: MaxInFlight = 64,
        retries: int = RETRIES,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        endpoint = endpoint_at(url)
        if endpoint is None:
            raise ConfigurationError(f"url is not an endpoint for rows: {url!r}")
        self._endpoint = endpoint
        self._table = None if prompt is None else TableOptions(prompt, system, url=url)
        self._defaults: dict[str, Any] = dict(params or {}) | ({} if model is None else {"model": model})
        urls = [base_url] if isinstance(base_url, str) else list(base_url or [])
        self._worker = WorkerOptions(
            base_url=urls, timeout=timeout, key_command=key_command, rpm=rpm, tpm=tpm, shared=shared
        )
        self._worker.check()
        self._in_flight: MaxInFlight = max_in_flight
        self._retries, self._give_up_after = retries, give_up_after
        self._clients = self._worker.clients()  # raises without a key, before the first row
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[_PendingRow] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._index = 0
        self._waiting: set[asyncio.Future[Outcome]] = set()
        self._over: str = ""

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with the columns of its answers."""
        self._start()
        names = list(batch)
        count = len(batch[names[0]]) if names else 0
        rows = [self._send({name: _plain(batch[name][at]) for name in names}) for at in range(count)]
        answers = [await row if isinstance(row, asyncio.Future) else row for row in rows]
        columns = [*_COLUMNS, *(("embedding",) if self._endpoint.group == "embedding" else ())]
        found = [self._fields(answer) for answer in answers]
        return {**batch, **{name: [row.get(name) for row in found] for name in columns}}

    async def aclose(self) -> None:
        """End the run and close the connections; rows that wait fail. Ray ends the process without calling this."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    # ---------------------------------------------------------------- rows

    def _send(self, row: dict[str, Any]) -> asyncio.Future[Outcome] | str:
        """Put a row into the scheduler; return the future of its outcome, or why it cannot be sent."""
        if self._over:
            return self._over
        try:
            body = {**self._defaults, **self._body_of(row)}
            encoded = msgspec.json.encode(body, enc_hook=_plain)
        except KeyError as error:
            return f"there is no column {error.args[0]!r}; columns are {', '.join(row)}"
        except (CellError, TypeError, ValueError) as error:
            return f"the row cannot be sent: {error}"
        fields = (
            msgspec.convert(body, BodyFields, strict=False) if self._endpoint.group == "embedding" else BodyFields()
        )
        request = request_of(self._endpoint, encoded, fields)
        assert self._loop is not None
        waiting = _PendingRow(
            Work(str(self._index), self._index, request, model=str(body.get("model") or "")), self._loop.create_future()
        )
        waiting.work.context = waiting
        self._index += 1
        self._waiting.add(waiting.done)
        self._queue.put_nowait(waiting)
        return waiting.done

    def _body_of(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._table is not None:
            return body_of(row, self._table)
        if (whole := row.get("body")) is not None:
            body = msgspec.json.decode(whole) if isinstance(whole, (str, bytes)) else whole
            if not isinstance(body, dict):
                raise ValueError("its body is not a JSON object")
            return cast("dict[str, Any]", body)
        for name in ("messages", "input", "prompt"):
            if row.get(name) is not None:
                return {name: row[name]}
        raise ValueError("it has neither a column body, messages, input or prompt; or pass prompt= with a template")

    def _fields(self, answer: Outcome | str) -> dict[str, Any]:
        if isinstance(answer, str):
            return {"error": answer}
        if answer.error is not None:
            return {"error": f"{type(answer.error).__name__}: {answer.error}"}
        body = as_object(parse_json(answer.answer.to_json(indent=None).encode()))  # a server may have sent NaN
        return flat({"custom_id": "", "response": {"body": body}, "error": None})

    # ---------------------------------------------------------------- the scheduler

    def _start(self) -> None:
        """Begin the run that all batches share."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._loop, self._queue = loop, asyncio.Queue()
        scheduler = Scheduler(
            self._clients,
            limits=self._worker.limits(),
            max_in_flight=self._in_flight,
            retries=self._retries,
            give_up_after=self._give_up_after,
            dedupe=False,
        )
        self._running = loop.create_task(self._run(scheduler))

    async def _rows(self) -> AsyncIterator[Work]:
        while True:
            yield (await self._queue.get()).work

    async def _run(self, scheduler: Scheduler) -> None:
        """Run until the scheduler gives up, and let all rows fail from then on."""
        try:
            summary = await scheduler.run(self._rows(), self)
            why = _STOPPED.get(summary.stopped, summary.stopped or "stopped")
            self._over = f"not sent: {why}{f' ({summary.error})' if summary.error else ''}"
        except Exception as error:  # a fault must not end the data set either
            self._over = f"not sent: {type(error).__name__}: {error}"
        finally:
            if self._over:
                _log.error("all further rows fail: %s", self._over)
            failed = self._over or "not sent: closed"
            for done in self._waiting:
                if not done.done():
                    done.set_result(Outcome(error=ConfigurationError(failed)))
            self._waiting.clear()

    # The scheduler's sink.

    @property
    def full(self) -> bool:
        """Whether no further row may be started: never, as Ray limits the batches."""
        return False

    async def flushed(self) -> None:
        """Return at once."""

    def started(self, work: Work) -> None:
        """Do nothing: the data set's blocks are the only record of its rows."""

    def finished(self, work: Work, outcome: Outcome) -> None:
        """Hand the outcome to the batch of the row."""
        waiting: _PendingRow = work.context
        self._waiting.discard(waiting.done)
        if not waiting.done.done():
            waiting.done.set_result(outcome)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar or array as a value of Python."""
    return value.tolist() if hasattr(value, "tolist") else value
