"""Pictures as PNG (ISO/IEC 15948) and back, for 8-bit pictures: grey, grey with alpha, RGB, RGBA, not interlaced."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Final

__all__ = ["MAX_PIXELS", "SIGNATURE", "Picture", "PngError", "UnreadPng", "decode_png", "encode_png"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS: Final = 2**21
_HEADER: Final = Struct(">IIBBBBB")
_COLOUR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: colour type
_CHANNELS: Final = {kind: channels for channels, kind in _COLOUR_TYPES.items()}


class PngError(ValueError):
    """Not a PNG, a damaged one, or one of a kind that is not read here; the text is for people."""


class UnreadPng(PngError):
    """A PNG of a kind that is not read here, or a larger one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels row by row, one byte a channel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""

    width: int
    height: int
    channels: int
    pixels: bytes


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")


def encode_png(picture: Picture) -> bytes:
    """The picture as a PNG file, without filters: drawn pictures compress well as they are."""
    row = picture.width * picture.channels
    pixels = picture.pixels
    raw = b"".join(b"\0" + pixels[start : start + row] for start in range(0, len(pixels), row))
    header = _HEADER.pack(picture.width, picture.height, 8, _COLOUR_TYPES[picture.channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw, 6)) + _chunk(b"IEND", b"")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks up to the last, their checksums verified."""
    if not data.startswith(SIGNATURE):
        raise PngError("it does not begin as a PNG does")
    place = len(SIGNATURE)
    while True:
        size = int.from_bytes(data[place : place + 4], "big")
        end = place + 12 + size
        if end > len(data):
            raise PngError("it is cut off")
        kind = data[place + 4 : place + 8]
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise PngError("it is damaged: a checksum is wrong")
        yield kind, data[place + 8 : end - 4]
        if kind == b"IEND":
            return
        place = end


def decode_png(data: bytes) -> Picture:
    """The picture in a PNG file of at most `MAX_PIXELS`. Raises `PngError`."""
    header: tuple[int, int, int] | None = None
    packed: list[bytes] = []
    for kind, content in _chunks(data):
        if header is None:
            if kind != b"IHDR" or len(content) != _HEADER.size:
                raise PngError("it does not begin with a header")
            header = _read_header(content)
        elif kind == b"IDAT":
            packed.append(content)
        elif not kind[0] & 0x20 and kind not in (b"IEND", b"PLTE"):
            raise UnreadPng(f"it needs {kind.decode('latin-1')!r}, which is not read here")
    assert header is not None  # the last chunk comes after the first
    width, height, channels = header
    row = width * channels
    return Picture(width, height, channels, _unfilter(_inflate(b"".join(packed), (row + 1) * height), row, channels))


def _read_header(content: bytes) -> tuple[int, int, int]:
    width, height, depth, kind, compression, filtering, interlacing = _HEADER.unpack(content)
    if not width or not height:
        raise PngError("it has no pixels")
    if width * height > MAX_PIXELS:
        raise UnreadPng(f"it has {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if depth != 8 or kind not in _CHANNELS:
        raise UnreadPng("only pictures of 8 bits a channel without a palette are read here")
    if compression or filtering or interlacing:
        raise UnreadPng("interlaced pictures are not read here")
    return width, height, _CHANNELS[kind]


def _inflate(packed: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed, size + 1)
    except zlib.error:
        raise PngError("it is damaged: its pixels cannot be unpacked") from None
    if len(raw) != size or not inflater.eof:
        raise PngError("it is damaged: it has more or fewer pixels than its header says")
    return raw


def _unfilter(raw: bytes, size: int, channels: int) -> bytes:
    """Undo the filter that each row names in its first byte (clause 9)."""
    rows: list[bytes] = []
    above = bytes(size)
    for start in range(0, len(raw), size + 1):
        kind, row = raw[start], raw[start + 1 : start + 1 + size]
        if kind == 1:
            row = _undo_sub(row, channels)
        elif kind == 2:
            row = bytes([(value + up) & 255 for value, up in zip(row, above, strict=True)])
        elif kind == 3:
            row = _undo_average(row, above, channels)
        elif kind == 4:
            row = _undo_paeth(row, above, channels)
        elif kind:
            raise PngError("it is damaged: a row has an unknown filter")
        rows.append(row)
        above = row
    return b"".join(rows)


def _undo_sub(row: bytes, channels: int) -> bytes:
    out = bytearray(len(row))
    for channel in range(channels):
        out[channel::channels] = bytes([value & 255 for value in accumulate(row[channel::channels])])
    return bytes(out)


def _undo_average(row: bytes, above: bytes, channels: int) -> bytes:
    out = bytearray(channels) + row
    for place, up in enumerate(above, channels):
        out[place] = (out[place] + ((out[place - channels] + up) >> 1)) & 255
    return bytes(out[channels:])


def _undo_paeth(row: bytes, above: bytes, channels: int) -> bytes:
    out = bytearray(channels) + row
    corners = bytes(channels) + above
    for place, up in enumerate(above, channels):
        left, corner = out[place - channels], corners[place - channels]
        by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        if by_left <= by_up and by_left <= by_corner:
            near = left
        else:
            near = up if by_up <= by_corner else corner
        out[place] = (out[place] + near) & 255
    return bytes(out[channels:])
