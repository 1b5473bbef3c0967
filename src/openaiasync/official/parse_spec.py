"""What is to be made of an answer: a value of its text, values of its tool calls' arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import msgspec

from ..core.model.base import BaseModel, put_extra
from ..core.model.omitted import is_omitted
from ..core.schema.structured import ShapeError, shape_of
from ..errors import ContentFilterFinishReasonError, LengthFinishReasonError, StructuredOutputError

if TYPE_CHECKING:
    from ..core.schema.structured import Shape
    from ..params.chat import ChatCompletionFunctionToolParam
    from ..params.responses import FunctionToolParam

__all__ = [
    "FunctionTool",
    "ParseSpec",
    "PartialArguments",
    "list_of",
    "pydantic_function_tool",
    "pydantic_responses_function_tool",
    "strict_functions",
    "upgraded",
]

M = TypeVar("M", bound=BaseModel)


class FunctionTool(dict[str, Any]):
    """The definition of a function as it is sent, which remembers the type that its arguments are made into."""

    def __init__(self, definition: Mapping[str, Any], shape: Shape[Any]) -> None:
        super().__init__(definition)
        self.shape = shape

    @property
    def model(self) -> Any:
        """The type that the arguments of a call become."""
        return self.shape.kind


def pydantic_function_tool(
    model: type[Any], *, name: str | None = None, description: str | None = None
) -> ChatCompletionFunctionToolParam:
    """A tool for chat completions, whose arguments are a pydantic model, Struct, dataclass or TypedDict.

    `parse` and `stream` make `parsed_arguments` of this type. `name` is the type's own, `description` its docstring,
    if not given. Raises `TypeError` for a type that makes no JSON object or no strict schema.
    """
    definition = _definition(model, name, description)
    return cast("ChatCompletionFunctionToolParam", {"type": "function", "function": definition})


def pydantic_responses_function_tool(
    model: type[Any], *, name: str | None = None, description: str | None = None, defer_loading: bool | None = None
) -> FunctionToolParam:
    """The same for `responses`; with `defer_loading` the model finds it by a tool search."""
    definition = _definition(model, name, description)
    definition["type"] = "function"
    if defer_loading is not None and not is_omitted(defer_loading):
        definition["defer_loading"] = defer_loading
    return cast("FunctionToolParam", definition)


def _definition(model: type[Any], name: str | None, description: str | None) -> FunctionTool:
    shape = shape_of(model)
    if shape.wrapped:
        raise TypeError(f"the arguments of a function are an object, which {shape.name} is not")
    if not shape.strict:
        raise TypeError(f"{shape.name} cannot be a strict function's arguments: {'; '.join(shape.obstacles)}")
    if description is None:
        description = _own_words(model)
    definition = {"name": name or shape.name, "strict": True, "parameters": shape.schema}
    return FunctionTool({**definition, **({"description": description} if description else {})}, shape)


def _own_words(model: type[Any]) -> str:
    """The docstring that somebody wrote; dataclasses make one of their signature where there is none."""
    text = vars(model).get("__doc__") or ""
    made = hasattr(model, "__dataclass_fields__") and text.startswith(f"{model.__name__}(")
    return "" if made else inspect.cleandoc(text)


def list_of(tools: Any) -> list[Any]:
    """The tools, however they were given."""
    if tools is None or is_omitted(tools):
        return []
    return list(cast("Iterable[Any]", tools))


def strict_functions(tools: list[Any]) -> None:
    """`ValueError` for a tool whose calls cannot be parsed: no function, or not strict."""
    for tool in tools:
        if tool["type"] != "function":
            raise ValueError(f"only tools of type 'function' can be parsed, not {tool['type']!r}; use create()")
        function = tool["function"]
        if function.get("strict") is not True:
            raise ValueError(
                f"the function {function['name']!r} is not strict: only calls of strict ones can be parsed"
            )


class ParseSpec:
    """What an answer is to be parsed into.

    `shape` is that of the text (`None`: it stays text). `functions` has the definitions of functions by name: a
    `FunctionTool`'s arguments become its type, those of other strict functions what JSON makes of them.
    """

    def __init__(self, shape: Shape[Any] | None, functions: Mapping[Any, Mapping[str, Any]]) -> None:
        self.shape = shape
        self.functions: dict[Any, Mapping[str, Any]] = {
            name: one for name, one in functions.items() if _is_parseable(one)
        }

    def __bool__(self) -> bool:
        return self.shape is not None or bool(self.functions)

    def value(self, text: str, answer: Any) -> Any:
        """The value of a whole text. Raises `StructuredOutputError`, which holds `answer`, or what that returns."""
        if self.shape is None or not text:
            return None
        try:
            return self.shape.decode(text)
        except ShapeError as error:
            _raise_misfit(str(error), error, answer() if callable(answer) else answer)

    def arguments(self, name: object, text: str, answer: Any) -> Any:
        """The value of a call's whole arguments; `None` for a function that is not strict or not known."""
        function = self._function(name)
        if function is None:
            return None
        shape = _arguments_shape(function)
        try:
            return msgspec.json.decode(text) if shape is None else shape.decode(text)
        except ValueError as error:
            told = f"The arguments of {name} cannot be used: {error}"
            _raise_misfit(told, error, answer() if callable(answer) else answer)

    def knows(self, name: Any) -> bool:
        """Whether calls of this function are to be parsed."""
        return self._function(name) is not None

    def _function(self, name: Any) -> Mapping[str, Any] | None:
        try:
            return self.functions.get(name)
        except TypeError:  # a server may give anything for a name
            return None

    def growing_arguments(self, name: object) -> PartialArguments | None:
        """For the arguments of one call as they come."""
        function = self._function(name)
        if function is None:
            return None
        return PartialArguments(_arguments_shape(function))


