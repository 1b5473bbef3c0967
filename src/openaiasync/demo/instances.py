"""Instances of a JSON schema, made from the words and numbers of a prompt where they fit."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..core.model.plain import as_dict, as_list, is_dict, is_list
from ..core.schema.jsonschema import check_schema, resolve
from ..server.errors import HTTPError
from .answers import words_of
from .dates import find_dates
from .memory import names_in

__all__ = ["Filler", "as_json", "instance_of"]

_MAX_DEPTH = 12
_MAX_NODES = 20_000
_OPTIONAL_DEPTH = 4  # below this depth only required properties are made
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_PLACE = re.compile(r"\b(?:in|at|for|to|from|near)\s+((?:[A-Z][\w'-]+)(?:\s[A-Z][\w'-]+)*)")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+\b")
_URL = re.compile(r"https?://[^\s\"'<>]+")
_PLACE_NAMES = ("city", "location", "place", "town", "country", "where", "destination", "address")
_NAME_NAMES = ("name", "person", "who", "author", "user", "character")
_TEXT_NAMES = ("query", "text", "question", "message", "input", "prompt", "content", "expression", "body")
_FORMATS = {
    "date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "time": "12:00:00Z", "duration": "PT1H", "email":
    "judy@example.org", "uri": "https://example.org/", "uuid": "123e4567-e89b-42d3-a456-426614174000", "ipv4":
    "192.0.2.1", "ipv6": "2001:db8::1", "hostname": "example.org",
}  # fmt: skip


class Filler:
    """Values from a prompt: numbers, names, places and words, each in the order of the prompt."""

    def __init__(self, text: str, variant: int = 0) -> None:
        self.text = text
        self.lower: str = text.lower()
        self._numbers = [float(number) for number in _NUMBER.findall(text)]
        self._names = names_in(text)
        self._places = _PLACE.findall(text)
        words = [word for word in words_of(text) if len(word) > 3]
        shift = variant % len(words) if words else 0
        self._words = words[shift:] + words[:shift]
        self._next_word = 0

    def number(self) -> float | None:
        return self._numbers.pop(0) if self._numbers else None

    def string(self, name: str) -> str:
        """Return a string for a property of this name."""
        lower = name.lower()
        if any(key in lower for key in _PLACE_NAMES) and (self._places or self._names):
            return self._places.pop(0) if self._places else self._names.pop(0)
        if any(key in lower for key in _NAME_NAMES) and self._names:
            return self._names.pop(0)
        if any(key in lower for key in _TEXT_NAMES):
            return self.text[:200]
        if "date" in lower and (dates := find_dates(self.text)):
            return dates[0].isoformat()
        if not self._words:
            return name or "word"
        self._next_word += 1
        return self._words[(self._next_word - 1) % len(self._words)]

    def formatted(self, format_name: str) -> str | None:
        """Return a string of this format, from the prompt if it has one, `None` for an unknown format."""
        if format_name == "date" and (dates := find_dates(self.text)):
            return dates[0].isoformat()
        found = {"email": _MAIL, "uri": _URL}.get(format_name)
        match = found.search(self.text) if found else None
        return match[0] if match else _FORMATS.get(format_name)


def instance_of(schema: dict[str, Any], filler: Filler) -> Any:
    """Return a value that fits the schema. Raises `HTTPError` (400) if the schema is malformed or no value fits."""
    try:
        check_schema(schema)
        return _Maker(schema, filler).make(schema, "", 0)
    except TypeError as error:
        raise _unfit(str(error).removesuffix(".")) from None
    except OverflowError:
        raise _unfit("its numbers are too large") from None


class _Maker:
    def __init__(self, root: dict[str, Any], filler: Filler) -> None:
        self._root = root
        self._filler = filler
        self._left = _MAX_NODES  # alternatives that fail could be tried exponentially often

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if not is_dict(schema):
            if schema is False:
                raise _unfit("nothing fits the schema 'false'")
            return self._filler.string(name)
        node = schema
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            raise _unfit("it requires itself recursively, or too many values")
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return self._choose(as_list(node.get("enum")))
        if "$ref" in node:
            return self.make(resolve(node, self._root), name, depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in node:
                return self._first_fit(as_list(node.get(word)), node, name, depth)
        if "allOf" in node:
            merged = _merge([self._flat(part) for part in as_list(node.get("allOf"))], node)
            return self.make(merged, name, depth + 1)
        return self._typed(node, name, depth)

    def _flat(self, part: Any) -> dict[str, Any]:
        return resolve(part, self._root) if is_dict(part) and "$ref" in part else as_dict(part)

    def _choose(self, options: list[Any]) -> Any:
        if not options:
            raise _unfit("an enum is empty")
        for option in options:
            if isinstance(option, str) and re.search(rf"\b{re.escape(option.lower())}\b", self._filler.lower):
                return option
        return options[0]

    def _first_fit(self, options: list[Any], node: dict[str, Any], name: str, depth: int) -> Any:
        # Null is the last choice, or the first one where a schema recurses deeply.
        ordered = sorted(options, key=lambda option: option == {"type": "null"}, reverse=depth > _OPTIONAL_DEPTH)
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}
        problem: HTTPError | None = None
        for option in ordered:
            try:
                return self.make(_merge([self._flat(option)], rest), name, depth + 1)
            except HTTPError as error:
                problem = error
        raise problem or _unfit("a choice is empty")

    def _typed(self, node: dict[str, Any], name: str, depth: int) -> Any:
        kind: Any = node.get("type")
        if is_list(kind):
            kind = next((one for one in kind if one != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in node or "required" in node else "array" if "items" in node else "string"
        if kind == "object":
            return self._object(node, depth)
        if kind == "array":
            return self._array(node, name, depth)
        if kind in ("integer", "number"):
            return self._number(node, whole=kind == "integer")
        if kind == "boolean":
            return not re.search(rf"\b(?:no|not|without|never)\b[^.]*{re.escape(name.lower())}", self._filler.lower)
        if kind == "null":
            return None
        if kind == "string":
            return self._string(node, name)
        raise _unfit(f"the type {kind!r} is unknown")

    def _object(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = as_dict(node.get("properties"))
        required = [str(name) for name in as_list(node.get("required"))]
        made: dict[str, Any] = {}
        for name, schema in properties.items():
            if name in required or depth < _OPTIONAL_DEPTH:
                made[name] = self.make(schema, name, depth + 1)
        for name in required:
            if name not in made:
                extra = node.get("additionalProperties")
                made[name] = self.make(extra if is_dict(extra) else {}, name, depth + 1)
        return made

    def _array(self, node: dict[str, Any], name: str, depth: int) -> list[Any]:
        prefix = as_list(node.get("prefixItems"))
        low = max(int(node.get("minItems", 0)), len(prefix))
        wanted = low if depth > _OPTIONAL_DEPTH else max(low, min(2, int(node.get("maxItems", 2))))
        if wanted > 1000:
            raise _unfit("an array is too long")
        singular = name.removesuffix("s")
        made = [self.make(schema, singular, depth + 1) for schema in prefix]
        items: Any = node.get("items", {})
        while len(made) < wanted and items is not False:
            item = self.make(items, singular, depth + 1)
            if node.get("uniqueItems") and item in made:
                break
            made.append(item)
        return made

    def _number(self, node: dict[str, Any], *, whole: bool) -> int | float:
        given = self._filler.number()
        low = max(node.get("minimum", -math.inf), node.get("exclusiveMinimum", -math.inf))
        high = min(node.get("maximum", math.inf), node.get("exclusiveMaximum", math.inf))
        step = abs(node.get("multipleOf", 1 if whole else 0))
        value = given if given is not None else 1.0 if low <= 1 <= high else low if low > 1 else high
        value = min(max(value, low), high)
        tick = step or 1e-3 * (high - low if math.isfinite(high - low) else 1.0)
        if step:
            value = math.ceil(value / step - 1e-9) * step if value < high else math.floor(value / step + 1e-9) * step
        if value == node.get("exclusiveMinimum"):
            value += tick
        if value == node.get("exclusiveMaximum"):
            value -= tick
        if not low <= value <= high:
            raise _unfit("no number is within its bounds")
        return int(value) if whole or value == int(value) else round(value, 9)

    def _string(self, node: dict[str, Any], name: str) -> str:
        formatted = self._filler.formatted(str(node.get("format", "")))
        if formatted is not None:
            return formatted
        value = self._filler.string(name)
        low, high = node.get("minLength", 0), node.get("maxLength", math.inf)
        if low > 10_000:
            raise _unfit("a string is too long")
        value = value.ljust(int(low), ".")
        return value if len(value) <= high else value[: int(high)]


def _merge(parts: list[dict[str, Any]], node: dict[str, Any]) -> dict[str, Any]:
    """Merge schemas that apply together; where two contradict each other, the later one wins."""
    merged: dict[str, Any] = {}
    for part in (*parts, {key: value for key, value in node.items() if key != "allOf"}):
        for key, value in part.items():
            if key == "properties":
                merged[key] = {**as_dict(merged.get(key)), **as_dict(part.get(key))}
            elif key == "required":
                merged[key] = [*as_list(merged.get(key)), *as_list(part.get(key))]
            else:
                merged[key] = value
    return merged


def _unfit(reason: str) -> HTTPError:
    return HTTPError(400, f"The JSON schema cannot be used: {reason}.", param="response_format", code="invalid_schema")


def as_json(value: Any) -> str:
    """Return JSON text as models write it."""
    return json.dumps(value, ensure_ascii=False)
