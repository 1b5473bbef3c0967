"""Decodes content codings piece by piece (RFC 9110, 8.4.1), with limits on size and ratio against compression bombs.

The first bytes decide, not the label: proxies that decompress a body often leave its ``Content-Encoding`` in place, and
some servers write "none" or a character set there.
"""

from __future__ import annotations

import codecs
import re
import zlib
from typing import Any

__all__ = ["CodingError", "Inflater", "UnknownCodingError"]

_SLICE = 1 << 18  # output bytes of one step
_INPUT = 1 << 14  # input bytes of one step: zlib copies the rest of its input each time, so it must be short
_FREE = 1 << 20  # bytes below which the ratio is not checked
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats
_TELLING = 16  # bytes that are enough to recognise plain text

# Values of the field that name no compression: placeholders, character sets, MIME's transfer encodings (RFC 2045).
_PLAIN_NAMES = frozenset(
    {"", "identity", "none", "null", "no", "off", "plain", "text", "json", "utf-8", "utf8", "ascii", "us-ascii",
     "iso-8859-1", "latin-1", "utf-8-sig", "binary", "7bit", "8bit", "chunked", "aws-chunked"}
)  # fmt: skip
_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*+"
# The beginnings of JSON, events and pages. Raw deflate has no signature, but it does not begin like this.
_TEXT_START = rb"(?:\xef\xbb\xbf)?+\s*+(?:[{\[][\s\"{}\[\]]|<[!?a-zA-Z]|:|(?:data|event|id|retry):)"


class CodingError(ValueError):
    """An unknown coding, or a body that is damaged, cut, or over a limit."""


class UnknownCodingError(CodingError):
    """An unknown coding, or several in layers."""


class Inflater:
    """Decodes ``gzip`` (any number of members) or ``deflate`` (with zlib's frame or, as some servers send it, without).

    A body of plain text labelled with any coding is passed on unchanged. `cap` limits the output bytes in all, `ratio`
    the output bytes for each input byte (above 1 MiB).
    """

    def __init__(self, coding: str, *, cap: int, ratio: int) -> None:
        names = [name for one in coding.lower().split(",") if (name := one.strip()) not in _PLAIN_NAMES]
        self._name = ", ".join(names)
        self._deflate = self._name == "deflate"
        self._cap = cap
        self._ratio = ratio
        self._taken = 0
        self._made = 0
        self._held = b""  # first bytes that do not decide yet
        self._identity = not names
        self._stream: Any = None  # zlib's decompressor, whose class has no name

    def feed(self, piece: bytes) -> bytes:
        """Return the decoded piece. Raises `CodingError`."""
        self._taken += len(piece)
        if self._identity:
            return self._checked(piece)
        if self._stream is None:
            piece = self._held + piece
            if not self._begin(piece, final=False):
                self._held = piece
                return b""
            self._held = b""
            if self._identity:
                return self._checked(piece)
        if len(piece) <= _INPUT:
            return self._inflate(piece)
        view = memoryview(piece)
        return b"".join([self._inflate(bytes(view[at : at + _INPUT])) for at in range(0, len(view), _INPUT)])

    def _begin(self, head: bytes, *, final: bool) -> bool:
        """Decide by the first bytes what the body is; False if more are needed.

        Raises `UnknownCodingError`.
        """
        if len(head) < 2 and not final:
            return False
        # RFC 1950, 2.2: deflate is method 8, and the two bytes of the frame are a multiple of 31.
        if self._deflate and len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0:
            self._stream = zlib.decompressobj(_ZLIB)
            return True
        text = _is_text(head)
        if text and len(head) < _TELLING and not final:
            return False
        self._identity = text and (not self._deflate or re.match(_TEXT_START, head) is not None)
        gzip = self._name in ("gzip", "x-gzip")
        if not (self._identity or self._deflate or gzip):
            raise UnknownCodingError(f"the content coding {self._name[:60]!r} is not supported")
        self._stream = zlib.decompressobj(_GZIP if gzip else _RAW)
        return True

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
            more = len(made) == _SLICE  # zlib may have consumed its input and still hold output
        return b"".join(out)

    def _checked(self, made: bytes) -> bytes:
        self._made += len(made)
        if self._made > self._cap:
            raise CodingError(f"the body is over {self._cap} bytes when decompressed")
        if self._made > _FREE and self._made > self._taken * self._ratio:
            raise CodingError(f"the body grows more than {self._ratio} times when decompressed")
        return made

    def finish(self) -> bytes:
        """Return the bytes held back. Raises `CodingError` if the body was cut; an empty one is complete."""
        held, self._held = self._held, b""
        made = b""
        if held and self._stream is None:
            self._begin(held, final=True)
            made = self._checked(held) if self._identity else self._inflate(held)
        if self._taken and not self._identity and (self._stream is None or not self._stream.eof):
            raise CodingError("the compressed body is cut")
        return made


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are UTF-8 without control characters, which compressed data is not for long."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head[:_TELLING])  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return re.fullmatch(_TEXT, text) is not None
