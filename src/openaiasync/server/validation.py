"""Checks a request's JSON body field by field, by tables; a wrong one is refused with 400 and the field's name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeGuard, cast

import msgspec

from .errors import HTTPError
from .form import UploadedFile

__all__ = [
    "Check",
    "Fields",
    "anything",
    "check_fields",
    "decode_object",
    "flag",
    "is_array",
    "is_object",
    "items",
    "kind_of",
    "mapping",
    "number",
    "one_of",
    "pattern",
    "text",
    "text_or_texts",
    "upload",
    "whole",
    "wrong",
]

Check: TypeAlias = Callable[[Any, str], None]
Fields: TypeAlias = Mapping[str, Check]


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. Raises `HTTPError` (400) for anything else."""
    if not body:
        raise HTTPError(400, "The request has no body; a JSON object was expected.")
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise HTTPError(400, f"The request's body is not valid JSON: {error}.") from None
    if not is_object(value):
        raise HTTPError(400, f"The request's body must be a JSON object, not {kind_of(value)}.")
    return value


def check_fields(body: dict[str, Any], fields: Fields, required: tuple[str, ...], *, strict: bool) -> None:
    """Refuse what is missing, of a wrong type, or (if `strict`) unknown. `null` counts as not given."""
    for name in required:
        if body.get(name) is None:
            raise HTTPError(
                400, f"You must give the parameter '{name}'.", param=name, code="missing_required_parameter"
            )
    for name, value in body.items():
        check = fields.get(name)
        if check is None:
            if strict:
                message = f"Unrecognized request argument supplied: {name}"
                raise HTTPError(400, message, param=name, code="unknown_parameter")
        elif value is not None:
            check(value, name)


def wrong(param: str, expected: str, value: object) -> HTTPError:
    """The refusal for a value of a wrong type."""
    return HTTPError(
        400, f"Invalid type for '{param}': expected {expected}, got {kind_of(value)}.", param=param, code="invalid_type"
    )


def _bad_value(param: str, message: str) -> HTTPError:
    return HTTPError(400, f"Invalid value for '{param}': {message}.", param=param, code="invalid_value")


def kind_of(value: object) -> str:
    """What JSON calls this value, or that it is a file."""
    if value is None:
        return "null"
    if isinstance(value, UploadedFile):
        return "a file"
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return kinds.get(cast("type[Any]", type(value)), "an object")


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def anything(value: Any, param: str) -> None:
    """Takes every value: the demo models make no use of this field."""


def flag(value: Any, param: str) -> None:
    if type(value) is not bool:
        raise wrong(param, "a boolean", value)


def text(value: Any, param: str) -> None:
    if type(value) is not str:
        raise wrong(param, "a string", value)


def upload(value: Any, param: str) -> None:
    """A file in a form, that is a part with a file name."""
    if not isinstance(value, UploadedFile):
        raise wrong(param, "a file (a part with a file name)", value)


def mapping(value: Any, param: str) -> None:
    if not is_object(value):
        raise wrong(param, "an object", value)


def whole(low: int, high: int | None = None) -> Check:
    """An integer from `low` to `high`."""

    def check(value: Any, param: str) -> None:
        if type(value) is not int:
            raise wrong(param, "an integer", value)
        if value < low or (high is not None and value > high):
            raise _bad_value(param, f"{value} is not {_range(low, high)}")

    return check


def number(low: float, high: float) -> Check:
    """A number from `low` to `high`."""

    def check(value: Any, param: str) -> None:
        if type(value) is not int and type(value) is not float:
            raise wrong(param, "a number", value)
        if not low <= value <= high or not math.isfinite(value):
            raise _bad_value(param, f"{value} is not {_range(low, high)}")

    return check


def _range(low: float, high: float | None) -> str:
    return f"at least {low}" if high is None else f"from {low} to {high}"


def one_of(*allowed: str) -> Check:
    """One of these strings."""

    def check(value: Any, param: str) -> None:
        text(value, param)
        if value not in allowed:
            raise _bad_value(param, f"{value!r} is none of {', '.join(allowed)}")

    return check


def pattern(expression: str, meaning: str) -> Check:
    """A string that fully matches the expression."""
    compiled = re.compile(expression)

    def check(value: Any, param: str) -> None:
        text(value, param)
        if compiled.fullmatch(value) is None:
            raise _bad_value(param, f"it must be {meaning}")

    return check


def items(check_item: Check, *, at_least: int = 0, at_most: int | None = None) -> Check:
    """An array whose every item passes `check_item`."""

    def check(value: Any, param: str) -> None:
        if not is_array(value):
            raise wrong(param, "an array", value)
        if len(value) < at_least or (at_most is not None and len(value) > at_most):
            raise _bad_value(param, f"the array has {len(value)} items, which is not {_range(at_least, at_most)}")
        for index, item in enumerate(value):
            check_item(item, f"{param}[{index}]")

    return check


def text_or_texts(at_most: int) -> Check:
    """A string or an array of at most so many strings (as `stop` is)."""
    several = items(text, at_most=at_most)

    def check(value: Any, param: str) -> None:
        if type(value) is not str:
            several(value, param)

    return check
