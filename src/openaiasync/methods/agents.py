"""`client.beta.agents`: files for an environment and artifacts of a turn, as the generated namespaces inherit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, Unpack

from .mark import no_raw_twin

if TYPE_CHECKING:
    from ..core.codec.file_types import FileTypes
    from ..core.policy.options import RequestOptions
    from ..engine import Engine
    from .agent_artifacts import AsyncAgentResultArtifacts
    from .agent_files import PreparedAgentFiles, StagedAgentFile

__all__ = ["AgentArtifactsHelpers", "AgentFilesHelpers"]


class TurnResult(Protocol):
    """What tells which turn of which session is meant."""

    @property
    def session_id(self) -> str: ...
    @property
    def turn_id(self) -> str: ...


class AgentFilesHelpers:
    """The hand-written part of `client.beta.agents.environments.files`."""

    _calls: Engine

    @no_raw_twin
    async def prepare(
        self, files: Mapping[str, str | PathLike[str]], **options: Unpack[RequestOptions]
    ) -> PreparedAgentFiles:
        """Upload local files, one after another, for an environment that is to be created.

        `files` maps where each is to be, an absolute path below ``/workspace``, to where it is here. The answer has
        what an environment's `files` takes, and the ids of what was uploaded, which stays until you delete it.

        Raises `ValueError` and `OSError` for paths that are none, before anything is sent, and
        `AgentFilePreparationError` for an upload that fails: its `.prepared` has those that did not.
        """
        from .agent_files import prepared

        return await prepared(self._calls, files, {**options})

    @no_raw_twin
    async def prepare_directory(
        self,
        root: str | PathLike[str],
        *,
        destination: str,
        include: Sequence[str],
        **options: Unpack[RequestOptions],
    ) -> PreparedAgentFiles:
        """The same for files of a folder: those that patterns as ``**/*.py`` name, put below `destination`.

        Symbolic links are refused, and so is what they would lead to. Raises as `prepare`, and `ValueError` where no
        file is named.
        """
        import asyncio

        from .agent_files import chosen, prepared

        files = await asyncio.to_thread(chosen, root, destination, include)
        return await prepared(self._calls, files, {**options})

    @no_raw_twin
    async def upload(
        self, environment_id: str, *, file: FileTypes, path: str, **options: Unpack[RequestOptions]
    ) -> StagedAgentFile:
        """Upload a file and put it into an environment at `path`.

        Raises `ValueError` for a path that is none, what `files.create` does, and `AgentFileStagingError` where the
        file was uploaded and not put there: its `.uploaded_file_id` is yours to delete.
        """
        from .agent_files import staged

        return await staged(self._calls, environment_id, file, path, {**options})


class AgentArtifactsHelpers:
    """The hand-written part of `client.beta.agents.sessions.artifacts`."""

    _calls: Engine

    @no_raw_twin
    def for_result(self, result: TurnResult | Any) -> AsyncAgentResultArtifacts:
        """The artifacts of one turn, by their paths; `result` has its `session_id` and `turn_id`."""
        from .agent_artifacts import AsyncAgentResultArtifacts

        return AsyncAgentResultArtifacts(self._calls, result.session_id, result.turn_id)
