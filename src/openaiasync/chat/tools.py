"""Tools: Python functions that a model may call, the toolbox that holds them, and the run of one answer's calls."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, cast, overload

from ..core.schema.structured import ShapeError
from ..engine.callback import is_asynchronous
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
    describe_error,
    in_task,
    is_small,
    leave_behind,
)

__all__ = ["OnToolError", "Permit", "Tool", "ToolRun", "Toolbox", "Tools", "tool"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Tool:
    """A function that a model may call. Create one with `tool`; calling it calls the function.

    `name`, `description` and `parameters` (a JSON schema) are sent to the model; `strict` says whether the server is
    asked to enforce the schema. `timeout` is the maximum duration of a call in seconds, `None` for no limit.
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
        """See `tool`."""
        if not callable(function):
            raise TypeError(f"A tool must be a function, not {type(function).__name__}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self.function: Function = function
        self.timeout: float | None = timeout
        self.name: str = name_of(function) if name is None else name
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"The API does not accept the tool name {self.name!r} (letters, digits, _ and -, at most 64); "
                "choose another with tool(function, name='...')"
            )
        inner = function_of(function)
        summary, of_parameters = read_docstring(inspect.getdoc(inner) if inspect.isroutine(inner) else inner.__doc__)
        self.description: str = summary if description is None else description
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
        """Return the tool of a function; a `Tool` is returned unchanged."""
        return function if isinstance(function, Tool) else Tool(function)

    def param(self) -> dict[str, Any]:
        """Return the tool as an item of the request's ``tools``."""
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
        """Call the function with the JSON text of its arguments, validated and converted by its annotations.

        A function that is not async runs in a daemon thread, with the caller's context variables; if it is a generator,
        its items are collected there. Raises `ToolError` for arguments that do not fit, for a call that takes longer
        than `timeout`, and if 32 other calls hang; and the function's exceptions.
        """
        return (await self._run(arguments, with_content=False))[0]

    async def call(self, arguments: str) -> str | list[dict[str, Any]]:
        """Call the function as `run` does, and return the result as the content of a tool message.

        Raises the errors of `run`, and `ToolError` for a result without a JSON form.
        """
        return (await self.result(arguments))[1]

    async def result(self, arguments: str) -> tuple[Any, str | list[dict[str, Any]]]:
        """Call the function as `call` does, and return both its result and the content."""
        return await self._run(arguments, with_content=True)

    async def _run(self, arguments: str, with_content: bool) -> tuple[Any, Any]:
        placed, named = self._arguments(arguments)
        call = functools.partial(self.function, *placed, **named)
        if is_asynchronous(self.function):
            return await in_task(self._finished(call, with_content), self.timeout, self.name)
        thread = await THREADS.take(self.name)
        try:
            return await in_task(self._in_thread(thread, call, with_content), self.timeout, self.name)
        finally:
            thread.leave()

    async def _in_thread(self, thread: ToolThread, call: Callable[[], Any], with_content: bool) -> tuple[Any, Any]:
        """Call the function in a thread, and collect and encode its result there too, since both may take long."""

        def work() -> tuple[Any, Any, bool]:
            value: Any = call()
            if inspect.isawaitable(value) or hasattr(value, "__anext__"):
                return value, None, False
            return *self._collected(value, lambda: thread.left, with_content), True

        value, content, done = await thread.run(work)
        return (value, content) if done else await self._finished(lambda: value, with_content)

    def _collected(self, value: Any, is_left: Callable[[], bool], with_content: bool) -> tuple[Any, Any]:
        if isinstance(value, Iterator):
            value = collected(cast("Iterator[object]", value), is_left)
        return value, self.content(value) if with_content else None

    async def _finished(self, call: Callable[[], Any], with_content: bool) -> tuple[Any, Any]:
        """Call a function and await its result in the event loop; encode a large result in a thread."""
        value = call()
        if isinstance(value, AsyncIterator):
            value = await collected_later(cast("AsyncIterator[object]", value))
        elif inspect.isawaitable(value):
            value = await value
            if isinstance(value, AsyncIterator):
                value = await collected_later(cast("AsyncIterator[object]", value))
        if is_small(value):
            return value, self.content(value) if with_content else None
        thread = await THREADS.take(self.name)
        try:
            return await thread.run(functools.partial(self._collected, value, lambda: thread.left, with_content))
        finally:
            thread.leave()

    def content(self, value: Any) -> str | list[dict[str, Any]]:
        """Return a result as the content of a tool message. Raises `ToolError` for a value without a JSON form."""
        try:
            return content_of(value, silent=self._silent)
        except (TypeError, ValueError) as error:
            raise ToolError(
                f"The tool {self.name} returned a value that cannot be sent to the model: {error}"
            ) from error

    def _arguments(self, arguments: str) -> tuple[list[Any], dict[str, Any]]:
        try:
            return self._bound.bind(arguments) if self._bound is not None else ([], object_in(arguments))
        except ShapeError as error:
            raise ToolError(f"The arguments do not fit. {error.message}") from error
        except BaseException as error:  # code of the types, such as a validator
            if isinstance(error, Exception):
                raise
            raise as_failure(error) from error

    def __repr__(self) -> str:
        return f"Tool({self.name})"


