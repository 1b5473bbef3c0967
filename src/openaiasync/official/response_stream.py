"""`client.responses.stream(...)`: events that extend the server's, the state they are made from, the stream.

Names are the official ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, Union, cast

from ..core.codec.decode import keep
from ..core.model.base import BaseModel
from ..core.model.omitted import is_omitted
from ..core.model.plain import as_index
from ..core.policy.request_options import OPTION_NAMES
from ..endpoints import RESPONSES_CREATE, RESPONSES_RETRIEVE
from ..engine.sealing import sealing
from ..errors import UnfinishedResponseError
from ..lazy import resolve_annotations
from ..types.responses import Response, ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from ..types.responses import ResponseCompletedEvent as PlainCompletedEvent
from ..types.responses import ResponseFunctionCallArgumentsDeltaEvent as PlainArgumentsDeltaEvent
from ..types.responses import ResponseTextDeltaEvent as PlainTextDeltaEvent
from ..types.responses import ResponseTextDoneEvent as PlainTextDoneEvent
from .helper_stream import HelperStream, HelperStreamManager
from .parsed_responses import ParsedResponse, parsed_response, text_value
from .parsing import ParseSpec, PartialArguments, list_of, response_parameters, response_spec, upgraded

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..engine import AsyncStream, Engine
    from ..types.responses import (
        ResponseAudioDeltaEvent,
        ResponseAudioDoneEvent,
        ResponseAudioTranscriptDeltaEvent,
        ResponseAudioTranscriptDoneEvent,
        ResponseCodeInterpreterCallCodeDeltaEvent,
        ResponseCodeInterpreterCallCodeDoneEvent,
        ResponseCodeInterpreterCallCompletedEvent,
        ResponseCodeInterpreterCallInProgressEvent,
        ResponseCodeInterpreterCallInterpretingEvent,
        ResponseContentPartAddedEvent,
        ResponseContentPartDoneEvent,
        ResponseCreatedEvent,
        ResponseCustomToolCallInputDeltaEvent,
        ResponseCustomToolCallInputDoneEvent,
        ResponseErrorEvent,
        ResponseFailedEvent,
        ResponseFileSearchCallCompletedEvent,
        ResponseFileSearchCallInProgressEvent,
        ResponseFileSearchCallSearchingEvent,
        ResponseFunctionCallArgumentsDoneEvent,
        ResponseImageGenCallCompletedEvent,
        ResponseImageGenCallGeneratingEvent,
        ResponseImageGenCallInProgressEvent,
        ResponseImageGenCallPartialImageEvent,
        ResponseIncompleteEvent,
        ResponseInProgressEvent,
        ResponseMcpCallArgumentsDeltaEvent,
        ResponseMcpCallArgumentsDoneEvent,
        ResponseMcpCallCompletedEvent,
        ResponseMcpCallFailedEvent,
        ResponseMcpCallInProgressEvent,
        ResponseMcpListToolsCompletedEvent,
        ResponseMcpListToolsFailedEvent,
        ResponseMcpListToolsInProgressEvent,
        ResponseOutputItemAddedEvent,
        ResponseOutputItemDoneEvent,
        ResponseOutputTextAnnotationAddedEvent,
        ResponseQueuedEvent,
        ResponseReasoningSummaryPartAddedEvent,
        ResponseReasoningSummaryPartDoneEvent,
        ResponseReasoningSummaryTextDeltaEvent,
        ResponseReasoningSummaryTextDoneEvent,
        ResponseReasoningTextDeltaEvent,
        ResponseReasoningTextDoneEvent,
        ResponseRefusalDeltaEvent,
        ResponseRefusalDoneEvent,
        ResponseShellCallCommandAddedEvent,
        ResponseShellCallCommandDeltaEvent,
        ResponseShellCallCommandDoneEvent,
        ResponseShellCallOutputContentDeltaEvent,
        ResponseShellCallOutputContentDoneEvent,
        ResponseWebSearchCallCompletedEvent,
        ResponseWebSearchCallInProgressEvent,
        ResponseWebSearchCallSearchingEvent,
    )

__all__ = [
    "AsyncResponseStream",
    "AsyncResponseStreamManager",
    "ResponseCompletedEvent",
    "ResponseFunctionCallArgumentsDeltaEvent",
    "ResponseStreamEvent",
    "ResponseStreamState",
    "ResponseTextDeltaEvent",
    "ResponseTextDoneEvent",
    "stream_request",
]

T = TypeVar("T")


class ResponseTextDeltaEvent(PlainTextDeltaEvent, kw_only=True):
    """More text: `delta`, and the text of this part so far, `snapshot`."""

    snapshot: str

    @property
    def parsed(self) -> Any:
        """The value of the text so far, in plain types; `None` if no type was requested, or no value is certain yet.

        It is the same object each time and grows with the stream: copy it to keep a state.
        """
        source = vars(self).get("_source")
        return None if source is None else source(self.snapshot)


class ResponseTextDoneEvent(PlainTextDoneEvent, Generic[T], kw_only=True):
    """The text of a part is complete; `parsed` is its value, of the requested type."""

    parsed: T | None = None


class ResponseFunctionCallArgumentsDeltaEvent(PlainArgumentsDeltaEvent, kw_only=True):
    """More arguments of a call: `delta`, and the arguments so far, `snapshot`; both are JSON text."""

    snapshot: str


class ResponseCompletedEvent(PlainCompletedEvent, Generic[T], kw_only=True):
    """The response is complete, with its values."""

    if TYPE_CHECKING:
        response: ParsedResponse[T]  # pyright: ignore[reportIncompatibleVariableOverride] (narrower on purpose)


if TYPE_CHECKING:
    # The classes above replace the API's own in the union, so that `type` still identifies the class of an event.
    ResponseStreamEvent: TypeAlias = (
        ResponseTextDeltaEvent
        | ResponseTextDoneEvent[T]
        | ResponseFunctionCallArgumentsDeltaEvent
        | ResponseCompletedEvent[T]
        | ResponseAudioDeltaEvent
        | ResponseAudioDoneEvent
        | ResponseAudioTranscriptDeltaEvent
        | ResponseAudioTranscriptDoneEvent
        | ResponseCodeInterpreterCallCodeDeltaEvent
        | ResponseCodeInterpreterCallCodeDoneEvent
        | ResponseCodeInterpreterCallCompletedEvent
        | ResponseCodeInterpreterCallInProgressEvent
        | ResponseCodeInterpreterCallInterpretingEvent
        | ResponseContentPartAddedEvent
        | ResponseContentPartDoneEvent
        | ResponseCreatedEvent
        | ResponseCustomToolCallInputDeltaEvent
        | ResponseCustomToolCallInputDoneEvent
        | ResponseErrorEvent
        | ResponseFailedEvent
        | ResponseFileSearchCallCompletedEvent
        | ResponseFileSearchCallInProgressEvent
        | ResponseFileSearchCallSearchingEvent
        | ResponseFunctionCallArgumentsDoneEvent
        | ResponseImageGenCallCompletedEvent
        | ResponseImageGenCallGeneratingEvent
        | ResponseImageGenCallInProgressEvent
        | ResponseImageGenCallPartialImageEvent
        | ResponseInProgressEvent
        | ResponseIncompleteEvent
        | ResponseMcpCallArgumentsDeltaEvent
        | ResponseMcpCallArgumentsDoneEvent
        | ResponseMcpCallCompletedEvent
        | ResponseMcpCallFailedEvent
        | ResponseMcpCallInProgressEvent
        | ResponseMcpListToolsCompletedEvent
        | ResponseMcpListToolsFailedEvent
        | ResponseMcpListToolsInProgressEvent
        | ResponseOutputItemAddedEvent
        | ResponseOutputItemDoneEvent
        | ResponseOutputTextAnnotationAddedEvent
        | ResponseQueuedEvent
        | ResponseReasoningSummaryPartAddedEvent
        | ResponseReasoningSummaryPartDoneEvent
        | ResponseReasoningSummaryTextDeltaEvent
        | ResponseReasoningSummaryTextDoneEvent
        | ResponseReasoningTextDeltaEvent
        | ResponseReasoningTextDoneEvent
        | ResponseRefusalDeltaEvent
        | ResponseRefusalDoneEvent
        | ResponseShellCallCommandAddedEvent
        | ResponseShellCallCommandDeltaEvent
        | ResponseShellCallCommandDoneEvent
        | ResponseShellCallOutputContentDeltaEvent
        | ResponseShellCallOutputContentDoneEvent
        | ResponseWebSearchCallCompletedEvent
        | ResponseWebSearchCallInProgressEvent
        | ResponseWebSearchCallSearchingEvent
    )
else:
    ResponseStreamEvent = Union[T, Any]  # noqa: UP007  (sixty types, imported at first use)


# ---------------------------------------------------------------- state

_TEXT_DONE: type[ResponseTextDoneEvent[Any]] = ResponseTextDoneEvent
_COMPLETED: type[ResponseCompletedEvent[Any]] = ResponseCompletedEvent


class ResponseStreamState(Generic[T]):
    """Makes events from the server's and keeps the response so far: for code that reads ``create(stream=True)`` itself.

    `text_format` is the type to which texts are parsed; `input_tools` are the tools that were sent.
    """

    def __init__(self, *, text_format: type[T] | Any = None, input_tools: Iterable[Any] | None = None) -> None:
        self._spec = response_spec(text_format, list_of(input_tools))
        self._response: Any = None
        self._items: dict[Any, Any] = {}  # by place, in the order in which they began
        self._own: set[Any] = set()  # positions of items whose `content` is our own list, not that of an event
        self._texts: dict[Any, str] = {}  # by item and number of the part
        self._partial: dict[Any, PartialArguments] = {}
        self._arguments: dict[Any, str] = {}
        self._final: ParsedResponse[Any] | None = None

    @property
    def snapshot(self) -> ParsedResponse[Any] | None:
        """The response so far, a new object each time; `None` before its first event."""
        response = self._response
        if not isinstance(response, Response):
            return None
        if output := self._streamed():
            response = upgraded(response, Response, output=output)
        return parsed_response(response, self._spec, whole=False)

    @property
    def spec(self) -> ParseSpec:
        """The specification for parsing the response."""
        return self._spec

    def final(self) -> ParsedResponse[T]:
        """Return the complete response. Raises `UnfinishedResponseError` if it is not complete."""
        if self._final is not None:
            return self._final
        status = getattr(self._response, "status", None)
        raise UnfinishedResponseError(f"There is no complete response: its status is {status!r}.", answer=self.snapshot)

    def handle_event(self, event: Any) -> ResponseStreamEvent[T]:
        """Return the event extended with its snapshot and value. Raises `StructuredOutputError`."""
        if isinstance(response := getattr(event, "response", None), BaseModel):
            self._response = response
        made: ResponseStreamEvent[T] = self._upgrade(event)
        return made

    # ---------------------------------------------------------------- events

    def _upgrade(self, event: Any) -> Any:
        match event.type:
            case "response.output_text.delta":
                return self._add_text(event)
            case "response.output_text.done":
                return self._end_text(event)
            case "response.function_call_arguments.delta":
                return self._add_arguments(event)
            case "response.output_item.added" | "response.output_item.done":
                return self._add_item(event)
            case "response.content_part.added":
                return self._add_part(event)
            case "response.completed":
                return self._complete(event)
            case _:
                return event

    def _add_item(self, event: Any) -> Any:
        if isinstance(event.item, BaseModel):
            place = _place(event)
            self._items[place] = event.item
            self._own.discard(place)
        return event

    def _add_part(self, event: Any) -> Any:
        """Add a new part to its item, which was announced without it."""
        place, number = _part_place(event)
        item = self._items.get(place)
        content: Any = getattr(item, "content", None)
        parts: Any = content
        if item is not None and type(content) is list and len(parts) <= number:
            if place in self._own:
                parts.append(event.part)
            else:  # the list in the server's own event must not change
                self._items[place] = _changed(item, content=[*list_of(content), event.part])
                self._own.add(place)
        return event

    def _add_text(self, event: Any) -> Any:
        key = _part_place(event)
        text = self._texts[key] = self._texts.get(key, "") + _text_or_empty(event.delta)
        made = upgraded(event, ResponseTextDeltaEvent, snapshot=text)
        if self._spec.shape is not None:
            if key not in self._partial:
                self._partial[key] = PartialArguments(self._spec.shape)
            vars(made)["_source"] = self._partial[key].value
        return made

    def _end_text(self, event: Any) -> Any:
        key = _part_place(event)
        text = self._texts[key] = _text_or_empty(event.text)
        value = text_value(text, self._items.get(key[0]), lambda: self.snapshot, self._spec)
        return upgraded(event, _TEXT_DONE, parsed=value)

    def _add_arguments(self, event: Any) -> Any:
        place = _place(event)
        text = self._arguments[place] = self._arguments.get(place, "") + _text_or_empty(event.delta)
        return upgraded(event, ResponseFunctionCallArgumentsDeltaEvent, snapshot=text)

    def _complete(self, event: Any) -> Any:
        response: Any = event.response
        if not isinstance(response, Response):
            if not isinstance(self._response, Response):
                return event
            response = upgraded(self._response, Response, status="completed")  # unchanged since its beginning
        if not response.output or (any(self._texts.values()) and not response.output_text):
            # Some servers omit the streamed output.
            response = upgraded(response, Response, output=self._streamed())
        self._final = parsed_response(response, self._spec)
        return upgraded(event, _COMPLETED, response=self._final)

    def _streamed(self) -> list[Any]:
        """Return the streamed output. Some servers send only its text, without announcing items and parts."""
        places = list(dict.fromkeys([*self._items, *(place for place, _ in self._texts)]))
        if all(type(place) is int for place in places):
            places.sort()
        return [self._so_far(place) for place in places]

    def _so_far(self, at: Any) -> Any:
        """Return an item with the text or arguments received since it was announced."""
        item = self._items.get(at)
        if item is None:
            message = {"type": "message", "id": at if isinstance(at, str) else "", "role": "assistant"}
            item = _build_message({**message, "status": "in_progress", "content": []})
        if isinstance(item, ResponseFunctionToolCall):
            arguments = self._arguments.get(at, "")
            return upgraded(item, ResponseFunctionToolCall, arguments=item.arguments or arguments)
        content: Any = getattr(item, "content", None)
        if type(content) is not list:
            return item
        parts = [self._part_so_far(part, (at, place)) for place, part in enumerate(list_of(content))]
        numbers = sorted(number for place, number in self._texts if place == at)
        if item.type == "message" and numbers and numbers[-1] >= len(parts):
            texts = [self._texts[at, number] for number in numbers if number >= len(parts)]
            parts += [_build_text({"type": "output_text", "text": text, "annotations": []}) for text in texts]
        return _changed(item, content=parts)

    def _part_so_far(self, part: Any, key: tuple[Any, int]) -> Any:
        text = self._texts.get(key)
        return part if text is None or not hasattr(part, "text") else _changed(part, text=text)


def _text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _place(event: Any) -> Any:
    """Return the item that an event belongs to: its number, or its id for servers without numbers."""
    place = as_index(event.output_index)
    if place is not None:
        return place
    return getattr(event, "item_id", None) or getattr(getattr(event, "item", None), "id", None)


def _part_place(event: Any) -> tuple[Any, int]:
    return _place(event), as_index(event.content_index) or 0


def _build_message(fields: dict[str, Any]) -> Any:
    from ..core.model.lenient import builder_for

    return cast("Any", builder_for(ResponseOutputMessage))(fields)


def _build_text(fields: dict[str, Any]) -> Any:
    from ..core.model.lenient import builder_for

    return cast("Any", builder_for(ResponseOutputText))(fields)


def _changed(model: Any, **changes: Any) -> Any:
    cls: Any = model.__class__
    return upgraded(model, cls, **changes)


# ---------------------------------------------------------------- stream


class AsyncResponseStream(HelperStream["ResponseStreamEvent[T]"], Generic[T]):
    """The response as events; see `HelperStream`. `current_response_snapshot` is the response so far."""

    def __init__(
        self, stream: AsyncStream[Any], state: ResponseStreamState[T], starting_after: int | None = None
    ) -> None:
        super().__init__(stream, state)
        self._state = state
        self._after = starting_after

    async def _next(self) -> ResponseStreamEvent[T]:
        while True:
            event: Any = self._state.handle_event(await self._stream.__anext__())
            number: Any = getattr(event, "sequence_number", None)
            if self._after is None or type(number) is not int or number > self._after:
                made: ResponseStreamEvent[T] = event
                return made

    @property
    def current_response_snapshot(self) -> ParsedResponse[Any] | None:
        """The response so far, a new object each time; `None` before its first event."""
        return self._state.snapshot

    @sealing
    async def get_final_response(self) -> ParsedResponse[T]:
        """Read the rest of the stream and return the complete response. Raises the errors of reading.

        Raises `UnfinishedResponseError` (a `RuntimeError`), which holds the response, if it failed or is incomplete.
        """
        await self.until_done()
        return keep(self._state.final(), None, self.meta)


class AsyncResponseStreamManager(HelperStreamManager[AsyncResponseStream[T]], Generic[T]):
    """Returned by ``responses.stream(...)``: enter it with ``async with`` for the stream."""

    def __init__(
        self, calls: Engine, request: Request, state: ResponseStreamState[T], starting_after: int | None = None
    ) -> None:
        super().__init__(calls, request, lambda stream: AsyncResponseStream(stream, state, starting_after))


def stream_request(
    calls: Engine, response_id: str | None, starting_after: int | None, text_format: Any, params: dict[str, Any]
) -> tuple[Request, ResponseStreamState[Any]]:
    """Return the request for the stream of a new response, or of an existing one, and its state."""
    given = {name: value for name, value in params.items() if not is_omitted(value)}
    state = ResponseStreamState[Any](text_format=text_format, input_tools=given.get("tools"))
    if response_id is None or is_omitted(response_id):
        if starting_after is not None and not is_omitted(starting_after):
            raise ValueError("starting_after= needs an existing response: pass response_id=, too")
        made, _ = response_parameters(text_format, None, given)
        return calls.request(RESPONSES_CREATE, made, stream=True), state
    wrong = sorted(given.keys() - OPTION_NAMES - {"tools", "include"})
    if wrong:
        raise ValueError(f"response_id= streams an existing response, which does not take {', '.join(wrong)}")
    kept = {name: value for name, value in given.items() if name != "tools"}
    return calls.request(RESPONSES_RETRIEVE, {**kept, "response_id": response_id}, stream=True), state


resolve_annotations(__name__)
