"""Pages of list operations: their fields, and the parameters that request the next page. No I/O."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ..model.base import BaseModel

__all__ = ["ConversationCursorShape", "CursorShape", "NextCursorShape", "PageShape", "TokenShape"]

T = TypeVar("T")


class PageShape(BaseModel, Generic[T], kw_only=True):
    """A complete list: there is no next page."""

    data: list[T]
    object: str | None = None

    def next_params(self) -> dict[str, str] | None:
        """Return the parameters that request the next page; `None` on the last one."""
        return None


class CursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page whose next page begins after the id of its last item."""

    has_more: bool | None = None
    first_id: str | None = None
    last_id: str | None = None

    def next_params(self) -> dict[str, str] | None:
        if not self.data or self.has_more is False:
            return None
        return _after(getattr(self.data[-1], "id", None))


class ConversationCursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page whose next page begins after its `last_id`."""

    has_more: bool | None = None
    first_id: str | None = None
    last_id: str | None = None

    def next_params(self) -> dict[str, str] | None:
        return _after(self.last_id if self.data and self.has_more is not False else None)


class NextCursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page with the cursor of the next page in `next`."""

    has_more: bool | None = None
    next: str | None = None

    def next_params(self) -> dict[str, str] | None:
        return _after(self.next if self.data and self.has_more is not False else None)


class TokenShape(NextCursorShape[T], Generic[T], kw_only=True):
    """As `NextCursorShape`, with the cursor in the parameter ``page``."""

    def next_params(self) -> dict[str, str] | None:
        return {"page": self.next} if self.data and self.has_more is not False and self.next else None


def _after(cursor: Any) -> dict[str, str] | None:
    return {"after": cursor} if isinstance(cursor, str) and cursor else None
