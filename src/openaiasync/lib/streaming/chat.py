"""`openaiasync.lib.streaming.chat`: events, streams and their state under their official path."""

from __future__ import annotations

from ...official import chat_stream
from ...official.chat_stream import *  # noqa: F403
from ...official.parsed_chat import ParsedChatCompletion as ParsedChatCompletionSnapshot
from ...official.parsed_chat import ParsedChatCompletionMessage as ParsedChatCompletionMessageSnapshot
from ...official.parsed_chat import ParsedChoice as ParsedChoiceSnapshot

__all__ = ["ParsedChatCompletionMessageSnapshot", "ParsedChatCompletionSnapshot", "ParsedChoiceSnapshot"]
__all__ += chat_stream.__all__
