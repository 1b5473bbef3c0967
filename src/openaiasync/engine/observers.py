"""Observers of calls: the interface of hooks, telemetry and the log, and the base of its dispatcher.

An observer of a client (`CallConfig.observers`) is a function that takes a `Call` and returns a `CallObserver` for it.
The driver notifies `Call.observers`, which is `NOBODY` without observers and then costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..errors import OpenAIError
    from ..transport.base import TransportResponse
    from .call import Call

__all__ = ["NOBODY", "CallObserver", "Observers", "Outcome", "logger"]

Outcome = Literal["answered", "failed", "cancelled", "closed"]
"""How a call ended; ``"closed"``: its stream was left before its end."""


class CallObserver:
    """One observer's view of one call. A subclass overrides what it is interested in.

    An exception in a method fails the call, except in `ended`, which is called last and exactly once, and not awaited.
    The results of `sending`, `answered` and `failed` are awaited.
    """

    def sending(self, call: Call) -> Awaitable[object] | None:
        """A request is about to be sent: the first, a retry, or to where a redirect led. May change `call.extra`."""

    def sent(self, call: Call) -> None:
        """The request of an attempt, `call.out`, is composed."""

    def responded(self, call: Call, response: TransportResponse) -> None:
        """The head of a response of any status has come."""

    def head(self, meta: Meta) -> None:
        """The head of a 2xx has come."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """An attempt failed with this error; the next one begins after this many seconds."""

    def item(self, item: object) -> None:
        """An event of a stream was delivered, or (`None`) bytes have come."""

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        """The call succeeded; `made` returns the answer, or `None` where it is not kept.

        For a body that the caller reads, this is called when its head arrives.
        """

    def failed(self, error: Exception) -> Awaitable[object] | None:
        """The call ended with this error. Not called for the caller's cancellation."""

    def ended(self, outcome: Outcome, error: BaseException | None) -> None:
        """The call is over. The error may be another one than `failed` was told: one that a hook raised."""


class Observers:
    """The observers of one call as its driver sees them. In this base class every method does nothing."""

    async def sending(self) -> None:
        """A request is about to be sent."""

    def sent(self) -> None:
        """The request of an attempt is composed."""

    def responded(self, response: TransportResponse) -> None:
        """The head of a response has come."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """The attempt failed with this error; the next one begins after this many seconds."""

    def item(self, item: object) -> None:
        """A piece of the answer was delivered: an event, or bytes (`None`)."""

    async def answered(self, made: Callable[[], object]) -> None:
        """The call succeeded; `made` returns the answer if an observer asks for it. Raises a hook's exception."""

    async def failed(self, error: BaseException) -> None:
        """The call ended with this error, or with the caller's cancellation. Raises a hook's exception."""

    async def handed_over(self) -> None:
        """The head of the answer was returned to the caller, who reads the body."""

    def released(self, response: TransportResponse | None) -> None:
        """The call has released its slot; `response` is the last one it read."""

    def closed(self) -> None:
        """The answer was closed before its end. No effect after the end."""

    def closed_soon(self) -> None:
        """As `closed`, from a finalizer: its work is deferred until the event loop runs."""


NOBODY = Observers()
logger: logging.Logger = logging.getLogger("openaiasync")
