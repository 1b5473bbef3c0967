"""`client.videos.create_and_poll` and `poll`, which the generated namespace inherits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from .. import endpoints
from ..lazy import resolve_annotations
from .common import no_raw_twin
from .polling import Poller

if TYPE_CHECKING:
    from ..engine import Engine
    from ..params import VideoCreateParams
    from ..types import Video
    from .polling import PollOptions

__all__ = ["VideosHelpers"]


def _unfinished(status: object) -> bool:
    return status in ("queued", "in_progress")


class VideosHelpers:
    """The hand-written part of `client.videos`. Deprecated, as these operations are."""

    _calls: Engine

    @no_raw_twin
    async def create_and_poll(
        self, *, poll_interval_ms: float | None = None, **params: Unpack[VideoCreateParams]
    ) -> Video:
        """Create a video and wait for it; see `poll`."""
        rest: dict[str, Any] = {**params, "poll_interval_ms": poll_interval_ms}
        poller = Poller(self._calls, rest)
        video: Video = await poller.first(endpoints.VIDEOS_CREATE, rest)
        return await self._end(poller, video.id)

    @no_raw_twin
    async def poll(self, video_id: str, **options: Unpack[PollOptions]) -> Video:
        """Wait while a video is "queued" or "in_progress", and return it; it may have failed (`.error`).

        Raises `PollTimeoutError` after `deadline`, with the video as last received in `.partial`, and `OpenAIError`.
        """
        return await self._end(Poller(self._calls, {**options}), video_id)

    async def _end(self, poller: Poller, video_id: str) -> Video:
        video: Video = await poller.end(endpoints.VIDEOS_RETRIEVE, {"video_id": video_id}, _unfinished)
        return video


resolve_annotations(__name__)
