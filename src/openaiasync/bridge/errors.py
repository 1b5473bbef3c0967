"""What goes wrong in the engine, as the exceptions that httpx2 raises for it: by cause and clock, never by text.

Before an answer is handed out the official client turns them into its own. In the middle of an answer nobody does, so
these are its own classes as well: ``except openai.APIConnectionError`` holds for a stream from beginning to end.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from ..core.http.codings import CodingError
from ..errors import APITimeoutError, ClientClosedError, ConfigurationError, InFlightError, OpenAIError

__all__ = ["translated"]

_BY_KIND = {
    "dns": "ConnectError",
    "refused": "ConnectError",
    "tls": "ConnectError",
    "proxy": "ProxyError",
    "reset": "ReadError",
}
_BY_CLOCK = {"connect": "ConnectTimeout", "queue": "PoolTimeout"}


def translated(
    library: Any,
    request: Any,
    error: OpenAIError | CodingError,
    reason: str | None = None,
    *,
    unsent: bool = False,
    midway: bool = False,
) -> Exception:
    """Return the exception of `library` for an error of ours.

    `reason` is the kind of `TransportError` that ended the last exchange, `unsent` whether its body was still being
    sent, `midway` whether a part of the answer has been handed out already.
    """
    kind: Any = getattr(library, _name(error, reason, unsent))
    openai: Any = sys.modules.get("openai")
    if midway and openai is not None:
        timeout = issubclass(kind, library.TimeoutException)
        official = getattr(openai, "APITimeoutError" if timeout else "APIConnectionError", None)
        if official is not None:
            kind = _both(kind, official)
    made: Exception = kind(str(error), request=request)
    return made


def _name(error: OpenAIError | CodingError, reason: str | None, unsent: bool) -> str:
    if isinstance(error, CodingError):
        return "DecodingError"
    if isinstance(error, APITimeoutError):
        return _BY_CLOCK.get(error.clock) or ("WriteTimeout" if unsent else "ReadTimeout")
    if isinstance(error, InFlightError):
        return "PoolTimeout"
    if isinstance(error, ConfigurationError):
        return "LocalProtocolError"
    if isinstance(error, ClientClosedError):
        return "ConnectError" if reason is None else "ReadError"
    if reason is None:
        return "RemoteProtocolError"
    if unsent and reason in ("eof", "reset"):
        return "WriteError"
    return _BY_KIND.get(reason, "RemoteProtocolError")


@functools.cache
def _both(kind: Any, official: Any) -> Any:
    """Return a class of exceptions that are of HTTP library and official client alike."""

    def init(self: Any, message: str, *, request: Any = None) -> None:
        # Neither constructor is called: each would hand on to the other what that one does not take.
        Exception.__init__(self, message)
        self.request = request
        self.message = message
        self.body = self.code = self.param = self.type = None

    def reduce(self: Any) -> Any:
        return kind, (str(self),)  # a class made at run time has no place that a pickle could name

    return type(
        kind.__name__, (kind, official), {"__init__": init, "__reduce__": reduce, "__module__": kind.__module__}
    )
