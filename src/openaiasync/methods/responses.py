"""`client.responses.parse` and `stream`, which the generated namespace inherits."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from ..endpoints import RESPONSES_CREATE
from ..engine.sealing import sealing
from ..lazy import resolve_annotations
from .common import no_raw_twin

if TYPE_CHECKING:
    from ..engine import Engine
    from ..official.parsed_responses import ParsedResponse
    from ..official.response_stream import AsyncResponseStreamManager
    from ..params.responses.response_create_params import ResponseCreateParamsBase

__all__ = ["ResponsesHelpers"]

T = TypeVar("T")


class ResponsesHelpers:
    """The hand-written part of `client.responses`."""

    _calls: Engine

    @overload
    async def parse(
        self, *, text_format: None = None, parse_as: None = None, **params: Unpack[ResponseCreateParamsBase]
    ) -> ParsedResponse[None]: ...
    @overload
    async def parse(
        self, *, text_format: type[T], parse_as: type[T] | None = None, **params: Unpack[ResponseCreateParamsBase]
    ) -> ParsedResponse[T]: ...
    @overload
    async def parse(self, *, parse_as: type[T], **params: Unpack[ResponseCreateParamsBase]) -> ParsedResponse[T]: ...
    @overload
    async def parse(
        self, *, text_format: object = None, parse_as: object = None, **params: Unpack[ResponseCreateParamsBase]
    ) -> ParsedResponse[Any]: ...
    @sealing
    async def parse(
        self, *, text_format: Any = None, parse_as: Any = None, **params: Unpack[ResponseCreateParamsBase]
    ) -> Any:
        """Ask for a response whose text is a value of a type: ``response.output_parsed``.

        `text_format` is a pydantic model, Struct, dataclass, TypedDict, or anything else that has a JSON schema; it is
        sent as a strict one. `parse_as` only parses, for a format that is requested in another way. Calls of strict
        functions, such as those of `pydantic_responses_function_tool`, have `parsed_arguments`.

        Raises `TypeError` for a wrong request, before anything is sent; `StructuredOutputError` for a text that does
        not fit, with the response in `.answer` (`LengthFinishReasonError` if it was cut); and `OpenAIError`.
        """
        from ..official.parsed_responses import parsed_response
        from ..official.parsing import response_parameters

        made, spec = response_parameters(text_format, parse_as, dict(params))
        answer: Any = await self._calls.run(RESPONSES_CREATE, made)
        if hasattr(answer, "output"):
            return parsed_response(answer, spec)
        return answer.then(functools.partial(parsed_response, spec=spec))  # of `with_raw_response` and the like

    @overload
    def stream(
        self,
        *,
        response_id: str | None = None,
        starting_after: int | None = None,
        text_format: None = None,
        **params: Unpack[ResponseCreateParamsBase],
    ) -> AsyncResponseStreamManager[None]: ...
    @overload
    def stream(
        self,
        *,
        response_id: str | None = None,
        starting_after: int | None = None,
        text_format: type[T],
        **params: Unpack[ResponseCreateParamsBase],
    ) -> AsyncResponseStreamManager[T]: ...
    @overload
    def stream(
        self,
        *,
        response_id: str | None = None,
        starting_after: int | None = None,
        text_format: object,
        **params: Unpack[ResponseCreateParamsBase],
    ) -> AsyncResponseStreamManager[Any]: ...
    @no_raw_twin
    def stream(
        self,
        *,
        response_id: str | None = None,
        starting_after: int | None = None,
        text_format: Any = None,
        **params: Unpack[ResponseCreateParamsBase],
    ) -> Any:
        """Return the same as events: ``async with ....stream(...) as stream: async for event in stream: ...``.

        The events are the server's; those of texts and arguments have everything so far in `.snapshot`, those at the
        end have values in `.parsed`. Finally ``await stream.get_final_response()`` returns the complete response.

        With `response_id` an existing response, made in the background, is streamed from its beginning; events up to
        number `starting_after` are read but not shown. `tools` and `text_format` tell how to parse it; other parameters
        of a new response raise `ValueError`.

        Raises `TypeError` and `ValueError` for a wrong request; nothing is sent before the stream is entered.
        """
        from ..official.response_stream import AsyncResponseStreamManager, stream_request

        request, state = stream_request(self._calls, response_id, starting_after, text_format, dict(params))
        return AsyncResponseStreamManager(self._calls, request, state, starting_after)


resolve_annotations(__name__)
