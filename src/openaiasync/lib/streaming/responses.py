"""`openaiasync.lib.streaming.responses`: events, streams and their state under their official path."""

from __future__ import annotations

from ...official.response_events import (
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseStreamEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)
from ...official.response_state import ResponseStreamState
from ...official.response_stream import AsyncResponseStream, AsyncResponseStreamManager

__all__ = [
    "AsyncResponseStream",
    "AsyncResponseStreamManager",
    "ResponseFunctionCallArgumentsDeltaEvent",
    "ResponseStreamEvent",
    "ResponseStreamState",
    "ResponseTextDeltaEvent",
    "ResponseTextDoneEvent",
]
