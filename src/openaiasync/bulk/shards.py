"""Shards: the parts of an input that several processes or machines answer independently of each other.

The cut is computed, not stored: shard ``i`` of ``n`` of a JSON Lines file begins with the first line that starts at or
after byte ``size * i // n``, so that a shard reads nothing but its part. Tables (CSV, TSV, Parquet) are cut by
rows, since a quoted field may contain line breaks.

Beside the output there is a folder, ``OUT.shards``, with a `ShardPlan` and for each shard the files of a job: results,
failed rows, journal, report. The first shard that starts writes the plan. Every other one compares its input,
settings, number of shards and version with it before it sends anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
import sys
import time
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ..storage.atomic import AtomicFile
from ..storage.disk import open_regular, read_file
from ..version import __version__
from .batch_file import check_file
from .fingerprint import JobChangedError, JobError, paths_of
from .object_storage import input_state, is_url, open_input
from .tables import count_rows, is_table

__all__ = [
    "Shard",
    "ShardPlan",
    "line_range",
    "local_file_system",
    "part_of",
    "plan_shards",
    "row_range",
    "shard_of",
    "shard_path",
]

_BLOCK = 1 << 16  # bytes read at once in search of a line's end
_WHOLE = 16 << 20  # bytes of an input whose fingerprint covers every byte
_SAMPLES = 256  # blocks of a larger input that its fingerprint covers
_CHECKED = 256 << 20  # bytes of an input that is checked as a whole, for names that occur in several shards
_LARGEST = 64 << 20  # bytes of a plan
_MOST = 1_000_000  # shards
# File systems in memory or in a container's layer, which other machines never see.
_LOCAL = frozenset({"tmpfs", "ramfs", "overlay", "aufs", "rootfs"})


class Shard(NamedTuple):
    """One of `total` equal parts of an input; `number` counts from 0."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @classmethod
    def of(cls, value: Any, first: int = 0) -> Shard:
        """Return the shard for a pair of numbers or a text such as ``"3/16"``; `first` is the number of the first one.

        Raises `ValueError`.
        """
        parts: Any = value.split("/") if isinstance(value, str) else value
        try:
            given, count = (int(part) if isinstance(part, str) else operator.index(part) for part in parts)
        except (TypeError, ValueError):
            raise ValueError(f"a shard is written NUMBER/TOTAL, such as 3/16, not {str(value)[:60]!r}") from None
        if not 1 <= count <= _MOST:
            raise ValueError(f"the number of shards is 1 to {_MOST:,}, not {count:,}")
        index = given - first
        if not 0 <= index < count:
            other = ""
            if not first and given == count:
                other = "; they count from 0, and with --first-shard 1 from 1"
            raise ValueError(
                f"the {count:,} shards have the numbers {first} to {count + first - 1}, not {given}{other}"
            )
        return cls(index, count)


def line_range(path: str, size: int, shard: Shard) -> tuple[int, int]:
    """Return the first byte of a shard's lines and the byte after its last one, of the first `size` bytes of a file.

    A shard is empty if one long line covers it. Reads only around the two borders. Blocks. Raises `OSError`.
    """
    with open_input(path) as file:

        def border(number: int) -> int:
            at = size * number // shard.total
            if at in (0, size):
                return at
            at -= 1  # a line that starts exactly at the border belongs to the later shard
            file.seek(at)
            while at < size and (block := file.read(min(_BLOCK, size - at))):
                found = block.find(b"\n")
                if found >= 0:
                    return at + found + 1
                at += len(block)
            return size

        return border(shard.number), border(shard.number + 1)


def row_range(rows: int, shard: Shard) -> tuple[int, int]:
    """Return the first row of a shard and the row after its last one, of a table with so many rows."""
    return rows * shard.number // shard.total, rows * (shard.number + 1) // shard.total


def fingerprint_of(path: str) -> str:
    """Return a digest of a file: of its size and all bytes up to 16 MiB, of samples spread over a larger one.

    Every shard computes it before it starts, so it must not read a large input as a whole. Each shard records the
    digest of its part too, and merging compares those. A process that runs many shards reads an unchanged file once.
    An object in a store has a version instead. Blocks. Raises `OSError`.
    """
    if is_url(path):
        return ":".join(map(str, input_state(path)))
    about = os.stat(path)
    return _fingerprint(path, about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=16)
