"""Which clocks one call runs under: the client's, or those that the call itself names."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.codec.endpoint import Request
from ..transport.base import AttemptTimeouts
from .config import CallConfig

__all__ = ["CallTimeouts", "clocks_for", "sooner"]


class CallTimeouts(NamedTuple):
    """The clocks of a call, in seconds; `None` is "no limit". The rules stand in `docs/architecture.md`."""

    of_try: AttemptTimeouts  # for a try that neither `whole` nor a deadline ends
    connect: float | None
    start: float | None
    stall: float | None
    whole: float | None  # one try from its start to the end of the answer
    first: float | None  # one try from its start to the head, of a stream to its first event
    deadline: float | None  # all tries and pauses
    queue: float | None = None  # waiting for a slot, and for a connection
    fixed: bool = False  # every try runs under `of_try`: none of the last three is set


def clocks_for(config: CallConfig, request: Request) -> CallTimeouts:
    """The clocks of a call by its client's configuration and its own options; the official `timeout` wins over both."""
    connect, start, stall = config.connect_timeout, config.start_timeout, config.stall_timeout
    whole = first = None
    if request.has_timeout or config.has_timeout:
        timeout: Any = request.timeout if request.has_timeout else config.timeout
        read = timeout.read if hasattr(timeout, "read") else timeout
        start = stall = read
        if hasattr(timeout, "connect"):
            connect = timeout.connect
        elif read is not None and connect is not None:
            connect = min(connect, read)
        if not request.stream and request.endpoint.answer != "binary":
            whole = read
        else:
            first = read
    deadline = request.deadline if request.has_deadline else config.deadline
    # A stream's start lasts up to its first event: a head that drips must not begin another period.
    in_head = sooner(start, stall) if request.stream else stall
    of_try = AttemptTimeouts(connect, start, None, in_head, config.queue_timeout)
    fixed = whole is first is deadline is None
    return CallTimeouts(of_try, connect, start, stall, whole, first, deadline, config.queue_timeout, fixed)


def sooner(one: float | None, other: float | None) -> float | None:
    """The shorter of two times, where `None` is "no limit"."""
    return other if one is None else one if other is None else min(one, other)
