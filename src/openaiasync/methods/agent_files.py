"""Local files for the environments of agents: which, whether they may, and their uploads."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from .. import endpoints
from ..errors import OpenAIError
from .polling import Waiting

if TYPE_CHECKING:
    from ..core.model.base import OpenModel
    from ..engine import Engine

__all__ = [
    "AgentFilePreparationError",
    "AgentFileStagingError",
    "PreparedAgentFiles",
    "StagedAgentFile",
    "chosen",
    "prepared",
    "staged",
]

ROOT = "/workspace"
PURPOSE = "user_data"
# Names right below the root that environments keep for themselves.
_RESERVED = (".codex", ".managed-agents")
_RESERVED_START = ".managed-agents-"
_OUTPUTS = f"{ROOT}/outputs"


@dataclass
class PreparedAgentFiles:
    """What an environment's `files` takes, and the ids of the uploads, which are the caller's to delete."""

    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    uploaded_file_ids: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class StagedAgentFile:
    """A file in an environment, and the upload that it came from."""

    uploaded_file_id: str
    file: OpenModel


class AgentFilePreparationError(OpenAIError):
    """An upload failed, which is the cause; `prepared` has those before it."""

    def __init__(self, prepared: PreparedAgentFiles) -> None:
        super().__init__("Not all files were uploaded; those that were are yours to delete.")
        self.prepared = prepared


class AgentFileStagingError(OpenAIError):
    """A file was uploaded and not put into its environment; `uploaded_file_id` is the upload."""

    def __init__(self, uploaded_file_id: str) -> None:
        super().__init__(f"The file was uploaded as {uploaded_file_id}, and not put into its environment.")
        self.uploaded_file_id = uploaded_file_id


async def prepared(calls: Engine, files: Mapping[str, str | os.PathLike[str]], params: Any) -> PreparedAgentFiles:
    """Upload all of them, in order."""
    headers = {name.lower() for name in params.get("extra_headers") or ()}
    if len(files) > 1 and "idempotency-key" in headers:
        raise ValueError("one Idempotency-Key cannot be of several uploads")
    places = {_destination(place): Path(source) for place, source in files.items()}
    for place in places:
        if any(str(parent) in places for parent in PurePosixPath(place).parents):
            raise ValueError(f"{place!r} lies below another file")
    await asyncio.to_thread(_check, *places.values())
    waiting = Waiting(calls, params)
    done = PreparedAgentFiles()
    try:
        for place, source in places.items():
            answer = await waiting.first(endpoints.FILES_CREATE, {**params, "file": source, "purpose": PURPOSE})
            done.uploaded_file_ids.append(answer.id)
            done.files.append({"type": "file_id", "file_id": answer.id, "path": place})
    except (OpenAIError, OSError) as error:
        raise AgentFilePreparationError(done) from error
    except BaseException as error:
        if done.uploaded_file_ids:
            error.add_note(f"uploaded by then: {', '.join(done.uploaded_file_ids)}")
        raise
    return done


async def staged(calls: Engine, environment_id: str, file: Any, path: str, params: Any) -> StagedAgentFile:
    """Upload one and put it into its environment."""
    place = _destination(path)
    if not environment_id:
        raise ValueError("environment_id is empty")
    if isinstance(file, os.PathLike):
        await asyncio.to_thread(_check, Path(os.fspath(cast("os.PathLike[str]", file))))
    waiting = Waiting(calls, params)
    upload = await waiting.first(endpoints.FILES_CREATE, {**params, "file": file, "purpose": PURPOSE})
    try:
        found = await waiting.first(
            endpoints.BETA_AGENTS_ENVIRONMENTS_FILES_CREATE,
            {**params, "environment_id": environment_id, "type": "file_id", "file_id": upload.id, "path": place},
        )
    except OpenAIError as error:
        raise AgentFileStagingError(upload.id) from error
    except BaseException as error:
        error.add_note(f"uploaded by then: {upload.id}")
        raise
    return StagedAgentFile(upload.id, found)


def chosen(root: str | os.PathLike[str], destination: str, include: Sequence[str]) -> dict[str, Path]:
    """The files below `root` that patterns name, by where they are to be. Raises `ValueError`."""
    folder = Path(root)
    if isinstance(include, str) or not include:
        raise ValueError("include is a list of patterns, as ['**/*.py']")
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    _destination(f"{destination}/a")
    found: dict[str, Path] = {}
    for pattern in include:
        parts = PurePosixPath(pattern).parts
        if not parts or PurePosixPath(pattern).is_absolute() or ".." in parts:
            raise ValueError(f"the pattern {pattern!r} has to stay below the folder")
        for source in sorted(folder.glob(pattern)):
            inside = source.relative_to(folder)
            steps = [folder.joinpath(*inside.parts[:length]) for length in range(1, len(inside.parts) + 1)]
            if any(step.is_symlink() for step in steps):
                raise ValueError(f"{source} is behind a symbolic link")
            if not source.is_dir():
                found[str(PurePosixPath(destination) / inside.as_posix())] = source
    if not found:
        raise ValueError(f"no file below {folder} is named by {list(include)}")
    return found


def _destination(path: str) -> str:
    """A place in an environment. `ValueError` for one outside, and for those that it keeps for itself."""
    steps = path.split("/")
    if not path.startswith(f"{ROOT}/") or "\0" in path or "\\" in path:
        raise ValueError(f"{path!r} is no absolute path below {ROOT}")
    if any(step in ("", ".", "..") for step in steps[1:]):
        raise ValueError(f"{path!r} has an empty step, '.' or '..'")
    if steps[2] in _RESERVED or steps[2].startswith(_RESERVED_START) or path == _OUTPUTS:
        raise ValueError(f"{path!r} is kept by the environment for itself")
    return path


def _check(*sources: Path) -> None:
    """`ValueError` for what is no regular file; `OSError` for what is not there."""
    for source in sources:
        if not stat.S_ISREG(source.lstat().st_mode):
            raise ValueError(f"{source} is no regular file, or a symbolic link")
