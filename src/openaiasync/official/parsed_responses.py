"""Parsed responses: what `parse` and `stream` make of a `Response`.

Values are not fields: they are not part of dumps, of `==`, and of requests that hold such a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

from ..lazy import resolve_annotations
from ..types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
)
from .parsing import ParseSpec, WithParsed, WithParsedArguments, upgraded

if TYPE_CHECKING:
    from ..types.conversations.conversation_item import (
        AdditionalTools,
        ImageGenerationCall,
        LocalShellCall,
        LocalShellCallOutput,
        McpApprovalRequest,
        McpApprovalResponse,
        McpCall,
        McpListTools,
        Program,
        ProgramOutput,
    )
    from ..types.responses import (
        ResponseApplyPatchToolCall,
        ResponseApplyPatchToolCallOutput,
        ResponseCodeInterpreterToolCall,
        ResponseCompactionItem,
        ResponseComputerToolCall,
        ResponseComputerToolCallOutputItem,
        ResponseCustomToolCall,
        ResponseCustomToolCallOutputItem,
        ResponseFileSearchToolCall,
        ResponseFunctionShellToolCall,
        ResponseFunctionShellToolCallOutput,
        ResponseFunctionToolCallOutputItem,
        ResponseFunctionWebSearch,
        ResponseReasoningItem,
        ResponseToolSearchCall,
        ResponseToolSearchOutputItem,
    )

__all__ = [
    "ParsedContent",
    "ParsedResponse",
    "ParsedResponseFunctionToolCall",
    "ParsedResponseOutputItem",
    "ParsedResponseOutputMessage",
    "ParsedResponseOutputText",
    "function_key",
    "parsed_response",
    "text_value",
]

ContentType = TypeVar("ContentType")

# The classes below narrow fields, which type checkers forbid because a field could be assigned a wider value.


class ParsedResponseOutputText(WithParsed[ContentType], ResponseOutputText, Generic[ContentType], kw_only=True):
    """A part of a message with the value of its text."""


ParsedContent: TypeAlias = ParsedResponseOutputText[ContentType] | ResponseOutputRefusal


class ParsedResponseOutputMessage(ResponseOutputMessage, Generic[ContentType], kw_only=True):
    """A message of a `ParsedResponse`."""

    if TYPE_CHECKING:
        content: list[ParsedContent[ContentType]]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedResponseFunctionToolCall(WithParsedArguments, ResponseFunctionToolCall, kw_only=True):
    """A function that the model calls, with the value of its arguments."""


if TYPE_CHECKING:
    # The classes above replace the API's own in the union, so that `type` still identifies the class of an item.
    ParsedResponseOutputItem: TypeAlias = (
        ParsedResponseOutputMessage[ContentType]
        | ParsedResponseFunctionToolCall
        | ResponseFileSearchToolCall
        | ResponseFunctionToolCallOutputItem
        | ResponseFunctionWebSearch
        | ResponseComputerToolCall
        | ResponseComputerToolCallOutputItem
        | ResponseReasoningItem
        | Program
        | ProgramOutput
        | ResponseToolSearchCall
        | ResponseToolSearchOutputItem
        | AdditionalTools
        | ResponseCompactionItem
        | ImageGenerationCall
        | ResponseCodeInterpreterToolCall
        | LocalShellCall
        | LocalShellCallOutput
        | ResponseFunctionShellToolCall
        | ResponseFunctionShellToolCallOutput
        | ResponseApplyPatchToolCall
        | ResponseApplyPatchToolCallOutput
        | McpCall
        | McpListTools
        | McpApprovalRequest
        | McpApprovalResponse
        | ResponseCustomToolCall
        | ResponseCustomToolCallOutputItem
    )
else:
    ParsedResponseOutputItem = Any  # thirty types, imported at first use


class ParsedResponse(Response, Generic[ContentType], kw_only=True):
    """A response with the values of its texts and tool calls."""

    if TYPE_CHECKING:
        output: list[ParsedResponseOutputItem[ContentType]]  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def output_parsed(self) -> ContentType | None:
        """The first value among the texts of the output."""
        items: Sequence[Any] = _items(self.output)
        contents = (_items(item.content) for item in items if isinstance(item, ResponseOutputMessage))
        values: Any = (getattr(part, "parsed", None) for parts in contents for part in parts)
        return next((value for value in values if value is not None), None)


_RESPONSE: type[ParsedResponse[Any]] = ParsedResponse
_MESSAGE: type[ParsedResponseOutputMessage[Any]] = ParsedResponseOutputMessage
_TEXT: type[ParsedResponseOutputText[Any]] = ParsedResponseOutputText


def _items(value: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", value) if type(value) is list else ()


def function_key(call: ResponseFunctionToolCall, spec: ParseSpec) -> Any:
    """Return the name under which `spec` has the function of a call; functions in a namespace have a pair."""
    inside = (call.namespace, call.name)
    if call.namespace is None or (call.namespace == call.name and not spec.knows(inside)):
        return call.name
    return inside


def text_value(text: str, message: Any, response: Any, spec: ParseSpec) -> Any:
    """Return the value of a whole text; `None` for commentary before the answer, which `phase` marks."""
    phase = getattr(message, "phase", None)
    return spec.value(text, response) if phase is None or phase == "final_answer" else None


def parsed_response(response: Response, spec: ParseSpec, *, whole: bool = True) -> ParsedResponse[Any]:
    """Return the response with its values; with `whole` false an unfinished one, without values.

    Raises `StructuredOutputError` for a text that does not fit its type.
    """
    output = [_item(item, response, spec, whole) for item in _items(response.output)]
    return upgraded(response, _RESPONSE, output=output)


def _item(item: Any, response: Response, spec: ParseSpec, whole: bool) -> Any:
    if isinstance(item, ResponseOutputMessage):
        content: Any = item.content
        if type(content) is list:
            content = [_part(part, item, response, spec, whole) for part in _items(content)]
        return upgraded(item, _MESSAGE, content=content)
    if isinstance(item, ResponseFunctionToolCall):
        call = upgraded(item, ParsedResponseFunctionToolCall)
        if whole and isinstance(cast("Any", item.arguments), str):
            call.parsed_arguments = spec.arguments(function_key(item, spec), item.arguments, response)
        return call
    return item


def _part(part: Any, message: ResponseOutputMessage, response: Response, spec: ParseSpec, whole: bool) -> Any:
    if not isinstance(part, ResponseOutputText):
        return part
    made = upgraded(part, _TEXT)
    if whole and isinstance(cast("Any", part.text), str):
        made.parsed = text_value(part.text, message, response, spec)
    return made


resolve_annotations(__name__)
