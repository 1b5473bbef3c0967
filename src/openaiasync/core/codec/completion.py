"""When a stream's answer is complete, told from its events, from ``[DONE]`` and from the end of the HTTP message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

from .tool_calls import as_index

__all__ = ["CompletionDetector", "Verdict"]

Verdict = Literal["complete", "unfinished", "short"]
"""Whether an answer may end: complete; ended by its server, but without saying that it is complete; cut."""

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


class CompletionDetector:
    """Watches the events of one stream.

    Chunks with choices end after ``[DONE]`` or the exact end of the message, with a finish reason for one choice at
    least; or wherever every choice seen has its finish reason. Other streams end after a terminal event, known by its
    `type` or its name. With `event_type` `None` the end of the message alone decides.

    A server numbers the choices as it likes: `asked` tells how many were asked for, and where that is one, every choice
    becomes choice 0, unless several come in one chunk. It is called when a number other than 0 comes.
    """

    __slots__ = ("_asked", "_finished", "_open", "_seen", "_single", "_terminal", "by_choice", "native")

    def __init__(self, event_type: str | None, asked: Callable[[], int] | None = None) -> None:
        self.by_choice: bool = event_type is not None and event_type.endswith((":ChatCompletionChunk", ":Completion"))
        """Whether events are chunks with choices."""
        self.native: bool = event_type is None
        """Whether the end of the message alone decides."""
        self._asked = asked
        self._single: bool | None = None
        self._open: set[Any] = set()
        self._finished: set[Any] = set()
        self._seen = False
        self._terminal = False

    def see(self, item: Any, name: str) -> None:
        """Take note of one event's object and name; number its choices as they were asked for."""
        if self.by_choice:
            try:
                for choice in item.choices:
                    if choice.finish_reason:
                        self._finished.add(self._index(choice, item))
                    elif choice.index not in self._open:
                        self._open.add(self._index(choice, item))
            except (AttributeError, TypeError):
                self._see_plain(item)
        else:
            self._seen = True
            kind = getattr(item, "type", None)  # of an event that does not conform it may be anything
            if (isinstance(kind, str) and kind in _TERMINAL_TYPES) or name in _TERMINAL_EVENTS:
                self._terminal = True

    def see_name(self, name: str) -> None:
        """Take note of the name of an event without data."""
        if name in _TERMINAL_EVENTS:
            self._terminal = True

    def _index(self, choice: Any, item: Any) -> Any:
        index = choice.index
        if index == 0 and index.__class__ is int:
            return 0
        if self._single is None:
            self._single = self._asked is not None and len(item.choices) < 2 and self._asked() == 1
        number = (None if self._single else as_index(index)) or 0
        if index is not None:  # a number that did not come is not made up
            choice.index = number
        return number

    def _see_plain(self, item: Any) -> None:
        """Of an event that is not of its type: plain values, or choices that are not such."""
        plain: dict[str, Any] = cast("Any", item) if isinstance(item, dict) else {}
        came: Any = plain.get("choices") if plain else getattr(cast("Any", item), "choices", None)
        choices: list[Any] = cast("Any", came) if isinstance(came, list) else []
        for choice in choices:
            if isinstance(choice, dict):
                fields: dict[str, Any] = cast("Any", choice)
                index = as_index(fields.get("index")) or 0
                (self._finished if fields.get("finish_reason") else self._open).add(index)
            elif hasattr(choice, "index") and hasattr(choice, "finish_reason"):
                (self._finished if choice.finish_reason else self._open).add(self._index(choice, item))

    def end(self, *, done: bool, exact: bool) -> Verdict:
        """Whether the answer may end now: after ``[DONE]`` or not, at the exact end of the message or not.

        Without either the message has ended in another way.
        """
        if self.complete or (self.by_choice and self._finished and (done or exact)):
            return "complete"
        if self.native:
            return "short" if done and not exact else "complete"
        return "unfinished" if done and exact and self.began else "short"

    @property
    def began(self) -> bool:
        """Whether anything came that an answer is made of: a choice, or an event of a stream without choices."""
        return bool(self._open or self._finished) if self.by_choice else self._seen

    @property
    def finished(self) -> bool:
        """Whether a choice has its finish reason."""
        return bool(self._finished)

    @property
    def complete(self) -> bool:
        """Whether nothing more has to come, however the stream ends."""
        if self.by_choice:
            return bool(self._finished) and self._open <= self._finished
        return self._terminal
