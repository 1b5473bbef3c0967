"""Upload bodies: files are checked before anything is sent, then read in slices in a thread.

Memory use does not depend on file sizes. A file whose size changed after the check fails the upload, as the message
would be truncated or malformed.
"""

from __future__ import annotations

import copy
import errno
import io
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator
from typing import IO, Any, NamedTuple, Protocol, TypeAlias, cast

from ..core.codec.endpoint import Request
from ..core.http.multipart import BareText, Multipart, Naming
from ..core.model.media_types import SNIFFED
from ..storage.disk import open_regular
from ..storage.threads import in_thread

__all__ = ["SLICE", "Pieces", "Upload", "raw_body", "with_upload"]

SLICE = 262_144  # bytes that are read at once
OCTETS = "application/octet-stream"
TOGETHER = 65_536  # bytes up to which neighbours are sent as one piece


class _Path(NamedTuple):
    """A file on disk, with its size when it was checked."""

    path: str
    size: int


class _OpenFile(NamedTuple):
    """A file that the caller has opened and will close; `size` is `None` where it cannot be rewound."""

    file: IO[bytes]
    size: int | None


class _Unnamed(NamedTuple):
    """A file that cannot be rewound; the header of its part depends on its first bytes, read when it is sent."""

    naming: Naming
    source: _OpenFile


_Source: TypeAlias = bytes | _Path | _OpenFile | _Unnamed


async def with_upload(request: Request) -> Request:
    """Return the request with a sendable body in place of a `Multipart` or a `BareText`.

    Raises `OSError` for a file that is missing, unreadable, or not a regular one.
    """
    body = request.body
    if not isinstance(body, Multipart | BareText):
        return request
    request = copy.copy(request)
    request.body = await Upload.of(body) if isinstance(body, Multipart) else Upload(body.content_type, [body.content])
    return request


