"""The cost of a job: the price of each answer, and a limit against which rows are booked before they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..core.policy.estimate import TokenEstimate, Usage
from ..storage.threads import in_thread
from .batch_file import output_limit_of
from .progress import TokenPrice, price_for
from .row import Work

__all__ = ["JobCost"]

_FIRST = 4  # rows in flight before any answer shows how long answers are
_FADING = 0.98  # of the largest booking, with every further one


class JobCost:
    """The cost of a job so far, and of its rows in flight.

    Args:
        spent: dollars of earlier runs; `None` where no price is known.
        prices: a table of the caller, see `price_for`.
        limit: dollars that the job may cost; `None`: no limit, and nothing is booked.
    """

    def __init__(self, spent: float | None, prices: Mapping[str, Any] | None, limit: float | None) -> None:
        self.spent: float | None = spent
        self._prices = prices
        self._limit = limit
        self._priced: dict[str, TokenPrice | None] = {}
        self._unpriced: dict[str, Usage] = {}  # tokens by model, of models whose price is not looked up yet
        self._estimate = TokenEstimate()
        self._answers = 0
        self._booked: dict[int, float] = {}  # by row, for those that were sent and are not finished
        self._total = 0.0  # of these
        self._next = 0.0  # what another row is likely to cost: the largest of late

    @property
    def booked(self) -> int:
        """The number of rows that were sent and are not finished."""
        return len(self._booked)

    @property
    def is_spent(self) -> bool:
        """Whether the limit leaves nothing for another row."""
        return self._limit is not None and (self.spent or 0.0) + self._total + self._next > self._limit

    @property
    def is_over(self) -> bool:
        """Whether the limit was reached, even if nothing more is sent."""
        return self._limit is not None and (self.spent or 0.0) >= self._limit

    @property
    def is_booked_up(self) -> bool:
        """Whether another row has to wait for those in flight, which may cost less than was booked for them."""
        return self.is_spent or (self._limit is not None and not self._answers and len(self._booked) >= _FIRST)

    def _price(self, model: str) -> TokenPrice | None:
        if model not in self._priced:
            self._priced[model] = price_for(model, self._prices)
        return self._priced[model]

    def _expected(self, work: Work) -> float:
        """Return what a row is likely to cost, with an answer as long as nine of ten so far, or its own limit."""
        price = self._price(work.model) or (0.0, 0.0)
        body: Any = work.request.body
        prompt, answer = self._estimate.parts(body)
        most = output_limit_of(body)
        if most is not None and (not self._answers or most < answer):
            answer = most
        return (prompt * price[0] + answer * price[1]) / 1e6

    def book(self, work: Work) -> None:
        """Book a row that is about to be sent."""
        if self._limit is None or work.index in self._booked:
            return
        cost = self._booked[work.index] = self._expected(work)
        self._total += cost
        self._next = max(_FADING * self._next, cost)

    def settle(self, work: Work) -> None:
        """Release what was booked for a row that has finished."""
        if self._limit is not None:
            self._total -= self._booked.pop(work.index, 0.0)
            if not self._booked:
                self._total = 0.0  # no sum of rounding errors

    def learn(self, work: Work, usage: Usage) -> None:
        """Note the tokens of an answer, for the estimates of further rows."""
        if self._limit is not None:
            self._answers += 1
            self._estimate.seen(work.request.body, usage)
            if self._answers == 1:
                self._next = self._expected(work)  # until now it followed from limits, which answers seldom reach

    def add(self, model: str, usage: Usage) -> bool:
        """Add the cost of an answer; return `False` where its price is not known, but a limit is to be kept."""
        if model not in self._priced and self._prices is None and self._limit is None:
            before = self._unpriced.get(model, Usage(0, 0))
            self._unpriced[model] = Usage(before.input + usage.input, before.output + usage.output)
            return True
        price = self._price(model)
        if price is None:
            return self._limit is None
        self.spent = (self.spent or 0.0) + (usage.input * price[0] + usage.output * price[1]) / 1e6
        return True

    async def look_up(self) -> None:
        """Look up the prices of models that have answered since the last call, and add what they cost.

        In a thread: ``genai-prices`` takes a third of a second to import.
        """
        while self._unpriced:
            model = next(iter(self._unpriced))
            self._priced[model] = await in_thread(partial(price_for, model, None))
            self.add(model, self._unpriced.pop(model))
