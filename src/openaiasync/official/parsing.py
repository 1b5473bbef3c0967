"""Parsing of answers: the value of a text, the values of tool calls' arguments, and the requests that ask for them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import msgspec

from ..core.model.base import BaseModel, put_extra
from ..core.model.omitted import is_omitted
from ..core.model.plain import json_of
from ..core.schema.structured import ShapeError, shape_of
from ..errors import ContentFilterFinishReasonError, LengthFinishReasonError, StructuredOutputError
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..core.schema.structured import Shape
    from ..params.chat import ChatCompletionFunctionToolParam
    from ..params.responses import FunctionToolParam

__all__ = [
    "FunctionTool",
    "ParseSpec",
    "PartialArguments",
    "WithParsed",
    "WithParsedArguments",
    "chat_parameters",
    "chat_spec",
    "list_of",
    "pydantic_function_tool",
    "pydantic_responses_function_tool",
    "response_parameters",
    "response_spec",
    "type_to_response_format_param",
    "upgraded",
]

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class WithParsedArguments:
    """The value of a tool call's arguments."""

    __slots__ = ()

    @property
    def parsed_arguments(self) -> Any:
        """The arguments: of the type given to `pydantic_function_tool` or `pydantic_responses_function_tool`.

        Plain values for a function that was defined in another way; for chat, if it is strict.
        """
        return vars(self).get("_parsed")

    @parsed_arguments.setter
    def parsed_arguments(self, value: Any) -> None:
        vars(self)["_parsed"] = value


class WithParsed(Generic[T]):
    """The value of a text."""

    __slots__ = ()

    @property
    def parsed(self) -> T | None:
        """The value; `None` if no type was requested, the model refused, or the text is not the answer."""
        value: T | None = vars(self).get("_parsed")
        return value

    @parsed.setter
    def parsed(self, value: T | None) -> None:
        vars(self)["_parsed"] = value


class FunctionTool(dict[str, Any]):
    """The definition of a function in the API's form, with the type to which its arguments are decoded."""

    def __init__(self, definition: Mapping[str, Any], shape: Shape[Any]) -> None:
        super().__init__(definition)
        self.shape = shape

    @property
    def model(self) -> Any:
        """The type to which the arguments of a call are decoded."""
        return self.shape.kind


def pydantic_function_tool(
    model: type[Any], *, name: str | None = None, description: str | None = None
) -> ChatCompletionFunctionToolParam:
    """Return a tool for chat completions whose arguments are a pydantic model, Struct, dataclass or TypedDict.

    `parse` and `stream` decode `parsed_arguments` to this type. `name` and `description` default to the
    type's own name and docstring. Raises `TypeError` for a type that is not a JSON object or has no strict schema.
    """
    definition = _definition(model, name, description)
    return cast("ChatCompletionFunctionToolParam", {"type": "function", "function": definition})


def pydantic_responses_function_tool(
    model: type[Any], *, name: str | None = None, description: str | None = None, defer_loading: bool | None = None
) -> FunctionToolParam:
    """Return the same for `responses`; with `defer_loading` the model finds it by a tool search."""
    definition = _definition(model, name, description)
    definition["type"] = "function"
    if defer_loading is not None and not is_omitted(defer_loading):
        definition["defer_loading"] = defer_loading
    return cast("FunctionToolParam", definition)


def _definition(model: type[Any], name: str | None, description: str | None) -> FunctionTool:
    shape = shape_of(model)
    if shape.wrapped:
        raise TypeError(f"the arguments of a function must be an object, which {shape.name} is not")
    if not shape.strict:
        raise TypeError(f"{shape.name} cannot be the arguments of a strict function: {'; '.join(shape.obstacles)}")
    if description is None:
        description = _docstring(model)
    definition = {"name": name or shape.name, "strict": True, "parameters": shape.schema}
    return FunctionTool({**definition, **({"description": description} if description else {})}, shape)


def _docstring(model: type[Any]) -> str:
    """Return a written docstring; one that a dataclass generated from its signature is ignored."""
    text = vars(model).get("__doc__") or ""
    made = hasattr(model, "__dataclass_fields__") and text.startswith(f"{model.__name__}(")
    return "" if made else inspect.cleandoc(text)


