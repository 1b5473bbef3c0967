"""The types of a file parameter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TypeAlias

__all__ = ["FileContent", "FileTypes"]

FileContent: TypeAlias = IO[bytes] | bytes | os.PathLike[str]
FileTypes: TypeAlias = (
    FileContent
    | tuple[str | None, FileContent]
    | tuple[str | None, FileContent, str | None]
    | tuple[str | None, FileContent, str | None, Mapping[str, str]]
)
"""Bytes, an open binary file, a path, or a tuple ``(name, content[, media type[, header fields]])``."""
