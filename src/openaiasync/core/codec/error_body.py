"""Reads an error body of any shape: the server's message, and its code, type and param if it has them.

Servers agree on a status and on little else. The names below are those that real servers use for these values; case,
underscores and hyphens make no difference. For a body without a message the first characters are shown.
"""

from __future__ import annotations

import codecs
import html
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..model.plain import as_dict, is_dict, is_list, mended_json

__all__ = ["ErrorDetails", "parse_error", "read_error"]

_SHOWN = 300  # characters of a body without a message
_MARKUP = 20_000  # characters of a page that are read
_DEPTH = 6  # levels of objects that are read
_ITEMS = 5  # items of a list of errors that are shown

# Names of an error object inside the body, the most specific first.
_NESTED = (
    "error",
    "errors",
    "err",
    "fault",  # Apigee, SOAP
    "exception",
    "errordata",
    "baseresp",  # MiniMax
)
# Names of the message. Cohere and most others: `message`; FastAPI: `detail`; Baidu: `error_msg`; OAuth:
# `error_description`.
_WORDS = (
    "message",
    "msg",
    "errormessage",
    "errormsg",
    "errmsg",
    "statusmsg",
    "detail",
    "errordescription",
    "faultstring",
    "reason",  # Elasticsearch
    "description",
    "cause",
    "details",
)
# Names of objects that may hold the message if the fields above do not: envelopes of other errors and of answers.
_ENVELOPES = ("title", "result", "response", "data", "body", "metadata", "innererror", "messages", "statusdescription")
_CODES = ("code", "errorcode", "errcode", "statuscode")
_TYPES = ("type", "errortype", "status")
_PARAMS = ("param", "parameter", "field", "loc", "pointer")
_NO_TYPES = frozenset({"error", "fail", "failed", "failure"})
_TOKEN = re.compile(r"[A-Za-z0-9_.#:/-]{1,80}")


class ErrorDetails(NamedTuple):
    """The facts in an error body: `message` is ``""`` without one."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None


_NOTHING = ErrorDetails()


def parse_error(raw: bytes) -> Any:
    """Return the values of a JSON body, also inside a string or an event; the text of any other, `None` if empty."""
    text = _text(raw).strip()
    value: Any = _parsed(text)
    if isinstance(value, str):  # JSON in a string, or an event: Bedrock, some proxies
        inner: Any = _parsed(value.strip().removeprefix("data:").partition("\n\n")[0].strip())
        value = inner if is_dict(inner) or is_list(inner) else value
    return value if value != "" else None


def read_error(body: Any) -> ErrorDetails:
    """Return the facts in a body that `parse_error` has parsed. Does not raise."""
    try:
        details = _read(body, 0)
    except RecursionError:
        details = _NOTHING
    if details.message or body is None:
        return details
    if isinstance(body, str):
        return details._replace(message=body[:_SHOWN])
    try:
        shown = json.dumps(body, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return details
    return details._replace(message=shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…")


def _text(raw: bytes) -> str:
    """Decode UTF-8, UTF-16 by its mark, and anything else as Windows-1252, which has a character for most bytes."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.end >= len(raw) - 3 and error.reason == "unexpected end of data":
            return raw.decode("utf-8-sig", "replace")  # a body that was cut inside a character
    return raw.decode("cp1252", "replace")


def _parsed(text: str) -> Any:
    try:
        # Servers that cut texts send half of a surrogate pair, which the error's message must not hold.
        return json.loads(mended_json(text) if "\\ud" in text or "\\uD" in text else text)
    except (ValueError, RecursionError):
        return text


# -------------------------------------------------------------------------------------------------- objects


def _read(value: Any, depth: int) -> ErrorDetails:
    if depth > _DEPTH:
        return _NOTHING
    if isinstance(value, str):
        return _read_text(value.strip(), depth)
    if is_list(value):
        return _joined([_read(item, depth + 1) for item in value[:_ITEMS]])
    if is_dict(value):
        return _read_object(value, depth)
    return _NOTHING


def _read_text(text: str, depth: int) -> ErrorDetails:
    if text.startswith(("{", "[", '"')):  # an upstream's body, passed on as a string
        parsed = _parsed(text)
        inner = _read(parsed, depth + 1) if parsed != text else _NOTHING
        return inner if inner.message else ErrorDetails(text)
    return _read_markup(text) if text.startswith("<") else ErrorDetails(text)


def _read_object(value: dict[str, Any], depth: int) -> ErrorDetails:
    fields = {_plain(name): item for name, item in reversed(value.items()) if item is not None}
    own = ErrorDetails(
        code=_code(value, fields),
        type=_first(fields, _TYPES, _as_type),
        param=_first(fields, _PARAMS, _as_param) or _as_param(as_dict(fields.get("source")).get("pointer")),  # JSON:API
    )
    nested = _look(fields, _NESTED, depth)
    words = _look(fields, _WORDS, depth)
    if not nested.message and not words.message:
        words = _look(fields, _ENVELOPES, depth)
    elif title := fields.get("title"):  # RFC 9457: a title for the type of problem, a detail for this one
        words = _together(_read(title, depth + 1), words)
    if "raw" in (more := as_dict(fields.get("metadata"))):  # OpenRouter: the body of the provider's error
        words = _together(words, _read(more["raw"], depth + 1)._replace(code=None, type=None))
    name = fields.get("error")
    if own.code is None and isinstance(name, str) and words.message and _TOKEN.fullmatch(name):
        own = own._replace(code=name)  # OAuth: {"error": "invalid_client", "error_description": "…"}
    found = _together(nested, words)
    if own.param and depth and "loc" in fields:
        found = found._replace(message=f"{own.param}: {found.message}")
    if not found.message:
        found = _together(_by_field(value, depth), found)
    return ErrorDetails(
        found.message, nested.code or own.code or found.code, nested.type or own.type or found.type,
        nested.param or own.param or found.param,
    )  # fmt: skip