class PartialArguments:
    """The plain value that a text makes so far, for texts that each go on where the last one ended."""

    def __init__(self, shape: Shape[Any] | None) -> None:
        self._growing: Any = shape.growing() if shape is not None else _partial_json()
        self._read = 0

    def value(self, text: str) -> Any:
        """The value of `text`; it is the same object each time, which grows. After a later text, the later value."""
        if len(text) > self._read:
            self._growing.feed(text[self._read :])
            self._read = len(text)
        return self._growing.value


def _partial_json() -> Any:
    from ..core.codec.partial_json import PartialJSON

    return PartialJSON()


def _is_parseable(function: Mapping[str, Any]) -> bool:
    return isinstance(function, FunctionTool) or bool(function.get("strict"))


def _arguments_shape(function: Mapping[str, Any]) -> Shape[Any] | None:
    """The shape of a function's arguments; tools of the official client remember a `model` too."""
    if isinstance(function, FunctionTool):
        return function.shape
    model = getattr(function, "model", None)
    return None if model is None else shape_of(model)


def _raise_misfit(message: str, problem: ValueError, answer: Any) -> NoReturn:
    """Raise what tells most: half a text fits no type, and a response says whether it is one."""
    reason = getattr(getattr(answer, "incomplete_details", None), "reason", None)
    if reason == "max_output_tokens":
        raise LengthFinishReasonError(completion=answer) from problem
    if reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer) from problem
    raise StructuredOutputError(message, answer=answer, problem=problem) from problem


def upgraded(model: Any, cls: type[M], **changes: Any) -> M:
    """The same object as one of `cls`, a class with more: fields, unknown ones and what is known of the call."""
    fields = {name: getattr(model, name) for name in model.__struct_fields__}
    known = set(cls.__struct_fields__)
    made = cls(**{**fields, **{name: value for name, value in changes.items() if name in known}})
    vars(made).update(vars(cast("BaseModel", model)))
    for name in changes.keys() - known:  # of an open object
        put_extra(made, name, changes[name])
    return made
