"""`client.chat.completions.parse` and `stream`: what the generated namespace inherits."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Required, TypeVar, Unpack, overload

from ..engine.sealing import sealing
from .mark import no_raw_twin

if TYPE_CHECKING:
    from ..core.policy.options import RequestOptions
    from ..engine import Engine
    from ..official.chat_stream import AsyncChatCompletionStreamManager
    from ..official.parsed_chat import ParsedChatCompletion
    from ..params.chat import ChatCommon, ChatCompletionMessageParam
    from ..params.shared_params import ResponseFormatJSONObject, ResponseFormatJSONSchema, ResponseFormatText

    class ParseParams(ChatCommon, RequestOptions, total=False):
        """The parameters of chat completions but `response_format` and `stream`."""

        messages: Required[Iterable[ChatCompletionMessageParam]]
        model: str

    PlainFormat = ResponseFormatText | ResponseFormatJSONSchema | ResponseFormatJSONObject
    Untyped = ParsedChatCompletion[None]
    UntypedStream = AsyncChatCompletionStreamManager[None]

__all__ = ["ChatCompletionsHelpers"]

T = TypeVar("T")


class ChatCompletionsHelpers:
    """The hand-written part of `client.chat.completions`."""

    _calls: Engine

    @overload
    async def parse(self, *, response_format: None = None, **params: Unpack[ParseParams]) -> Untyped: ...
    @overload
    async def parse(self, *, response_format: type[T], **params: Unpack[ParseParams]) -> ParsedChatCompletion[T]: ...
    @overload
    async def parse(self, *, response_format: object, **params: Unpack[ParseParams]) -> ParsedChatCompletion[Any]: ...
    @sealing
    async def parse(self, *, response_format: Any = None, **params: Unpack[ParseParams]) -> Any:
        """Ask a chat model for a value of a type: ``answer.choices[0].message.parsed``.

        `response_format` is a pydantic model, Struct, dataclass, TypedDict, or anything else that has a JSON schema;
        it is sent as a strict one. Tools have to be strict functions: `pydantic_function_tool` makes them of types, and
        `parsed_arguments` of their calls. A message that refuses has no value.

        Raises `TypeError` and `ValueError` for what cannot be asked, before anything is sent; `LengthFinishReasonError`
        and `ContentFilterFinishReasonError` for an answer that was cut, `StructuredOutputError` for one that does not
        fit, each with the answer; and `OpenAIError`.
        """
        from ..endpoints import CHAT_COMPLETIONS_CREATE
        from ..official.parsed_chat import parsed_completion
        from ..official.parsing import chat_parameters

        made, spec = chat_parameters(response_format, dict(params))
        answer: Any = await self._calls.run(CHAT_COMPLETIONS_CREATE, made)
        if hasattr(answer, "choices"):
            return parsed_completion(answer, spec)
        return answer.then(functools.partial(parsed_completion, spec=spec))  # of `with_raw_response` and the like

    @overload
    def stream(self, *, response_format: PlainFormat | None = None, **params: Unpack[ParseParams]) -> UntypedStream: ...
    @overload
    def stream(
        self, *, response_format: type[T], **params: Unpack[ParseParams]
    ) -> AsyncChatCompletionStreamManager[T]: ...
    @overload
    def stream(
        self, *, response_format: object, **params: Unpack[ParseParams]
    ) -> AsyncChatCompletionStreamManager[Any]: ...
    @no_raw_twin
    def stream(self, *, response_format: Any = None, **params: Unpack[ParseParams]) -> Any:
        """The same as events: ``async with ....stream(...) as stream: async for event in stream: ...``.

        Each chunk comes as an event, then what it brings: `content.delta` and `.done`, `refusal.delta` and `.done`,
        `tool_calls.function.arguments.delta` and `.done`, `logprobs.content.delta` and the like. At the end,
        ``await stream.get_final_completion()`` is the whole answer with its values. `response_format` may also be what
        the API itself takes; the text stays text then.

        Raises `TypeError` for what cannot be asked; nothing is sent before the stream is entered.
        """
        from ..endpoints import CHAT_COMPLETIONS_CREATE
        from ..official.chat_stream import AsyncChatCompletionStreamManager, ChatCompletionStreamState
        from ..official.parsing import chat_parameters

        made, _ = chat_parameters(response_format, dict(params), strict=False)
        request = self._calls.request(CHAT_COMPLETIONS_CREATE, made, stream=True)
        state = ChatCompletionStreamState[Any](response_format=response_format, input_tools=made.get("tools"))
        return AsyncChatCompletionStreamManager(self._calls, request, state)
