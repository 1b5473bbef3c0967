"""Select the part of a long history that is sent, so that the next request fits the model's context.

Nothing is removed from the history itself. The system prompt and the current turn are always sent. Older turns are sent
or left out whole, so that no tool call is separated from its answer.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from ..core.codec.dialects import ContextOverflow, context_overflow
from ..engine.log import logger
from ..errors import APIError, ConfigurationError, OpenAIError
from ..lazy import resolve_annotations
from .history import Message, Turn, plain_json
from .usage import TokenCount, TokenCounter, Tokenizer, token_count

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion

__all__ = [
    "MARK",
    "ContextLimitError",
    "ContextWindow",
    "HistorySummary",
    "PendingMessages",
    "Policy",
    "answer_limit",
    "pieces",
    "question",
]

MARK = "[Summary of the conversation so far]"
_SUMMARY_REQUEST = "What have we spoken about so far?"
_INSTRUCTIONS = (
    "Below is the beginning of a conversation between a user and an assistant that has become too long. Summarise it "
    "so that the assistant can go on as if it remembered: what the user wants, facts, names, numbers, decisions, and "
    "what is still open. Write the summary alone, in the language of the conversation, as short as it can be."
)
_CHARACTERS = 4  # characters per token, approximately; a summary that exceeds its bound is cut by it


class HistorySummary(NamedTuple):
    """A summary that replaces the first `turns` turns in requests, sent as a question and its marked answer.

    As a pair of messages, because many chat templates refuse two consecutive messages of one role, or a second system
    message.
    """

    turns: int
    text: str
    bound: int = 1024  # the maximum number of tokens of the summary

    def messages(self) -> list[Message]:
        """Return the messages that replace the turns in a request."""
        text = self.text.strip()
        if len(text) > 2 * _CHARACTERS * self.bound:
            text = text[: 2 * _CHARACTERS * self.bound] + " …"
        return [{"role": "user", "content": _SUMMARY_REQUEST}, {"role": "assistant", "content": f"{MARK}\n{text}"}]


def question(before: str, piece: str) -> list[Message]:
    """Return the request for a summary of a piece of the conversation and of the summary before it."""
    known = f"\n\nSummary of the conversation before:\n{before.strip()}" if before.strip() else ""
    return [{"role": "user", "content": f"{_INSTRUCTIONS}{known}\n\nConversation:\n{piece}"}]


def pieces(messages: Sequence[Message], room: int, weigh: Callable[[str], float]) -> Iterator[str]:
    """Yield the messages as text, in pieces of at most `room` tokens; a single longer message is cut in the middle."""
    lines: list[str] = []
    used = 0.0
    for message in messages:
        line = _line(message)
        weight = weigh(line)
        if weight > room:
            # The beginning and the end say most. Within one text, tokens are proportional to characters.
            half = int(len(line) * (room - 4) / weight) // 2
            line, weight = f"{line[:half]} … {line[-half:]}", float(room)
        if lines and used + weight > room:
            yield "\n".join(lines)
            lines, used = [], 0.0
        lines.append(line)
        used += weight
    if lines:
        yield "\n".join(lines)


def _line(message: Message) -> str:
    said = [_text(message.get("content")), str(message.get("refusal") or "")]
    calls: list[dict[str, Any]] = message.get("tool_calls") or []
    for call in calls:
        function: dict[str, Any] = call.get("function") or call.get("custom") or {}
        said.append(f"(calls {function.get('name')}: {function.get('arguments') or function.get('input') or ''})")
    return f"{message['role']}: {' '.join(part for part in said if part)}"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Message]", content) if isinstance(content, list) else []
    return " ".join(str(part["text"]) if "text" in part else f"({part.get('type')})" for part in parts)


class ContextLimitError(OpenAIError, ValueError):
    """A session's next request would not fit its `context_limit`; nothing was sent.

    `tokens` is the number of tokens it needs, `limit` the number allowed, and `source` the source of the count:
    ``"server"``, ``"tokenizer"`` or ``"estimate"``.
    """

    def __init__(self, message: str, *, tokens: int, limit: int, source: str) -> None:
        super().__init__(message)
        self.tokens: int = tokens
        self.limit: int = limit
        self.source: str = source


Policy: TypeAlias = Literal["drop", "summarise", "refuse"]
Ask: TypeAlias = Callable[[list[Message], int], Awaitable[str]]
"""Sends a request outside of the conversation, with a limit on the tokens of the answer; returns its text."""

POLICIES = ("drop", "summarise", "refuse")
_SUMMARY_SHARE, _SUMMARY_LEAST, _SUMMARY_MOST = 8, 32, 1024
_REASONING = frozenset({"reasoning_content", "reasoning"})  # counted separately: it is rarely sent back
_PIECE_LEAST = 32  # tokens of conversation that are worth a request for a summary
_ATTEMPTS = 3  # requests for one piece of a summary, each shorter than the one before


class PendingMessages(NamedTuple):
    """The messages that could be sent: system messages, earlier turns, and the messages of the current turn."""

    head: Sequence[Message]
    turns: Sequence[Turn]
    current: Sequence[Message]

    def messages(self, start: int = 0, summary: HistorySummary | None = None) -> list[Message]:
        """Return the messages from a turn on, with a summary of those before it."""
        made = list(self.head)
        if summary is not None:
            made += summary.messages()
        for turn in self.turns[start:]:
            made += turn.messages
        return [*made, *self.current]


class ContextWindow:
    """Decides which part of a session's history is sent."""

    def __init__(
        self, limit: int | None = None, policy: Policy | None = None, tokenizer: Tokenizer | None = None
    ) -> None:
        if policy is not None and policy not in POLICIES:
            raise ConfigurationError(f'policy must be "drop", "summarise" or "refuse", not {policy!r}')
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may give anything
            raise ConfigurationError(f"context_limit must be a number of tokens above 0, not {limit!r}")
        self.limit = limit
        self.policy: Policy | None = policy or (None if limit is None else "drop")
        self.counter: TokenCounter = TokenCounter(tokenizer)
        self.summary: HistorySummary | None = None
        self.left_out: int = 0
        """The number of oldest turns that the last request left out without a summary."""
        # The parameter that limits a summary: some servers know only one of two.
        self.limit_name: str = "max_completion_tokens"
        self._found: int | None = None  # the limit that a refusal of the server revealed
        self._summarises: bool = True  # the server has not refused to make summaries

    def fork(self) -> ContextWindow:
        """Return an independent copy."""
        other = copy.copy(self)
        other.counter, other.left_out = self.counter.fork(), 0
        return other

    def emptied(self, summary: HistorySummary | None) -> ContextWindow:
        """Return a window with the same settings for another history, which may have a summary."""
        other = ContextWindow(self.limit, self.policy)
        other.counter, other.summary = self.counter.emptied(), summary
        return other

    def forget(self, turns: int) -> None:
        """Drop the summary if it covers more than the first `turns` turns, which are all that is left."""
        if self.summary is not None and self.summary.turns > turns:
            self.summary = None

    def count(self, messages: Sequence[Message], params: Mapping[str, Any]) -> TokenCount:
        """Return how many tokens a request of these messages takes."""
        weight = self.counter.weigh(messages) + self.counter.params(params)
        return TokenCount(self.counter.tokens(weight), self.counter.source)

    def learn_usage(
        self, sent: Sequence[Message], params: Mapping[str, Any], answer: ChatCompletion
    ) -> tuple[int, int]:
        """Learn from an answer's usage; return the estimated tokens of the request and of the answer."""
        counter = self.counter
        weight = counter.weigh(sent) + counter.params(params)
        prompt, said = counter.tokens(weight), counter.text(answer.text) + counter.text(answer.reasoning)
        usage = answer.usage
        counted = token_count(getattr(usage, "prompt_tokens", None))
        if counted:
            more = token_count(getattr(usage, "completion_tokens", None))
            details = getattr(usage, "completion_tokens_details", None)
            thought = token_count(getattr(details, "reasoning_tokens", None))
            if thought is None:
                thought = round(counter.text(answer.reasoning))
            kept = max(0, more - thought) if more is not None else round(counter.text(answer.text))
            try:
                message: dict[str, Any] = {} if answer.message is None else plain_json(answer.message.to_dict())
            except RecursionError:  # nested too deeply to be sent back: the turn raises for it
                message = {}
            bare = {name: value for name, value in message.items() if name not in _REASONING}
            counter.learn(weight, counted, counter.weigh([bare]), kept)
        return prompt, round(said)

    def weight_of(self, sent: Sequence[Message], answer: ChatCompletion) -> tuple[int, int]:
        """Return the estimated tokens of a request outside of the conversation, and of its answer."""
        scale = self.counter.weight(1.0)
        return round(self.counter.weigh(sent) / scale), round(self.counter.text(answer.text) / scale)

    # ---------------------------------------------------------------- before a request

    async def fit(self, pending: PendingMessages, params: Mapping[str, Any], ask: Ask) -> list[Message]:
        """Return the messages to send.

        Raises `ContextLimitError` if even the system prompt and the current turn do not fit, or if the policy is
        ``"refuse"``.
        """
        self.left_out = 0
        limits = [limit for limit in (self.limit, self._found) if limit is not None]
        if not limits:
            return pending.messages()
        limit = min(limits)
        room = limit - answer_limit(params)
        weights = [self.counter.weigh(turn.messages) for turn in pending.turns]
        least = self.counter.weigh(pending.head) + self.counter.weigh(pending.current) + self.counter.params(params)
        if self.counter.tokens(least + sum(weights)) <= room:
            return pending.messages()
        if self.policy == "refuse":
            raise self._refusal("The conversation needs", least + sum(weights), limit, params)
        if self.counter.tokens(least) > room:
            raise self._refusal("The system prompt and the last turn alone need", least, limit, params)
        if self.policy == "summarise" and self._summarises:
            made = await self._summarised(pending, weights, least, room, ask)
            if made is not None:
                return made
        self.left_out = self._first(weights, least, room)
        return pending.messages(self.left_out)

    def _first(self, weights: Sequence[float], least: float, room: int) -> int:
        """Return the first turn to send: as few as possible are left out."""
        start, weight = 0, least + sum(weights)
        while start < len(weights) and self.counter.tokens(weight) > room:
            weight -= weights[start]
            start += 1
        return start

    def _refusal(self, what: str, weight: float, limit: int, params: Mapping[str, Any]) -> ContextLimitError:
        tokens, source = self.counter.tokens(weight), self.counter.source
        answer = answer_limit(params)
        answer_part = f" and {answer:,} for the answer" if answer else ""
        counted = {"server": "", "tokenizer": " (by the tokenizer)", "estimate": " (an estimate)"}[source]
        return ContextLimitError(
            f"{what} {tokens:,} tokens{counted}{answer_part}; context_limit is {limit:,}. Nothing was sent. "
            "Shorten the message or the system prompt, or raise context_limit if the model accepts more.",
            tokens=tokens + answer,
            limit=limit,
            source=source,
        )

    # ---------------------------------------------------------------- summaries

    async def _summarised(
        self, pending: PendingMessages, weights: Sequence[float], least: float, room: int, ask: Ask
    ) -> list[Message] | None:
        """Return the messages with a summary that replaces the first turns; `None` if no summary would fit."""
        old = self.summary
        if old is not None and old.turns > len(weights):
            old = None  # a message before its end is being edited
        done = 0 if old is None else old.turns
        if old is not None:
            weight = least + self.counter.weigh(old.messages()) + sum(weights[done:])
            if self.counter.tokens(weight) <= room:
                return pending.messages(done, old)
        bound = max(_SUMMARY_LEAST, min(_SUMMARY_MOST, room // _SUMMARY_SHARE))
        size = self.counter.weight(bound)
        # Free half of the room at once; otherwise every turn from now on would request a summary.
        start = max(done, self._first(weights, least + size, room // 2))
        if self.counter.tokens(least + size + sum(weights[start:])) > room:
            return None
        if start > done:
            said = [message for turn in pending.turns[done:start] for message in turn.messages]
            text = await self._summary("" if old is None else old.text, said, room, bound, ask)
            old = HistorySummary(start, self._cut(text, 2 * size), bound)
        summary = cast("HistorySummary", old)
        weight = least + self.counter.weigh(summary.messages()) + sum(weights[start:])
        if not summary.text.strip() or self.counter.tokens(weight) > room:
            return None
        self.summary = summary
        return pending.messages(start, summary)

    def _cut(self, text: str, weight: float) -> str:
        """Cut a summary that exceeds this weight, because the server ignored the limit."""
        known = self.counter.text(text)
        return text if known <= weight else f"{text[: int(len(text) * weight / known)]} …"

    async def _summary(self, text: str, said: Sequence[Message], room: int, bound: int, ask: Ask) -> str:
        """Return a summary of the summary before and the messages after it; "" if the server does not make one."""
        counter = self.counter
        for attempt in range(_ATTEMPTS):
            # The request also contains the question and the summary before; `bound` is reserved for the answer.
            free = counter.within(room - bound) - counter.weigh(question("", "")) - counter.weight(bound)
            if free < counter.weight(_PIECE_LEAST):
                return ""
            try:
                return await self._summary_of(text, said, int(free) >> attempt, bound, ask)
            except _TooLong:
                continue
            except APIError as error:
                # The turn does not depend on a summary, and without this every turn would request one again.
                self._summarises = error.retryable
                logger.warning("a session continues without a summary, which the server refused: %s", error)
                return ""
        self._summarises = False
        return ""

    async def _summary_of(self, text: str, said: Sequence[Message], free: int, bound: int, ask: Ask) -> str:
        for piece in pieces(said, free, self.counter.text):
            prompt = question(text, piece)
            try:
                text = self._cut(await ask(prompt, bound), 2 * self.counter.weight(bound))
            except APIError as error:
                overflow = context_overflow(error)
                if overflow is None:
                    raise
                self._learn(self.counter.weigh(prompt), bound, overflow)
                raise _TooLong from None
        return text

    # ---------------------------------------------------------------- after a refusal of the server

    async def refit(
        self, pending: PendingMessages, sent: Sequence[Message], params: Mapping[str, Any], error: APIError, ask: Ask
    ) -> list[Message] | None:
        """Return fewer messages after the server refused these as too long; `None` if that was not the reason."""
        overflow = context_overflow(error) if self.policy in ("drop", "summarise") else None
        if overflow is None:
            return None
        weight = self.counter.weigh(sent) + self.counter.params(params)
        answer = answer_limit(params)
        limits = [(self.counter.tokens(weight) + answer) * 3 // 4]
        self._learn(weight, answer, overflow)
        if (known_limit := overflow.limit) is not None:
            # An answer without a limit takes part of it: as much as the server reserved, otherwise a share, or less if
            # the current turn needs it.
            aside = (
                overflow.answer if overflow.answer and overflow.answer < known_limit else known_limit // _SUMMARY_SHARE
            )
            limits = [known_limit] if answer else [known_limit - aside, known_limit]
        elif overflow.prompt is not None:
            limits = [(overflow.prompt + answer) * 3 // 4]
        for found in limits:
            if found < 1:
                continue
            self._found = found
            try:
                made = await self.fit(pending, params, ask)
            except ContextLimitError:
                continue
            return made if self.counter.weigh(made) < self.counter.weigh(sent) else None
        return None

    def _learn(self, weight: float, answer: int, overflow: ContextOverflow) -> None:
        """Correct the count of a request that was refused, by the server's number of tokens or by its limit."""
        if overflow.prompt is not None:
            self.counter.learn(weight, overflow.prompt, refused=True)
        elif overflow.limit is not None and self.counter.tokens(weight) + answer <= overflow.limit:
            self.counter.learn_excess(weight, overflow.limit - answer)


class _TooLong(Exception):
    """A request for a summary did not fit; the next one is shorter."""


def answer_limit(params: Mapping[str, Any]) -> int:
    """Return the request's limit on the tokens of the answer; 0 without one."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = params.get(name)
        if type(value) is int and value > 0:
            return value
    return 0


resolve_annotations(__name__)
