"""The middleware of a session's turn: it makes each request fit, and counts what each answer used."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from ..core.codec.dialects import names_parameter
from ..core.codec.endpoint import Endpoint, Request
from ..core.model.plain import mended
from ..core.policy.request_options import OPTION_NAMES
from ..engine.call import Call
from ..engine.config import default_model
from ..engine.engine import Engine, Middleware
from ..engine.streams import AsyncStream
from ..errors import APIError, APIResponseValidationError, APIStatusError, OpenAIError
from .context_window import ContextWindow, PendingMessages, answer_limit
from .history import Message, Turn
from .usage import UsageTracker

__all__ = ["SessionMiddleware"]

T = TypeVar("T")

_OTHER_NAME = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
_REFITS = 4  # attempts to shorten a request if the server does not say by how much


class SessionMiddleware(Middleware):
    """Fits each request of a turn into the context window and the budget, and counts what each answer used.

    The turn requests an answer to all messages, those of the history first; only those that fit are sent.
    """

    def __init__(
        self,
        inner: Engine,
        window: ContextWindow,
        usage: UsageTracker,
        head: Sequence[Message],
        turns: Sequence[Turn],
    ) -> None:
        super().__init__(inner)
        self._window = window
        self._usage = usage
        self._head = head
        self._turns = turns
        self._known = len(head) + sum(len(turn.messages) for turn in turns)
        # The parameters of streams that have not been opened yet.
        self._params: weakref.WeakKeyDictionary[Request, dict[str, Any]] = weakref.WeakKeyDictionary()
        # the arguments with which the current stream was opened
        self._open: tuple[list[Message], dict[str, Any]] | None = None
        self._shortened = 0  # streams of this turn that were refused after they had started

    async def run(self, endpoint: Endpoint, params: dict[str, Any]) -> Any:
        """Return the answer.

        Raises `ContextLimitError` and `BudgetError` before anything is sent, and the errors of calls.
        """

        def send(messages: list[Message]) -> Awaitable[Any]:
            return self._answer(endpoint, {**params, "messages": messages}, params)

        sent, answer = await self._fitting(params, send)
        self._count(sent, params, answer)
        return answer

    def request(self, endpoint: Endpoint, params: dict[str, Any], stream: bool | None) -> Request:
        """Return the `Request` for these parameters. A stream's request is fitted when the stream is opened."""
        request = self.inner.request(endpoint, params, stream)
        if stream:
            self._params[request] = params
        return request

    async def open(self, request: Request) -> AsyncStream[Any]:
        """Return the stream; pass its answer to `counted`. Raises the errors of `run`."""
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

    async def shortened(self, error: APIError) -> bool:
        """Return whether the current stream was refused as too long after it had started, and a shorter one was made.

        LM Studio and gateways answer 200 before they check the prompt.
        """
        if self._open is None:
            return False
        (sent, params), self._open = self._open, None
        self._shortened += 1
        return self._shortened <= _REFITS and await self._refit(sent, params, error) is not None

    def counted(self, answer: Any) -> None:
        """Count the answer of the current stream, complete or not. A stream is counted once."""
        if self._open is not None:
            (sent, params), self._open = self._open, None
            self._count(sent, params, answer)

    # ---------------------------------------------------------------- around a request

    async def _fitting(
        self, params: dict[str, Any], send: Callable[[list[Message]], Awaitable[T]]
    ) -> tuple[list[Message], T]:
        """Send the messages that fit, and fewer of them each time the server says that they are too long."""
        sent = await self._window.fit(self._pending(params), params, self._asker(params))
        for left in reversed(range(_REFITS + 1)):
            self._check(sent, params)
            try:
                return sent, await send(sent)
            except APIError as error:
                shorter = await self._refit(sent, params, error) if left else None
                if shorter is None:
                    raise
                sent = shorter
        raise AssertionError("unreachable")

    def _pending(self, params: dict[str, Any]) -> PendingMessages:
        return PendingMessages(self._head, self._turns, params["messages"][self._known :])

    async def _refit(self, sent: list[Message], params: dict[str, Any], error: APIError) -> list[Message] | None:
        return await self._window.refit(self._pending(params), sent, params, error, self._asker(params))

    def _check(self, messages: Sequence[Message], params: dict[str, Any]) -> None:
        if self._usage.budget is not None:
            tokens = self._window.count(messages, params).tokens
            self._usage.check(self._model(params), tokens, answer_limit(params))

    def _answer(self, endpoint: Endpoint, made: dict[str, Any], params: dict[str, Any]) -> Awaitable[Any]:
        call = Call(self.inner, self.inner.request(endpoint, made))
        return self._charged(call, made["messages"], params, call.run(self.inner.receive))

    async def _charged(self, call: Call, sent: Sequence[Message], params: dict[str, Any], work: Awaitable[T]) -> T:
        """Return the result of a call. Count the prompt of one that fails after it was sent: it may be charged."""
        try:
            return await work
        except BaseException as error:
            for _ in range(_charges(error, call)):
                tokens = self._window.count(sent, params).tokens
                self._usage.add(self._model(params), None, (tokens, 0))
            raise

    def _count(self, sent: Sequence[Message], params: dict[str, Any], answer: Any) -> None:
        estimate = self._window.learn_usage(sent, params, answer)
        self._usage.add(self._model(params), answer.usage, estimate)

    def _model(self, params: dict[str, Any]) -> str:
        return str(params.get("model") or default_model(self.inner.config.models, ("chat",)) or "")

    def _asker(self, params: dict[str, Any]) -> Callable[[list[Message], int], Awaitable[str]]:
        """Return a function that asks for a summary, with the model and the call options of the turn only."""
        kept = {name: value for name, value in params.items() if name in OPTION_NAMES or name == "model"}

        async def ask(messages: list[Message], most: int) -> str:
            from ..endpoints import CHAT_COMPLETIONS_CREATE

            # By the name that the turn uses for its own limit: some servers know only one of the two.
            if "max_tokens" in params:
                self._window.limit_name = "max_tokens"
            made = {**kept, "messages": messages, self._window.limit_name: most}
            self._check(messages, made)
            try:
                answer = await self._answer(CHAT_COMPLETIONS_CREATE, made, made)
            except APIStatusError as error:
                if self._window.limit_name not in made or not names_parameter(error, [self._window.limit_name]):
                    raise
                del made[self._window.limit_name]
                self._window.limit_name = _OTHER_NAME[self._window.limit_name]
                made[self._window.limit_name] = most
                answer = await self._answer(CHAT_COMPLETIONS_CREATE, made, made)
            self._usage.add(self._model(made), answer.usage, self._window.weight_of(messages, answer))
            return mended(cast("str", answer.text))

        return ask


def _charges(error: BaseException, call: Call) -> int:
    """Return how often a failed call may have been charged although it returned no answer.

    Servers do not charge for requests that they refuse. A cancelled call may be charged if it was being sent.
    """
    if isinstance(error, asyncio.CancelledError):
        return int(call.under_way)
    if isinstance(error, APIResponseValidationError) or (isinstance(error, OpenAIError) and error.sent):
        return max(1, error.tries)
    return 0
