"""What the methods that make a turn accept beside their own words, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from ..core.policy.options import RequestOptions

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
    from .options import OnToolError, Permit

__all__ = ["SayParams", "TurnParams"]


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
