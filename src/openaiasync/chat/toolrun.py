"""Runs the calls of one round, all at once, and leaves none behind."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from .errors import ToolError
from .options import TurnOptions
from .reply import ToolCall, ToolResult
from .results import content_of, told_error
from .running import GRACE, leave_behind
from .toolbox import Toolbox

__all__ = ["ToolRun"]


class ToolRun:
    """The calls of one round as they run. Whoever starts it has to see it through with `next`, or `close` it.

    `scrub` takes the client's keys out of what the model is told of an exception.
    """

    def __init__(self, calls: Sequence[ToolCall], options: TurnOptions, scrub: Callable[[bytes], bytes]) -> None:
        self._options = options
        self._tools = options.tools if options.tools is not None else Toolbox()
        self._scrub = scrub
        self._asking = asyncio.Lock()
        self._finished: deque[asyncio.Task[ToolResult]] = deque()
        self._changed = asyncio.Event()  # a call has ended since somebody looked
        self._given = 0  # results that `next` has answered
        self._cancelled = False
        self._calls = list(calls)
        self._tasks = [asyncio.create_task(self._one(call), name=f"tool {call.name}") for call in self._calls]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[ToolResult]) -> None:
        if not task.cancelled():
            task.exception()  # looked at: one of several may fail when another has been raised already
        self._finished.append(task)
        self._changed.set()

    async def next(self) -> ToolResult | None:
        """The next result, as calls end; `None` after the last. Raises `ToolError` if failures are to be raised."""
        if self._given == len(self._tasks):
            return None
        while not self._finished:
            self._changed.clear()
            await self._changed.wait()
        task = self._finished.popleft()
        self._given += 1
        if task.cancelled() and not self._cancelled:
            call = self._calls[self._tasks.index(task)]
            raise ToolError(f"The call of the tool {call.name} was cancelled by a hook.", call=call)
        return task.result()

    async def all(self) -> list[ToolResult]:
        """All results in the order of the calls; ends every call if one raises or the caller is cancelled."""
        try:
            while await self.next() is not None:
                pass
        finally:
            await self.close()
        return self.results()

    def results(self) -> list[ToolResult]:
        """The results in the order of the calls, once `next` has answered `None`."""
        return [task.result() for task in self._tasks]

    def cancel(self) -> None:
        """Cancel what still runs."""
        self._cancelled = True
        for task in self._tasks:
            if not task.done():
                task.cancel()

    async def close(self) -> None:
        """Cancel what still runs and wait for its end; what ignores that is not waited for, nor is any thread."""
        running = [task for task in self._tasks if not task.done()]
        if running:
            self.cancel()
            await asyncio.wait(running, timeout=2 * GRACE)
            for task in running:
                if not task.done():  # a hook that ignores its cancellation
                    leave_behind(task, "a hook of a tool")

    async def _one(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools.names)
            there = f"The tools are: {known}." if known else "There are no tools."
            return await self._failed(call, ToolError(f"There is no tool {call.name!r}. {there}"), 0.0)
        denial = await self._denial(call)
        if denial is not None:
            return ToolResult(call=call, content=denial, denied=True)
        begun = time.perf_counter()
        try:
            value, content = await tool.result(call.arguments)
        except Exception as error:  # whatever a tool raises
            return await self._failed(call, error, time.perf_counter() - begun)
        return ToolResult(call=call, value=value, content=content, seconds=time.perf_counter() - begun)

    async def _denial(self, call: ToolCall) -> str | None:
        """What the model is told of a call that may not run; `None` for one that may."""
        permit = self._options.permit
        if permit is None:
            return None
        async with self._asking:
            verdict: Any = permit(call)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        if verdict is True:
            return None
        reason = f": {verdict}" if isinstance(verdict, str) and verdict else "."
        return f"Error: this call was not permitted{reason}"

    async def _failed(self, call: ToolCall, error: Exception, seconds: float) -> ToolResult:
        what = self._options.on_tool_error
        told = told_error(error, self._scrub, whole=what == "tell_all")
        if what == "raise":
            if isinstance(error, ToolError):
                error.call = call
                raise error
            raise ToolError(f"The tool {call.name} failed: {told}", call=call) from error
        content: Any = f"Error: {told}"
        if callable(what):
            said: Any = what(call, error)
            content = content_of(await said if inspect.isawaitable(said) else said)
        return ToolResult(call=call, content=content, error=error, seconds=seconds)
