"""`client.image_generate(...)` and `client.image_generate.stream(...)`: images from a description."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack, cast

from ..core.model.lenient import builder_for
from ..endpoints import IMAGES_GENERATE
from ..engine import Namespace
from ..engine.accumulating import AccumulatingStream
from ..engine.sealing import sealed
from ..lazy import resolve_annotations
from .common import MISSING, parameters

if TYPE_CHECKING:
    from ..params.images import ImageParams, ImageRest
    from ..types import ImageGenStreamEvent, ImagesResponse

    _Events = AccumulatingStream[ImageGenStreamEvent, ImagesResponse]
else:
    _Events = AccumulatingStream

__all__ = ["ImageGenerateMethods", "ImageStream"]

_OF_THE_ANSWER = (
    "background",
    "output_format",
    "quality",
    "size",
    "usage",
)  # fields of events that describe the whole answer


class Pictures:
    """Accumulates events into images: the whole ones, or the latest partial one until the first is whole."""

    def __init__(self) -> None:
        self._whole: list[ImageGenStreamEvent] = []
        self._latest: ImageGenStreamEvent | None = None

    text = reasoning = ""

    def add(self, event: ImageGenStreamEvent) -> None:
        if event.type == "image_generation.completed":
            self._whole.append(event)
        elif event.type == "image_generation.partial_image":
            self._latest = event

    def partial(self) -> ImagesResponse:
        from ..types import ImagesResponse

        events = self._whole or ([self._latest] if self._latest is not None else [])
        images = [{"b64_json": getattr(event, "b64_json", None)} for event in events]
        last: dict[str, Any] = events[-1].to_dict() if events else {}
        fields = {name: last[name] for name in _OF_THE_ANSWER if name in last}
        build = cast("Callable[[Any], ImagesResponse]", builder_for(ImagesResponse))
        return build({"created": last.get("created_at", 0), "data": images, **fields})

    final = partial


class ImageStream(_Events):
    """Images in progress: iterate its events, partial and whole images (each can be saved).

    `await final()` returns the `ImagesResponse` with the whole images.
    """


class ImageGenerateMethods(Namespace):
    """`client.image_generate(...)` and `client.image_generate.stream(...)`: images from a description."""

    @sealed
    async def __call__(self, prompt: str | ImageParams = MISSING, **params: Unpack[ImageRest]) -> ImagesResponse:
        """Generate images; ``await answer.data[0].save("image.png")`` saves one, whether it is base64 or a link.

        `prompt` describes them, or is the whole request as one dict; further parameters are those of
        ``POST /images/generations``. Raises `TypeError` for a parameter that is missing or unknown, and `OpenAIError`.
        """
        made = parameters(IMAGES_GENERATE, "image_generate", "prompt", prompt, dict(params))
        answer: ImagesResponse = await self._calls.run(IMAGES_GENERATE, made)
        return answer

    @sealed
    def stream(self, prompt: str | ImageParams = MISSING, **params: Unpack[ImageRest]) -> ImageStream:
        """Return the same as a stream, with ``partial_images`` previews of each image.

        Nothing is sent before the stream is entered or iterated. Reading raises `OpenAIError`, such as
        `IncompleteStreamError`; not every model can stream.
        """
        made = parameters(IMAGES_GENERATE, "image_generate", "prompt", prompt, dict(params))
        return ImageStream(self._calls, self._calls.request(IMAGES_GENERATE, made, stream=True), Pictures())


resolve_annotations(__name__)
