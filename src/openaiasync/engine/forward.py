"""Forward requests of other clients: bytes in, bytes out, by the same driver as every call.

`forward` is the `Receive` of such a call: it hands over the response at its first bytes and decodes nothing. Until then
a failure is one of the attempt, and the retry policy decides; afterwards nothing is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from functools import cached_property
from typing import Any

import msgspec

from ..core.codec.endpoint import Endpoint
from ..core.policy.estimate import Usage
from ..transport.base import TransportError, TransportResponse
from .body import content_coding
from .call import Call

__all__ = ["ForwardedResponse", "forward", "forwarding_endpoint", "usage_in"]

_USAGE = re.compile(rb'"usage"\s*+:\s*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


class _Counts(msgspec.Struct, gc=False):
    prompt_tokens: object = None
    completion_tokens: object = None
    input_tokens: object = None
    output_tokens: object = None


_counts = msgspec.json.Decoder(_Counts)


def forwarding_endpoint(
    name: str, method: str, path: str, fields: tuple[tuple[str, str], ...], *, balanced: bool
) -> Endpoint:
    """Return the endpoint of requests with this path (and query) and these header fields.

    Requests of one endpoint share their prepared head (`PreparedRequest`). `balanced`: any of several servers may be
    sent the request; otherwise the call's own is.
    """
    static = "\n".join(f"{field}={value}" for field, value in fields)
    return Endpoint(name, method, path, codec="bytes", group="forward" if balanced else "", headers=static)


def usage_in(tail: bytes) -> Usage | None:
    """Return the tokens that an answer took by its last ``usage``; `None` if these bytes hold none.

    `tail` is the end of a JSON body, or of an event stream. In a string of JSON the quotes around the name would be
    escaped, so that what a model says is not taken for it.
    """
    at = len(tail)
    while (at := tail.rfind(b'"usage"', 0, at)) >= 0:
        found = _USAGE.match(tail, at)
        if found is None:
            continue
        try:
            counts = _counts.decode(found[1])
        except ValueError:
            continue
        spent, made = counts.prompt_tokens, counts.completion_tokens
        if spent is None:
            spent, made = counts.input_tokens, counts.output_tokens
        if isinstance(spent, int) and spent >= 0:
            return Usage(spent, made if isinstance(made, int) and made >= 0 else 0)
    return None


class ForwardedResponse:
    """A 2xx that is handed over: `status`, `raw_fields`, and its whole `body`, or `first` pieces and `pieces`."""

    __slots__ = ("__dict__", "_response", "body", "call", "first", "raw_fields", "status")

    def __init__(self, call: Call, response: TransportResponse, body: bytes | None, first: list[bytes]) -> None:
        self.call: Call = call
        self.status: int = response.status
        self.raw_fields: bytes = response.raw_fields
        self.body: bytes | None = body
        """The body if it has arrived as a whole. `None`: read `first`, then `pieces`."""
        self.first: list[bytes] = first
        self._response = response

    @cached_property
    def usage(self) -> Any:
        """The tokens of a whole answer, as limits on tokens count them."""
        found = None if self.body is None or content_coding(self.raw_fields) else usage_in(self.body[-65_536:])
        return None if found is None else _Counts(prompt_tokens=found.input, completion_tokens=found.output)

    @property
    def ended(self) -> bool:
        """Whether all of the body has been returned."""
        return self._response.ended

    @property
    def exact(self) -> bool:
        """Whether the body ended where its framing says, and not with the connection."""
        return self._response.exact

    async def pieces(self) -> list[bytes]:
        """Return the pieces that have arrived, waiting for one if needed; ``[]`` at the end.

        The stall timeout covers each wait. Raises the public error if the body breaks, which the server's breaker
        learns.
        """
        call, response = self.call, self._response
        stall = call.timeouts.stall
        response.expire(None if stall is None else call.loop.time() + stall, "stall")
        try:
            return await response.pieces()
        except TransportError as failure:
            raise call.lost(failure) from None

    def release(self) -> None:
        """Release the connection and the slot. Idempotent."""
        self.call.release()


def forward(call: Call, response: TransportResponse) -> ForwardedResponse | Coroutine[Any, Any, ForwardedResponse]:
    """Hand over a response once its first bytes are there; see `Receive`."""
    body = response.take()
    if body is not None:
        return ForwardedResponse(call, response, body, [])
    return _first_bytes(call, response)


async def _first_bytes(call: Call, response: TransportResponse) -> ForwardedResponse:
    call.expect_event(response)
    first = await response.pieces()
    if response.ended:
        return ForwardedResponse(call, response, b"".join(first), [])
    call.keep()
    return ForwardedResponse(call, response, None, first)
