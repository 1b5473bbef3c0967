"""`async with` for objects that are closed."""

from __future__ import annotations

from types import TracebackType
from typing import Self

__all__ = ["AsyncClosing"]


class AsyncClosing:
    """The base of objects with `aclose`: ``async with`` returns the object and closes it at the end."""

    __slots__ = ()

    async def aclose(self) -> None:
        """Close it. Idempotent."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
