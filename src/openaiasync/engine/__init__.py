"""The engine: in-flight slots, attempts and retries, decoding, streams and pages."""

from __future__ import annotations

from .binary import BinaryAnswer
from .engine import Engine
from .pagination import (
    AsyncConversationCursorPage,
    AsyncCursorPage,
    AsyncNextCursorPage,
    AsyncPage,
    AsyncTokenPage,
    Paginator,
)
from .raw import Namespace
from .streams import AsyncStream

__all__ = [
    "AsyncConversationCursorPage",
    "AsyncCursorPage",
    "AsyncNextCursorPage",
    "AsyncPage",
    "AsyncStream",
    "AsyncTokenPage",
    "BinaryAnswer",
    "Engine",
    "Namespace",
    "Paginator",
]
