"""One request on its way through a front: attempts, answer, tokens, and how failures reach its client.

`Call.run(forward)` is its life, with the retries, the breaker and the slots of the client. Bodies and events are passed
on as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any, Final

import msgspec

from ...core.codec.dialects import lacks_model
from ...core.codec.endpoint import Request
from ...core.policy.breaker import LONGEST_PAUSE
from ...core.policy.estimate import TokenEstimate, Usage
from ...engine.answer_cache import AnswerCache
from ...engine.body import content_coding
from ...engine.call import Call
from ...engine.forward import ForwardedResponse, forward, usage_of_body
from ...errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ClientClosedError,
    ConfigurationError,
    InFlightError,
    OpenAIError,
)
from ..context import RequestContext, error_event
from ..errors import HTTPError
from ..presence import ClientLeft, Presence, ResponseBroken
from ..quota import ServerMetrics
from .accounts import KeyRing, UsageTable
from .passing import BYTES_A_TOKEN, AnswerTail, EventBoundary, StreamedBody, response_fields
from .upstreams import UpstreamGroup, UpstreamMember

__all__ = ["FrontState", "Passage", "refusal_for"]

_LAST_EVENT: Final = 1.0  # seconds for a client to take the event that ends a broken stream
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_RATE_FIELDS: Final = (b"x-ratelimit-",)
_CORS_FIELDS: Final = (b"access-control-",)
_GENERATING: Final = frozenset({"chat.completions.create", "completions.create", "responses.create"})
_RESPONSE_ID: Final = re.compile(rb'"id"\s*:\s*"(resp_[\w-]{1,200})"')
_estimate: Final = TokenEstimate()


class _Error(msgspec.Struct, gc=False):
    error: Any = None


_error_in = msgspec.json.Decoder(_Error)

Fields = list[tuple[bytes, bytes]]


class FrontState:
    """What all requests of a front share."""

    __slots__ = ("active", "cache", "cors", "group", "max_queue", "metrics", "ring", "usage")

    def __init__(
        self, group: UpstreamGroup, ring: KeyRing, metrics: ServerMetrics, *, max_queue: int, cors: bool
    ) -> None:
        self.group: UpstreamGroup = group
        self.ring: KeyRing = ring
        self.metrics: ServerMetrics = metrics
        self.usage: UsageTable = UsageTable()
        self.cache: AnswerCache | None = None
        self.max_queue: int = max_queue
        self.cors: bool = cors
        self.active: int = 0
        """Requests that have a slot, or wait for one."""


class Passage:
    """One request on its way through the front."""

    __slots__ = (
        "_booked",
        "_boundary",
        "_call",
        "_context",
        "_state",
        "_tail",
        "above",
        "cache_key",
        "caller",
        "model",
        "owner",
        "request",
    )

    def __init__(
        self,
        state: FrontState,
        context: RequestContext,
        caller: str,
        request: Request,
        *,
        model: str | None,
        owner: int | None,
        above: bool,
    ) -> None:
        """`owner` is the number of the one upstream that may be asked, if it is known. `above`: see `UpstreamGroup`."""
        self._state = state
        self._context = context
        self.caller: str = caller
        self.request: Request = request
        self.model: str | None = model
        self.owner: int | None = owner
        self.above: bool = above
        self.cache_key: bytes | None = None
        self._call: Call | None = None
        self._tail: AnswerTail | None = None
        self._boundary: EventBoundary | None = None
        self._booked = 0

    async def run(self) -> None:
        """Answer the request. Raises `HTTPError` before the response has begun, `ResponseBroken` after it."""
        if self.cache_key is not None and await self._answer_from_cache():
            return
        self._book()
        answered = False
        try:
            await self._answer()
            answered = True
        except OpenAIError as error:
            if self._context.answering:
                raise
            await self._refuse(error)
        finally:
            if not answered:
                self._account_failure()

    # ---------------------------------------------------------------- the call

    async def _answer(self) -> None:
        context, state = self._context, self._state
        body = self.request.body
        receive = body.receive_after if isinstance(body, StreamedBody) else context.receive
        pinned: UpstreamMember | None = None
        state.active += 1
        try:
            presence = context.waiting(receive)
            async with presence:
                try:
                    if not self.request.endpoint.group:
                        pinned = state.group.member_of(state.group.engine(self.model, self.owner, above=self.above))
                        pinned.pinned += 1
                    response = await self._send()
                    try:
                        self._member.statuses[response.status] += 1
                        coding = content_coding(response.raw_fields)
                        if response.body is not None:
                            await self._pass_whole(response, response.body, coding)
                        else:
                            await self._pass_pieces(response, coding, presence)
                    finally:
                        response.release()
                finally:
                    state.active -= 1
                    if pinned is not None:
                        pinned.pinned -= 1
        except (ClientLeft, ResponseBroken):
            raise
        except (OpenAIError, asyncio.CancelledError) as error:
            if not context.answering:
                raise
            await self._end_broken(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ResponseBroken from None

    async def _send(self) -> ForwardedResponse:
        """Send the request, and return the response at its first bytes."""
        self._check_queue()
        group = self._state.group
        group.refresh_soon()
        while True:
            call = self._call = Call(group.engine(self.model, self.owner, above=self.above), self.request)
            self._check_reachable(call)
            if not call.balanced and self.request.endpoint.group:
                call.observe_health()  # there is no choice, but the metrics tell how the server does
            try:
                return await call.run(forward)
            except APIStatusError as error:
                model, member = self.model, self._member
                # The list of models was old or missing; another server may have the model.
                if model is None or self.owner is not None or not call.rewindable() or not lacks_model(error):
                    raise
                if len(group.members) == 1 or not group.lacks(member, model):
                    raise
                member.statuses[error.status_code] += 1

    def _check_queue(self) -> None:
        """Raise `HTTPError` (429) if the request would have to wait and the queue is full."""
        state = self._state
        limiter, pace = state.group.shared.limiter, state.group.shared.pace
        if limiter.size is None and pace is None:
            return
        full = limiter.size is not None and limiter.used >= limiter.size
        wait = 0.0
        if pace is not None:
            wait = pace.expected_wait(asyncio.get_running_loop())
        if (full or wait > 0) and state.active - limiter.used > state.max_queue:
            message = f"The server is busy: {limiter.used} requests are in flight, and {state.max_queue} may wait."
            raise HTTPError(429, message, code="server_busy", kind="requests", fields=_retry_after(max(wait, 1.0)))

    def _check_reachable(self, call: Call) -> None:
        """Raise `HTTPError` (503) if no upstream that may be sent the request can be reached, and no probe is due.

        Without it each request would wait for attempts that fail. Servers that answer with 5xx are tried all the same,
        since a request that makes them fail must not shut out others.
        """
        if not self.request.endpoint.group:
            return
        health = [one.upstream.health for one in (call.engine, *call.engine.others)]
        if not all(one.unreachable and one.breaker.is_open for one in health):
            return
        wait = min(one.breaker.ready_at() for one in health) - call.loop.time()
        if wait <= 0:
            return
        names = ", ".join(self._state.group.member_of(one).name for one in (call.engine, *call.engine.others))
        message = f"The upstream cannot be reached: {names}. It is tried again from time to time."
        raise HTTPError(
            503, message, code="upstream_unreachable", fields=_retry_after(min(max(wait, 1.0), LONGEST_PAUSE))
        )

    @property
    def _member(self) -> UpstreamMember:
        """The server of the last attempt."""
        group = self._state.group
        return group.members[0] if self._call is None else group.member_of(self._call.engine)

    # ---------------------------------------------------------------- the answer

    async def _pass_whole(self, response: ForwardedResponse, body: bytes, coding: str) -> None:
        """Pass on an answer that has arrived as a whole."""
        if coding or self.cache_key is not None:
            tail = AnswerTail(coding, events=_is_events(response.raw_fields), whole=self.cache_key is not None)
            tail.feed(body)
            self._keep(response, tail)
            usage, estimate = tail.usage(), tail.estimated_tokens
        else:
            usage, estimate = usage_of_body(body), len(body) // BYTES_A_TOKEN
        left = self._account(response, usage, estimate)
        context = self._context
        await context.begin(response.status, self._fields(response.raw_fields, left))
        await context.send_piece(body, more=False)

    async def _pass_pieces(self, response: ForwardedResponse, coding: str, presence: Presence) -> None:
        """Pass on an answer while it arrives."""
        context = self._context
        events = _is_events(response.raw_fields)
        boundary = self._boundary = EventBoundary() if events and not coding else None
        tail = self._tail = AnswerTail(coding, events=events, whole=self.cache_key is not None)
        left = self._state.ring.spend(self.caller, 0)
        await context.begin(response.status, self._fields(response.raw_fields, left))
        send = context.send_piece
        pieces = response.first
        while pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            tail.feed(data)
            if boundary is not None:
                data = boundary.feed(data)
            if response.ended:
                break
            if data:
                presence.expect_send()
                await send(data, more=True)
                presence.sent()
            pieces = await response.pieces()
        else:
            data = b""
        if boundary is not None:
            data += boundary.finish()
        response.release()
        presence.expect_send()
        if not response.exact and boundary is not None and not tail.completes_events:
            # The upstream closed the connection before the stream was complete, so the front does the same.
            await send(data, more=True)
            raise ResponseBroken
        self._account(response, tail.usage(), tail.estimated_tokens)
        self._tail = None
        if boundary is None or tail.completes_events:
            self._keep(response, tail)
        await send(data, more=False)

    def _fields(self, raw_fields: bytes, left: Fields | None) -> Fields:
        """Return the fields of a response: the upstream's, and the front's own where it has its own limits."""
        prefixes = (_RATE_FIELDS if left is not None else ()) + (_CORS_FIELDS if self._state.cors else ())
        fields = response_fields(raw_fields, prefixes=prefixes)
        own = self._context.fields  # the first is the request's id
        fields += own[1:] if b"x-request-id" in dict(fields) else own
        if left:
            fields += left
        return fields

    # ---------------------------------------------------------------- tokens

    def _book(self) -> None:
        """Count the tokens of the prompt by an estimate, so that requests sent at once do not exceed the limit."""
        if self._state.ring.counts_tokens(self.caller):
            self._booked = int(_estimate.of(self.request.body))
            self._state.ring.spend(self.caller, self._booked)

    def _account(self, response: ForwardedResponse, usage: Usage | None, estimate: int) -> Fields | None:
        """Count an answer and its tokens; return the fields that tell what its caller has left.

        Without usage, as in a stream whose client has not asked for it, limits count an `estimate` of the output.
        """
        state = self._state
        state.usage.count(self.caller, self.model, usage)
        response.settle(usage)
        if state.group.several and self.request.endpoint.name == "responses.create":
            first = response.body if response.body is not None else b"".join(response.first)
            if found := _RESPONSE_ID.search(first[:4096]):
                state.group.own(found[1].decode(), self._member)
        return self._spend(usage, estimate)

    def _spend(self, usage: Usage | None, estimate: int) -> Fields | None:
        if usage is None:
            tokens = self._booked + (estimate if self.request.endpoint.name in _GENERATING else 0)
        else:
            tokens = usage.input + usage.output
            member = self._member
            member.input_tokens += usage.input
            member.output_tokens += usage.output
            self._state.metrics.add_tokens(tokens)
        left = self._state.ring.spend(self.caller, tokens - self._booked)
        self._booked = tokens
        return left

    def _account_failure(self) -> None:
        """Count a request without a complete answer, and the tokens of what there was of it."""
        tail, self._tail = self._tail, None
        self._state.usage.fail(self.caller, self.model, None if tail is None else tail.usage())
        if tail is not None:
            self._spend(tail.usage(), tail.estimated_tokens)
        elif self._booked:
            self._state.ring.spend(self.caller, -self._booked)

    # ---------------------------------------------------------------- failures

    async def _refuse(self, error: OpenAIError) -> None:
        """Respond to a request that no upstream answered: with an upstream's error response, or with one of ours."""
        member = self._member
        if not isinstance(error, APIStatusError):
            member.statuses[0] += 1
            raise refusal_for(error, member)
        response = error.response
        member.statuses[response.status_code] += 1
        raw = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in response.headers.raw_pairs())
        fields = self._fields(raw, self._state.ring.spend(self.caller, 0))
        # The error was decoded, cut to 64 KiB, and rid of the front's own key.
        fields = [field for field in fields if field[0] not in (b"content-encoding", b"content-length")]
        content: bytes = response.content
        await self._context.begin(response.status_code, [*fields, (b"content-length", b"%d" % len(content))])
        await self._context.send_piece(content, more=False)

    async def _end_broken(self, error: BaseException) -> None:
        """Tell the client of a stream that it broke, in an event; other bodies can only be cut."""
        if self._boundary is None or self._tail is None or self._tail.completes_events:
            return
        if isinstance(error, OpenAIError):
            refusal = refusal_for(error, self._member)
        else:
            refusal = HTTPError(503, "The server is shutting down.", code="server_shutting_down")
        with contextlib.suppress(TimeoutError, ClientLeft):
            async with asyncio.timeout(_LAST_EVENT):
                await self._context.send_piece(error_event(refusal), more=True)

    # ---------------------------------------------------------------- the cache

    async def _answer_from_cache(self) -> bool:
        state, context = self._state, self._context
        assert self.cache_key is not None
        body = None if state.cache is None else state.cache.get(self.cache_key)
        if body is None:
            return False
        state.usage.count(self.caller, self.model, None, cached=True)
        left = state.ring.spend(self.caller, 0) or []
        kind = _JSON if body[:1] == b"{" else _EVENTS
        length = (b"content-length", b"%d" % len(body))
        await context.begin(200, [kind, length, (b"x-cache", b"hit"), *context.fields, *left])
        await context.send_piece(body, more=False)
        return True

    def _keep(self, response: ForwardedResponse, tail: AnswerTail) -> None:
        """Put a complete answer into the cache."""
        cache = self._state.cache
        if cache is None or self.cache_key is None or response.status != 200 or not response.exact:
            return
        body = tail.whole()
        if body is None:
            return
        if body[:1] == b"{":
            try:
                if _error_in.decode(body).error is not None:
                    return
            except (ValueError, RecursionError):
                return
        elif not tail.completes_events or b'"error":{' in body.replace(b'"error": {', b'"error":{'):
            return
        cache.put(self.cache_key, body)


