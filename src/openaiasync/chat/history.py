"""The history of a session: messages in turns, valid for the API at any time, shared by forks until one changes.

A turn is a message of the user and everything that the model and its tools made of it. Turns are never modified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from ..core.codec.encode import encode_json
from ..core.model.base import BaseModel
from ..core.model.plain import mended

__all__ = [
    "History",
    "Turn",
    "check_messages",
    "copied",
    "plain_json",
    "plain_messages",
    "sendable",
    "split",
    "to_markdown",
]

Message = dict[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_HEAD = frozenset({"system", "developer"})


class Turn(NamedTuple):
    """One finished turn."""

    messages: tuple[Message, ...]
    model: str | None = None  # that answered, by the name in the answer
    finish_reason: str | None = None


def copied(value: Any) -> Any:
    """Return a deep copy of plain values; texts are shared."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in cast("Sequence[Any]", value)]
    return value


def plain_messages(messages: Any) -> list[Message]:
    """Return messages as new dicts; the given ones may be dicts, messages of answers, or have objects as parts.

    Raises `TypeError` for anything that is not a message, `ValueError` for what JSON cannot express.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise TypeError(f"messages must be a list of messages, not {type(cast('object', messages)).__name__}")
    items: list[Any] = list(cast("Any", messages))
    for index, item in enumerate(items):
        if not isinstance(item, (Mapping, BaseModel)):
            raise TypeError(f"messages[{index}] must be a dict or the message of an answer, not {type(item).__name__}")
    made: list[Message] = msgspec.json.decode(encode_json(items))
    for message in made:
        if message.get("role") == "assistant":
            # Null fields of an answer mean nothing, and strict servers refuse them.
            for name in [name for name, value in message.items() if value is None and name != "content"]:
                del message[name]
    return made


def sendable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return copies that can be sent, whatever text a model produced; see `plain_json`."""
    return tuple(plain_json(list(messages)))


