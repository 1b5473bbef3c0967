"""Tools: Python functions that a model may call. Schema and description come from signature and docstring."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast, overload

from ..core.schema.validation_errors import ShapeError
from .docstrings import read_docstring
from .errors import ToolError
from .results import collected, collected_later, content_of, is_small
from .running import THREADS, ToolThread, as_failure, in_task
from .signatures import Function, Parameters, function_of, name_of, object_in

__all__ = ["Tool", "tool"]

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
