"""Tools: Python functions that a model may call, the toolbox that holds them, and the run of one answer's calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast, overload

from ..core.schema.structured import ShapeError
from .reply import ToolCall, ToolError, ToolResult
from .signatures import Function, Parameters, function_of, name_of, object_in, read_docstring
from .tool_execution import (
    GRACE,
    THREADS,
    ToolThread,
    as_failure,
    collected,
    collected_later,
    content_of,
    in_task,
    is_small,
    leave_behind,
    told_error,
)

__all__ = ["OnToolError", "Permit", "Tool", "ToolRun", "Toolbox", "Tools", "tool"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Tool:
    """One function that a model may call. Make it with `tool`.

    `name`, `description` and `parameters` (a JSON schema) are what the model is told; `strict` says whether the server
    is asked to hold arguments to the schema. `timeout` is how many seconds a call may take, `None` for any time.
    `function` may be called as ever: a `Tool` is callable like it.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
        parameters: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"A tool is a function, not {type(function).__name__}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        self.function: Function = function
        self.timeout: float | None = timeout
        self.name: str = name_of(function) if name is None else name
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"The tool's name {self.name!r} is not one the API takes (letters, digits, _ and -, at most 64); "
                "give it another with tool(function, name='...')"
            )
        inner = function_of(function)
        told, of_parameters = read_docstring(inspect.getdoc(inner) if inspect.isroutine(inner) else inner.__doc__)
        self.description: str = told if description is None else description
        self.strict: bool
        self.parameters: dict[str, Any]
        self._bound: Parameters | None = None
        if parameters is None:
            self._bound = Parameters(function, self.name, of_parameters, strict)
            self.strict, self.parameters = self._bound.strict, self._bound.schema
        else:
            self.strict, self.parameters = bool(strict), parameters
        self._silent = getattr(inner, "__annotations__", {}).get("return", "") in (None, "None")

    @classmethod
    def of(cls, function: Any) -> Tool:
        """The tool of a function; a `Tool` itself unchanged."""
        return function if isinstance(function, Tool) else Tool(function)

    def param(self) -> dict[str, Any]:
        """The tool as an item of the request's ``tools``."""
        made: dict[str, Any] = {"name": self.name, "parameters": self.parameters}
        if self.description:
            made["description"] = self.description
        if self.strict:
            made["strict"] = True
        return {"type": "function", "function": made}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    async def run(self, arguments: str) -> Any:
        """Call the function with the JSON text of its arguments, checked and made what the annotations say.

        A function that is not async runs in a thread of its own, under the caller's context variables; what it yields,
        if it is a generator, is gathered there. Raises `ToolError` for arguments that do not fit, for a call that takes
        too long or is not made because 32 others hang, and whatever the function raises.
        """
        value, _ = await self._result(arguments, tell=False)
        return value

    async def call(self, arguments: str) -> str | list[dict[str, Any]]:
        """`run`, and its result as the content that the model is told.

        Raises what `run` does, and `ToolError` for a result that JSON cannot carry.
        """
        _, content = await self.result(arguments)
        return content

    async def result(self, arguments: str) -> tuple[Any, str | list[dict[str, Any]]]:
        """What the function returned, and the same as content. Raises what `call` does."""
        return await self._result(arguments, tell=True)

    async def _result(self, arguments: str, tell: bool) -> tuple[Any, Any]:
        placed, named = self._arguments(arguments)
        call = functools.partial(self.function, *placed, **named)
        if _is_asynchronous(self.function):
            return await in_task(self._finished(call, tell), self.timeout, self.name)
        thread = await THREADS.take(self.name)
        try:
            return await in_task(self._in_thread(thread, call, tell), self.timeout, self.name)
        finally:
            thread.leave()

    async def _in_thread(self, thread: ToolThread, call: Callable[[], Any], tell: bool) -> tuple[Any, Any]:
        """Call the function in a thread, and have all done there that may take long: gathering, encoding."""

        def work() -> tuple[Any, Any, bool]:
            value: Any = call()
            if inspect.isawaitable(value) or hasattr(value, "__anext__"):
                return value, None, False
            return *self._gathered(value, lambda: thread.left, tell), True

        value, content, done = await thread.run(work)
        return (value, content) if done else await self._finished(lambda: value, tell)

    def _gathered(self, value: Any, is_left: Callable[[], bool], tell: bool) -> tuple[Any, Any]:
        if isinstance(value, Iterator):
            value = collected(cast("Iterator[object]", value), is_left)
        return value, self.content(value) if tell else None

    async def _finished(self, call: Callable[[], Any], tell: bool) -> tuple[Any, Any]:
        """What the event loop has to wait for, waited for; what may take long is done in a thread."""
        value = call()
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, AsyncIterator):
            value = await collected_later(cast("AsyncIterator[object]", value))
        if is_small(value):
            return value, self.content(value) if tell else None
        thread = await THREADS.take(self.name)
        try:
            return await thread.run(functools.partial(self._gathered, value, lambda: thread.left, tell))
        finally:
            thread.leave()

    def content(self, value: Any) -> str | list[dict[str, Any]]:
        """A result as the content that the model is told. Raises `ToolError` for what JSON cannot carry."""
        try:
            return content_of(value, silent=self._silent)
        except (TypeError, ValueError) as error:
            raise ToolError(f"The tool {self.name} returned what cannot be told to the model: {error}") from error

    def _arguments(self, arguments: str) -> tuple[list[Any], dict[str, Any]]:
        try:
            return self._bound.bind(arguments) if self._bound is not None else ([], object_in(arguments))
        except ShapeError as error:
            raise ToolError(f"The arguments do not fit. {error.message}") from error
        except BaseException as error:  # code of the types' own, as a validator
            if isinstance(error, Exception):
                raise
            raise as_failure(error) from error

    def __repr__(self) -> str:
        return f"Tool({self.name})"


