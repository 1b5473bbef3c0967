"""Reuse of answers in a run: rows that the cache answers, and equal rows, of which one is sent."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.answer_cache import AnswerCache, is_repeatable, request_key
from ..engine.engine import Engine
from ..errors import OpenAIError
from .row import Outcome, Review, Work
from .sending import replay

__all__ = ["AnswerReuse"]

COPIES = 1024  # rows that wait for equal ones in flight, above which no further row is taken


class AnswerReuse:
    """The answers that rows of one run share.

    Args:
        cache: rows with an answer in it are not sent; new answers are added to it.
        dedupe: whether equal requests are sent once; `None`: those with ``temperature`` 0.
        review: checks an answer again for each row that it is given to.
        finish: takes the final outcome of a row that was not sent.
        resend: takes a row that waited for an equal one in vain, and has to be sent.
    """

    def __init__(
        self,
        cache: AnswerCache | None,
        dedupe: bool | None,
        review: Review | None,
        finish: Callable[[Work, Outcome], None],
        resend: Callable[[Work], None],
    ) -> None:
        self.cache: AnswerCache | None = cache
        self.served: int = 0
        """Rows that needed no request; the scheduler sets it to 0 when other tasks get a turn."""
        self._dedupe = dedupe
        self._review = review
        self._finish = finish
        self._resend = resend
        self._copies: dict[bytes, list[Work]] = {}  # rows that wait for an equal one that is in flight
        self._copied = 0  # how many those are
        self._temporary: AnswerCache | None = None  # answers of this run, if there is no cache

    def open(self, engine: Engine) -> None:
        """Start the run; `engine` decodes stored answers."""
        self._engine = engine
        if self.cache is None and self._dedupe is not False:
            self._temporary = AnswerCache()

    async def aclose(self) -> None:
        """Delete the answers that only this run used."""
        if self._temporary is not None:
            await self._temporary.aclose()

    @property
    def is_full(self) -> bool:
        """Whether so many rows wait for equal ones that no further row may be taken."""
        return self._copied >= COPIES

    def _is_sent_once(self, work: Work) -> bool:
        return is_repeatable(work.request.body) if self._dedupe is None else self._dedupe

    def serve(self, work: Work) -> bool:
        """Finish a row from the cache, or let it wait for an equal one; return `False` if it has to be sent."""
        known = self.cache or self._temporary
        if known is None or (self.cache is None and not self._is_sent_once(work)):
            return False
        key = request_key(work.request.endpoint.name, work.request.body)
        if key is None:
            return False
        work.cache_key = key
        body = known.get(key)
        if body is not None:
            try:
                outcome = replay(self._engine, work, body)
            except OpenAIError:
                return False  # written by another version, or damaged
            if self._review is not None and self._review.answered(work, outcome) is not outcome:
                return False
            self.served += 1
            self._finish(work, outcome)
            return True
        if not self._is_sent_once(work):
            return False
        copies = self._copies.get(key)
        if copies is None:
            self._copies[key] = []
            return False
        copies.append(work)
        self._copied += 1
        self.served += 1
        return True

    def share(self, work: Work, outcome: Outcome) -> None:
        """Store an answer and pass it to the rows that wait for it; after a failure, send the next of them."""
        key = work.cache_key
        if key is None or outcome.cached:
            return
        known = self.cache or self._temporary
        if known is not None and outcome.error is None and outcome.body is not None:
            known.put(key, outcome.body)
        copies = self._copies.pop(key, None)
        if not copies:
            return
        if outcome.error is not None or outcome.body is None:
            self._copies[key] = copies[1:]
            self._copied -= 1
            self._resend(copies[0])
            return
        self._copied -= len(copies)
        for copy in copies:
            shared = replay(self._engine, copy, outcome.body)
            if self._review is not None and self._review.answered(copy, shared) is not shared:
                self._resend(copy)
            else:
                self._finish(copy, shared)
