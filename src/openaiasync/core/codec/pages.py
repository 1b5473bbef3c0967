"""Pages of list operations: what they hold and which parameters ask for the next one. No I/O."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ..model.base import BaseModel

__all__ = ["ConversationCursorShape", "CursorShape", "NextCursorShape", "PageShape", "TokenShape"]

T = TypeVar("T")


class PageShape(BaseModel, Generic[T], kw_only=True):
    """A list that comes whole: there is no next page."""

    data: list[T]
    object: str | None = None

    def next_params(self) -> dict[str, str] | None:
        """The parameters that ask for the page after this one; `None` on the last."""
        return None


class CursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page whose successor begins after the id of its last item."""

    has_more: bool | None = None
    first_id: str | None = None
    last_id: str | None = None

    def next_params(self) -> dict[str, str] | None:
        if not self.data or self.has_more is False:
            return None
        return _after(getattr(self.data[-1], "id", None))


class ConversationCursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page whose successor begins after its `last_id`."""

    has_more: bool | None = None
    first_id: str | None = None
    last_id: str | None = None

    def next_params(self) -> dict[str, str] | None:
        return _after(self.last_id if self.data and self.has_more is not False else None)


class NextCursorShape(PageShape[T], Generic[T], kw_only=True):
    """A page that names its successor in `next`."""

    has_more: bool | None = None
    next: str | None = None

    def next_params(self) -> dict[str, str] | None:
        return _after(self.next if self.data and self.has_more is not False else None)


class TokenShape(NextCursorShape[T], Generic[T], kw_only=True):
    """As `NextCursorShape`, but the successor is asked for by ``page``."""

    def next_params(self) -> dict[str, str] | None:
        return {"page": self.next} if self.data and self.has_more is not False and self.next else None


def _after(cursor: Any) -> dict[str, str] | None:
    return {"after": cursor} if isinstance(cursor, str) and cursor else None
