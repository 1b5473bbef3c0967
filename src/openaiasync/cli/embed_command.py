"""`openaiasync embed`: texts in; JSON Lines out in the same order, or a store; with several calls at a time, in bounded
memory. A command that writes to a file continues where it was interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

from ..engine.bounded_map import bounded_map
from ..errors import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError
from ..lazy import resolve_annotations
from ..storage.disk import LockedFile, open_locked
from ..storage.threads import in_thread
from .arguments import choose_model
from .console import CommandError, Exit, note, progress, write_bytes
from .embed_input import InputLine, count_texts, format_of, read_texts
from .vector_file import VectorFile

if TYPE_CHECKING:
    from ..client import Client
    from .arguments import ServerOptions

__all__ = ["EmbedOptions", "run_embed"]

_REFUSED = frozenset({400, 413, 422})  # about the texts of one call; other statuses affect all calls


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """What `embed` reads, how it calls, and where the vectors go."""

    file: str = "-"
    form: str | None = None
    column: str | None = None
    model: str | None = None
    dimensions: int | None = None
    batch: int = 64
    in_flight: int = 4
    out: str | None = None
    store: str | None = None
    new: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text with its vector, or with the error of its call."""

    row: InputLine
    vector: list[float] | None
    error: OpenAIError | None = None

    @property
    def reason(self) -> str | None:
        """The reason for a missing vector."""
        return None if self.vector is not None else self.row.error or str(self.error)


class _Target(Protocol):
    """Where vectors go."""

    failed: int
    """The number of rows for which an earlier run wrote an error, and which are not sent again."""

    def begin(self, model: str, dimensions: int | None) -> None:
        """Prepare for vectors of this model."""
        ...

    def done(self, rows: Sequence[InputLine]) -> set[int]:
        """Return the numbers of the rows that an earlier run has written. All rows of the input are given, in order."""
        ...

    def end(self, count: int) -> None:
        """Take note that the input has ended after `count` rows; raise `CommandError` or warn if the file has more."""
        ...

    def write(self, rows: Sequence[Embedded]) -> None:
        """Write a batch of rows as a whole."""
        ...

    def close(self) -> None: ...


def run_embed(server: ServerOptions, options: EmbedOptions) -> int:
    """Embed the texts of a file (``-``: stdin) and return the exit code. Raises `CommandError`."""
    if options.out is not None and options.store is not None:
        raise CommandError("--out and --store both say where the vectors go: give one of them")
    if options.new and options.out is None and options.store is None:
        raise CommandError("--new is for --out and --store")
    form = format_of(options.file, options.form)
    if options.file == "-":
        if sys.stdin is None:
            raise CommandError("there is no stdin; name a file")
        if sys.stdin.isatty():
            note("Reading lines from the terminal; end with Ctrl-D.")
        return _with_target(server, options, sys.stdin.fileno(), form)
    try:
        source = os.open(options.file, os.O_RDONLY)
    except OSError as error:
        raise CommandError(f"cannot read {options.file}: {error.strerror}") from None
    try:
        if stat.S_ISDIR(os.fstat(source).st_mode):
            raise CommandError(f"cannot read {options.file}: {os.strerror(errno.EISDIR)}")
        return _with_target(server, options, source, form)
    finally:
        os.close(source)


def _with_target(server: ServerOptions, options: EmbedOptions, source: int, form: str) -> int:
    target: _Target
    if options.store is not None:
        target = _Store(options.store, options.new)
    elif options.out is not None:
        target = _JSONLinesFile(options.out, options.new)
    else:
        target = _Stdout()
    try:
        return asyncio.run(_embed(server, options, source, form, target))
    finally:
        target.close()


