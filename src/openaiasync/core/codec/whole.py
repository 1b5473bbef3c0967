"""Converts whole answers in place of streams to the events that a server should have sent.

Some servers ignore ``stream`` and send one object, others put the whole object into a single event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..model.plain import as_dict, as_list, is_dict, is_list

__all__ = ["as_chunk", "as_completion", "events_of_whole", "is_whole_chat", "requested_choices", "whole_of_event"]

_STATUSES = {"completed": "completed", "failed": "failed", "incomplete": "incomplete", "cancelled": "incomplete"}


class _RequestedChoices(msgspec.Struct):
    n: Any = None
    prompt: Any = None


def requested_choices(body: Any) -> int:
    """Return how many choices a request asks for, `n` for each prompt; 0 if its body does not say."""
    if not isinstance(body, bytes):
        return 0
    try:
        parsed = msgspec.json.decode(body, type=_RequestedChoices)
    except (ValueError, RecursionError):
        return 0
    n, prompt = parsed.n, parsed.prompt
    each = n if isinstance(n, int) and n > 0 else 1
    prompts = as_list(prompt)
    if prompts and not isinstance(prompts[0], int):  # a list of numbers is one prompt
        return each * len(prompts)
    return each


def is_whole_chat(fields: Any) -> bool:
    """Whether an object is a whole chat answer: choices with a message and without a delta."""
    choices = as_list(as_dict(fields).get("choices"))
    return any(_has(choice, "message") and not _has(choice, "delta") for choice in choices)


def events_of_whole(event_type: str | None, value: Any) -> list[bytes]:
    """Return the data of the events for a whole answer; none if it is not an answer of this kind."""
    if is_list(value):
        return [event for item in value for event in events_of_whole(event_type, item)]
    fields = as_dict(value)
    kind = "" if event_type is None else event_type.rpartition(":")[2]
    made: list[dict[str, Any]]
    if event_type is None:
        made = [fields] if fields else []
    elif kind == "ChatCompletionChunk":
        made = _chat(fields)
    elif kind == "Completion":
        made = [fields] if as_list(fields.get("choices")) else []
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
        return [fields] if any(_has(choice, "delta") for choice in as_list(fields.get("choices"))) else []
    return [
        {
            **fields,
            "object": "chat.completion.chunk",
            "choices": [_chunk_choice(choice, place) for place, choice in enumerate(fields["choices"])],
        }
    ]


def _has(choice: Any, name: str) -> bool:
    return isinstance(as_dict(choice).get(name), dict)


def _chunk_choice(choice: Any, place: int) -> Any:
    if not _has(choice, "message"):
        return choice
    rest = {name: value for name, value in choice.items() if name not in ("message", "delta")}
    delta = dict(choice["message"])
    if calls := as_list(delta.get("tool_calls")):
        delta["tool_calls"] = [{"index": number, **as_dict(call)} for number, call in enumerate(calls)]
    return {"index": place, **rest, "delta": delta}


def as_chunk(fields: dict[str, Any], *, repeats: bool) -> dict[str, Any]:
    """Return the values of a chunk of a chat answer with a delta in every choice, as chunks need.

    Azure omits the delta in chunks about its content filter; small servers send a `message` or a `text` instead.
    MiniMax ends a stream with the whole answer: with `repeats`, a message repeats what was streamed, and is dropped.
    """
    choices = [
        choice if _has(choice, "delta") else _with_delta(choice, place, repeats=repeats)
        for place, choice in enumerate(as_list(fields.get("choices")))
    ]
    return {**fields, "object": "chat.completion.chunk", "choices": choices}


def as_completion(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a chunk of a completion that was sent with the deltas of a chat answer."""
    texts = [
        {**choice, "text": choice["delta"].get("content")} if _has(choice, "delta") else choice
        for choice in as_list(fields.get("choices"))
    ]
    return {**fields, "choices": texts}


def _with_delta(choice: Any, place: int, *, repeats: bool) -> Any:
    if _has(choice, "message") and not repeats:
        return _chunk_choice(choice, place)
    if not is_dict(choice):
        return choice
    rest = {name: value for name, value in choice.items() if name not in ("message", "delta", "text")}
    text: Any = choice.get("text")
    return {"index": place, **rest, "delta": {"content": text} if isinstance(text, str) else {}}


def _response(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the texts of a response as deltas, and its terminal event."""
    if isinstance(fields.get("type"), str) and fields["type"].startswith("response."):
        return [fields]  # a single event that was sent without `data:`
    output: Any = fields.get("output")
    if not (is_list(output) or fields.get("object") == "response"):
        return []
    events: list[dict[str, Any]] = []
    for place, item in enumerate(map(as_dict, as_list(output))):
        parts = as_list(item.get("content")) if item.get("type") == "message" else []
        for number, part in enumerate(map(as_dict, parts)):
            if isinstance(part.get("text"), str):
                where = {"item_id": item.get("id") or "", "output_index": place, "content_index": number}
                delta: dict[str, Any] = {"delta": part["text"], "logprobs": [], "sequence_number": len(events)}
                events.append({"type": "response.output_text.delta", **where, **delta})
    status = _STATUSES.get(str(fields.get("status")), "completed")
    return [*events, {"type": f"response.{status}", "sequence_number": len(events), "response": fields}]


def _images(fields: Mapping[str, Any], word: str) -> list[dict[str, Any]]:
    shared = {name: value for name, value in fields.items() if name not in ("data", "created")}
    created = {"created_at": fields["created"]} if "created" in fields else {}
    images = filter(None, map(as_dict, as_list(fields.get("data"))))
    return [{**shared, **created, **image, "type": f"{word}.completed"} for image in images]


def whole_of_event(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer in the last event of a stream of a transcript or images; `None` for any other event."""
    kind = event.get("type")
    rest = {name: value for name, value in event.items() if name != "type"}
    if kind == "transcript.text.done":
        return rest
    if kind in ("image_generation.completed", "image_edit.completed"):
        image = {name: rest.pop(name) for name in ("b64_json", "url", "revised_prompt") if name in rest}
        return {"created": rest.pop("created_at", None), "data": [image], **rest}
    return None
