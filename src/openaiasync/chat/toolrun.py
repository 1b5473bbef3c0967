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
from .results import told_error
from .toolbox import Toolbox
from .tools import Tool

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
        self._tasks = [asyncio.create_task(self._one(call), name=f"tool {call.name}") for call in calls]
        self._pending: set[asyncio.Task[ToolResult]] = set(self._tasks)
        self._finished: deque[asyncio.Task[ToolResult]] = deque()
        for task in self._tasks:
            task.add_done_callback(_look)

    async def next(self) -> ToolResult | None:
        """The next result, as calls end; `None` after the last. Raises `ToolError` if failures are to be raised."""
        if not self._finished:
            if not self._pending:
                return None
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            self._finished.extend(task for task in self._tasks if task in done)
        return self._finished.popleft().result()

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
        for task in self._pending:
            task.cancel()

    async def close(self) -> None:
        """Cancel what still runs and wait for its end; a thread cannot be stopped and is not waited for."""
        self.cancel()
        if self._pending:
            await asyncio.wait(self._pending)
            self._pending = set()

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
            value, content = await _run(tool, call.arguments)
        except (Exception, SystemExit) as error:
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

    async def _failed(self, call: ToolCall, error: BaseException, seconds: float) -> ToolResult:
        cause = error if isinstance(error, Exception) else RuntimeError("the tool wanted to end the program")
        told = told_error(cause, self._scrub)
        what = self._options.on_tool_error
        if what == "raise":
            if isinstance(error, ToolError):
                error.call = call
                raise error
            raise ToolError(f"The tool {call.name} failed: {told}", call=call) from error
        if callable(what):
            said = what(call, cause)
            content = await said if inspect.isawaitable(said) else said
        else:
            content = f"Error: {told}"
        return ToolResult(call=call, content=content, error=cause, seconds=seconds)


async def _run(tool: Tool, arguments: str) -> tuple[Any, str | list[dict[str, Any]]]:
    try:
        value = await tool.run(arguments)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ToolError(f"the tool {tool.name} was cancelled by what it waited for") from error
    return value, tool.content(value)


def _look(task: asyncio.Task[ToolResult]) -> None:
    """Look at a task's exception: one of several may fail when another has been raised already."""
    if not task.cancelled():
        task.exception()
