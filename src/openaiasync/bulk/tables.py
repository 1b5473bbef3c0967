"""Tables (CSV, TSV, Parquet) as the input of jobs, and results of jobs as tables.

A row of a table becomes a request by a template such as ``Classify: {text}``, in which a name in braces stands for a
column, and ``{{`` and ``}}`` for braces. Parquet needs the extra ``[data]`` (pyarrow). Tables are read in slices.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from ..errors import ConfigurationError
from ..storage.atomic import AtomicFile
from .batch_file import InputFileError, LineProblem, as_object, endpoint_at

__all__ = ["TableOptions", "export_results", "is_table", "write_requests"]

_TABLES = (".csv", ".tsv", ".parquet")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_SLICE = 5_000  # rows of Parquet that are read or written at once
_TOGETHER = 1 << 18  # bytes that are written at once


class TableOptions(NamedTuple):
    """How rows of a table become requests."""

    prompt: str
    """Template of the user's message, or of the text to embed."""
    system: str | None = None
    """Template of the system prompt."""
    key: str | None = None
    """The column with each row's name. Default: ``custom_id`` or ``id`` if there is one, else the number of the row."""
    url: str = "/v1/chat/completions"


def is_table(path: str) -> bool:
    """Whether a file is a table, by the ending of its name."""
    return path.lower().endswith(_TABLES)


# -------------------------------------------------------------------------------------------------- input


def write_requests(source: str, target: str, options: TableOptions) -> None:
    """Write a file of requests made of a table, whole or not at all. Blocks.

    Raises `InputFileError` for a column that the table does not have, `ConfigurationError` without pyarrow, `OSError`.
    """
    rows = _rows_of(source)
    file = AtomicFile.open(target)
    held: list[bytes] = []
    size = 0
    try:
        for number, row in enumerate(rows, 1):
            try:
                line = _request(row, number, options)
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


def _rows_of(path: str) -> Iterator[dict[str, Any]]:
    if path.lower().endswith(".parquet"):
        yield from _parquet_rows(path)
        return
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with open(path, newline="", encoding="utf-8-sig") as file:
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


def _parquet_rows(path: str) -> Iterator[dict[str, Any]]:
    arrow = _pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_SLICE):
                yield from batch.to_pylist()
    except arrow.lib.ArrowInvalid as error:
        raise InputFileError(path, [LineProblem(0, f"not Parquet ({error})")]) from None


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore
    except ImportError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'openaiasync[data]'") from None
    return pyarrow  # pyright: ignore[reportUnknownVariableType]


def _request(row: dict[str, Any], number: int, options: TableOptions) -> bytes:
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
    key = str(row[options.key]) if options.key is not None else _key_of(row, number)
    return msgspec.json.encode({"custom_id": key, "method": "POST", "url": options.url, "body": body}) + b"\n"


def _key_of(row: dict[str, Any], number: int) -> str:
    for name in ("custom_id", "id"):
        if row.get(name) not in (None, ""):
            return str(row[name])
    return f"row-{number}"


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Return a template with the row's values in place of the names in braces. Raises `KeyError` for an unknown one."""

    def replaced(match: re.Match[str]) -> str:
        found = match[0]
        if found in ("{{", "}}"):
            return found[0]
        if match[1] is None:
            return found  # a brace by itself
        value = row[match[1].strip()]
        return "" if value is None else str(value)

    return _FIELD.sub(replaced, template)


# -------------------------------------------------------------------------------------------------- output


def export_results(results: list[str], target: str) -> int:
    """Write lines of output as a table: ``.csv``, ``.tsv``, ``.parquet``, else JSON Lines; how many rows. Blocks.

    Columns are custom_id, text, finish_reason, input_tokens, output_tokens, error, embedding. Where an answer is a JSON
    object its fields are columns, too, if the first slice of rows has them. Raises `ConfigurationError`, `OSError`.
    """
    rows = _flat_rows(results)
    first = [row for _, row in zip(range(_SLICE), rows, strict=False)]
    columns: dict[str, None] = {}
    for row in first:
        columns.update(dict.fromkeys(row))
    names = [name for name in columns if name != "embedding" or any(row.get("embedding") for row in first)]
    if target.lower().endswith(".parquet"):
        return _write_parquet(first, rows, names, target)
    file = AtomicFile.open(target)
    count = 0
    try:
        if target.lower().endswith((".csv", ".tsv")):
            count = _write_csv(first, rows, names, file, "\t" if target.lower().endswith(".tsv") else ",")
        else:
            for row in _all(first, rows):
                file.write(msgspec.json.encode(row) + b"\n")
                count += 1
        file.commit()
    except BaseException:
        file.discard()
        raise
    return count


