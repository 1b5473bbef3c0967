"""Reading whole bodies: under a cap, and decoded by their content coding."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..core.coding import CodingError, Inflater
from ..transport.base import Incoming, TransportError
from . import failure as failures

if TYPE_CHECKING:
    from .call import Call

__all__ = ["MAX_BODY", "body_pieces", "content_coding", "inflate", "read_error_body"]

MAX_BODY = 1 << 30  # bytes of a JSON answer, compressed or not
MAX_ERROR_BODY = 64 * 1024
MAX_RATIO = 200
PROGRESS = 64 * 1024  # bytes of a body that count as progress


def content_coding(raw_fields: bytes) -> str:
    """The answer's content coding in lower case, ``""`` for none."""
    lowered = raw_fields.lower()
    at = lowered.find(b"content-encoding:")
    while at > 0 and lowered[at - 1] != 0x0A:
        at = lowered.find(b"content-encoding:", at + 1)
    if at < 0:
        return ""
    value = lowered[at + 17 : lowered.find(b"\r\n", at)].strip().decode("latin-1")
    return "" if value == "identity" else value


def inflate(coding: str, raw: bytes, cap: int = MAX_BODY) -> bytes:
    """The body without its coding. Raises `CodingError`: unknown, damaged, truncated, or a bomb."""
    inflater = Inflater(coding, cap=cap, ratio=MAX_RATIO)
    return inflater.feed(raw) + inflater.finish()


async def body_pieces(call: Call, incoming: Incoming) -> AsyncIterator[bytes]:
    """The body as it comes, its coding undone; the stall clock grants one period for each 64 KiB.

    Raises the public error of what breaks it. Of an event stream every piece with data is progress.
    """
    call.read_here()
    coding = content_coding(incoming.raw_fields)
    unit = 1 if call.request.stream else PROGRESS
    got = 0
    call.expect(incoming, call.clocks.stall, "stall")
    try:
        inflater = Inflater(coding, cap=MAX_BODY, ratio=MAX_RATIO) if coding else None
        while pieces := await incoming.pieces():
            for piece in pieces:
                got += len(piece)
                yield piece if inflater is None else inflater.feed(piece)
            if got >= unit:
                got = 0
                call.expect(incoming, call.clocks.stall, "stall")
        if inflater is not None and (rest := inflater.finish()):
            yield rest
    except TransportError as failure:
        error = call.public(failure)
        error.meta = call.meta(incoming)
        raise error from None
    except CodingError as error:
        raise failures.invalid_answer(call.meta(incoming), b"", str(error)) from None
    finally:
        call.leave()


async def read_error_body(incoming: Incoming) -> bytes:
    """The body of an error answer as far as it comes: 64 KiB at most, cut where the connection breaks or stalls."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < MAX_ERROR_BODY:
            more = await incoming.pieces()
            if not more:
                break
            pieces.extend(more)
            size += sum(map(len, more))
    except TransportError:
        pass  # what has come tells more than how it ended
    raw = b"".join(pieces)[:MAX_ERROR_BODY]
    coding = content_coding(incoming.raw_fields)
    if coding:
        try:
            return Inflater(coding, cap=MAX_ERROR_BODY, ratio=MAX_RATIO).feed(raw)
        except CodingError:
            return b""
    return raw
