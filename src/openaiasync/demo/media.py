"""Files of the demo models: PNG and WAV with a text in their metadata; format and size of any image or sound."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import Struct, error, pack, unpack_from
from typing import Final

from ..core.model.media_types import audio_type, image_type

__all__ = ["describe_image", "describe_sound", "encode_png", "size_of_image", "text_of_image", "wav_head"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_KEYWORD: Final = b"Description\0"  # of the tEXt chunk (PNG, 11.3.3)
_FORMAT: Final = Struct("<HHIIHH")
_NAMES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WebP", "image/bmp": "BMP"}


# -------------------------------------------------------------------------------------------------- PNG


def encode_png(width: int, height: int, channels: int, rows: bytes, text: str) -> bytes:
    """Return a PNG of 8-bit RGB (3 channels) or RGBA (4); each of the rows begins with its filter byte."""
    header = pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    note = _KEYWORD + text.encode("latin-1", "xmlcharrefreplace")
    chunks = ((b"IHDR", header), (b"tEXt", note), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big")
        for kind, data in chunks
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks up to the last. Raises `ValueError` for a file that is cut off or damaged."""
    place, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            raise ValueError("it is cut off")
        kind = data[place + 4 : place + 8]
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError("it is damaged: a checksum is wrong")
        yield kind, data[place + 8 : end - 4]
        place = end


def text_of_image(data: bytes) -> str | None:
    """Return the text that the demo stored in a picture, `None` for any other file."""
    if image_type(data) != "image/png":
        return None
    try:
        for kind, content in _png_chunks(data):
            if kind == b"tEXt" and content.startswith(_KEYWORD):
                return content[len(_KEYWORD) :].decode("latin-1")
    except ValueError:
        pass
    return None


# -------------------------------------------------------------------------------------------------- any image


def size_of_image(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels. Raises `ValueError` for data that is not an image or has no size."""
    kind = image_type(data)
    try:
        match kind:
            case "image/png":
                list(_png_chunks(data))
                return unpack_from(">II", data, 16)
            case "image/gif":
                return unpack_from("<HH", data, 6)
            case "image/bmp":
                width, height = unpack_from("<ii", data, 18)
                return width, abs(height)  # a negative height means that the lines run from the top down
            case "image/webp":
                return _webp_size(data)
            case "image/jpeg":
                return _jpeg_size(data)
            case _:
                raise ValueError("it is not a PNG, JPEG, GIF, WebP or BMP")
    except error:
        raise ValueError("it is cut off") from None


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        wide, high = data[24:27], data[27:30]
        if len(high) < 3:
            raise ValueError("it is cut off")
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int]:
    place = 2
    while True:
        mark, kind, size = unpack_from(">BBH", data, place)
        if mark != 0xFF:
            raise ValueError("it is damaged")
        if kind == 0xFF:  # fill bytes may precede a marker
            place += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width = unpack_from(">HH", data, place + 5)
            return width, height
        else:
            place += 2 + size


def describe_image(data: bytes) -> str:
    """Return a sentence about an image. Raises `ValueError` for data that is not an image, or is damaged."""
    width, height = size_of_image(data)
    said = f"a {_NAMES[image_type(data) or '']} of {width} by {height} pixels"
    text = text_of_image(data)
    return f"{said} that shows {text[:1].lower()}{text[1:]}" if text else said


# -------------------------------------------------------------------------------------------------- WAV


def wav_head(rate: int, size: int, text: str) -> bytes:
    """Return the WAV header for `size` bytes of 16-bit mono samples, with the text as its INFO comment."""
    form = _FORMAT.pack(1, 1, rate, rate * 2, 2, 16)
    note = text.encode() + b"\0"
    comment = b"INFOICMT" + len(note).to_bytes(4, "little") + note + b"\0" * (len(note) % 2)
    chunks = b"fmt " + len(form).to_bytes(4, "little") + form + b"LIST" + len(comment).to_bytes(4, "little") + comment
    total = 4 + len(chunks) + 8 + size
    return b"RIFF" + total.to_bytes(4, "little") + b"WAVE" + chunks + b"data" + size.to_bytes(4, "little")


def describe_sound(data: bytes) -> tuple[str | None, float, str]:
    """Return the text that the demo stored in a sound, its seconds (0.0 if unknown), and a sentence about the file."""
    kind = audio_type(data)
    if kind != "audio/wav":
        form = "an unknown format" if kind is None else kind.partition("/")[2].upper()
        return None, 0.0, f"Sound in {form}, {len(data)} bytes."
    text, rate, block, size, place = None, 0, 0, 0, 12
    while place + 8 <= len(data):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        content = data[place + 8 : place + 8 + length]
        if name == b"fmt " and len(content) >= _FORMAT.size:
            _, _, rate, _, block, _ = _FORMAT.unpack_from(content)
        elif name == b"LIST" and content.startswith(b"INFOICMT"):
            text = content[12 : 12 + int.from_bytes(content[8:12], "little")].rstrip(b"\0").decode("utf-8", "replace")
        elif name == b"data":
            size = len(content)  # a stream's head may promise more
            break
        place += 8 + length + length % 2
    seconds = size / (rate * block) if rate and block else 0.0
    return text, seconds, f"Sound in WAV, {seconds:.1f} seconds at {rate} Hz, {len(data)} bytes."
