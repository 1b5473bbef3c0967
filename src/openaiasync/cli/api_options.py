"""Parameters of the API on the command line: ``-o NAME VALUE``, typed by the API's own description."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..lazy import resolve_annotations
from ..storage.disk import read_file
from .console import CommandError, note

if TYPE_CHECKING:
    from ..core.codec.endpoint import Endpoint

__all__ = ["api_parameters", "extra_body_in", "header_fields"]

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LARGEST_BODY = 16 << 20  # bytes of a file for --extra-body
_SHOWN = 60  # characters of a wrong value that a message shows


def api_parameters(
    endpoint: Endpoint, pairs: Iterable[tuple[str, str]], flags: Mapping[str, str], option: str = "-o"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of an operation that the pairs name, and apart from them those that it does not have.

    A value is read as the types that the API has for the parameter: ``0.5`` is a number for ``temperature``, a text for
    ``user``. Parameters that the API does not have are sent, too, since other servers have more; a note names the
    nearest known one. `flags` maps parameters with an option of their command to that option; `option` is the option of
    the pairs, for messages.

    Raises `CommandError` for a value of another type, and for parameters in `flags`.
    """
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    kinds: Callable[[str], frozenset[str]] | None = None
    for given, text in pairs:
        name = given.replace("-", "_") if given not in endpoint.known else given
        if name in flags:
            raise CommandError(f"{option} {given}: {flags[name]}")
        if name not in endpoint.known:
            _note_nearest(f"{option} {given}", given, endpoint)
            unknown[given] = _any_value(text)
            continue
        if kinds is None:
            kinds = _kinds(endpoint.name)
        known[name] = _value(f"{option} {name}", text, kinds(name))
    return known, unknown


def _kinds(operation: str) -> Callable[[str], frozenset[str]]:
    from ..server.validation import kinds_of_field

    return kinds_of_field(operation)


def _note_nearest(shown: str, name: str, endpoint: Endpoint) -> None:
    from ..core.codec.endpoint import nearest

    hint = nearest(name, endpoint.known)
    if hint:
        note(f"{shown} is not a parameter of OpenAI's API{hint} It is sent as it is.")


def _any_value(text: str) -> Any:
    """Return the JSON value that a text is, or the text: for parameters whose type is unknown."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _value(shown: str, text: str, kinds: frozenset[str]) -> Any:
    """Return a text as a value of one of these JSON types. Raises `CommandError`."""
    if not kinds:
        return _any_value(text)
    if "file" in kinds:
        return Path(text).expanduser()
    word = text.strip()
    if word == "null" and ("null" in kinds or "string" not in kinds):
        return None
    if "boolean" in kinds and word.lower() in _BOOLEANS:
        return _BOOLEANS[word.lower()]
    number = _number(word, kinds)
    if number is not None:
        return number
    if kinds & {"array", "object"}:
        value = _any_value(word) if word[:1] in ("[", "{") else None
        if (isinstance(value, list) and "array" in kinds) or (isinstance(value, dict) and "object" in kinds):
            return cast("Any", value)
    if "string" in kinds:
        return text
    raise CommandError(f"{shown} takes {_described(kinds)}, not {_shortened(text)!r}")


def _number(word: str, kinds: frozenset[str]) -> int | float | None:
    try:
        if kinds & {"integer", "number"}:
            return int(word)
    except ValueError:
        pass
    try:
        # JSON has neither infinities nor NaN.
        if "number" in kinds and (value := float(word)) - value == 0:
            return value
    except ValueError:
        pass
    return None


def _described(kinds: frozenset[str]) -> str:
    words = {
        "integer": "an integer",
        "number": "a number",
        "boolean": "true or false",
        "array": "a JSON array",
        "object": "a JSON object",
    }
    named = [words[kind] for kind in words if kind in kinds and not (kind == "integer" and "number" in kinds)]
    return " or ".join(named)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def extra_body_in(text: str | None) -> dict[str, Any]:
    """Return the fields in the value of ``--extra-body``: a JSON object, or ``@`` and the file that has it."""
    if text is None:
        return {}
    source = "--extra-body"
    if text.startswith("@"):
        try:
            text = read_file(Path(source := text[1:]).expanduser(), _LARGEST_BODY).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CommandError(f"cannot read {source} for --extra-body: {why}") from None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{source} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandError(f'{source} is not a JSON object, such as {{"top_k": 40}}')
    return cast("dict[str, Any]", value)


def header_fields(lines: Iterable[str]) -> dict[str, str]:
    """Return header fields by name, from lines such as ``X-Team: docs``. Raises `CommandError`."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise CommandError("--header takes a header field, such as 'X-Team: docs'")
        fields[name.strip()] = value.strip()
    return fields


resolve_annotations(__name__)