def _fingerprint(path: str, size: int, modified: int, inode: int) -> str:
    digest = hashlib.blake2b(b"%d" % size, digest_size=16)
    with open_regular(path) as file:
        if size <= _WHOLE:
            while block := file.read(1 << 20):
                digest.update(block)
        else:
            for number in range(_SAMPLES):
                file.seek((size - _BLOCK) * number // (_SAMPLES - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


# -------------------------------------------------------------------------------------------------- the plan


def shards_folder(out: str) -> str:
    """Return the folder with the shards of this output."""
    return f"{out}.shards"


def shard_path(out: str, number: int) -> str:
    """Return the file of answers of one shard."""
    return os.path.join(shards_folder(out), f"{number:06d}.jsonl")


class ShardPlan(msgspec.Struct, kw_only=True):
    """What all shards of one output have in common, ``plan.json`` in their folder."""

    version: int = 1
    library: str
    """The version of this library: versions could convert or repeat rows differently."""
    count: int
    source: str
    """The input's path on the machine that wrote the plan; other machines may have it elsewhere."""
    size: int
    fingerprint: str
    rows: int | None = None
    """The rows of a table, which is cut by rows; `None` for JSON Lines."""
    settings: dict[str, Any]
    """What the requests are made with: model, parameters, schema, template, order."""
    checked: bool
    """Whether the input was checked as a whole. Shards check only their own part of a large one, and of a table."""
    created: float

    @classmethod
    def load(cls, out: str) -> ShardPlan | None:
        """Return the plan for an output; `None` without one. Raises `JobError` for one that cannot be read."""
        path = os.path.join(shards_folder(out), "plan.json")
        try:
            return msgspec.json.decode(read_file(path, _LARGEST), type=cls)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise JobError(f"{path} is not a plan of shards: {error}") from error

    def publish(self, out: str) -> None:
        """Write the plan for an output. Raises `FileExistsError` if another process was first, and `OSError`."""
        folder = shards_folder(out)
        os.makedirs(folder, exist_ok=True)
        file = AtomicFile.open(os.path.join(folder, "plan.json"))
        try:
            file.write(msgspec.json.format(msgspec.json.encode(self), indent=1))
            file.commit(sync=True, exclusive=True)
        except BaseException:
            file.discard()
            raise

    def compare(self, other: ShardPlan, out: str) -> None:
        """Raise `JobChangedError` if a shard that starts now was cut or set up differently from this plan."""
        folder = shards_folder(out)
        fresh = f"remove {folder} to start over, which discards its answers, or name another output"
        if other.library != self.library:
            raise JobChangedError(
                f"the shards of {out} were begun with openaiasync {self.library}, and this is {other.library}: install "
                f"openaiasync=={self.library} here, or {fresh}"
            )
        if other.count != self.count:
            raise JobChangedError(
                f"{out} is cut into {self.count:,} shards, not {other.count:,}: use /{self.count} for every shard, "
                "also when only some of them are run again (SLURM_ARRAY_TASK_COUNT counts the tasks of one "
                f"submission), or {fresh}"
            )
        if (other.size, other.fingerprint) != (self.size, self.fingerprint):
            what = "has other contents than" if other.size == self.size else (
                f"has {other.size:,} bytes; it had {self.size:,}"
            )  # fmt: skip
            raise JobChangedError(f"{other.source} {what} when the first shard of {out} was started; {fresh}")
        given, known = other.settings, self.settings
        for name in sorted(given.keys() | known.keys()):
            if given.get(name) != known.get(name):
                raise JobChangedError(
                    f"the shards of {out} were begun with another {name} (was {_short(known.get(name))}, is "
                    f"{_short(given.get(name))}); {fresh}"
                )


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"


def plan_shards(
    source: str, out: str, errors: str, count: int, settings: dict[str, Any], *, checked: bool = False
) -> ShardPlan:
    """Return the plan for an output, writing it if this is the first shard that starts. Blocks.

    `checked` says that the caller has checked the whole input.

    Raises `JobChangedError` if the plan is for another input or other settings, `InputFileError` for an input of at
    most 256 MiB that has problems anywhere, `JobError` if the output exists already, `OSError`.
    """
    size = input_state(source).size
    mine = ShardPlan(
        library=__version__,
        count=count,
        source=source,
        size=size,
        fingerprint=fingerprint_of(source),
        settings=settings,
        checked=checked,
        created=time.time(),
    )
    known = ShardPlan.load(out)
    if known is None:
        for path in (out, errors):
            if os.path.exists(path) and os.path.getsize(path):
                raise JobError(f"{path} exists and was not merged from shards; remove it, or name another output")
        if is_table(source):
            mine.rows = count_rows(source)
        elif not checked and size <= _CHECKED:
            if (error := check_file(source).error()) is not None:
                raise error
            mine.checked = True
        try:
            mine.publish(out)
        except FileExistsError:
            known = ShardPlan.load(out)
        except OSError as error:
            raise JobError(f"cannot write to {shards_folder(out)}: {error}") from error
        if known is None:
            return mine
    known.compare(mine, out)
    return known


def shard_of(given: tuple[int, int] | str | None, out: str) -> tuple[Shard | None, str]:
    """Return the requested shard, if any, and the file of its answers. Raises `ValueError`."""
    if given is None:
        return None, out
    shard = Shard.of(given)
    return shard, shard_path(out, shard.number)


def part_of(source: str, out: str, shard: Shard | None, settings: dict[str, Any]) -> tuple[int, int] | None:
    """Return the part of the input that a job answers: bytes of a file, or rows of a table; `None`: all of it. Blocks.

    Raises as `plan_shards` does, and `JobError` for a job of the whole input whose output is that of shards.
    """
    if shard is None:
        if ShardPlan.load(out) is not None:
            raise JobError(
                f"{out} is the output of shards: merge them with `openaiasync merge`, run one of them with --shard, "
                f"remove {shards_folder(out)}, or name another output"
            )
        return None
    try:
        plan = plan_shards(source, out, paths_of(out)[0], shard.total, settings)
        if plan.rows is not None:
            return row_range(plan.rows, shard)
        return line_range(source, plan.size, shard)
    except OSError as error:
        raise JobError(f"{source} cannot be read: {error}") from error


def local_file_system(path: str) -> str | None:
    """Return the type of the file system of a path if only this machine or container can see it; `None` otherwise.

    `None` as well where that cannot be found out: a disk may or may not be exported to others.
    """
    if not sys.platform.startswith("linux"):
        return None
    place = os.path.realpath(path)
    best, kind = "", ""
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            _, where, found, *_ = line.split(" ")
            where = where.replace("\\040", " ")
            if len(where) >= len(best) and (place == where or place.startswith(where.rstrip("/") + "/")):
                best, kind = where, found
    return kind if kind in _LOCAL else None
