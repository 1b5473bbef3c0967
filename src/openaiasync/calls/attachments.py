"""Images and sound inside a request: paths, bytes, files and URLs become what the API takes.

They are checked when they are given, and read when they are sent.
"""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

from ..core.media import audio_type, image_type

if TYPE_CHECKING:
    from .binary import BinaryAnswer

__all__ = ["AudioSource", "ImageSource", "audio_parts", "image_urls", "sources"]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, a URL (http, https, data), the bytes, or an open binary file."""

AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | BinaryAnswer"
"""A path, the bytes, an open binary file, or an answer with sound (of `client.text_to_speech`)."""

_URLS = ("http://", "https://", "data:")
_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}  # what a chat takes (`input_audio.format`)
_ONE = {"image": "an image", "sound": "a sound"}
_ALSO = {"image": ", a URL", "sound": ""}


def sources(given: Any, kind: str, where: str) -> list[Any]:
    """What was given, one by one; `TypeError` and `ValueError` for what can be none of its `kind` ("image", "sound").

    `where` is what the error's text begins with.
    """
    found: list[Any] = list(cast("Any", given)) if isinstance(given, (list, tuple)) else [given]
    if not found:
        raise ValueError(f"{where}: there is no {kind} in the list")
    for one in found:
        if isinstance(one, (str, bytes, bytearray, memoryview, os.PathLike)):
            if not (os.fspath(cast("os.PathLike[str]", one)) if isinstance(one, os.PathLike) else one):
                raise ValueError(f"{where}: {_ONE[kind]} is empty, or its path is")
            if kind == "sound" and is_url(one):
                raise ValueError(f"{where}: sound is sent in the request itself, and cannot be a URL")
        elif not callable(getattr(one, "read", None)):
            raise TypeError(
                f"{where}: {type(one).__name__} is no {kind}; pass a path, bytes{_ALSO[kind]}, or a file opened in "
                "binary mode, or a list of these"
            )
    return found


def is_url(value: Any) -> bool:
    """Whether a text is a URL that servers fetch, or that holds the data."""
    return isinstance(value, str) and value[:8].lower().startswith(_URLS)


def _read(source: Any, where: str) -> tuple[bytes, str]:
    """The bytes, and the name of their file for an error's text. May block."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", source)), ""
    if isinstance(source, (str, os.PathLike)):
        path = Path(cast("str", source))
        return path.read_bytes(), f" {path.name!r}"
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)  # whole, wherever it stands, as uploads are
    read: object = source.read()
    if not isinstance(read, (bytes, bytearray)):
        raise TypeError(f"{where}: the file is not open in binary mode ('rb')")
    return bytes(read), ""


def _data_url(image: Any, where: str) -> str:
    """The image as a ``data:`` URL (RFC 2397) that says its type."""
    data, name = _read(image, where)
    kind = image_type(data)
    if kind is None:
        raise ValueError(f"{where}: the image{name} is no PNG, JPEG, GIF, WebP or BMP ({len(data):,} bytes)")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _audio_part(sound: Any, where: str) -> dict[str, Any]:
    data, name = _read(sound, where)
    form = _FORMATS.get(audio_type(data) or "")
    if form is None:
        found = audio_type(data) or "none that is known"
        raise ValueError(f"{where}: the sound{name} is no WAV or MP3 ({len(data):,} bytes, {found}), as chats take it")
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


# Reading and encoding what is large takes longer than the event loop may wait.


async def image_urls(images: list[Any], where: str) -> list[str]:
    """A URL for each image: as given, or a ``data:`` URL. Raises `OSError`, `TypeError` and `ValueError`."""
    return [image if is_url(image) else await asyncio.to_thread(_data_url, image, where) for image in images]


async def audio_parts(sounds: list[Any], where: str) -> list[dict[str, Any]]:
    """A content part for each sound, WAV or MP3 by its bytes. Raises `OSError`, `TypeError` and `ValueError`."""
    return [await asyncio.to_thread(_audio_part, sound, where) for sound in sounds]
