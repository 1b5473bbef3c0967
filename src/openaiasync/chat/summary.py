"""What is left of turns that no longer fit: a summary by the model, and how it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from .history import Message

__all__ = ["MARK", "Summary", "pieces", "question"]

MARK = "[Summary of the conversation so far]"
_ASKED = "What have we spoken about so far?"
_INSTRUCTIONS = (
    "Below is the beginning of a conversation between a user and an assistant that has become too long. Summarise it "
    "so that the assistant can go on as if it remembered: what the user wants, facts, names, numbers, decisions, and "
    "what is still open. Write the summary alone, in the language of the conversation, as short as it can be."
)
_LETTERS = 4  # of a token, about: a summary that a server let grow is cut by it


class Summary(NamedTuple):
    """A summary in the place of the first `turns` turns. It is sent as a question and its answer, which is marked.

    A pair, because many models' templates refuse two messages of one role in a row, or a second system message.
    """

    turns: int
    text: str
    bound: int = 1024  # tokens it may have

    def messages(self) -> list[Message]:
        """What stands for the turns in a request."""
        text = self.text.strip()
        if len(text) > 2 * _LETTERS * self.bound:
            text = text[: 2 * _LETTERS * self.bound] + " …"
        return [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": f"{MARK}\n{text}"}]


def question(before: str, piece: str) -> list[Message]:
    """The request for a summary of a piece of conversation, and of what a summary before said."""
    known = f"\n\nSummary of what came before:\n{before.strip()}" if before.strip() else ""
    return [{"role": "user", "content": f"{_INSTRUCTIONS}{known}\n\nConversation:\n{piece}"}]


def pieces(messages: Sequence[Message], room: int, weigh: Callable[[str], float]) -> Iterator[str]:
    """The messages as text, in pieces of at most so many tokens; one message that is longer is cut."""
    lines: list[str] = []
    used = 0.0
    for message in messages:
        line = _line(message)
        weight = weigh(line)
        if weight > room:
            # Its ends say most. Letters are not tokens, but in one text they are in proportion.
            half = int(len(line) * (room - 4) / weight) // 2
            line, weight = f"{line[:half]} … {line[-half:]}", float(room)
        if lines and used + weight > room:
            yield "\n".join(lines)
            lines, used = [], 0.0
        lines.append(line)
        used += weight
    if lines:
        yield "\n".join(lines)


def _line(message: Message) -> str:
    said = [_text(message.get("content")), str(message.get("refusal") or "")]
    calls: list[dict[str, Any]] = message.get("tool_calls") or []
    for call in calls:
        function: dict[str, Any] = call.get("function") or call.get("custom") or {}
        said.append(f"(calls {function.get('name')}: {function.get('arguments') or function.get('input') or ''})")
    return f"{message['role']}: {' '.join(part for part in said if part)}"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[Message]", content) if isinstance(content, list) else []
    return " ".join(str(part["text"]) if "text" in part else f"({part.get('type')})" for part in parts)
