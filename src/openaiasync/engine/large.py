"""Large answers, made in steps between which the event loop runs: no other call waits for tens of milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.codec.decode import DecodeError
from ..core.codec.endpoint import Request
from ..core.codec.slices import decode_in_slices
from ..core.model.meta import Meta
from .failures import holds_error

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["decode_large"]

T = TypeVar("T")

_SLICED = frozenset({"object", "page"})


async def _in_turns(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        await asyncio.sleep(0)


async def decode_large(calls: Engine, request: Request, meta: Meta, body: bytes) -> Any:
    """As `Engine.decode`, in steps."""
    answer: Any = None
    if request.endpoint.answer in _SLICED:
        with contextlib.suppress(DecodeError):  # the general way says what is wrong
            answer = await _in_turns(decode_in_slices(calls.decoder(request), body))
    if answer is None or holds_error(answer):
        return calls.decode(request, meta, body)
    return calls.finished(request, answer, meta, body)
