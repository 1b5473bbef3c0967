"""Parsed chat answers: what `parse` and `stream` make of a `ChatCompletion`.

Values are not fields: they are not part of dumps, of `==`, and of requests that hold such an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..errors import ContentFilterFinishReasonError, LengthFinishReasonError
from ..types.chat import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageFunctionToolCall
from ..types.chat.chat_completion import Choice
from ..types.chat.chat_completion_message_function_tool_call import Function
from .parsing import ParseSpec, WithParsed, WithParsedArguments, upgraded

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


class ParsedFunction(WithParsedArguments, Function, kw_only=True):
    """A function that the model calls, with the value of its arguments."""


class ParsedFunctionToolCall(ChatCompletionMessageFunctionToolCall, kw_only=True):
    """A tool call of a `ParsedChatCompletionMessage`."""

    if TYPE_CHECKING:
        function: ParsedFunction  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletionMessage(WithParsed[ContentType], ChatCompletionMessage, Generic[ContentType], kw_only=True):
    """A message with the value of its text."""

    if TYPE_CHECKING:
        tool_calls: list[ParsedFunctionToolCall] | None = None  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChoice(Choice, Generic[ContentType], kw_only=True):
    """A choice of a `ParsedChatCompletion`."""

    if TYPE_CHECKING:
        message: ParsedChatCompletionMessage[ContentType]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletion(ChatCompletion, Generic[ContentType], kw_only=True):
    """A chat answer with the values of its texts and tool calls."""

    if TYPE_CHECKING:
        choices: list[ParsedChoice[ContentType]]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def parsed(self) -> ContentType | None:
        """The value of the first choice."""
        parsed: ContentType | None = getattr(self.message, "parsed", None)
        return parsed


_COMPLETION: type[ParsedChatCompletion[Any]] = ParsedChatCompletion
_CHOICE: type[ParsedChoice[Any]] = ParsedChoice
_MESSAGE: type[ParsedChatCompletionMessage[Any]] = ParsedChatCompletionMessage


def check_finished(answer: ChatCompletion, finish_reason: object) -> None:
    """Raise `LengthFinishReasonError` or `ContentFilterFinishReasonError` for a choice that was cut."""
    if finish_reason == "length":
        raise LengthFinishReasonError(completion=answer)
    if finish_reason == "content_filter":
        raise ContentFilterFinishReasonError(completion=answer)


def parsed_completion(answer: ChatCompletion, spec: ParseSpec, *, whole: bool = True) -> ParsedChatCompletion[Any]:
    """Return the answer with its values; with `whole` false an unfinished one, without values.

    Raises the errors of `check_finished`, and `StructuredOutputError` for a text that does not fit its type.
    """
    came: Any = answer.choices
    choices: Any = came
    if type(came) is list:
        choices = [_choice(choice, answer, spec, whole) for choice in cast("Sequence[Any]", came)]
    return upgraded(answer, _COMPLETION, choices=choices)


def _choice(choice: Any, answer: ChatCompletion, spec: ParseSpec, whole: bool) -> Any:
    if not isinstance(choice, Choice):
        return choice  # a server may send anything
    if whole:
        check_finished(answer, choice.finish_reason)
    message: Any = choice.message
    if isinstance(message, ChatCompletionMessage):
        message = _message(message, answer, spec, whole)
    return upgraded(choice, _CHOICE, message=message)


def _message(message: ChatCompletionMessage, answer: ChatCompletion, spec: ParseSpec, whole: bool) -> Any:
    calls: Any = message.tool_calls
    if type(calls) is list:
        calls = [_call(call, answer, spec, whole) for call in cast("Sequence[Any]", calls)]
    made = upgraded(message, _MESSAGE, tool_calls=calls or None)
    content: Any = message.content
    if whole and isinstance(content, str) and not message.refusal:
        made.parsed = spec.value(content, answer)
    return made


def _call(call: Any, answer: ChatCompletion, spec: ParseSpec, whole: bool) -> Any:
    if not isinstance(call, ChatCompletionMessageFunctionToolCall):
        return call
    function: Any = call.function
    if isinstance(function, Function):
        made = upgraded(function, ParsedFunction)
        if whole:
            made.parsed_arguments = spec.arguments(function.name, function.arguments, answer)
        function = made
    return upgraded(call, ParsedFunctionToolCall, function=function)
