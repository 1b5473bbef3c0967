"""The asyncio client for every OpenAI-compatible server.

Everything public is named here and imported when it is first touched, so that importing the package costs next to
nothing. ``from openaiasync import Client`` is where to begin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import types as types
    from .calls import (
        AsyncConversationCursorPage as AsyncConversationCursorPage,
        AsyncCursorPage as AsyncCursorPage,
        AsyncNextCursorPage as AsyncNextCursorPage,
        AsyncPage as AsyncPage,
        AsyncStream as AsyncStream,
        Paginator as Paginator,
    )
    from .client import AsyncOpenAI as AsyncOpenAI, Client as Client
    from .core.limits import Limits as Limits
    from .core.options import RequestOptions as RequestOptions, Timeout as Timeout
    from .errors import (
        APIConnectionError as APIConnectionError,
        APIError as APIError,
        APIResponseValidationError as APIResponseValidationError,
        APIStatusError as APIStatusError,
        APITimeoutError as APITimeoutError,
        AuthenticationError as AuthenticationError,
        BadRequestError as BadRequestError,
        ClientClosedError as ClientClosedError,
        ConfigurationError as ConfigurationError,
        ConflictError as ConflictError,
        ContentFilterFinishReasonError as ContentFilterFinishReasonError,
        IncompleteStreamError as IncompleteStreamError,
        InFlightError as InFlightError,
        InternalServerError as InternalServerError,
        InvalidWebhookSignatureError as InvalidWebhookSignatureError,
        LengthFinishReasonError as LengthFinishReasonError,
        NotFoundError as NotFoundError,
        OAuthError as OAuthError,
        OpenAIError as OpenAIError,
        PermissionDeniedError as PermissionDeniedError,
        RateLimitError as RateLimitError,
        UnprocessableEntityError as UnprocessableEntityError,
    )
    from .headers import Headers as Headers
    from .meta import Meta as Meta, RequestInfo as RequestInfo, ResponseInfo as ResponseInfo
    from .mission.chat import ChatStream as ChatStream
    from .mission.doors import CompletionStream as CompletionStream
    from .model import BaseModel as BaseModel
    from .omit import NOT_GIVEN as NOT_GIVEN, NotGiven as NotGiven, Omit as Omit, not_given as not_given, omit as omit

_HOMES = {
    "calls": "AsyncConversationCursorPage AsyncCursorPage AsyncNextCursorPage AsyncPage AsyncStream Paginator",
    "client": "AsyncOpenAI Client",
    "core.limits": "Limits",
    "core.options": "RequestOptions Timeout",
    "errors": (
        "APIConnectionError APIError APIResponseValidationError APIStatusError APITimeoutError AuthenticationError "
        "BadRequestError ClientClosedError ConfigurationError ConflictError ContentFilterFinishReasonError "
        "InFlightError IncompleteStreamError InternalServerError InvalidWebhookSignatureError LengthFinishReasonError "
        "NotFoundError OAuthError OpenAIError PermissionDeniedError RateLimitError UnprocessableEntityError"
    ),
    "headers": "Headers",
    "meta": "Meta RequestInfo ResponseInfo",
    "mission.chat": "ChatStream",
    "mission.doors": "CompletionStream",
    "model": "BaseModel",
    "omit": "NOT_GIVEN NotGiven Omit not_given omit",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [  # noqa: PLE0604 (a list of texts, put together)
    "__version__",
    "types",
    *_HOME,
]


def __getattr__(name: str) -> Any:
    if name == "types":
        return importlib.import_module(".types", __name__)
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
