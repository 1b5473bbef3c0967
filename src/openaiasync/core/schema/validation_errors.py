"""What is wrong with a text that should be a value of a type: told to the model that wrote it, and to people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from .validate import misfits

__all__ = ["ShapeError", "faults", "repair_message", "shortened", "unfit"]

_MISSING: Any = object()
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+)\]")
_SHOWN = 120  # characters of a wrong value that a message shows


class ShapeError(ValueError):
    """A text is not a value of the type asked for.

    `message` is meant for the model: what is wrong, where, and what came. `path` is the place (``$.steps[2].grams``,
    ``$`` for the whole), `text` what the model wrote, `is_json` whether there was any JSON in it. `str(error)` is for
    people: it names the type too.
    """

    def __init__(self, message: str, *, path: str = "$", text: str = "", name: str = "", is_json: bool = True) -> None:
        super().__init__(f"The answer does not fit {name}: {message}" if name else message)
        self.message = message
        self.path = path
        self.text = text
        self.name = name
        self.is_json = is_json

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (self.message, self.path, self.text, self.name, self.is_json))


def _rebuilt(message: str, path: str, text: str, name: str, is_json: bool) -> ShapeError:
    return ShapeError(message, path=path, text=text, name=name, is_json=is_json)


def repair_message(error: ShapeError) -> dict[str, Any]:
    """The user message that shows a model what was wrong with its last answer and asks for a right one."""
    return {
        "role": "user",
        "content": f"Your last answer cannot be used. {error.message}\n"
        "Answer again with the whole corrected JSON value, and nothing else.",
    }


def faults(error: Exception, value: Any, schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """The places and sentences of an error of msgspec or pydantic; after msgspec's only one, what the schema tells."""
    listed = getattr(error, "errors", None)
    if callable(listed):
        for one in cast("list[dict[str, Any]]", listed()):
            path = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"])
            came = "" if one["type"] == "missing" else f"; it is {shortened(json.dumps(one['input'], default=str))}"
            yield path, f"At {path}: {str(one['msg'])[:1].lower()}{str(one['msg'])[1:]}{came}."
        return
    text = str(error)
    head, at, place = text.rpartition(" - at `")
    path = place.removesuffix("`") if at else prefix
    reason = head if at else text
    shown = "" if "missing required" in reason else _shown(value, path)
    yield path, f"At {path}: {reason[:1].lower()}{reason[1:]}{shown}."
    yield from (one for one in unfit(value, schema) if one[0] != path)


def unfit(value: Any, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The places and sentences of what does not fit a schema."""
    for path, expected in misfits(value, schema):
        yield path, f"At {path}: expected {expected}{_shown(value, path)}."


def _shown(value: Any, path: str) -> str:
    came = _at(value, path)
    return "" if came is _MISSING else f"; it is {shortened(json.dumps(came))}"


def _at(value: Any, path: str) -> Any:
    """The value at a path as msgspec writes it; a mark where the path names no single place."""
    rest = path.removeprefix("$")
    while rest:
        step = _STEP.match(rest)
        if step is None:
            return _MISSING
        try:
            value = value[step[1]] if step[1] is not None else value[int(step[2])]
        except (KeyError, IndexError, TypeError):
            return _MISSING  # a name may hold dots
        rest = rest[step.end() :]
    return value


def shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
