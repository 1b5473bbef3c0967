"""Tokens and costs: counting tokens of messages, the usage of a session, its cost, and its budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import msgspec

from ..core.codec.encode import encode_json
from ..core.model.plain import mended
from ..errors import ConfigurationError, OpenAIError
from .history import plain_json

__all__ = [
    "BudgetError",
    "Price",
    "Prices",
    "SessionUsage",
    "Source",
    "TokenCount",
    "TokenCounter",
    "Tokenizer",
    "UsageTracker",
    "token_count",
]

Source: TypeAlias = Literal["server", "tokenizer", "estimate"]
Tokenizer: TypeAlias = Callable[[str], int | Sized]
"""A function of a text that returns its tokens, or their number."""

# Estimates, in tokens. A token of English is about four characters; other scripts take more, by their bytes in UTF-8.
_OF_CHARACTER = 0.25
_OF_FURTHER_BYTE = 0.4
_OF_MESSAGE = 4  # role and separators
_OF_IMAGE = {"low": 85}
_OF_OTHER_IMAGE = 1000
_OF_FILE = 1000
# bytes per token, which stands for 100 ms: WAV of 16 kHz and 16 bits; MP3 of 128 kbit/s
_AUDIO_BYTES = {"wav": 3200, "mp3": 1600}

_SCALE_FROM = 32  # the least difference in weight that shows how many tokens a server counts for one of ours
_SCALES = (0.1, 16.0)
_CACHED = 16_384  # messages, more than any context window holds


MOST_TOKENS = 10_000_000  # of one request or answer, more than any model accepts


def token_count(value: Any) -> int | None:
    """Return a server's number of tokens as an int; `None` for anything else, and for impossibly large ones.

    An impossible number would exhaust every budget and every context window for the rest of the session.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


class TokenCount(NamedTuple):
    """The number of tokens of the next request, and the source of the count.

    ``"server"``: the server's count of the last request, plus what was added since by tokenizer or estimate;
    ``"tokenizer"`` and ``"estimate"``: no server has counted yet.
    """

    tokens: int
    source: Source


class _Anchor(NamedTuple):
    """A server's count of messages of a certain weight."""

    tokens: int
    weight: float
    scale: float  # the server's tokens per unit of weight


