"""Jobs through a server's Batch API: upload the rows in files, wait for the server, merge the results.

A file has at most 50,000 rows and 200 MB, all of one endpoint. Each upload is recorded in ``batches.json`` in the job's
folder before the batch is created, so that a killed job finds its batches again and creates none twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import msgspec

from ..core.codec.error_body import parse_error
from ..core.model.plain import mended_json
from ..core.policy.estimate import MOST_TOKENS
from ..engine.engine import Engine
from ..errors import BadRequestError
from ..storage.atomic import write_file
from ..storage.disk import read_file
from ..storage.threads import in_thread
from .batch_file import as_object, encode_failure, encode_success
from .fingerprint import JobError, JobRecord
from .job_sink import JobSink
from .row import Usage, Work

__all__ = ["BatchRun"]

ROWS, BYTES = 50_000, 200_000_000  # of one file
_FIRST, _LONGEST, _GROWTH = 1.0, 60.0, 1.5  # seconds between two polls of a batch
_FINAL = frozenset({"completed", "failed", "expired", "cancelled"})
_RECORD = 64 << 20  # bytes


class _RowFile(msgspec.Struct, kw_only=True):
    """One file of rows at the server."""

    name: str
    """The part's id in the batch's metadata."""
    endpoint: str
    rows: int
    first: int
    last: int
    """Indices of the first and the last row; the file has all unfinished rows of the endpoint between them."""
    file: str = ""
    batch: str = ""
    merged: bool = False


class _LineResponse(msgspec.Struct):
    body: msgspec.Raw
    status_code: int = 0
    request_id: str | None = None


class _Result(msgspec.Struct):
    custom_id: str
    response: _LineResponse | None = None
    error: Any = None


class _Spent(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Body(msgspec.Struct):
    usage: _Spent | None = None


_result = msgspec.json.Decoder(_Result)
_body = msgspec.json.Decoder(_Body)


class BatchRun:
    """One run of a job through the Batch API. `rows` returns a new iterator over its unfinished rows."""

    def __init__(
        self,
        engine: Engine,
        record: JobRecord,
        sink: JobSink,
        rows: Callable[[], Iterator[Work]],
        stop: asyncio.Event,
        *,
        poll: float = _FIRST,
    ) -> None:
        self._engine = engine
        self._record = record
        self._sink = sink
        self._store = sink.store
        self._rows = rows
        self._stop = stop
        self._poll = poll
        self._path = os.path.join(self._store.folder, "batches.json")
        self._parts: list[_RowFile] = []

    async def run(self) -> None:
        """Upload the remaining rows and merge finished batches until all are done or the job is stopped.

        Raises `OpenAIError`, `JobError` for a batch that the server refuses, and `OSError`.
        """
        self._parts = await in_thread(self._load)
        await self._submit()
        wait = self._poll
        while any(not part.merged for part in self._parts) and not self._stop.is_set():
            moved = False
            for part in self._parts:
                if not part.merged and not self._stop.is_set():
                    moved = await self._look_at(part) or moved
            if all(part.merged for part in self._parts):
                break
            wait = self._poll if moved else min(_LONGEST, wait * _GROWTH)
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    # ---------------------------------------------------------------- sending

    async def _submit(self) -> None:
        """Upload all rows that are not in a batch."""
        for part in self._parts:
            if not part.merged and part.file and not part.batch:
                # An earlier run was killed between uploading and creating the batch, or before the creation was
                # confirmed.
                await self._begin(part, await self._find(part))
        held = [part for part in self._parts if not part.merged and part.batch]
        lines: dict[str, list[bytes]] = {}
        works: dict[str, list[Work]] = {}
        sizes: dict[str, int] = {}
        for work in self._rows():
            if self._stop.is_set():
                return
            path = work.request.endpoint.path
            if any(part.endpoint == path and part.first <= work.index <= part.last for part in held):
                continue
            line = b'{"custom_id":%b,"method":"POST","url":%b,"body":%b}\n' % (
                msgspec.json.encode(work.key),
                msgspec.json.encode(f"/v1{path}"),
                work.request.body,
            )
            if path in lines and (len(lines[path]) >= ROWS or sizes[path] + len(line) > BYTES):
                await self._upload(path, works.pop(path), lines.pop(path))
                sizes[path] = 0
            lines.setdefault(path, []).append(line)
            works.setdefault(path, []).append(work)
            sizes[path] = sizes.get(path, 0) + len(line)
        for path in list(lines):
            await self._upload(path, works.pop(path), lines.pop(path))

    async def _upload(self, path: str, works: list[Work], lines: list[bytes]) -> None:
        from ..endpoints import FILES_CREATE

        number = len(self._parts) + 1
        part = _RowFile(
            name=f"{self._record.nonce}-{number}",
            endpoint=path,
            rows=len(works),
            first=works[0].index,
            last=works[-1].index,
        )
        data = b"".join(lines)
        made = await self._engine.run(
            FILES_CREATE, {"file": (f"{part.name}.jsonl", data, "application/jsonl"), "purpose": "batch"}
        )
        part.file = made.id
        for work in works:
            self._store.sent(work.index, crc32(work.request.body))
        self._parts.append(part)
        await in_thread(self._save)
        await self._begin(part, None)

    async def _begin(self, part: _RowFile, batch: Any) -> None:
        """Create the batch for a file, unless it exists already."""
        from ..endpoints import BATCHES_CREATE

        if batch is None:
            try:
                batch = await self._engine.run(
                    BATCHES_CREATE,
                    {
                        "input_file_id": part.file,
                        "endpoint": f"/v1{part.endpoint}",
                        "completion_window": "24h",
                        "metadata": {"job": part.name},
                    },
                )
            except BadRequestError as error:
                self._parts.remove(part)
                await in_thread(self._save)
                raise JobError(f"the server refused a batch of {part.rows:,} rows: {error}") from error
        part.batch = batch.id
        await in_thread(self._save)

    async def _find(self, part: _RowFile) -> Any:
        """Return the batch that an earlier run created for this file, if any."""
        from ..endpoints import BATCHES_LIST

        looked = 0
        async for batch in self._engine.pages(BATCHES_LIST, {"limit": 100}):
            if batch.input_file_id == part.file:
                return batch
            looked += 1
            if looked >= 1000:
                return None
        return None

    # ---------------------------------------------------------------- results

    async def _look_at(self, part: _RowFile) -> bool:
        """Poll a batch, merge its results if it is done, and return whether it is."""
        from ..endpoints import BATCHES_RETRIEVE

        batch = await self._engine.run(BATCHES_RETRIEVE, {"batch_id": part.batch})
        if batch.status not in _FINAL:
            return False
        if batch.status == "failed":
            self._parts.remove(part)
            await in_thread(self._save)
            found = batch.errors.data if batch.errors is not None else None
            said = "; ".join(str(one.message) for one in found or ()) or "it does not say why"
            raise JobError(f"the server failed the batch {part.batch} of {part.rows:,} rows: {said[:2000]}")
        waiting = {
            work.key: work
            for work in self._rows()
            if part.first <= work.index <= part.last and work.request.endpoint.path == part.endpoint
        }
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                await self._merge(file, waiting)
        part.merged = True
        await in_thread(self._save)
        return True

    async def _merge(self, file: str, waiting: dict[str, Work]) -> None:
        from ..endpoints import FILES_CONTENT

        answer = await self._engine.run(FILES_CONTENT, {"file_id": file})
        for number, line in enumerate(answer.content.splitlines()):
            if not line.strip():
                continue
            try:
                result = _read_result(line)
            except (ValueError, RecursionError) as error:
                raise JobError(f"line {number + 1} of the server's file {file} is not a result: {error}") from None
            work = waiting.pop(result.custom_id, None)
            if work is not None:
                self._take(work, result)
            if number % 500 == 0:
                await asyncio.sleep(0)

    def _take(self, work: Work, result: _Result) -> None:
        response = result.response
        stats = self._sink.stats
        if response is not None and 200 <= response.status_code < 300 and not result.error:
            body = bytes(response.body)
            stats.ok += 1
            if (usage := _usage(body)) is not None:
                stats.input_tokens += usage.input
                stats.output_tokens += usage.output
                self._sink.spend(work.model, usage)
            line = encode_success(
                self._sink.row_id(work.index), work.key, response.status_code, response.request_id, body
            )
            self._sink.take(work.index, True, line)
            return
        stats.failed += 1
        status = None if response is None else response.status_code
        said: Any = None if response is None else parse_error(bytes(response.body))
        inner = as_object(as_object(said).get("error"))
        error = {**inner, **as_object(result.error)}
        code = error.get("code") or error.get("type")
        self._sink.count_failure(f"HTTP {status} {code or ''}".strip() if status else str(code or "not answered"))
        url, request_id = f"/v1{work.request.endpoint.path}", None if response is None else response.request_id
        line = encode_failure(work.key, url, work.request.body, status, request_id, error, said)
        self._sink.take(work.index, False, line)

    # ---------------------------------------------------------------- the record of batches

    def _load(self) -> list[_RowFile]:
        try:
            return msgspec.json.decode(read_file(self._path, _RECORD), type=list[_RowFile])
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise JobError(f"{self._path} cannot be read: {error}") from error

    def _save(self) -> None:
        write_file(self._path, msgspec.json.format(msgspec.json.encode(self._parts), indent=1))


def _read_result(line: bytes) -> _Result:
    try:
        return _result.decode(line)
    except ValueError:  # one answer must not keep the others of its file from being merged
        return _result.decode(mended_json(line))


def _usage(body: bytes) -> Usage | None:
    try:
        spent = _body.decode(body).usage
    except (ValueError, RecursionError):
        return None
    if spent is None:
        return None
    usage = Usage(spent.prompt_tokens or spent.input_tokens, spent.completion_tokens or spent.output_tokens)
    return usage if all(0 <= count <= MOST_TOKENS for count in usage) else None
