"""Assemble the answer from an unrequested event stream: some servers stream even if the request does not ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..core.codec.decode import DecodeError, decoder_for, keep
from ..core.codec.endpoint import Request
from ..core.http.sse import (
    SSEDecoder,
    SSEError,
    is_done,
    is_silent,
)
from ..core.model.meta import Meta
from ..core.model.plain import as_index, json_of, parse_json
from ..lazy import resolve_annotations
from . import failures, log
from .streams import ending_of

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["assembled"]


def assembled(calls: Engine, request: Request, meta: Meta, body: bytes) -> Any:
    """Return the whole answer: accumulated chunks, the terminal event's `response`, or the content of a single event.

    Raises what reading the stream would raise: `IncompleteStreamError`, or the error object in it.
    """
    events, done, decoder = _events(meta, body)
    if len(events) == 1 and (answer := _alone(calls, request, meta, events[0])) is not None:
        return answer
    if not request.endpoint.event:
        raise failures.undecodable(meta, body, "the body is events instead of an answer")
    return _Assembly(calls, request, meta).answer(events, done, decoder)


def _events(meta: Meta, body: bytes) -> tuple[list[tuple[str, bytes]], bool, SSEDecoder]:
    """Return the name and data of each non-empty event, whether ``[DONE]`` was received, and the parser that read
    them."""
    decoder = SSEDecoder()
    try:
        events = [*decoder.feed(body), *decoder.finish()]
    except SSEError as error:
        raise failures.invalid_answer(meta, b"", str(error)) from None
    found: list[tuple[str, bytes]] = []
    for event in events:
        if is_done(event):
            return found, True, decoder
        if not is_silent(event):
            found.append(("", event) if isinstance(event, bytes) else (event.event, event.data))
    return found, False, decoder


def _alone(calls: Engine, request: Request, meta: Meta, event: tuple[str, bytes]) -> Any:
    """Return the answer that a single event holds, unless the event is part of a stream; else `None`."""
    from ..core.codec.whole import is_whole_chat

    name, data = event
    try:
        value: Any = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    if name == "error" or not isinstance(value, dict):
        return None
    fields: dict[str, Any] = cast("Any", value)
    endpoint = request.endpoint
    # A chat chunk is not an answer; an event of a text completion is.
    of_stream = "choices" in fields and not is_whole_chat(fields) and endpoint.event not in ("", endpoint.type)
    kind = fields.get("type")
    typed = isinstance(kind, str) and "." in kind
    return None if of_stream or typed else calls.decode(request, meta, data)


class _Assembly:
    """Accumulates the events of one stream."""

    def __init__(self, calls: Engine, request: Request, meta: Meta) -> None:
        self._calls = calls
        self._request = request
        self._meta = meta
        self._ending = ending_of(request)
        event = request.endpoint.event
        self._decode = decoder_for(request.endpoint.load(event), strict=calls.config.strict).decode
        self._chunks: Any = _accumulator(event) if self._ending.by_choice else None
        self._items: dict[int, Any] = {}  # of a response, by their place in its output
        self._texts: dict[tuple[int, int], str] = {}
        self._answer: Any = None

    def answer(self, events: list[tuple[str, bytes]], done: bool, decoder: SSEDecoder) -> Any:
        for name, data in events:
            self._take(name, data)
            if self._answer is not None:
                return self._answer
        verdict = self._ending.end(done=done, exact=True)
        if self._chunks is None or verdict == "short" or (verdict == "unfinished" and self._calls.config.strict):
            partial = None if self._chunks is None else self._chunks.partial()
            why = "the stream ended before its answer was complete"
            if decoder.unknown_line:
                why = f"{why}; the server said: {failures.words_of(self._meta, decoder.unknown_line)}"
            raise failures.broken_stream(self._meta, why, partial)
        if verdict == "unfinished":
            self._meta.complete = False
            log.unfinished(self._calls, self._request)
        return keep(self._chunks.final(), None, self._meta)

    def _take(self, name: str, data: bytes) -> None:
        reason = failures.ERROR
        item: Any = None
        try:
            item = self._decode(data)
        except DecodeError as error:
            reason = error.reason
        if item is None or name == "error" or failures.is_error_event(item, data):
            refusal = failures.refused(self._meta, data, reason, name)
            if self._chunks is not None:
                refusal.partial = self._chunks.partial()
            raise refusal
        self._ending.feed(item, name)
        if self._chunks is not None:
            self._chunks.add(item)
            return
        self._note(data)
        if self._ending.complete:
            self._answer = self._carried(data)

    def _note(self, data: bytes) -> None:
        """Record the output items of a response: some servers send a terminal event without them."""
        value: Any = parse_json(data)
        kind, place = value.get("type"), as_index(value.get("output_index")) or 0
        if kind == "response.output_item.done" and isinstance(value.get("item"), dict):
            self._items[place] = value["item"]
        elif kind == "response.output_text.delta" and isinstance(value.get("delta"), str):
            key = (place, as_index(value.get("content_index")) or 0)
            self._texts[key] = self._texts.get(key, "") + value["delta"]

    def _output(self) -> list[Any]:
        """Return the streamed output; an item without its final event is built from its text deltas."""
        texts: dict[int, list[Any]] = {}
        for (place, _), text in sorted(self._texts.items()):
            texts.setdefault(place, []).append({"type": "output_text", "text": text, "annotations": []})
        messages = {
            place: {"type": "message", "id": "", "role": "assistant", "status": "completed", "content": content}
            for place, content in texts.items()
        }
        return [item for _, item in sorted({**messages, **self._items}.items())]

    def _carried(self, data: bytes) -> Any:
        """Return the answer in a terminal event, or `None` without one."""
        from ..core.codec.whole import whole_of_event

        try:
            event: Any = parse_json(data)
            response: Any = event.get("response")
        except (ValueError, RecursionError, AttributeError):
            return None
        if not isinstance(response, dict):
            whole = whole_of_event(event)
            return whole and self._decoded(json_of(whole))
        fields: dict[str, Any] = cast("Any", response)
        try:
            raw = bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])["response"])
        except ValueError:  # only Python's parser takes it
            raw = json_of(fields)
        if not fields.get("output") and (output := self._output()):
            raw = json_of({**fields, "output": output})
        return self._decoded(raw)

    def _decoded(self, raw: bytes) -> Any:
        try:
            return keep(self._calls.decoder(self._request).decode(raw), raw, self._meta)
        except DecodeError:
            return None


def _accumulator(event: str) -> Any:
    from ..core.codec.accumulate import ChatAccumulator, CompletionAccumulator

    return ChatAccumulator() if event.endswith(":ChatCompletionChunk") else CompletionAccumulator()


resolve_annotations(__name__)
