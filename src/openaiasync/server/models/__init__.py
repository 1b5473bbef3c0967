"""The demo models: small programs that do real work offline and deterministically."""

from __future__ import annotations

from .base import (
    ChatModel,
    ChatRequest,
    CompletionModel,
    EmbeddingModel,
    ImageModel,
    Model,
    Reply,
    SpeechModel,
    ToolCall,
    TranscriptionModel,
)
from .chat import DemoChat
from .draw import DemoImage
from .embed import DemoEmbed
from .markov import DemoComplete
from .speech import DemoSpeech, DemoTranscription

__all__ = [
    "ChatModel",
    "ChatRequest",
    "CompletionModel",
    "DemoChat",
    "DemoComplete",
    "DemoEmbed",
    "DemoImage",
    "DemoSpeech",
    "DemoTranscription",
    "EmbeddingModel",
    "ImageModel",
    "Model",
    "Reply",
    "SpeechModel",
    "ToolCall",
    "TranscriptionModel",
]
