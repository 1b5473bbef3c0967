"""What a session has used: tokens, and what they cost by a table of prices; a budget that is never passed knowingly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

from ..errors import ConfigurationError
from .errors import BudgetError
from .tokens import token_count

__all__ = ["Price", "Prices", "SessionUsage", "UsageTracker"]

_MILLION = 1_000_000
ANY = "*"


class Price(msgspec.Struct, frozen=True):
    """What a million tokens cost, in any currency: of the prompt, of the answer, and of the prompt's cached part.

    Without `cached`, tokens that the server had in its cache cost what others do.
    """

    input: float
    output: float
    cached: float | None = None


Prices: TypeAlias = Price | Mapping[str, Price | Mapping[str, float] | tuple[float, ...]]
"""One price for all models, or a price for each: a `Price`, its fields as a dict, or ``(input, output[, cached])``.

A name also stands for its dated versions ("gpt-4o-mini" for "gpt-4o-mini-2024-07-18"); "*" for all others.
"""


class SessionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has used so far, failed turns and summaries included.

    `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of `completion_tokens`. `cost` is in the currency of
    the prices, `None` without prices. Of the `requests`, `estimated` had no usable count from the server, as those that
    failed after they were sent, so that their tokens are an estimate; `unpriced` were to a model without a price, so
    that `cost` leaves them out.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    estimated: int = 0
    unpriced: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers together."""
        return self.prompt_tokens + self.completion_tokens


def _price_of(model: str, given: Any) -> Price:
    if isinstance(given, Price):
        price = given
    else:
        try:
            price = Price(*cast("Any", given)) if isinstance(given, (tuple, list)) else Price(**given)
        except TypeError:
            raise ConfigurationError(
                f"prices[{model!r}] is {given!r}; give Price(input=…, output=…), per million tokens, or such a dict"
            ) from None
    for name, value in (("input", price.input), ("output", price.output), ("cached", price.cached or 0)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ConfigurationError(f"prices[{model!r}]: {name} is a number from 0 up, not {value!r}")
    return price


def _table(prices: Any) -> dict[str, Price] | None:
    if prices is None:
        return None
    if isinstance(prices, Price):
        return {ANY: _price_of(ANY, prices)}
    if not isinstance(prices, Mapping):
        raise ConfigurationError(f"prices is a Price, or a dict of model names to prices, not {prices!r}")
    given: Mapping[Any, Any] = cast("Any", prices)
    return {str(model): _price_of(str(model), price) for model, price in given.items()}


def _count(usage: Any, name: str, detail: str = "") -> int | None:
    """A number of a server's usage; `None` where it left it out, or it cannot be one."""
    if detail:
        usage, name = getattr(usage, name, None), detail
    return token_count(getattr(usage, name, None))


class UsageTracker:
    """The account of one session."""

    def __init__(self, prices: Prices | None = None, budget: float | None = None) -> None:
        self.prices: dict[str, Price] | None = _table(prices)
        if budget is not None:
            if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
                raise ConfigurationError(f"budget is an amount above 0, in the currency of the prices, not {budget!r}")
            if self.prices is None:
                raise ConfigurationError("budget needs prices: what a million tokens of each model cost")
        self.budget = budget
        self.total: SessionUsage = SessionUsage(cost=None if self.prices is None else 0.0)

    def fork(self) -> UsageTracker:
        """An account of its own that begins with what was used so far."""
        other = UsageTracker.__new__(UsageTracker)
        other.prices, other.budget, other.total = self.prices, self.budget, self.total
        return other

    def price(self, model: str) -> Price | None:
        """The price of a model: by its name, by the longest name that it is a version of, or the one for all."""
        prices = self.prices or {}
        found = prices.get(model)
        if found is None:
            versions = [
                name for name in prices if name != ANY and model.startswith((f"{name}-", f"{name}:", f"{name}@"))
            ]
            found = prices.get(max(versions, key=len)) if versions else prices.get(ANY)
        return found

    def check(self, model: str, prompt_tokens: int, answer_tokens: int = 0) -> None:
        """Before a request of so many tokens: `BudgetError` if the budget is spent or would be passed.

        `answer_tokens` is the most that the answer may take, 0 where no limit was given. Raises `ConfigurationError`
        for a model that has no price, where there is a budget.
        """
        if self.budget is None:
            return
        price = self.price(model)
        if price is None:
            raise ConfigurationError(
                f"there is a budget, but prices has no {model!r}; add it, or {ANY!r} for all models"
            )
        spent = self.total.cost or 0.0
        needed = (prompt_tokens * price.input + answer_tokens * price.output) / _MILLION
        if spent >= self.budget or spent + needed > self.budget:
            raise BudgetError(spent=spent, needed=needed, budget=self.budget)

    def add(self, model: str, usage: Any, estimate: tuple[int, int]) -> None:
        """Count an answer: by the server's `usage`, and what that does not tell by the `estimate` of prompt and answer.

        A prompt of no tokens was not counted; an answer may have none.
        """
        prompt, answer = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        counted = bool(prompt) and answer is not None
        if not prompt:
            prompt = max(0, estimate[0])
        if answer is None or not (answer or counted):
            answer = max(0, estimate[1])
        cached = min(prompt, _count(usage, "prompt_tokens_details", "cached_tokens") or 0)
        total = self.total
        cost, unpriced = total.cost, total.unpriced
        if self.prices is not None:
            price = self.price(model)
            if price is None:
                unpriced += 1
            else:
                of_cached = price.input if price.cached is None else price.cached
                spent = (prompt - cached) * price.input + cached * of_cached + answer * price.output
                cost = (cost or 0.0) + spent / _MILLION
        self.total = SessionUsage(
            requests=total.requests + 1,
            prompt_tokens=total.prompt_tokens + prompt,
            completion_tokens=total.completion_tokens + answer,
            cached_tokens=total.cached_tokens + cached,
            reasoning_tokens=total.reasoning_tokens
            + (_count(usage, "completion_tokens_details", "reasoning_tokens") or 0),
            cost=cost,
            estimated=total.estimated + (not counted),
            unpriced=unpriced,
        )

    def restore(self, total: SessionUsage) -> None:
        """Go on from what a saved session had used; its cost is forgotten where there are no prices now."""
        cost = None if self.prices is None else total.cost or 0.0
        self.total = msgspec.structs.replace(total, cost=cost)
