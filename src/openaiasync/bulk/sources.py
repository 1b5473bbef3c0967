"""Rows from whatever a caller has: any iterable, synchronous or not, and data frames by what they can do.

No library of data frames is imported: pandas, polars and Arrow are known by their methods, a data set of Hugging Face
is iterated as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any, cast

__all__ = ["rows_of"]

BATCH = 1024  # rows of an Arrow table that become Python values at once


def rows_of(source: Any) -> Iterable[Any] | AsyncIterable[Any]:
    """Return the rows of a source, read as they are needed; those of a data frame are dicts by column name.

    Raises `TypeError` for what has no rows, as a single text or a dict of splits.
    """
    whole, kind = source, type(source).__name__
    if isinstance(source, (str, bytes, bytearray)):
        raise TypeError(f"many rows are needed, not one {kind}: put it into a list")
    if callable(getattr(source, "iter_rows", None)) and hasattr(source, "columns"):  # polars.DataFrame
        named: Iterable[Any] = source.iter_rows(named=True)
        return named
    if callable(getattr(source, "itertuples", None)) and hasattr(source, "columns"):  # pandas.DataFrame
        return _tuples(source)
    if callable(getattr(source, "to_pylist", None)) and hasattr(source, "schema"):  # pyarrow.Table, RecordBatch
        return _batches(source)
    if callable(getattr(source, "collect", None)) and callable(getattr(source, "collect_schema", None)):
        raise TypeError(f"a {kind} has no rows yet: pass what its collect() returns")
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


def _batches(table: Any) -> Iterator[dict[str, Any]]:
    if callable(getattr(table, "to_batches", None)):
        for batch in table.to_batches(max_chunksize=BATCH):
            yield from batch.to_pylist()
        return
    for start in range(0, table.num_rows, BATCH):
        yield from table.slice(start, BATCH).to_pylist()
