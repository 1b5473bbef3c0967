"""What calls write to the log ``openaiasync``: a line a call at INFO, header fields and times at DEBUG, never a secret.

``OPENAI_LOG=info`` or ``debug`` in the environment switches it on, as with the official client.
"""

from __future__ import annotations

import logging
import os
from logging import INFO
from typing import TYPE_CHECKING

from ..core.model.headers import Headers

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..errors import OpenAIError
    from ..transport.base import TransportResponse
    from .call import Call
    from .engine import Engine

__all__ = ["INFO", "answered", "logger", "retrying", "sending", "switch_on", "unfinished"]

logger: logging.Logger = logging.getLogger("openaiasync")


def switch_on() -> None:
    """Obey ``OPENAI_LOG``; an application that configured logging keeps its handlers."""
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get(os.environ.get("OPENAI_LOG", "").strip().lower())
    if level is not None:
        logging.basicConfig(format="[%(asctime)s - %(name)s - %(levelname)s] %(message)s")
        logger.setLevel(level)


def sending(call: Call) -> None:
    """A try is about to be sent (DEBUG). Credentials and the user's own header fields are not among the fields."""
    if logger.isEnabledFor(logging.DEBUG) and call.out is not None:
        out = call.out
        size = len(out.body) if isinstance(out.body, bytes) else out.length
        logger.debug("sending %s %s, %s bytes, fields %s", out.method, call.where().url, size, out.fields)


def answered(call: Call, incoming: TransportResponse) -> None:
    """The head of an answer has come: a line at INFO, its fields at DEBUG."""
    if logger.isEnabledFor(logging.INFO) and call.out is not None:
        out = call.out
        seconds = call.loop.time() - call.try_began
        where = call.where()
        logger.info("%s %s: %d in %.3f s", out.method, where.url, incoming.status, seconds)
        if logger.isEnabledFor(logging.DEBUG):
            fields = dict(Headers(where.secrets.scrub(incoming.raw_fields)))
            logger.debug("answered with fields %s", fields)


def unfinished(calls: Engine, request: Request) -> None:
    """A stream has ended without a word that its answer is complete (WARNING, with how many there were).

    A server that never says it would fill the log: the 1st, 2nd, 4th, 8th, … are told.
    """
    shared = calls.shared
    shared.unfinished += 1
    if shared.unfinished.bit_count() == 1:
        logger.warning(
            "%s %s: the stream ended without a finish reason or a terminal event, its answer may be short "
            "(%d of this client so far; .meta.complete tells which)",
            request.endpoint.method,
            calls.config.base.root + request.path.partition("?")[0],
            shared.unfinished,
        )


def retrying(error: OpenAIError, call: Call, pause: float) -> None:
    """A call is tried again, and why (INFO)."""
    logger.info("retry %d of %s in %.2f s: %s", call.retries, call.request, pause, error)
