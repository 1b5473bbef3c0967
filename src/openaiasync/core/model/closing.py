"""`async with` for objects that are closed, and the error for streams that are read a second time."""

from __future__ import annotations

from types import TracebackType
from typing import Self

__all__ = ["AsyncClosing", "refuse_second_pass"]


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


def refuse_second_pass(ended: bool, advice: str) -> None:
    """Raise `RuntimeError` if a stream has ended: a second loop over it would silently deliver nothing."""
    if ended:
        raise RuntimeError(f"this stream has ended, and a stream is read once; {advice}")