def refusal_for(error: OpenAIError, member: UpstreamMember) -> HTTPError:
    """Return the response to a request that failed before an upstream responded."""
    if isinstance(error, APITimeoutError) and error.clock == "queue":
        message = "The server is busy: the request waited too long for a slot and was not sent."
        return HTTPError(429, message, code="server_busy", kind="requests", fields=_retry_after(1.0))
    if isinstance(error, APITimeoutError):
        return HTTPError(504, f"The upstream {member.name} did not respond in time: {error}", code="upstream_timeout")
    if isinstance(error, (ClientClosedError, InFlightError)):
        return HTTPError(503, "The server is shutting down.", code="server_shutting_down", fields=_retry_after(1.0))
    if isinstance(error, APIConnectionError):
        return HTTPError(502, f"The upstream {member.name} failed: {error}", code="upstream_failed")
    if isinstance(error, ConfigurationError):
        return HTTPError(400, f"The request cannot be passed on: {error}")
    return HTTPError(502, f"The response of the upstream {member.name} is not valid: {error}", code="upstream_invalid")


def _is_events(raw_fields: bytes) -> bool:
    return b"\r\ncontent-type: text/event-stream" in b"\r\n" + raw_fields.lower().replace(b":text", b": text")


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", b"%d" % max(1, -int(-seconds // 1))), (b"retry-after-ms", b"%d" % (seconds * 1000)))
