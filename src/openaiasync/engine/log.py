"""The log ``openaiasync``: a line for each call at INFO, header fields and times at DEBUG, never a secret.

``OPENAI_LOG=info`` or ``debug`` in the environment switches it on, as with the official client.
"""

from __future__ import annotations

import logging
import os
from logging import INFO
from typing import TYPE_CHECKING

from ..core.model.headers import Headers
from ..lazy import resolve_annotations
from .observers import CallObserver, logger

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from ..errors import OpenAIError
    from ..transport.base import TransportResponse
    from .call import Call
    from .engine import Engine

__all__ = ["INFO", "LogObserver", "logger", "switch_on", "unfinished"]


def switch_on() -> None:
    """Set the level that ``OPENAI_LOG`` names; an application that configured logging keeps its handlers."""
    level = {"debug": logging.DEBUG, "info": logging.INFO}.get(os.environ.get("OPENAI_LOG", "").strip().lower())
    if level is not None:
        logging.basicConfig(format="[%(asctime)s - %(name)s - %(levelname)s] %(message)s")
        logger.setLevel(level)


class LogObserver(CallObserver):
    """Logs one call. Credentials and the caller's own header fields are not among the fields."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._retries = 0

    def sent(self, call: Call) -> None:
        """Log the request (DEBUG)."""
        request = call.out
        if request is not None and logger.isEnabledFor(logging.DEBUG):
            size = len(request.body) if isinstance(request.body, bytes) else request.length
            fields = request.fields
            logger.debug("sending %s %s, %s bytes, fields %s", request.method, call.where().url, size, fields)

    def responded(self, call: Call, response: TransportResponse) -> None:
        """Log the response: one line at INFO, its fields at DEBUG."""
        if call.out is not None:
            seconds = call.loop.time() - call.attempt_began
            where = call.where()
            logger.info("%s %s: %d in %.3f s", call.out.method, where.url, response.status, seconds)
            if logger.isEnabledFor(logging.DEBUG):
                fields = dict(Headers(where.secrets.scrub(response.raw_fields)))
                logger.debug("answered with fields %s", fields)

    def retrying(self, error: OpenAIError, pause: float) -> None:
        """Log the reason for a retry (INFO)."""
        if self._call.retries > self._retries:
            self._retries = self._call.retries
            logger.info("retry %d of %s in %.2f s: %s", self._call.retries, self._call.request, pause, error)


def unfinished(engine: Engine, request: Request) -> None:
    """Warn that a stream ended without a completion signal, with the number of such streams so far.

    A server that never sends one would fill the log, so only the 1st, 2nd, 4th, 8th, … are logged.
    """
    shared = engine.shared
    shared.unfinished += 1
    if shared.unfinished.bit_count() == 1:
        logger.warning(
            "%s %s: the stream ended without a finish reason or a terminal event, its answer may be short "
            "(%d of this client so far; their .meta.complete is False)",
            request.endpoint.method,
            engine.config.base.root + request.path.partition("?")[0],
            shared.unfinished,
        )


resolve_annotations(__name__)
