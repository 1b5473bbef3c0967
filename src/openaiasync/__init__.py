"""The asyncio client for every OpenAI-compatible server.

All public names are listed here and imported at first access, so that importing the package costs almost nothing. Start
with ``from openaiasync import Client``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

__title__ = "openaiasync"

if TYPE_CHECKING:
    from . import types as types
    from .azure import AsyncAzureOpenAI as AsyncAzureOpenAI
    from .budget.base import SharedLimitsError as SharedLimitsError
    from .bulk.batch_file import InputFileError as InputFileError
    from .bulk.batch_file import LineProblem as LineProblem
    from .bulk.fingerprint import JobChangedError as JobChangedError
    from .bulk.fingerprint import JobError as JobError
    from .bulk.job import Job as Job
    from .bulk.mapping import ManyCallsError as ManyCallsError
    from .bulk.mapping import Row as Row
    from .bulk.mapping import RowError as RowError
    from .bulk.mapping import RowStream as RowStream
    from .bulk.progress import JobProgress as JobProgress
    from .bulk.remote_shards import merge_shards as merge_shards
    from .bulk.report import JobReport as JobReport
    from .bulk.tables import TableOptions as TableOptions
    from .chat.context_window import ContextLimitError as ContextLimitError
    from .chat.reply import PartialObject as PartialObject
    from .chat.reply import ReasoningPiece as ReasoningPiece
    from .chat.reply import RepairStarted as RepairStarted
    from .chat.reply import Reply as Reply
    from .chat.reply import TextPiece as TextPiece
    from .chat.reply import ToolCall as ToolCall
    from .chat.reply import ToolError as ToolError
    from .chat.reply import ToolFinished as ToolFinished
    from .chat.reply import ToolResult as ToolResult
    from .chat.reply import ToolStarted as ToolStarted
    from .chat.reply import TooManyRoundsError as TooManyRoundsError
    from .chat.session import ChatSession as ChatSession
    from .chat.session import SessionStream as SessionStream
    from .chat.session_file import SessionFileError as SessionFileError
    from .chat.tool_execution import ContentParts as ContentParts
    from .chat.tools import Tool as Tool
    from .chat.tools import Toolbox as Toolbox
    from .chat.tools import tool as tool
    from .chat.turn import TurnStream as TurnStream
    from .chat.usage import BudgetError as BudgetError
    from .chat.usage import Price as Price
    from .chat.usage import SessionUsage as SessionUsage
    from .chat.usage import TokenCount as TokenCount
    from .client import AsyncClient as AsyncClient
    from .client import AsyncOpenAI as AsyncOpenAI
    from .client import Client as Client
    from .client import DefaultAsyncHttpx2Client as DefaultAsyncHttpx2Client
    from .client import NoneType as NoneType
    from .client import file_from_path as file_from_path
    from .core.model.base import BaseModel as BaseModel
    from .core.model.headers import Headers as Headers
    from .core.model.meta import Meta as Meta
    from .core.model.meta import RequestInfo as RequestInfo
    from .core.model.meta import ResponseInfo as ResponseInfo
    from .core.model.omitted import NOT_GIVEN as NOT_GIVEN
    from .core.model.omitted import NotGiven as NotGiven
    from .core.model.omitted import Omit as Omit
    from .core.model.omitted import not_given as not_given
    from .core.model.omitted import omit as omit
    from .core.policy.limits import Limits as Limits
    from .core.policy.request_options import RequestOptions as RequestOptions
    from .core.policy.request_options import Timeout as Timeout
    from .core.schema.structured import Shape as Shape
    from .core.schema.structured import ShapeError as ShapeError
    from .core.schema.structured import shape_of as shape_of
    from .engine import AsyncConversationCursorPage as AsyncConversationCursorPage
    from .engine import AsyncCursorPage as AsyncCursorPage
    from .engine import AsyncNextCursorPage as AsyncNextCursorPage
    from .engine import AsyncPage as AsyncPage
    from .engine import AsyncStream as AsyncStream
    from .engine import BinaryAnswer as BinaryAnswer
    from .engine import Paginator as Paginator
    from .engine.accumulating import ChatStream as ChatStream
    from .engine.hooks import AnswerEvent as AnswerEvent
    from .engine.hooks import ErrorEvent as ErrorEvent
    from .engine.hooks import RequestEvent as RequestEvent
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
    from .identity.token_exchange import SubjectTokenProviderError as SubjectTokenProviderError
    from .methods.audio import AudioAnswer as AudioAnswer
    from .methods.audio import AudioStream as AudioStream
    from .methods.audio import TranscriptionStream as TranscriptionStream
    from .methods.client_methods import CompletionStream as CompletionStream
    from .methods.embed_many import EmbeddedText as EmbeddedText
    from .methods.embed_many import EmbedManyAnswer as EmbedManyAnswer
    from .methods.embed_many import EmbedManyError as EmbedManyError
    from .methods.embed_many import EmbedManyStream as EmbedManyStream
    from .methods.images import ImageStream as ImageStream
    from .methods.vision import VisionStream as VisionStream
    from .official.assistants import AsyncAssistantEventHandler as AsyncAssistantEventHandler
    from .official.assistants import AsyncAssistantStreamManager as AsyncAssistantStreamManager
    from .official.parsing import pydantic_function_tool as pydantic_function_tool
    from .official.parsing import pydantic_responses_function_tool as pydantic_responses_function_tool
    from .options import DEFAULT_CONNECTION_LIMITS as DEFAULT_CONNECTION_LIMITS
    from .options import DEFAULT_MAX_RETRIES as DEFAULT_MAX_RETRIES
    from .options import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
    from .options import DataResidency as DataResidency
    from .realtime.reconnect import ReconnectingEvent as ReconnectingEvent
    from .realtime.reconnect import ReconnectingOverrides as ReconnectingOverrides
    from .realtime.reconnect import WebSocketConnectionClosedError as WebSocketConnectionClosedError
    from .realtime.reconnect import WebSocketQueueFullError as WebSocketQueueFullError

_HOMES = {
    "azure": "AsyncAzureOpenAI",
    "engine": (
        "AsyncConversationCursorPage AsyncCursorPage AsyncNextCursorPage AsyncPage AsyncStream BinaryAnswer Paginator"
    ),
    "engine.hooks": "AnswerEvent ErrorEvent RequestEvent",
    "engine.accumulating": "ChatStream",
    "bulk.batch_file": "InputFileError LineProblem",
    "bulk.fingerprint": "JobChangedError JobError",
    "bulk.job": "Job",
    "bulk.remote_shards": "merge_shards",
    "bulk.progress": "JobProgress",
    "bulk.report": "JobReport",
    "bulk.tables": "TableOptions",
    "chat.context_window": "ContextLimitError",
    "chat.reply": (
        "PartialObject ReasoningPiece RepairStarted Reply TextPiece TooManyRoundsError ToolCall ToolError ToolFinished "
        "ToolResult ToolStarted"
    ),
    "chat.session": "ChatSession SessionStream",
    "chat.session_file": "SessionFileError",
    "chat.tool_execution": "ContentParts",
    "chat.tools": "Tool Toolbox tool",
    "chat.turn": "TurnStream",
    "chat.usage": "BudgetError Price SessionUsage TokenCount",
    "client": "AsyncClient AsyncOpenAI Client DefaultAsyncHttpx2Client NoneType file_from_path",
    "budget.base": "SharedLimitsError",
    "bulk.mapping": "ManyCallsError Row RowError RowStream",
    "core.policy.limits": "Limits",
    "core.policy.request_options": "RequestOptions Timeout",
    "core.schema.structured": "Shape ShapeError shape_of",
    "errors": (
        "APIConnectionError APIError APIResponseValidationError APIStatusError APITimeoutError AuthenticationError "
        "BadRequestError ClientClosedError ConfigurationError ConflictError ContentFilterFinishReasonError "
        "InFlightError IncompleteStreamError InternalServerError InvalidWebhookSignatureError "
        "LengthFinishReasonError NotFoundError OAuthError OpenAIError PermissionDeniedError PollTimeoutError "
        "RateLimitError RefusalError StructuredOutputError UnfinishedResponseError "
        "UnprocessableEntityError"
    ),
    "core.model.headers": "Headers",
    "official.parsing": "pydantic_function_tool pydantic_responses_function_tool",
    "official.assistants": "AsyncAssistantEventHandler AsyncAssistantStreamManager",
    "core.model.meta": "Meta RequestInfo ResponseInfo",
    "methods.audio": "AudioAnswer AudioStream TranscriptionStream",
    "methods.client_methods": "CompletionStream",
    "methods.embed_many": "EmbedManyAnswer EmbedManyError EmbedManyStream EmbeddedText",
    "methods.images": "ImageStream",
    "methods.vision": "VisionStream",
    "core.model.base": "BaseModel",
    "options": "DEFAULT_CONNECTION_LIMITS DEFAULT_MAX_RETRIES DEFAULT_TIMEOUT DataResidency",
    "realtime.reconnect": "ReconnectingEvent ReconnectingOverrides WebSocketConnectionClosedError "
    "WebSocketQueueFullError",
    "identity.token_exchange": "SubjectTokenProviderError",
    "core.model.omitted": "NOT_GIVEN NotGiven Omit not_given omit",
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
    "InputFileError",
    "InternalServerError",
    "InvalidWebhookSignatureError",
    "Job",
    "JobChangedError",
    "JobError",
    "JobProgress",
    "JobReport",
    "LengthFinishReasonError",
    "Limits",
    "LineProblem",
    "ManyCallsError",
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
    "Row",
    "RowError",
    "RowStream",
    "SessionFileError",
    "SessionStream",
    "SessionUsage",
    "Shape",
    "ShapeError",
    "SharedLimitsError",
    "StructuredOutputError",
    "SubjectTokenProviderError",
    "TableOptions",
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
    "merge_shards",
    "not_given",
    "omit",
    "pydantic_function_tool",
    "pydantic_responses_function_tool",
    "shape_of",
    "tool",
    "types",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        from .lazy import submodule

        return submodule(__name__, name)
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
