"""The asyncio client for every OpenAI-compatible server.

Everything public is named here and imported when it is first touched, so that importing the package costs next to
nothing. ``from openaiasync import Client`` is where to begin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

__title__ = "openaiasync"

if TYPE_CHECKING:
    from . import types as types
    from .azure import AsyncAzureOpenAI as AsyncAzureOpenAI
    from .calls import AsyncConversationCursorPage as AsyncConversationCursorPage
    from .calls import AsyncCursorPage as AsyncCursorPage
    from .calls import AsyncNextCursorPage as AsyncNextCursorPage
    from .calls import AsyncPage as AsyncPage
    from .calls import AsyncStream as AsyncStream
    from .calls import BinaryAnswer as BinaryAnswer
    from .calls import Paginator as Paginator
    from .calls.hooks import AnswerEvent as AnswerEvent
    from .calls.hooks import ErrorEvent as ErrorEvent
    from .calls.hooks import RequestEvent as RequestEvent
    from .calls.live import ChatStream as ChatStream
    from .chat.errors import BudgetError as BudgetError
    from .chat.errors import ContextLimitError as ContextLimitError
    from .chat.errors import SessionFileError as SessionFileError
    from .chat.errors import ToolError as ToolError
    from .chat.errors import TooManyRoundsError as TooManyRoundsError
    from .chat.events import PartialObject as PartialObject
    from .chat.events import ReasoningPiece as ReasoningPiece
    from .chat.events import RepairStarted as RepairStarted
    from .chat.events import TextPiece as TextPiece
    from .chat.events import ToolFinished as ToolFinished
    from .chat.events import ToolStarted as ToolStarted
    from .chat.reply import Reply as Reply
    from .chat.reply import ToolCall as ToolCall
    from .chat.reply import ToolResult as ToolResult
    from .chat.results import ContentParts as ContentParts
    from .chat.session import ChatSession as ChatSession
    from .chat.session_stream import SessionStream as SessionStream
    from .chat.spend import Price as Price
    from .chat.spend import SessionUsage as SessionUsage
    from .chat.tokens import TokenCount as TokenCount
    from .chat.toolbox import Toolbox as Toolbox
    from .chat.tools import Tool as Tool
    from .chat.tools import tool as tool
    from .chat.turn import TurnStream as TurnStream
    from .client import AsyncOpenAI as AsyncOpenAI
    from .client import Client as Client
    from .core.limits import Limits as Limits
    from .core.options import RequestOptions as RequestOptions
    from .core.options import Timeout as Timeout
    from .core.structured import Shape as Shape
    from .core.structured import ShapeError as ShapeError
    from .core.structured import shape_of as shape_of
    from .errors import APIConnectionError as APIConnectionError
    from .errors import APIError as APIError
    from .errors import APIResponseValidationError as APIResponseValidationError
    from .errors import APIStatusError as APIStatusError
    from .errors import APITimeoutError as APITimeoutError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BadRequestError as BadRequestError
    from .errors import ClientClosedError as ClientClosedError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ConflictError as ConflictError
    from .errors import ContentFilterFinishReasonError as ContentFilterFinishReasonError
    from .errors import IncompleteStreamError as IncompleteStreamError
    from .errors import InFlightError as InFlightError
    from .errors import InternalServerError as InternalServerError
    from .errors import InvalidWebhookSignatureError as InvalidWebhookSignatureError
    from .errors import LengthFinishReasonError as LengthFinishReasonError
    from .errors import NotFoundError as NotFoundError
    from .errors import OAuthError as OAuthError
    from .errors import OpenAIError as OpenAIError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import PollTimeoutError as PollTimeoutError
    from .errors import RateLimitError as RateLimitError
    from .errors import RefusalError as RefusalError
    from .errors import StructuredOutputError as StructuredOutputError
    from .errors import UnfinishedResponseError as UnfinishedResponseError
    from .errors import UnprocessableEntityError as UnprocessableEntityError
    from .headers import Headers as Headers
    from .helpers.assistants import AsyncAssistantEventHandler as AsyncAssistantEventHandler
    from .helpers.assistants import AsyncAssistantStreamManager as AsyncAssistantStreamManager
    from .helpers.wanted import pydantic_function_tool as pydantic_function_tool
    from .helpers.wanted import pydantic_responses_function_tool as pydantic_responses_function_tool
    from .identity.errors import SubjectTokenProviderError as SubjectTokenProviderError
    from .meta import Meta as Meta
    from .meta import RequestInfo as RequestInfo
    from .meta import ResponseInfo as ResponseInfo
    from .mission.audio import AudioAnswer as AudioAnswer
    from .mission.audio import AudioStream as AudioStream
    from .mission.audio import TranscriptionStream as TranscriptionStream
    from .mission.doors import CompletionStream as CompletionStream
    from .mission.embed_errors import EmbedManyError as EmbedManyError
    from .mission.embed_many import EmbeddedText as EmbeddedText
    from .mission.embed_many import EmbedManyAnswer as EmbedManyAnswer
    from .mission.embed_many import EmbedManyStream as EmbedManyStream
    from .mission.images import ImageStream as ImageStream
    from .mission.vision import VisionStream as VisionStream
    from .model import BaseModel as BaseModel
    from .official import DEFAULT_CONNECTION_LIMITS as DEFAULT_CONNECTION_LIMITS
    from .official import DEFAULT_MAX_RETRIES as DEFAULT_MAX_RETRIES
    from .official import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
    from .official import AsyncClient as AsyncClient
    from .official import DataResidency as DataResidency
    from .official import DefaultAsyncHttpx2Client as DefaultAsyncHttpx2Client
    from .official import NoneType as NoneType
    from .official import file_from_path as file_from_path
    from .omitted import NOT_GIVEN as NOT_GIVEN
    from .omitted import NotGiven as NotGiven
    from .omitted import Omit as Omit
    from .omitted import not_given as not_given
    from .omitted import omit as omit
    from .realtime.errors import WebSocketConnectionClosedError as WebSocketConnectionClosedError
    from .realtime.errors import WebSocketQueueFullError as WebSocketQueueFullError
    from .realtime.reconnect import ReconnectingEvent as ReconnectingEvent
    from .realtime.reconnect import ReconnectingOverrides as ReconnectingOverrides

_HOMES = {
    "azure": "AsyncAzureOpenAI",
    "calls": (
        "AsyncConversationCursorPage AsyncCursorPage AsyncNextCursorPage AsyncPage AsyncStream BinaryAnswer Paginator"
    ),
    "calls.hooks": "AnswerEvent ErrorEvent RequestEvent",
    "calls.live": "ChatStream",
    "chat.errors": "BudgetError ContextLimitError SessionFileError TooManyRoundsError ToolError",
    "chat.events": "PartialObject ReasoningPiece RepairStarted TextPiece ToolFinished ToolStarted",
    "chat.reply": "Reply ToolCall ToolResult",
    "chat.results": "ContentParts",
    "chat.session": "ChatSession",
    "chat.session_stream": "SessionStream",
    "chat.spend": "Price SessionUsage",
    "chat.tokens": "TokenCount",
    "chat.toolbox": "Toolbox",
    "chat.tools": "Tool tool",
    "chat.turn": "TurnStream",
    "client": "AsyncOpenAI Client",
    "core.limits": "Limits",
    "core.options": "RequestOptions Timeout",
    "core.structured": "Shape ShapeError shape_of",
    "errors": (
        "APIConnectionError APIError APIResponseValidationError APIStatusError APITimeoutError AuthenticationError "
        "BadRequestError ClientClosedError ConfigurationError ConflictError ContentFilterFinishReasonError "
        "InFlightError IncompleteStreamError InternalServerError InvalidWebhookSignatureError "
        "LengthFinishReasonError NotFoundError OAuthError OpenAIError PermissionDeniedError PollTimeoutError "
        "RateLimitError RefusalError StructuredOutputError UnfinishedResponseError "
        "UnprocessableEntityError"
    ),
    "headers": "Headers",
    "helpers.wanted": "pydantic_function_tool pydantic_responses_function_tool",
    "helpers.assistants": "AsyncAssistantEventHandler AsyncAssistantStreamManager",
    "meta": "Meta RequestInfo ResponseInfo",
    "mission.audio": "AudioAnswer AudioStream TranscriptionStream",
    "mission.doors": "CompletionStream",
    "mission.embed_errors": "EmbedManyError",
    "mission.embed_many": "EmbedManyAnswer EmbedManyStream EmbeddedText",
    "mission.images": "ImageStream",
    "mission.vision": "VisionStream",
    "model": "BaseModel",
    "official": (
        "AsyncClient DEFAULT_CONNECTION_LIMITS DEFAULT_MAX_RETRIES DEFAULT_TIMEOUT DataResidency "
        "DefaultAsyncHttpx2Client NoneType file_from_path"
    ),
    "realtime.errors": "WebSocketConnectionClosedError WebSocketQueueFullError",
    "realtime.reconnect": "ReconnectingEvent ReconnectingOverrides",
    "identity.errors": "SubjectTokenProviderError",
    "omitted": "NOT_GIVEN NotGiven Omit not_given omit",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "DEFAULT_CONNECTION_LIMITS",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AnswerEvent",
    "AsyncAssistantEventHandler",
    "AsyncAssistantStreamManager",
    "AsyncAzureOpenAI",
    "AsyncClient",
    "AsyncConversationCursorPage",
    "AsyncCursorPage",
    "AsyncNextCursorPage",
    "AsyncOpenAI",
    "AsyncPage",
    "AsyncStream",
    "AudioAnswer",
    "AudioStream",
    "AuthenticationError",
    "BadRequestError",
    "BaseModel",
    "BinaryAnswer",
    "BudgetError",
    "ChatSession",
    "ChatStream",
    "Client",
    "ClientClosedError",
    "CompletionStream",
    "ConfigurationError",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "ContentParts",
    "ContextLimitError",
    "DataResidency",
    "DefaultAsyncHttpx2Client",
    "EmbedManyAnswer",
    "EmbedManyError",
    "EmbedManyStream",
    "EmbeddedText",
    "ErrorEvent",
    "Headers",
    "ImageStream",
    "InFlightError",
    "IncompleteStreamError",
    "InternalServerError",
    "InvalidWebhookSignatureError",
    "LengthFinishReasonError",
    "Limits",
    "Meta",
    "NoneType",
    "NotFoundError",
    "NotGiven",
    "OAuthError",
    "Omit",
    "OpenAIError",
    "Paginator",
    "PartialObject",
    "PermissionDeniedError",
    "PollTimeoutError",
    "Price",
    "RateLimitError",
    "ReasoningPiece",
    "ReconnectingEvent",
    "ReconnectingOverrides",
    "RefusalError",
    "RepairStarted",
    "Reply",
    "RequestEvent",
    "RequestInfo",
    "RequestOptions",
    "ResponseInfo",
    "SessionFileError",
    "SessionStream",
    "SessionUsage",
    "Shape",
    "ShapeError",
    "StructuredOutputError",
    "SubjectTokenProviderError",
    "TextPiece",
    "Timeout",
    "TokenCount",
    "TooManyRoundsError",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolFinished",
    "ToolResult",
    "ToolStarted",
    "Toolbox",
    "TranscriptionStream",
    "TurnStream",
    "UnfinishedResponseError",
    "UnprocessableEntityError",
    "VisionStream",
    "WebSocketConnectionClosedError",
    "WebSocketQueueFullError",
    "__title__",
    "__version__",
    "file_from_path",
    "not_given",
    "omit",
    "pydantic_function_tool",
    "pydantic_responses_function_tool",
    "shape_of",
    "tool",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in ("compat", "types"):
        return importlib.import_module(f".{name}", __name__)
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
