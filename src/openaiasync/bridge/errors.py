"""Map the engine's errors to the exceptions of httpx2, by cause and timeout.

Before an answer is returned the official client converts them to its own. In the middle of an answer it does not, so
these are subclasses of its classes too: ``except openai.APIConnectionError`` works for a whole stream.
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
    sent, `midway` whether a part of the answer has already been returned.
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
    """Return an exception class that derives from both the HTTP library's and the official client's."""

    def init(self: Any, message: str, *, request: Any = None) -> None:
        # Neither constructor is called: each would pass arguments to the other that it does not accept.
        Exception.__init__(self, message)
        self.request = request
        self.message = message
        self.body = self.code = self.param = self.type = None

    def reduce(self: Any) -> Any:
        return kind, (str(self),)  # a class created at run time cannot be pickled by name

    return type(
        kind.__name__, (kind, official), {"__init__": init, "__reduce__": reduce, "__module__": kind.__module__}
    )
