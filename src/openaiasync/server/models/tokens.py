"""The demo models' tokenizer: a word with the space before it, a mark, a piece of white space. Joined: the text."""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

from ..validation import is_array
from .base import TokenChance

__all__ = ["chance_of", "count_message", "count_tokens", "message_text", "split_tokens", "words_of"]

_TOKEN = re.compile(r" ?[^\W_]+(?:['’][^\W_]+)?| ?[^\w\s]|_+|\s")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_MESSAGE_OVERHEAD = 3  # role and separators
_IMAGE = 85  # an image, whatever its size
_COMMON = (" the", ",", " a", ".", " and", " of", " to", " in", " it", " is", " that", " you", " I", "!", " on", " for",
           " not", " with", " as", " we", " at", " be", " this", " have")  # fmt: skip


def split_tokens(text: str) -> list[str]:
    """The text in tokens."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def words_of(text: str) -> list[str]:
    """The words alone, as written."""
    return _WORD.findall(text)


def message_text(message: dict[str, Any]) -> str:
    """The text of a message: its content, or its text parts joined."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


def count_message(message: dict[str, Any]) -> int:
    """What a message costs as part of a prompt, in tokens."""
    total = _MESSAGE_OVERHEAD + count_tokens(message_text(message))
    content: Any = message.get("content")
    if is_array(content):
        total += sum(_IMAGE for part in content if part["type"] == "image_url")
    for call in message.get("tool_calls") or ():
        body: dict[str, Any] = call[call["type"]]
        total += 2 + count_tokens(str(body.get("arguments", body.get("input", ""))))
    return total


def chance_of(token: str, position: int, top: int) -> TokenChance:
    """A plausible, deterministic log probability for a token of a rule-based reply, the token itself the likeliest."""
    noise = crc32(f"{position}:{token}".encode("utf-8", "surrogatepass"))
    logprob = -(noise % 900) / 1000 - 0.0001
    alternatives = [(token, logprob)]
    for rank in range(1, top):
        other = _COMMON[(noise + rank) % len(_COMMON)]
        if other == token:
            other = "\n"
        alternatives.append((other, logprob - 1.5 - 0.5 * rank - (noise >> rank) % 100 / 1000))
    return TokenChance(token, logprob, tuple(alternatives[:top]))
