"""Limits of a job that can be changed while it runs: a small file in its folder, read once a second.

The later command wins, limit by limit: `limits set` changes the limits of the run before it, and limits that a later
`run` or call of `client.job` names replace those of an earlier `limits set`, which are removed from the file. Limits
that it does not name stay as they were set.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ..core.policy.limits import Limits
from ..storage.atomic import write_file
from ..storage.disk import read_file

__all__ = ["JobLimits", "LimitsFile"]

_LARGEST = 1 << 16  # bytes


class JobLimits(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The limits of each server; `None` means not set: learned, or unchanged."""

    rpm: float | None = None
    tpm: float | None = None
    max_in_flight: int | str | None = None
    """A number, or ``"auto"``."""

    def __str__(self) -> str:
        known = {"rpm": self.rpm, "tpm": self.tpm, "in flight": self.max_in_flight}
        said = [f"{name} {value:,.0f}" if isinstance(value, (int, float)) else f"{name} {value}"
                for name, value in known.items() if value is not None]  # fmt: skip
        return ", ".join(said) or "no limits"

    def options(self) -> dict[str, Any]:
        """Return these limits as options of a job."""
        found: dict[str, Any] = {} if self.max_in_flight is None else {"max_in_flight": self.max_in_flight}
        if self.rpm is not None or self.tpm is not None:
            found["limits"] = Limits(rpm=self.rpm, tpm=self.tpm)
        return found

    def changes(self) -> dict[str, Any]:
        """Return the limits that are set, as arguments of `Scheduler.set_limits`."""
        said: dict[str, Any] = msgspec.to_builtins(self)
        return said

    def merged_into(self, folder: str) -> JobLimits:
        """Merge these limits into those of a job's folder and return all. Blocks. Raises `OSError`."""
        known = LimitsFile(folder).read() or JobLimits()
        merged = msgspec.convert({**msgspec.to_builtins(known), **msgspec.to_builtins(self)}, JobLimits)
        write_file(os.path.join(folder, "limits.json"), msgspec.json.encode(merged))
        return merged


class LimitsFile:
    """The limits in a job's folder, with detection of changes."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "limits.json")
        self._seen: tuple[int, int] | None = None

    def read(self) -> JobLimits | None:
        """Return the current limits; `None` without any, or for a malformed file."""
        try:
            return msgspec.json.decode(read_file(self._path, _LARGEST), type=JobLimits)
        except (OSError, ValueError):
            return None

    def supersede(self, named: JobLimits) -> JobLimits:
        """Remove the limits that `named` replaces, and return them. Blocks. Raises `OSError`."""
        known = self.read() or JobLimits()
        given = msgspec.to_builtins(named)
        kept: dict[str, Any] = {}
        replaced: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(known).items():
            (replaced if name in given else kept)[name] = value
        if replaced:
            write_file(self._path, msgspec.json.encode(kept))
        return msgspec.convert({name: value for name, value in replaced.items() if value != given[name]}, JobLimits)

    def changed(self) -> JobLimits | None:
        """Return the limits if they changed since the last call."""
        try:
            about = os.stat(self._path)
        except OSError:
            return None
        seen = (about.st_mtime_ns, about.st_ino)
        if seen == self._seen:
            return None
        self._seen = seen
        return self.read()
