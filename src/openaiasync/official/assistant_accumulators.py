"""Messages and steps of an assistant's run as they grow, out of the deltas of its stream."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from ..core.codec.accumulate import grow, settled
from ..core.model.base import BaseModel
from ..core.model.lenient import builder_for
from ..types.beta.threads import Message, MessageContent
from ..types.beta.threads.runs import RunStep, ToolCall
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
    """A message and the blocks of its content.

    The message is one object that grows, so that a delta costs what it brings and not what came before it.
    """

    def __init__(self, message: Message) -> None:
        self.message: Message = message
        self._places: list[int] = []  # of the blocks in the message, ascending
        self._blocks: dict[int, dict[str, Any]] = {}
        self._built: dict[int, Any] = {}
        self._content: list[Any] = []
        self._grows = False
        for place, block in enumerate(objects_of(message, "content")):
            self._grow(place, block)

    def add(self, delta: Any) -> list[int]:
        """Take the delta of a message; the places of blocks that it begins."""
        if not self._grows:
            self._grows = True
            self.message = upgraded(self.message, Message)
            self.message.content = self._content
        new: list[int] = []
        for part in objects_of(delta, "content"):
            place: Any = getattr(part, "index", None)
            if type(place) is not int:
                continue
            if place not in self._blocks:
                new.append(place)
            self._grow(place, part)
        return new

    def block(self, place: Any) -> Any:
        """The block of that index; `None` where there is none."""
        if self._grows or type(place) is not int:
            return self._built.get(place) if type(place) is int else None
        content = objects_of(self.message, "content")
        at = bisect_left(self._places, place) if self._places else place
        there = at < len(self._places) and self._places[at] == place if self._places else at >= 0
        return content[at] if there and at < len(content) else None

    def end(self, message: Message) -> None:
        """The message as the server gives it at last."""
        self.message, self._grows = message, False

    def _grow(self, place: int, part: Any) -> None:
        fields = self._blocks.get(place)
        new = fields is None
        if fields is None:
            fields = self._blocks[place] = {}
        for name, value in part.to_dict().items():
            if name != "index":
                grow(fields, name, value)
        block = self._built[place] = self._block(place)
        at = bisect_left(self._places, place)
        if new:
            self._places.insert(at, place)
            self._content.insert(at, block)
        else:
            self._content[at] = block

    def _block(self, place: int) -> Any:
        fields: dict[str, Any] = settled(self._blocks[place])
        if fields.get("type") == "text" and isinstance(fields.get("text"), dict):
            fields["text"] = {"value": "", "annotations": [], **fields["text"]}
        return _built(MessageContent, fields)


class StepAccumulator:
    """A step of a run and its tool calls. Only the calls that a delta touches are built anew."""

    def __init__(self, step: RunStep) -> None:
        self.step: RunStep = step
        self._fields: dict[str, Any] = {}
        self._indexes: dict[Any, int] | None = None  # of the calls by their index; `None` where the step is another one
        for name, value in step.to_dict().items():
            grow(self._fields, name, value)

    def add(self, delta: Any) -> None:
        """Take the delta of a step."""
        if not isinstance(delta, BaseModel):
            return
        fields = delta.to_dict()
        # A delta grows the last call, or begins others behind it.
        first = max(0, len(_calls_in(self._fields)) - 1)
        adds_calls = self._indexes is not None and self._adds_calls(fields)
        for name, value in fields.items():
            grow(self._fields, name, value)
        if not adds_calls:
            step: RunStep = _built(RunStep, settled(self._fields))
            self.step, self._indexes = step, None
            return
        calls = self._built_calls()
        calls[first:] = [_built(ToolCall, settled(call)) for call in _calls_in(self._fields)[first:]]
        self._mark(calls, first)

    def end(self, step: RunStep) -> None:
        """The step as the server gives it at last."""
        self.step, self._indexes = step, None

    def call(self, index: Any) -> Any:
        """The tool call of that index; `None` where there is none."""
        calls = self._built_calls()
        if self._indexes is None:
            self._indexes = {}
            self._mark(calls, 0)
        place = self._indexes.get(index, index) if type(index) is int else None
        call = calls[place] if place is not None and 0 <= place < len(calls) else None
        return call if isinstance(call, BaseModel) else None

    def _built_calls(self) -> list[Any]:
        calls: Any = getattr(getattr(self.step, "step_details", None), "tool_calls", None)
        found: list[Any] = cast("Any", calls) if isinstance(calls, list) else []
        return found

    def _adds_calls(self, fields: dict[str, Any]) -> bool:
        """Whether a delta brings tool calls to a step that has some, and nothing else."""
        sent, held = fields.get("step_details"), self._fields.get("step_details")
        if len(fields) != 1 or not isinstance(sent, dict) or not isinstance(held, dict):
            return False
        details = cast("dict[str, Any]", sent)
        known = cast("dict[str, Any]", held)
        return (
            all(name == "tool_calls" or value == known.get(name) for name, value in details.items())
            and len(_calls_in(self._fields)) == len(self._built_calls()) > 0
        )

    def _mark(self, calls: list[Any], first: int) -> None:
        assert self._indexes is not None
        for place in range(first, len(calls)):
            index = getattr(calls[place], "index", None)
            if type(index) is int:
                self._indexes.setdefault(index, place)


def _calls_in(fields: dict[str, Any]) -> list[Any]:
    """The tool calls among the fields of a step that grows."""
    details: Any = fields.get("step_details")
    calls: Any = cast("dict[str, Any]", details).get("tool_calls") if isinstance(details, dict) else None
    found: list[Any] = cast("Any", calls) if isinstance(calls, list) else []
    return found
