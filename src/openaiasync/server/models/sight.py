"""What `demo-chat` sees in images: their format and size by their heads, and the colours of those it can decode."""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from ...core.http.media_types import image_type
from ..errors import HTTPError
from ..validation import is_array
from .colours import name_of
from .png import Picture, UnreadPng, decode_png

__all__ = ["Sight", "describe", "image_bytes", "look", "look_at", "size_of_images"]

_NAMES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WebP", "image/bmp": "BMP"}
_SAMPLES: Final = 4096  # pixels that are looked at
_MAX_SEEN: Final = 256  # images remembered
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG's markers that begin with the size
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, slots=True)
class Sight:
    """An image: its format's name, its size in pixels, and its colours by name with their parts, if they are known."""

    format: str
    width: int
    height: int
    colours: tuple[tuple[str, float], ...] = ()


_seen: dict[bytes, Sight] = {}
_lock = Lock()  # images are looked at in threads


def look(data: bytes) -> Sight:
    """What is in an image's file. Raises `ValueError` for what is no PNG, JPEG, GIF, WebP or BMP, or has no size."""
    key = sha256(data).digest()
    with _lock:
        found = _seen.get(key)
    if found is None:
        found = _look(data)
        with _lock:
            if len(_seen) >= _MAX_SEEN:
                del _seen[next(iter(_seen))]
            _seen[key] = found
    return found


def _look(data: bytes) -> Sight:
    kind = image_type(data)
    if kind is None:
        raise ValueError("it is no PNG, JPEG, GIF, WebP or BMP")
    width, height = _size(kind, data)
    if not width or not height:
        raise ValueError(f"it is a {_NAMES[kind]} without a size")
    if kind != "image/png":
        return Sight(_NAMES[kind], width, height)
    try:
        return Sight("PNG", width, height, _colours(decode_png(data)))
    except UnreadPng:
        return Sight("PNG", width, height)  # an image all the same


def _size(kind: str, data: bytes) -> tuple[int, int]:
    if kind == "image/png":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "image/gif":
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if kind == "image/bmp":
        if data[14] == 12:
            return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
        height = int.from_bytes(data[22:26], "little", signed=True)
        return abs(int.from_bytes(data[18:22], "little", signed=True)), abs(height)
    return _jpeg_size(data) if kind == "image/jpeg" else _webp_size(data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the first frame header (ITU-T T.81, B.2.2)."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        fill = marker == 0xFF
        place += 1 if fill else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    """From the first chunk: extended, lossless or lossy (RFC 9649, RFC 6386)."""
    kind = data[12:16]
    if len(data) < 25:
        return 0, 0
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def _colours(picture: Picture) -> tuple[tuple[str, float], ...]:
    """The named colours of visible pixels on a grid, with their parts; the largest part first."""
    channels, pixels = picture.channels, picture.pixels
    count = picture.width * picture.height
    step = max(int((count / _SAMPLES) ** 0.5), 1)
    found: Counter[str] = Counter()
    for y in range(step // 2, picture.height, step):
        for x in range(step // 2, picture.width, step):
            pixel = pixels[(y * picture.width + x) * channels :][:channels]
            if channels % 2 == 0 and pixel[-1] < 128:
                found["nothing"] += 1
            else:
                red, green, blue = pixel[:3] if channels > 2 else pixel[:1] * 3
                found[name_of(red, green, blue)] += 1
    total = sum(found.values())
    return tuple((name, part / total) for name, part in found.most_common() if part / total >= 0.02)


# -------------------------------------------------------------------------------------------------- in messages


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content: Any = message.get("content")
    return content if is_array(content) else []


def size_of_images(messages: Sequence[dict[str, Any]]) -> int:
    """How many characters the URLs of the images in these messages have; 0 without any."""
    parts = (part for message in messages for part in _parts(message) if part["type"] == "image_url")
    return sum(len(part["image_url"]["url"]) for part in parts)


def image_bytes(url: str, param: str) -> bytes:
    """The file in a ``data:`` URL (RFC 2397). Raises `HTTPError` (400) for other URLs and for malformed ones."""
    head, comma, data = url.partition(",")
    if head[:5].lower() != "data:":
        message = f"'{param}' is no data URL; this server fetches nothing."
        raise HTTPError(400, message, param=param, code="invalid_image_url")
    try:
        found = b64decode(unquote_to_bytes(data), validate=True) if head.endswith(";base64") else unquote_to_bytes(data)
    except ValueError:
        found = b""
    if not comma or not found:
        raise HTTPError(400, f"'{param}' is no valid data URL.", param=param, code="invalid_image_url")
    return found


def look_at(messages: Sequence[dict[str, Any]]) -> tuple[list[Sight], bool]:
    """The images of the last message that has any, and whether no text came after it. Raises `HTTPError` (400)."""
    sights: list[Sight] = []
    fresh = False
    for number, message in enumerate(messages):
        found: list[Sight] = []
        for place, part in enumerate(_parts(message)):
            if part["type"] == "image_url":
                param = f"messages[{number}].content[{place}].image_url.url"
                try:
                    found.append(look(image_bytes(part["image_url"]["url"], param)))
                except ValueError as error:
                    message_text = f"The image in '{param}' cannot be read: {error}."
                    raise HTTPError(400, message_text, param=param, code="invalid_image") from None
        sights, fresh = found or sights, bool(found)
    return sights, fresh


# -------------------------------------------------------------------------------------------------- in words


def describe(sights: Sequence[Sight], question: str) -> str:
    """What is asked about the images: size, format or colours; all of it when none of these is asked for."""
    lower = question.lower()
    if re.search(r"\bhow many (?:images|pictures|photos)\b", lower):
        return f"There {'is one image' if len(sights) == 1 else f'are {len(sights)} images'}."
    asked = [
        kind
        for kind, cue in (("colour", r"colou?r"), ("size", r"\bsize|how (?:big|large|wide|high|tall)|pixel|dimension"),
                          ("format", r"format|file type|kind of file"))
        if re.search(cue, lower)
    ] or ["format", "size", "colour"]  # fmt: skip
    said: list[str] = []
    for number, sight in enumerate(sights):
        which = f"{_ORDINALS[number]} " if len(sights) > 1 and number < len(_ORDINALS) else ""
        said.append(f"The {which}image is {_one(sight, asked)}.")
    return " ".join(said)


def _one(sight: Sight, asked: Sequence[str]) -> str:
    parts: list[str] = []
    if "format" in asked:
        parts.append(f"a {sight.format}")
    if "size" in asked:
        size = f"{sight.width} by {sight.height} pixels"
        parts.append(f"of {size}" if parts else size)
    if "colour" in asked:
        words = [f"{name if name != 'nothing' else 'transparent'} ({part:.0%})" for name, part in sight.colours[:4]]
        listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
        colours = f"mostly {listed}" if listed else "of colours that I cannot make out"
        parts.append(f", {colours}" if parts else colours)
    return " ".join(parts).replace(" ,", ",")
