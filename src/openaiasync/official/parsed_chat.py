"""Chat answers with values: what `parse` and `stream` make of a `ChatCompletion`.

Values are no fields: dumps, `==` and requests that hold such an answer know nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..errors import ContentFilterFinishReasonError, LengthFinishReasonError
from ..types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageFunctionToolCall
from ..types.chat.chat_completion import Choice
from ..types.chat.chat_completion_message_function_tool_call import Function
from .parse_spec import ParseSpec, upgraded

__all__ = [
    "ContentType",
    "ParsedChatCompletion",
    "ParsedChatCompletionMessage",
    "ParsedChoice",
    "ParsedFunction",
    "ParsedFunctionToolCall",
    "check_finished",
    "parsed_completion",
]

ContentType = TypeVar("ContentType")

# The classes below narrow fields, which type checkers forbid because a field could be assigned a wider value.


class ParsedFunction(Function, kw_only=True):
    """A function that the model calls, with the value of its arguments."""

    @property
    def parsed_arguments(self) -> Any:
        """The arguments: of the type that `pydantic_function_tool` was given, plain of another strict function."""
        return vars(self).get("_parsed")

    @parsed_arguments.setter
    def parsed_arguments(self, value: Any) -> None:
        vars(self)["_parsed"] = value


class ParsedFunctionToolCall(ChatCompletionMessageFunctionToolCall, kw_only=True):
    """A tool call of a `ParsedChatCompletionMessage`."""

    if TYPE_CHECKING:
        function: ParsedFunction  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletionMessage(ChatCompletionMessage, Generic[ContentType], kw_only=True):
    """A message whose text was made into a value."""

    if TYPE_CHECKING:
        tool_calls: list[ParsedFunctionToolCall] | None = None  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def parsed(self) -> ContentType | None:
        """The value; `None` where no type was asked for, the model refused, or said nothing."""
        value: ContentType | None = vars(self).get("_parsed")
        return value

    @parsed.setter
    def parsed(self, value: ContentType | None) -> None:
        vars(self)["_parsed"] = value


class ParsedChoice(Choice, Generic[ContentType], kw_only=True):
    """A choice of a `ParsedChatCompletion`."""

    if TYPE_CHECKING:
        message: ParsedChatCompletionMessage[ContentType]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletion(ChatCompletion, Generic[ContentType], kw_only=True):
    """A chat answer whose texts and calls were made into values."""

    if TYPE_CHECKING:
        choices: list[ParsedChoice[ContentType]]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def parsed(self) -> ContentType | None:
        """The first choice's value."""
        parsed: ContentType | None = getattr(self.message, "parsed", None)
        return parsed


_COMPLETION: type[ParsedChatCompletion[Any]] = ParsedChatCompletion
_CHOICE: type[ParsedChoice[Any]] = ParsedChoice
_MESSAGE: type[ParsedChatCompletionMessage[Any]] = ParsedChatCompletionMessage


def check_finished(answer: ChatCompletion, finish_reason: object) -> None:
    """`LengthFinishReasonError` or `ContentFilterFinishReasonError` for a choice that ended before its text did."""
    if finish_reason == "length":
        raise LengthFinishReasonError(completion=answer)
    if finish_reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer)


def parsed_completion(answer: ChatCompletion, wanted: ParseSpec, *, whole: bool = True) -> ParsedChatCompletion[Any]:
    """The answer with its values; with `whole` false one that goes on, which has none yet.

    Raises what `check_finished` does, and `StructuredOutputError` for a text that does not fit its type.
    """
    came: Any = answer.choices
    choices: Any = came
    if type(came) is list:
        choices = [_choice(choice, answer, wanted, whole) for choice in cast("Sequence[Any]", came)]
    return upgraded(answer, _COMPLETION, choices=choices)


def _choice(choice: Any, answer: ChatCompletion, wanted: ParseSpec, whole: bool) -> Any:
    if not isinstance(choice, Choice):
        return choice  # what a server says may be anything
    if whole:
        check_finished(answer, choice.finish_reason)
    message: Any = choice.message
    if isinstance(message, ChatCompletionMessage):
        message = _message(message, answer, wanted, whole)
    return upgraded(choice, _CHOICE, message=message)


def _message(message: ChatCompletionMessage, answer: ChatCompletion, wanted: ParseSpec, whole: bool) -> Any:
    calls: Any = message.tool_calls
    if type(calls) is list:
        calls = [_call(call, answer, wanted, whole) for call in cast("Sequence[Any]", calls)]
    made = upgraded(message, _MESSAGE, tool_calls=calls or None)
    content: Any = message.content
    if whole and isinstance(content, str) and not message.refusal:
        made.parsed = wanted.value(content, answer)
    return made


def _call(call: Any, answer: ChatCompletion, wanted: ParseSpec, whole: bool) -> Any:
    if not isinstance(call, ChatCompletionMessageFunctionToolCall):
        return call
    function: Any = call.function
    if isinstance(function, Function):
        made = upgraded(function, ParsedFunction)
        if whole:
            made.parsed_arguments = wanted.arguments(function.name, function.arguments, answer)
        function = made
    return upgraded(call, ParsedFunctionToolCall, function=function)
