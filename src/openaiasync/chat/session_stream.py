"""A session's turn as it goes: it waits for its place, and is part of the history once its last answer is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..engine.accumulating import ChatStream
from ..errors import APIError
from .turn import TurnStream

if TYPE_CHECKING:
    from .middleware import SessionCalls
    from .state import SessionState, StartedTurn, TurnRequest
    from .turn_lock import Ticket

__all__ = ["SessionStream"]

T = TypeVar("T")


class SessionStream(TurnStream[T]):
    """The next turn of a session, piece by piece: iterate it; `final()` is the whole `Reply`.

    Nothing is sent before it is entered or iterated; then it waits until the turns before it are over. Read to its
    end, the turn is part of the history. Left earlier, or failed, it never was: what had come is in `partial`, and in
    the session's `last_partial`. One pass, one reader.
    """

    _calls: SessionCalls  # from the beginning of the turn on

    def __init__(self, talk: SessionState, plan: TurnRequest) -> None:
        super().__init__(talk.calls, [], plan.params, plan.options)
        self._talk = talk
        self._plan = plan
        self._begun: StartedTurn | None = None
        self._place: Ticket | None = None

    async def _ask(self) -> None:
        if self._begun is not None:
            await super()._ask()
            return
        talk, plan = self._talk, self._plan
        self._place = await talk.order.enter()
        with self._place.inside():
            begun = await talk.begin(plan)
            if self._closed:
                raise RuntimeError("this stream was closed while it waited for its turn")
            self._begin(begun.calls, begun.messages, plan.params)
            self._begun = begun
            await super()._ask()

    async def _advance(self, step: Any) -> None:
        if self._place is None:
            await super()._advance(step)
        else:
            with self._place.inside():
                await super()._advance(step)

    async def _end_round(self, live: ChatStream) -> None:
        self._calls.counted(await live.final())
        await super()._end_round(live)
        if self._rounds.done and self._begun is not None:
            try:
                await self._talk.finish(self._begun, self._rounds.reply())
            finally:
                self._leave()

    async def _refits(self, error: APIError) -> bool:
        return await self._calls.shortened(error)

    async def _ask_again(self, live: ChatStream) -> None:
        self._calls.counted(live.partial)
        await super()._ask_again(live)

    async def _release(self) -> None:
        try:
            if self._place is not None and self._begun is not None:
                if (answer := self._under_way) is not None:
                    self._calls.counted(answer)
                self._talk.failed(self.partial)
        finally:
            try:
                await super()._release()
            finally:
                self._leave()

    def _leave(self) -> None:
        """Let the next turn begin; what was under way is over."""
        place, self._place = self._place, None
        if place is not None:
            self._talk.order.leave(place)