def _is_asynchronous(function: Any) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 (an object whose __call__ is async)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, call))


@overload
def tool(
    function: Function,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    parameters: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> Tool: ...


@overload
def tool(
    function: None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    parameters: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> Callable[[Function], Tool]: ...


def tool(
    function: Function | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    parameters: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> Tool | Callable[[Function], Tool]:
    """Make a tool of a function, sync or async, a method, a partial or a callable object; also as a decorator.

    Each parameter needs an annotation: whatever msgspec or pydantic can make a schema of, described in the docstring
    (Google, numpy or reST style) or by ``Annotated[..., msgspec.Meta(description=...)]``. Parameters with defaults may
    be left out by the model. What a partial has bound by name is not shown to it.

    `strict` asks the server to hold arguments to the schema: where it can by default; `True` insists, `False` never.
    `parameters` is a JSON schema to be used instead of the signature: the function then gets the arguments by name as
    JSON makes them, unchecked. `timeout` is how many seconds a call may take; a thread is then left to itself. Raises
    `TypeError` for a function no schema can be made of, and says what to change.
    """

    def made(given: Function) -> Tool:
        return Tool(given, name=name, description=description, strict=strict, parameters=parameters, timeout=timeout)

    return made if function is None else made(function)


class Toolbox:
    """Functions and `Tool`s that a model may call, by name; beside them tools that the server itself runs, as dicts.

    Raises `TypeError` for what is no tool, for a function no schema can be made of, and for the dict of a function
    tool, behind which there is nothing to run; `ValueError` for two tools of one name.
    """

    __slots__ = ("_served", "_tools")

    def __init__(self, tools: Tools = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._served: list[dict[str, Any]] = []
        if isinstance(tools, Toolbox):
            self._tools, self._served = dict(tools._tools), list(tools._served)
            return
        given: Any = tools
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            raise TypeError(f"tools is a list of functions, not {cast('Any', type)(given).__name__}")
        for one in cast("Any", given):
            self.add(one)

    def add(self, given: Function | Tool | Mapping[str, Any]) -> Tool | None:
        """Add a tool; the `Tool` made of a function, `None` of a dict. Raises what making a toolbox raises."""
        if isinstance(given, Mapping):
            self._serve(dict(cast("Any", given)))
            return None
        made = Tool.of(given)
        if made.name in self._tools:
            raise ValueError(f"Two tools are named {made.name!r}; give one of them another name: tool(f, name='...')")
        self._tools[made.name] = made
        return made

    def _serve(self, given: dict[str, Any]) -> None:
        kind = given.get("type")
        if not isinstance(kind, str) or kind in ("function", "custom"):
            raise TypeError(
                f"The dict of a {kind or 'function'} tool says nothing of what to run when the model calls it: pass "
                "the function itself, or tool(function, name=..., parameters=schema)"
            )
        self._served.append(given)

    def get(self, name: str) -> Tool | None:
        """The tool of a name."""
        return self._tools.get(name)

    @property
    def names(self) -> list[str]:
        """The names of the tools that run here, in order."""
        return list(self._tools)

    def params(self) -> list[dict[str, Any]]:
        """The value of the request's ``tools``."""
        return [*(one.param() for one in self._tools.values()), *self._served]

    def joined(self, more: Tools) -> Toolbox:
        """A new toolbox with these tools and more."""
        made = Toolbox(self)
        other = Toolbox(more)
        for one in other:
            made.add(one)
        made._served += other._served
        return made

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools) + len(self._served)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __repr__(self) -> str:
        return f"Toolbox({', '.join([*self._tools, *(str(one.get('type')) for one in self._served)])})"


Tools: TypeAlias = Toolbox | Sequence[Function | Tool | Mapping[str, Any]]
"""What ``tools=`` takes: functions, `Tool`s, and dicts of tools that the server runs."""


Permit: TypeAlias = Callable[[ToolCall], bool | str | Awaitable[bool | str]]
"""Asked before each call: `True` lets it run; `False`, or the reason as a text, denies it, and the model is told.

Asked one call at a time, in the order of the calls.
"""

OnToolError: TypeAlias = Literal["tell", "tell_all", "raise"] | Callable[[ToolCall, Exception], str | Awaitable[str]]
"""What becomes of a failed call.

``"tell"``: the model is told the exception's type and the beginning of its text, without what looks like a credential;
``"tell_all"``: the whole text, of which only the client's own keys are taken out. ``"raise"``: the turn raises
`ToolError`. A function of the call and the exception: the model is told what it returns.
"""


class ToolRun:
    """The calls of one round as they run. Whoever starts it has to see it through with `next`, or `close` it.

    `scrub` takes the client's keys out of what the model is told of an exception.
    """

    def __init__(
        self,
        calls: Sequence[ToolCall],
        tools: Toolbox | None,
        scrub: Callable[[bytes], bytes],
        *,
        permit: Permit | None = None,
        on_tool_error: OnToolError = "tell",
    ) -> None:
        self._tools = Toolbox() if tools is None else tools
        self._permit = permit
        self._on_tool_error = on_tool_error
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
        if self._permit is None:
            return None
        async with self._asking:
            verdict: Any = self._permit(call)
            if inspect.isawaitable(verdict):
                verdict = await verdict
        if verdict is True:
            return None
        reason = f": {verdict}" if isinstance(verdict, str) and verdict else "."
        return f"Error: this call was not permitted{reason}"

    async def _failed(self, call: ToolCall, error: Exception, seconds: float) -> ToolResult:
        what = self._on_tool_error
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
