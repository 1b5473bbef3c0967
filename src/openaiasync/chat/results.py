"""What a model is told of a tool's result or failure: text that never holds a traceback or a key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from ..model import BaseModel
from .errors import ToolError

__all__ = ["ContentParts", "content_of", "told_error"]

MAX_ERROR = 500  # characters of an exception's text that the model is told
_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s]+(?=@)"), "***"),  # user and password of a URL
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (re.compile(r"\b(?:sk|pk|gh[opsu]|xox[abps]|AKIA|AIza)[-_]?[\w-]{12,}"), "***"),
    (re.compile(r"(?i)\b(api[-_]?key|passw(?:or)?d|secret|token)(\s*[=:]\s*)(['\"]?)[^\s'\"&;,]+"), r"\1\2\3***"),
)


class ContentParts(list[dict[str, Any]]):
    """Content parts as a tool's result, sent as they are: ``ContentParts([{"type": "text", "text": "..."}, ...])``.

    OpenAI's own API takes only parts of type ``text`` in a tool's message; some servers take ``image_url`` there too.
    """


def content_of(value: Any, *, silent: bool = False) -> str | list[dict[str, Any]]:
    """The content of the message that tells the model a result: a str as it is, `ContentParts` too, the rest as JSON.

    `None` is ``null``, and ``ok`` where the tool is `silent`, declared to return nothing. Raises `TypeError` or
    `ValueError` for what JSON cannot carry.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, ContentParts):
        return list(value)
    if value is None and silent:
        return "ok"
    if isinstance(value, BaseModel):
        value = value.to_dict(mode="json")
    try:
        return msgspec.json.encode(value, enc_hook=_foreign).decode()
    except RecursionError:
        raise ValueError("the result contains itself, or is nested too deeply for JSON") from None


def _foreign(value: Any) -> Any:
    """Values that msgspec does not know: pydantic's models, numpy's numbers and arrays, paths, iterables."""
    kind: Any = value.__class__
    for name, arguments in (("model_dump", {"mode": "json", "by_alias": True}), ("tolist", {})):
        dump = getattr(value, name, None)
        if callable(dump) and kind is not type:
            return dump(**arguments)
    if isinstance(value, Mapping):
        return dict(cast("Any", value))
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if isinstance(value, Iterable):
        return list(cast("Any", value))
    raise TypeError(f"a result of type {kind.__name__} has no JSON form; return a text, a dict or a dataclass")


def told_error(error: BaseException, scrub: Callable[[bytes], bytes]) -> str:
    """What the model is told of an exception: its class and the beginning of its text, on one line.

    Taken out are this client's keys, and what looks like a credential in a URL, a header or an assignment. A
    `ToolError` was written for the model, and its text stands alone.
    """
    text = scrub(" ".join(str(error).split()).encode("utf-8", "replace")).decode("utf-8", "replace")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    if len(text) > MAX_ERROR:
        text = f"{text[:MAX_ERROR]}…"
    if isinstance(error, ToolError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
