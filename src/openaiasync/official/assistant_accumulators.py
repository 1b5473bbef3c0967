"""Messages and steps of an assistant's run as they grow, out of the deltas of its stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from ..core.codec.tool_calls import grow, settled
from ..core.model.base import BaseModel
from ..core.model.lenient import builder_for
from ..types.beta.threads import Message, MessageContent
from ..types.beta.threads.runs import RunStep
from .parse_spec import upgraded

__all__ = ["MessageAccumulator", "StepAccumulator", "objects_of"]

M = TypeVar("M", bound=BaseModel)


def objects_of(value: Any, *names: str) -> list[Any]:
    """The objects in a list that is found by the names of fields; none where what came is something else."""
    for name in names:
        value = getattr(value, name, None)
    return [one for one in cast("Sequence[Any]", value) if isinstance(one, BaseModel)] if type(value) is list else []


def _built(kind: Any, value: Any) -> Any:
    build = builder_for(kind)
    return value if build is None else build(value)


class MessageAccumulator:
    """A message and the blocks of its content."""

    def __init__(self, message: Message) -> None:
        self.message: Message = message
        self._blocks: dict[int, dict[str, Any]] = {}
        for place, block in enumerate(objects_of(message, "content")):
            self._blocks[place] = dict[str, Any]()
            for name, value in block.to_dict().items():
                grow(self._blocks[place], name, value)
        self._built: dict[int, Any] = {place: self._block(place) for place in self._blocks}

    def add(self, delta: Any) -> list[int]:
        """Take the delta of a message; the places of blocks that it begins."""
        new: list[int] = []
        for part in objects_of(delta, "content"):
            place: Any = getattr(part, "index", None)
            if type(place) is not int:
                continue
            if place not in self._blocks:
                self._blocks[place] = {}
                new.append(place)
            for name, value in part.to_dict().items():
                if name != "index":
                    grow(self._blocks[place], name, value)
            self._built[place] = self._block(place)
        content = [self._built[place] for place in sorted(self._built)]
        self.message = upgraded(self.message, Message, content=content)
        return new

    def block(self, place: Any) -> Any:
        """The block of that index; `None` where there is none."""
        content = objects_of(self.message, "content")
        places = sorted(self._blocks) or range(len(content))
        return next((block for at, block in zip(places, content, strict=False) if at == place), None)

    def end(self, message: Message) -> None:
        """The message as the server gives it at last."""
        self.message = message

    def _block(self, place: int) -> Any:
        fields: dict[str, Any] = settled(self._blocks[place])
        if fields.get("type") == "text" and isinstance(fields.get("text"), dict):
            fields["text"] = {"value": "", "annotations": [], **fields["text"]}
        return _built(MessageContent, fields)


class StepAccumulator:
    """A step of a run and its tool calls."""

    def __init__(self, step: RunStep) -> None:
        self.step: RunStep = step
        self._fields: dict[str, Any] = {}
        for name, value in step.to_dict().items():
            grow(self._fields, name, value)

    def add(self, delta: Any) -> None:
        """Take the delta of a step."""
        if isinstance(delta, BaseModel):
            for name, value in delta.to_dict().items():
                grow(self._fields, name, value)
        step: RunStep = _built(RunStep, settled(self._fields))
        self.step = step

    def end(self, step: RunStep) -> None:
        """The step as the server gives it at last."""
        self.step = step

    def call(self, index: Any) -> Any:
        """The tool call of that index; `None` where there is none."""
        calls = objects_of(self.step, "step_details", "tool_calls")
        marked = [call for call in calls if getattr(call, "index", None) == index]
        if marked:
            return marked[0]
        return calls[index] if type(index) is int and 0 <= index < len(calls) else None