def _look(fields: Mapping[str, Any], names: tuple[str, ...], depth: int) -> ErrorDetails:
    """Return the facts in the first of these fields that has a message."""
    silent = _NOTHING
    for name in names:
        if name in fields:
            silent = _together(_read(fields[name], depth + 1), silent)
            if silent.message:
                break
    return silent


def _together(one: ErrorDetails, other: ErrorDetails) -> ErrorDetails:
    """Combine two parts of one error; a message that contains the other is used alone."""
    if other.message in one.message:
        message = one.message
    elif one.message in other.message:
        message = other.message
    else:
        message = f"{one.message}: {other.message}"
    return ErrorDetails(message, one.code or other.code, one.type or other.type, one.param or other.param)


def _joined(parts: list[ErrorDetails]) -> ErrorDetails:
    """Combine several errors: all messages, and the first code, type and param."""
    words = dict.fromkeys(part.message for part in parts if part.message)
    code, kind, param = (next((part[i] for part in parts if part[i]), None) for i in (1, 2, 3))
    return ErrorDetails("; ".join(words), code, kind, param)


def _by_field(value: dict[str, Any], depth: int) -> ErrorDetails:
    """Return the facts in ``{"name": ["is required"]}``, as validators of Django, Rails and ASP.NET write errors."""
    messages: dict[str, str] = {}
    for name, found in list(value.items())[:_ITEMS]:
        if is_list(found) and found and all(isinstance(item, str) for item in found):
            messages[name] = "; ".join(found[:_ITEMS])
        elif depth and isinstance(found, str) and " " in found.strip():
            messages[name] = found
    return ErrorDetails(
        "; ".join(f"{name}: {words}" for name, words in messages.items()), param=next(iter(messages), None)
    )


# -------------------------------------------------------------------------------------------------- single fields


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _first(fields: Mapping[str, Any], names: tuple[str, ...], read: Any) -> str | None:
    return next((found for name in names if name in fields and (found := read(fields[name]))), None)


def _code(value: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    named: Any = value.get("__type")  # AWS: the name of an exception, sometimes behind its namespace
    if isinstance(named, str) and named:
        return named.rpartition("#")[2]
    return _first(fields, _CODES, _as_code) or _as_code(as_dict(fields.get("extensions")).get("code"))  # GraphQL


def _as_code(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return str(value) if isinstance(value, str) or abs(value) < 10**12 else None


def _as_type(value: Any) -> str | None:
    return value.rpartition("#")[2] if isinstance(value, str) and value.lower() not in _NO_TYPES else None


def _as_param(value: Any) -> str | None:
    """Return a parameter's name; a path like FastAPI's `loc` in the API's notation: ``messages[0].role``."""
    if isinstance(value, str):
        return value or None
    if not is_list(value):
        return None
    path = ""
    for step in value:
        if isinstance(step, int):
            path += f"[{step}]"
        elif isinstance(step, str) and (path or step not in ("body", "query", "path", "header")):
            path += f".{step}" if path else step
    return path or None


# -------------------------------------------------------------------------------------------------- markup

_UNSEEN = (("<script", "</script"), ("<style", "</style"), ("<!--", "--"))
_TAG = re.compile(r"<[^<>]*>")
_ELEMENT = re.compile(r"<(?:\w+:)?(code|errorcode|type|message|msg|faultstring|detail|title)>([^<]*)<", re.IGNORECASE)


def _read_markup(text: str) -> ErrorDetails:
    """Return the message in XML (S3: ``<Code>``, ``<Message>``) or the text of a page."""
    text = text[:_MARKUP]
    elements = {name.lower(): html.unescape(words).strip() for name, words in reversed(_ELEMENT.findall(text))}
    words = next((elements[name] for name in ("message", "msg", "faultstring", "detail") if elements.get(name)), "")
    if not words:
        for start, end in _UNSEEN:
            text = _without(text, start, end)
        words = " ".join(html.unescape(_TAG.sub(" ", text)).split())
        if title := " ".join(elements.get("title", "").split()):  # a page often repeats it as its heading
            words = words.replace(f"{title} {title}", title, 1)
        words = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
    return ErrorDetails(words, elements.get("code") or elements.get("errorcode"), elements.get("type"))


def _without(text: str, start: str, end: str) -> str:
    """Return the text without everything between these marks, or after `start` if `end` is missing."""
    lowered = text.lower()
    kept: list[str] = []
    at = 0
    while (begin := lowered.find(start, at)) >= 0:
        kept.append(text[at:begin])
        close = lowered.find(end, begin + len(start))
        at = lowered.find(">", close) + 1 if close >= 0 else 0
        if not at:
            return "".join(kept)
    return "".join([*kept, text[at:]])