def list_of(tools: Any) -> list[Any]:
    """Return tools as a list, from any iterable."""
    if tools is None or is_omitted(tools):
        return []
    return list(cast("Iterable[Any]", tools))


def _require_strict_functions(tools: list[Any]) -> None:
    """Raise `ValueError` for a tool whose calls cannot be parsed: anything but a strict function."""
    for tool in tools:
        if tool["type"] != "function":
            raise ValueError(f"only tools of type 'function' can be parsed, not {tool['type']!r}; use create()")
        function = tool["function"]
        if function.get("strict") is not True:
            raise ValueError(
                f"the function {function['name']!r} is not strict: only calls of strict functions can be parsed"
            )


class ParseSpec:
    """The specification for parsing an answer.

    `shape` is that of the text (`None`: it stays text). `functions` holds definitions of functions by name: arguments
    of a `FunctionTool` are decoded to its type, those of other strict functions to plain JSON values.
    """

    def __init__(self, shape: Shape[Any] | None, functions: Mapping[Any, Mapping[str, Any]]) -> None:
        self.shape = shape
        self.functions: dict[Any, Mapping[str, Any]] = {
            name: one for name, one in functions.items() if _is_parseable(one)
        }

    def __bool__(self) -> bool:
        return self.shape is not None or bool(self.functions)

    def value(self, text: str, answer: Any) -> Any:
        """Return the value of a whole text, `None` if it stays text.

        Raises `StructuredOutputError`, which holds `answer`, or its result if it is a function.
        """
        if self.shape is None or not text:
            return None
        try:
            return self.shape.decode(text)
        except ShapeError as error:
            _raise_unparseable(str(error), error, answer() if callable(answer) else answer)

    def arguments(self, name: object, text: str, answer: Any) -> Any:
        """Return the value of a call's whole arguments; `None` for a function that is not strict or not known."""
        function = self._function(name)
        if function is None:
            return None
        shape = _arguments_shape(function)
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # small servers send an object
            text = json_of(text).decode()
        try:
            return msgspec.json.decode(text) if shape is None else shape.decode(text)
        except (ValueError, RecursionError) as error:  # also a model that repeats itself: [[[[…
            problem = error if isinstance(error, ValueError) else ValueError("they are nested too deeply")
            message = f"The arguments of {name} cannot be used: {problem}"
            _raise_unparseable(message, problem, answer() if callable(answer) else answer)

    def knows(self, name: Any) -> bool:
        """Return whether calls of this function are parsed."""
        return self._function(name) is not None

    def _function(self, name: Any) -> Mapping[str, Any] | None:
        try:
            return self.functions.get(name)
        except TypeError:  # a server may send anything as a name
            return None

    def partial_arguments(self, name: object) -> PartialArguments | None:
        """Return a parser for the arguments of one call as they arrive; `None` if they are not parsed."""
        function = self._function(name)
        if function is None:
            return None
        return PartialArguments(_arguments_shape(function))


class PartialArguments:
    """The plain value of a text that grows: each text given to it continues the last one."""

    def __init__(self, shape: Shape[Any] | None) -> None:
        self._partial: Any = shape.growing() if shape is not None else _partial_json()
        self._read = 0

    def value(self, text: str) -> Any:
        """Return the value of `text`: the same object each time, which grows. After a longer text, its value."""
        if len(text) > self._read:
            self._partial.feed(text[self._read :])
            self._read = len(text)
        return self._partial.value


def _partial_json() -> Any:
    from ..core.codec.partial_json import PartialJSON

    return PartialJSON()


def _is_parseable(function: Mapping[str, Any]) -> bool:
    return isinstance(function, FunctionTool) or bool(function.get("strict"))


def _arguments_shape(function: Mapping[str, Any]) -> Shape[Any] | None:
    """Return the shape of a function's arguments; tools of the official client remember a `model`, too."""
    if isinstance(function, FunctionTool):
        return function.shape
    model = getattr(function, "model", None)
    return None if model is None else shape_of(model)


