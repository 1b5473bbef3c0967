"""Chat completions: from a checked request to choices, and from choices to a completion object or its chunks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .context import DONE, Event, event_of
from .errors import HTTPError
from .models.base import ChatModel, ChatRequest, Reply
from .models.sight import size_of_images
from .models.tokens import chance_of, count_message, count_tokens, split_tokens

__all__ = ["ChatChoice", "ChatRun", "cut_at_stop", "plan_choice", "plan_run"]

_MAX_TOKENS = 16_384  # of one choice
_MAX_ALL_TOKENS = 65_536  # of all choices together
_CONTEXT = 128_000
_MAX_CHARACTERS = 1_000_000  # not even counted above this


class ChatChoice:
    """One choice, worked out: its tokens, its tool calls (each with the tokens of its arguments), how it ends."""

    __slots__ = ("calls", "finish", "index", "reasoning", "tokens")

    def __init__(
        self,
        index: int,
        reasoning: list[str],
        tokens: list[str],
        calls: list[tuple[dict[str, Any], list[str]]],
        finish: str,
    ) -> None:
        self.index: int = index
        self.reasoning: list[str] = reasoning
        self.tokens: list[str] = tokens
        self.calls: list[tuple[dict[str, Any], list[str]]] = calls
        self.finish: str = finish

    @property
    def size(self) -> int:
        """Tokens in all."""
        return len(self.reasoning) + len(self.tokens) + sum(len(tokens) + 2 for _, tokens in self.calls)


def cut_at_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the first stop string in it, and whether there was one."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def stops_of(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop")
    return [] if stop is None else [stop] if isinstance(stop, str) else stop


def plan_choice(index: int, reply: Reply, limit: int, stops: list[str]) -> ChatChoice:
    """Cut a reply by the stop strings and by the token limit, which reasoning counts towards."""
    reasoning = split_tokens(reply.reasoning)
    if len(reasoning) >= limit:
        return ChatChoice(index, reasoning[:limit], [], [], "length")
    limit -= len(reasoning)
    if reply.calls:
        calls: list[tuple[dict[str, Any], list[str]]] = []
        for call in reply.calls:
            tokens = split_tokens(call.arguments)[:limit]
            calls.append(({"id": f"call_{os.urandom(12).hex()}", "type": call.kind, "name": call.name}, tokens))
            limit -= len(tokens)
            if "".join(tokens) != call.arguments:
                return ChatChoice(index, reasoning, [], calls, "length")
        return ChatChoice(index, reasoning, [], calls, "tool_calls")
    text, _ = cut_at_stop(reply.text, stops)
    tokens = split_tokens(text)
    if len(tokens) > limit:
        return ChatChoice(index, reasoning, tokens[:limit], [], "length")
    return ChatChoice(index, reasoning, tokens, [], "stop")


class ChatRun:
    """All choices of one request, ready to be answered whole or in chunks."""

    def __init__(self, body: dict[str, Any], choices: list[ChatChoice], prompt_tokens: int) -> None:
        self._body = body
        self._top: int | None = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
        self._id = f"chatcmpl-{os.urandom(12).hex()}"
        self._created = int(time.time())
        self.choices = choices
        reasoning = sum(len(choice.reasoning) for choice in choices)
        completion = sum(choice.size for choice in choices)
        self.usage: dict[str, Any] = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._body["model"],
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
            "choices": choices,
        }

    def _logprobs(self, tokens: list[str], start: int = 0) -> dict[str, Any] | None:
        """The log probabilities of some tokens, the first of them at the place `start` of its choice."""
        top = self._top
        if top is None:
            return None
        content: list[dict[str, Any]] = []
        for place, token in enumerate(tokens, start):
            chance = chance_of(token, place, top)
            content.append(
                {
                    **_token(token, chance.logprob),
                    "top_logprobs": [_token(other, logprob) for other, logprob in chance.top],
                }
            )
        return {"content": content, "refusal": None}

    def completion(self) -> dict[str, Any]:
        """The whole answer."""
        choices: list[dict[str, Any]] = []
        for choice in self.choices:
            message: dict[str, Any] = {"role": "assistant", "content": "".join(choice.tokens), "refusal": None}
            if choice.reasoning:
                message["reasoning_content"] = "".join(choice.reasoning)
            if choice.calls:
                message["content"] = None
                message["tool_calls"] = [_call_object(call, "".join(tokens)) for call, tokens in choice.calls]
            message["annotations"] = []
            logprobs = None if choice.calls else self._logprobs(choice.tokens)
            choices.append(
                {"index": choice.index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}
            )
        completion = self._frame("chat.completion", choices)
        completion["usage"] = self.usage
        if self._body.get("metadata") is not None or self._body.get("store"):
            completion["metadata"] = self._body.get("metadata") or {}
        return completion

    def events(self, at_end: Callable[[], None]) -> Iterator[Event]:
        """The answer as chunks, the choices taking turns; `at_end` is called when all of it was taken."""
        options: dict[str, Any] = self._body.get("stream_options") or {}
        wants_usage = options.get("include_usage")
        parts = [self._deltas(choice) for choice in self.choices]
        while parts:
            for part in list(parts):
                step = next(part, None)
                if step is None:
                    parts.remove(part)
                    continue
                choice, tokens = step
                chunk = self._frame("chat.completion.chunk", [choice])
                if wants_usage:
                    chunk["usage"] = None
                yield event_of(chunk, tokens)
        if wants_usage:
            yield event_of({**self._frame("chat.completion.chunk", []), "usage": self.usage})
        at_end()
        yield DONE

    def _deltas(self, choice: ChatChoice) -> Iterator[tuple[dict[str, Any], int]]:
        """A choice's chunks, each with the tokens it takes."""

        def step(delta: dict[str, Any], tokens: int, logprobs: Any = None, finish: str | None = None) -> Any:
            part = {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            return part, tokens

        first = {"role": "assistant", "content": None if choice.calls else "", "refusal": None}
        yield step(first, 0)
        for token in choice.reasoning:
            yield step({"reasoning_content": token}, 1)
        for place, token in enumerate(choice.tokens):
            yield step({"content": token}, 1, self._logprobs([token], place))
        for number, (call, tokens) in enumerate(choice.calls):
            yield step({"tool_calls": [{"index": number, **_call_object(call, "")}]}, 2)
            word = "input" if call["type"] == "custom" else "arguments"
            for token in tokens:
                yield step({"tool_calls": [{"index": number, call["type"]: {word: token}}]}, 1)
        yield step({}, 0, None, choice.finish)


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": round(logprob, 6), "bytes": list(token.encode("utf-8", "surrogatepass"))}


def _call_object(call: dict[str, Any], content: str) -> dict[str, Any]:
    word = "input" if call["type"] == "custom" else "arguments"
    return {"id": call["id"], "type": call["type"], call["type"]: {"name": call["name"], word: content}}


def _count_prompt(body: dict[str, Any]) -> int:
    total = 3 + sum(count_message(message) for message in body["messages"])
    if body.get("tools"):
        total += count_tokens(msgspec.json.encode(body["tools"]).decode())
    return total


async def plan_run(model: ChatModel, body: dict[str, Any], size: int) -> ChatRun:
    """Let the model answer a checked request of `size` bytes. Raises `HTTPError` (400) when it is too long, or what the
    model raises. Gives way to other calls between choices."""
    images = size_of_images(body["messages"])
    tokens = _count_prompt(body) if size - images <= 4 * _MAX_CHARACTERS else _CONTEXT + 1
    if tokens > _CONTEXT:
        message = f"The messages are longer than this model's context of {_CONTEXT} tokens."
        raise HTTPError(400, message, param="messages", code="context_length_exceeded")
    count = body.get("n") or 1
    limit = min(
        body.get("max_completion_tokens") or body.get("max_tokens") or _MAX_TOKENS,
        _MAX_TOKENS,
        _MAX_ALL_TOKENS // count,
    )
    stops = stops_of(body)
    choices: list[ChatChoice] = []
    for index in range(count):
        if index:
            await asyncio.sleep(0)
        ask = ChatRequest(
            messages=body["messages"],
            tools=body.get("tools") or (),
            tool_choice=body.get("tool_choice") or "auto",
            parallel=body.get("parallel_tool_calls") is not False,
            response_format=body.get("response_format"),
            effort=body.get("reasoning_effort") or "none",
            variant=(body.get("seed") or 0) + index,
        )
        # Decoding an image takes longer than other calls may wait.
        reply = await asyncio.to_thread(model.reply, ask) if images else model.reply(ask)
        choices.append(plan_choice(index, reply, limit, stops))
    return ChatRun(body, choices, tokens)
