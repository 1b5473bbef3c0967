"""The texts of `openaiasync embed`: lines, columns of tables, JSON; each with its number, read piece by piece."""

from __future__ import annotations

import csv
import json
import os
import sys
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from ..storage.threads import in_thread
from .console import CommandError

__all__ = ["FORMATS", "InputLine", "count_texts", "format_of", "read_texts"]

FORMATS = ("text", "csv", "tsv", "json", "jsonl")
_CHUNK = 1 << 18  # bytes that one read returns at most
_LONGEST = 64 << 20  # bytes of a line
_TOGETHER = 256  # rows of a table that are read in one step
_COLUMNS = ("text", "content", "input")  # the usual names, if none is given


@dataclass(frozen=True, slots=True)
class InputLine:
    """One text of the input; `error` is the reason if it cannot be sent."""

    index: int
    text: str
    error: str = ""


def format_of(file: str, named: str | None) -> str:
    """Return the named format, or the one that the file's name says; everything else is lines of text."""
    suffix = os.path.splitext(file)[1].lower().removeprefix(".")
    return named or (suffix if suffix in FORMATS else {"ndjson": "jsonl"}.get(suffix, "text"))


def read_texts(source: int, form: str, column: str | None) -> AsyncGenerator[InputLine, None]:
    """Yield the texts of a file descriptor. Raises `CommandError`.

    The index counts lines of text and JSON Lines, rows of tables, and elements of a JSON array from 0. Blank texts are
    skipped.
    """
    if form == "text":
        if column is not None:
            raise CommandError("--column is for tables and JSON; this input is lines of text (see --format)")
        return _lines(source)
    if form == "jsonl":
        return _objects(source, column)
    rows = _json_values(source) if form == "json" else _table_rows(source, form)
    return _chosen(rows, column)


def count_texts(path: str, form: str) -> int | None:
    """Return about how many texts a file has, for a progress line; `None` if it cannot tell. Blocks."""
    try:
        if not os.path.isfile(path) or form == "json":
            return None
        if form in ("csv", "tsv"):
            with open(path, newline="", encoding="utf-8-sig", errors="replace") as table:
                return max(0, sum(1 for _ in csv.reader(table, delimiter="\t" if form == "tsv" else ",")) - 1)
        count, last = 0, b"\n"
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                count += piece.count(b"\n")
                last = piece
        return count + (not last.endswith(b"\n"))
    except (OSError, csv.Error):
        return None  # the error is raised when it is read


# -------------------------------------------------------------------------------------------------- lines


async def _lines(source: int) -> AsyncGenerator[InputLine, None]:
    """Yield the lines of a file descriptor without line ends. Blank lines are skipped, but counted by the index."""
    index = size = 0
    unfinished: list[bytes] = []
    while chunk := await _read(source):
        if 0 in chunk:
            line = index + 1 + chunk[: chunk.index(0)].count(10)
            raise CommandError(f"line {line} of the input has a zero byte: this is not a text file in UTF-8")
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


# -------------------------------------------------------------------------------------------------- JSON and tables


async def _objects(source: int, column: str | None) -> AsyncGenerator[InputLine, None]:
    """Yield the texts of JSON Lines; a line that is not JSON is a line that cannot be sent."""
    async for line in _lines(source):
        if line.error:
            yield line
            continue
        try:
            value: Any = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield InputLine(line.index, line.text, f"the line is not JSON: {error}")
            continue
        text = _text_in(value, column, f"line {line.index + 1}")
        if text.strip():
            yield InputLine(line.index, text)


async def _chosen(rows: Iterator[Any], column: str | None) -> AsyncGenerator[InputLine, None]:
    index = 0
    while together := await in_thread(lambda: list(islice(rows, _TOGETHER))):
        for value in together:
            text = _text_in(value, column, f"row {index + 1}")
            if text.strip():
                yield InputLine(index, text)
            index += 1


def _json_values(source: int) -> Iterator[Any]:
    """Yield the elements of a JSON array. Blocks."""
    with open(source, "rb", closefd=False) as file:
        try:
            value: Any = json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise CommandError(f"the input is not JSON: {error}; for an object per line use --format jsonl") from None
        except OSError as error:
            raise CommandError(f"cannot read the input: {error.strerror}") from None
    if not isinstance(value, list):
        raise CommandError("the input is JSON, but not an array of texts or of objects")
    yield from value


def _table_rows(source: int, form: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table with a header. Blocks."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    dialect = "excel-tab" if form == "tsv" else "excel"
    with open(source, newline="", encoding="utf-8-sig", closefd=False) as file:
        try:
            for row in csv.DictReader(file, dialect=dialect, strict=True):
                yield cast("dict[str, Any]", row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise CommandError(f"the input is not a table ({form.upper()} in UTF-8): {error}") from None
        except OSError as error:
            raise CommandError(f"cannot read the input: {error.strerror}") from None


def _text_in(value: Any, column: str | None, where: str) -> str:
    """Return the text of a row: the value itself, or that of its column. Raises `CommandError`."""
    if isinstance(value, str) and column is None:
        return value
    if not isinstance(value, dict):
        found = "a text, which has no columns" if isinstance(value, str) else f"{type(value).__name__}, not a text"
        raise CommandError(f"{where} of the input is {found}")
    row = cast("dict[str, Any]", value)
    texts = [one for one, cell in row.items() if isinstance(cell, str)]
    name = column
    if name is None:
        named = [one for one in _COLUMNS if one in row]
        name = named[0] if named else texts[0] if len(texts) == 1 else None
    columns = ", ".join(map(str, row)) or "none"
    if name is None:
        texts_of = f"none of {', '.join(_COLUMNS)}" if len(texts) < 2 else "several texts"
        raise CommandError(f"{where} of the input has {texts_of} ({columns}): name one with --column")
    if name not in row:
        raise CommandError(f"{where} of the input has no column {name!r}; its columns are {columns}")
    cell: Any = row[name]
    return cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell, ensure_ascii=False)