def _all(first: list[dict[str, Any]], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from first
    yield from rest


def _write_csv(
    first: list[dict[str, Any]], rest: Iterator[dict[str, Any]], names: list[str], file: AtomicFile, delimiter: str
) -> int:
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", delimiter=delimiter)
    writer.writeheader()
    count = 0
    for row in _all(first, rest):
        writer.writerow({name: _cell(row.get(name)) for name in names})
        count += 1
        if text.tell() > _TOGETHER:
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode())
    return count


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict)) else value


def _write_parquet(first: list[dict[str, Any]], rest: Iterator[dict[str, Any]], names: list[str], target: str) -> int:
    arrow = _pyarrow()
    kinds = {"input_tokens": arrow.int64(), "output_tokens": arrow.int64(), "embedding": arrow.list_(arrow.float32())}
    texts = {"custom_id", "text", "finish_reason", "error"}
    inferred = arrow.Table.from_pylist([{name: row.get(name) for name in names} for row in first]).schema
    fields = [
        arrow.field(name, kinds.get(name, arrow.string() if name in texts else inferred.field(name).type))
        for name in names
    ]
    schema = arrow.schema(fields)
    count = 0
    temporary = f"{target}.part"
    try:
        with arrow.parquet.ParquetWriter(temporary, schema) as writer:
            rows = first
            while rows:
                kept = [{name: row.get(name) for name in names} for row in rows]
                try:
                    table = arrow.Table.from_pylist(kept, schema=schema)
                except (arrow.lib.ArrowInvalid, arrow.lib.ArrowTypeError) as error:
                    raise ConfigurationError(f"a later row has another type than the first ones: {error}") from None
                writer.write_table(table)
                count += len(kept)
                rows = [row for _, row in zip(range(_SLICE), rest, strict=False)]
        os.replace(temporary, target)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return count


def _flat_rows(results: list[str]) -> Iterator[dict[str, Any]]:
    for path in results:
        if not os.path.exists(path):
            continue
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    value: Any = msgspec.json.decode(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        return  # a running job is about to write the rest
                    raise InputFileError(path, [LineProblem(number, f"not JSON ({error})")]) from None
                if not isinstance(value, dict) or "custom_id" not in value:
                    raise InputFileError(path, [LineProblem(number, "not the answer of a job's row")])
                yield flat(cast("dict[str, Any]", value))


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
        except ValueError:
            return row
        row.update({name: found for name, found in value.items() if name not in row})
    return row


def _add_answer(row: dict[str, Any], body: dict[str, Any]) -> None:
    """Put the text, the reason of its end, or the vector of an answer in the row."""
    first = as_object(_first(body.get("choices")))
    if first:
        row["finish_reason"] = first.get("finish_reason")
        row["text"] = as_object(first.get("message")).get("content", first.get("text"))
    elif data := as_object(_first(body.get("data"))):
        vector = data.get("embedding")
        row["embedding"] = _list(vector) or _floats(vector)
    elif output := _list(body.get("output")):
        row["finish_reason"] = body.get("status")
        parts = [as_object(part) for item in output for part in _list(as_object(item).get("content"))]
        row["text"] = "".join(str(part.get("text") or "") for part in parts)
    elif result := _first(body.get("results")):
        row["text"] = msgspec.json.encode(result).decode()


def _list(value: Any) -> list[Any]:
    found: list[Any] = value if isinstance(value, list) else []
    return found


def _first(value: Any) -> Any:
    found = _list(value)
    return found[0] if found else None


def _floats(vector: Any) -> list[float] | None:
    """The numbers of a vector in base64: four bytes each, the lowest first."""
    import base64
    import struct

    if not isinstance(vector, str):
        return None
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4]))
