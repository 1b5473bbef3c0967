"""`openaiasync.lib.streaming`: handlers of assistants' streams under their official path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_names, resolve_annotations

if TYPE_CHECKING:
    from ...official.assistants import AsyncAssistantEventHandler as AsyncAssistantEventHandler
    from ...official.assistants import AsyncAssistantEventHandlerT as AsyncAssistantEventHandlerT
    from ...official.assistants import AsyncAssistantStreamManager as AsyncAssistantStreamManager

__all__ = ["AsyncAssistantEventHandler", "AsyncAssistantEventHandlerT", "AsyncAssistantStreamManager"]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "...official.assistants"))

resolve_annotations(__name__)