class TokenCounter:
    """Counts the tokens of messages.

    The weight of messages is their number of tokens by tokenizer or estimate. The counts in a server's answers show how
    many tokens a weight stands for.
    """

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is not None and not callable(tokenizer):
            raise TypeError("tokenizer must be a function of a text that returns its tokens or their number")
        self._tokenizer = tokenizer
        self._anchor: _Anchor | None = None
        self._least: tuple[float, int] | None = None  # the lightest request that a server counted, and its count
        self._scale = 1.0
        self._growth = 0.0  # the server's tokens per unit of weight, in the messages added since the previous count
        self._weights: dict[int, tuple[Mapping[str, Any], float]] = {}  # by id: messages are many and are not modified

    def fork(self) -> TokenCounter:
        """Return an independent copy."""
        other = copy.copy(self)
        other._weights = {}
        return other

    def emptied(self) -> TokenCounter:
        """Return a counter with the same tokenizer and without any calibration."""
        return TokenCounter(self._tokenizer)

    @property
    def source(self) -> Source:
        """The current source of the count."""
        return "server" if self._anchor else "tokenizer" if self._tokenizer else "estimate"

    def text(self, text: str) -> float:
        """Return the weight of a text."""
        if self._tokenizer is None:
            return _OF_CHARACTER * len(text) + _OF_FURTHER_BYTE * (len(text.encode("utf-8", "replace")) - len(text))
        count = self._tokenizer(mended(text))
        if isinstance(count, bool) or not isinstance(count, (int, Sized)):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller's function may return anything
            raise TypeError(f"tokenizer returned {type(count).__name__} instead of tokens or their number")
        return count if isinstance(count, int) else len(count)

    def weigh(self, messages: Sequence[Mapping[str, Any]]) -> float:
        """Return the weight of messages, which must not be modified afterwards."""
        total = 0.0
        for message in messages:
            known = self._weights.get(id(message))
            if known is None:
                known = self._weights[id(message)] = (message, self._message(message))
            total += known[1]
        if len(self._weights) > _CACHED:
            self._weights.clear()
        return total

    def params(self, params: Mapping[str, Any]) -> float:
        """Return the weight of the other parts of a prompt: descriptions of tools, the schema of the answer."""
        given = [params[name] for name in ("tools", "functions", "response_format") if params.get(name)]
        return self.text(encode_json(given).decode()) if given else 0.0

    def tokens(self, weight: float) -> int:
        """Return the number of tokens of a request of this weight."""
        anchor = self._anchor
        if anchor is None:
            return round(weight)
        return max(1, round(anchor.tokens + anchor.scale * (weight - anchor.weight)))

    def weight(self, tokens: float) -> float:
        """Return the weight of a text with this number of tokens by the server's count."""
        return tokens / self._scale

    def within(self, tokens: int) -> float:
        """Return the weight of a request with this number of tokens, the inverse of `tokens`."""
        anchor = self._anchor
        return float(tokens) if anchor is None else anchor.weight + (tokens - anchor.tokens) / anchor.scale

    def learn(self, weight: float, tokens: int, later: float = 0.0, more: int = 0, *, refused: bool = False) -> None:
        """Learn that a server counted `tokens` for a request of this weight, `more` for its answer of weight `later`.

        If it `refused` the request as too long, nearly all of the tokens were those of the messages.
        """
        least = self._least
        if least is None:
            if self._tokenizer is None and weight >= _SCALE_FROM:
                self._scale = tokens / weight if refused else _scale(tokens / weight)
        elif abs(weight - least[0]) >= _SCALE_FROM:
            # The difference between two counts does not contain the tokens that the server adds to every prompt.
            self._scale = _scale((tokens - least[1]) / (weight - least[0]))
        if least is None or weight < least[0]:
            self._least = (weight, tokens)
        if self._anchor is not None and weight - self._anchor.weight >= _SCALE_FROM:
            # Turns may take more tokens for their weight than the summary at the beginning of the request.
            self._growth = _scale((tokens - self._anchor.tokens) / (weight - self._anchor.weight))
        self._scale = max(self._scale, self._growth)
        self._anchor = _Anchor(tokens + (more + _OF_MESSAGE if later else 0), weight + later, self._scale)

    def learn_excess(self, weight: float, limit: int) -> None:
        """Learn that a server refused a request of this weight as longer than `limit` tokens, without saying its count.

        The next estimate is a third higher. It is forgotten at the server's next count.
        """
        tokens = max(limit + 1, round(self.tokens(weight) * 4 / 3))
        self._scale = _scale(tokens / max(weight, 1.0))
        self._least = None
        self._anchor = _Anchor(tokens, weight, self._scale)

    # ---------------------------------------------------------------- messages

    def _message(self, message: Mapping[str, Any]) -> float:
        total = _OF_MESSAGE + self._content(message.get("content"))
        for name in ("name", "refusal", "reasoning_content", "reasoning"):
            if isinstance(value := message.get(name), str):
                total += self.text(value)
        if calls := message.get("tool_calls"):
            total += self.text(encode_json(plain_json(calls)).decode())
        return total

    def _content(self, content: Any) -> float:
        if isinstance(content, str):
            return self.text(content)
        if not isinstance(content, list):
            return 0.0
        parts: list[Any] = cast("Any", content)
        return sum((self._part(part) for part in parts if isinstance(part, dict)), 0.0)

    def _part(self, part: Any) -> float:
        kind, inner = part.get("type"), part.get(cast("str", part.get("type")))
        if isinstance(inner, str):  # "text", "refusal"
            return self.text(inner)
        fields = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
        if kind == "image_url":
            return _OF_IMAGE.get(str(fields.get("detail")), _OF_OTHER_IMAGE)
        if kind == "input_audio":
            return len(str(fields.get("data", ""))) * 3 / 4 / _AUDIO_BYTES.get(str(fields.get("format")), 1600)
        return _OF_FILE


def _scale(ratio: float) -> float:
    return min(max(ratio, _SCALES[0]), _SCALES[1])


# ---------------------------------------------------------------- money

_MILLION = 1_000_000
ANY = "*"


class BudgetError(OpenAIError):
    """A session's next request would exceed its `budget`; nothing was sent.

    `spent` is the cost so far, `needed` the least cost of the request, both in the currency of the prices.
    """

    def __init__(self, *, spent: float, needed: float, budget: float) -> None:
        super().__init__(
            f"The next request needs about {needed:.6g}, and {spent:.6g} of the budget of {budget:.6g} are spent; "
            "nothing was sent."
        )
        self.spent: float = spent
        self.needed: float = needed
        self.budget: float = budget


class Price(msgspec.Struct, frozen=True):
    """The price of a million tokens, in any currency: of prompts, of answers, and of prompts from the server's cache.

    Without `cached`, tokens from the cache have the price of other tokens of the prompt.
    """

    input: float
    output: float
    cached: float | None = None


