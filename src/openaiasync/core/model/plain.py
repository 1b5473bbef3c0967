"""Access to plain JSON values from servers, which may have any type in any place; only `parse_json` raises."""

from __future__ import annotations

from typing import Any, TypeGuard

import msgspec

__all__ = [
    "as_dict",
    "as_index",
    "as_list",
    "is_dict",
    "is_list",
    "json_of",
    "mended",
    "mended_json",
    "parse_json",
    "shortened",
]


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is a JSON array."""
    return isinstance(value, list)


def as_dict(value: object) -> dict[str, Any]:
    """Return a JSON object itself, and an empty one for any other value."""
    return value if is_dict(value) else {}


def as_list(value: object) -> list[Any]:
    """Return a JSON array itself, and an empty one for any other value."""
    return value if is_list(value) else []


def as_index(value: Any) -> int | None:
    """Return an index of parts of an answer as an int; gateways in languages without types send it as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


_LONG = 200  # characters without a space: base64, not readable text
_MANY = 16  # numbers


class _Shortened:
    """Replaces a value in a repr that would be too long."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def shortened(value: Any) -> Any:
    """Return what a repr shows of a value: not the whole of base64, bytes and long lists of numbers."""
    if isinstance(value, str) and len(value) > _LONG and " " not in value[:_LONG] and "\n" not in value[:_LONG]:
        return _Shortened(f"<{value[:12]!r}… {len(value):,} characters>")
    if isinstance(value, bytes) and len(value) > 32:
        return _Shortened(f"<{len(value):,} bytes>")
    if is_list(value) and len(value) > _MANY and all(isinstance(number, (int, float)) for number in value):
        return _Shortened(f"<{len(value):,} numbers: {', '.join(map(repr, value[:3]))}, …>")
    return value


def parse_json(data: bytes) -> Any:
    """Return the plain values of a JSON text, even one that msgspec refuses: NaN, Infinity, surrogates, bad UTF-8.

    Raises `ValueError` for text that is not JSON or contains an integer with too many digits (4,300, Python's limit),
    and `RecursionError` for text that is nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except ValueError:
        import json

        return json.loads(data.decode("utf-8-sig", "replace"))


def json_of(value: Any) -> bytes:
    """Return plain values as JSON, even those of `parse_json` that msgspec refuses: half of a surrogate pair."""
    try:
        return msgspec.json.encode(value)
    except ValueError:
        import json

        return json.dumps(value).encode()


def mended(text: str) -> str:
    """Return a text that can be encoded: half of a surrogate pair becomes U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mended_json(text: str | bytes) -> str:
    """Return JSON that every parser takes: half of a surrogate pair becomes U+FFFD, NaN and Infinity become null.

    Python's parser accepts both, so that some servers send them; no strict parser does, and a text with half of a pair
    cannot be printed, logged or written to a file. Raises as `parse_json`.
    """
    import json

    plain = mended(json.dumps(json.loads(text), ensure_ascii=False))
    return json.dumps(json.loads(plain, parse_constant=lambda _: None), ensure_ascii=False)
