"""A large file uploaded in parts: read in a thread, sent one after another, completed or cancelled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from .. import endpoints
from ..core.model.omitted import is_omitted
from ..engine.attachments import ReadingTime
from ..errors import OpenAIError
from ..storage.disk import open_regular
from ..storage.threads import in_thread
from .options import PART_SIZE
from .polling import Waiting

if TYPE_CHECKING:
    from ..engine import Engine
    from ..types import Upload

__all__ = ["ChunkedUpload", "UploadSource", "source_of"]

CANCEL_PATIENCE = 10.0  # seconds that cancelling a failed upload may take


class UploadSource(NamedTuple):
    """An open file, what it is called, and how many bytes are to come."""

    file: IO[bytes] | io.FileIO
    name: str
    length: int
    own: bool  # we opened it


async def source_of(file: Any, name: str | None, length: Any) -> UploadSource:
    """The file opened. `TypeError` for what is no file or has no name, `OSError` for what cannot be opened."""
    if isinstance(length, bool) or not isinstance(length, (int, type(None))):
        raise TypeError(f"bytes is a whole number, not {type(length).__name__}")
    if isinstance(file, (bytes, bytearray, memoryview)):
        if not name:
            raise TypeError("bytes have no name: pass filename=")
        data = bytes(cast("bytes", file))
        return UploadSource(io.BytesIO(data), name, len(data) if length is None else length, True)
    if isinstance(file, (str, os.PathLike)):
        path = Path(cast("str", file))
        opened = await in_thread(lambda: open_regular(path))
        size = os.fstat(opened.fileno()).st_size
        return UploadSource(opened, name or path.name, size if length is None else length, True)
    if not callable(getattr(file, "read", None)) or isinstance(file, io.TextIOBase):
        raise TypeError(f"file is a path, bytes or an open binary file, not {type(file).__name__}")
    own_name: Any = getattr(file, "name", None)
    name = name or (os.path.basename(own_name) if isinstance(own_name, str) else None)
    if not name:
        raise TypeError("this file has no name: pass filename=")
    return UploadSource(file, name, await in_thread(lambda: _rest_of(file)) if length is None else length, False)


def _rest_of(file: IO[bytes]) -> int:
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(here)
    return end - here


class ChunkedUpload:
    """One upload under way. Raises `ValueError` for a size of parts that is none."""

    def __init__(self, calls: Engine, source: UploadSource, part_size: int, options: dict[str, Any]) -> None:
        if not 0 < part_size <= PART_SIZE:
            _close(source)
            raise ValueError(f"part_size is a number of bytes from 1 to {PART_SIZE}, not {part_size!r}")
        self._calls = calls
        self._source = source
        self._part_size = part_size
        self._whole = self._reading(options) if "deadline" in options else None
        self._waiting = Waiting(calls, options)
        self._options = options
        self._hash: Any = None

    async def run(self, about: dict[str, Any], md5: str | bool | None) -> Upload:
        """Create the upload, send all parts, complete it."""
        source = self._source
        if md5 is True:
            self._hash = hashlib.md5(usedforsecurity=False)
        try:
            upload = await self._ask(
                endpoints.UPLOADS_CREATE, {**about, "filename": source.name, "bytes": source.length}
            )
            try:
                parts = await self._parts(upload.id)
                wanted = self._hash.hexdigest() if self._hash is not None else md5
                more = {"md5": wanted} if wanted and not is_omitted(wanted) else {}
                done: Upload = await self._ask(
                    endpoints.UPLOADS_COMPLETE, {"upload_id": upload.id, "part_ids": parts, **more}
                )
            except Exception:
                await self._cancel(upload.id)
                raise
        finally:
            _close(source)
        return done

    async def _ask(self, endpoint: Any, params: dict[str, Any]) -> Any:
        return await self._waiting.first(endpoint, {**self._options, **params})

    async def _parts(self, upload_id: str) -> list[str]:
        parts: list[str] = []
        left = self._source.length
        while left > 0:
            piece = await self._time().read(partial(self._read, min(self._part_size, left)))
            if not piece:
                break
            left -= len(piece)
            part = await self._ask(endpoints.UPLOADS_PARTS_CREATE, {"upload_id": upload_id, "data": piece})
            parts.append(part.id)
        more = b"" if left else await self._time().read(lambda: self._source.file.read(1))
        if left or more:
            raise ValueError(f"the file is {'shorter' if left else 'longer'} than the {self._source.length} bytes said")
        return parts

    def _time(self) -> ReadingTime:
        """A deadline that was given is that of the whole upload; the client's is that of each request."""
        return self._whole or self._reading({})

    def _reading(self, options: dict[str, Any]) -> ReadingTime:
        return ReadingTime(self._calls, options, "/uploads", "upload_file_chunked()")

    def _read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._source.file.read(size)):  # pipes and the like give less than asked for
            pieces.append(piece)
            size -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._hash is not None:
            self._hash.update(data)
        return data

    async def _cancel(self, upload_id: str) -> None:
        """Tell the server that nothing more comes; the error that led here matters more than one of this."""
        options = {**self._options, "max_retries": 0, "deadline": CANCEL_PATIENCE}
        with contextlib.suppress(OpenAIError):
            await self._calls.run(endpoints.UPLOADS_CANCEL, {**options, "upload_id": upload_id})


def _close(source: UploadSource) -> None:
    if source.own:
        source.file.close()