async def _embed(server: ServerOptions, options: EmbedOptions, source: int, form: str, target: _Target) -> int:
    rows = failed = skipped = 0
    parameters: dict[str, Any] = {} if options.dimensions is None else {"dimensions": options.dimensions}
    async with server.client(http_max_in_flight=options.in_flight) as client:
        parameters["model"] = model = await choose_model(client, options.model, "embedding")
        target.begin(model, options.dimensions)
        embedder = _Embedder(client, parameters)
        # On a terminal that also shows the output, a counter would be mixed into it.
        shown = sys.stderr.isatty() and (not isinstance(target, _Stdout) or not sys.stdout.isatty())
        total = await in_thread(partial(count_texts, options.file, form)) if shown and options.file != "-" else None
        with progress("embed", *_columns(total), total=total, shown=shown) as advance:

            def skip(count: int) -> None:
                nonlocal skipped
                skipped += count
                advance(count)

            batches = _batches(read_texts(source, form, options.column), options.batch, target, skip)
            done_in_order = bounded_map(embedder, batches, concurrency=options.in_flight, ahead=2 * options.in_flight)
            async with contextlib.aclosing(done_in_order) as results:
                async for done in results:
                    _refuse_all_failed(rows, done)
                    target.write(done)
                    rows += len(done)
                    failed += sum(one.vector is None for one in done)
                    advance(len(done))
            target.end(rows + skipped)
    if not isinstance(target, _Stdout):
        before = f", {skipped:,} were there" if skipped else ""
        note(f"{rows - failed:,} new vectors in {options.store or options.out}{before}.")
    if target.failed:
        note(f"{target.failed:,} lines failed in an earlier run and have no vector; --new sends all lines again.")
    if failed:
        note(f"{failed} of {rows} lines failed.")
    return Exit.ROWS_FAILED if failed or target.failed else Exit.OK


def _columns(total: int | None) -> tuple[ProgressColumn, ...]:
    if total is None:
        return (SpinnerColumn(), TextColumn("{task.completed:.0f} lines"))
    return (BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f}"), TimeRemainingColumn())


def _refuse_all_failed(before: int, done: list[Embedded]) -> None:
    """Raise the error of the first call if it had every line refused: the request is at fault then, not the lines."""
    errors = [one.error for one in done if one.error is not None]
    if before == 0 and errors and len(errors) == len(done):
        raise errors[0]


# -------------------------------------------------------------------------------------------------- targets


class _Stdout:
    """JSON Lines on stdout."""

    failed = 0

    def begin(self, model: str, dimensions: int | None) -> None:
        pass

    def done(self, rows: Sequence[InputLine]) -> set[int]:
        return set()

    def end(self, count: int) -> None:
        pass

    def write(self, rows: Sequence[Embedded]) -> None:
        write_bytes(b"".join(map(_line, rows)))

    def close(self) -> None:
        pass


class _WrittenLine(msgspec.Struct):
    """A line of an earlier run; the vector stays undecoded."""

    index: int
    text: str
    model: str | None = None
    embedding: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def dimensions(self) -> int | None:
        """The length of the vector; `None` for a line with an error."""
        return None if self.embedding is msgspec.UNSET else bytes(self.embedding).count(b",") + 1


