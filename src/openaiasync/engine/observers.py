"""Observers of calls: the interface of hooks, telemetry and the log, and the base of its dispatcher.

An observer of a client (`CallConfig.observers`) is a function that takes a `Call` and returns a `CallObserver` for it.
The driver notifies `Call.observers`, which is `NOBODY` without observers and then costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from ..lazy import resolve_annotations

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
        """Note that a request is about to be sent: the first, a retry, or one to a redirect's target.

        May change `call.extra`.
        """

    def sent(self, call: Call) -> None:
        """Note that the request of an attempt, `call.out`, is composed."""

    def responded(self, call: Call, response: TransportResponse) -> None:
        """Note that the head of a response of any status has arrived."""

    def head(self, meta: Meta) -> None:
        """Note that the head of a 2xx has arrived."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """Note that an attempt failed with this error; the next one begins after this many seconds."""

    def item(self, item: object) -> None:
        """Note that an event of a stream was delivered, or (`None`) bytes have arrived."""

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        """Note that the call succeeded; `made` returns the answer, or `None` if it is not kept.

        For a body that the caller reads, this is called when its head arrives.
        """

    def failed(self, error: Exception) -> Awaitable[object] | None:
        """Note that the call ended with this error. Not called for the caller's cancellation."""

    def ended(self, outcome: Outcome, error: BaseException | None) -> None:
        """Note that the call is over.

        If a hook raised an exception, `error` differs from the one passed to `failed`.
        """


class Observers:
    """The interface through which the driver notifies a call's observers.

    In this base class no method has any effect.
    """

    async def sending(self) -> None:
        """Note that a request is about to be sent."""

    def sent(self) -> None:
        """Note that the request of an attempt is composed."""

    def responded(self, response: TransportResponse) -> None:
        """Note that the head of a response has arrived."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """Note that the attempt failed with this error; the next one begins after this many seconds."""

    def item(self, item: object) -> None:
        """Note that a piece of the answer was delivered: an event, or bytes (`None`)."""

    async def answered(self, made: Callable[[], object]) -> None:
        """Note that the call succeeded; `made` returns the answer on request. Raises a hook's exception."""

    async def failed(self, error: BaseException) -> None:
        """Note that the call ended with this error, or with the caller's cancellation. Raises a hook's exception."""

    async def handed_over(self) -> None:
        """Note that the head of the answer was returned to the caller, who reads the body."""

    def released(self, response: TransportResponse | None) -> None:
        """Note that the call has released its slot; `response` is the last one it read."""

    def closed(self) -> None:
        """Note that the answer was closed before its end. No effect after the end."""

    def closed_soon(self) -> None:
        """Note the same from a finalizer: the work is deferred until the event loop runs."""


NOBODY = Observers()
logger: logging.Logger = logging.getLogger("openaiasync")

resolve_annotations(__name__)
