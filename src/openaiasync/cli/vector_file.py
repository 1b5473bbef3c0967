"""A file of texts with their vectors: one SQLite database, which any program can read.

SQLite, and not the append-only journal of jobs: rows are looked up by their number when a command is continued, a row
that failed is replaced later, and `similar` needs vectors as bytes side by side and not answers of a server as JSON.
A batch of rows is one transaction: after a crash or a loss of power the file has whole batches.

    meta(name, value)                        version, model, dimensions
    texts(id, text, vector, error)           vector: little-endian float32; NULL with an error
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import sys
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from heapq import nlargest
from importlib import import_module
from operator import mul
from typing import Any, NamedTuple, Self

from .console import CommandError

__all__ = ["Match", "VectorFile"]

_VERSION = 1
_PATIENCE = 5.0  # seconds that another command may hold the file
_CHUNK = 1024  # vectors that are compared in one step
_MAGIC = b"SQLite format 3\0"


class Match(NamedTuple):
    """A text of a store, with its cosine similarity to another one."""

    score: float
    row: int
    text: str


class VectorFile:
    """A file of texts with their vectors, of one model. Use it with ``with``. Blocks."""

    def __init__(self, path: str, *, create: bool, new: bool = False) -> None:
        """Open the file. Raises `CommandError` if it is not a store, or, without `create`, does not exist.

        `new` removes what is in it.
        """
        self.path = path
        try:
            exists = os.path.exists(path) and os.path.getsize(path) > 0
            if exists:
                with open(path, "rb") as file:
                    if file.read(len(_MAGIC)) != _MAGIC:
                        raise CommandError(f"{path} is not a store of vectors, and is left as it is")
            elif not create:
                raise CommandError(f"cannot read {path}: no such file; `embed --store {path}` makes one")
            self._base = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            self._open(exists, new, create)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from None

    def _open(self, exists: bool, new: bool, create: bool) -> None:
        base = self._base
        tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if exists and tables and not {"meta", "texts"} <= tables:
            raise CommandError(f"{self.path} is another program's database, and is left as it is")
        if create:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
            base.execute(
                "CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL, vector BLOB, error TEXT)"
            )
            if new:
                base.execute("DELETE FROM texts")
                base.execute("DELETE FROM meta")
        version = self._meta("version")
        if version not in (None, _VERSION):
            raise CommandError(f"{self.path} was written by a newer version of openaiasync (format {version})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._base.close()

    def _failed(self, error: Exception) -> CommandError:
        reason = getattr(error, "strerror", None) or str(error)
        busy = "; another command is writing to it" if "locked" in reason else ""
        return CommandError(f"cannot use {self.path}: {reason}{busy}")

    def _meta(self, name: str) -> Any:
        row = self._base.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    @property
    def model(self) -> str | None:
        """The model of the vectors; `None` in an empty store."""
        found = self._meta("model")
        return None if found is None else str(found)

    @property
    def dimensions(self) -> int | None:
        """The length of the vectors; `None` in an empty store."""
        found = self._meta("dimensions")
        return None if found is None else int(found)

    def count(self) -> int:
        """Return the number of texts with a vector."""
        row = self._base.execute("SELECT count(*) FROM texts WHERE vector IS NOT NULL").fetchone()
        return int(row[0])

    def rows(self) -> int:
        """Return the number of texts, including those that failed."""
        return int(self._base.execute("SELECT count(*) FROM texts").fetchone()[0])

    def use(self, model: str, dimensions: int | None) -> None:
        """Make this the model of the store. Raises `CommandError` if it has vectors of another model or length."""
        if self.model is not None and self.model != model:
            raise CommandError(f"{self.path} has vectors of {self.model}, which cannot be compared with those of "
                               f"{model}; --new begins again")  # fmt: skip
        if dimensions is not None and self.dimensions not in (None, dimensions):
            raise CommandError(f"{self.path} has vectors of {self.dimensions} numbers, not {dimensions}; --new begins "
                               "again")  # fmt: skip
        with self._transaction():
            self._base.executemany(
                "INSERT OR IGNORE INTO meta VALUES (?, ?)", [("version", _VERSION), ("model", model)]
            )

    def done(self, rows: Sequence[tuple[int, str]]) -> set[int]:
        """Return the numbers of those rows that have the vector of this very text."""
        wanted = dict(rows)
        marks = ",".join("?" * len(wanted))
        found = self._base.execute(
            f"SELECT id, text FROM texts WHERE vector IS NOT NULL AND id IN ({marks})", list(wanted)
        )
        return {index for index, text in found if wanted[index] == text}

    def add(self, rows: Iterable[tuple[int, str, Sequence[float] | None, str | None]]) -> None:
        """Write rows (number, text, vector, error), replacing those with the same numbers. Raises `CommandError`."""
        packed = [
            (index, text, None if vector is None else _packed(vector), error) for index, text, vector, error in rows
        ]
        lengths = {len(vector) // 4 for _, _, vector, _ in packed if vector is not None}
        known = self.dimensions
        if len(lengths | ({known} if known is not None else set[int]())) > 1:
            raise CommandError(f"the server's vectors have {', '.join(map(str, sorted(lengths)))} numbers, those in "
                               f"{self.path} {known}")  # fmt: skip
        with self._transaction():
            self._base.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)", packed)
            if known is None and lengths:
                self._base.execute("INSERT INTO meta VALUES ('dimensions', ?)", (lengths.pop(),))

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """Commit what the block writes as a whole, or nothing of it. Raises `CommandError`."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def nearest(self, vector: Sequence[float], top: int) -> list[Match]:
        """Return the `top` texts whose vectors have the largest cosine with `vector`, the nearest first."""
        best: list[Match] = []
        try:
            for rows in self._chunks():
                scores = _cosines([blob for _, _, blob in rows], vector)
                found = (Match(score, row[0], row[1]) for score, row in zip(scores, rows, strict=True))
                best = nlargest(top, [*best, *found], key=lambda match: (match.score, -match.row))
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return best

    def _chunks(self) -> Iterator[list[tuple[int, str, bytes]]]:
        cursor = self._base.execute("SELECT id, text, vector FROM texts WHERE vector IS NOT NULL ORDER BY id")
        while rows := cursor.fetchmany(_CHUNK):
            yield rows


def _packed(vector: Sequence[float]) -> bytes:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _cosines(blobs: list[bytes], vector: Sequence[float]) -> list[float]:
    """Return the cosine of each stored vector with `vector`; 0 for a vector without a length. Uses numpy if it is
    installed, which is a hundred times as fast."""
    try:
        np: Any = import_module("numpy")
    except ImportError:
        return _plain_cosines(blobs, vector)
    wanted = np.asarray(vector, dtype="f8")
    matrix = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1).astype("f8")
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)
    lengths[lengths == 0] = np.inf
    return [float(score) for score in matrix @ wanted / lengths]


def _plain_cosines(blobs: list[bytes], vector: Sequence[float]) -> list[float]:
    wanted = array("d", vector)
    length = math.sqrt(sum(map(mul, wanted, wanted)))
    scores: list[float] = []
    for blob in blobs:
        numbers = array("f")
        numbers.frombytes(blob)
        if sys.byteorder == "big":
            numbers.byteswap()
        size = math.sqrt(sum(map(mul, numbers, numbers))) * length
        scores.append(sum(map(mul, numbers, wanted)) / size if size else 0.0)
    return scores
