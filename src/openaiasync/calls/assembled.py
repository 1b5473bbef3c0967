"""The answer in a stream of events that nobody asked for: some servers stream whatever the request says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..core.decode import DecodeError, decoder_for, keep
from ..core.ending import Ending
from ..core.endpoint import Request
from ..core.sse import SSEDecoder, SSEError
from ..meta import Meta
from . import failure as failures
from .binary import media_type

if TYPE_CHECKING:
    from .engine import Calls

__all__ = ["assembled", "is_unasked_stream"]


def is_unasked_stream(request: Request, meta: Meta) -> bool:
    """Whether this answer is a stream of the events that the endpoint would send if it were asked to."""
    return bool(request.endpoint.event) and media_type(meta) == "text/event-stream"


def assembled(calls: Calls, request: Request, meta: Meta, body: bytes) -> Any:
    """The whole answer: chunks put together, or what the terminal event carries as `response`.

    Raises what reading the stream would raise: `IncompleteStreamError`, or the error object in it.
    """
    endpoint = request.endpoint
    decode = decoder_for(endpoint.load(endpoint.event), strict=calls.config.strict).decode
    ending = Ending(endpoint.event)
    chunks = _accumulator(endpoint.event) if ending.by_choice else None
    answer: Any = None
    done = False
    for name, data in _events(meta, body):
        if data == b"[DONE]":
            done = True
            break
        try:
            item = decode(data)
        except DecodeError as error:
            raise failures.refused(meta, calls.composer.scrub(data), error.reason, name) from None
        if name == "error" or failures.holds_error(item):
            raise failures.refused(meta, calls.composer.scrub(data), "an error", name)
        ending.see(item, name)
        if chunks is not None:
            chunks.add(item)
        elif ending.complete:
            answer = _carried(calls, request, meta, data)
            break
    if chunks is None and answer is not None:
        return answer
    if chunks is not None and (done or ending.complete):
        return keep(chunks.final(), None, meta)
    partial = None if chunks is None else chunks.partial()
    raise failures.broken_stream(meta, "the stream ended before its answer was complete", partial)


def _events(meta: Meta, body: bytes) -> list[tuple[str, bytes]]:
    try:
        events = SSEDecoder().feed(body)
    except SSEError as error:
        raise failures.invalid_answer(meta, b"", str(error)) from None
    return [("", event) if isinstance(event, bytes) else (event.event, event.data) for event in events]


def _accumulator(event: str) -> Any:
    from ..core.accumulate import ChatAccumulator, CompletionAccumulator

    return ChatAccumulator() if event.endswith(":ChatCompletionChunk") else CompletionAccumulator()


def _carried(calls: Calls, request: Request, meta: Meta, data: bytes) -> Any:
    """The answer that a terminal event carries; `None` if it carries none."""
    try:
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("response")
        return None if raw is None else keep(calls.decoder(request).decode(bytes(raw)), bytes(raw), meta)
    except (ValueError, RecursionError):
        return None
