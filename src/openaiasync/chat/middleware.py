"""The calls of one session's turn: each request is made to fit its room and its budget, each answer is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

from ..core.codec.dialects import names_parameter
from ..core.codec.endpoint import Endpoint, Request
from ..core.model.meta import Meta
from ..core.policy.options import OPTION_NAMES
from ..engine.call import Call
from ..engine.engine import Engine
from ..engine.streams import AsyncStream
from ..errors import APIError, APIResponseValidationError, APIStatusError, OpenAIError
from .context_window import ContextWindow, Window, of_answer
from .history import Message, Turn, mended
from .usage import UsageTracker

__all__ = ["SessionCalls"]

T = TypeVar("T")

_OTHER_WORD = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
_REFITS = 4  # how often one request is made shorter, where the server does not say by how much


class SessionCalls(Engine):
    """The client's calls as a turn makes them: connections, limits and caches are the client's.

    They are given all messages, those of the history first, and send what there is room for.
    """

    def __init__(
        self, calls: Engine, room: ContextWindow, spend: UsageTracker, head: Sequence[Message], turns: Sequence[Turn]
    ) -> None:
        self.__dict__.update(calls.__dict__)
        self._room = room
        self._spend = spend
        self._head = head
        self._turns = turns
        self._known = len(head) + sum(len(turn.messages) for turn in turns)
        self._planned: tuple[Request, dict[str, Any]] | None = None  # a stream about to be opened
        self._open: tuple[list[Message], dict[str, Any]] | None = None  # what a stream was opened with
        self._shortened = 0  # streams of this turn that were refused when they had begun
        self._call: Call | None = None  # the last one

    async def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        """The answer. Raises `ContextLimitError` and `BudgetError` before anything is sent, and what calls raise."""
        sent = await self._fit(params)
        left = _REFITS
        while True:
            try:
                answer = await self._charged(sent, params, super().run(endpoint, {**params, "messages": sent}))
            except APIError as error:
                if not left:
                    raise
                left -= 1
                sent = await self._refit(sent, params, error)
            else:
                break
        self._count(sent, params, answer)
        return answer

    def call(self, request: Request) -> Call:
        """See `Engine`; what a failed call costs is asked of it."""
        self._call = super().call(request)
        return self._call

    async def exchange(self, request: Request, call: Call | None = None) -> tuple[Meta, bytes]:
        """See `Engine`."""
        if call is None and not (self.config.observers or request.hooks):  # a watched one comes again, with its call
            call = self.call(request)
        self._call = call
        return await super().exchange(request, call)

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None = None) -> Request:
        """The `Request` for these parameters; that of a stream is made to fit when it is opened."""
        request = super().request(endpoint, params, stream)
        if stream:
            self._planned = (request, params)
        return request

    async def open(self, request: Request) -> AsyncStream[Any]:
        """The stream. Raises what `run` raises. Hand its answer to `counted`."""
        if self._planned is None or self._planned[0] is not request:
            return await super().open(request)
        params, self._planned = self._planned[1], None
        sent = await self._fit(params)
        left = _REFITS
        while True:
            if sent != params["messages"]:
                unasked = request.unasked
                request = super().request(request.endpoint, {**params, "messages": sent}, stream=True)
                request.unasked = unasked
            try:
                stream = await self._charged(sent, params, super().open(request))
            except APIError as error:
                if not left:
                    raise
                left -= 1
                sent = await self._refit(sent, params, error)
            else:
                break
        self._open = (sent, params)
        return stream

    async def shortened(self, error: APIError) -> bool:
        """Whether the stream under way was refused as too long, in the stream itself, and a shorter one will do.

        LM Studio and gateways answer 200 before they look at the prompt.
        """
        if self._open is None:
            return False
        (sent, params), self._open = self._open, None
        self._shortened += 1
        if self._shortened > _REFITS:
            return False
        return await self._room.refit(self._window(params), sent, params, error, self._asker(params)) is not None

    def counted(self, answer: Any) -> None:
        """The stream under way has ended with this answer, whole or not: count it, once."""
        if self._open is not None:
            (sent, params), self._open = self._open, None
            self._count(sent, params, answer)

    # ---------------------------------------------------------------- around a request

    def _window(self, params: dict[str, Any]) -> Window:
        return Window(self._head, self._turns, params["messages"][self._known :])

    async def _fit(self, params: dict[str, Any]) -> list[Message]:
        made = await self._room.fit(self._window(params), params, self._asker(params))
        self._check(made, params)
        return made

    async def _refit(self, sent: list[Message], params: dict[str, Any], error: APIError) -> list[Message]:
        """Messages that take less; raises the server's error where there are none."""
        made = await self._room.refit(self._window(params), sent, params, error, self._asker(params))
        if made is None:
            raise error
        self._check(made, params)
        return made

    def _check(self, messages: Sequence[Message], params: dict[str, Any]) -> None:
        if self._spend.budget is not None:
            tokens = self._room.count(messages, params).tokens
            self._spend.check(self._model(params), tokens, of_answer(params))

    async def _charged(self, sent: Sequence[Message], params: dict[str, Any], work: Awaitable[T]) -> T:
        """What a call gives; of one that fails after its request was sent, which a server may charge, the prompt."""
        try:
            self._call = None
            return await work
        except BaseException as error:
            for _ in range(_sends(error, self._call)):
                tokens = self._room.count(sent, params).tokens
                self._spend.add(self._model(params), None, (tokens, 0))
            raise

    def _count(self, sent: Sequence[Message], params: dict[str, Any], answer: Any) -> None:
        estimate = self._room.answered(sent, params, answer)
        self._spend.add(self._model(params), answer.usage, estimate)

    def _model(self, params: dict[str, Any]) -> str:
        models = self.config.models
        return str(params.get("model") or models.get("chat") or models.get("") or "")

    def _asker(self, params: dict[str, Any]) -> Any:
        """Asks the model for a summary: with the model and the call's options of the turn, and nothing else of it."""
        kept = {name: value for name, value in params.items() if name in OPTION_NAMES or name == "model"}

        async def ask(messages: list[Message], most: int) -> str:
            from ..endpoints import CHAT_COMPLETIONS_CREATE

            # In whichever word the turn sets its own limit: there are servers that know one of the two only.
            if "max_tokens" in params:
                self._room.answer_limit = "max_tokens"
            made = {**kept, "messages": messages, self._room.answer_limit: most}
            self._check(messages, made)
            try:
                work = super(SessionCalls, self).run(CHAT_COMPLETIONS_CREATE, made)
                answer = await self._charged(messages, made, work)
            except APIStatusError as error:
                if self._room.answer_limit not in made or not names_parameter(error, [self._room.answer_limit]):
                    raise
                del made[self._room.answer_limit]
                self._room.answer_limit = _OTHER_WORD[self._room.answer_limit]
                made[self._room.answer_limit] = most
                work = super(SessionCalls, self).run(CHAT_COMPLETIONS_CREATE, made)
                answer = await self._charged(messages, made, work)
            self._spend.add(self._model(made), answer.usage, self._room.weight_of(messages, answer))
            return mended(cast("str", answer.text))

        return ask


def _sends(error: BaseException, call: Call | None) -> int:
    """How often the request of a failed call may have been answered in vain, and charged.

    A server does not charge for what it refuses. A cancelled call may have been sent if a try of it was under way.
    """
    if isinstance(error, asyncio.CancelledError):
        return int(call is not None and call.under_way)
    if isinstance(error, APIResponseValidationError) or (isinstance(error, OpenAIError) and error.sent):
        return max(1, error.tries)
    return 0
