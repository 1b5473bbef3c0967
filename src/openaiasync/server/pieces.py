"""The pieces that a handler of the server kit may return or yield, besides plain strings and dicts.

They are Structs, since making a dataclass takes most of a millisecond of every import of the kit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

__all__ = [
    "ContentDelta",
    "Finish",
    "Piece",
    "ReasoningDelta",
    "RefusalDelta",
    "ToolCallDelta",
    "UsageReport",
    "pieces_of",
    "plain",
]


class ContentDelta(msgspec.Struct, frozen=True):
    """A part of the answer's text, with its log probability and the likeliest alternatives, if known."""

    text: str
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()


class ReasoningDelta(msgspec.Struct, frozen=True):
    """A part of the model's reasoning, which precedes the answer."""

    text: str


class RefusalDelta(msgspec.Struct, frozen=True):
    """A part of the text of a refusal."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A call of a tool. A piece without a `name` adds to the arguments of the call before it.

    `arguments` is JSON for a function, any text for a custom tool. `id` defaults to a new one.
    """

    name: str = ""
    arguments: str = ""
    id: str = ""
    kind: Literal["function", "custom"] = "function"


class UsageReport(msgspec.Struct, frozen=True):
    """The number of tokens used by one choice, which replaces the kit's own count."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0


class Finish(msgspec.Struct, frozen=True):
    """The finish reason of the answer: ``stop``, ``length``, ``content_filter``, ``tool_calls``.

    It must be the last piece.
    """

    reason: str
    fields: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


_FIELDS: Final = frozenset([
    "annotations", "audio", "choices", "content", "function_call", "reasoning", "reasoning_content", "refusal", "role",
    "tool_calls", "usage",
])  # fmt: skip
"""The fields of messages, deltas and answers."""

Piece: TypeAlias = ContentDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | UsageReport | Finish


def plain(value: Any) -> Any:
    """Return an answer as JSON-like data: Structs and models of other libraries become dicts."""
    for name in ("to_dict", "model_dump"):
        method = getattr(value, name, None)
        if callable(method):
            return method()
    return value


def pieces_of(item: Any) -> Iterator[Piece]:
    """Yield the pieces that one item of a handler stands for.

    A string is content; a dict is a message, a delta, a whole ``chat.completion`` or one of its chunks; `None` is
    nothing. Raises `TypeError` for anything else.
    """
    if isinstance(item, str):
        yield ContentDelta(item)
    elif isinstance(item, Piece):
        yield item
    elif isinstance(value := plain(item), dict):
        yield from _from_dict(cast("dict[str, Any]", value))
    elif item is not None:
        raise TypeError(f"a chat handler returned or yielded {type(item).__name__}, which is not a piece of an answer")


def _from_dict(value: dict[str, Any]) -> Iterator[Piece]:
    if _FIELDS.isdisjoint(value):
        raise TypeError(f"a chat handler returned or yielded a dict that is not a message: it has {list(value)[:5]}")
    choices: list[dict[str, Any]] = value.get("choices") or []
    choice = choices[0] if choices else {}
    message: dict[str, Any] = choice.get("message") or choice.get("delta") or ({} if "choices" in value else value)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning:
        yield ReasoningDelta(str(reasoning))
    content = message.get("content")
    if content:
        yield ContentDelta(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
    if message.get("refusal"):
        yield RefusalDelta(str(message["refusal"]))
    for call in message.get("tool_calls") or ():
        kind: Any = call.get("type") or ("custom" if "custom" in call else "function")
        body: dict[str, Any] = call.get(kind) or {}
        arguments = _text_of(body.get("input" if kind == "custom" else "arguments") or "")
        yield ToolCallDelta(str(body.get("name") or ""), arguments, str(call.get("id") or ""), kind)
    usage: dict[str, Any] | None = value.get("usage")
    if usage:
        details: dict[str, Any] = usage.get("completion_tokens_details") or {}
        cached: dict[str, Any] = usage.get("prompt_tokens_details") or {}
        yield UsageReport(
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
            int(details.get("reasoning_tokens") or 0),
            int(cached.get("cached_tokens") or 0),
        )
    if choice.get("finish_reason"):
        yield Finish(str(choice["finish_reason"]))


def _text_of(arguments: Any) -> str:
    """Return the arguments of a tool call as text; handlers also give the object that the text should encode."""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
