"""Text completions: prompts in all their forms, echo, ``n`` and ``best_of``, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from ..lazy import resolve_annotations
from .chat import StopCutter
from .context import DONE, RequestContext, event_of
from .errors import HTTPError
from .handlers import RegisteredHandler, merged, open_handler
from .ids import random_hex
from .pieces import ContentDelta, Finish, UsageReport, pieces_of
from .requests import CompletionRequest
from .tokens import count_texts, count_tokens, split_tokens

if TYPE_CHECKING:
    from .app import Server

__all__ = ["check_completion", "create_completion"]

_MAX_CHOICES: Final = 2048


async def create_completion(app: Server, context: RequestContext) -> None:
    """Serve ``POST /completions``."""
    body = await app.read_body(context)
    prompts = check_completion(body)
    handler = app.handlers.find("completion", body["model"])
    async with app.admitted(context):
        answer = _CompletionAnswer(body, context, prompts)
        if body.get("stream"):
            app.spend(context, answer.prompt_tokens)
            await context.send_events(answer.events(handler))
            return
        async with context.presence():
            await answer.run(handler)
            app.spend(context, answer.usage()["total_tokens"])
            await context.send_json(answer.completion())


def check_completion(body: dict[str, Any]) -> list[str | list[int]]:
    """Return the prompts of a request. Raises `HTTPError` (400) for contradictory fields and too many prompts."""
    value: Any = body.get("prompt")
    if value is None or value == []:
        raise HTTPError(400, "'prompt' is missing or empty.", param="prompt", code="missing_required_parameter")
    if body.get("stream_options") is not None and not body.get("stream"):
        message = "'stream_options' is only allowed when 'stream' is true."
        raise HTTPError(400, message, param="stream_options", code="invalid_value")
    best_of, n = body.get("best_of"), body.get("n") or 1
    if best_of is not None and best_of < n:
        raise HTTPError(400, "'best_of' must be at least 'n'.", param="best_of", code="invalid_value")
    if best_of is not None and best_of > n and body.get("stream"):
        raise HTTPError(400, "'best_of' cannot be streamed.", param="best_of", code="invalid_value")
    prompts: list[str | list[int]] = [value] if isinstance(value, str) or isinstance(value[0], int) else value
    if body.get("echo") and not isinstance(prompts[0], str):
        raise HTTPError(400, "'echo' requires prompts in text.", param="echo", code="invalid_value")
    if len(prompts) * max(best_of or n, n) > _MAX_CHOICES:
        message = f"At most {_MAX_CHOICES} completions can be made at once."
        raise HTTPError(400, message, param="n", code="invalid_value")
    return prompts


class _CompletionChoice:
    """One continuation: its tokens, each with its offset in the text."""

    def __init__(self, index: int, prompt: str | list[int], body: dict[str, Any]) -> None:
        stop = body.get("stop")
        self.index = index
        self.prompt = prompt
        self.pieces: list[ContentDelta] = []
        self.finish = ""
        self.usage: UsageReport | None = None
        self._cutter = StopCutter(stop)
        if body.get("echo"):
            self.pieces += map(ContentDelta, split_tokens(str(prompt)))
        self.echoed = len(self.pieces)

    def add(self, item: Any) -> None:
        """Take one item of a handler."""
        for piece in (ContentDelta(item),) if type(item) is str else pieces_of(item):
            if isinstance(piece, ContentDelta) and not self.finish:
                self.pieces += self._cutter.feed(piece)
                if self._cutter.stopped:
                    self.finish = "stop"
            elif isinstance(piece, UsageReport):
                self.usage = piece
            elif isinstance(piece, Finish) and not self.finish:
                self.finish = piece.reason

    def end(self) -> None:
        """Note that the handler has ended."""
        self.pieces += self._cutter.rest()
        self.finish = self.finish or "stop"

    @property
    def tokens(self) -> int:
        """The number of tokens that were generated."""
        if self.usage is not None:
            return self.usage.completion_tokens
        generated = self.pieces[self.echoed :]
        if any(piece.logprob is not None for piece in generated):
            return len(generated)
        return count_tokens("".join(piece.text for piece in generated))

    @property
    def likelihood(self) -> float:
        """The mean log probability of the tokens, 0.0 if the model reports none."""
        known = [piece.logprob for piece in self.pieces if piece.logprob is not None]
        return sum(known) / len(known) if known else 0.0


class _CompletionAnswer:
    """All choices of one request, whole or as events."""

    def __init__(self, body: dict[str, Any], context: RequestContext, prompts: list[str | list[int]]) -> None:
        self._body = body
        self._context = context
        self._kept: int = body.get("n") or 1
        self._tries: int = max(body.get("best_of") or self._kept, self._kept)
        self._choices = [
            _CompletionChoice(place * self._tries + index, prompt, body)
            for place, prompt in enumerate(prompts)
            for index in range(self._tries)
        ]
        self._frame: dict[str, Any] = {
            "id": f"cmpl-{random_hex()}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": body["model"],
            "system_fingerprint": "fp_openaiasync",
        }
        texts = [one for one in prompts if isinstance(one, str)]
        self.prompt_tokens = count_texts(texts) + sum(len(one) for one in prompts if not isinstance(one, str))

    async def run(self, handler: RegisteredHandler) -> None:
        """Run the handler for every prompt, one after the other."""
        for choice in self._choices:
            async with aclosing(self._steps(handler, choice, whole=True)) as steps:
                async for _ in steps:
                    pass
        if self._tries > self._kept:
            best: list[_CompletionChoice] = []
            for start in range(0, len(self._choices), self._tries):
                group = self._choices[start : start + self._tries]
                best += sorted(group, key=lambda choice: choice.likelihood, reverse=True)[: self._kept]
            self._choices = best
            for index, choice in enumerate(best):
                choice.index = index

    async def _steps(
        self, handler: RegisteredHandler, choice: _CompletionChoice, *, whole: bool
    ) -> AsyncGenerator[int]:
        """Run the handler for one choice, yielding the number of its pieces that can be sent."""
        if choice.pieces:
            yield len(choice.pieces)
        request = CompletionRequest(self._body, self._context, choice.index % self._tries, choice.prompt)
        async with aclosing(open_handler(handler, request, whole=whole)) as items:
            async for item in items:
                choice.add(item)
                yield len(choice.pieces)
                if choice.finish:
                    break
        choice.end()
        yield len(choice.pieces)

    async def events(self, handler: RegisteredHandler) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events."""
        options: dict[str, Any] = self._body.get("stream_options") or {}
        usage = {"usage": None} if options.get("include_usage") else {}
        sources = [self._chunks(handler, choice, usage) for choice in self._choices]
        async with aclosing(sources[0] if len(sources) == 1 else merged(sources)) as chunks:
            async for chunk in chunks:
                yield chunk
        if usage:
            yield event_of({**self._frame, "choices": [], "usage": self.usage()})
        yield DONE

    async def _chunks(
        self, handler: RegisteredHandler, choice: _CompletionChoice, usage: dict[str, None]
    ) -> AsyncGenerator[bytes]:
        sent = 0
        async with aclosing(self._steps(handler, choice, whole=False)) as steps:
            async for ready in steps:
                while sent < ready:
                    yield event_of({**self._frame, "choices": [self._part(choice, sent, sent + 1, None)], **usage})
                    sent += 1
        yield event_of({**self._frame, "choices": [self._part(choice, sent, sent, choice.finish)], **usage})

    def _part(self, choice: _CompletionChoice, start: int, end: int, finish: str | None) -> dict[str, Any]:
        pieces = choice.pieces[start:end]
        logprobs = None
        if self._body.get("logprobs") is not None:
            offset = sum(len(piece.text) for piece in choice.pieces[:start])
            offsets: list[int] = []
            for piece in pieces:
                offsets.append(offset)
                offset += len(piece.text)
            logprobs = {
                "tokens": [piece.text for piece in pieces],
                "token_logprobs": [round(piece.logprob or 0.0, 6) for piece in pieces],
                "top_logprobs": [{token: round(logprob, 6) for token, logprob in piece.top} for piece in pieces],
                "text_offset": offsets,
            }
        text = "".join(piece.text for piece in pieces)
        return {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def usage(self) -> dict[str, int]:
        """Return the usage of all choices."""
        completion = sum(choice.tokens for choice in self._choices)
        prompt = self.prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def completion(self) -> dict[str, Any]:
        """Return the whole answer."""
        choices = [self._part(choice, 0, len(choice.pieces), choice.finish) for choice in self._choices]
        return {**self._frame, "choices": choices, "usage": self.usage()}


resolve_annotations(__name__)
