"""What a streamed turn yields. Every piece has `.text` and `.reasoning`, "" where it has none.

So printing is easy:

    async for piece in stream:
        print(piece.text, end="")

Tell pieces apart with `isinstance` or ``match``.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import msgspec

from .reply import ToolCall, ToolResult

__all__ = [
    "PartialObject",
    "Piece",
    "ReasoningPiece",
    "RepairStarted",
    "TextPiece",
    "ToolFinished",
    "ToolStarted",
]


class TextPiece(msgspec.Struct, frozen=True):
    """A piece of the answer's text, never empty; reasoning is not in it."""

    reasoning: ClassVar[str] = ""
    text: str


class ReasoningPiece(msgspec.Struct, frozen=True):
    """A piece of the model's reasoning, in `.reasoning`; `.text` is "", so that printing texts leaves it out."""

    text: ClassVar[str] = ""
    reasoning: str


class ToolStarted(msgspec.Struct, frozen=True):
    """The model has asked for a call, whole; it is about to be permitted and run."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    call: ToolCall


class ToolFinished(msgspec.Struct, frozen=True):
    """A call has ended, well or not; calls of one round end in any order."""

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    result: ToolResult


class PartialObject(msgspec.Struct, frozen=True):
    """The object asked for with ``into=`` so far: plain dicts, lists and scalars, not yet held to the type.

    The `TextPiece` that made it grow came just before. It is the same object each time: copy what has to stay.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    value: Any


class RepairStarted(msgspec.Struct, frozen=True):
    """The answer did not fit the type asked for; the model was shown the `problem` and answers anew.

    The text and objects of the rejected answer are void: what follows takes their place.
    """

    text: ClassVar[str] = ""
    reasoning: ClassVar[str] = ""
    problem: str


Piece: TypeAlias = TextPiece | ReasoningPiece | ToolStarted | ToolFinished | PartialObject | RepairStarted
