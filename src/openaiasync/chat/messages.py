"""The messages of a turn: the user's (text, images and sound) and the model's, read from an answer of any dialect."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from ..core.codec.reasoning import drop_lone_reasoning, split_thinking
from ..core.model.mixins import reasoning_of, text_of
from ..core.model.plain import mended
from ..engine.attachments import AudioSource, ImageSource, ReadingTime, audio_parts, image_urls, sources
from ..engine.engine import Engine
from .history import Message, check_messages, plain_json, plain_messages
from .reply import ToolCall

__all__ = ["ParsedAnswer", "UserInput", "ids_in", "read_answer"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")


class UserInput:
    """What the user says in one turn: checked when it is created, files are read by `message`."""

    def __init__(
        self,
        text: str | Sequence[Any] | None,
        images: ImageSource | Sequence[ImageSource] | None,
        audio: AudioSource | Sequence[AudioSource] | None,
        where: str,
    ) -> None:
        """Create the input. Raises `TypeError` or `ValueError` for an invalid message; `where` prefixes their texts."""
        self._where = where
        self._images: list[Any] = _sources(images, "image", where)
        self._audio: list[Any] = _sources(audio, "sound", where)
        self._content: str | list[Any] = _content(text, where)
        if not self._content and not self._images and not self._audio:
            raise ValueError(f"{where}: the message is empty: no text, no images, no audio")

    async def message(self, engine: Engine, params: Mapping[str, Any]) -> Message:
        """Read the files and return the message.

        Raises `OSError`, `ValueError` for a file that is not an image or not a sound, and `APITimeoutError`.
        """
        if not self._images and not self._audio:
            return {"role": "user", "content": self._content}
        content = self._content
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
        if not isinstance(content, str):
            parts += content
        time = ReadingTime(engine, params, "/chat/completions", self._where)
        urls = await image_urls(self._images, self._where, time)
        parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        parts += await audio_parts(self._audio, self._where, time)
        return {"role": "user", "content": parts}


def _sources(value: Any, kind: str, where: str) -> list[Any]:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return []
    return sources(value, kind, where)


def _content(text: Any, where: str) -> str | list[Any]:
    if text is None or isinstance(text, str):
        return text or ""
    if isinstance(text, (list, tuple)):
        made = plain_messages([{"role": "user", "content": text}])
        check_messages(made)
        parts: list[Any] = made[0]["content"]
        if parts and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    kind = type(cast("object", text)).__name__
    raise TypeError(f"{where} takes the user's text, or a list of content parts (dicts with a type), not {kind}")


class ParsedAnswer(NamedTuple):
    """The parts of an answer that a turn uses."""

    text: str
    reasoning: str
    refusal: str
    finish_reason: str | None
    calls: list[ToolCall]
    message: dict[str, Any]  # for the history; each of its tool calls still needs its answer


def ids_in(messages: Iterable[Any]) -> set[str]:
    """Return the ids of all tool calls in these messages."""
    found: set[str] = set()
    for message in messages:
        if isinstance(message, dict):
            fields = cast("dict[str, Any]", message)
            found.update(str(call.get("id")) for call in _dicts(fields.get("tool_calls")))
    return found


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in what should be a list of objects."""
    items: list[Any] = cast("Any", value) if isinstance(value, list) else []
    return [one for one in items if isinstance(one, dict)]


