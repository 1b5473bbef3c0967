"""Content codings undone piece by piece (RFC 9110, 8.4.1), under a cap and a ratio, so that no bomb goes off."""

from __future__ import annotations

import zlib

__all__ = ["CodingError", "Inflater"]

_SLICE = 1 << 18  # bytes that one step may make
_INPUT = 1 << 14  # bytes that one step may take: what zlib leaves over is copied each time, so it must be short
_FREE = 1 << 20  # bytes below which the ratio does not count
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats


class CodingError(ValueError):
    """A coding that is not known, or a body that is damaged, cut, or larger than it may be."""


class Inflater:
    """Undoes ``gzip`` (of any number of members) or ``deflate`` (in zlib's frame or, as some servers send it, without).

    `cap` is the most bytes that may come out in all, `ratio` how many for each that goes in (from 1 MiB on).
    """

    def __init__(self, coding: str, *, cap: int, ratio: int) -> None:
        """Raises `CodingError` for a coding that is not known, or more than one."""
        name = coding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity", ""):
            raise CodingError(f"the content coding {name[:60]!r} is not supported")
        self._deflate = name == "deflate"
        self._cap = cap
        self._ratio = ratio
        self._taken = 0
        self._made = 0
        self._held = b""  # a first byte that does not tell yet whether there is a frame
        self._identity = name in ("identity", "")
        self._stream = zlib.decompressobj(_GZIP) if name.endswith("gzip") else None

    def feed(self, piece: bytes) -> bytes:
        """What the piece decodes to. Raises `CodingError`."""
        self._taken += len(piece)
        if self._identity:
            return self._checked(piece)
        if self._stream is None:
            piece = self._held = self._held + piece
            if len(piece) < 2:
                return b""
            # RFC 1950, 2.2: deflate is method 8, and the two bytes of the frame are a multiple of 31.
            framed = piece[0] & 15 == 8 and (piece[0] << 8 | piece[1]) % 31 == 0
            self._stream = zlib.decompressobj(_ZLIB if framed else _RAW)
            self._held = b""
        if len(piece) <= _INPUT:
            return self._inflate(piece)
        view = memoryview(piece)
        return b"".join([self._inflate(bytes(view[at : at + _INPUT])) for at in range(0, len(view), _INPUT)])

    def _inflate(self, piece: bytes) -> bytes:
        stream = self._stream
        assert stream is not None
        out: list[bytes] = []
        more = True
        while piece or more:
            if stream.eof:
                if not piece:
                    break
                if self._deflate:
                    raise CodingError("bytes after the end of the compressed body")
                self._stream = stream = zlib.decompressobj(_GZIP)
            try:
                made = stream.decompress(piece, _SLICE)
            except zlib.error:
                raise CodingError("the compressed body is damaged") from None
            out.append(self._checked(made))
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
            more = len(made) == _SLICE  # zlib may have taken everything and still have more to give
        return b"".join(out)

    def _checked(self, made: bytes) -> bytes:
        self._made += len(made)
        if self._made > self._cap:
            raise CodingError(f"the body is over {self._cap} bytes when decompressed")
        if self._made > _FREE and self._made > self._taken * self._ratio:
            raise CodingError(f"the body grows more than {self._ratio} times when decompressed")
        return made

    def finish(self) -> bytes:
        """What was held back: nothing. Raises `CodingError` if the body ends too early; an empty one does not."""
        if self._taken and not self._identity and (self._stream is None or not self._stream.eof):
            raise CodingError("the compressed body is cut")
        return b""
