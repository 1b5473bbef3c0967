"""The identity of a job: its input and settings as of its start, kept in its folder.

A job resumes only with the same settings. Rows may be added at the end of its input; any other change of the input or
of the requests is refused, since it would mix answers to different questions.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ..errors import OpenAIError
from ..storage.atomic import AtomicFile
from ..storage.disk import read_file
from .batch_file import CheckedFile, check_file, digest_of
from .object_storage import input_state, is_url

__all__ = ["ADVICE", "JobChangedError", "JobError", "JobRecord", "JobRunningError", "folder_of", "paths_of"]

_LARGEST = 64 << 20  # bytes of the record


class JobError(OpenAIError):
    """A job cannot run or continue. Nothing is lost: the same job can be run again once the cause is removed."""


class JobRunningError(JobError):
    """Another process, perhaps on another machine, is running the job."""


class JobChangedError(JobError, ValueError):
    """The output belongs to a job with another input, prompt, model or parameter; ``new=True`` starts over."""


class JobRecord(msgspec.Struct, kw_only=True):
    """The record of a job, ``job.json`` in its folder."""

    version: int = 1
    nonce: str
    """The job's id, a part of each row's Idempotency-Key and of the ids in the output."""
    source: str
    """The file that the user named."""
    input: str
    """The file of requests that is read: `source`, or the one made from a table or a part of an object."""
    model: str | None = None
    """The given model for rows that name none."""
    models: dict[str, str] = {}
    """The client's default models, used if no model was given."""
    params: dict[str, Any] = {}
    schema: dict[str, Any] | None = None
    table: dict[str, Any] | None = None
    """The options that converted rows of a table to requests."""
    order: str
    created: float
    shard: tuple[int, int] | None = None
    """Number of the shard and of all shards, if the job is one of them."""
    start: int = 0
    """The first byte of `input` that belongs to the job."""
    size: int = 0
    """The byte after the last one: the size of a whole input."""
    modified: int = 0
    digest: str = ""
    rows: int = 0
    unnamed: int = 0
    """The number of rows that name no model, to which the default applies."""
    table_size: int = 0
    table_modified: int = 0
    table_digest: str = ""
    options: dict[str, Any] = {}
    """How the job was last run (servers, limits): for `retry`; no keys."""

    def save(self, folder: str) -> None:
        """Write the record. Raises `OSError`."""
        os.makedirs(folder, exist_ok=True)
        file = AtomicFile.open(os.path.join(folder, "job.json"))
        try:
            file.write(msgspec.json.format(msgspec.json.encode(self), indent=1))
            file.commit(sync=True)
        except BaseException:
            file.discard()
            raise

    @classmethod
    def load(cls, folder: str) -> JobRecord | None:
        """Return the record of a folder, `None` if it contains no job. Raises `JobError` for one that cannot be
        read."""
        path = os.path.join(folder, "job.json")
        try:
            return msgspec.json.decode(read_file(path, _LARGEST), type=cls)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise JobError(f"{path} is not the record of a job: {error}") from error

    def takes(self, checked: CheckedFile) -> None:
        """Record the checked input."""
        self.start, self.size, self.modified = checked.start, checked.size, checked.modified
        self.digest, self.rows = checked.digest, checked.rows
        self.unnamed = checked.models[""]

    def compare_settings(self, other: JobRecord, out: str) -> None:
        """Raise `JobChangedError` if the record of a new run has other settings."""
        given, known = other.settings(), self.settings()
        if not self.unnamed:
            given["model"], given["models"] = known["model"], known["models"]
        changed = sorted(name for name in given.keys() | known.keys() if given.get(name) != known.get(name))
        if changed:
            was = ", ".join(f"{name} (was {_short(known.get(name))}, is {_short(given.get(name))})" for name in changed)
            raise JobChangedError(f"{out} belongs to a job with another {was}; {ADVICE}")

    def settings(self) -> dict[str, Any]:
        """Return the settings of the requests as JSON values."""
        names = ("model", "models", "params", "schema", "table", "order")
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({name: getattr(self, name) for name in names}))
        return found

    def compare_input(self, out: str) -> CheckedFile | None:
        """Compare the input with its record; return a new check if rows were added, else `None`.

        A file with the same size and modification time is not read. Blocks. Raises `JobChangedError`, `OSError`,
        and `InputFileError` for invalid added rows.
        """
        if self.is_made:
            self._compare_source(out)
            return None
        about = os.stat(self.input)
        if self.shard is not None:  # the plan of the shards records the size, and a border depends on it
            if about.st_mtime_ns != self.modified and digest_of(self.input, self.size, self.start) != self.digest:
                raise JobChangedError(
                    f"{self.source} was changed since {out} was started: restore it, or remove all shards to start over"
                )
            return None
        if (about.st_size, about.st_mtime_ns) == (self.size, self.modified):
            return None
        if digest_of(self.input, self.size) != self.digest:
            what = "is shorter than it was" if about.st_size < self.size else "was changed"
            raise JobChangedError(f"{self.source} {what} since {out} was started; {ADVICE}")
        checked = check_file(self.input)
        if (error := checked.error()) is not None:
            raise error
        return checked

    @property
    def is_made(self) -> bool:
        """Whether `input` is made from `source`: a table, or an object in a store."""
        return self.table is not None or is_url(self.source)

    def note_source(self, path: str) -> None:
        """Record the state of the table or object that `input` is made from. Blocks. Raises `OSError`."""
        self.table_size, self.table_modified = state = input_state(path)
        self.table_digest = str(state.modified) if is_url(path) else digest_of(path, state.size)

    def _compare_source(self, out: str) -> None:
        state = input_state(self.source)
        if state == (self.table_size, self.table_modified):
            return
        digest = str(state.modified) if is_url(self.source) else digest_of(self.source, state.size)
        if (state.size, digest) != (self.table_size, self.table_digest):
            raise JobChangedError(f"{self.source} was changed since {out} was started; {ADVICE}")


ADVICE = "pass new=True (--new) to start over, which discards its answers, or name another output"


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"


def answers_path(out: str) -> str:
    """Return the file of a job's answers: for a table (``out.parquet``), the JSON Lines from which it is made."""
    stem, _, ending = out.rpartition(".")
    return f"{stem}.jsonl" if ending.lower() in ("csv", "tsv", "parquet") else out


def folder_of(out: str) -> str:
    """Return the folder of the job with this output."""
    return f"{out}.job"


def paths_of(out: str) -> tuple[str, str]:
    """Return the paths of a job's failed rows and report."""
    stem, dot, ending = out.rpartition(".")
    stem = stem if dot and "/" not in ending and ending in ("jsonl", "json", "csv", "parquet", "ndjson") else out
    return f"{stem}.errors.jsonl", f"{stem}.report.json"
