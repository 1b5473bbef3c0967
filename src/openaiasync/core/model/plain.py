"""Plain values of JSON, as servers send them: what kind they are, and what they hold where they are of that kind.

A server's JSON may have any value in any place, so nothing here fails on a value of another kind.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import msgspec

__all__ = ["as_dict", "as_index", "as_list", "is_dict", "is_list", "parse_json"]


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
    """Return a number that tells parts of an answer apart; gateways in languages without types send it as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def parse_json(data: bytes) -> Any:
    """Return the plain values of a JSON text, also where msgspec refuses it: NaN, Infinity, surrogates, bad UTF-8.

    Raises `ValueError` for text that is not JSON or holds an absurdly long integer, `RecursionError` for absurd depth.
    """
    try:
        return msgspec.json.decode(data)
    except ValueError:
        import json

        return json.loads(data.decode("utf-8-sig", "replace"))
