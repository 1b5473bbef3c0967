"""A simple tokenizer, for usage that a handler does not report.

A token is a word with the space before it, or a punctuation mark; on average this gives about as many tokens as real
tokenizers, without their tables. The tokens joined are the text.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..core.model.plain import as_list
from .requests import texts_of

__all__ = ["count_prompt", "count_texts", "count_tokens", "split_tokens"]

_TOKEN = re.compile(r" ?[^\W_]+(?:['’][^\W_]+)?| ?[^\w\s]|_+|\s")
_EXACT = 16 * 1024  # characters up to which a prompt's tokens are counted one by one
_SAMPLES = 16
_MESSAGE = 3  # tokens for the role and the separators
_IMAGE = 85  # tokens of an image


def split_tokens(text: str) -> list[str]:
    """Return the tokens of a text."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Return the number of tokens of a text."""
    return len(_TOKEN.findall(text))


def count_prompt(body: dict[str, Any]) -> int:
    """Return the number of tokens of the messages and tools of a chat request, estimated if they are long."""
    total = _MESSAGE
    texts: list[str] = []
    for message in body["messages"]:
        content: Any = message.get("content")
        if isinstance(content, str):
            total += _MESSAGE
            texts.append(content)
        else:
            total += _MESSAGE
            texts.append(texts_of(content))
            total += sum(_IMAGE for part in as_list(content) if part.get("type") == "image_url")
        for call in message.get("tool_calls") or ():
            inner: dict[str, Any] = call.get(call.get("type")) or {}
            total += 2
            texts.append(str(inner.get("arguments", inner.get("input", ""))))
    if body.get("tools"):
        texts.append(msgspec.json.encode(body["tools"]).decode())
    return total + count_texts(texts)


def count_texts(texts: list[str]) -> int:
    """Return the number of tokens of texts, extrapolated from samples if they are long.

    A prompt may have many megabytes, and counting them would hold up the event loop for seconds.
    """
    length = total = 0
    for text in texts:
        length += len(text)
    if length <= _EXACT:
        for text in texts:
            total += len(_TOKEN.findall(text))
        return total
    text = "\n".join(texts)
    size = _EXACT // _SAMPLES
    found = sum(count_tokens(text[start : start + size]) for start in range(0, length - size + 1, length // _SAMPLES))
    return max(1, round(found * length / _EXACT))
