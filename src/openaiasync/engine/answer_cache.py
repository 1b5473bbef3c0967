"""Reuse of answers: a cache on disk, shared by jobs, and equal rows within one run.

A request is identified by its operation and canonical body, regardless of its server, header fields and id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sqlite3
import threading
from typing import Any

import msgspec

from ..core.model.closing import AsyncClosing
from ..errors import ConfigurationError

__all__ = ["AnswerCache", "is_repeatable", "request_key"]

BATCH = 256  # answers that are written together
DELAY = 1.0  # seconds after which fewer are written, too
BUSY = 10.0  # seconds to wait for another process that writes
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"


class _Sampling(msgspec.Struct, gc=False):
    temperature: Any = None


_sampling = msgspec.json.Decoder(_Sampling)


def request_key(operation: str, body: object) -> bytes | None:
    """Return the cache key of an operation's request; `None` for a body that is not JSON."""
    if not isinstance(body, bytes):
        return None
    try:
        canonical = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (ValueError, RecursionError):
        return None
    return hashlib.blake2b(canonical, digest_size=16, key=operation.encode()[:64]).digest()


def is_repeatable(body: object) -> bool:
    """Return whether a request is deterministic (``temperature`` 0), so that an equal one gets the same answer."""
    if not isinstance(body, bytes) or b'"temperature"' not in body:
        return False
    try:
        temperature = _sampling.decode(body).temperature
    except (ValueError, RecursionError):
        return False
    return isinstance(temperature, (int, float)) and temperature == 0


class AnswerCache(AsyncClosing):
    """Bodies of answers by `request_key`, in an SQLite file that several processes may use at once.

    Without a `path` it is a temporary file that is deleted afterwards. Answers are written in a thread, a few hundred
    at a time or after a second; at most those are lost when the process is killed. Close it, or use it as an
    asynchronous context manager.

    Raises `ConfigurationError` for a file that is not a cache, and `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = "" if path is None else os.fspath(path)
        self._pending: dict[bytes, bytes] = {}
        self._writing: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        self._flushing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open()

    def _open(self) -> None:
        try:
            self._db = self._reader = self._connected()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_TABLE)
            if self._path not in ("", ":memory:"):
                # The event loop reads over a second connection: a write may wait for that of another process.
                self._reader = self._connected()
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"cache: {self._path!r} cannot be used as a cache of answers: {error}") from None

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)

    def get(self, key: bytes) -> bytes | None:
        """Return the body of the answer to an equal request, or `None`."""
        body = self._pending.get(key) or self._writing.get(key)
        if body is None:
            with self._lock if self._reader is self._db else contextlib.nullcontext():
                row = self._reader.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
            body = None if row is None else bytes(row[0])
        return body

    def put(self, key: bytes, body: bytes) -> None:
        """Store the body of an answer. Call it in an event loop."""
        self._pending[key] = body
        if self._flushing is not None:
            return
        loop = asyncio.get_running_loop()
        if len(self._pending) >= BATCH:
            self._start_flush()
        elif self._timer is None and self._path:
            self._timer = loop.call_later(DELAY, self._start_flush)

    def _start_flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is None and self._pending:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._pending:
                self._writing, self._pending = self._pending, {}
                await asyncio.to_thread(self._write, self._writing)
                self._writing = {}
        finally:
            self._flushing = None

    def _write(self, bodies: dict[bytes, bytes]) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", list(bodies.items()))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    async def aclose(self) -> None:
        """Write pending answers and close the file. Raises `sqlite3.Error` if writing fails. Idempotent."""
        flushing = self._flushing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if flushing is not None:
                await asyncio.wait({flushing})
                flushing.result()
            bodies, self._pending = {**self._writing, **self._pending}, {}
            self._writing = {}
            if bodies and self._path:
                await asyncio.to_thread(self._write, bodies)
        finally:
            self._reader.close()
            self._db.close()
