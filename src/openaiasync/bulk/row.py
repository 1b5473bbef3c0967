"""The types around the scheduler: `Work`, `Outcome`, `Sink`, and the statistics of a run."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple, Protocol

from ..core.codec.endpoint import Request
from ..core.model.meta import Meta
from ..core.policy.estimate import Usage
from ..errors import OpenAIError

__all__ = ["Outcome", "Review", "Sink", "Stats", "Summary", "Usage", "Work"]


class Work:
    """One row in the scheduler. A waiting row consists of this object alone.

    Args:
        key: the name of the row: ``custom_id`` of a file, the key of `client.map`.
        index: position in the input, from 0.
        request: what is sent. Its options (timeouts, headers) apply; its `max_retries` is ignored.
        tokens: tokens to book against a token limit: an estimate of prompt and answer together; 0 lets the
            scheduler estimate it.
        idempotency_key: sent as ``Idempotency-Key`` with every attempt, `None` for no such header.
        context: any value of the caller's; the scheduler ignores it.
        model: its model, as servers limit each model separately; ``""`` where that is not known.
    """

    __slots__ = (
        "attempts", "cache_key", "context", "idempotency_key", "index", "key", "model", "refusals", "request",
        "tokens",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        index: int,
        request: Request,
        tokens: int = 0,
        idempotency_key: str | None = None,
        context: Any = None,
        model: str = "",
    ) -> None:
        self.key: str = key
        self.index: int = index
        self.request: Request = request
        self.tokens: int = tokens
        self.idempotency_key: str | None = idempotency_key
        self.context: Any = context
        self.model: str = model
        self.attempts: int = 0
        """Attempts so far that count against the retries; attempts answered with 429 do not."""
        self.refusals: int = 0
        """How often in a row the server answered 429."""
        self.cache_key: bytes | None = None
        """The key of equal rows, set by the scheduler."""

    def __repr__(self) -> str:
        return f"<Work {self.key!r} #{self.index} {self.request!r} attempts={self.attempts}>"


class Outcome:
    """The final outcome of a row.

    Attributes:
        ok: whether there is an answer.
        status: the HTTP status of the last attempt, `None` where no response came.
        body: the server's bytes of a 2xx, else `None`.
        answer: the decoded answer of a 2xx, else `None`.
        parsed: the answer as a value of the requested type, if any.
        error: why there is no answer, else `None`.
        meta: metadata of the last attempt, `None` without a response.
        usage: tokens as the server counted them, `None` where it did not.
        attempts: how often the row was sent, 429s not counted; 0 for a row from the cache.
        seconds: how long the last attempt took.
        cached: whether the answer comes from the cache, or from an equal row of the same run.
    """

    __slots__ = ("answer", "attempts", "body", "cached", "error", "meta", "parsed", "seconds", "status", "usage")

    def __init__(
        self,
        *,
        status: int | None = None,
        body: bytes | None = None,
        answer: Any = None,
        error: OpenAIError | None = None,
        meta: Meta | None = None,
        usage: Usage | None = None,
        attempts: int = 0,
        seconds: float = 0.0,
        cached: bool = False,
    ) -> None:
        self.status: int | None = status
        self.body: bytes | None = body
        self.answer: Any = answer
        self.parsed: Any = None
        self.error: OpenAIError | None = error
        self.meta: Meta | None = meta
        self.usage: Usage | None = usage
        self.attempts: int = attempts
        self.seconds: float = seconds
        self.cached: bool = cached

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def request_id(self) -> str | None:
        """The server's request id (``x-request-id``)."""
        return None if self.meta is None else self.meta.request_id

    def __repr__(self) -> str:
        what = "ok" if self.error is None else type(self.error).__name__
        return f"<Outcome {what} status={self.status} attempts={self.attempts} seconds={self.seconds:.3f}>"


class Sink(Protocol):
    """Receives the outcomes of rows. An exception in its methods ends the run and cancels rows in flight."""

    @property
    def full(self) -> bool:
        """Return whether no further row may be started before `flushed` returns."""
        ...

    def started(self, work: Work) -> None:
        """Note that the row is about to be sent. Called for every attempt."""
        ...

    def finished(self, work: Work, outcome: Outcome) -> None:
        """Take the final outcome of a row."""
        ...

    def flushed(self) -> Awaitable[None]:
        """Wait until there is room again; awaited while `full`."""
        ...


class Review(Protocol):
    """Reviews outcomes before they are final."""

    def answered(self, work: Work, outcome: Outcome) -> Outcome | None:
        """Return the final outcome, or `None` if ``work.request`` was changed and the row is to be sent again."""
        ...

    def refused(self, work: Work, error: OpenAIError) -> bool | None:
        """Return True if ``work.request`` was changed and the row is to be sent again, which is not a failure.

        `None` means that the row has failed and is not repeated; `False` leaves the decision to the scheduler.
        """
        ...


class Stats:
    """The statistics of a run, updated while it runs."""

    def __init__(self) -> None:
        self.ok: int = 0
        """Rows with an answer, those from the cache included."""
        self.failed: int = 0
        """Rows that failed for good."""
        self.cached: int = 0
        """Rows served from the cache or by an equal row."""
        self.in_flight: int = 0
        """Rows in flight now."""
        self.waiting: int = 0
        """Rows that were refused or failed and are to be sent again."""
        self.requests: int = 0
        """Requests sent, each attempt counted."""
        self.refused: int = 0
        """Requests that were answered with 429."""
        self.retried: int = 0
        """Requests that failed in another way and were repeated."""
        self.repaired: int = 0
        """Requests that were repeated because an answer did not have the requested form."""
        self.input_tokens: int = 0
        """Tokens of prompts, as the servers counted them."""
        self.output_tokens: int = 0
        """Tokens of answers, as the servers counted them."""
        self.limit_in_flight: int | None = None
        """How many rows may be in flight now, over all servers; `None`: no limit."""
        self.rpm_share: float | None = None
        """Share of the requests a minute in use, from 0 to 1; `None` where no limit is known."""
        self.tpm_share: float | None = None
        """Share of the tokens a minute in use, from 0 to 1; `None` where no limit is known."""
        self.rows_per_second: float = 0.0
        """Rows finished a second, over the last seconds."""

    @property
    def finished(self) -> int:
        """Rows that are done, with or without an answer."""
        return self.ok + self.failed


class Summary(NamedTuple):
    """How a run ended.

    `stopped` is ``""`` if every row of the source is finished; otherwise the reason why rows are left: ``"stop"``
    (`Scheduler.stop` was called), ``"quota"`` (the account's quota is used up), ``"credentials"`` (every server refuses
    the key), ``"missing"`` (the first rows were all answered with 404), ``"dead"`` (every server did
    nothing but refuse and fail for `give_up_after` seconds). `error` is the error that stopped it, if any, and `work`
    the row that got it.
    """

    stats: Stats
    seconds: float
    stopped: str = ""
    error: OpenAIError | None = None
    work: Work | None = None
