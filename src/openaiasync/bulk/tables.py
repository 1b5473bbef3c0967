"""Tables (CSV, TSV, Parquet) as the input of jobs, and results of jobs as tables.

A template such as ``Classify: {text}`` converts a row to a request: a name in braces stands for a column, and ``{{``
and ``}}`` are literal braces. Parquet needs the extra ``[data]`` (pyarrow). Tables are read in
slices.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec

from ..core.model.plain import as_list, mended_json
from ..errors import ConfigurationError
from ..installation import install_command
from ..storage.atomic import AtomicFile
from .batch_file import InputFileError, LineProblem, as_object, endpoint_at
from .object_storage import open_input

__all__ = [
    "CellError",
    "TableOptions",
    "body_of",
    "count_rows",
    "export_results",
    "flat",
    "is_table",
    "need_parquet",
    "write_requests",
]

_TABLES = (".csv", ".tsv", ".parquet")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_SLICE = 5_000  # rows of Parquet that are read or written at once
_TOGETHER = 1 << 18  # bytes that are written at once
_FIXED = {"custom_id": "text", "text": "text", "finish_reason": "text", "input_tokens": "int", "output_tokens": "int",
          "error": "text", "embedding": "floats"}  # fmt: skip


class TableOptions(NamedTuple):
    """Options for converting the rows of a table to requests."""

    prompt: str
    """Template of the user's message, or of the text to embed."""
    system: str | None = None
    """Template of the system prompt."""
    key: str | None = None
    """The column with each row's name. Default: ``custom_id`` or ``id`` if there is one, else the number of the row."""
    url: str = "/v1/chat/completions"


def is_table(path: str) -> bool:
    """Return whether a file is a table, by its suffix."""
    return path.lower().endswith(_TABLES)


def need_parquet(*paths: str) -> None:
    """Raise `ConfigurationError` if one of the paths is Parquet and pyarrow is not installed."""
    if any(path.lower().endswith(".parquet") for path in paths):
        _pyarrow()


# -------------------------------------------------------------------------------------------------- input


def count_rows(source: str) -> int:
    """Return the number of rows of a table. Blocks. Raises as `write_requests` does."""
    if source.lower().endswith(".parquet"):
        with _open_parquet(source) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in _rows_of(source))


def write_requests(source: str, target: str, options: TableOptions, part: tuple[int, int | None] = (0, None)) -> None:
    """Convert a table to a file of requests, written atomically. Blocks.

    `part` is the first row, counted from 0, and the row after the last one (`None`: all).

    Raises `InputFileError` for an unknown column, `ConfigurationError` without pyarrow, and `OSError`.
    """
    rows = _rows_of(source, *part)
    file = AtomicFile.open(target)
    held: list[bytes] = []
    size = 0
    try:
        for number, row in enumerate(rows, part[0] + 1):
            try:
                line = _request(row, number, options)
            except CellError as error:
                raise InputFileError(source, [LineProblem(0, f"row {number}: {error}")]) from None
            except KeyError as error:
                columns = ", ".join(map(str, row))
                problem = LineProblem(0, f"there is no column {error.args[0]!r}; columns are {columns}")
                raise InputFileError(source, [problem]) from None
            held.append(line)
            size += len(line)
            if size >= _TOGETHER:
                file.write(b"".join(held))
                held.clear()
                size = 0
        file.write(b"".join(held))
        file.commit(sync=True)
    except BaseException:
        file.discard()
        raise


