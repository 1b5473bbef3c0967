"""The bulk engine's only access to the engine: one attempt of a `Work`, and the limits in its response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any

from msgspec.structs import replace

from ..core.model.meta import Meta, RequestInfo
from ..core.policy.estimate import usage_of
from ..core.policy.retry import retryable_status
from ..engine.engine import Engine
from ..engine.upstream import Connections
from ..errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    OpenAIError,
)
from .row import Outcome, Work

__all__ = ["Reached", "is_passing", "loses_server", "replay", "send"]

_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
                       "insufficient_user_quota"})  # fmt: skip


async def send(engine: Engine, work: Work) -> tuple[Meta, Outcome]:
    """Make one attempt and return the call's metadata and the outcome. Raises `OpenAIError` for any failure.

    The answer is decoded here: a 2xx with an invalid body is a failure like any other.
    """
    request = work.request
    request.max_retries = 0
    request.idempotency_key = work.idempotency_key
    meta, body = await engine.fetch(request)
    answer: Any = engine.made(request, meta, body)
    if answer.__class__ is CoroutineType:
        answer = await answer
    return meta, Outcome(
        status=meta.status, body=body, answer=answer, meta=meta, usage=usage_of(answer), seconds=meta.total
    )


def replay(engine: Engine, work: Work, body: bytes) -> Outcome:
    """Return the outcome of a row whose answer is available. Raises `OpenAIError` if it cannot be decoded."""
    endpoint, base = work.request.endpoint, engine.config.base
    meta = Meta(200, b"", RequestInfo(endpoint.method, base.root, base.target(work.request.path)), tries=0)
    answer = engine.decode(work.request, meta, body)
    return Outcome(status=200, body=body, answer=answer, meta=meta, usage=usage_of(answer), cached=True)


def loses_server(error: OpenAIError) -> str:
    """Return why a server must not be used again (quota used up, key refused), or ``""``."""
    if not isinstance(error, APIError):
        return ""
    if {error.code, error.type} & _NO_QUOTA or getattr(error, "status_code", None) == 402:
        return "quota"
    return "credentials" if isinstance(error, AuthenticationError) else ""


def is_passing(error: OpenAIError) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(error, APIStatusError):
        return retryable_status(error.status_code, error.response.headers, error.code, error.type)
    return error.retryable or isinstance(error, (APIConnectionError, APIResponseValidationError))


class Reached:
    """The connections to one server for one run: a large pool, with slots managed by the scheduler.

    A client has few connections (two, for `Client`) and its own queue of calls, so a run opens a separate pool and
    closes it at the end. A caller's transport or HTTP client is used unchanged.
    """

    def __init__(self, engine: Engine, on_close: Callable[[], object]) -> None:
        config: Any = engine.config
        self._own: Connections | None = None
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._on_close = on_close
        shared = engine.shared
        if hasattr(config, "max_connections_per_host") and config.own_transport is None and config.http_client is None:
            config = replace(config, max_connections_per_host=None)
            self._own = Connections(None, config.transport)
        self.engine: Engine = Engine(config, self._own or shared.aside())
        self.engine.others = ()
        self.engine.upstream = engine.upstream  # the state of the server, and its retry budget
        shared.admit(self)

    def drop(self) -> None:
        """Note that the client was closed."""
        self._on_close()

    def aclose(self) -> Awaitable[None]:
        """Close the connections of this run."""
        return asyncio.sleep(0) if self._own is None else self._own.aclose()
