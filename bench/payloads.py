"""The bodies that all contenders send and receive, generated so that nothing has to be recorded."""

from __future__ import annotations

import base64
import json
import random
import struct
from pathlib import Path
from typing import Any

EVENTS = 500  # of one stream
SIZED_EVENTS = 60  # of one stream whose events have a chosen size
EVENT_SIZES = (100, 1_000, 10_000, 100_000)
LARGE = 50_000_000  # approximate bytes of a large answer

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
    """Return a conversation of 8 messages, about 2 KB of JSON."""
    roles = ["system", *["user", "assistant"] * 3, "user"]
    return [{"role": role, "content": _words(44, number)} for number, role in enumerate(roles)]


def prompt(size: int) -> list[dict[str, str]]:
    """Return a conversation with one message of this many bytes."""
    return [{"role": "user", "content": (_words(200, 5) * (size // 800 + 1))[:size]}]


def texts() -> list[str]:
    """Return 100 texts to embed."""
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
    """Return a stream as HTTP chunks, one per event; the first part begins with the head."""
    fields = {**_HEAD, "content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
    return [_head(fields) + chunks[0], *chunks[1:-1], chunks[-1] + b"0\r\n\r\n"]


def _sized(size: int) -> list[bytes]:
    """Return a stream whose events carry texts of this many bytes."""
    return [*[_chunk({"content": "word " * (size // 5)})] * SIZED_EVENTS, _chunk({}, "stop"), b"data: [DONE]\n\n"]


def request() -> bytes:
    """Return a small chat request as sent over the wire."""
    body = json.dumps({"model": "gpt-4o-mini", "messages": messages()}).encode()
    head = b"POST /chat/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer sk-bench-0123456789abcdef\r\n"
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def write(folder: Path) -> None:
    """Write the answers to the server's folder, and the request that the limit in C sends."""
    kind = "application/json"
    (folder / "chat.http").write_bytes(_http(kind, json.dumps(_chat()).encode()))
    (folder / "floats.http").write_bytes(_http(kind, json.dumps(_embeddings(False)).encode()))
    (folder / "vectors.http").write_bytes(_http(kind, json.dumps(_embeddings(True)).encode()))
    (folder / "burst.http").write_bytes(b"".join(_chunked(_events())))
    for size in EVENT_SIZES:
        (folder / f"events-{size}.http").write_bytes(b"".join(_chunked(_sized(size))))
    strange = {"provider": "bench", "x_groq": {"id": "req_1", "seed": 7}}
    (folder / "strange.http").write_bytes(b"".join(_chunked(_events(**strange))))
    *words, finish, done = _events()
    parts = _chunked([*words, finish + done])  # the last part ends a stream of any length properly
    (folder / "paced.parts").write_bytes(b"".join(b"%d\n%b" % (len(part), part) for part in parts))
    (folder / "request").write_bytes(request())


def write_large(folder: Path) -> None:
    """Return embeddings of about 50 MB: as JSON floats, and as base64."""
    for name, as_base64 in (("large-floats", False), ("large-vectors", True)):
        answer = _embeddings(as_base64)
        kept = json.dumps(answer["data"]).encode()[1:-1]
        times = LARGE // len(kept) + 1
        tail = json.dumps({"usage": answer["usage"]}).encode()[1:]
        body = b'{"object": "list", "model": "text-embedding-3-small", "data": [%b], %b' % (
            b", ".join([kept] * times),
            tail,
        )
        (folder / f"{name}.http").write_bytes(_http("application/json", body))
