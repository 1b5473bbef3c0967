"""`client.beta.agents`: local files for environments, and the artifacts of one turn."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, Unpack, cast

from .. import endpoints
from ..engine import BinaryAnswer
from ..errors import OpenAIError
from ..lazy import resolve_annotations
from .common import no_raw_twin
from .polling import Poller

if TYPE_CHECKING:
    from ..core.codec.file_types import FileTypes
    from ..core.model.base import OpenModel
    from ..core.policy.request_options import RequestOptions
    from ..engine import Engine

__all__ = [
    "AgentArtifactsHelpers",
    "AgentFilePreparationError",
    "AgentFileStagingError",
    "AgentFilesHelpers",
    "AsyncAgentResultArtifacts",
    "PreparedAgentFiles",
    "StagedAgentFile",
]

ROOT = "/workspace"
PURPOSE = "user_data"
# Names directly below the root that environments reserve.
_RESERVED = (".codex", ".managed-agents")
_RESERVED_START = ".managed-agents-"
_OUTPUTS = f"{ROOT}/outputs"


@dataclass
class PreparedAgentFiles:
    """The value for an environment's `files`, and the ids of the uploads, which the caller has to delete."""

    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    uploaded_file_ids: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class StagedAgentFile:
    """A file in an environment, and the upload that it was made from."""

    uploaded_file_id: str
    file: OpenModel


class AgentFilePreparationError(OpenAIError):
    """An upload failed, which is the cause; `prepared` has the uploads before it."""

    def __init__(self, prepared: PreparedAgentFiles) -> None:
        super().__init__("Not all files were uploaded; delete those that were (see .prepared).")
        self.prepared = prepared


class AgentFileStagingError(OpenAIError):
    """A file was uploaded but not put into its environment; `uploaded_file_id` is the upload."""

    def __init__(self, uploaded_file_id: str) -> None:
        super().__init__(f"The file was uploaded as {uploaded_file_id}, but not put into its environment: delete it.")
        self.uploaded_file_id = uploaded_file_id


class TurnResult(Protocol):
    """An object with the ids of a session and of one of its turns."""

    @property
    def session_id(self) -> str: ...
    @property
    def turn_id(self) -> str: ...


class AgentFilesHelpers:
    """The hand-written part of `client.beta.agents.environments.files`."""

    _calls: Engine

    @no_raw_twin
    async def prepare(
        self, files: Mapping[str, str | os.PathLike[str]], **options: Unpack[RequestOptions]
    ) -> PreparedAgentFiles:
        """Upload local files, one after another, for an environment that is to be created.

        `files` maps the path in the environment, absolute and below ``/workspace``, to the local path. The result has
        the value for the environment's `files`, and the ids of the uploads, which stay until you delete them.

        Raises `ValueError` and `OSError` for wrong paths, before anything is sent, and `AgentFilePreparationError` for
        an upload that fails: its `.prepared` has those before it.
        """
        return await _prepare(self._calls, files, {**options})

    @no_raw_twin
    async def prepare_directory(
        self,
        root: str | os.PathLike[str],
        *,
        destination: str,
        include: Sequence[str],
        **options: Unpack[RequestOptions],
    ) -> PreparedAgentFiles:
        """Upload the files of a folder that match patterns such as ``**/*.py``, to be placed below `destination`.

        Symbolic links are refused, and so are files behind them. Raises the errors of `prepare`, and `ValueError`
        if no file matches.
        """
        files = await asyncio.to_thread(_matching, root, destination, include)
        return await _prepare(self._calls, files, {**options})

    @no_raw_twin
    async def upload(
        self, environment_id: str, *, file: FileTypes, path: str, **options: Unpack[RequestOptions]
    ) -> StagedAgentFile:
        """Upload a file and put it into an environment at `path`.

        Raises `ValueError` for a wrong path, the errors of `files.create`, and `AgentFileStagingError` if the file was
        uploaded but not put there: delete its `.uploaded_file_id` then.
        """
        return await _stage(self._calls, environment_id, file, path, {**options})


async def _prepare(calls: Engine, files: Mapping[str, str | os.PathLike[str]], params: Any) -> PreparedAgentFiles:
    """Upload every file, in order."""
    headers = {name.lower() for name in params.get("extra_headers") or ()}
    if len(files) > 1 and "idempotency-key" in headers:
        raise ValueError("one Idempotency-Key cannot serve several uploads")
    places = {_destination(place): Path(source) for place, source in files.items()}
    for place in places:
        if any(str(parent) in places for parent in PurePosixPath(place).parents):
            raise ValueError(f"{place!r} is below another file")
    await asyncio.to_thread(_check_files, *places.values())
    poller = Poller(calls, params)
    done = PreparedAgentFiles()
    try:
        for place, source in places.items():
            answer = await poller.first(endpoints.FILES_CREATE, {**params, "file": source, "purpose": PURPOSE})
            done.uploaded_file_ids.append(answer.id)
            done.files.append({"type": "file_id", "file_id": answer.id, "path": place})
    except (OpenAIError, OSError) as error:
        raise AgentFilePreparationError(done) from error
    except BaseException as error:
        if done.uploaded_file_ids:
            error.add_note(f"uploaded by then: {', '.join(done.uploaded_file_ids)}")
        raise
    return done


