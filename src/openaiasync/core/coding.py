"""Content codings undone piece by piece (RFC 9110, section 8.4.1), under a cap and a ratio, so that no bomb goes off."""

from __future__ import annotations

import zlib

__all__ = ["CodingError", "Inflater"]

_SLICE = 1 << 18  # bytes that one step may make out of a piece
_FREE = 1 << 20  # bytes below which the ratio does not count
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats


class CodingError(ValueError):
    """A coding that is not known, or a body that is damaged, cut, or larger than it may be."""


class Inflater:
    """Undoes ``gzip`` (of any number of members) or ``deflate`` (with zlib's frame or, as some servers send it, without).

    `cap` is the most bytes that may come out in all, `ratio` how many for each that goes in (from 1 MiB on).
    """

    def __init__(self, coding: str, *, cap: int, ratio: int) -> None:
        name = coding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity", ""):
            raise CodingError(f"the content coding {name[:60]!r} is not supported")
        self._format = _GZIP if name.endswith("gzip") else _ZLIB if name == "deflate" else 0
        self._cap = cap
        self._ratio = ratio
        self._taken = 0
        self._made = 0
        self._stream = zlib.decompressobj(self._format) if self._format else None
        self._begun = False  # inside a member, which has to end

    def feed(self, piece: bytes) -> bytes:
        """What the piece decodes to. Raises `CodingError`."""
        self._taken += len(piece)
        if self._stream is None:
            return self._checked(piece)
        out: list[bytes] = []
        while piece:
            if self._stream.eof:
                if self._format != _GZIP:
                    raise CodingError("bytes after the end of the compressed body")
                self._stream = zlib.decompressobj(_GZIP)
                self._begun = False
            made = self._step(piece)
            self._begun = True
            if made:
                out.append(self._checked(made))
            piece = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if not made and not self._stream.eof and not piece:
                break
        return b"".join(out)

    def _step(self, piece: bytes) -> bytes:
        assert self._stream is not None
        try:
            return self._stream.decompress(piece, _SLICE)
        except zlib.error:
            if self._format == _ZLIB and not self._begun:
                self._format = _RAW
                self._stream = zlib.decompressobj(_RAW)
                return self._step(piece)
            raise CodingError("the compressed body is damaged") from None

    def _checked(self, made: bytes) -> bytes:
        self._made += len(made)
        if self._made > self._cap:
            raise CodingError(f"the body is over {self._cap} bytes when decompressed")
        if self._made > _FREE and self._made > self._taken * self._ratio:
            raise CodingError(f"the body grows more than {self._ratio} times when decompressed")
        return made

    def finish(self) -> bytes:
        """What was held back. Raises `CodingError` if the body ends too early."""
        if self._stream is None:
            return b""
        if not self._begun and self._taken:
            raise CodingError("the compressed body is cut")
        if not self._stream.eof and (self._begun or self._taken):
            raise CodingError("the compressed body is cut")
        return b""
