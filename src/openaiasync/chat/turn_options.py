"""The options of a turn, and the errors for keywords that a method does not accept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from ..core.codec.endpoint import SYSTEM_NAMES, nearest
from ..core.model.omitted import is_omitted
from ..core.schema.structured import Shape, shape_of
from ..endpoints import CHAT_COMPLETIONS_CREATE
from .format_fallback import LEVELS, FormatLevel
from .tools import OnToolError, Permit, Toolbox, Tools

__all__ = [
    "NOT_IN_SESSIONS",
    "OPTION_FIELDS",
    "TurnOptions",
    "check_format",
    "split_keywords",
    "turn_keywords",
]

_REPLACED = {"functions": "use tools instead", "function_call": "use tool_choice instead"}
_NOT_IN_TURNS = {
    **_REPLACED,
    "n": "a turn has one answer; leave n out",
    "tools": "pass functions as the keyword argument tools",
    "stream": "the methods with stream in their names stream",
}
NOT_IN_SESSIONS: dict[str, str] = {
    **_REPLACED,
    "n": "each turn of a session has one answer; fork() the session to try several",
    "stream": "session.stream(...) streams, session.say(...) returns the whole reply",
    "messages": "a session keeps its messages; session(messages=[...]) starts with some",
    **dict.fromkeys(SYSTEM_NAMES, "the system prompt is that of the session: client.chat.session(system=...)"),
}
"""Parameters of the API that a session does not accept, and what to use instead."""
_WITHOUT_EFFECT = {"n": 1, "stream": False}  # values that request the behaviour of every turn


class TurnOptions(msgspec.Struct, kw_only=True):
    """The options of a turn; defaults are in parentheses.

    `tools`: the functions that the model may call (none). `max_rounds`: the maximum number of answers that may contain
    tool calls (8). `permit` is called before each tool call (all are permitted); `on_tool_error` is the reaction to a
    failed call (``"tell"``). `into`: the type of the requested value, or its `Shape` (none); `repair`: how often the
    model may try again if its answer does not fit the type (1); `format`: the form in which the type is requested (the
    best that the server supports). `keep_reasoning` sends the model's reasoning back with the history (False).
    `think_tags` separates reasoning at the beginning of a text, between ``<think>`` and ``</think>`` or the tags of
    other models, from the text (False).

    Raises `TypeError` or `ValueError` for invalid values.
    """

    tools: Toolbox | None = None
    max_rounds: int = 8
    permit: Permit | None = None
    on_tool_error: OnToolError = "tell"
    into: Any = None
    repair: int = 1
    format: FormatLevel | None = None
    keep_reasoning: bool = False
    think_tags: bool = False

    def __post_init__(self) -> None:
        tools, into = cast("Any", self.tools), self.into
        if tools is not None and not isinstance(tools, Toolbox):
            self.tools = Toolbox(tools)
        if into is not None and not isinstance(into, Shape):
            self.into = shape_of(into)
        _check_integer("max_rounds", self.max_rounds, 1)
        _check_integer("repair", self.repair, 0)
        if self.permit is not None and not callable(self.permit):
            raise TypeError(
                "permit must be a function of a ToolCall that returns True, False or the reason of a denial"
            )
        if not callable(self.on_tool_error) and self.on_tool_error not in ("tell", "tell_all", "raise"):
            raise ValueError(
                f"on_tool_error must be 'tell', 'tell_all' (whole texts), 'raise' or a function, not "
                f"{self.on_tool_error!r}"
            )
        if self.format is not None and self.format not in LEVELS:
            raise ValueError(f"format must be one of {', '.join(map(repr, LEVELS))}, not {self.format!r}")


OPTION_FIELDS = frozenset(TurnOptions.__struct_fields__)


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def split_keywords(
    where: str, given: Mapping[str, Any], rejected: Mapping[str, str] = NOT_IN_SESSIONS, own: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split keyword arguments into parameters of the API and options of the turn.

    Raises `TypeError` for a keyword that is neither, and for one that is `rejected` (a table of names and what to use
    instead). `where` is the function that the user called, `own` are further names that it knows, for the hint.
    """
    accepted = CHAT_COMPLETIONS_CREATE.accepted
    params: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in rejected:
            if not (value is None or is_omitted(value) or value == _WITHOUT_EFFECT.get(name, ...)):
                raise TypeError(f"{where} does not accept {name}: {rejected[name]}")
        elif name in OPTION_FIELDS:
            options[name] = value
        elif name in accepted:
            params[name] = value
        else:
            near = nearest(name, frozenset({*OPTION_FIELDS, *own}))
            raise TypeError(f"{where} has no parameter {name!r}{near or CHAT_COMPLETIONS_CREATE.advice(name)}")
    return params, options


def turn_keywords(
    where: str, given: Mapping[str, Any], tools: Tools | None, into: Any = None
) -> tuple[Any, dict[str, Any], TurnOptions]:
    """Return messages, parameters of the API and options of a turn outside a session, as `run_turn` takes them.

    Raises `TypeError` and `ValueError` for invalid arguments; `where` is the function that the user called.
    """
    other = (
        "pass it as a keyword argument" if into is not None else "client.chat.parse() and client.chat.stream_parse() do"
    )
    params, options = split_keywords(where, given, {**_NOT_IN_TURNS, "into": other}, ("messages",))
    if "messages" not in params:
        raise TypeError(f"{where} is missing the required argument 'messages'")
    check_format(where, params, into)
    return params.pop("messages"), params, TurnOptions(tools=cast("Any", tools), into=into, **options)


def check_format(where: str, params: Mapping[str, Any], into: Any) -> None:
    """Raise `TypeError` if both `into` and ``response_format`` are given."""
    if into is not None and params.get("response_format") is not None:
        raise TypeError(f"{where} does not accept response_format together with into, which replaces it")
