"""A request whose answer is small and secret: under the rules of all calls, its body capped and in no traceback."""

from __future__ import annotations

from ..core.codec.endpoint import Request
from ..core.model.meta import Meta, RequestInfo
from ..engine.call import Call
from ..engine.engine import Engine
from ..errors import OpenAIError
from ..transport.base import TransportError
from ..version import __version__

__all__ = ["AGENT", "fetch_small"]

AGENT = (("User-Agent", f"openaiasync/{__version__}"),)
MOST = 1 << 20  # bytes


async def fetch_small(calls: Engine, request: Request) -> tuple[Meta, bytes]:
    """What is known of the call, and the body of its 2xx: 1 MiB at most. Raises `OpenAIError` without any body."""
    call = Call(calls, request)
    try:
        meta, body = await _fetch(call)
        meta.request.content = b""
        return meta, body
    except OpenAIError as error:
        told = error
    shown = getattr(told, "request", None)
    if isinstance(shown, RequestInfo):
        shown.content = b""
    told.__context__ = told.__cause__ = None
    raise told.with_traceback(None)


async def _fetch(call: Call) -> tuple[Meta, bytes]:
    try:
        await call.enter()
        while True:
            incoming = await call.head()
            call.expect(incoming, call.clocks.stall, "stall")
            try:
                body = await incoming.read(MOST)
                break
            except TransportError as caught:
                failure = caught
            incoming.abort()
            await call.again(failure)
        return call.meta(incoming), body
    finally:
        call.leave()
