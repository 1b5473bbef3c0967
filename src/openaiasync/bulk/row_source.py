"""The source of a run: rows are read when they can be sent, those of an asynchronous source a little ahead."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Iterator
from typing import Any, cast

from .row import Work

__all__ = ["RowSource"]

AHEAD = 256  # rows of an asynchronous source that are read before they can be sent


class RowSource:
    """The rows that were not taken yet.

    Args:
        rows: the rows. Generators are closed with the source.
        on_row: called for each row of an asynchronous source that was read, and after the last one.
        on_error: called with an exception of the source, which ends it.
    """

    def __init__(
        self,
        rows: AsyncIterable[Work] | Iterable[Work],
        on_row: Callable[[], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.exhausted: bool = False
        """Whether the last row was read; it may still be in the buffer."""
        self._on_row = on_row
        self._on_error = on_error
        self._buffer: deque[Work] = deque()
        self._room = asyncio.Event()
        self._rows: Iterator[Work] | None = None
        self._reader: asyncio.Task[None] | None = None
        if isinstance(rows, AsyncIterable):
            self._reader = asyncio.get_running_loop().create_task(self._read(rows))
        else:
            self._rows = iter(rows)

    @property
    def known(self) -> float:
        """The number of rows that can be taken now; ``inf`` for a synchronous source with more rows."""
        return float("inf") if self._rows is not None and not self.exhausted else len(self._buffer)

    @property
    def is_empty(self) -> bool:
        """Whether there will be no further row."""
        return self.exhausted and not self._buffer

    def take(self) -> Work | None:
        """Return the next row, `None` if there is no row now."""
        if self._buffer:
            work = self._buffer.popleft()
            if len(self._buffer) <= AHEAD // 2:
                self._room.set()
            return work
        if self._rows is not None and not self.exhausted:
            try:
                return next(self._rows)
            except StopIteration:
                self.exhausted = True
            except (Exception, asyncio.CancelledError) as error:
                self.exhausted = True
                self._on_error(error)
        return None

    async def _read(self, rows: AsyncIterable[Work]) -> None:
        """Read an asynchronous source ahead, up to a bound."""
        try:
            async for work in rows:
                self._buffer.append(work)
                self._on_row()
                while len(self._buffer) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._on_error(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # raised by the source itself: there may be more rows
                self._on_error(error)
            raise
        finally:
            self.exhausted = True
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()  # a traceback may hold it, and with it the caller's source of rows
            self._on_row()

    def stop(self) -> None:
        """Stop reading ahead."""
        if self._reader is not None:
            self._reader.cancel()

    async def aclose(self) -> None:
        """Stop reading, and close a generator."""
        self.stop()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)
        rows: Any = self._rows
        if isinstance(rows, Generator):
            cast("Generator[Any]", rows).close()
