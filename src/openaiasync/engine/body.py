"""Read whole bodies under a size cap, decoding their content coding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ..core.http.codings import CodingError, Inflater
from ..lazy import resolve_annotations
from ..transport.base import TransportError, TransportResponse, over_cap
from . import failures

if TYPE_CHECKING:
    from ..core.codec.endpoint import Request
    from .call import Call
    from .config import CallConfig

__all__ = [
    "MAX_BODY",
    "PROGRESS",
    "BodyReader",
    "body_pieces",
    "cap_for",
    "cap_of",
    "content_coding",
    "inflater_of",
    "read_error_body",
    "read_whole",
    "too_large",
]

MAX_BODY = 1 << 30  # bytes of embeddings, images and files that are held in memory, decompressed
MAX_JSON = 128 << 20  # bytes of any other JSON body
MAX_STREAM = 1 << 40  # no cap: bytes are passed on as they arrive
MAX_ERROR_BODY = 64 * 1024
MAX_RATIO = 200
PROGRESS = 64 * 1024  # bytes of a body that count as progress

_SLICE = 1 << 16  # bytes of a compressed body that one step takes
_ERROR_SLICE = 256  # the same for an error body, whose rest past the cap is not decompressed


def cap_of(config: CallConfig, path: str, *, binary: bool = False) -> int:
    """Return the cap on an answer's body in bytes: ``max_body``, or the default for the kind of answer."""
    if config.max_body is not None:
        return config.max_body
    return MAX_BODY if binary or path.endswith("/embeddings") or "/images/" in path else MAX_JSON


def cap_for(config: CallConfig, request: Request) -> int:
    """Return `cap_of` for the answer to a request: a body that the caller wants as JSON is not a file."""
    binary = request.endpoint.binary and not (request.cast is not None and request.cast.is_json)
    return cap_of(config, request.path, binary=binary)


def too_large(cap: int) -> TransportError:
    """Return the failure of a body that is over its cap."""
    return TransportError("protocol", over_cap(cap), sent=True, answered=True)


class BodyReader:
    """Reads a body piece by piece: decodes its content coding, and restarts the stall timeout as it progresses."""

    def __init__(
        self, call: Call, response: TransportResponse, *, unit: int | None = PROGRESS, cap: int = MAX_STREAM
    ) -> None:
        """Create a reader. `unit` is how many bytes count as progress (`None`: none do), `cap` limits decoded ones."""
        self._call = call
        self._response = response
        self._inflater = inflater_of(response, cap)
        self._unit = unit
        self._counted = 0
        self.received: int = 0
        """The number of bytes received so far, still coded."""
        self.ended: bool = False
        """Whether the whole body was returned."""

    async def pieces(self) -> list[bytes]:
        """Return the next pieces, decoded, waiting for one if needed; ``[]`` at the exact end.

        Raises `TransportError` and `CodingError`.
        """
        while not self.ended:
            pieces = await self._response.pieces()
            self.ended = not pieces
            self.received += sum(map(len, pieces))
            if self._unit is not None and self.received - self._counted >= self._unit:
                self._counted = self.received
                self.progress()
            made = pieces if self._inflater is None else await self._inflated(pieces, self._inflater)
            if made:
                return made
        return []

    async def _inflated(self, pieces: list[bytes], inflater: Inflater) -> list[bytes]:
        made: list[bytes] = []
        for piece in pieces:
            for at in range(0, len(piece), _SLICE):
                if at:
                    await asyncio.sleep(0)  # a slice may take a few milliseconds
                made.append(inflater.feed(piece[at : at + _SLICE]))
        if not pieces:
            made.append(inflater.finish())
        return [piece for piece in made if piece]

    def progress(self) -> None:
        """Restart the stall timeout."""
        self._call.expect(self._response, self._call.timeouts.stall, "stall")


def inflater_of(response: TransportResponse, cap: int = MAX_STREAM) -> Inflater | None:
    """Return what decodes the content coding of a response; `None` without one."""
    coding = content_coding(response.raw_fields)
    return Inflater(coding, cap=cap, ratio=MAX_RATIO) if coding else None


async def read_whole(call: Call, incoming: TransportResponse, cap: int, *, by_progress: bool = False) -> bytes:
    """Return the rest of a body, decoded. A body over `cap` bytes is refused while it is read.

    The stall timeout covers the whole body, or each 64 KiB with `by_progress`. Raises `TransportError` and
    `CodingError`.
    """
    call.expect(incoming, call.timeouts.stall, "stall")
    coded = bool(content_coding(incoming.raw_fields))
    if not coded and not by_progress:
        return await incoming.read(cap)
    reader = BodyReader(call, incoming, unit=PROGRESS if by_progress else None, cap=cap)
    made: list[bytes] = []
    while pieces := await reader.pieces():
        made += pieces
        if not coded and reader.received > cap:
            incoming.abort()
            raise too_large(cap)
    return b"".join(made)


def content_coding(raw_fields: bytes) -> str:
    """Return the answer's content coding in lower case, ``""`` for none."""
    lowered = raw_fields.lower()
    at = lowered.find(b"content-encoding:")
    while at > 0 and lowered[at - 1] != 0x0A:
        at = lowered.find(b"content-encoding:", at + 1)
    if at < 0:
        return ""
    value = lowered[at + 17 : lowered.find(b"\r\n", at)].strip().decode("latin-1")
    return "" if value == "identity" else value


async def body_pieces(call: Call, incoming: TransportResponse) -> AsyncIterator[bytes]:
    """Yield the body in pieces as they arrive, decoded; the stall timeout covers each 64 KiB.

    Raises the public error if the body breaks. In an event stream every piece with data counts as progress.
    """
    call.transfer()
    reader = BodyReader(call, incoming, unit=1 if call.request.stream else PROGRESS)
    reader.progress()
    try:
        while pieces := await reader.pieces():
            for piece in pieces:
                yield piece
    except TransportError as failure:
        error = call.public(failure)
        error.meta = call.meta(incoming)
        raise error from error.__cause__
    except CodingError as error:
        raise failures.invalid_answer(call.meta(incoming), b"", str(error)) from None
    finally:
        call.release()


async def read_error_body(incoming: TransportResponse) -> bytes:
    """Return up to 64 KiB of an error answer's body, cut where the connection breaks or stalls."""
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
        pass  # the bytes received say more than the way the body ended
    raw = b"".join(pieces)[:MAX_ERROR_BODY]
    coding = content_coding(incoming.raw_fields)
    return _inflated(coding, raw)[:MAX_ERROR_BODY] if coding else raw


def _inflated(coding: str, raw: bytes) -> bytes:
    """Decompress the beginning of a body: as far as it is intact, and little beyond the cap on error bodies."""
    made = b""
    try:
        inflater = Inflater(coding, cap=MAX_STREAM, ratio=MAX_STREAM)
        for at in range(0, len(raw), _ERROR_SLICE):
            made += inflater.feed(raw[at : at + _ERROR_SLICE])
            if len(made) >= MAX_ERROR_BODY:
                break
    except CodingError:
        return made or raw  # an unknown coding may be a wrong label on plain bytes
    return made


resolve_annotations(__name__)