def _rows_of(path: str, first: int = 0, end: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows from number `first` to before number `end`."""
    if path.lower().endswith(".parquet"):
        yield from _parquet_rows(path, first, end)
    else:
        yield from islice(_csv_rows(path), first, end)


def _csv_rows(path: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with io.TextIOWrapper(open_input(path), newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, dialect="excel-tab" if path.lower().endswith(".tsv") else "excel", strict=True)
        try:
            for row in reader:
                if None in row:
                    raise InputFileError(path, [LineProblem(reader.line_num, "more fields than there are columns")])
                if None in row.values():
                    raise InputFileError(path, [LineProblem(reader.line_num, "fewer fields than there are columns")])
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputFileError(path, [LineProblem(reader.line_num + 1, f"not CSV in UTF-8 ({error})")]) from None


@contextlib.contextmanager
def _open_parquet(path: str) -> Generator[Any, None, None]:
    arrow = _pyarrow()
    try:
        with open_input(path) as opened, arrow.parquet.ParquetFile(opened) as file:
            yield file
    except (arrow.lib.ArrowInvalid, arrow.lib.ArrowNotImplementedError) as error:
        raise InputFileError(path, [LineProblem(0, f"not Parquet ({error})")]) from None


def _parquet_rows(path: str, first: int, end: int | None) -> Iterator[dict[str, Any]]:
    """Yield some of a file's rows, reading only the row groups that they are in."""
    arrow = _pyarrow()
    with _open_parquet(path) as file:
        groups: list[int] = []
        before = skipped = 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if before + rows <= first:
                skipped += rows
            elif end is None or before < end:
                groups.append(number)
            before += rows

        def values() -> Iterator[dict[str, Any]]:
            for batch in file.iter_batches(batch_size=_SLICE, row_groups=groups):
                # datetime has no nanoseconds: pyarrow converts them to different types with and without pandas
                # installed.
                columns = [
                    column.cast(arrow.string())
                    if str(column.type).startswith(("timestamp[ns", "time64[ns"))
                    else column
                    for column in batch.columns
                ]
                yield from arrow.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()

        yield from islice(values(), first - skipped, None if end is None else max(first, end) - skipped)


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore
    except ImportError:
        raise ConfigurationError(f"Parquet needs pyarrow: {install_command('data')}") from None
    return pyarrow  # pyright: ignore[reportUnknownVariableType]


def body_of(row: Mapping[str, Any], options: TableOptions) -> dict[str, Any]:
    """Return the body of a row's request, without its model. Raises `KeyError` for a column that is not there,
    `CellError` for a value that cannot be used."""
    prompt = fill(options.prompt, row)
    body: dict[str, Any]
    endpoint = endpoint_at(options.url)
    if endpoint is not None and endpoint.group == "chat":
        messages = [{"role": "user", "content": prompt}]
        if options.system is not None:
            messages.insert(0, {"role": "system", "content": fill(options.system, row)})
        body = {"messages": messages}
    else:
        body = {"prompt" if endpoint is not None and endpoint.group == "completion" else "input": prompt}
    return body


def _request(row: dict[str, Any], number: int, options: TableOptions) -> bytes:
    body = body_of(row, options)
    key = _key_of(row, number) if options.key is None else _text(options.key, row[options.key])
    if not key:
        raise CellError(f"column {options.key!r} names the rows, but is empty here")
    return msgspec.json.encode({"custom_id": key, "method": "POST", "url": options.url, "body": body}) + b"\n"


def _key_of(row: dict[str, Any], number: int) -> str:
    for name in ("custom_id", "id"):
        if row.get(name) not in (None, ""):
            return _text(name, row[name])
    return f"row-{number}"


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Return a template with the row's values in place of the names in braces. Raises `KeyError` for an unknown one."""

    def replaced(match: re.Match[str]) -> str:
        found = match[0]
        if found in ("{{", "}}"):
            return found[0]
        if match[1] is None:
            return found  # a single brace
        name = match[1].strip()
        return _text(name, row[name])

    return _FIELD.sub(replaced, template)


class CellError(ValueError):
    """A value of a table cannot be used."""


def _text(name: str, value: Any) -> str:
    """Return a value as text for a prompt: lists and structs become JSON, bytes are read as UTF-8, nulls are empty."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise CellError(f"column {name!r} is binary data that is not text in UTF-8") from None
        case list() | dict():
            return msgspec.json.encode(value, enc_hook=str).decode()
        case _:
            return str(value)


# -------------------------------------------------------------------------------------------------- output


def export_results(results: list[str], target: str) -> int:
    """Write output lines as a table (``.csv``, ``.tsv``, ``.parquet``, else JSON Lines) and return the number of rows.
    Blocks.

    Columns are custom_id, text, finish_reason, input_tokens, output_tokens, error, embedding (if there is one), and the
    fields of answers that are JSON objects. Results are read twice, for the columns and for the rows, so that memory
    does not grow with them. Raises `ConfigurationError`, `InputFileError`, `OSError`.
    """
    lower = target.lower()
    if not lower.endswith(_TABLES):
        return _write_file(target, (msgspec.json.encode(row) + b"\n" for row in _flat_rows(results)))
    need_parquet(target)
    columns: dict[str, set[str]] = {}
    total = 0
    for total, row in enumerate(_flat_rows(results), 1):  # noqa: B007
        for name, value in row.items():
            columns.setdefault(name, set()).add(_kind(value))
    if columns.get("embedding") == {""}:
        del columns["embedding"]
    rows = islice(_flat_rows(results), total)  # a running job may have added to them
    if lower.endswith(".parquet"):
        return _write_parquet(rows, columns, target)
    lines = _csv_pieces(rows, list(columns or _FIXED), "\t" if lower.endswith(".tsv") else ",")
    _write_file(target, lines)
    return total


def _write_file(target: str, pieces: Iterable[bytes]) -> int:
    """Write a file atomically and return the number of pieces."""
    file = AtomicFile.open(target)
    count = 0
    try:
        for count, piece in enumerate(pieces, 1):  # noqa: B007
            file.write(piece)
        file.commit()
    except BaseException:
        file.discard()
        raise
    return count


def _csv_pieces(rows: Iterable[dict[str, Any]], names: list[str], delimiter: str) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row.get(name)) for name in names})
        if text.tell() > _TOGETHER:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict)) else value


def _kind(value: Any) -> str:
    """Return the kind of a value in a column: "" for null, "json" for a value without a plain Parquet type."""
    whole: object = value
    match value:
        case None:
            return ""
        case bool():
            return "bool"
        case int():
            return "int" if -(1 << 63) <= value < 1 << 63 else "json"
        case float():
            return "float"
        case str():
            return "text"
        case []:
            return "empty list"
        case list():
            inner: set[object] = {type(one) for one in as_list(whole)}
            return "texts" if inner == {str} else "floats" if inner <= {int, float} else "json"
        case _:
            return "json"


def _column_type(arrow: Any, name: str, kinds: set[str]) -> tuple[Any, bool]:
    """Return the type of a Parquet column, and whether its values other than texts are converted to JSON text."""
    if name in _FIXED:
        return {"int": arrow.int64(), "text": arrow.string(), "floats": arrow.list_(arrow.float32())}[
            _FIXED[name]
        ], False
    found = kinds - {""}
    if found == {"int", "float"}:
        found = {"float"}
    if len(found) > 1:
        found.discard("empty list")
    plain = {
        "bool": arrow.bool_(),
        "int": arrow.int64(),
        "float": arrow.float64(),
        "text": arrow.string(),
        "texts": arrow.list_(arrow.string()),
        "floats": arrow.list_(arrow.float64()),
    }
    kind = found.pop() if len(found) == 1 else "json"
    if kind in ("texts", "floats") or (kind not in ("json", "empty list") and "empty list" not in kinds):
        return plain[kind], False
    return arrow.string(), True


def _write_parquet(rows: Iterator[dict[str, Any]], columns: dict[str, set[str]], target: str) -> int:
    arrow = _pyarrow()
    columns = columns or {name: set() for name in _FIXED if name != "embedding"}
    types = {name: _column_type(arrow, name, kinds) for name, kinds in columns.items()}
    schema = arrow.schema([arrow.field(name, kind) for name, (kind, _) in types.items()])
    count = 0
    temporary = f"{target}.part"
    try:
        with arrow.parquet.ParquetWriter(temporary, schema) as writer:
            while piece := list(islice(rows, _SLICE)):
                kept = [{name: _parquet_cell(row.get(name), types[name][1]) for name in types} for row in piece]
                writer.write_table(arrow.Table.from_pylist(kept, schema=schema))
                count += len(kept)
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return count


def _parquet_cell(value: Any, as_json: bool) -> Any:
    return value if not as_json or value is None or isinstance(value, str) else msgspec.json.encode(value).decode()


def _flat_rows(results: list[str]) -> Iterator[dict[str, Any]]:
    for path in results:
        if not os.path.exists(path):
            continue
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    value: Any = _line_value(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        return  # a running job will write the rest
                    raise InputFileError(path, [LineProblem(number, f"not JSON ({error})")]) from None
                if not isinstance(value, dict) or "custom_id" not in value:
                    raise InputFileError(path, [LineProblem(number, "not the answer of a job's row")])
                yield flat(cast("dict[str, Any]", value))


def _line_value(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except ValueError:
        return msgspec.json.decode(mended_json(line))


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of output, or of failed rows, as the fields of a table's row."""
    error = line.get("error")
    body = as_object(as_object(line.get("response")).get("body"))
    row: dict[str, Any] = {"custom_id": line["custom_id"], "text": None, "finish_reason": None}
    usage = {} if error else as_object(body.get("usage"))
    row["input_tokens"] = usage.get("prompt_tokens", usage.get("input_tokens"))
    row["output_tokens"] = usage.get("completion_tokens", usage.get("output_tokens"))
    row["error"] = as_object(error).get("message", str(error)) if error else None
    row["embedding"] = None
    if error:
        return row
    _add_answer(row, body)
    text = row["text"]
    if isinstance(text, str) and text.lstrip()[:1] == "{":
        try:
            value = msgspec.json.decode(text)
        except (ValueError, RecursionError):
            return row
        row.update({name: found for name, found in value.items() if name not in row})
    return row


def _add_answer(row: dict[str, Any], body: dict[str, Any]) -> None:
    """Add an answer's text, finish reason or vector to the row."""
    first = as_object(_first(body.get("choices")))
    if first:
        row["finish_reason"] = first.get("finish_reason")
        row["text"] = as_object(first.get("message")).get("content", first.get("text"))
    elif data := as_object(_first(body.get("data"))):
        vector = data.get("embedding")
        row["embedding"] = as_list(vector) or _floats(vector)
    elif output := as_list(body.get("output")):
        row["finish_reason"] = body.get("status")
        parts = [as_object(part) for item in output for part in as_list(as_object(item).get("content"))]
        row["text"] = "".join(str(part.get("text") or "") for part in parts)
    elif result := _first(body.get("results")):
        row["text"] = msgspec.json.encode(result).decode()


def _first(value: Any) -> Any:
    found = as_list(value)
    return found[0] if found else None


def _floats(vector: Any) -> list[float] | None:
    """Decode a base64 vector of little-endian 32-bit floats."""
    import base64
    import struct

    if not isinstance(vector, str):
        return None
    try:
        raw = base64.b64decode(vector)
    except ValueError:
        return None
    return list(struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4]))
