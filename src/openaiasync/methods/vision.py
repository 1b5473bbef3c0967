"""`client.vision(image=..., prompt=...)`: a question about images, as a chat completion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, Unpack

from ..core.codec.accumulate import ChatAccumulator
from ..core.codec.endpoint import Request
from ..endpoints import CHAT_COMPLETIONS_CREATE
from ..engine import AsyncStream, Engine, Namespace
from ..engine.attachments import (
    ImageSource,
    ReadingTime,
    image_urls,
    is_url,
    sources,
)
from ..engine.config import default_model
from ..engine.sealing import sealed, sealing
from ..lazy import resolve_annotations
from .chat import ChatStream
from .common import MISSING, parameters

if TYPE_CHECKING:
    from ..params.chat import ChatRest
    from ..types.chat import ChatCompletion, ChatCompletionChunk

    class VisionParams(ChatRest, total=False):
        """A whole request of `client.vision`."""

        image: Required[ImageSource | Sequence[ImageSource]]
        prompt: Required[str]
        detail: Detail


__all__ = ["VisionMethods", "VisionStream"]

Detail: TypeAlias = Literal["auto", "low", "high"]


# -------------------------------------------------------------------------------------------------- the request


class _VisionRequest:
    """A request. Its images are read when it is sent; everything else is checked at once."""

    def __init__(self, calls: Engine, image: Any, prompt: Any, detail: Any, params: dict[str, Any]) -> None:
        params |= {name: value for name, value in (("prompt", prompt), ("detail", detail)) if value is not MISSING}
        made = parameters(CHAT_COMPLETIONS_CREATE, "vision", "image", image, params)
        for name in ("image", "prompt"):
            if made.get(name) is None:
                raise TypeError(f"vision() is missing the required parameter {name!r}")
        self.images = sources(made.pop("image"), "image", "vision()")
        self.prompt: Any = made.pop("prompt")
        self.detail: Any = made.pop("detail", None)
        if "messages" in made:
            raise TypeError("vision() makes the messages from image= and prompt=; chat() takes messages=")
        if "model" not in made and (model := default_model(calls.config.models, ("vision",))):
            made["model"] = model
        self.rest = made
        self.calls = calls

    def params(self, urls: Sequence[str]) -> dict[str, Any]:
        detail = {} if self.detail is None else {"detail": self.detail}
        images = [{"type": "image_url", "image_url": {"url": url, **detail}} for url in urls]
        content = [{"type": "text", "text": self.prompt}, *images]
        return {"messages": [{"role": "user", "content": content}], **self.rest}

    async def send_params(self) -> dict[str, Any]:
        time = ReadingTime(self.calls, self.rest, "/chat/completions", "vision()")
        params = self.params(await image_urls(self.images, "vision()", time))
        read = not all(map(is_url, self.images))
        return {**params, "deadline": time.left} if read and time.left is not None else params


class VisionStream(ChatStream):
    """An answer about images in progress: a `ChatStream` that reads the images when it is opened."""

    def __init__(self, calls: Engine, request: Request, prepare: Callable[[], Awaitable[Request]]) -> None:
        super().__init__(calls, request, ChatAccumulator())
        self._prepare: Callable[[], Awaitable[Request]] | None = prepare

    async def _open(self) -> AsyncStream[ChatCompletionChunk]:
        if self._prepare is not None and not self._closed:
            self._request = await self._prepare()
            self._prepare = None
        return await super()._open()


class VisionMethods(Namespace):
    """`client.vision(...)` and `client.vision.stream(...)`: a question about images."""

    @sealing
    async def __call__(
        self,
        image: ImageSource | Sequence[ImageSource] | VisionParams = MISSING,
        prompt: str = MISSING,
        *,
        detail: Detail = MISSING,
        **params: Unpack[ChatRest],
    ) -> ChatCompletion:
        """Ask a chat model about one or several images and return the whole answer; its text is in `.text`.

        `image` is a path, bytes, a URL (http, https, data), an open binary file, or a list of these, or the whole
        request as one dict; all but URLs are sent within the request, with the media type detected from their bytes.
        `detail` is how closely the model looks. Further parameters are those of ``POST /chat/completions``.
        Raises `OSError` for a file that cannot be read and `ValueError` unless it is an image, before anything is sent;
        `TypeError` for a parameter that is missing or unknown; `OpenAIError`.
        """
        question = _VisionRequest(self._calls, image, prompt, detail, dict(params))
        self._calls.request(CHAT_COMPLETIONS_CREATE, question.params(()))  # checks the parameters before files are read
        answer: ChatCompletion = await self._calls.run(CHAT_COMPLETIONS_CREATE, await question.send_params())
        return answer

    @sealed
    def stream(
        self,
        image: ImageSource | Sequence[ImageSource] | VisionParams = MISSING,
        prompt: str = MISSING,
        *,
        detail: Detail = MISSING,
        **params: Unpack[ChatRest],
    ) -> VisionStream:
        """Return the same as a stream. Nothing is read or sent before it is entered or iterated.

        `TypeError` is raised at once, `OSError` and `ValueError` when the images are read.
        """
        calls = self._calls
        question = _VisionRequest(calls, image, prompt, detail, dict(params))

        async def prepare() -> Request:
            return calls.stream_request(CHAT_COMPLETIONS_CREATE, await question.send_params())

        return VisionStream(calls, calls.stream_request(CHAT_COMPLETIONS_CREATE, question.params(())), prepare)


resolve_annotations(__name__)
