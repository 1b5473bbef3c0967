"""When a stream's answer is complete, told from its events alone (``[DONE]`` is the stream's own business)."""

from __future__ import annotations

from typing import Any

__all__ = ["Ending"]

_TERMINAL_TYPES = frozenset(
    {
        "response.completed",
        "response.failed",
        "response.incomplete",
        "image_generation.completed",
        "image_edit.completed",
        "transcript.text.done",
        "speech.audio.done",
    }
)
_TERMINAL_EVENTS = frozenset(
    {
        "done",
        "thread.run.cancelled",
        "thread.run.completed",
        "thread.run.expired",
        "thread.run.failed",
        "thread.run.incomplete",
        "thread.run.requires_action",
    }
)


class Ending:
    """Watches the events of one stream; `complete` tells whether the answer may end here.

    Chunks with choices are complete when every choice seen has a finish reason; other streams after a terminal event,
    known by its `type` or by its name.
    """

    __slots__ = ("_finished", "_open", "_terminal", "by_choice")

    def __init__(self, event_type: str) -> None:
        self.by_choice: bool = event_type.endswith((":ChatCompletionChunk", ":Completion"))
        """Whether events are chunks with choices."""
        self._open: set[Any] = set()
        self._finished: set[Any] = set()
        self._terminal = False

    def see(self, item: Any, name: str) -> None:
        """Take note of one event's object and name."""
        if self.by_choice:
            try:
                for choice in item.choices:
                    if choice.finish_reason:
                        self._finished.add(choice.index)
                    elif choice.index not in self._open:
                        self._open.add(choice.index)
            except (AttributeError, TypeError):
                return  # a stray event without choices decides nothing
        else:
            kind = getattr(item, "type", None)  # of a stray event it may be anything
            if (isinstance(kind, str) and kind in _TERMINAL_TYPES) or name in _TERMINAL_EVENTS:
                self._terminal = True

    @property
    def complete(self) -> bool:
        """Whether nothing more has to come."""
        if self.by_choice:
            return bool(self._finished) and self._open <= self._finished
        return self._terminal
