"""`client.files.wait_for_processing`: what the generated namespace inherits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from .. import endpoints
from .mark import no_raw_twin
from .polling import Waiting

if TYPE_CHECKING:
    from ..core.policy.options import RequestOptions
    from ..engine import Engine
    from ..types import FileObject

__all__ = ["FilesHelpers"]

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
        """Wait until a file is processed, has failed (`status` "error"), or was deleted; the file.

        Asks every `poll_interval` seconds, for `max_wait_seconds` at most; `deadline` is of the whole helper. Raises
        `PollTimeoutError` (a `RuntimeError`) when the time is up, with the file in `.partial`, and `OpenAIError`.
        """
        times = {"poll_interval_ms": poll_interval * 1000, "max_wait_seconds": max_wait_seconds}
        waiting = Waiting(self._calls, {**options, **times})
        file: FileObject = await waiting.end(
            endpoints.FILES_RETRIEVE, {"file_id": id}, lambda status: status not in _FINISHED
        )
        return file
