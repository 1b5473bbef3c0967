"""What a session used and cost, and budgets that stop before the call that would pass them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from openaiasync import ConfigurationError, OpenAIError
from openaiasync.chat.usage import BudgetError, Price, SessionUsage, UsageTracker
from openaiasync.types import CompletionUsage
from openaiasync.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

PRICES = {"small": (1.0, 2.0), "small-large": {"input": 10, "output": 20}, "*": Price(100, 200, 50)}


def usage(prompt: int, answer: int, cached: int | None = None, thought: int | None = None) -> CompletionUsage:
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        total_tokens=prompt + answer,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=thought),
    )


def test_tokens_and_cost_add_up() -> None:
    """Prompt, answer, cached and reasoning tokens; cost by each model's price."""
    spend = UsageTracker(PRICES)
    spend.add("small", usage(1000, 500, 100, 50), (0, 0))
    spend.add("other", usage(1000, 500, 100, 50), (0, 0))
    assert spend.total == SessionUsage(
        requests=2,
        prompt_tokens=2000,
        completion_tokens=1000,
        cached_tokens=200,
        reasoning_tokens=100,
        cost=spend.total.cost,
    )
    assert spend.total.total_tokens == 3000
    assert spend.total.cost == pytest.approx(0.002 + (900 * 100 + 100 * 50 + 500 * 200) / 1e6)


@pytest.mark.parametrize(
    "given", [None, object(), CompletionUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)]
)
def test_what_no_server_counted_is_estimated_and_said_so(given: Any) -> None:
    """Servers that give no usage do not make everything free."""
    spend = UsageTracker(PRICES)
    spend.add("small", given, (1_000_000, 10))
    assert spend.total.estimated == 1
    assert spend.total.prompt_tokens == 1_000_000
    assert spend.total.cost == pytest.approx(1.00002)


NOT_COUNTS = [10**15, 10**400, -5, 1.5, math.nan, math.inf, -math.inf, 1e300, True, "7", None, [], {}]


@pytest.mark.parametrize("value", NOT_COUNTS)
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_garbled_usage_is_estimated(value: Any, field: str) -> None:
    """A number that no request takes neither uses up a budget for ever nor makes a request free."""
    strange = usage(5, 5)
    setattr(strange, field, value)
    spend = UsageTracker(PRICES, budget=1)
    spend.add("small", strange, (3, 4))
    assert getattr(spend.total, field) == (3 if field == "prompt_tokens" else 4)
    assert spend.total.total_tokens == (8 if field == "prompt_tokens" else 9)
    assert spend.total.estimated == 1
    spend.check("small", 1_000)


@pytest.mark.parametrize("value", NOT_COUNTS)
def test_garbled_details_count_nothing(value: Any) -> None:
    """They are parts of what was counted."""
    strange = usage(5, 5, value, value)
    spend = UsageTracker(PRICES)
    spend.add("small", strange, (3, 4))
    assert (spend.total.cached_tokens, spend.total.reasoning_tokens, spend.total.estimated) == (0, 0, 0)
    strange.prompt_tokens_details = value
    spend.add("small", strange, (3, 4))
    assert spend.total.cached_tokens == 0


def test_an_answer_of_no_tokens_is_counted() -> None:
    """A refusal says nothing; whole floats are numbers."""
    spend = UsageTracker(PRICES)
    spend.add("small", usage(5.0, 0), (3, 4))  # type: ignore[arg-type]  # servers send it
    assert (spend.total.prompt_tokens, spend.total.completion_tokens, spend.total.estimated) == (5, 0, 0)


@pytest.mark.parametrize(
    ("model", "price"),
    [("small", 1), ("small-2025-01-01", 1), ("small-large-v2", 10), ("small:free", 1), ("smaller", 100), ("x", 100)],
)
def test_a_name_stands_for_its_versions(model: str, price: float) -> None:
    """The longest name that fits counts; "*" is for all others."""
    found = UsageTracker(PRICES).price(model)
    assert found is not None
    assert found.input == price


def test_a_model_without_price_is_left_out_and_said_so() -> None:
    """The sum does not pretend to know."""
    spend = UsageTracker({"a": (1, 1)})
    spend.add("b", usage(10, 10), (0, 0))
    assert (spend.total.cost, spend.total.unpriced, spend.total.requests) == (0.0, 1, 1)
    assert UsageTracker(Price(3, 4)).price("anything") == Price(3, 4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"budget": 1.0}, "budget needs prices"),
        ({"budget": 0, "prices": PRICES}, "budget must be an amount above 0"),
        ({"budget": True, "prices": PRICES}, "budget must be an amount above 0"),
        ({"budget": "1", "prices": PRICES}, "budget must be an amount above 0"),
        ({"prices": 3}, "prices must be a Price, or a dict"),
        ({"prices": {"m": 3}}, r"prices\['m'\] must be Price.* not 3"),
        ({"prices": {"m": (1,)}}, r"prices\['m'\] must be Price.* not \(1,\)"),
        ({"prices": {"m": {"in": 1}}}, r"prices\['m'\] must be Price"),
        ({"prices": {"m": (-1, 1)}}, r"prices\['m'\]: input must be a number, at least 0"),
        ({"prices": {"m": (1, "2")}}, r"prices\['m'\]: output"),
        ({"prices": Price(1, 1, math.inf)}, r"prices\['\*'\]: cached"),
    ],
)
def test_options_that_cannot_work_say_what_to_change(options: Any, complaint: str) -> None:
    """At once, as configuration errors."""
    with pytest.raises(ConfigurationError, match=complaint):
        UsageTracker(**options)


def test_a_budget_stops_before_it_is_passed() -> None:
    """The prompt and the most the answer may take are counted before the request goes out."""
    spend = UsageTracker(PRICES, budget=0.01)
    spend.check("small", 4000, 3000)  # exactly the budget
    with pytest.raises(
        BudgetError, match=r"needs about 0.010002, and 0 of the budget of 0.01 are spent; nothing was"
    ) as caught:
        spend.check("small", 4000, 3001)
    assert isinstance(caught.value, OpenAIError)
    assert (caught.value.spent, caught.value.budget) == (0.0, 0.01)
    assert caught.value.needed == pytest.approx(0.010002)
    spend.add("small", usage(10_000, 0), (0, 0))
    with pytest.raises(BudgetError):
        spend.check("small", 0)
    UsageTracker(PRICES).check("small", 10**9)  # no budget


def test_a_budget_needs_to_know_the_price() -> None:
    """A model outside the table cannot be let through."""
    with pytest.raises(ConfigurationError, match=r"no price for 'b' in prices; add it, or '\*'"):
        UsageTracker({"a": (1, 1)}, budget=1).check("b", 1)


def test_a_fork_goes_on_alone() -> None:
    """It begins with what was used so far."""
    spend = UsageTracker(PRICES)
    spend.add("small", usage(1, 1), (0, 0))
    other = spend.fork()
    other.add("small", usage(1, 1), (0, 0))
    assert (spend.total.requests, other.total.requests) == (1, 2)
    plain = UsageTracker()
    plain.restore(other.total)
    assert (plain.total.requests, plain.total.cost) == (2, None)
    priced = UsageTracker(PRICES)
    priced.restore(plain.total)
    assert priced.total.cost == 0.0
