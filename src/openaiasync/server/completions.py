"""Text completions: prompts in all their forms, echo, stop, log probabilities, whole or in chunks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

from .chats import cut_at_stop, stops_of
from .context import DONE, Event, event_of
from .errors import HTTPError
from .models.base import (
    CompletionModel,
    CompletionRequest,
    Continuation,
    TokenChance,
)
from .models.tokens import count_tokens, split_tokens

__all__ = ["CompletionRun", "plan_completion"]

_DEFAULT_TOKENS = 16
_MAX_ALL_TOKENS = 65_536
_MAX_PROMPTS = 256


class _CompletionChoice:
    __slots__ = ("chances", "finish", "index")

    def __init__(self, index: int, chances: list[TokenChance], finish: str) -> None:
        self.index = index
        self.chances = chances
        self.finish = finish


class CompletionRun:
    """All choices of one request, ready to be answered whole or in chunks."""

    def __init__(
        self, body: dict[str, Any], choices: list[_CompletionChoice], prompt_tokens: int, completion_tokens: int
    ) -> None:
        self._body = body
        self._choices = choices
        self._id = f"cmpl-{os.urandom(12).hex()}"
        self._created = int(time.time())
        self.usage: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    @property
    def tokens(self) -> int:
        """Tokens of the longest choice: how long the model takes, as it works on all choices at once."""
        return max(len(choice.chances) for choice in self._choices)

    def _frame(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._body["model"],
            "system_fingerprint": "fp_demo",
            "choices": choices,
        }

    def _part(self, choice: _CompletionChoice, start: int, end: int, offset: int, finish: str | None) -> dict[str, Any]:
        chances = choice.chances[start:end]
        text = "".join(chance.token for chance in chances)
        logprobs = None
        if self._body.get("logprobs") is not None:
            offsets: list[int] = []
            for chance in chances:
                offsets.append(offset)
                offset += len(chance.token)
            logprobs = {
                "tokens": [chance.token for chance in chances],
                "token_logprobs": [round(chance.logprob, 6) for chance in chances],
                "top_logprobs": [{token: round(logprob, 6) for token, logprob in chance.top} for chance in chances],
                "text_offset": offsets,
            }
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def completion(self) -> dict[str, Any]:
        """The whole answer."""
        choices = [self._part(choice, 0, len(choice.chances), 0, choice.finish) for choice in self._choices]
        return {**self._frame(choices), "usage": self.usage}

    def events(self) -> Iterator[Event]:
        """The answer as chunks, the choices taking turns."""
        options: dict[str, Any] = self._body.get("stream_options") or {}
        wants_usage = options.get("include_usage")
        parts = [self._steps(choice) for choice in self._choices]
        while parts:
            for part in list(parts):
                step = next(part, None)
                if step is None:
                    parts.remove(part)
                    continue
                chunk = self._frame([step[0]])
                if wants_usage:
                    chunk["usage"] = None
                yield event_of(chunk, step[1])
        if wants_usage:
            yield event_of({**self._frame([]), "usage": self.usage})
        yield DONE

    def _steps(self, choice: _CompletionChoice) -> Iterator[tuple[dict[str, Any], int]]:
        offset = 0
        for place, chance in enumerate(choice.chances):
            yield self._part(choice, place, place + 1, offset, None), 1
            offset += len(chance.token)
        end = len(choice.chances)
        yield self._part(choice, end, end, offset, choice.finish), 0


def _prompts(model: CompletionModel, value: Any) -> list[str]:
    """The prompts as texts, whatever form they came in."""
    if isinstance(value, str):
        return [value]
    first = value[0]
    if isinstance(first, int):
        return [model.tokens_to_text(value)]
    return value if isinstance(first, str) else [model.tokens_to_text(ids) for ids in value]


def _cut(continuation: Continuation, stops: list[str]) -> tuple[list[TokenChance], str]:
    """The tokens up to the first stop string; a token that holds the beginning of it is shortened."""
    text = "".join(chance.token for chance in continuation.tokens)
    kept, stopped = cut_at_stop(text, stops)
    if not stopped:
        return continuation.tokens, "stop" if continuation.ended else "length"
    chances: list[TokenChance] = []
    left = len(kept)
    for chance in continuation.tokens:
        if left <= 0:
            break
        chances.append(TokenChance(chance.token[:left], chance.logprob, chance.top))
        left -= len(chance.token)
    return chances, "stop"


def _likelihood(continuation: Continuation) -> float:
    """The mean log probability of a token."""
    return sum(chance.logprob for chance in continuation.tokens) / max(len(continuation.tokens), 1)


async def plan_completion(model: CompletionModel, body: dict[str, Any]) -> CompletionRun:
    """Let the model continue every prompt of a checked request. Raises `HTTPError` (400) when that is too much."""
    prompts = _prompts(model, body["prompt"])
    count = body.get("n") or 1
    tries = max(body.get("best_of") or count, count)
    given = body.get("max_tokens")
    limit = _DEFAULT_TOKENS if given is None else given
    if len(prompts) > _MAX_PROMPTS or len(prompts) * tries * limit > _MAX_ALL_TOKENS:
        message = f"All continuations together may have at most {_MAX_ALL_TOKENS} tokens of {_MAX_PROMPTS} prompts."
        raise HTTPError(400, message, param="max_tokens", code="invalid_value")
    stops, seed, top = stops_of(body), body.get("seed") or 0, body.get("logprobs") or 0
    choices: list[_CompletionChoice] = []
    prompt_tokens = completion_tokens = 0
    for prompt in prompts:
        prompt_tokens += count_tokens(prompt)
        tried: list[Continuation] = []
        for variant in range(tries):
            tried.append(model.continue_text(CompletionRequest(prompt, limit, seed, variant, top)))
            await asyncio.sleep(0)
        if tries > count:
            tried.sort(key=_likelihood, reverse=True)
        for continuation in tried[:count]:
            chances, finish = _cut(continuation, stops)
            completion_tokens += len(chances)
            if body.get("echo"):
                chances = [*(TokenChance(token, 0.0) for token in split_tokens(prompt)), *chances]
            choices.append(_CompletionChoice(len(choices), chances, finish))
    return CompletionRun(body, choices, prompt_tokens, completion_tokens)
