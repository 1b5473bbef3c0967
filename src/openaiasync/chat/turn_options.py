"""How a turn goes: its options, and the parameters that its methods accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from ..core.policy.options import RequestOptions
from ..core.schema.structured import Shape, shape_of
from .format_fallback import RUNGS, Rung
from .tools import OnToolError, Permit, Toolbox

if TYPE_CHECKING:
    from ..params.chat import (
        ChatCompletionAudioParam,
        ChatCompletionModality,
        ChatCompletionPredictionContentParam,
        ChatCompletionStreamOptionsParam,
        ChatCompletionToolChoiceOptionParam,
    )
    from ..params.chat.completion_create_params import Moderation, PromptCacheOptions, WebSearchOptions
    from ..params.shared_params.chat_model import ChatModel
    from ..params.shared_params.metadata import Metadata
    from ..params.shared_params.reasoning_effort import ReasoningEffort
    from ..params.shared_params.response_format_json_object import ResponseFormatJSONObject
    from ..params.shared_params.response_format_json_schema import ResponseFormatJSONSchema
    from ..params.shared_params.response_format_text import ResponseFormatText
    from .format_fallback import Rung
    from .tools import OnToolError, Permit

__all__ = ["ELSEWHERE", "SayParams", "TurnOptions", "TurnParams"]

ELSEWHERE: dict[str, str] = {
    "n": "a session goes on from one answer a turn, so there is no n; fork() it to try several",
    "stream": "session.stream(...) streams, session.say(...) answers whole",
    "messages": "a session keeps the messages itself; session(messages=[...]) begins with some",
    "functions": "tools have taken their place",
    "function_call": "tool_choice has taken its place",
}
"""Parameters of the API that a session does not take, and what to use instead."""


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


class SayParams(RequestOptions, total=False):
    """How a turn goes (`TurnOptions` explains), and the parameters of ``POST /chat/completions``.

    Left out are those that a turn decides itself: ``n``, ``stream``, and tools in their forms for the wire; and
    ``audio``, which is what the user says in a session's turn.
    """

    max_rounds: int
    permit: Permit | None
    on_tool_error: OnToolError
    repair: int
    format: Rung | None
    keep_reasoning: bool
    think_tags: bool

    model: str | ChatModel
    metadata: Metadata | None
    top_logprobs: int | None
    temperature: float | None
    top_p: float | None
    user: str
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: Literal["in_memory", "24h"] | None
    prompt_cache_options: PromptCacheOptions
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None
    modalities: Sequence[ChatCompletionModality] | None
    verbosity: Literal["low", "medium", "high"] | None
    reasoning_effort: ReasoningEffort | None
    max_completion_tokens: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    web_search_options: WebSearchOptions
    response_format: ResponseFormatText | ResponseFormatJSONSchema | ResponseFormatJSONObject
    store: bool | None
    moderation: Moderation | None
    stop: str | Sequence[str] | None
    logit_bias: Mapping[str, int] | None
    logprobs: bool | None
    max_tokens: int | None
    prediction: ChatCompletionPredictionContentParam | None
    seed: int | None
    stream_options: ChatCompletionStreamOptionsParam | None
    tool_choice: ChatCompletionToolChoiceOptionParam
    parallel_tool_calls: bool


class TurnParams(SayParams, total=False):
    """The same with ``audio``: how the model shall speak."""

    audio: ChatCompletionAudioParam | None
