"""`client.uploads.upload_file_chunked`: what the generated namespace inherits."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Unpack

from .mark import no_raw_twin
from .options import PART_SIZE

if TYPE_CHECKING:
    from ..core.policy.options import RequestOptions
    from ..engine import Engine
    from ..params import FilePurpose
    from ..types import Upload

__all__ = ["UploadsHelpers"]


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

        `file` is a path, bytes, or an open binary file, sent from where it stands. `filename` is needed where the file
        has no name; `bytes` is its length, found out where it is not given. `md5` is sent for the server to compare
        with what it got; ``True`` computes it. A part that fails is tried again (`max_retries`); `deadline` is of the
        whole upload.

        Raises `TypeError` and `ValueError` for arguments that are none and for a file that is not as long as it was
        said to be, `OSError` for one that cannot be read, and `OpenAIError`. What was begun is cancelled then, which
        is tried once; after a cancellation of the task it is left to the server, where it expires.
        """
        from .chunked import ChunkedUpload, source_of

        source = await source_of(file, filename, bytes)
        upload = ChunkedUpload(self._calls, source, PART_SIZE if part_size is None else part_size, {**options})
        return await upload.run({"mime_type": mime_type, "purpose": purpose}, md5)
