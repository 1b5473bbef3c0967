"""Prompts and answers as JSON, in the form of the conventions: recorded only if enabled.

For media only kind and size are recorded. Requests are read from their JSON, answers from their objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..core.codec.accumulate import ChatAccumulator, CompletionAccumulator
from ..core.codec.endpoint import Request
from ..core.model.base import BaseModel
from ..lazy import resolve_annotations
from .attributes import clean

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    Attributes = dict[str, AttributeValue]

__all__ = ["Gathered", "input_attributes"]

_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "file": "document",
    "input_file": "document",
}


def input_attributes(request: Request) -> Attributes:
    """Return the input: messages, instructions, tools; empty for uploads."""
    if not isinstance(request.body, bytes):
        return {}
    try:
        loaded: object = json.loads(request.body)
    except ValueError:
        return {}
    if not isinstance(loaded, dict):
        return {}
    body = cast("dict[str, Any]", loaded)
    found: dict[str, Any] = {}
    name = request.endpoint.name
    if name == "vector_stores.search":
        found["gen_ai.retrieval.query.text"] = body.get("query") if isinstance(body.get("query"), str) else None
    elif name == "responses.create":
        found["gen_ai.input.messages"] = _items(body.get("input"))
        if body.get("instructions"):
            found["gen_ai.system_instructions"] = _parts(body["instructions"])
    elif "messages" in body:
        found["gen_ai.input.messages"] = [_message(one) for one in _dicts(body["messages"])]
    elif isinstance(body.get("prompt"), str):
        found["gen_ai.input.messages"] = _items(body["prompt"])
    if body.get("tools"):
        found["gen_ai.tool.definitions"] = [_tool(one) for one in _dicts(body["tools"])]
    return {name: clean(value) if isinstance(value, str) else _json(value) for name, value in found.items() if value}


class Gathered:
    """The output: an answer, or the events of a stream so far, accumulated."""

    def __init__(self, request: Request) -> None:
        event = request.endpoint.event
        self._sum: Any = None
        if request.stream and event.endswith(":ChatCompletionChunk"):
            self._sum = ChatAccumulator()
        elif request.stream and event.endswith(":Completion"):
            self._sum = CompletionAccumulator()
        self._answer: Any = None

    def take(self, item: Any) -> None:
        """Add an answer or an event."""
        if self._sum is not None:
            self._sum.add(item)
        else:
            self._answer = getattr(item, "response", None) or item

    def attributes(self) -> Attributes:
        """Return ``gen_ai.output.messages``, or no attribute if there are no messages."""
        answer: Any = self._answer if self._sum is None else self._sum.partial()
        said = answer.to_dict() if isinstance(answer, BaseModel) else {}
        messages = [_choice(choice) for choice in _dicts(said.get("choices"))]
        if not messages and said.get("object") == "response":
            parts = [part for message in _items(said.get("output")) for part in message["parts"]]
            reason = said.get("status") or ""
            messages = [{"role": "assistant", "parts": parts, "finish_reason": reason}] if parts else []
        elif not messages and isinstance(said.get("text"), str):  # a transcript
            messages = [{"role": "assistant", "parts": _parts(said["text"]), "finish_reason": "stop"}]
        return {"gen_ai.output.messages": _json(messages)} if messages else {}


# -------------------------------------------------------------------------------------------------- messages


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    fields = choice.get("message")
    message = _message(cast("dict[str, Any]", fields) if isinstance(fields, dict) else {"content": choice.get("text")})
    return {"role": "assistant", **message, "finish_reason": choice.get("finish_reason") or ""}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a chat message in the form of the conventions."""
    parts: list[dict[str, Any]] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        parts.append({"type": "reasoning", "content": thought})
    if message.get("role") == "tool":
        parts.append(
            {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}
        )
    else:
        parts += _parts(message.get("content"))
    if message.get("refusal"):
        parts.append({"type": "refusal", "content": message["refusal"]})
    for call in _dicts(message.get("tool_calls")):
        function: Any = call.get("function") or call.get("custom")
        if isinstance(function, dict):
            named = cast("dict[str, Any]", function)
            arguments = _arguments(named.get("arguments", named.get("input")))
            parts.append({"type": "tool_call", "id": call.get("id"), "name": named.get("name"), "arguments": arguments})
    made: dict[str, Any] = {"role": message.get("role") or "assistant", "parts": parts}
    if message.get("name"):
        made["name"] = message["name"]
    return made


def _items(given: Any) -> list[dict[str, Any]]:
    """Return the items of a response's input or output as messages; a plain text is the user's."""
    if isinstance(given, str):
        return [{"role": "user", "parts": _parts(given)}]
    return [_item(item) for item in _dicts(given)]


def _item(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type") or "message"
    role = item.get("role") or "assistant"
    if kind == "message":
        return {"role": role, "parts": _parts(item.get("content"))}
    if kind == "function_call":
        arguments = _arguments(item.get("arguments"))
        part = {"type": "tool_call", "id": item.get("call_id"), "name": item.get("name"), "arguments": arguments}
        return {"role": role, "parts": [part]}
    if kind == "function_call_output":
        part = {"type": "tool_call_response", "id": item.get("call_id"), "response": item.get("output")}
        return {"role": "tool", "parts": [part]}
    if kind == "reasoning":
        texts = [one.get("text") for one in (*_dicts(item.get("summary")), *_dicts(item.get("content")))]
        return {"role": role, "parts": [{"type": "reasoning", "content": text} for text in texts if text]}
    return {"role": role, "parts": [{"type": kind, "id": item.get("id")}]}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}] if content else []
    return [_part(part) for part in _dicts(content)]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    text = part.get("text") or part.get("refusal")
    if isinstance(text, str):
        return {"type": "text" if "text" in part else "refusal", "content": text}
    modality = _MEDIA.get(str(kind))
    if modality is None:
        return {"type": str(kind)}
    inner: Any = part.get(str(kind), part)
    fields = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {"url": inner}
    if fields.get("file_id"):
        return {"type": "file", "modality": modality, "file_id": fields["file_id"]}
    where = fields.get("url") or fields.get("image_url") or fields.get("file_url")
    data = fields.get("data") or fields.get("file_data") or where
    if isinstance(where, str) and not where.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": where}
    return {"type": "blob", "modality": modality, "content": "", "size": len(data) if isinstance(data, str) else 0}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function: Any = tool.get("function")
    named = cast("dict[str, Any]", function) if isinstance(function, dict) else tool
    return {"type": tool.get("type") or "function", "name": named.get("name") or tool.get("type")}


def _arguments(text: Any) -> Any:
    if isinstance(text, str):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    items = cast("Sequence[Any]", value) if isinstance(value, list) else ()
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _json(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


resolve_annotations(__name__)
