"""The keywords of methods that run turns, for type checkers and `help`; not imported when a turn runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.policy.request_options import RequestOptions
from ..lazy import resolve_annotations
from ..params.chat.completion_create_params import ChatTurn

if TYPE_CHECKING:
    from ..core.model.omitted import Omit
    from ..engine.attachments import AudioSource, ImageSource
    from ..params.chat import ChatCompletionAudioParam
    from ..params.shared_params.chat_model import ChatModel
    from ..params.shared_params.response_format_json_object import ResponseFormatJSONObject
    from ..params.shared_params.response_format_json_schema import ResponseFormatJSONSchema
    from ..params.shared_params.response_format_text import ResponseFormatText
    from ..types.chat import ChatCompletionMessage, ChatCompletionMessageParam
    from .context_window import Policy
    from .format_fallback import FormatLevel
    from .tools import OnToolError, Permit, Tools
    from .usage import Prices, Tokenizer

__all__ = ["SayParams", "SessionParams", "TurnParams"]


class _CommonParams(ChatTurn, RequestOptions, total=False):
    """The options of a turn (see `TurnOptions`) and the parameters of ``POST /chat/completions``.

    Parameters that a turn sets itself are omitted: ``n``, ``stream``, and tools as JSON.
    """

    max_rounds: int
    permit: Permit | None
    on_tool_error: OnToolError
    repair: int
    format: FormatLevel | None
    keep_reasoning: bool
    think_tags: bool

    model: str | ChatModel | Omit
    response_format: ResponseFormatText | ResponseFormatJSONSchema | ResponseFormatJSONObject | Omit


class TurnParams(_CommonParams, total=False):
    """The parameters of methods that run turns; ``audio`` is the output format of a model that speaks."""

    audio: ChatCompletionAudioParam | Omit | None


class SessionParams(TurnParams, total=False):
    """The parameters of a session, which `client.chat.session` describes, and those of all of its turns."""

    system: str | None
    messages: Sequence[ChatCompletionMessageParam | ChatCompletionMessage]
    tools: Tools
    context_limit: int | None
    policy: Policy | None
    tokenizer: Tokenizer | None
    prices: Prices | None
    budget: float | None


class SayParams(_CommonParams, total=False):
    """The parameters of one turn of a session; `ChatSession.say` describes the first four."""

    images: ImageSource | Sequence[ImageSource] | None
    audio: AudioSource | Sequence[AudioSource] | None
    tools: Tools | None
    at: int | None


resolve_annotations(__name__)
