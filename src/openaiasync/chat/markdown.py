"""A conversation as Markdown, to be read by people: who said what, tools folded into fences, images named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from .history import Message

__all__ = ["to_markdown"]

_NAMES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
_FENCES = re.compile(r"`{3,}")


def to_markdown(messages: Iterable[Message]) -> str:
    """The messages under a heading each; consecutive ones of the model and its tools under one."""
    lines: list[str] = []
    last = ""
    for message in messages:
        name = _NAMES.get(str(message["role"]), "Assistant")
        if name != last or message["role"] == "user":
            lines.append(f"## {name}")
            last = name
        lines += _blocks(message)
    return "\n\n".join(lines) + "\n" if lines else ""


def _blocks(message: Message) -> Iterator[str]:
    if message["role"] in ("tool", "function"):
        yield "Result:"
        yield _fenced("\n".join(_content(message.get("content"))))
        return
    yield from _content(message.get("content"))
    if refusal := message.get("refusal"):
        yield f"*Refused:* {refusal}"
    calls: list[dict[str, Any]] = message.get("tool_calls") or []
    for call in calls:
        called: dict[str, Any] = call.get("function") or call.get("custom") or {}
        yield f"Calls `{called.get('name')}`:"
        yield _fenced(
            str(called.get("arguments") or called.get("input") or ""), "json" if "arguments" in called else ""
        )


def _fenced(text: str, language: str = "") -> str:
    """A text in a fence longer than any in it (CommonMark, section 4.5)."""
    longest = max((len(run) for run in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _content(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        if content.strip():
            yield content.strip()
        return
    parts = cast("list[Message]", content) if isinstance(content, list) else []
    for part in parts:
        kind = str(part.get("type"))
        inner = part.get(kind)
        if isinstance(inner, str):
            yield inner.strip()
        elif kind == "image_url":
            yield _image(str(cast("Message", inner or {}).get("url", "")))
        else:
            yield f"*({kind.replace('_', ' ')})*"


def _image(url: str) -> str:
    if url.startswith("data:"):
        kind, _, data = url[5:].partition(",")
        return f"*(image: {kind.partition(';')[0]}, {len(data) * 3 // 4:,} bytes)*"
    return f"![image](<{url}>)"