async def _stage(calls: Engine, environment_id: str, file: Any, path: str, params: Any) -> StagedAgentFile:
    """Upload a file and put it into its environment."""
    place = _destination(path)
    if not environment_id:
        raise ValueError("environment_id is empty")
    if isinstance(file, os.PathLike):
        await asyncio.to_thread(_check_files, Path(os.fspath(cast("os.PathLike[str]", file))))
    poller = Poller(calls, params)
    upload = await poller.first(endpoints.FILES_CREATE, {**params, "file": file, "purpose": PURPOSE})
    try:
        found = await poller.first(
            endpoints.BETA_AGENTS_ENVIRONMENTS_FILES_CREATE,
            {**params, "environment_id": environment_id, "type": "file_id", "file_id": upload.id, "path": place},
        )
    except OpenAIError as error:
        raise AgentFileStagingError(upload.id) from error
    except BaseException as error:
        error.add_note(f"uploaded by then: {upload.id}")
        raise
    return StagedAgentFile(upload.id, found)


def _matching(root: str | os.PathLike[str], destination: str, include: Sequence[str]) -> dict[str, Path]:
    """Return the files below `root` that match the patterns, by their path in the environment. Raises `ValueError`."""
    folder = Path(root)
    if isinstance(include, str) or not include:
        raise ValueError("include must be a list of patterns such as ['**/*.py']")
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    _destination(f"{destination}/a")
    found: dict[str, Path] = {}
    for pattern in include:
        parts = PurePosixPath(pattern).parts
        if not parts or PurePosixPath(pattern).is_absolute() or ".." in parts:
            raise ValueError(f"the pattern {pattern!r} must stay below the folder")
        for source in sorted(folder.glob(pattern)):
            inside = source.relative_to(folder)
            steps = [folder.joinpath(*inside.parts[:length]) for length in range(1, len(inside.parts) + 1)]
            if any(step.is_symlink() for step in steps):
                raise ValueError(f"{source} is behind a symbolic link")
            if not source.is_dir():
                found[str(PurePosixPath(destination) / inside.as_posix())] = source
    if not found:
        raise ValueError(f"no file below {folder} matches {list(include)}")
    return found


def _destination(path: str) -> str:
    """Return a path in an environment. Raises `ValueError` for one outside of it or reserved."""
    steps = path.split("/")
    if not path.startswith(f"{ROOT}/") or "\0" in path or "\\" in path:
        raise ValueError(f"{path!r} is not an absolute path below {ROOT}")
    if any(step in ("", ".", "..") for step in steps[1:]):
        raise ValueError(f"{path!r} has an empty segment, '.' or '..'")
    if steps[2] in _RESERVED or steps[2].startswith(_RESERVED_START) or path == _OUTPUTS:
        raise ValueError(f"{path!r} is reserved by the environment")
    return path


def _check_files(*sources: Path) -> None:
    """Raise `ValueError` unless the path is a regular file, `OSError` if it does not exist."""
    for source in sources:
        if not stat.S_ISREG(source.lstat().st_mode):
            raise ValueError(f"{source} is not a regular file")


# ---------------------------------------------------------------- artifacts


class AgentArtifactsHelpers:
    """The hand-written part of `client.beta.agents.sessions.artifacts`."""

    _calls: Engine

    @no_raw_twin
    def for_result(self, result: TurnResult | Any) -> AsyncAgentResultArtifacts:
        """Return the artifacts of one turn by their paths; `result` has its `session_id` and `turn_id`."""
        return AsyncAgentResultArtifacts(self._calls, result.session_id, result.turn_id)


class AsyncAgentResultArtifacts:
    """Read and download the artifacts of one turn."""

    def __init__(self, calls: Engine, session_id: str, turn_id: str) -> None:
        self._calls = calls
        self._session_id = session_id
        self._turn_id = turn_id

    async def content(self, path: str, **options: Unpack[RequestOptions]) -> BinaryAnswer:
        """Return the bytes of the artifact at `path`.

        Raises `ValueError` if the turn has no artifact there, or several, and `OpenAIError`.
        """
        artifact = await self._find(path, {**options})
        return await self._content(artifact, {**options})

    async def download(self, path: str, *, to: str | os.PathLike[str], **options: Unpack[RequestOptions]) -> OpenModel:
        """Write the artifact at `path` to a file and return its description.

        Raises the errors of `content`, and `OSError`.
        """
        artifact = await self._find(path, {**options})
        answer = await self._content(artifact, {**options})
        await answer.astream_to_file(to)
        return artifact

    async def _content(self, artifact: Any, options: dict[str, Any]) -> BinaryAnswer:
        ids = {"session_id": self._session_id, "artifact_id": artifact.id}
        answer: BinaryAnswer = await self._calls.run(
            endpoints.BETA_AGENTS_SESSIONS_ARTIFACTS_CONTENT, {**options, **ids}
        )
        return answer

    async def _find(self, path: str, options: dict[str, Any]) -> OpenModel:
        pages = self._calls.pages(
            endpoints.BETA_AGENTS_SESSIONS_ARTIFACTS_LIST, {**options, "session_id": self._session_id}
        )
        mine = (self._session_id, self._turn_id, path)
        names = ("session_id", "turn_id", "path")
        found: list[Any] = [one async for one in pages if tuple(getattr(one, name, None) for name in names) == mine]
        if len(found) != 1:
            raise ValueError(f"the turn has {len(found) or 'no'} artifacts at {path!r}")
        only: OpenModel = found[0]
        return only


resolve_annotations(__name__)