def _raise_unparseable(message: str, problem: ValueError, answer: Any) -> NoReturn:
    """Raise the most specific error: a text that does not fit may have been cut, which its response shows."""
    reason = getattr(getattr(answer, "incomplete_details", None), "reason", None)
    if reason == "max_output_tokens":
        raise LengthFinishReasonError(completion=answer) from problem
    if reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer) from problem
    raise StructuredOutputError(message, answer=answer, problem=problem) from problem


def upgraded(model: Any, cls: type[M], **changes: Any) -> M:
    """Return a copy of `model` as a `cls`, which has more fields, with its unknown fields and its metadata."""
    fields = {name: getattr(model, name) for name in model.__struct_fields__}
    known = set(cls.__struct_fields__)
    made = cls(**{**fields, **{name: value for name, value in changes.items() if name in known}})
    vars(made).update(vars(cast("BaseModel", model)))
    for name in changes.keys() - known:  # of an open object
        put_extra(made, name, changes[name])
    return made


# ---------------------------------------------------------------- requests whose answers are parsed


def chat_spec(response_format: Any, tools: list[Any]) -> ParseSpec:
    """Return the specification for parsing a chat answer.

    For a `response_format` of the API, a dict, text stays text.
    """
    plain = response_format is None or is_omitted(response_format) or isinstance(response_format, dict)
    functions = {tool["function"].get("name"): tool["function"] for tool in tools if tool.get("type") == "function"}
    return ParseSpec(None if plain else shape_of(response_format), functions)


def response_spec(text_format: Any, tools: list[Any]) -> ParseSpec:
    """Return the specification for parsing a response. Functions in a namespace are listed under both names."""
    plain = text_format is None or is_omitted(text_format)
    functions: dict[Any, Any] = {}
    for tool in tools:
        if tool.get("type") == "function":
            functions.setdefault(tool.get("name"), tool)
        elif tool.get("type") == "namespace":
            inner = [one for one in tool.get("tools", ()) if one.get("type") == "function"]
            functions.update({(tool.get("name"), one.get("name")): one for one in inner})
    return ParseSpec(None if plain else shape_of(text_format), functions)


def type_to_response_format_param(response_format: Any) -> Any:
    """Return the `response_format` for a type; any other value is returned unchanged."""
    plain: Any = response_format
    if response_format is None or is_omitted(response_format) or isinstance(response_format, dict):
        return plain
    return shape_of(response_format).response_format()


def _with_tools(params: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the parameters with their tools as a list, which can be read twice, and the list."""
    tools = list_of(params.get("tools"))
    return ({**params, "tools": tools} if tools else {**params}), tools


def chat_parameters(
    response_format: Any, params: dict[str, Any], *, strict: bool = True
) -> tuple[dict[str, Any], ParseSpec]:
    """Return the parameters to send, and the specification for parsing the answer.

    With `strict`, raises `ValueError` for tools whose calls cannot be parsed, and `TypeError` for a `response_format`
    that is not a type.
    """
    made, tools = _with_tools(params)
    if strict:
        _require_strict_functions(tools)
        if isinstance(response_format, dict):
            raise TypeError("parse() takes a type as response_format; create() takes the API's own dicts")
    format_param = type_to_response_format_param(response_format)
    if format_param is not None and not is_omitted(format_param):
        made["response_format"] = format_param
    return made, chat_spec(response_format, tools)


def response_parameters(text_format: Any, parse_as: Any, params: dict[str, Any]) -> tuple[dict[str, Any], ParseSpec]:
    """Return the parameters to send, and the specification for parsing the response."""
    made, tools = _with_tools(params)
    if text_format is not None and not is_omitted(text_format):
        text: Any = params.get("text")
        text = {} if text is None or is_omitted(text) else dict(text)
        if "format" in text:
            raise TypeError("text_format= and text['format'] are mutually exclusive")
        made["text"] = {**text, "format": shape_of(text_format).text_format()}
    parses = parse_as is not None and not is_omitted(parse_as)
    return made, response_spec(parse_as if parses else text_format, tools)


resolve_annotations(__name__)
