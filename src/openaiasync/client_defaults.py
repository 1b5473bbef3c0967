"""What users of the official client import beside the client: its defaults, a few types, a way to its HTTP client.

The names are listed in `spec/top_level_names.txt`; those that this library does not have, with the reason, are in
`docs/coming-from-openai.md`.
"""

from __future__ import annotations

import os
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .client import AsyncOpenAI
from .core.policy.options import Timeout

if TYPE_CHECKING:
    from .core.codec.files import FileTypes

__all__ = [
    "DEFAULT_CONNECTION_LIMITS",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "AsyncClient",
    "ConnectionLimits",
    "DataResidency",
    "DefaultAsyncHttpx2Client",
    "NoneType",
    "file_from_path",
]

AsyncClient = AsyncOpenAI

DataResidency = Literal["global", "us", "eu", "ae", "au", "in", "jp"]
"""Regions that `AsyncOpenAI(data_residency=...)` knows."""

DEFAULT_MAX_RETRIES: int = 2

DEFAULT_TIMEOUT: Timeout = Timeout(600.0, connect=5.0)
"""The clocks of an `AsyncOpenAI` that was given none, in seconds."""


class ConnectionLimits(NamedTuple):
    """How many connections an `AsyncOpenAI` has, and how long it keeps idle ones (seconds)."""

    max_connections: int
    max_keepalive_connections: int
    keepalive_expiry: float


DEFAULT_CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits(1000, 1000, 60.0)


def file_from_path(path: str | os.PathLike[str]) -> FileTypes:
    """A file for an upload: its name and content, read at once.

    Passing a `pathlib.Path` instead is better for large files, which are then read in slices. Raises `OSError`, also
    for more than 1 GiB and for what is not a regular file.
    """
    from .storage.files import read_file

    return os.path.basename(path), read_file(path, 1 << 30), None


def DefaultAsyncHttpx2Client(**options: Any) -> Any:
    """An ``httpx2.AsyncClient`` with this library's limits, timeouts and redirects, for ``http_client=``.

    `options` are those of ``httpx2.AsyncClient`` and win. Raises `ModuleNotFoundError` where httpx2 is not installed.
    """
    import importlib

    httpx2: Any = importlib.import_module("httpx2")
    defaults = {
        "limits": httpx2.Limits(**DEFAULT_CONNECTION_LIMITS._asdict()),
        "timeout": httpx2.Timeout(600.0, connect=5.0),
        "follow_redirects": True,
    }
    return httpx2.AsyncClient(**{**defaults, **options})
