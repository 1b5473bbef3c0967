"""How a turn goes: which tools, how many rounds, what type, what becomes of reasoning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias, cast

import msgspec

from ..core.schema.structured import Shape, shape_of
from .format_fallback import RUNGS, Rung
from .reply import ToolCall
from .toolbox import Toolbox

__all__ = ["ELSEWHERE", "OnToolError", "Permit", "TurnOptions"]

ELSEWHERE: dict[str, str] = {
    "n": "a session goes on from one answer a turn, so there is no n; fork() it to try several",
    "stream": "session.stream(...) streams, session.say(...) answers whole",
    "messages": "a session keeps the messages itself; session(messages=[...]) begins with some",
    "functions": "tools have taken their place",
    "function_call": "tool_choice has taken its place",
}
"""Parameters of the API that a session does not take, and what to use instead."""

Permit: TypeAlias = Callable[[ToolCall], bool | str | Awaitable[bool | str]]
"""Asked before each call: `True` lets it run; `False`, or the reason as a text, denies it, and the model is told.

Asked one call at a time, in the order of the calls.
"""

OnToolError: TypeAlias = Literal["tell", "tell_all", "raise"] | Callable[[ToolCall, Exception], str | Awaitable[str]]
"""What becomes of a failed call.

``"tell"``: the model is told the exception's type and the beginning of its text, without what looks like a credential;
``"tell_all"``: the whole text, of which only the client's own keys are taken out. ``"raise"``: the turn raises
`ToolError`. A function of the call and the exception: the model is told what it returns.
"""


class TurnOptions(msgspec.Struct, kw_only=True):
    """How a turn goes. Wrong values are refused with `TypeError` or `ValueError` when it is made.

    `max_rounds` is how often the model may be asked because of tools (8). `into` is the type that the answer's text
    shall be a value of, or its `Shape`; `repair` how often the model may try again when it is not (1); `format` names
    the way to ask for it instead of finding out which one the server takes. `keep_reasoning` sends the model's
    reasoning back to it with its answers; `think_tags` takes what an answer begins with between ``<think>`` and
    ``</think>``, or other models' tags, out of the text.
    """

    tools: Toolbox | None = None
    max_rounds: int = 8
    permit: Permit | None = None
    on_tool_error: OnToolError = "tell"
    into: Any = None
    repair: int = 1
    format: Rung | None = None
    keep_reasoning: bool = False
    think_tags: bool = False

    def __post_init__(self) -> None:
        tools, into = cast("Any", self.tools), self.into
        if tools is not None and not isinstance(tools, Toolbox):
            self.tools = Toolbox(tools)
        if into is not None and not isinstance(into, Shape):
            self.into = shape_of(into)
        _whole("max_rounds", self.max_rounds, 1)
        _whole("repair", self.repair, 0)
        if self.permit is not None and not callable(self.permit):
            raise TypeError("permit is a function of a ToolCall that answers True, False or the reason of a denial")
        if not callable(self.on_tool_error) and self.on_tool_error not in ("tell", "tell_all", "raise"):
            raise ValueError(
                f"on_tool_error is 'tell', 'raise' or a function, not {self.on_tool_error!r} ('tell_all': whole texts)"
            )
        if self.format is not None and self.format not in RUNGS:
            raise ValueError(f"format is one of {', '.join(map(repr, RUNGS))}, not {self.format!r}")


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")
