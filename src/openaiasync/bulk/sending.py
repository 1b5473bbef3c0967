"""The one place of the bulk engine that sends: a `Work` through an `Engine`, one attempt, without retries."""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from ..core.model.meta import Meta
from ..engine.engine import Engine
from .row import Outcome, Usage, Work

__all__ = ["send", "usage_of"]


async def send(engine: Engine, work: Work) -> tuple[Meta, Outcome]:
    """Make one attempt; return what is known of the call, and the outcome. Raises `OpenAIError` for everything else.

    The answer is decoded here: a 2xx that is not what was asked for is a failure like any other.
    """
    request = work.request
    request.max_retries = 0
    request.idempotency_key = work.idempotency_key
    meta, body = await engine.fetch(request)
    answer: Any = engine.made(request, meta, body)
    if answer.__class__ is CoroutineType:
        answer = await answer
    usage = usage_of(answer)
    outcome = Outcome(
        status=meta.status,
        body=body,
        answer=answer,
        request_id=meta.request_id,
        usage=usage,
        seconds=meta.total,
    )
    return meta, outcome


def usage_of(answer: Any) -> Usage | None:
    """Return the tokens that an answer says it took; `None` where it does not say so, or says nonsense."""
    usage = getattr(answer, "usage", None)
    if usage is None:
        return None
    spent = getattr(usage, "prompt_tokens", None)
    made = getattr(usage, "completion_tokens", None)
    if spent is None:
        spent, made = getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None)
    if not isinstance(spent, int) or spent < 0:
        return None
    return Usage(spent, made if isinstance(made, int) and made >= 0 else 0)
