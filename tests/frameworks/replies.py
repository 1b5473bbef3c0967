"""A model by script: words, tool calls, a refusal, a cut stream; whole or streamed, as asked.

Speaks chat completions and responses, whichever the framework asks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from scripted import LAST_CHUNK, STREAM_HEAD, Script, Seen, event, json_answer

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
DETAILS = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5,
}


class Reply(NamedTuple):
    """What the model does in one turn."""

    text: str = ""
    tool: str = ""  # to be called with `arguments`
    arguments: Any = None
    status: int = 200
    cut: bool = False  # the connection breaks after the first half


def model(*replies: Reply) -> Script:
    """A script that gives these replies in turn, and the last one from then on."""
    left = list(replies)

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        reply = left.pop(0) if len(left) > 1 else left[0]
        asked = seen.json()
        if reply.status != 200:
            error = {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
            writer.write(json_answer({"error": error}, reply.status, Retry_After="0", X_Request_Id="req-1"))
            return
        by_response = seen.target.endswith("/responses")
        whole = _response(reply, asked) if by_response else _completion(reply, asked)
        if not asked.get("stream"):
            raw = json_answer(whole)
            writer.write(raw[: len(raw) - 20] if reply.cut else raw)
        else:
            pieces = list(_events(reply, whole) if by_response else _chunks(reply, whole))
            raw = b"".join(pieces[: len(pieces) // 2] if reply.cut else pieces)
            writer.write(STREAM_HEAD + raw + (b"" if reply.cut else LAST_CHUNK))
        if reply.cut:
            await writer.drain()
            writer.close()

    return script


def _completion(reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.tool:
        function = {"name": reply.tool, "arguments": json.dumps(reply.arguments)}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    choice = {
        "index": 0,
        "finish_reason": "tool_calls" if reply.tool else "stop",
        "message": message,
        "logprobs": None,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked["model"],
        "choices": [choice],
        "usage": USAGE,
    }


def _chunks(reply: Reply, whole: dict[str, Any]) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**whole, "object": "chat.completion.chunk", "choices": [choice], "usage": None})

    yield chunk({"role": "assistant", "content": ""})
    if reply.tool:
        function = {"name": reply.tool, "arguments": ""}
        yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
        for part in _parts(json.dumps(reply.arguments)):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    for part in _parts(reply.text):
        yield chunk({"content": part})
    yield chunk({}, whole["choices"][0]["finish_reason"])
    yield event({**whole, "object": "chat.completion.chunk", "choices": []})
    yield event("[DONE]")


def _parts(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


def _response(reply: Reply, asked: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    item: dict[str, Any]
    if reply.tool:
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": reply.tool, "status": status}
        item["arguments"] = json.dumps(reply.arguments)
    else:
        part = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": asked["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": DETAILS,
    }


def _events(reply: Reply, whole: dict[str, Any]) -> Iterator[bytes]:
    number = 0

    def typed(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        data = json.dumps({"type": kind, "sequence_number": number, **fields})
        raw = f"event: {kind}\ndata: {data}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(raw), raw)

    (item,) = whole["output"]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    yield typed("response.created", response=begun)
    where = {"item_id": item["id"], "output_index": 0}
    if reply.tool:
        empty = {**item, "status": "in_progress", "arguments": ""}
        yield typed("response.output_item.added", output_index=0, item=empty)
        for part in _parts(item["arguments"]):
            yield typed("response.function_call_arguments.delta", delta=part, **where)
        yield typed("response.function_call_arguments.done", arguments=item["arguments"], name=item["name"], **where)
    else:
        (content,) = item["content"]
        empty = {**item, "status": "in_progress", "content": []}
        yield typed("response.output_item.added", output_index=0, item=empty)
        where["content_index"] = 0
        yield typed("response.content_part.added", part={**content, "text": ""}, **where)
        for part in _parts(reply.text):
            yield typed("response.output_text.delta", delta=part, logprobs=[], **where)
        yield typed("response.output_text.done", text=reply.text, logprobs=[], **where)
        yield typed("response.content_part.done", part=content, **where)
    yield typed("response.output_item.done", output_index=0, item=item)
    yield typed("response.completed", response=whole)
