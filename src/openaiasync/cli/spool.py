"""Requests from stdin (``-``), kept beside a job's output: what is resumed has to be read again."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator

from ..bulk.fingerprint import ADVICE, answers_path
from .console import CommandError, note

__all__ = ["spooled"]

_CHUNK = 1 << 20  # bytes read at once


@contextlib.contextmanager
def spooled(target: str | None, *, new: bool = False) -> Generator[str, None, None]:
    """Write stdin to a file and yield its path.

    For a job with the output `target` the file stays beside it (``OUT.input.jsonl``), so that the same command
    continues the job. Another stdin then has to be the same, or the same with rows added at its end; an empty one
    stands for the file that is there. Without a target the file is removed at the end.

    Raises `CommandError`.
    """
    if sys.stdin is None:
        raise CommandError("there is no stdin; name a file")
    if sys.stdin.isatty():
        note("Reading requests from the terminal; end with Ctrl-D.")
    path = "stdin" if target is None else _path(answers_path(os.path.realpath(target)))
    part = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    try:
        size = _copy(part)
        if target is None:
            yield part
            return
        _keep(part, path, size, new)
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _path(out: str) -> str:
    return f"{out.removesuffix('.jsonl')}.input.jsonl"


def _copy(part: str) -> int:
    """Copy stdin to a file and return its size."""
    size = 0
    try:
        with open(part, "wb") as file:
            while piece := os.read(sys.stdin.fileno(), _CHUNK):
                file.write(piece)
                size += len(piece)
    except OSError as error:
        raise CommandError(f"stdin cannot be copied to {part}: {error.strerror}") from None
    return size


def _keep(part: str, path: str, size: int, new: bool) -> None:
    """Make the copy the input of the job, unless the job has another one."""
    if new or not os.path.exists(path):
        if not size:
            raise CommandError("stdin is empty: there are no requests")
        os.replace(part, path)
        return
    known = os.path.getsize(path)
    if not size or (size == known and _begins_with(part, path)):
        return  # the file keeps its time, by which the job knows it again without reading it
    if size < known or not _begins_with(part, path):
        raise CommandError(f"stdin is not what it was when {path} was written; {ADVICE}")
    os.replace(part, path)


def _begins_with(part: str, path: str) -> bool:
    with open(part, "rb") as new, open(path, "rb") as old:
        while piece := old.read(_CHUNK):
            if new.read(len(piece)) != piece:
                return False
    return True
