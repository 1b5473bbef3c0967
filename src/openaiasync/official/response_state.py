"""From the events of a response's stream to those of the helper: with the text so far, and with values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ..core.model.base import BaseModel
from ..core.model.omitted import is_omitted
from ..core.model.plain import as_index
from ..core.schema.structured import shape_of
from ..errors import UnfinishedResponseError
from ..types.responses import Response, ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from .parse_spec import (
    ParseSpec,
    PartialArguments,
    list_of,
    upgraded,
)
from .parsed_responses import ParsedResponse, parsed_response, text_value
from .response_events import (
    ResponseCompletedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

if TYPE_CHECKING:
    from .response_events import ResponseStreamEvent

__all__ = ["ResponseStreamState", "wanted_of_response"]

T = TypeVar("T")
_TEXT_DONE: type[ResponseTextDoneEvent[Any]] = ResponseTextDoneEvent
_COMPLETED: type[ResponseCompletedEvent[Any]] = ResponseCompletedEvent


def wanted_of_response(text_format: Any, tools: list[Any]) -> ParseSpec:
    """What is to be made of a response; functions in a namespace are known by both names."""
    plain = text_format is None or is_omitted(text_format)
    functions: dict[Any, Any] = {}
    for tool in tools:
        if tool.get("type") == "function":
            functions.setdefault(tool.get("name"), tool)
        elif tool.get("type") == "namespace":
            inner = [one for one in tool.get("tools", ()) if one.get("type") == "function"]
            functions.update({(tool.get("name"), one.get("name")): one for one in inner})
    return ParseSpec(None if plain else shape_of(text_format), functions)


class ResponseStreamState(Generic[T]):
    """Makes events of events, and keeps the response so far: for those who read ``create(stream=True)`` themselves.

    `text_format` is the type that texts are made into, `input_tools` the tools as they were sent.
    """

    def __init__(self, *, text_format: type[T] | Any = None, input_tools: Iterable[Any] | None = None) -> None:
        self._wanted = wanted_of_response(text_format, list_of(input_tools))
        self._response: Any = None
        self._items: dict[Any, Any] = {}  # in the order in which they began
        self._own: set[Any] = set()  # items whose content is a list of ours
        self._texts: dict[Any, str] = {}  # by item and number of the part
        self._growing: dict[Any, PartialArguments] = {}
        self._arguments: dict[Any, str] = {}
        self._final: ParsedResponse[Any] | None = None

    @property
    def snapshot(self) -> ParsedResponse[Any] | None:
        """The response so far, made anew each time; `None` before its first event."""
        response = self._response
        if not isinstance(response, Response):
            return None
        if output := self._streamed():
            response = upgraded(response, Response, output=output)
        return parsed_response(response, self._wanted, whole=False)

    @property
    def wanted(self) -> ParseSpec:
        """What is to be made of the response."""
        return self._wanted

    def final(self) -> ParsedResponse[T]:
        """The complete response. Raises `UnfinishedResponseError` where it ended in another way, or not yet."""
        if self._final is not None:
            return self._final
        status = getattr(self._response, "status", None)
        raise UnfinishedResponseError(f"There is no complete response: it is {status!r}.", answer=self.snapshot)

    def handle_event(self, event: Any) -> ResponseStreamEvent[T]:
        """The event with what it says beyond the server's. Raises `StructuredOutputError`."""
        if isinstance(response := getattr(event, "response", None), BaseModel):
            self._response = response
        made: ResponseStreamEvent[T] = self._take(event)
        return made

    # ---------------------------------------------------------------- events

    def _take(self, event: Any) -> Any:
        match event.type:
            case "response.output_text.delta":
                return self._take_text(event)
            case "response.output_text.done":
                return self._take_text_end(event)
            case "response.function_call_arguments.delta":
                return self._take_arguments(event)
            case "response.output_item.added" | "response.output_item.done":
                return self._take_item(event)
            case "response.content_part.added":
                return self._take_part(event)
            case "response.completed":
                return self._take_end(event)
            case _:
                return event

    def _take_item(self, event: Any) -> Any:
        if isinstance(event.item, BaseModel):
            place = _place(event)
            self._items[place] = event.item
            self._own.discard(place)
        return event

    def _take_part(self, event: Any) -> Any:
        """A part begins: the item as it was announced does not have it yet."""
        place, number = _part_place(event)
        item = self._items.get(place)
        content: Any = getattr(item, "content", None)
        parts: Any = content
        if item is not None and type(content) is list and len(parts) <= number:
            if place in self._own:
                parts.append(event.part)
            else:  # the list that the server's event shows stays as it came
                self._items[place] = _changed(item, content=[*list_of(content), event.part])
                self._own.add(place)
        return event

    def _take_text(self, event: Any) -> Any:
        key = _part_place(event)
        text = self._texts[key] = self._texts.get(key, "") + _words(event.delta)
        made = upgraded(event, ResponseTextDeltaEvent, snapshot=text)
        if self._wanted.shape is not None:
            if key not in self._growing:
                self._growing[key] = PartialArguments(self._wanted.shape)
            vars(made)["_source"] = self._growing[key].value
        return made

    def _take_text_end(self, event: Any) -> Any:
        key = _part_place(event)
        text = self._texts[key] = _words(event.text)
        value = text_value(text, self._items.get(key[0]), lambda: self.snapshot, self._wanted)
        return upgraded(event, _TEXT_DONE, parsed=value)

    def _take_arguments(self, event: Any) -> Any:
        place = _place(event)
        text = self._arguments[place] = self._arguments.get(place, "") + _words(event.delta)
        return upgraded(event, ResponseFunctionCallArgumentsDeltaEvent, snapshot=text)

    def _take_end(self, event: Any) -> Any:
        response: Any = event.response
        if not isinstance(response, Response):
            if not isinstance(self._response, Response):
                return event
            response = upgraded(self._response, Response, status="completed")  # as it was when it began
        if not response.output or (any(self._texts.values()) and not response.output_text):
            response = upgraded(response, Response, output=self._streamed())  # some leave out what they said before
        self._final = parsed_response(response, self._wanted)
        return upgraded(event, _COMPLETED, response=self._final)

    def _streamed(self) -> list[Any]:
        """The output as it was streamed. Some servers announce no item, or no part of one, and only send its text."""
        places = list(dict.fromkeys([*self._items, *(place for place, _ in self._texts)]))
        if all(type(place) is int for place in places):
            places.sort()
        return [self._so_far(place) for place in places]

    def _so_far(self, at: Any) -> Any:
        """An item with the text or the arguments that came since it was announced."""
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


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _place(event: Any) -> Any:
    """Which item an event is of: by its number, or by its id from servers that do not count."""
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
