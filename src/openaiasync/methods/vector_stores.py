"""`client.vector_stores.files` and `.file_batches`: uploading, attaching and polling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from .. import endpoints
from ..core.model.omitted import is_omitted
from ..engine.bounded_map import bounded_map
from ..lazy import resolve_annotations
from .common import no_raw_twin
from .polling import OF_ALL, Poller, PollOptions, WaitOptions

if TYPE_CHECKING:
    from ..core.codec.file_types import FileTypes
    from ..core.policy.request_options import RequestOptions
    from ..engine import Engine
    from ..params import FileChunkingStrategyParam
    from ..params.vector_stores.file_batch_create_params import FileBatchCreateParams
    from ..types.vector_stores import VectorStoreFile, VectorStoreFileBatch

__all__ = ["FileBatchesHelpers", "VectorStoreFilesHelpers"]

PURPOSE = "assistants"  # the purpose of files that are uploaded for a vector store


def _in_progress(status: object) -> bool:
    return status == "in_progress"


class AttachOptions(WaitOptions, total=False):
    """The options of attaching a file to a vector store and polling for it."""

    attributes: Mapping[str, str | float | bool] | None
    chunking_strategy: FileChunkingStrategyParam


class BatchOptions(PollOptions, total=False):
    """The options of attaching several files to a vector store and polling for them."""

    attributes: Mapping[str, str | float | bool] | None
    chunking_strategy: FileChunkingStrategyParam


class VectorStoreFilesHelpers:
    """The hand-written part of `client.vector_stores.files`."""

    _calls: Engine

    @no_raw_twin
    async def create_and_poll(
        self, file_id: str, *, vector_store_id: str, **params: Unpack[AttachOptions]
    ) -> VectorStoreFile:
        """Attach an uploaded file to a vector store and wait for it; see `poll`."""
        return await self._attached(file_id, vector_store_id, {**params})

    @no_raw_twin
    async def poll(self, file_id: str, *, vector_store_id: str, **options: Unpack[WaitOptions]) -> VectorStoreFile:
        """Wait while a file of a vector store is "in_progress" and return it; it may have failed (`.last_error`).

        Raises `PollTimeoutError` (a `TimeoutError`) after `deadline` or `max_wait_seconds`, with the file as last
        received in `.partial`, and `OpenAIError`.
        """
        return await self._end(Poller(self._calls, {**options}), file_id, vector_store_id)

    @no_raw_twin
    async def upload(
        self,
        *,
        vector_store_id: str,
        file: FileTypes,
        chunking_strategy: FileChunkingStrategyParam | None = None,
        **options: Unpack[RequestOptions],
    ) -> VectorStoreFile:
        """Upload a file and attach it to a vector store, without waiting for it.

        Raises the errors of `files.create`. `deadline` applies to both requests together.
        """
        poller = Poller(self._calls, params := _without_gaps({**options, "chunking_strategy": chunking_strategy}))
        return await self._begin(poller, await _uploaded(poller, file, params), vector_store_id, params)

    @no_raw_twin
    async def upload_and_poll(
        self, *, vector_store_id: str, file: FileTypes, **params: Unpack[AttachOptions]
    ) -> VectorStoreFile:
        """Upload a file, attach it to a vector store, and wait for it; see `poll`."""
        poller = Poller(self._calls, rest := _without_gaps({**params}))
        file_id = await _uploaded(poller, file, rest)
        await self._begin(poller, file_id, vector_store_id, rest)
        return await self._end(poller, file_id, vector_store_id)

    async def _attached(self, file_id: str, vector_store_id: str, params: dict[str, Any]) -> VectorStoreFile:
        poller = Poller(self._calls, params)
        await self._begin(poller, file_id, vector_store_id, params)
        return await self._end(poller, file_id, vector_store_id)

    async def _begin(self, poller: Poller, file_id: str, store: str, params: dict[str, Any]) -> VectorStoreFile:
        file: VectorStoreFile = await poller.first(
            endpoints.VECTOR_STORES_FILES_CREATE, {**params, "vector_store_id": store, "file_id": file_id}
        )
        return file

    async def _end(self, poller: Poller, file_id: str, store: str) -> VectorStoreFile:
        ids = {"vector_store_id": store, "file_id": file_id}
        file: VectorStoreFile = await poller.end(endpoints.VECTOR_STORES_FILES_RETRIEVE, ids, _in_progress)
        return file


class FileBatchesHelpers:
    """The hand-written part of `client.vector_stores.file_batches`."""

    _calls: Engine

    @no_raw_twin
    async def create_and_poll(
        self, vector_store_id: str, *, poll_interval_ms: float | None = None, **params: Unpack[FileBatchCreateParams]
    ) -> VectorStoreFileBatch:
        """Attach uploaded files to a vector store and wait for all of them; see `poll`."""
        rest: dict[str, Any] = {**params, "poll_interval_ms": poll_interval_ms}
        return await self._attached(Poller(self._calls, rest), vector_store_id, rest)

    @no_raw_twin
    async def poll(
        self, batch_id: str, *, vector_store_id: str, **options: Unpack[PollOptions]
    ) -> VectorStoreFileBatch:
        """Wait while a batch is "in_progress" and return it; its files may have failed (`.file_counts`).

        Raises `PollTimeoutError` after `deadline`, with the batch as last received in `.partial`, and `OpenAIError`.
        """
        return await self._end(Poller(self._calls, {**options}), batch_id, vector_store_id)

    @no_raw_twin
    async def upload_and_poll(
        self,
        vector_store_id: str,
        *,
        files: Iterable[FileTypes],
        max_concurrency: int = 5,
        file_ids: Sequence[str] = (),
        **params: Unpack[BatchOptions],
    ) -> VectorStoreFileBatch:
        """Upload files, `max_concurrency` at a time, attach them and those of `file_ids`, and wait; see `poll`.

        The first upload that fails ends the others and is raised, with a note that names the finished uploads.
        Raises `ValueError` if there is nothing to attach.
        """
        rest = _without_gaps({**params})
        poller = Poller(self._calls, rest)
        given = list(files)
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be a whole number above 0, not {max_concurrency!r}")
        if not given and not file_ids:
            raise ValueError("no files to attach: pass files=, file_ids=, or both")
        uploaded: dict[int, str] = {}

        async def upload(numbered: tuple[int, FileTypes]) -> None:
            uploaded[numbered[0]] = await _uploaded(poller, numbered[1], rest)

        try:
            async for _ in bounded_map(upload, enumerate(given), concurrency=max_concurrency, ordered=False):
                pass
        except BaseException as error:
            if uploaded:
                error.add_note(f"uploaded by then, and not attached: {', '.join(uploaded.values())}")
            raise
        ids = [*file_ids, *(uploaded[place] for place in range(len(given)))]
        return await self._attached(poller, vector_store_id, {**rest, "file_ids": ids})

    async def _attached(self, poller: Poller, store: str, params: dict[str, Any]) -> VectorStoreFileBatch:
        batch: VectorStoreFileBatch = await poller.first(
            endpoints.VECTOR_STORES_FILE_BATCHES_CREATE, {**params, "vector_store_id": store}
        )
        return await self._end(poller, batch.id, store)

    async def _end(self, poller: Poller, batch_id: str, store: str) -> VectorStoreFileBatch:
        ids = {"vector_store_id": store, "batch_id": batch_id}
        batch: VectorStoreFileBatch = await poller.end(endpoints.VECTOR_STORES_FILE_BATCHES_RETRIEVE, ids, _in_progress)
        return batch


async def _uploaded(poller: Poller, file: FileTypes, params: Mapping[str, Any]) -> str:
    """Upload a file with the options for all requests of the helper, and return its id."""
    options = {name: params[name] for name in OF_ALL & params.keys()}
    uploaded = await poller.first(endpoints.FILES_CREATE, {**options, "file": file, "purpose": PURPOSE})
    file_id: str = uploaded.id
    return file_id


def _without_gaps(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and not is_omitted(value)}


resolve_annotations(__name__)