def plain_json(value: Any) -> Any:
    """Return a copy that JSON can express: half of a UTF-16 pair, in names too, becomes U+FFFD; NaN becomes null."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, dict):
        fields = cast("dict[object, Any]", value)
        return {mended(key) if isinstance(key, str) else key: plain_json(item) for key, item in fields.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ---------------------------------------------------------------- validation


def check_messages(messages: Sequence[Any], start: int = 0) -> None:
    """Raise `ValueError` if no server would accept these messages; its text names the first invalid one.

    Checked are the roles, content where it is required, and that each tool call is answered exactly once, right after
    it. `start` is the index of the first message.
    """
    waiting: set[str] = set()  # tool calls that are not answered yet
    for index, message in enumerate(messages, start):
        fault = _fault(message, waiting)
        if fault:
            raise ValueError(f"messages[{index}] {fault}")
    if waiting:
        last = start + len(messages) - 1
        raise ValueError(f"messages[{last}] is the last one, but the tool call {min(waiting)!r} is not answered")


def _fault(message: Any, waiting: set[str]) -> str:
    """Return what is wrong with the next message, "" if it is valid; update the calls that wait for an answer."""
    if not isinstance(message, dict):
        return f"must be a dict, not {type(message).__name__}"
    fields = cast("Message", message)
    role, content = fields.get("role"), fields.get("content")
    if not isinstance(role, str) or role not in ROLES:
        return f"has the role {role!r:.60}, which is not one of {', '.join(sorted(ROLES))}"
    if isinstance(content, list) and not all(isinstance(part, (dict, str)) for part in cast("Any", content)):
        return "has content parts that are not objects"
    if role == "tool":
        answered = fields.get("tool_call_id")
        if not isinstance(answered, str) or answered not in waiting:
            return f"answers the tool call {answered!r:.60}, which does not exist or is answered already"
        waiting.discard(answered)
    elif waiting:
        return f"comes before the tool call {min(waiting)!r} is answered"
    if role == "assistant":
        return _assistant_fault(fields, waiting)
    return "" if isinstance(content, (str, list)) else f"has no content (a text or a list of parts) for the role {role}"


def _assistant_fault(fields: Message, waiting: set[str]) -> str:
    calls = fields.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list) or not calls:
            return "has tool_calls that are not a list of calls; leave the field out if there are none"
        for call in cast("Any", calls):
            name = cast("Message", call).get("id") if isinstance(call, dict) else None
            if not isinstance(name, str) or name in waiting:
                return f"has a tool call with the id {name!r:.60}; each needs its own id"
            if not isinstance(cast("Message", call).get("function", {}), dict):
                return f"has a tool call {name!r:.60} whose function is not an object"
            waiting.add(name)
    if calls or isinstance(fields.get("content"), (str, list)):
        return ""
    if any(fields.get(name) for name in ("refusal", "audio", "function_call")):
        return ""
    return "has neither content nor tool calls"


def split(messages: Sequence[Message]) -> tuple[list[Message], list[tuple[Message, ...]]]:
    """Return the system messages at the beginning, and the rest as turns, each from one message of the user on.

    Messages before the user's first one, such as a greeting by the model, form a separate turn.
    """
    begin = 0
    while begin < len(messages) and messages[begin]["role"] in _HEAD:
        begin += 1
    turns: list[list[Message]] = []
    for message in messages[begin:]:
        if not turns or message["role"] == "user":
            turns.append([])
        turns[-1].append(message)
    return list(messages[:begin]), [tuple(turn) for turn in turns]


# ---------------------------------------------------------------- the history


class History:
    """The turns of a session. `fork` takes constant time."""

    __slots__ = ("_head", "_owned", "_turns")

    def __init__(self, head: Sequence[Message] = (), turns: Iterable[Turn] = ()) -> None:
        self._head: tuple[Message, ...] = tuple(head)
        self._turns: list[Turn] = list(turns)
        self._owned = True  # the list is not shared

    @classmethod
    def of(cls, messages: Iterable[Any]) -> History:
        """Return the history of existing messages. Raises `TypeError` and `ValueError` for invalid ones."""
        made = plain_messages(messages)
        check_messages(made)
        head, turns = split(made)
        if turns and turns[-1][-1]["role"] == "user":
            raise ValueError(
                f"messages[{len(made) - 1}], the last one, is the user's and has no answer: pass it to say() instead"
            )
        return cls(head, map(Turn, turns))

    def fork(self) -> History:
        """Return an independent copy."""
        other = History(self._head)
        other._turns = self._turns
        other._owned = self._owned = False
        return other

    def _own(self) -> list[Turn]:
        if not self._owned:
            self._turns = self._turns.copy()
            self._owned = True
        return self._turns

    @property
    def head(self) -> tuple[Message, ...]:
        """The system messages at the beginning."""
        return self._head

    @property
    def turns(self) -> Sequence[Turn]:
        """The turns, oldest first. Do not modify the list."""
        return self._turns

    @property
    def system(self) -> str | None:
        """The text of the system message; `None` without one."""
        if not self._head:
            return None
        content = self._head[0]["content"]
        if isinstance(content, str):
            return content
        parts = cast("list[Any]", content)
        return "".join(str(cast("Message", part).get("text", "")) for part in parts if isinstance(part, dict))

    @system.setter
    def system(self, text: str | None) -> None:
        if text is None:
            self._head = ()
        else:
            role = self._head[0]["role"] if self._head else "system"
            self._head = ({"role": role, "content": text},)

    def set_head(self, head: Sequence[Message]) -> None:
        """Replace the system messages at the beginning."""
        self._head = tuple(head)

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self._turns)

    def append(self, turn: Turn) -> None:
        """Add a turn. Raises `ValueError` if the history would be invalid."""
        try:
            check_messages(turn.messages)
        except ValueError:  # checked again, so that the error has the index that the message would have
            check_messages(turn.messages, sum(len(one.messages) for one in self._turns) + len(self._head))
            raise
        self._own().append(turn)

    def keep(self, count: int) -> list[Turn]:
        """Keep the first `count` turns; return those that were removed."""
        gone = self._turns[count:]
        if gone:
            del self._own()[count:]
        return gone

    def flat(self, turns: int | None = None) -> list[Message]:
        """Return the messages of all turns, or of the first `turns`. Do not modify them."""
        found = list(self._head)
        for turn in self._turns[:turns]:
            found += turn.messages
        return found

    def messages(self) -> list[Message]:
        """Return copies of all messages."""
        return [copied(message) for message in self.flat()]

    def turn_at(self, index: int) -> int:
        """Return the number of the turn that starts with the user's message at this index (negative from the end).

        Raises `IndexError` if there is no such message, `ValueError` if it is not a message of the user.
        """
        total = len(self._head) + sum(len(turn.messages) for turn in self._turns)
        place = index + total if index < 0 else index
        if not 0 <= place < total:
            raise IndexError(f"there is no message {index}: the session has {total} messages")
        at = len(self._head)
        if place < at:
            raise ValueError(f"message {index} is the system prompt: set session.system instead")
        for number, turn in enumerate(self._turns):
            if place < at + len(turn.messages):
                message = turn.messages[place - at]
                if message["role"] != "user":
                    raise ValueError(
                        f"message {index} has the role {message['role']}; only messages of the user can be edited"
                    )
                if place != at:
                    raise ValueError(f"message {index} does not start its turn; edit the one that does")
                return number
            at += len(turn.messages)
        raise AssertionError("unreachable")


# ---------------------------------------------------------------- as Markdown

_NAMES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
_FENCES = re.compile(r"`{3,}")


def to_markdown(messages: Iterable[Message]) -> str:
    """Return a conversation as Markdown for people to read.

    Each message has a heading; consecutive ones of the model and its tools share one. Calls and results of tools are
    in fences, images are links or placeholders.
    """
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
    """Put a text into a fence that is longer than any in it (CommonMark, section 4.5)."""
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
