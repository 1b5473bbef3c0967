"""What watches one call: the interface that hooks and telemetry implement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..errors import OpenAIError
    from .observed import ObservedCall

__all__ = ["CallObserver", "Outcome"]

Outcome = Literal["answered", "failed", "cancelled", "closed"]
"""How a call ended; ``"closed"``: its stream was left before its end."""


class CallObserver:
    """One observer's view of one call. What it does not care for it leaves as it is.

    What a method raises fails the call, but for `ended`, which comes last, once, whatever happened, and never waits.
    """

    def sending(self, call: ObservedCall) -> Awaitable[object] | None:
        """A request is about to be sent: the first, a retry, or to where a redirect led. May change `call.extra`.

        What it answers is awaited.
        """

    def head(self, meta: Meta) -> None:
        """The head of a 2xx has come."""

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """What came was this error; the next try begins after so many seconds."""

    def item(self, item: object) -> None:
        """An event of a stream was delivered, or (`None`) bytes have come."""

    def answered(self, meta: Meta, made: Callable[[], Any]) -> Awaitable[object] | None:
        """The call ended well; `made` gives the answer, `None` where nothing keeps it. What it answers is awaited.

        Of a body that the caller reads himself: its head is there.
        """

    def failed(self, error: Exception) -> Awaitable[object] | None:
        """The call ended with this error. Not told of the caller's cancellation. What it answers is awaited."""

    def ended(self, outcome: Outcome, error: BaseException | None) -> None:
        """The call is over. The error may be another one than `failed` was told: what a hook raised."""
