"""The hand-written part of `client.chat` and `client.chat.completions`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Required, TypeVar, Unpack, cast, overload

from ..core.codec.accumulate import ChatAccumulator
from ..core.model.base import BaseModel
from ..endpoints import CHAT_COMPLETIONS_CREATE
from ..engine.accumulating import ChatStream
from ..engine.sealing import sealed, sealing
from ..lazy import resolve_annotations
from .common import MISSING, no_raw_twin, parameters

if TYPE_CHECKING:
    from ..chat.reply import Reply
    from ..chat.session import ChatSession
    from ..chat.tools import Tools
    from ..chat.turn import TurnStream
    from ..chat.turn_options import TurnOptions
    from ..chat.turn_params import SessionParams, TurnParams
    from ..core.policy.request_options import RequestOptions
    from ..engine import Engine
    from ..params.chat import ChatCommon, ChatParams, ChatRest
    from ..types.chat import (
        ChatCompletion,
        ChatCompletionMessage,
        ChatCompletionMessageParam,
    )

    Message = ChatCompletionMessageParam | ChatCompletionMessage

    from ..official.chat_stream import AsyncChatCompletionStreamManager
    from ..official.parsed_chat import ParsedChatCompletion
    from ..params.shared_params import ResponseFormatJSONObject, ResponseFormatJSONSchema, ResponseFormatText

    class ParseParams(ChatCommon, RequestOptions, total=False):
        """The parameters of chat completions except `response_format` and `stream`."""

        messages: Required[Iterable[ChatCompletionMessageParam]]
        model: str

    PlainFormat = ResponseFormatText | ResponseFormatJSONSchema | ResponseFormatJSONObject
    Untyped = ParsedChatCompletion[None]
    UntypedStream = AsyncChatCompletionStreamManager[None]

__all__ = ["ChatCompletionsHelpers", "ChatMethods", "ChatStream"]

T = TypeVar("T")
_NO_MESSAGES = (bytes, bytearray, BaseModel)  # an answer has an iterator, over its fields


def _chat_parameters(main: Any, params: Any, method: str = "chat") -> dict[str, Any]:
    """Return the parameters of one call; `params` is its own dict of keyword arguments, which may be changed."""
    made = parameters(CHAT_COMPLETIONS_CREATE, method, "messages", main, params)
    messages: Any = made.get("messages")
    kind: type = messages.__class__
    if issubclass(kind, str):
        made["messages"] = [{"role": "user", "content": messages}]
    elif issubclass(kind, (list, tuple)):
        if messages and messages[0].__class__ is not dict:
            _check_message(messages[0], method)
    elif "messages" in made and (issubclass(kind, _NO_MESSAGES) or not hasattr(messages, "__iter__")):
        raise TypeError(f"client.{method}() takes a text or a list of messages, not {kind.__name__}")
    return made


def _check_message(first: Any, method: str) -> None:
    """Raise `TypeError` for the first of several messages if it cannot be one."""
    kind: type = first.__class__
    if issubclass(kind, str):
        raise TypeError(f"client.{method}() takes a text or a list of messages, not a list of texts")
    if hasattr(first, "choices"):
        raise TypeError(f"client.{method}() takes messages: that of an answer is answer.message")
    if first is None or issubclass(kind, (int, float, bytes, list, tuple)):
        raise TypeError(
            f"client.{method}() takes a text or a list of messages, each with a role and content, not a list of "
            f"{kind.__name__}"
        )


def _turn(
    method: str, main: Any, params: dict[str, Any], tools: Tools | None, into: Any = None
) -> tuple[Any, dict[str, Any], TurnOptions]:
    """Return messages, request parameters and options of a turn for `method`."""
    from ..chat.turn_options import turn_keywords

    if isinstance(main, Mapping) and "role" not in main:
        params = {**cast("Mapping[str, Any]", main), **params}
        main = params.pop("messages", MISSING)
    stream = params.pop("stream", None)
    return turn_keywords(
        f"client.{method}()", {**_chat_parameters(main, params, method), "stream": stream}, tools, into
    )


class ChatMethods:
    """The callable part of `client.chat`."""

    _calls: Engine

    @sealed
    async def __call__(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, **params: Unpack[ChatRest]
    ) -> ChatCompletion:
        """Ask a chat model and return its whole answer, with its text in `.text`.

        `messages` is the user's text, a list of messages, or the whole request as one dict; further parameters are
        those of ``POST /chat/completions``. Without `model`, the client's default model is used. Raises `TypeError` for
        a missing or unknown parameter, before anything is sent, and `OpenAIError`.
        """
        answer: ChatCompletion = await self._calls.run(CHAT_COMPLETIONS_CREATE, _chat_parameters(messages, params))
        return answer

    @sealed
    def stream(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, **params: Unpack[ChatRest]
    ) -> ChatStream:
        """Ask a chat model and return its answer as a stream of chunks.

        Use it as ``async with client.chat.stream(...) as stream: async for chunk in stream: ...``. Nothing is sent
        before the stream is entered or iterated. The usage is requested, and is part of the `final()` answer; pass
        ``stream_options`` to decide yourself. The stream holds a slot until its end or `close`. Raises the `TypeError`
        of the call; reading raises `OpenAIError`, such as `IncompleteStreamError` with `.partial` for a stream that
        was cut.
        """
        calls = self._calls
        made = _chat_parameters(messages, params)
        return ChatStream(calls, calls.stream_request(CHAT_COMPLETIONS_CREATE, made), ChatAccumulator())

    @sealing
    async def run_tools(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, *, tools: Tools, **params: Unpack[TurnParams]
    ) -> Reply[Any]:
        """Ask a model that may call `tools`, typed Python functions, until it answers with text.

        The arguments of each call are validated and converted by its annotations; the calls of one answer run at the
        same time. If a call fails, the model gets the error; ``on_tool_error="raise"`` raises instead. `max_rounds` is
        the maximum number of answers (8); `permit` is called before each tool call. Further parameters are those of
        the API.

        Raises `TypeError` and `ValueError` for functions that cannot be tools, before anything is sent;
        `TooManyRoundsError`, `ToolError`, `LengthFinishReasonError` for calls that were cut at the length limit, and
        the errors of calls. Each has the `Reply` so far in `.partial`.
        """
        from ..chat.turn import run_turn

        return await run_turn(self._calls, *_turn("chat.run_tools", messages, dict(params), tools))

    @sealed
    def stream_tools(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, *, tools: Tools, **params: Unpack[TurnParams]
    ) -> TurnStream[Any]:
        """Run tools as `run_tools` does, as a stream: text, reasoning, and tools as they start and finish."""
        from ..chat.turn import TurnStream

        return TurnStream(self._calls, *_turn("chat.stream_tools", messages, dict(params), tools))

    @overload
    async def parse(
        self,
        messages: str | Sequence[Message] | ChatParams = ...,
        *,
        into: type[T],
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> Reply[T]: ...

    @overload
    async def parse(
        self,
        messages: str | Sequence[Message] | ChatParams = ...,
        *,
        into: Any,
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> Reply[Any]: ...

    @sealing
    async def parse(
        self,
        messages: str | Sequence[Message] | ChatParams = MISSING,
        *,
        into: Any,
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> Reply[Any]:
        """Ask for a value of the type `into`, the reply's `parsed`; the model may call `tools` before it answers.

        `into` is a Struct, dataclass, TypedDict or pydantic model, or a list, `Literal`, union or scalar. An answer
        that does not fit goes back to the model with a list of its mistakes, up to `repair` times (1). `format` is the
        form of the request: ``"json_schema"``, ``"json_object"`` or ``"prompt"``; by default the best one that the
        server supports.

        Raises `TypeError` for a type without a JSON schema, before anything is sent; `StructuredOutputError`
        if no answer fits, or one of its subclasses `LengthFinishReasonError`, `ContentFilterFinishReasonError` and
        `RefusalError`; and the errors of `run_tools`.
        """
        from ..chat.turn import run_turn

        return await run_turn(self._calls, *_turn("chat.parse", messages, dict(params), tools, into))

    @overload
    def stream_parse(
        self,
        messages: str | Sequence[Message] | ChatParams = ...,
        *,
        into: type[T],
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> TurnStream[T]: ...

    @overload
    def stream_parse(
        self,
        messages: str | Sequence[Message] | ChatParams = ...,
        *,
        into: Any,
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> TurnStream[Any]: ...

    @sealed
    def stream_parse(
        self,
        messages: str | Sequence[Message] | ChatParams = MISSING,
        *,
        into: Any,
        tools: Tools | None = None,
        **params: Unpack[TurnParams],
    ) -> TurnStream[Any]:
        """Parse as `parse` does, as a stream: a `PartialObject` follows each piece of text; `final()` has the value."""
        from ..chat.turn import TurnStream

        return TurnStream(self._calls, *_turn("chat.stream_parse", messages, dict(params), tools, into))

    @sealed
    def session(self, **params: Unpack[SessionParams]) -> ChatSession:
        """Return a conversation that keeps its history: ``await session.say("...")``, ``session.stream("...")``.

        `system` is the system prompt, `messages` an existing history, `tools` typed functions that the model may call.
        `context_limit` is the maximum number of tokens of a request: its prompt, and its answer if that is limited.
        `policy` applies at the limit: ``"drop"`` (default) leaves the oldest turns out of requests, ``"summarise"``
        replaces them with a summary by the model, ``"refuse"`` raises `ContextLimitError`; the history always keeps
        them. Tokens are counted by the server, and new messages by the `tokenizer` or an estimate. With `prices`
        per million tokens, ``session.usage`` includes the cost; `budget`, in their currency, raises `BudgetError`
        instead of a call that would exceed it. Further parameters are those of `run_tools` and of the API, for all
        turns.

        Raises `TypeError`, `ValueError` and `ConfigurationError` for invalid arguments.
        """
        from ..chat.session import ChatSession

        return ChatSession(self._calls, **params)

    @sealed
    def load_session(
        self, path: str | os.PathLike[str], *, append: bool = False, fsync: bool = False, **options: Any
    ) -> ChatSession:
        """Return a session that was saved. With ``append=True``, every turn is appended to its file from now on.

        `options` are those of `session` except `messages`, and override the saved values. Functions are not in the
        file: pass the `tools` again; ``session.missing_tools`` names those that are missing. With ``fsync=True``,
        appending waits for the disk. Raises `SessionFileError` if the file does not exist, is not a saved session, is
        in use or damaged; and the errors of `session`.
        """
        from ..chat.session import ChatSession

        return ChatSession.loaded(self._calls, path, append, fsync, options)


# They make several requests, or none yet, so there is no single raw answer.
for _name in ("run_tools", "stream_tools", "parse", "stream_parse", "session", "load_session"):
    vars(ChatMethods)[_name].no_raw_twin = True


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
        it is sent as a strict one. Tools must be strict functions, as `pydantic_function_tool` makes from
        types; their calls have `parsed_arguments`. A refusal has no value.

        Raises `TypeError` and `ValueError` for a wrong request, before anything is sent; `LengthFinishReasonError` and
        `ContentFilterFinishReasonError` for an answer that was cut, `StructuredOutputError` for one that does not fit,
        each with the answer; and `OpenAIError`.
        """
        from ..official.parsed_chat import parsed_completion
        from ..official.parsing import chat_parameters

        made, spec = chat_parameters(response_format, dict(params))
        answer: Any = await self._calls.run(CHAT_COMPLETIONS_CREATE, made)
        if hasattr(answer, "choices"):
            return parsed_completion(answer, spec)
        return answer.then(functools.partial(parsed_completion, spec=spec))  # of `with_raw_response` and similar views

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
        """Return the same as events: ``async with ....stream(...) as stream: async for event in stream: ...``.

        Each chunk is an event, followed by its parts: `content.delta` and `.done`, `refusal.delta` and `.done`,
        `tool_calls.function.arguments.delta` and `.done`, `logprobs.content.delta` and similar ones. At the end,
        ``await stream.get_final_completion()`` is the whole answer with its values. `response_format` may also be a
        value of the API; then the text is not parsed.

        Raises `TypeError` for a wrong request; nothing is sent before the stream is entered.
        """
        from ..official.chat_stream import AsyncChatCompletionStreamManager, ChatCompletionStreamState
        from ..official.parsing import chat_parameters

        made, _ = chat_parameters(response_format, dict(params), strict=False)
        request = self._calls.request(CHAT_COMPLETIONS_CREATE, made, stream=True)
        state = ChatCompletionStreamState[Any](response_format=response_format, input_tools=made.get("tools"))
        return AsyncChatCompletionStreamManager(self._calls, request, state)


resolve_annotations(__name__)