class ToolOptions(TypedDict, total=False):
    """The keywords of `tool`."""

    name: str | None
    description: str | None
    strict: bool | None
    parameters: dict[str, Any] | None
    timeout: float | None


@overload
def tool(function: Function, **options: Unpack[ToolOptions]) -> Tool: ...


@overload
def tool(function: None = None, **options: Unpack[ToolOptions]) -> Callable[[Function], Tool]: ...


def tool(
    function: Function | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    parameters: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> Tool | Callable[[Function], Tool]:
    """Make a tool from a function, sync or async, a method, a partial or a callable object. Also a decorator.

    Each parameter needs an annotation: any type for which msgspec or pydantic can make a schema. Describe parameters in
    the docstring (Google, numpy or reST style) or by ``Annotated[..., msgspec.Meta(description=...)]``. The model may
    omit parameters with defaults, and does not see those that a partial has bound by name.

    `name` and `description` default to the function's name and docstring. `strict` asks the server to enforce the
    schema: by default where it can; True raises if it cannot, False never asks. `parameters` is a JSON schema that
    replaces the signature: the function then gets the decoded arguments by name, without validation. `timeout` is
    the maximum duration of a call in seconds (default: no limit); a thread that takes longer is left running. Raises
    `TypeError` for a function without a schema, saying what to change; `ValueError` for an invalid name or timeout.
    """

    def made(given: Function) -> Tool:
        return Tool(given, name=name, description=description, strict=strict, parameters=parameters, timeout=timeout)

    return made if function is None else made(function)


class Toolbox:
    """The tools that a model may call, by name: functions and `Tool`s, and dicts of tools that the server runs.

    Raises `TypeError` for anything else, for a function without a schema, and for the dict of a function tool, since it
    does not say what to run; `ValueError` for two tools with one name.
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
            raise TypeError(f"tools must be a list of functions, not {cast('Any', type)(given).__name__}")
        for one in cast("Any", given):
            self.add(one)

    def add(self, given: Function | Tool | Mapping[str, Any]) -> Tool | None:
        """Add a tool; return the `Tool` made from a function, `None` for a dict. Raises the errors of `Toolbox`."""
        if isinstance(given, Mapping):
            self._add_served(dict(cast("Any", given)))
            return None
        made = Tool.of(given)
        if made.name in self._tools:
            raise ValueError(f"Two tools are named {made.name!r}; give one of them another name: tool(f, name='...')")
        self._tools[made.name] = made
        return made

    def _add_served(self, given: dict[str, Any]) -> None:
        kind = given.get("type")
        if not isinstance(kind, str) or kind in ("function", "custom"):
            raise TypeError(
                f"The dict of a {kind or 'function'} tool does not say what to run when the model calls it: pass "
                "the function itself, or tool(function, name=..., parameters=schema)"
            )
        self._served.append(given)

    def get(self, name: str) -> Tool | None:
        """Return the tool with this name, or `None`."""
        return self._tools.get(name)

    @property
    def names(self) -> list[str]:
        """The names of the tools that run here, in order."""
        return list(self._tools)

    def params(self) -> list[dict[str, Any]]:
        """Return the value of the request's ``tools``."""
        return [*(one.param() for one in self._tools.values()), *self._served]

    def joined(self, more: Tools) -> Toolbox:
        """Return a new toolbox with these tools and more. Raises the errors of `Toolbox`."""
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
"""What ``tools=`` accepts: functions, `Tool`s, and dicts of tools that the server runs."""

Permit: TypeAlias = Callable[[ToolCall], bool | str | Awaitable[bool | str]]
"""Called before each tool call, one at a time, in the order of the calls.

`True` lets the call run. `False`, or a text with the reason, denies it, and the model gets an error message.
"""

OnToolError: TypeAlias = Literal["tell", "tell_all", "raise"] | Callable[[ToolCall, Exception], str | Awaitable[str]]
"""The reaction to a failed call.

``"tell"``: the model gets the exception's type and the beginning of its text, with anything that looks like a
credential removed; ``"tell_all"``: the whole text, from which only the client's own keys are removed. ``"raise"``: the
turn raises
`ToolError`. A function of the call and the exception: the model gets its result.
"""


class ToolRun:
    """The calls of one answer, running at the same time. Read them with `next` to the end, or `close` the run.

    `scrub` removes the client's keys from the description of an exception for the model.
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
        self._changed = asyncio.Event()  # a call has ended since `next` looked
        self._returned = 0  # results that `next` has returned
        self._cancelled = False
        self._calls = list(calls)
        self._tasks = [asyncio.create_task(self._one(call), name=f"tool {call.name}") for call in self._calls]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[ToolResult]) -> None:
        if not task.cancelled():
            task.exception()  # retrieve the exception: the error of another call may have been raised before
        self._finished.append(task)
        self._changed.set()

    async def next(self) -> ToolResult | None:
        """Return the result of the next call that ends; `None` after the last. Raises `ToolError` with ``"raise"``."""
        if self._returned == len(self._tasks):
            return None
        while not self._finished:
            self._changed.clear()
            await self._changed.wait()
        task = self._finished.popleft()
        self._returned += 1
        if task.cancelled() and not self._cancelled:
            call = self._calls[self._tasks.index(task)]
            raise ToolError(f"The call of the tool {call.name} was cancelled by a hook.", call=call)
        return task.result()

    async def all(self) -> list[ToolResult]:
        """Return all results, in the order of the calls; cancel every call if one raises or the caller is cancelled."""
        try:
            while await self.next() is not None:
                pass
        finally:
            await self.close()
        return self.results()

    def results(self) -> list[ToolResult]:
        """Return the results in the order of the calls, once `next` has returned `None`."""
        return [task.result() for task in self._tasks]

    def cancel(self) -> None:
        """Cancel the calls that still run."""
        self._cancelled = True
        for task in self._tasks:
            if not task.done():
                task.cancel()

    async def close(self) -> None:
        """Cancel the running calls and wait for their end, except for threads and calls that ignore cancellation."""
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
        started = time.perf_counter()
        try:
            value, content = await tool.result(call.arguments)
        except Exception as error:  # a tool may raise anything
            return await self._failed(call, error, time.perf_counter() - started)
        return ToolResult(call=call, value=value, content=content, seconds=time.perf_counter() - started)

    async def _denial(self, call: ToolCall) -> str | None:
        """Return the message for the model if the call is denied, `None` if it may run."""
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
        action = self._on_tool_error
        described = describe_error(error, self._scrub, whole=action == "tell_all")
        if action == "raise":
            if isinstance(error, ToolError):
                error.call = call
                raise error
            raise ToolError(f"The tool {call.name} failed: {described}", call=call) from error
        content: Any = f"Error: {described}"
        if callable(action):
            said: Any = action(call, error)
            content = content_of(await said if inspect.isawaitable(said) else said)
        return ToolResult(call=call, content=content, error=error, seconds=seconds)
