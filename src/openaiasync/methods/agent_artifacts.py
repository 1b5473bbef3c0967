"""The artifacts of one turn of an agent's session, found by their paths."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Unpack

from .. import endpoints
from ..engine import BinaryAnswer

if TYPE_CHECKING:
    from ..core.model.base import OpenModel
    from ..core.policy.options import RequestOptions
    from ..engine import Engine

__all__ = ["AsyncAgentResultArtifacts"]


class AsyncAgentResultArtifacts:
    """Reads and downloads what one turn has made."""

    def __init__(self, calls: Engine, session_id: str, turn_id: str) -> None:
        self._calls = calls
        self._session_id = session_id
        self._turn_id = turn_id

    async def content(self, path: str, **options: Unpack[RequestOptions]) -> BinaryAnswer:
        """The bytes of the artifact at `path`.

        Raises `ValueError` where the turn has none at it, or several, and `OpenAIError`.
        """
        artifact = await self._find(path, {**options})
        return await self._content(artifact, {**options})

    async def download(self, path: str, *, to: str | os.PathLike[str], **options: Unpack[RequestOptions]) -> OpenModel:
        """Write the artifact at `path` to a file; what is known of it. Raises as `content`, and `OSError`."""
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
