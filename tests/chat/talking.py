"""A server that talks by cues in what the user says last, and refuses any history that a strict server would."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openaiasync import Client
from openaiasync.chat.history import check_messages
from scripted import LAST_CHUNK, STREAM_HEAD, Scripted, Seen, event, json_answer, scripted


def faults(messages: list[dict[str, Any]]) -> str:
    """What a server with a strict template would say; "" for messages that it takes."""
    try:
        check_messages(messages)
    except ValueError as error:
        return str(error)
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        return "a system message that is not the first"
    spoken = [role for role in roles if role in ("user", "assistant")]
    for before, after in itertools.pairwise(spoken):
        if before == after == "user":
            return "two user messages in a row"
    if roles[-1] not in ("user", "tool"):
        return "the last message is not the user's or a tool's"
    return ""


def words(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", f"({part['type']})") for part in content or [])


def chat_answer(seen: Seen, message: dict[str, Any], finish: str) -> dict[str, Any]:
    sent = seen.json()
    usage = {"prompt_tokens": tokens_of(sent["messages"]), "completion_tokens": 5}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{sent['model']}-v1",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {**usage, "total_tokens": usage["prompt_tokens"] + 5},
    }


def tokens_of(messages: list[dict[str, Any]]) -> int:
    """As this server counts: words, and 4 a message."""
    return sum(4 + len(words(message.get("content")).split()) for message in messages)


def reply_to(messages: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """The model: what it says, and why it stops."""
    last = messages[-1]
    said = words(last.get("content"))
    if last["role"] == "tool":
        return {"role": "assistant", "content": f"the tool said {said}"}, "stop"
    if "tool" in said:
        names = ["add", "add"] if "tools" in said else ["nothing" if "unknown" in said else "add"]
        arguments = '{"a": 1' if "garbled" in said else '{"a": 1, "b": 2}'
        made = [
            {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, name in enumerate(names)
        ]
        return {"role": "assistant", "content": None, "tool_calls": made}, "tool_calls"
    if said.startswith("Below is the beginning of a conversation"):
        return {"role": "assistant", "content": "they greeted"}, "stop"
    if "long" in said:
        return {"role": "assistant", "content": "and so on"}, "length"
    if "refuse" in said:
        return {"role": "assistant", "content": None, "refusal": "I will not."}, "stop"
    if "surrogate" in said:
        return {"role": "assistant", "content": "half \ud83d"}, "stop"
    return {"role": "assistant", "content": f"you said {said}", "reasoning_content": "hm"}, "stop"


def _chunks(seen: Seen, message: dict[str, Any], finish: str) -> list[dict[str, Any]]:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": f"{seen.json()['model']}-v1"}
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"content": word + " "} for word in (message.get("content") or "").split()]
    deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(message.get("tool_calls") or [])]
    deltas += [{name: message[name]} for name in ("refusal", "reasoning_content") if message.get(name)]
    made = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    made.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return made


class Talker:
    """The script, with what tests steer: `gate` holds answers to "wait" until it is set; `limit` is its context."""

    def __init__(self, limit: int | None = None) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.limit = limit
        self.complaints: list[str] = []

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        sent = seen.json()
        messages = sent["messages"]
        if fault := faults(messages):
            self.complaints.append(f"{fault}: {json.dumps(messages)}")
            writer.write(json_answer({"error": {"message": fault, "code": "invalid"}}, 400))
            return
        count = tokens_of(messages)
        if self.limit is not None and count > self.limit:
            error = {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}
            writer.write(json_answer({"error": error}, 400))
            return
        said = words(messages[-1].get("content")) if messages[-1]["role"] == "user" else ""
        if "fail" in said:
            writer.write(json_answer({"error": {"message": "no"}}, 422))
            return
        message, finish = reply_to(messages)
        if "wait" in said and not sent.get("stream"):
            self.waiting.set()
            await self.gate.wait()
        if not sent.get("stream"):
            writer.write(json_answer(chat_answer(seen, message, finish)))
            return
        await self._stream(seen, writer, said, message, finish)

    async def _stream(self, seen: Seen, writer: asyncio.StreamWriter, said: str, message: Any, finish: str) -> None:
        writer.write(STREAM_HEAD)
        chunks = _chunks(seen, message, finish)
        if "cut" in said:
            writer.write(b"".join(map(event, chunks[:3])))
            await writer.drain()
            writer.close()
            return
        for number, chunk in enumerate(chunks):
            writer.write(event(chunk))
            if number == 2 and "wait" in said:
                await writer.drain()
                self.waiting.set()
                await self.gate.wait()
        if (seen.json().get("stream_options") or {}).get("include_usage"):
            whole = chat_answer(seen, message, finish)
            writer.write(event({**chunks[0], "choices": [], "usage": whole["usage"]}))
        writer.write(event("[DONE]") + LAST_CHUNK)


@asynccontextmanager
async def talking(
    limit: int | None = None, kind: type[Talker] = Talker, **options: Any
) -> AsyncIterator[tuple[Client, Scripted, Talker]]:
    """A client, its server, and the talker; at the end the server must have had no complaint."""
    talker = kind(limit)
    async with scripted(talker) as server:
        async with Client(api_base=server.url, **{"model": "m", "max_retries": 0, **options}) as client:
            yield client, server, talker
        assert talker.complaints == []


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
