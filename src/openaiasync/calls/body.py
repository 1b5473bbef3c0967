"""Reading whole bodies: under a cap, and decoded by their content coding."""

from __future__ import annotations

from ..core.coding import CodingError, Inflater
from ..transport.base import Incoming, TransportError

__all__ = ["MAX_BODY", "content_coding", "inflate", "read_error_body"]

MAX_BODY = 1 << 30  # bytes of a JSON answer, compressed or not
MAX_ERROR_BODY = 64 * 1024
MAX_RATIO = 200


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