Prices: TypeAlias = Price | Mapping[str, Price | Mapping[str, float] | tuple[float, ...]]
"""One price for all models, or one for each: a `Price`, its fields as a dict, or ``(input, output[, cached])``.

A name includes its dated versions ("gpt-4o-mini" also means "gpt-4o-mini-2024-07-18"); "*" means all other models.
"""


class SessionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The usage of a session so far, including failed turns and summaries.

    `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of `completion_tokens`. `cost` is in the currency of
    the prices, `None` without prices. `estimated` is how many of the `requests` had no usable count from the server,
    for example because they failed after they were sent: their tokens are estimates. `unpriced` is how many went to a
    model without a price, and are not part of `cost`.
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
        """The sum of `prompt_tokens` and `completion_tokens`."""
        return self.prompt_tokens + self.completion_tokens

    def __iter__(self) -> Iterator[tuple[str, int | float | None]]:
        """Iterate over the fields as pairs, for ``dict(usage)``."""
        return ((name, getattr(self, name)) for name in self.__struct_fields__)


def _price_of(model: str, given: Any) -> Price:
    if isinstance(given, Price):
        price = given
    else:
        try:
            price = Price(*cast("Any", given)) if isinstance(given, (tuple, list)) else Price(**given)
        except TypeError:
            raise ConfigurationError(
                f"prices[{model!r}] must be Price(input=…, output=…), per million tokens, or such a dict, not {given!r}"
            ) from None
    for name, value in (("input", price.input), ("output", price.output), ("cached", price.cached or 0)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ConfigurationError(f"prices[{model!r}]: {name} must be a number, at least 0, not {value!r}")
    return price


def _table(prices: Any) -> dict[str, Price] | None:
    if prices is None:
        return None
    if isinstance(prices, Price):
        return {ANY: _price_of(ANY, prices)}
    if not isinstance(prices, Mapping):
        raise ConfigurationError(f"prices must be a Price, or a dict of model names and prices, not {prices!r}")
    given: Mapping[Any, Any] = cast("Any", prices)
    return {str(model): _price_of(str(model), price) for model, price in given.items()}


def _count(usage: Any, name: str, detail: str = "") -> int | None:
    """Return a number of a server's usage; `None` if it is missing or impossible."""
    if detail:
        usage, name = getattr(usage, name, None), detail
    return token_count(getattr(usage, name, None))


class UsageTracker:
    """Adds up the usage of a session, and checks its budget."""

    def __init__(self, prices: Prices | None = None, budget: float | None = None) -> None:
        self.prices: dict[str, Price] | None = _table(prices)
        if budget is not None:
            if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
                raise ConfigurationError(
                    f"budget must be an amount above 0, in the currency of the prices, not {budget!r}"
                )
            if self.prices is None:
                raise ConfigurationError("budget needs prices: the cost of a million tokens of each model")
        self.budget = budget
        self.total: SessionUsage = SessionUsage(cost=None if self.prices is None else 0.0)

    def fork(self) -> UsageTracker:
        """Return an independent copy, which starts with the usage so far."""
        return copy.copy(self)

    def price(self, model: str) -> Price | None:
        """Return the price of a model: by its name, by the longest name that it is a version of, or the one for all."""
        prices = self.prices or {}
        found = prices.get(model)
        if found is None:
            versions = [
                name for name in prices if name != ANY and model.startswith((f"{name}-", f"{name}:", f"{name}@"))
            ]
            found = prices.get(max(versions, key=len)) if versions else prices.get(ANY)
        return found

    def check(self, model: str, prompt_tokens: int, answer_tokens: int = 0) -> None:
        """Raise `BudgetError` if the budget is spent, or if a request with these tokens would exceed it.

        `answer_tokens` is the limit of the answer, 0 without one. Raises `ConfigurationError` if there is a budget but
        no price for the model.
        """
        if self.budget is None:
            return
        price = self.price(model)
        if price is None:
            raise ConfigurationError(
                f"there is a budget, but no price for {model!r} in prices; add it, or {ANY!r} for all models"
            )
        spent = self.total.cost or 0.0
        needed = (prompt_tokens * price.input + answer_tokens * price.output) / _MILLION
        if spent >= self.budget or spent + needed > self.budget:
            raise BudgetError(spent=spent, needed=needed, budget=self.budget)

    def add(self, model: str, usage: Any, estimate: tuple[int, int]) -> None:
        """Count an answer by the server's `usage`; missing numbers are replaced by the `estimate` of prompt and answer.

        0 tokens for a prompt mean that the server did not count; an answer may have 0 tokens.
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
        """Continue from the usage of a saved session; its cost is dropped if there are no prices now."""
        cost = None if self.prices is None else total.cost or 0.0
        self.total = msgspec.structs.replace(total, cost=cost)
