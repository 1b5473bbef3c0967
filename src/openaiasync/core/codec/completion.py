"""Decides when a stream's answer is complete: by its events, by ``[DONE]`` and by the end of the HTTP message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ..model.plain import as_index, as_list, is_dict

__all__ = ["CompletionDetector", "Verdict"]

Verdict = Literal["complete", "unfinished", "short"]
"""How an answer ended: complete; ended properly but without a completion signal; cut."""

_TERMINAL_TYPES = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "image_generation.completed",
     "image_edit.completed", "transcript.text.done", "speech.audio.done"}
)  # fmt: skip
_TERMINAL_EVENTS = frozenset(
    {"done", "thread.run.cancelled", "thread.run.completed", "thread.run.expired", "thread.run.failed",
     "thread.run.incomplete", "thread.run.requires_action"}
)  # fmt: skip


class CompletionDetector:
    """Follows the events of one stream.

    Chunks with choices are complete after ``[DONE]`` or the exact end of the message, with a finish reason for at least
    one choice; or as soon as every choice received has its finish reason. Other streams are complete after a terminal
    event, known by its `type` or its name. With `event_type` `None` the end of the message alone decides.

    Servers number choices as they like. `requested` returns how many were requested: where that is one, every choice
    becomes choice 0, unless several come in one chunk. It is called at the first number other than 0.
    """

    __slots__ = ("_finished", "_open", "_requested", "_seen", "_single", "_terminal", "by_choice", "native")

    def __init__(self, event_type: str | None, requested: Callable[[], int] | None = None) -> None:
        self.by_choice: bool = event_type is not None and event_type.endswith((":ChatCompletionChunk", ":Completion"))
        """Whether events are chunks with choices."""
        self.native: bool = event_type is None
        """Whether the end of the message alone decides."""
        self._requested = requested
        self._single: bool | None = None
        self._open: set[Any] = set()
        self._finished: set[Any] = set()
        self._seen = False
        self._terminal = False

    def feed(self, item: Any, name: str) -> None:
        """Take one event's object and name; number its choices as they were requested."""
        if self.by_choice:
            try:
                for choice in item.choices:
                    if choice.finish_reason:
                        self._finished.add(self._index(choice, item))
                    elif choice.index not in self._open:
                        self._open.add(self._index(choice, item))
            except (AttributeError, TypeError):
                self._feed_plain(item)
        else:
            self._seen = True
            kind = getattr(item, "type", None)  # in an event that does not conform it may be any value
            if (isinstance(kind, str) and kind in _TERMINAL_TYPES) or name in _TERMINAL_EVENTS:
                self._terminal = True

    def feed_name(self, name: str) -> None:
        """Take the name of an event without data."""
        if name in _TERMINAL_EVENTS:
            self._terminal = True

    def _index(self, choice: Any, item: Any) -> Any:
        index = choice.index
        if index == 0 and index.__class__ is int:
            return 0
        if self._single is None:
            self._single = self._requested is not None and len(item.choices) < 2 and self._requested() == 1
        number = (None if self._single else as_index(index)) or 0
        if index is not None:  # a missing number is not invented
            choice.index = number
        return number

    def _feed_plain(self, item: Any) -> None:
        """Take an event that is not of its type: plain values, or choices that are not `choices` of the type."""
        for choice in as_list(item.get("choices") if is_dict(item) else getattr(item, "choices", None)):
            if is_dict(choice):
                index = as_index(choice.get("index")) or 0
                (self._finished if choice.get("finish_reason") else self._open).add(index)
            elif hasattr(choice, "index") and hasattr(choice, "finish_reason"):
                (self._finished if choice.finish_reason else self._open).add(self._index(choice, item))

    def end(self, *, done: bool, exact: bool) -> Verdict:
        """Judge an end of the stream: after ``[DONE]`` (`done`), at the exact end of the message (`exact`).

        With neither, the connection ended.
        """
        if self.complete or (self.by_choice and self._finished and (done or exact)):
            return "complete"
        if self.native:
            return "short" if done and not exact else "complete"
        return "unfinished" if done and exact and self.began else "short"

    @property
    def began(self) -> bool:
        """Whether any part of an answer was received: a choice, or an event of a stream without choices."""
        return bool(self._open or self._finished) if self.by_choice else self._seen

    @property
    def finished(self) -> bool:
        """Whether at least one choice has its finish reason."""
        return bool(self._finished)

    @property
    def complete(self) -> bool:
        """Whether the answer is complete, however the stream ends."""
        if self.by_choice:
            return bool(self._finished) and self._open <= self._finished
        return self._terminal
