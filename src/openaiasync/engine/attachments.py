"""Encode images and audio for a request body, from paths, bytes, files and URLs.

They are validated when they are passed in, and read when the request is sent.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from ..core.http.multipart import is_file
from ..core.model.media_types import audio_type, image_type
from ..core.model.meta import RequestInfo
from ..errors import APITimeoutError
from ..lazy import resolve_annotations
from ..storage.disk import FileTooLargeError, read_file, read_open
from ..storage.threads import in_thread
from .binary import BinaryAnswer

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["AudioSource", "ImageSource", "ReadingTime", "audio_parts", "image_urls", "is_url", "sources"]

T = TypeVar("T")

MAX_ATTACHMENT = 128 << 20  # bytes of one file; every server's own limit is far lower
_ENCODED = 3 << 20  # bytes encoded in one step: a multiple of three, and few enough not to hold up other threads

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, a URL (http, https, data), the bytes, or an open binary file."""

AudioSource: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | BinaryAnswer
"""A path, the bytes, an open binary file, or an answer with sound (of `client.text_to_speech`)."""

_URLS = ("http://", "https://", "data:")
_FORMATS = {"audio/wav": "wav", "audio/mpeg": "mp3"}  # what a chat takes (`input_audio.format`)
_ONE = {"image": "an image", "sound": "a sound"}
_ALSO = {"image": ", a URL", "sound": ""}


def sources(given: Any, kind: str, where: str) -> list[Any]:
    """Return the given attachments as a list. Raises `TypeError` or `ValueError` for a value that is not a `kind`
    ("image", "sound").

    `where` is the prefix of the error message.
    """
    iterated = hasattr(given, "__next__") and not hasattr(given, "read")  # open files can be iterated, too
    several = iterated or (isinstance(given, (list, tuple)) and not _is_named(given))
    listed: list[Any] = list(cast("Any", given)) if several else [given]
    found = [one[1] if _is_named(one) else one for one in listed]
    if not found:
        raise ValueError(f"{where}: the list of {kind}s is empty")
    for one in found:
        if isinstance(one, (str, bytes, bytearray, memoryview, os.PathLike)):
            if not (os.fspath(cast("os.PathLike[str]", one)) if isinstance(one, os.PathLike) else one):
                raise ValueError(f"{where}: {_ONE[kind]} is empty, or its path is")
            if kind == "sound" and is_url(one):
                raise ValueError(f"{where}: sound is sent in the request itself, and cannot be a URL")
        elif not callable(getattr(one, "read", None)):
            raise TypeError(
                f"{where}: {type(one).__name__} is not a valid {kind}; pass a path, bytes{_ALSO[kind]}, or a file "
                "opened in binary mode, or a list of these"
            )
    return found


def _is_named(value: Any) -> bool:
    """Return whether a tuple is a file with its name, as uploads take it: ``(name or None, content[, media type])``."""
    return isinstance(value, tuple) and is_file(value) and not is_url(cast("Any", value)[0])


def is_url(value: Any) -> bool:
    """Return whether a text is a URL that servers fetch, or that holds the data."""
    return isinstance(value, str) and value[:8].lower().startswith(_URLS)


def _read(source: Any, kind: str, where: str) -> tuple[bytes, str]:
    """Return the bytes and the file's name for error messages. Blocks; raises the errors of `image_urls`."""
    name = ""
    try:
        if isinstance(source, BinaryAnswer):
            source = source.content
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(cast("bytes", source))
            if len(data) > MAX_ATTACHMENT:
                raise FileTooLargeError(None, MAX_ATTACHMENT)
            return data, name
        if isinstance(source, (str, os.PathLike)):
            path = Path(cast("str", source))
            name = f" {path.name!r}"
            return read_file(path, MAX_ATTACHMENT), name
        if hasattr(source, "seekable") and source.seekable():
            source.seek(0)  # from its start, whatever its position, as uploads are
        return read_open(source, MAX_ATTACHMENT), name
    except FileTooLargeError:
        raise ValueError(f"{where}: the {kind}{name} is larger than the limit of {MAX_ATTACHMENT:,} bytes") from None
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None


def _base64(data: bytes) -> str:
    view = memoryview(data)
    return "".join(base64.b64encode(view[at : at + _ENCODED]).decode() for at in range(0, len(data), _ENCODED))


def _data_url(image: Any, where: str) -> str:
    """Return the image as a ``data:`` URL (RFC 2397) with its media type."""
    data, name = _read(image, "image", where)
    kind = image_type(data)
    if kind is None:
        raise ValueError(f"{where}: the image{name} is not a PNG, JPEG, GIF, WebP or BMP ({len(data):,} bytes)")
    return f"data:{kind};base64,{_base64(data)}"


def _audio_part(sound: Any, where: str) -> dict[str, Any]:
    data, name = _read(sound, "sound", where)
    form = _FORMATS.get(audio_type(data) or "")
    if form is None:
        found = audio_type(data) or "unknown format"
        raise ValueError(
            f"{where}: the sound{name} is not a WAV or MP3, which chats accept ({len(data):,} bytes, {found})"
        )
    return {"type": "input_audio", "input_audio": {"data": _base64(data), "format": form}}


class ReadingTime:
    """The deadline of a call whose files are not read yet: the seconds left, and the error once it has passed.

    Reading a pipe or a dead network mount may block for ever.
    """

    def __init__(self, calls: Engine, params: Mapping[str, Any], target: str, where: str) -> None:
        given = params.get("deadline", calls.config.deadline)
        wrong = isinstance(given, bool) or not isinstance(given, (int, float))  # the request raises this error
        self._seconds: float | None = None if wrong else given
        self._until: float | None = None if self._seconds is None else asyncio.get_running_loop().time() + self._seconds
        origin = calls.config.base.origin
        self._request = RequestInfo("POST", f"{origin.scheme}://{origin.host}:{origin.port}", target)
        self._where = where

    @property
    def left(self) -> float | None:
        """The seconds left for the call itself; `None` without a deadline."""
        return None if self._until is None else max(0.001, self._until - asyncio.get_running_loop().time())

    async def read(self, function: Callable[[], T]) -> T:
        """Run a file-reading function in a thread and return its result. Raises `APITimeoutError` and its
        exceptions."""
        limit = asyncio.timeout_at(self._until)
        try:
            async with limit:
                return await in_thread(function)
        except TimeoutError:
            if not limit.expired():
                raise
            why = f"{self._where}: the call's files could not be read within its deadline of {self._seconds:g} s"
            raise APITimeoutError(self._request, message=why, clock="deadline") from None


# Reading and encoding large files would block the event loop for too long.


async def image_urls(images: list[Any], where: str, time: ReadingTime) -> list[str]:
    """Return a URL for each image: as given, or a ``data:`` URL.

    Raises `OSError`, `TypeError`, `ValueError`, and `APITimeoutError`.
    """
    return [image if is_url(image) else await time.read(partial(_data_url, image, where)) for image in images]


async def audio_parts(sounds: list[Any], where: str, time: ReadingTime) -> list[dict[str, Any]]:
    """Return a content part for each sound, with its format (WAV or MP3) detected. Raises the errors of
    `image_urls`."""
    return [await time.read(partial(_audio_part, sound, where)) for sound in sounds]


resolve_annotations(__name__)