class Upload:
    """A form whose files are readable, `length` bytes in all (`None`: unknown, for a file without a size).

    `rewindable` tells whether `open` may be called again, for a retry.
    """

    __slots__ = ("_sources", "content_type", "length", "rewindable")

    def __init__(self, content_type: str, sources: list[_Source]) -> None:
        sizes = [_size_of(one) for one in sources]
        self.content_type: str = content_type
        self.length: int | None = None if None in sizes else sum(size or 0 for size in sizes)
        self.rewindable: bool = self.length is not None
        self._sources = sources

    @classmethod
    async def of(cls, form: Multipart) -> Upload:
        """Check the form's files, in a thread."""
        if all(isinstance(part.content, bytes) for part in form.parts):
            return cls(form.content_type, _sources(form))
        return cls(form.content_type, await in_thread(lambda: _sources(form)))

    async def open(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces. Raises `OSError` and the exceptions of the caller's files."""
        for source in self._sources:
            if isinstance(source, bytes):
                yield source
                continue
            naming, source = source if isinstance(source, _Unnamed) else (None, source)
            reader = _PathReader(source) if isinstance(source, _Path) else _reader(source)
            try:
                if naming is not None:
                    first = await reader.piece()
                    yield naming(first) + first
                while piece := await reader.piece():
                    yield piece
            finally:
                reader.close()


class Pieces:
    """A body from the caller's iterable, which can be read and sent only once."""

    __slots__ = ("_pieces", "content_type", "length", "rewindable")

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self.content_type: str = OCTETS
        self.length: int | None = None
        self.rewindable: bool = False
        self._pieces = pieces

    async def open(self) -> AsyncIterator[bytes]:
        """Yield the pieces as they arrive. Raises the exceptions of the caller's iterable."""
        async for piece in self._pieces:
            yield piece


def raw_body(content: Any) -> Upload | Pieces:
    """Return a body that is sent unchanged: bytes, text, an open file, or an asynchronous iterable of bytes."""
    if isinstance(content, str):
        content = content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        data: Any = cast("Any", content)
        return Upload(OCTETS, [bytes(data)])
    if hasattr(content, "__aiter__"):
        return Pieces(content)
    if hasattr(content, "read"):
        return Upload(OCTETS, [_measure(content)])
    raise TypeError(f"content must be bytes, text, a file or an asynchronous iterable, not {type(content).__name__}")


def _sources(form: Multipart) -> list[_Source]:
    found: list[_Source] = []
    for part in form.parts:
        content = part.content
        if isinstance(content, bytes):
            _add(found, part.head)
            _add(found, content)
        else:
            source = _look(content) if isinstance(content, str) else _measure(content)
            if part.naming is not None and isinstance(source, _OpenFile) and source.size is None:
                found.append(_Unnamed(part.naming, source))
            else:
                _add(found, part.head if part.naming is None else part.naming(_first_bytes(source)))
                found.append(source)
        _add(found, b"\r\n")
    _add(found, form.tail)
    return found


def _first_bytes(source: _Path | _OpenFile) -> bytes:
    if isinstance(source, _Path):
        with open(source.path, "rb", buffering=0) as file:
            return file.read(SNIFFED)
    first: Any = source.file.read(SNIFFED)
    source.file.seek(0)
    return first if isinstance(first, bytes) else b""  # a file that does not read bytes is rejected when it is sent


def _size_of(source: _Source) -> int | None:
    if isinstance(source, bytes):
        return len(source)
    return None if isinstance(source, _Unnamed) else source.size


def _add(found: list[_Source], data: bytes) -> None:
    last = found[-1] if found else None
    if isinstance(last, bytes) and len(last) + len(data) <= TOGETHER:
        found[-1] = last + data
    elif data:
        found.append(data)


def _look(path: str) -> _Path:
    with open_regular(path) as file:
        return _Path(path, os.fstat(file.fileno()).st_size)


def _measure(file: IO[bytes]) -> _OpenFile:
    """Return the form's part for a file. One that can be rewound is sent from its start, as the official client does;
    others from their position."""
    seekable = getattr(file, "seekable", None)
    if seekable is None or not seekable():
        return _OpenFile(file, None)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return _OpenFile(file, size if isinstance(size, int) else file.tell())  # pyright: ignore[reportUnnecessaryIsInstance]


# -------------------------------------------------------------------------------------------------- reading


class _Reader(Protocol):
    async def piece(self) -> bytes: ...
    def close(self) -> None: ...


def _reader(source: _OpenFile) -> _Reader:
    # Files in memory are read directly: a thread would only add cost.
    return _OpenReader(source, in_thread=not isinstance(source.file, io.BytesIO))


def _changed(name: str) -> OSError:
    return OSError(errno.EIO, "the file changed its size while it was being sent", name)


class _Count:
    """Counts the bytes read from a file and rejects a total other than the expected one."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name = name
        self._left = size

    def take(self, file: Any) -> bytes:
        """Return the next slice, empty at the exact end."""
        read: object = file.read(SLICE)
        if not isinstance(read, (bytes, bytearray)):
            raise TypeError(f"{self._name}: the file returns {type(read).__name__} instead of bytes")
        piece = bytes(read)
        if self._left is None:
            return piece
        self._left -= len(piece)
        # One more byte is requested after the last, so that a file that grew is detected before the form ends.
        if self._left < 0 or (self._left and not piece) or (piece and not self._left and file.read(1)):
            raise _changed(self._name)
        return piece


class _OpenReader:
    """Reads a caller's file and leaves it open."""

    def __init__(self, source: _OpenFile, in_thread: bool) -> None:
        self._file = source.file
        self._rewind = source.size is not None
        self._in_thread = in_thread
        self._at = 0
        self._count = _Count(str(getattr(source.file, "name", "upload")), source.size)

    async def piece(self) -> bytes:
        return await in_thread(self._next) if self._in_thread else self._next()

    def _next(self) -> bytes:
        if self._rewind:
            self._file.seek(self._at)  # a retry, or another upload of the same file, may have moved it
        piece = self._count.take(self._file)
        self._at += len(piece)
        return piece

    def close(self) -> None:
        pass


class _PathReader:
    """Opens and reads a file in threads. `close` never waits: a thread under way closes the file when it is done."""

    def __init__(self, source: _Path) -> None:
        self._source = source
        self._count = _Count(source.path, source.size)
        self._file: io.FileIO | None = None
        self._busy = threading.Lock()
        self._closed = False

    async def piece(self) -> bytes:
        return await in_thread(self._next)

    def _next(self) -> bytes:
        try:
            with self._busy:
                if self._closed:
                    return b""
                if self._file is None:
                    self._file = open_regular(self._source.path)  # closed by `close`
                    if os.fstat(self._file.fileno()).st_size != self._source.size:
                        raise _changed(self._source.path)
                return self._count.take(self._file)
        finally:
            if self._closed:
                self.close()

    def close(self) -> None:
        self._closed = True
        if self._busy.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
            finally:
                self._busy.release()
