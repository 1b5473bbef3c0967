"""How to ask a server for JSON: by schema, as any JSON object, or in words; found out once for each server and model.

Servers that lack a way refuse it, most with a 400. The next request goes one rung down the ladder, and what worked is
remembered.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Literal, cast

from ..core.codec.dialects import refuses_format
from ..core.schema.structured import Shape, ShapeError, repair_message
from ..engine.engine import Engine
from ..engine.upstream import Upstream
from ..errors import APIError

__all__ = ["RUNGS", "FormatFallback", "Rung", "with_instructions"]

Rung = Literal["json_schema", "json_object", "prompt"]
RUNGS: tuple[Rung, ...] = ("json_schema", "json_object", "prompt")


class _Known:
    """What was found out of one model of one server."""

    def __init__(self) -> None:
        self.rung: Rung = "json_schema"
        self.proven = False  # a schema was taken once, so that a refusal is about the schema
        self.shapes: weakref.WeakKeyDictionary[Shape[Any], Rung] = weakref.WeakKeyDictionary()


_KNOWN: weakref.WeakKeyDictionary[Upstream, dict[str, _Known]] = weakref.WeakKeyDictionary()


class FormatFallback:
    """The ways to ask for one shape, for one turn. Ask with `params`; a refusal goes to `lower`, an answer to `held`.

    `chosen` fixes the rung: nothing is tried out then, and nothing remembered.
    """

    def __init__(self, calls: Engine, shape: Shape[Any], model: str | None = None, chosen: str | None = None) -> None:
        fixed: Rung | None = next((rung for rung in RUNGS if rung == chosen), None)
        if chosen is not None and fixed is None:
            raise ValueError(f"format is one of {', '.join(map(repr, RUNGS))}, not {chosen!r}")
        models = calls.config.models
        named = model or models.get("chat") or models.get("") or ""
        models_of_server = _KNOWN.setdefault(calls.upstream, {})
        self._known = models_of_server.setdefault(str(named), _Known())
        self._shape = shape
        self._fixed = chosen is not None
        self._first: APIError | None = None
        self._held = False
        self.rung: Rung = fixed or self._known.shapes.get(shape, self._known.rung)

    def params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a request, with what the rung asks for added; the messages given stay as they are."""
        made = dict(params)
        if self.rung != "prompt":
            made["response_format"] = {"type": "json_object"}
        if self.rung == "json_schema":
            made["response_format"] = self._shape.response_format()
        else:
            made["messages"] = with_instructions(params.get("messages", ()), self._shape.instructions())
        return made

    def lower(self, error: Exception) -> None:
        """The request was refused: go one rung down, or raise what was wrong, which is the first refusal."""
        if self._held or self._fixed or not isinstance(error, APIError) or not refuses_format(error):
            raise error
        self._first = self._first or error
        if self.rung == "prompt":
            raise self._first
        self.rung = RUNGS[RUNGS.index(self.rung) + 1]

    def held(self) -> None:
        """The request was taken: remember the rung."""
        if self._held or self._fixed:
            return
        self._held = True
        known = self._known
        if self.rung == "json_schema":
            known.proven = True
        elif known.proven:
            known.shapes[self._shape] = self.rung
        else:
            known.rung = self.rung

    def repair(self, error: ShapeError) -> dict[str, Any]:
        """The user message that asks for a right answer.

        A text without JSON shows that the server took `response_format` and passed it over: this shape is asked for in
        words from then on.
        """
        if not error.is_json and self.rung != "prompt" and not self._fixed:
            self.rung = self._known.shapes[self._shape] = "prompt"
        return repair_message(error)


def with_instructions(messages: Any, words: str) -> list[Any]:
    """Messages with words added to the last one of the user, in a copy; in a message of their own without any.

    There, because some chat templates have no place for a system message, and most only for one.
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
