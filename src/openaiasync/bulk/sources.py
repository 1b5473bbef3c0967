"""Rows from any iterable, synchronous or asynchronous, and from data frames.

No data frame library is imported: the frames of pandas, polars and Arrow and the data sets of Hugging Face are
recognized by their methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any, cast

__all__ = ["rows_of"]

BATCH = 1024  # rows of an Arrow table converted to Python values at once


def rows_of(source: Any) -> Iterable[Any] | AsyncIterable[Any]:
    """Return the rows of a source, read lazily; those of a data frame are dicts by column name.

    Raises `TypeError` for a value without rows, such as a single text or a dict of splits.
    """
    whole, kind = source, type(source).__name__
    if isinstance(source, (str, bytes, bytearray)):
        raise TypeError(f"rows must be an iterable of rows, not one {kind}: put it into a list")
    if callable(getattr(source, "iter_rows", None)) and hasattr(source, "columns"):  # polars.DataFrame
        named: Iterable[Any] = source.iter_rows(named=True)
        return named
    if callable(getattr(source, "itertuples", None)) and hasattr(source, "columns"):  # pandas.DataFrame
        return _tuples(source)
    has_format = callable(getattr(whole, "with_format", None)) and hasattr(whole, "column_names")
    if has_format and not isinstance(source, Mapping):  # datasets.Dataset; a DatasetDict is a mapping of splits
        return cast("Iterable[Any]", source.with_format(None))  # plain values instead of tensors or Arrow scalars
    if (batches := _arrow_batches(whole)) is not None:
        return _rows_of_batches(batches)
    if callable(getattr(whole, "collect", None)) and callable(getattr(whole, "collect_schema", None)):
        raise TypeError(f"a {kind} has no rows yet: pass the result of its collect()")
    if isinstance(source, Mapping):
        names = ", ".join(map(repr, list(whole)[:3]))
        raise TypeError(f"a {kind} with {names} … is not a sequence of rows: pass one of its values, or its items()")
    if isinstance(source, (AsyncIterable, Iterable)) or hasattr(whole, "__getitem__"):
        return cast("Iterable[Any] | AsyncIterable[Any]", source)
    raise TypeError(f"rows come from an iterable, an asynchronous iterable or a data frame, not from a {kind}")


def _tuples(frame: Any) -> Iterator[dict[Any, Any]]:
    names = list(frame.columns)
    for values in frame.itertuples(index=False, name=None):
        yield dict(zip(names, values, strict=True))


def _arrow_batches(source: Any) -> Iterable[Any] | None:
    """Return the data of a pyarrow object in small pieces with `to_pylist`; `None` for any other value."""
    if callable(getattr(source, "iter_batches", None)) and hasattr(source, "schema"):  # ParquetFile
        return cast("Iterable[Any]", source.iter_batches(batch_size=BATCH))
    if callable(getattr(source, "read_next_batch", None)) and hasattr(source, "schema"):  # RecordBatchReader
        return (piece for batch in source for piece in _slices(batch, batch.num_rows))
    if callable(getattr(source, "to_pylist", None)):
        if hasattr(source, "num_rows"):  # Table, RecordBatch
            return _slices(source, source.num_rows)
        if hasattr(source, "slice"):  # Array, ChunkedArray: a column
            return _slices(source, len(source))
    if callable(getattr(source, "to_batches", None)) and callable(getattr(source, "scanner", None)):  # dataset.Dataset
        return cast("Iterable[Any]", source.to_batches(batch_size=BATCH))
    return None


def _slices(source: Any, length: int) -> Iterator[Any]:
    return (source.slice(start, BATCH) for start in range(0, length, BATCH))


def _rows_of_batches(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        yield from batch.to_pylist()
