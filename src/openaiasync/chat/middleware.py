"""What stands around the requests of one session's turn: each is made to fit, each answer is counted."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from ..core.codec.dialects import names_parameter
from ..core.codec.endpoint import Endpoint, Request
from ..core.policy.options import OPTION_NAMES
from ..engine.call import Call
from ..engine.engine import Engine, Middleware
from ..engine.streams import AsyncStream
from ..errors import APIError, APIResponseValidationError, APIStatusError, OpenAIError
from .context_window import ContextWindow, Window, of_answer
from .history import Message, Turn, mended
from .usage import UsageTracker

__all__ = ["SessionMiddleware"]

T = TypeVar("T")

_OTHER_WORD = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
_REFITS = 4  # how often one request is made shorter, where the server does not say by how much


class SessionMiddleware(Middleware):
    """Fits each request of a turn into the context window and the budget, and counts what each answer used.

    Requests are made with all messages, those of the history first; what there is room for is sent.
    """

    def __init__(
        self, inner: Engine, room: ContextWindow, spend: UsageTracker, head: Sequence[Message], turns: Sequence[Turn]
    ) -> None:
        super().__init__(inner)
        self._room = room
        self._spend = spend
        self._head = head
        self._turns = turns
        self._known = len(head) + sum(len(turn.messages) for turn in turns)
        # The parameters of streams that are still to be opened.
        self._params: weakref.WeakKeyDictionary[Request, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._open: tuple[list[Message], dict[str, Any]] | None = None  # what a stream was opened with
        self._shortened = 0  # streams of this turn that were refused when they had begun

    async def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        """Return the answer. Raises `ContextLimitError` and `BudgetError` before anything is sent, else as calls do."""

        def send(messages: list[Message]) -> Awaitable[Any]:
            return self._answer(endpoint, {**params, "messages": messages}, params)

        sent, answer = await self._fitting(params, send)
        self._count(sent, params, answer)
        return answer

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Request:
        """Return the `Request` for these parameters; that of a stream is made to fit when it is opened."""
        request = self.inner.request(endpoint, params, stream)
        if stream:
            self._params[request] = params
        return request

    async def open(self, request: Request) -> AsyncStream[Any]:
        """Return the stream. Raises what `run` raises. Hand its answer to `counted`."""
        params = self._params.pop(request, None)
        if params is None:
            return await self.inner.open(request)

        def send(messages: list[Message]) -> Awaitable[AsyncStream[Any]]:
            made = request
            if messages != params["messages"]:
                made = self.inner.request(request.endpoint, {**params, "messages": messages}, stream=True)
                made.unasked = request.unasked
            call = Call(self.inner, made)
            return self._charged(call, messages, params, call.run(AsyncStream.start))

        sent, stream = await self._fitting(params, send)
        self._open = (sent, params)
        return stream

    async def _fitting(
        self, params: dict[str, Any], send: Callable[[list[Message]], Awaitable[T]]
    ) -> tuple[list[Message], T]:
        """Send what there is room for, and less where the server says that it is too long."""
        sent = await self._fit(params)
        left = _REFITS
        while True:
            try:
                return sent, await send(sent)
            except APIError as error:
                if not left:
                    raise
                left -= 1
                sent = await self._refit(sent, params, error)

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

    def _answer(self, endpoint: Endpoint, made: dict[str, Any], params: dict[str, Any]) -> Awaitable[Any]:
        call = Call(self.inner, self.inner.request(endpoint, made))
        return self._charged(call, made["messages"], params, call.run(self.inner.receive))

    async def _charged(self, call: Call, sent: Sequence[Message], params: dict[str, Any], work: Awaitable[T]) -> T:
        """Return what a call returns; count the prompt of one that fails after it was sent: it may be charged."""
        try:
            return await work
        except BaseException as error:
            for _ in range(_sends(error, call)):
                tokens = self._room.count(sent, params).tokens
                self._spend.add(self._model(params), None, (tokens, 0))
            raise

    def _count(self, sent: Sequence[Message], params: dict[str, Any], answer: Any) -> None:
        estimate = self._room.answered(sent, params, answer)
        self._spend.add(self._model(params), answer.usage, estimate)

    def _model(self, params: dict[str, Any]) -> str:
        models = self.inner.config.models
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
                answer = await self._answer(CHAT_COMPLETIONS_CREATE, made, made)
            except APIStatusError as error:
                if self._room.answer_limit not in made or not names_parameter(error, [self._room.answer_limit]):
                    raise
                del made[self._room.answer_limit]
                self._room.answer_limit = _OTHER_WORD[self._room.answer_limit]
                made[self._room.answer_limit] = most
                answer = await self._answer(CHAT_COMPLETIONS_CREATE, made, made)
            self._spend.add(self._model(made), answer.usage, self._room.weight_of(messages, answer))
            return mended(cast("str", answer.text))

        return ask


def _sends(error: BaseException, call: Call) -> int:
    """Return how often the request of a failed call may have been answered in vain, and charged.

    A server does not charge for what it refuses. A cancelled call may have been charged if an attempt was under way.
    """
    if isinstance(error, asyncio.CancelledError):
        return int(call.under_way)
    if isinstance(error, APIResponseValidationError) or (isinstance(error, OpenAIError) and error.sent):
        return max(1, error.tries)
    return 0