def read_answer(
    answer: Any, taken: set[str], *, keep_reasoning: bool = False, think_tags: bool = False
) -> ParsedAnswer:
    """Read the first choice of an answer, as far as it can be read: a malformed answer does not raise.

    Tool calls without an id, or with one that is in `taken`, get a new one; all ids are added to `taken`.
    ``function_call``, the predecessor of tool calls, becomes one.
    """
    choices: Any = answer.choices
    choice: Any = cast("Any", choices)[0] if isinstance(choices, list) and choices else None
    message: Any = getattr(choice, "message", None)
    fields: dict[str, Any] = message.to_dict(mode="json") if hasattr(message, "to_dict") else {}
    content = text_of(fields.get("content"))
    text, thought = split_thinking(content) if think_tags else (content, "")
    if think_tags and not thought:
        text, thought = drop_lone_reasoning(text)
    reasoning = reasoning_of(message) + thought
    kept: dict[str, Any] = {"role": "assistant", "content": content if keep_reasoning else text}
    calls, entries = _tool_calls(fields, taken)
    if entries:
        if fields.get("content") is None:
            kept["content"] = None
        kept["tool_calls"] = entries
    refusal = fields.get("refusal")
    if isinstance(refusal, str) and refusal:
        kept["refusal"] = refusal
    audio = fields.get("audio")
    if isinstance(audio, dict) and "id" in audio:
        kept["audio"] = {"id": cast("dict[str, Any]", audio)["id"]}
    if keep_reasoning:
        # An empty text is kept, too: DeepSeek refuses a history in which `reasoning_content` is missing.
        kept.update((name, fields[name]) for name in _REASONING if fields.get(name) is not None)
    reason = getattr(choice, "finish_reason", None)
    refusal, reason = (value if isinstance(value, str) else None for value in (refusal, reason))
    return ParsedAnswer(text, reasoning, refusal or "", reason, calls, kept)


def _tool_calls(fields: dict[str, Any], taken: set[str]) -> tuple[list[ToolCall], list[dict[str, Any]]]:
    """Return the calls, and their entries for the history."""
    entries = _dicts(fields.get("tool_calls"))
    if not entries and isinstance(fields.get("function_call"), dict):
        entries = [{"function": fields["function_call"]}]
    calls: list[ToolCall] = []
    kept: list[dict[str, Any]] = []
    for entry in entries:
        kind, argument = ("custom", "input") if isinstance(entry.get("custom"), dict) else ("function", "arguments")
        inner = cast("dict[str, Any]", entry[kind]) if isinstance(entry.get(kind), dict) else {}
        name, arguments = inner.get("name"), inner.get(argument)
        name = name if isinstance(name, str) else ""
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else msgspec.json.encode(plain_json(arguments)).decode()
        arguments = _encodable(_unquoted(arguments))
        call = ToolCall(id=_unique_id(entry.get("id"), taken), name=name, arguments=arguments)
        calls.append(call)
        sent = {**inner, "name": _NOT_IN_NAMES.sub("_", name)[:64] or "unknown"}
        sent[argument] = arguments if kind == "custom" else _json_object(arguments)
        rest = {key: value for key, value in entry.items() if key not in ("index", "function", "custom")}
        kept.append({**rest, "id": call.id, "type": kind, kind: sent})
    return calls, kept


def _unique_id(given: Any, taken: set[str]) -> str:
    name = mended(given) if isinstance(given, str) else ""
    if not name or name in taken:
        name = f"call_{os.urandom(12).hex()}"
    taken.add(name)
    return name


def _unquoted(arguments: str) -> str:
    """Return arguments without a second encoding: some models write the object's JSON as a JSON string."""
    if arguments.lstrip().startswith('"'):
        try:
            inner = msgspec.json.decode(arguments, type=str)
        except (ValueError, RecursionError):
            return arguments
        if inner.lstrip().startswith("{"):
            return inner
    return arguments


def _encodable(arguments: str) -> str:
    """Return arguments that can be decoded and sent: half of a UTF-16 pair, escaped or not, becomes U+FFFD."""
    text = mended(arguments)
    if "\\u" not in text:
        return text
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        try:
            return msgspec.json.encode(plain_json(json.loads(text))).decode()
        except (ValueError, RecursionError):
            return text
    return text


def _json_object(arguments: str) -> str:
    """Return arguments for the history, where many servers parse them and fail on anything but a JSON object."""
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except (ValueError, RecursionError):
        return "{}"
    return arguments
