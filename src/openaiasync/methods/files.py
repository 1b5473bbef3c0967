"""`client.files` and `client.uploads`: waiting for a file, and a large file uploaded in parts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Unpack, cast

from .. import endpoints
from ..core.model.omitted import is_omitted
from ..engine.attachments import ReadingTime
from ..errors import OpenAIError
from ..lazy import resolve_annotations
from ..storage.disk import open_regular
from ..storage.threads import in_thread
from .common import no_raw_twin
from .polling import Poller

if TYPE_CHECKING:
    from ..core.policy.request_options import RequestOptions
    from ..engine import Engine
    from ..params import FilePurpose
    from ..types import FileObject, Upload

__all__ = ["PART_SIZE", "FilesHelpers", "UploadsHelpers"]

PART_SIZE = 64 * 1024 * 1024  # bytes: the most that the API takes as one part of an upload
CANCEL_PATIENCE = 10.0  # seconds that cancelling a failed upload may take
_FINISHED = frozenset({"processed", "error", "deleted"})


class FilesHelpers:
    """The hand-written part of `client.files`."""

    _calls: Engine

    @no_raw_twin
    async def wait_for_processing(
        self,
        id: str,
        *,
        poll_interval: float = 5.0,
        max_wait_seconds: float = 1800.0,
        **options: Unpack[RequestOptions],
    ) -> FileObject:
        """Wait until a file is processed, has failed (`status` is "error"), or was deleted, and return it.

        Polls every `poll_interval` seconds, for at most `max_wait_seconds`; `deadline` applies to the whole helper.
        Raises `PollTimeoutError` (a `RuntimeError`) when time is up, with the file in `.partial`, and `OpenAIError`.
        """
        times = {"poll_interval_ms": poll_interval * 1000, "max_wait_seconds": max_wait_seconds}
        poller = Poller(self._calls, {**options, **times})
        file: FileObject = await poller.end(
            endpoints.FILES_RETRIEVE, {"file_id": id}, lambda status: status not in _FINISHED
        )
        return file


class UploadsHelpers:
    """The hand-written part of `client.uploads`."""

    _calls: Engine

    @no_raw_twin
    async def upload_file_chunked(
        self,
        *,
        file: os.PathLike[str] | bytes | IO[bytes],
        mime_type: str,
        purpose: FilePurpose,
        filename: str | None = None,
        bytes: int | None = None,
        part_size: int | None = None,
        md5: str | bool | None = None,
        **options: Unpack[RequestOptions],
    ) -> Upload:
        """Upload a large file in parts of `part_size` bytes (64 MiB, the most allowed), one after another.

        `file` is a path, bytes, or an open binary file, which is sent from its current position. `filename` is required
        if the file has no name; `bytes` is its length, by default that of the file. `md5` is sent for the server to
        compare with what it received; ``True`` computes it. A part that fails is retried (`max_retries`); `deadline`
        holds for the whole upload.

        Raises `TypeError` and `ValueError` for wrong arguments and for a file whose length is not `bytes`, `OSError`
        for one that cannot be read, and `OpenAIError`. The upload is cancelled then, which is attempted once; after a
        cancellation of the task it is left to the server, where it expires.
        """
        source = await source_of(file, filename, bytes)
        upload = ChunkedUpload(self._calls, source, PART_SIZE if part_size is None else part_size, {**options})
        return await upload.run({"mime_type": mime_type, "purpose": purpose}, md5)


class UploadSource(NamedTuple):
    """An open file, its name, and the number of bytes to send."""

    file: IO[bytes] | io.FileIO
    name: str
    length: int
    own: bool  # opened here, so it is closed here


async def source_of(file: Any, name: str | None, length: Any) -> UploadSource:
    """Open the file. Raises `TypeError` unless it is a file with a name, `OSError` if it cannot be opened."""
    if isinstance(length, bool) or not isinstance(length, (int, type(None))):
        raise TypeError(f"bytes must be a whole number, not {type(length).__name__}")
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
        raise TypeError(f"file must be a path, bytes or an open binary file, not {type(file).__name__}")
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
    """An upload in parts. Raises `ValueError` for a part size out of range."""

    def __init__(self, calls: Engine, source: UploadSource, part_size: int, options: dict[str, Any]) -> None:
        if not 0 < part_size <= PART_SIZE:
            _close(source)
            raise ValueError(f"part_size must be a number of bytes from 1 to {PART_SIZE}, not {part_size!r}")
        self._calls = calls
        self._source = source
        self._part_size = part_size
        self._whole = self._reading(options) if "deadline" in options else None
        self._poller = Poller(calls, options)
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
                checksum = self._hash.hexdigest() if self._hash is not None else md5
                more = {"md5": checksum} if checksum and not is_omitted(checksum) else {}
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
        return await self._poller.first(endpoint, {**self._options, **params})

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
            raise ValueError(
                f"the file is {'shorter' if left else 'longer'} than the {self._source.length} bytes given"
            )
        return parts

    def _time(self) -> ReadingTime:
        """Return the time for reading: the call's deadline holds for the whole upload, the client's for a request."""
        return self._whole or self._reading({})

    def _reading(self, options: dict[str, Any]) -> ReadingTime:
        return ReadingTime(self._calls, options, "/uploads", "upload_file_chunked()")

    def _read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._source.file.read(size)):  # pipes return less than requested
            pieces.append(piece)
            size -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._hash is not None:
            self._hash.update(data)
        return data

    async def _cancel(self, upload_id: str) -> None:
        """Cancel the upload. Errors are ignored: the one that led here is raised."""
        options = {**self._options, "max_retries": 0, "deadline": CANCEL_PATIENCE}
        with contextlib.suppress(OpenAIError):
            await self._calls.run(endpoints.UPLOADS_CANCEL, {**options, "upload_id": upload_id})


def _close(source: UploadSource) -> None:
    if source.own:
        source.file.close()


resolve_annotations(__name__)
