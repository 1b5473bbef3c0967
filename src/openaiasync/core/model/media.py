"""What answers with images in them offer beyond the description's fields: their bytes, and saving them.

Generated Structs inherit these classes; `overrides.toml` says which. An image that the server only gave a link to is
fetched by the client whose call brought the answer, which is why such an answer knows its client.
"""

from __future__ import annotations

import base64
import builtins
import os
from typing import Any, Protocol, cast
from urllib.parse import unquote_to_bytes

__all__ = ["Fetch", "ImageData", "Images"]


class Fetch(Protocol):
    """Fetches what a link leads to, without the key."""

    async def __call__(self, url: str) -> builtins.bytes: ...


class ImageData:
    """The bytes of an image that came as base64 or as a link."""

    __slots__ = ()

    async def bytes(self) -> builtins.bytes:
        """The image itself: decoded, or fetched by a plain GET without any credentials.

        Raises `ValueError` if there is neither base64 nor a link, or what there is cannot be decoded; `RuntimeError`
        for a link in an answer that was not made by a client (an unpickled one); `OpenAIError` if fetching fails.
        """
        encoded, link = getattr(self, "b64_json", None), getattr(self, "url", None)
        if isinstance(encoded, str) and encoded:
            return _decoded(encoded)
        if not isinstance(link, str) or not link:
            raise ValueError("the server sent neither the image nor a link to it")
        if link.startswith("data:"):
            return _of_data_url(link)
        fetch: Fetch | None = vars(self).get("_source")
        if fetch is None:
            raise RuntimeError(f"this image does not know its client any more; fetch it from {link}")
        return await fetch(link)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the image to a file, in a thread; one that is there is replaced whole, or stays as it was.

        Raises what `bytes` raises, and `OSError`.
        """
        from ...storage.atomic import write_whole

        await write_whole(path, await self.bytes())


class Images:
    """An answer whose `data` are images."""

    __slots__ = ()

    def attach(self, fetch: Fetch) -> None:
        """Tell every image how links are fetched; called by the client that made the call."""
        images: object = getattr(self, "data", None)
        for image in cast("Any", images) if isinstance(images, list) else ():
            if isinstance(image, ImageData):
                vars(image)["_source"] = fetch


def _decoded(text: str) -> bytes:
    if text.startswith("data:"):  # some servers send a data URL as base64
        return _of_data_url(text)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"the image is no base64: {error}") from None


def _of_data_url(url: str) -> bytes:
    """The content of a ``data:`` URL (RFC 2397)."""
    kind, comma, data = url.partition(",")
    if not comma:
        raise ValueError("the image's data URL has no data")
    return _decoded(data) if kind.endswith(";base64") else unquote_to_bytes(data)
