"""`client.responses.parse` and `stream`: what the generated namespace inherits."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from .mark import no_raw_twin

if TYPE_CHECKING:
    from ..calls import Calls
    from ..params.responses.response_create_params import ResponseCreateParamsBase
    from .parsed_responses import ParsedResponse
    from .response_stream import AsyncResponseStreamManager

__all__ = ["ResponsesHelpers"]

T = TypeVar("T")


class ResponsesHelpers:
    """The hand-written part of `client.responses`."""

    _calls: Calls

    async def parse(
        self,
        *,
        text_format: type[T] | None = None,
        parse_as: type[T] | None = None,
        **params: Unpack[ResponseCreateParamsBase],
    ) -> ParsedResponse[T]:
        """Ask for a response whose text is a value of a type: ``response.output_parsed``.

        `text_format` is a pydantic model, Struct, dataclass, TypedDict, or anything else that has a JSON schema; it is
        sent as a strict one. `parse_as` only parses: for a format that is asked for in another way. Functions of
        `pydantic_responses_function_tool`, and other strict ones, have their `parsed_arguments`.

        Raises `TypeError` for what cannot be asked, before anything is sent; `StructuredOutputError` for a text that
        does not fit, with the response in `.answer` (`LengthFinishReasonError` where it was cut); and `OpenAIError`.
        """
        from ..endpoints import RESPONSES_CREATE
        from .asking import ask_response
        from .parsed_responses import parsed_response

        made, wanted = ask_response(text_format, parse_as, dict(params))
        answer: Any = await self._calls.run(RESPONSES_CREATE, made)
        found: ParsedResponse[T]
        if hasattr(answer, "output"):
            found = parsed_response(answer, wanted)
        else:  # `with_raw_response`, `with_streaming_response`
            found = answer.then(functools.partial(parsed_response, wanted=wanted))
        return found

    @no_raw_twin
    def stream(
        self,
        *,
        response_id: str | None = None,
        starting_after: int | None = None,
        text_format: type[T] | None = None,
        **params: Unpack[ResponseCreateParamsBase],
    ) -> AsyncResponseStreamManager[T]:
        """The same as events: ``async with ....stream(...) as stream: async for event in stream: ...``.

        The events are the server's; those of texts and of a call's arguments have all so far in `.snapshot`, those at
        the end have values in `.parsed`. At last ``await stream.get_final_response()`` is the complete response.

        With `response_id` an existing response, which was made in the background, is streamed from its beginning:
        events up to the number `starting_after` are read and not shown again. `tools` and `text_format` tell how to
        parse it then; other parameters of a new response are a `ValueError`.

        Raises `TypeError` and `ValueError` for what cannot be asked; nothing is sent before the stream is entered.
        """
        from .asking import stream_request
        from .response_stream import AsyncResponseStreamManager

        request, state = stream_request(self._calls, response_id, starting_after, text_format, dict(params))
        return AsyncResponseStreamManager(self._calls, request, state, starting_after)
