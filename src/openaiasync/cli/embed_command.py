"""`openaiasync embed`: lines in, JSON Lines out in the same order, with several calls at a time, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from rich.progress import SpinnerColumn, TextColumn

from ..engine.bounded_map import bounded_map
from ..errors import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
from ..lazy import resolve_annotations
from ..storage.threads import in_thread
from .arguments import choose_model
from .console import CommandError, Exit, note, progress, write_bytes

if TYPE_CHECKING:
    from ..client import Client
    from .arguments import ServerOptions

__all__ = ["run_embed"]

_CHUNK = 1 << 18  # bytes that one read returns at most
_LONGEST = 64 << 20  # bytes of a line
_REFUSED = frozenset({400, 413, 422})  # about the texts of one call; other statuses affect all calls


@dataclass(frozen=True, slots=True)
class InputLine:
    """One line of the input; `error` is the reason if it cannot be sent."""

    index: int
    text: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A line with its vector, or with the error of its call."""

    row: InputLine
    vector: list[float] | None
    error: OpenAIError | None = None


def run_embed(
    server: ServerOptions, model: str | None, file: str, dimensions: int | None, batch: int, in_flight: int
) -> int:
    """Embed the lines of a file (``-``: stdin). Raises `CommandError`."""
    if file == "-":
        if sys.stdin is None:
            raise CommandError("there is no stdin; name a file")
        if sys.stdin.isatty():
            note("Reading lines from the terminal; end with Ctrl-D.")
        return asyncio.run(_embed(server, model, sys.stdin.fileno(), dimensions, batch, in_flight))
    try:
        source = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None
    try:
        return asyncio.run(_embed(server, model, source, dimensions, batch, in_flight))
    finally:
        os.close(source)


async def _embed(
    server: ServerOptions, model: str | None, source: int, dimensions: int | None, batch: int, in_flight: int
) -> int:
    rows = failed = 0
    options: dict[str, Any] = {} if dimensions is None else {"dimensions": dimensions}
    async with server.client(http_max_in_flight=in_flight) as client:
        options["model"] = await choose_model(client, model, "embedding")
        embedder = _Embedder(client, options)
        # On a terminal that also shows the output, a counter would be mixed into it.
        shown = sys.stderr.isatty() and not sys.stdout.isatty()
        columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} lines"))
        with progress("embed", *columns, total=None, shown=shown) as advance:
            batches = _batches(_rows(source), batch)
            done_in_order = bounded_map(embedder, batches, concurrency=in_flight, ahead=2 * in_flight)
            async with contextlib.aclosing(done_in_order) as results:
                async for done in results:
                    _refuse_all_failed(rows, done)
                    write_bytes(b"".join(map(_line, done)))
                    rows += len(done)
                    failed += sum(one.vector is None for one in done)
                    advance(len(done))
    if not failed:
        return Exit.OK
    note(f"{failed} of {rows} lines failed.")
    return Exit.ROWS_FAILED


def _refuse_all_failed(before: int, done: list[Embedded]) -> None:
    """Raise the error of the first call if it had every line refused: the request is at fault then, not the lines."""
    errors = [one.error for one in done if one.error is not None]
    if before == 0 and errors and len(errors) == len(done):
        raise errors[0]


def _line(one: Embedded) -> bytes:
    value: dict[str, Any] = {"index": one.row.index, "text": one.row.text}
    if one.vector is None:
        value["error"] = one.row.error or str(one.error)
    else:
        value["embedding"] = one.vector
    return msgspec.json.encode(value) + b"\n"


# ---------------------------------------------------------------- calls


class _Embedder:
    """Embeds batches of lines."""

    def __init__(self, client: Client, options: dict[str, Any]) -> None:
        self._client = client
        self._options = options

    async def __call__(self, batch: list[InputLine]) -> list[Embedded]:
        """Return the batch with vectors and errors, in order. Raises errors that affect more than its lines."""
        good = await self._send([row for row in batch if not row.error])
        bad = [Embedded(row, None) for row in batch if row.error]
        return sorted([*good, *bad], key=lambda one: one.row.index)

    async def _send(self, rows: list[InputLine]) -> list[Embedded]:
        """Send rows; if they are refused, send each half again, until the bad rows are found."""
        if not rows:
            return []
        try:
            answer = await self._client.embedding([row.text for row in rows], **self._options)
        except OpenAIError as error:
            if not _about_rows(error):
                raise
            if len(rows) == 1 or not isinstance(error, APIStatusError) or error.status_code not in _REFUSED:
                return [Embedded(row, None, error) for row in rows]
            half = len(rows) // 2
            return [*await self._send(rows[:half]), *await self._send(rows[half:])]
        # There is a vector for each text: the method checks it.
        return [Embedded(row, list(view)) for row, view in zip(rows, answer.vectors, strict=True)]


def _about_rows(error: OpenAIError) -> bool:
    """Return whether calls with other lines may succeed: not after a wrong key, an unknown model, a dead server."""
    if isinstance(error, APIStatusError):
        return error.status_code in _REFUSED or error.retryable
    return not isinstance(error, APIConnectionError) or isinstance(error, APITimeoutError)


# ---------------------------------------------------------------- input


async def _batches(rows: AsyncGenerator[InputLine, None], size: int) -> AsyncGenerator[list[InputLine], None]:
    batch: list[InputLine] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _rows(source: int) -> AsyncGenerator[InputLine, None]:
    """Yield the lines of a file descriptor without line ends. Blank lines are skipped, but counted by the index."""
    index = size = 0
    unfinished: list[bytes] = []
    while chunk := await _read(source):
        head, *ended = chunk.split(b"\n")
        unfinished.append(head)
        size = len(ended[-1]) if ended else size + len(head)
        if size > _LONGEST:
            raise CommandError(
                f"line {index + 1} of the input is longer than {_LONGEST:,} bytes: this is not a text file"
            )
        for rest in ended:
            if row := _row(index, b"".join(unfinished)):
                yield row
            index += 1
            unfinished = [rest]
    if row := _row(index, b"".join(unfinished)):
        yield row


def _row(index: int, line: bytes) -> InputLine | None:
    line = line.removeprefix(BOM_UTF8) if index == 0 else line
    try:
        text = line.decode().removesuffix("\r")
    except UnicodeDecodeError as error:
        return InputLine(
            index, line.decode(errors="replace"), f"the line is not UTF-8 ({error.reason} at byte {error.start})"
        )
    return InputLine(index, text) if text.strip() else None


async def _read(source: int) -> bytes:
    """Return the next bytes, `b""` at the end of the input.

    In a thread, because neither files nor all pipes can be polled; in a daemon thread, because nothing can interrupt
    it: Ctrl-C must not wait for the writer of a pipe.
    """
    try:
        return await in_thread(lambda: os.read(source, _CHUNK))
    except OSError as error:
        raise CommandError(f"cannot read the input: {error.strerror}") from None


resolve_annotations(__name__)
