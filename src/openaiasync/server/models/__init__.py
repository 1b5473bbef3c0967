"""The demo models: small programs that do real work offline and deterministically."""

from __future__ import annotations

from .base import ChatAsk, ChatModel, CompletionModel, EmbeddingModel, Model, Reply, ToolCall
from .chat import DemoChat
from .embed import DemoEmbed
from .markov import DemoComplete

__all__ = [
    "ChatAsk",
    "ChatModel",
    "CompletionModel",
    "DemoChat",
    "DemoComplete",
    "DemoEmbed",
    "EmbeddingModel",
    "Model",
    "Reply",
    "ToolCall",
]
