"""The server kit: an OpenAI-compatible server over Python functions (`Server`), and a small HTTP server (`serve`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .app import Server
from .context import RequestContext
from .errors import HTTPError
from .form import UploadedFile
from .http import HTTPServer, serve
from .http_connection import ServerLimits
from .pieces import ContentDelta, Finish, ReasoningDelta, RefusalDelta, ToolCallDelta, UsageReport
from .requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ImageRequest,
    ModerationRequest,
    ResponseRequest,
    SpeechRequest,
    TranscriptionRequest,
)
from .thread import ServerThread, start_in_thread
from .transcripts import Transcript, TranscriptSegment

if TYPE_CHECKING:
    from .front import ClientKey, Front, FrontUpstream
    from .page import ChatPage
else:
    __getattr__ = lazy_names(
        __name__, {"ChatPage": ".page", **dict.fromkeys(("ClientKey", "Front", "FrontUpstream"), ".front")}
    )  # `front` stands over the engine

__all__ = [
    "ChatPage",
    "ChatRequest",
    "ClientKey",
    "CompletionRequest",
    "ContentDelta",
    "EmbeddingRequest",
    "Finish",
    "Front",
    "FrontUpstream",
    "HTTPError",
    "HTTPServer",
    "ImageRequest",
    "ModerationRequest",
    "ReasoningDelta",
    "RefusalDelta",
    "RequestContext",
    "ResponseRequest",
    "Server",
    "ServerLimits",
    "ServerThread",
    "SpeechRequest",
    "ToolCallDelta",
    "Transcript",
    "TranscriptSegment",
    "TranscriptionRequest",
    "UploadedFile",
    "UsageReport",
    "serve",
    "start_in_thread",
]

Refusal = HTTPError  # its former name
