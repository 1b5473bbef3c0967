"""Tools: Python functions that a model may call. Schema and description come from signature and docstring."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any, overload

from ..core.misfit import ShapeError
from .docstrings import read_docstring
from .errors import ToolError
from .results import content_of
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

        A function that is not async runs in a thread, under the caller's context variables. Raises `ToolError` for
        arguments that do not fit and for a call that takes too long, and whatever the function raises.
        """
        placed, named = self._arguments(arguments)
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await self._run(placed, named)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ToolError(f"The tool {self.name} took longer than {self.timeout:g} s.") from error

    async def _run(self, placed: list[Any], named: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 (an object whose __call__ is async)
        ):
            return await self.function(*placed, **named)
        value, error = await asyncio.to_thread(_outcome, self.function, placed, named)
        if error is not None:
            raise error
        return await value if inspect.isawaitable(value) else value

    async def call(self, arguments: str) -> str | list[dict[str, Any]]:
        """`run`, and its result as the content that the model is told.

        Raises what `run` does, and `ToolError` for a result that JSON cannot carry.
        """
        return self.content(await self.run(arguments))

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

    def __repr__(self) -> str:
        return f"Tool({self.name})"


def _outcome(function: Function, placed: list[Any], named: dict[str, Any]) -> tuple[Any, Exception | None]:
    # As a value, because a future cannot carry every exception: StopIteration would never arrive.
    try:
        return function(*placed, **named), None
    except Exception as error:
        return None, error


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
