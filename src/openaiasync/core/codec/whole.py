"""Whole answers in the place of streams: the events that a server would have sent.

Some servers answer with one object whatever the request says, others put it into a single event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

__all__ = ["as_chunk", "as_completion", "choices_asked", "events_of_whole", "is_whole_chat", "whole_of_event"]

_STATUSES = {"completed": "completed", "failed": "failed", "incomplete": "incomplete", "cancelled": "incomplete"}


class _Asked(msgspec.Struct):
    n: Any = None
    prompt: Any = None


def choices_asked(body: Any) -> int:
    """How many choices a request asks for: `n` for each prompt; 0 where its body does not tell."""
    if not isinstance(body, bytes):
        return 0
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except (ValueError, RecursionError):
        return 0
    n, prompt = asked.n, asked.prompt
    each = n if isinstance(n, int) and n > 0 else 1
    prompts = _list(prompt)
    if prompts and not isinstance(prompts[0], int):  # a list of numbers is one prompt
        return each * len(prompts)
    return each


def _list(value: Any) -> list[Any]:
    return cast("Any", value) if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return cast("Any", value) if isinstance(value, dict) else {}


def is_whole_chat(fields: Any) -> bool:
    """Whether this is a whole chat answer: choices with a message, and no delta."""
    choices = _list(_object(fields).get("choices"))
    return any(_has(choice, "message") and not _has(choice, "delta") for choice in choices)


def events_of_whole(event_type: str | None, value: Any) -> list[bytes]:
    """The data of the events that a whole answer is made into; none where it is not an answer of this kind."""
    if isinstance(value, list):
        return [event for item in _list(value) for event in events_of_whole(event_type, item)]
    fields = _object(value)
    kind = "" if event_type is None else event_type.rpartition(":")[2]
    made: list[dict[str, Any]]
    if event_type is None:
        made = [fields] if fields else []
    elif kind == "ChatCompletionChunk":
        made = _chat(fields)
    elif kind == "Completion":
        made = [fields] if _list(fields.get("choices")) else []
    elif kind in ("ResponseStreamEvent", "BetaResponseStreamEvent"):
        made = _response(fields)
    elif kind in ("ImageGenStreamEvent", "ImageEditStreamEvent"):
        made = _images(fields, "image_generation" if kind.startswith("ImageGen") else "image_edit")
    elif kind == "TranscriptionStreamEvent" and isinstance(fields.get("text"), str):
        made = [{**fields, "type": "transcript.text.done"}]
    else:
        made = []
    return [msgspec.json.encode(event) for event in made]


def _chat(fields: dict[str, Any]) -> list[dict[str, Any]]:
    if not is_whole_chat(fields):
        return [fields] if any(_has(choice, "delta") for choice in _list(fields.get("choices"))) else []
    return [
        {
            **fields,
            "object": "chat.completion.chunk",
            "choices": [_chunk_choice(choice, place) for place, choice in enumerate(fields["choices"])],
        }
    ]


def _has(choice: Any, name: str) -> bool:
    return isinstance(_object(choice).get(name), dict)


def _chunk_choice(choice: Any, place: int) -> Any:
    if not _has(choice, "message"):
        return choice
    rest = {name: value for name, value in choice.items() if name not in ("message", "delta")}
    delta = dict(choice["message"])
    if calls := _list(delta.get("tool_calls")):
        delta["tool_calls"] = [{"index": number, **_object(call)} for number, call in enumerate(calls)]
    return {"index": place, **rest, "delta": delta}


def as_chunk(fields: dict[str, Any], *, repeats: bool) -> dict[str, Any]:
    """The values of a chunk of a chat answer in which every choice has a delta, as chunks have to.

    Azure leaves the delta out of chunks about its content filter; small servers send a `message` or a `text` in its
    place. MiniMax ends a stream with the whole answer: with `repeats`, a message says again what was streamed.
    """
    choices = [
        choice if _has(choice, "delta") else _with_delta(choice, place, repeats=repeats)
        for place, choice in enumerate(_list(fields.get("choices")))
    ]
    return {**fields, "object": "chat.completion.chunk", "choices": choices}


def as_completion(fields: dict[str, Any]) -> dict[str, Any]:
    """The values of a chunk of a completion in which the deltas of a chat answer stand for texts."""
    texts = [
        {**choice, "text": choice["delta"].get("content")} if _has(choice, "delta") else choice
        for choice in _list(fields.get("choices"))
    ]
    return {**fields, "choices": texts}


def _with_delta(choice: Any, place: int, *, repeats: bool) -> Any:
    if _has(choice, "message") and not repeats:
        return _chunk_choice(choice, place)
    if not isinstance(choice, dict):
        return choice
    fields = cast("dict[str, Any]", choice)
    rest = {name: value for name, value in fields.items() if name not in ("message", "delta", "text")}
    text: Any = fields.get("text")
    return {"index": place, **rest, "delta": {"content": text} if isinstance(text, str) else {}}


def _response(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The texts of a response as deltas, and its terminal event."""
    if isinstance(fields.get("type"), str) and fields["type"].startswith("response."):
        return [fields]  # a single event that came without `data:`
    output: Any = fields.get("output")
    if not (isinstance(output, list) or fields.get("object") == "response"):
        return []
    events: list[dict[str, Any]] = []
    for place, item in enumerate(map(_object, _list(output))):
        parts = _list(item.get("content")) if item.get("type") == "message" else []
        for number, part in enumerate(map(_object, parts)):
            if isinstance(part.get("text"), str):
                where: dict[str, Any] = {
                    "item_id": item.get("id") or "",
                    "output_index": place,
                    "content_index": number,
                }
                delta: dict[str, Any] = {
                    "type": "response.output_text.delta",
                    **where,
                    "delta": part["text"],
                    "logprobs": [],
                }
                events.append({**delta, "sequence_number": len(events)})
    status = _STATUSES.get(str(fields.get("status")), "completed")
    return [*events, {"type": f"response.{status}", "sequence_number": len(events), "response": fields}]


def _images(fields: Mapping[str, Any], word: str) -> list[dict[str, Any]]:
    shared = {name: value for name, value in fields.items() if name not in ("data", "created")}
    created = {"created_at": fields["created"]} if "created" in fields else {}
    images = filter(None, map(_object, _list(fields.get("data"))))
    return [{**shared, **created, **image, "type": f"{word}.completed"} for image in images]


def whole_of_event(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer that the last event of a stream of words or images holds; `None` for any other event."""
    kind = event.get("type")
    rest = {name: value for name, value in event.items() if name != "type"}
    if kind == "transcript.text.done":
        return rest
    if kind in ("image_generation.completed", "image_edit.completed"):
        image = {name: rest.pop(name) for name in ("b64_json", "url", "revised_prompt") if name in rest}
        return {"created": rest.pop("created_at", None), "data": [image], **rest}
    return None
