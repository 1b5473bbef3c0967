"""Forward requests of other clients: bytes in, bytes out, by the same driver as every call.

`forward` is the `Receive` of such a call: it hands over the response at its first bytes and decodes nothing. Until then
a failure is one of the attempt, and the retry policy decides; afterwards nothing is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import msgspec

from ..core.codec.endpoint import Endpoint
from ..core.policy.estimate import MOST_TOKENS, Usage
from ..transport.base import TransportError, TransportResponse
from .call import Call

__all__ = ["ForwardedResponse", "forward", "forwarding_endpoint", "usage_in", "usage_of_body"]

_NAME = b'"usage"'
_LONGEST_USAGE = 8 * 1024  # bytes of a usage object that is read
_MOST_DAMAGED = 100  # objects that are not JSON, after which the search ends: each costs the time of a long one
_decode_at = json.JSONDecoder().raw_decode


def forwarding_endpoint(
    name: str, method: str, path: str, fields: tuple[tuple[str, str], ...], *, balanced: bool
) -> Endpoint:
    """Return the endpoint of requests with this path (and query) and these header fields.

    Requests of one endpoint share their prepared head (`PreparedRequest`). `balanced`: any of several servers may be
    sent the request; otherwise the call's own is.
    """
    static = "\n".join(f"{field}={value}" for field, value in fields)
    return Endpoint(name, method, path, codec="bytes", group="forward" if balanced else "", headers=static)


class _Counts(msgspec.Struct, gc=False):
    prompt_tokens: object = None
    completion_tokens: object = None
    input_tokens: object = None
    output_tokens: object = None
    total_tokens: object = None


class _ReportedUsage(msgspec.Struct, gc=False):
    usage: _Counts | None = None


_counts = msgspec.json.Decoder(_Counts)
_reported = msgspec.json.Decoder(_ReportedUsage)


def usage_of_body(body: bytes) -> Usage | None:
    """Return the usage of a whole answer; `None` if it reports none."""
    if body.startswith(b"{"):
        try:
            counts = _reported.decode(body).usage
        except (ValueError, RecursionError):
            counts = None
        if counts is not None and (usage := _usage_of(counts)) is not None:
            return usage
    return usage_in(body)


def usage_in(data: bytes) -> Usage | None:
    """Return the largest ``usage`` in these bytes, an event stream or a part of an answer; `None` without usage.

    The largest one counts because streams may report a running total, and because an answer may echo parts of its
    request, which must not lower what a caller has used. In a JSON string the quotes around the name would be escaped,
    so what a model says is not taken for usage.
    """
    found: Usage | None = None
    damaged = 0
    at = data.find(_NAME)
    while at >= 0 and damaged < _MOST_DAMAGED:
        at += len(_NAME)
        opening = data.find(b"{", at, at + 16)
        if opening >= 0 and data[at:opening].strip() == b":":
            try:
                # `json` stops at the end of the object; in Latin-1 each byte is a character.
                length = _decode_at(data[opening : opening + _LONGEST_USAGE].decode("latin-1"))[1]
                usage = _usage_of(_counts.decode(data[opening : opening + length]))
            except (ValueError, RecursionError):
                damaged += 1
            else:
                at = opening + length
                if usage is not None and (found is None or sum(usage) > sum(found)):
                    found = usage
        at = data.find(_NAME, at)
    return found


def _usage_of(counts: _Counts) -> Usage | None:
    spent, made, total = _count(counts.prompt_tokens), _count(counts.completion_tokens), _count(counts.total_tokens)
    if spent is None and made is None:
        spent, made = _count(counts.input_tokens), _count(counts.output_tokens)
    if spent is None:
        if made is None:  # rerankers report the total alone
            return None if total is None else Usage(total, 0)
        spent = max(0, (total or 0) - made)
    # Gemini does not include the tokens of its reasoning in completion_tokens, only in the total.
    return Usage(spent, max(made or 0, (total or 0) - spent))


def _count(value: object) -> int | None:
    if (type(value) is int or type(value) is float) and 0 <= value <= MOST_TOKENS:
        return int(value)
    return None


class ForwardedResponse:
    """A 2xx that is handed over: `status`, `raw_fields`, and its whole `body`, or `first` pieces and `pieces`."""

    __slots__ = ("_response", "body", "call", "first", "raw_fields", "status")

    def __init__(self, call: Call, response: TransportResponse, body: bytes | None, first: list[bytes]) -> None:
        self.call: Call = call
        self.status: int = response.status
        self.raw_fields: bytes = response.raw_fields
        self.body: bytes | None = body
        """The body if it has arrived as a whole. `None`: read `first`, then `pieces`."""
        self.first: list[bytes] = first
        self._response = response

    def settle(self, usage: Usage | None) -> None:
        """Correct the tokens that limits have booked for the call, once its usage is known."""
        pace = self.call.engine.shared.pace
        if pace is not None and usage is not None:
            pace.settle(self.call, usage)

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
        """Release the connection and the slot, which a whole body does not keep. Idempotent."""
        if self.body is None:
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
