"""`client.chat(...)` and `client.chat.stream(...)`: the hand-written half of the chat namespace."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

from ..calls.live import ChatStream
from ..core.accumulate import ChatAccumulator
from ..core.endpoint import Endpoint
from .common import MISSING, parameters

if TYPE_CHECKING:
    from ..calls import Calls
    from ..params.chat import ChatParams, ChatRest
    from ..types.chat import (
        ChatCompletion,
        ChatCompletionMessage,
        ChatCompletionMessageParam,
    )

    Message = ChatCompletionMessageParam | ChatCompletionMessage
__all__ = ["ChatMethods", "ChatStream"]


@functools.cache
def _endpoint() -> Endpoint:
    from ..endpoints import CHAT_COMPLETIONS_CREATE

    return CHAT_COMPLETIONS_CREATE


def _chat_parameters(main: Any, params: dict[str, Any]) -> dict[str, Any]:
    made = parameters(_endpoint(), "chat", "messages", main, params)
    messages = made.get("messages")
    if messages.__class__ is list:
        return made
    if isinstance(messages, str):
        made["messages"] = [{"role": "user", "content": messages}]
    elif isinstance(messages, (bytes, bytearray)):
        raise TypeError("chat() takes a text or a list of messages, not bytes")
    return made


class ChatMethods:
    """The callable part of `client.chat`."""

    _calls: Calls

    async def __call__(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, **params: Unpack[ChatRest]
    ) -> ChatCompletion:
        """Ask a chat model; the answer whole, its words in `.text`.

        `messages` is the user's words, a list of messages, or the whole request as one dict; further parameters are
        those of ``POST /chat/completions``. The client's default model is used where none is named.
        Raises `TypeError` for a parameter that is missing or unknown, before anything is sent, and `OpenAIError`.
        """
        answer: ChatCompletion = await self._calls.run(_endpoint(), _chat_parameters(messages, dict(params)))
        return answer

    def stream(
        self, messages: str | Sequence[Message] | ChatParams = MISSING, **params: Unpack[ChatRest]
    ) -> ChatStream:
        """The same, word by word: ``async with client.chat.stream(...) as stream: async for chunk in stream: ...``.

        Nothing is sent before the stream is entered or iterated. Asks for `usage` where the server is known to grant
        it; pass ``stream_options`` to decide yourself. It holds its place in flight until its end, or `close`.
        Raises `TypeError` as the call does; reading raises `OpenAIError`, `IncompleteStreamError` with `.partial`
        among them: a stream that is cut never ends like a whole one.
        """
        calls = self._calls
        made = _chat_parameters(messages, dict(params))
        if "stream_options" not in made and calls.grants_usage():
            made["stream_options"] = {"include_usage": True}
        return ChatStream(calls, calls.request(_endpoint(), made, stream=True), ChatAccumulator())
