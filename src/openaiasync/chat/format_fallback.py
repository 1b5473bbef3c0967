"""Ask a server for JSON: by schema, as any JSON object, or in words; found out once per server and model.

A server that does not support a way refuses it, mostly with a 400. The next request then uses the next lower level, and
the level that worked is remembered.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Literal, cast

from ..core.codec.dialects import refuses_format
from ..core.schema.structured import Shape, ShapeError, repair_message
from ..engine.config import default_model
from ..engine.engine import Engine
from ..engine.upstream import Upstream
from ..errors import APIError

__all__ = ["LEVELS", "FormatFallback", "FormatLevel", "with_instructions"]

FormatLevel = Literal["json_schema", "json_object", "prompt"]
LEVELS: tuple[FormatLevel, ...] = ("json_schema", "json_object", "prompt")


class _Known:
    """What was found out about one model of one server."""

    def __init__(self) -> None:
        self.level: FormatLevel = "json_schema"
        # a schema was accepted once, so a refusal is about the particular schema, not about the format
        self.proven = False
        self.shapes: weakref.WeakKeyDictionary[Shape[Any], FormatLevel] = weakref.WeakKeyDictionary()


_KNOWN: weakref.WeakKeyDictionary[Upstream, dict[str, _Known]] = weakref.WeakKeyDictionary()


class FormatFallback:
    """The ways to ask for one shape during one turn.

    Send what `params` returns; report a refusal with `refused` and an answer with `accepted`. `chosen` fixes the level:
    no other is tried then, and none is remembered.
    """

    def __init__(self, engine: Engine, shape: Shape[Any], model: str | None = None, chosen: str | None = None) -> None:
        fixed: FormatLevel | None = next((level for level in LEVELS if level == chosen), None)
        if chosen is not None and fixed is None:
            raise ValueError(f"format must be one of {', '.join(map(repr, LEVELS))}, not {chosen!r}")
        named = model or default_model(engine.config.models, ("chat",)) or ""
        models_of_server = _KNOWN.setdefault(engine.upstream, {})
        self._known = models_of_server.setdefault(str(named), _Known())
        self._shape = shape
        self._fixed = chosen is not None
        self._first: APIError | None = None
        self._accepted = False
        self.level: FormatLevel = fixed or self._known.shapes.get(shape, self._known.level)

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with those that the level adds. The given messages are not changed."""
        made = dict(params)
        if self.level != "prompt":
            made["response_format"] = {"type": "json_object"}
        if self.level == "json_schema":
            made["response_format"] = self._shape.response_format()
        else:
            made["messages"] = with_instructions(params.get("messages", ()), self._shape.instructions())
        return made

    def refused(self, error: Exception) -> None:
        """Go to the next lower level, or raise: at the last level the first refusal, for another error that error."""
        if self._accepted or self._fixed or not isinstance(error, APIError) or not refuses_format(error):
            raise error
        self._first = self._first or error
        if self.level == "prompt":
            raise self._first
        self.level = LEVELS[LEVELS.index(self.level) + 1]

    def accepted(self) -> None:
        """Remember the level for the server and model. Where a schema was accepted before, for this shape only."""
        if self._accepted or self._fixed:
            return
        self._accepted = True
        known = self._known
        if self.level == "json_schema":
            known.proven = True
        elif known.proven:
            known.shapes[self._shape] = self.level
        else:
            known.level = self.level

    def repair(self, error: ShapeError) -> dict[str, Any]:
        """Return the user's message that asks for a valid answer.

        A text without any JSON shows that the server accepts `response_format` and ignores it: from then on this shape
        is requested in words.
        """
        if not error.is_json and self.level != "prompt" and not self._fixed:
            self.level = self._known.shapes[self._shape] = "prompt"
        return repair_message(error)


def with_instructions(messages: Any, words: str) -> list[Any]:
    """Return the messages with `words` added to a copy of the user's last one, or as a separate message.

    A system message would not work everywhere: some chat templates accept none, and most only one.
    """
    made = list(messages)
    for i in range(len(made) - 1, -1, -1):
        message = made[i]
        if not isinstance(message, Mapping) or cast("Any", message).get("role") != "user":
            continue
        fields = dict(cast("Mapping[str, Any]", message))
        content = fields.get("content")
        if isinstance(content, str):
            fields["content"] = f"{content}\n\n{words}"
        else:
            fields["content"] = [*(content or ()), {"type": "text", "text": words}]
        made[i] = fields
        return made
    return [*made, {"role": "user", "content": words}]