class _JSONLinesFile:
    """JSON Lines in a file, in the order of the input.

    A later run compares its input with the lines that are there, one by one, before it adds any: vectors of another
    input, another model or another length must not get into one file.
    """

    def __init__(self, path: str, new: bool) -> None:
        """Open the file, lock it, and cut a line that a crash left without its end. Raises `CommandError`."""
        self.path = path
        self.failed = 0
        self._dimensions: int | None = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
            self._lock: LockedFile = open_locked(path)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror or error}") from None
        try:
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
            try:
                size = 0 if new else self._whole_lines()
                self._earlier = self._lines_up_to(size)
                if not size and not new:
                    self._file.seek(0)
                    if not b'{"index":'.startswith(self._file.read(9)):
                        raise self._foreign()
                self._next = next(self._earlier, None)
                self._file.truncate(size)
                self._file.seek(size)
            except BaseException:
                self._file.close()
                raise
        except BaseException as error:
            self._lock.close()
            if isinstance(error, OSError):
                raise CommandError(f"cannot write {path}: {error.strerror or error}") from None
            raise

    def _whole_lines(self) -> int:
        """Return the size of the file up to its last line end."""
        at = self._file.seek(0, os.SEEK_END)
        while at:
            start = max(0, at - (1 << 20))
            self._file.seek(start)
            end = self._file.read(at - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            at = start
        return 0

    def _lines_up_to(self, size: int) -> Generator[_WrittenLine, None, None]:
        """Yield the lines of an earlier run. Raises `CommandError` for a file that `embed` did not write."""
        decode = msgspec.json.Decoder(_WrittenLine).decode
        with open(self.path, "rb") as file:
            while file.tell() < size:
                try:
                    yield decode(file.readline())
                except msgspec.DecodeError:
                    raise self._foreign() from None

    def _foreign(self) -> CommandError:
        return CommandError(f"{self.path} has other lines than those of `embed`, and is left as it is")

    def _conflict(self, what: str) -> CommandError:
        return CommandError(f"{what}; name another file, or begin again with --new")

    def begin(self, model: str, dimensions: int | None) -> None:
        self._model = model
        if self._next is None:
            return
        if self._next.model not in (None, model):
            raise self._conflict(f"{self.path} has vectors of {self._next.model}, not of {model}")
        self._check_dimensions(dimensions, self._next.dimensions)

    def _check_dimensions(self, found: int | None, known: int | None) -> None:
        if found is not None and known is not None and found != known:
            raise self._conflict(f"{self.path} has vectors of {known} numbers, not of {found}")

    def done(self, rows: Sequence[InputLine]) -> set[int]:
        done: set[int] = set()
        for row in rows:
            written = self._next
            if written is None:
                break
            if (written.index, written.text) != (row.index, row.text):
                raise self._conflict(f"line {row.index + 1} of the input is not the one that {self.path} has")
            self.failed += written.dimensions is None
            self._dimensions = self._dimensions or written.dimensions
            self._next = next(self._earlier, None)
            done.add(row.index)
        return done

    def end(self, count: int) -> None:
        if self._next is not None:
            raise self._conflict(f"the input ends before line {self._next.index + 1}, which {self.path} has")

    def write(self, rows: Sequence[Embedded]) -> None:
        for one in rows:
            if one.vector is not None:
                self._check_dimensions(len(one.vector), self._dimensions)
                self._dimensions = len(one.vector)
        data = b"".join(_line(one, self._model) for one in rows)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise CommandError(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        self._earlier.close()
        self._file.close()
        self._lock.close()


class _Store:
    """A store of vectors. A row that failed is sent again by the next run."""

    failed = 0

    def __init__(self, path: str, new: bool) -> None:
        self._store = VectorFile(path, create=True, new=new)

    def begin(self, model: str, dimensions: int | None) -> None:
        self._store.use(model, dimensions)

    def done(self, rows: Sequence[InputLine]) -> set[int]:
        return self._store.done([(row.index, row.text) for row in rows])

    def end(self, count: int) -> None:
        if (more := self._store.rows() - count) > 0:
            note(f"{more:,} texts in {self._store.path} are not in this input and stay there; --new removes them.")

    def write(self, rows: Sequence[Embedded]) -> None:
        self._store.add((one.row.index, one.row.text, one.vector, one.reason) for one in rows)

    def close(self) -> None:
        self._store.close()


def _line(one: Embedded, model: str | None = None) -> bytes:
    value: dict[str, Any] = {"index": one.row.index, "text": one.row.text}
    if model is not None:
        value["model"] = model
    if one.vector is None:
        value["error"] = one.reason
    else:
        value["embedding"] = one.vector
    return msgspec.json.encode(value) + b"\n"


# -------------------------------------------------------------------------------------------------- calls


class _Embedder:
    """Embeds batches of texts."""

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


async def _batches(
    rows: AsyncGenerator[InputLine, None], size: int, target: _Target, skip: Any
) -> AsyncGenerator[list[InputLine], None]:
    """Yield the rows that are not done yet, `size` together; `skip` is called with the number of the others."""
    batch: list[InputLine] = []
    read: list[InputLine] = []

    def left() -> list[InputLine]:
        done = target.done(read)
        if done:
            skip(len(done))
        return [row for row in read if row.index not in done]

    async for row in rows:
        read.append(row)
        if len(batch) + len(read) < size:
            continue
        batch += left()
        read.clear()
        if len(batch) >= size:
            yield batch
            batch = []
    batch += left()
    if batch:
        yield batch


resolve_annotations(__name__)
