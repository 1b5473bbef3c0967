"""The parameters of a request whose answer is to be parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.model.omitted import is_omitted
from ..core.policy.options import OPTION_NAMES
from ..endpoints import RESPONSES_CREATE, RESPONSES_RETRIEVE
from .chat_state import wanted_of_chat
from .parse_spec import ParseSpec, list_of, strict_functions
from .response_state import ResponseStreamState, wanted_of_response

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..engine import Engine

__all__ = ["ask_chat", "ask_response", "stream_request", "type_to_response_format_param"]


def type_to_response_format_param(response_format: Any) -> Any:
    """A type as the `response_format` that asks a chat model for it; what is no type is given back as it is."""
    plain: Any = response_format
    if response_format is None or is_omitted(response_format) or isinstance(response_format, dict):
        return plain
    from ..core.schema.structured import shape_of

    return shape_of(response_format).response_format()


def ask_chat(
    response_format: Any, params: dict[str, Any], *, strictly: bool = True
) -> tuple[dict[str, Any], ParseSpec]:
    """What to send, and what to make of the answer.

    With `strictly`, tools that cannot be parsed are a `ValueError`, and a `response_format` that is no type a
    `TypeError`.
    """
    made = {**params}
    tools = list_of(params.get("tools"))
    if tools:
        made["tools"] = tools
    if strictly:
        strict_functions(tools)
        if isinstance(response_format, dict):
            raise TypeError("parse() takes a type as response_format; create() takes the API's own dicts")
    wanted = wanted_of_chat(response_format, tools)
    asked = type_to_response_format_param(response_format)
    if asked is not None and not is_omitted(asked):
        made["response_format"] = asked
    return made, wanted


def ask_response(
    text_format: Any, parse_as: Any, params: dict[str, Any], *, new: bool = True
) -> tuple[dict[str, Any], ParseSpec]:
    """What to send, and what to make of the response; `new` false: it was asked for before."""
    made = {**params}
    tools = list_of(params.get("tools"))
    if tools:
        made["tools"] = tools
    asks = text_format is not None and not is_omitted(text_format)
    if asks and new:
        from ..core.schema.structured import shape_of

        text: Any = params.get("text")
        text = {} if text is None or is_omitted(text) else dict(text)
        if "format" in text:
            raise TypeError("text_format= takes the place of text['format']: give one of them")
        made["text"] = {**text, "format": shape_of(text_format).text_format()}
    parses = parse_as is not None and not is_omitted(parse_as)
    return made, wanted_of_response(parse_as if parses else text_format, tools)


def stream_request(
    calls: Engine, response_id: str | None, starting_after: int | None, text_format: Any, params: dict[str, Any]
) -> tuple[Request, ResponseStreamState[Any]]:
    """The request for a new response's stream, or for that of an existing one."""
    given = {name: value for name, value in params.items() if not is_omitted(value)}
    state = ResponseStreamState[Any](text_format=text_format, input_tools=given.get("tools"))
    if response_id is None or is_omitted(response_id):
        if starting_after is not None and not is_omitted(starting_after):
            raise ValueError("starting_after= is of an existing response: give response_id= too")
        made, _ = ask_response(text_format, None, given)
        return calls.request(RESPONSES_CREATE, made, stream=True), state
    wrong = sorted(given.keys() - OPTION_NAMES - {"tools", "include"})
    if wrong:
        raise ValueError(f"response_id= streams an existing response, which takes no {', '.join(wrong)}")
    kept = {name: value for name, value in given.items() if name != "tools"}
    return calls.request(RESPONSES_RETRIEVE, {**kept, "response_id": response_id}, stream=True), state
