"""The bodies that every contender sends and receives, made here so that nothing has to be recorded."""

from __future__ import annotations

import base64
import json
import random
import struct
from pathlib import Path
from typing import Any

EVENTS = 500  # of one stream

_WORDS = ("the", "a", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "runs", "far", "away", "from")
_HEAD = {
    "date": "Sun, 01 Nov 2026 08:00:00 GMT",
    "server": "bench",
    "openai-organization": "org-bench",
    "openai-processing-ms": "213",
    "openai-version": "2020-10-01",
    "x-request-id": "req_00000000000000000000000000000000",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
}
_COMMON = {"id": "chatcmpl-bench0000000000000000000000", "created": 1_750_000_000, "model": "gpt-4o-mini-2024-07-18"}


def _words(count: int, seed: int) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(_WORDS) for _ in range(count))


def messages() -> list[dict[str, str]]:
    """A conversation of 8 messages: about 2 KB of JSON."""
    roles = ["system", *["user", "assistant"] * 3, "user"]
    return [{"role": role, "content": _words(44, number)} for number, role in enumerate(roles)]


def texts() -> list[str]:
    """100 texts to be embedded."""
    return [_words(20, number) for number in range(100)]


def _chat() -> dict[str, Any]:
    message = {"role": "assistant", "content": _words(50, 99), "refusal": None, "annotations": []}
    usage = {
        "prompt_tokens": 412,
        "completion_tokens": 50,
        "total_tokens": 462,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_COMMON, "object": "chat.completion", "choices": [choice], "usage": usage, "service_tier": "default"}


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {
        **_COMMON,
        "object": "chat.completion.chunk",
        "service_tier": "default",
        "system_fingerprint": "fp_bench00000",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _events(**more: Any) -> list[bytes]:
    words = [_chunk({"content": " " + _WORDS[number % len(_WORDS)]}, **more) for number in range(EVENTS - 2)]
    first = _chunk({"role": "assistant", "content": "", "refusal": None}, **more)
    return [first, *words, _chunk({}, "stop", **more), b"data: [DONE]\n\n"]


def _embeddings(as_base64: bool) -> dict[str, Any]:
    chosen = random.Random(7)
    data = []
    for index in range(100):
        vector = [round(chosen.uniform(-0.1, 0.1), 8) for _ in range(1_536)]
        packed = base64.b64encode(struct.pack("<1536f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else vector})
    usage = {"prompt_tokens": 2_000, "total_tokens": 2_000}
    return {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}


def _http(kind: str, body: bytes) -> bytes:
    fields = {**_HEAD, "content-type": kind, "content-length": str(len(body))}
    return _head(fields) + body


def _head(fields: dict[str, str]) -> bytes:
    return ("HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode()


def _chunked(parts: list[bytes]) -> list[bytes]:
    """A stream as HTTP chunks, one an event; the first part begins with the head."""
    fields = {**_HEAD, "content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return [_head(fields) + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]


def write(folder: Path) -> None:
    """Write the answers to where the server looks for them."""
    kind = "application/json"
    (folder / "chat.http").write_bytes(_http(kind, json.dumps(_chat()).encode()))
    (folder / "floats.http").write_bytes(_http(kind, json.dumps(_embeddings(False)).encode()))
    (folder / "vectors.http").write_bytes(_http(kind, json.dumps(_embeddings(True)).encode()))
    (folder / "burst.http").write_bytes(b"".join(_chunked(_events())))
    strange = {"provider": "bench", "x_groq": {"id": "req_1", "seed": 7}}
    (folder / "strange.http").write_bytes(b"".join(_chunked(_events(**strange))))
    parts = _chunked(_events())
    (folder / "paced.parts").write_bytes(b"".join(b"%d\n%b" % (len(part), part) for part in parts))
