"""Images: generated from prompts, edited and varied from uploads, as base64, as links, or event by event."""

from __future__ import annotations

import os
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from ..core.model.media_types import image_type
from ..core.model.plain import as_dict, is_dict, is_list
from ..lazy import resolve_annotations
from .context import RequestContext, event_of
from .errors import HTTPError
from .form import UploadedFile
from .handlers import RegisteredHandler, open_handler
from .pieces import plain
from .requests import ImageRequest
from .routing import PICTURES
from .tokens import count_texts

if TYPE_CHECKING:
    from .app import Server

__all__ = ["PictureStore", "create_variation", "edit_images", "generate_images", "get_picture"]

_MAX_KEPT: Final = 128 * 1024 * 1024  # bytes
_IMAGE_TOKENS: Final = 256
_SIZES: Final = ("1024x1024", "1024x1536", "1536x1024")  # those that the type of answers allows
_QUALITIES: Final = ("low", "medium", "high")


class PictureStore:
    """Pictures that links lead to, under names that cannot be guessed. The oldest make room for new ones."""

    def __init__(self, max_kept: int = _MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._size = 0
        self._kept: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        """Keep a picture and return its name."""
        name = f"{os.urandom(16).hex()}.{(image_type(data) or 'image/bin').partition('/')[2]}"
        self._kept[name] = data
        self._size += len(data)
        while self._size > self._max_kept and len(self._kept) > 1:
            self._size -= len(self._kept.pop(next(iter(self._kept))))
        return name

    def get(self, name: str) -> bytes:
        """Return the picture. Raises `HTTPError` (404)."""
        found = self._kept.get(name)
        if found is None:
            raise HTTPError(404, "The picture does not exist, or no longer does.", code="not_found")
        return found


async def generate_images(app: Server, context: RequestContext) -> None:
    """Serve ``POST /images/generations``."""
    await _serve(app, context, await app.read_body(context), "image_generation")


async def edit_images(app: Server, context: RequestContext) -> None:
    """Serve ``POST /images/edits``."""
    media = (context.header(b"content-type") or b"").partition(b";")[0].strip().lower()
    if media != b"application/json":
        await _serve(app, context, await app.read_body(context), "image_edit")
        return
    body = _as_form(app, await context.read_object())
    app.check_body(context.operation, body)
    await _serve(app, context, body, "image_edit")


def _as_form(app: Server, body: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON body with its references to pictures, ``images`` and ``mask``, as the form would have them."""
    form = {name: value for name, value in body.items() if name not in ("images", "mask")}
    given: Any = body.get("images")
    if given is None:
        raise HTTPError(400, "Missing required parameter: 'images'.", param="images", code="missing_required_parameter")
    if not is_list(given) or not given:
        raise HTTPError(400, "'images' must be an array of pictures.", param="images", code="invalid_type")
    form["image"] = [_referred(app, one, f"images[{place}]") for place, one in enumerate(given)]
    if body.get("mask") is not None:
        form["mask"] = _referred(app, body["mask"], "mask")
    return form


def _referred(app: Server, reference: Any, param: str) -> UploadedFile:
    """Return the picture of a reference: a data URL, or an uploaded file. Others are not downloaded."""
    fields = as_dict(reference)
    if isinstance(fields.get("file_id"), str) and "image_url" not in fields:
        about, content = app.files.get(fields["file_id"], f"{param}.file_id")
        return UploadedFile("image", about["filename"], image_type(content) or "", content)
    url: Any = fields.get("image_url")
    if not isinstance(url, str) or "file_id" in fields:
        message = f"'{param}' must have either 'image_url' or 'file_id'."
        raise HTTPError(400, message, param=param, code="invalid_value")
    head, comma, data = url.partition(",")
    param = f"{param}.image_url"
    if not head.lower().startswith("data:") or not comma:
        # A server that fetches what clients name can be made to reach hosts that only it can reach.
        raise HTTPError(400, f"'{param}' must be a data URL.", param=param, code="invalid_value")
    try:
        content = b64decode(data, validate=True)
    except ValueError:
        raise HTTPError(400, f"'{param}' is not valid base64.", param=param, code="invalid_value") from None
    return UploadedFile("image", "image", head[5:].partition(";")[0].lower(), content)


async def create_variation(app: Server, context: RequestContext) -> None:
    """Serve ``POST /images/variations``."""
    await _serve(app, context, await app.read_body(context), "image_variation")


async def get_picture(app: Server, context: RequestContext) -> None:
    """Serve a picture that an answer linked to."""
    data = app.pictures.get(context.arguments["picture"])
    await context.send_bytes(data, (image_type(data) or "application/octet-stream").encode())


async def _serve(app: Server, context: RequestContext, body: dict[str, Any], kind: str) -> None:
    streamed = bool(body.get("stream"))
    if body.get("partial_images") and not streamed:
        raise HTTPError(400, "'partial_images' requires 'stream'.", param="partial_images", code="invalid_value")
    if streamed and body.get("response_format") == "url":
        raise HTTPError(400, "Events carry base64, not URLs.", param="response_format", code="invalid_value")
    uploads: Any = body.get("image") or []
    images: list[UploadedFile] = uploads if is_list(uploads) else [uploads]
    handler = app.handlers.find("image", body.get("model") or "")
    requests = [ImageRequest(body, context, index, kind, images) for index in range(body.get("n") or 1)]
    usage = _usage(requests[0], len(requests))
    async with app.admitted(context):
        app.spend(context, usage["total_tokens"])
        if streamed:
            await context.send_events(_events(handler, requests, usage))
            return
        data: list[dict[str, Any]] = []
        async with context.presence():
            for request in requests:
                found: list[Any] = []
                async with aclosing(_pictures(handler, request)) as pictures:
                    async for picture in pictures:
                        found = [picture]  # unfinished ones come before
                data += [_item(app, context, body, one) for one in found]
        await context.send_json(_answer(requests[0], data, usage))


async def _pictures(handler: RegisteredHandler, request: ImageRequest) -> AsyncGenerator[dict[str, Any]]:
    """Yield what the handler makes: ``bytes``, ``url`` or ``b64_json``, with a ``revised_prompt`` if it gives one."""
    async with aclosing(open_handler(handler, request, whole=not request.stream)) as items:
        async for item in items:
            value = plain(item)
            if isinstance(value, bytes | bytearray):
                yield {"bytes": bytes(value)}
            elif isinstance(value, str):
                yield {"url": value}
            elif is_dict(value) and not {"bytes", "b64_json", "url"}.isdisjoint(value):
                yield value
            else:
                raise TypeError(f"an image handler returned {type(value).__name__}, which is not a picture")


def _item(app: Server, context: RequestContext, body: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    item = {name: one for name, one in made.items() if name != "bytes"}
    data: bytes | None = made.get("bytes")
    if data is None:
        return item
    if body.get("response_format") == "url":
        host = (context.header(b"host") or b"localhost").decode("latin-1")
        base = f"{context.scope.get('scheme', 'http')}://{host}{context.scope.get('root_path', '')}"
        link = f"{base}/v1{PICTURES}{app.pictures.keep(data)}"
        return {**item, "url": link}
    return {**item, "b64_json": b64encode(data).decode()}


def _answer(request: ImageRequest, data: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    body = request.body
    answer: dict[str, Any] = {"created": int(time.time()), "data": data, "usage": usage}
    answer["output_format"] = body.get("output_format") or "png"
    if body.get("background") in ("transparent", "opaque"):
        answer["background"] = body["background"]
    if body.get("size") in _SIZES:
        answer["size"] = body["size"]
    if body.get("quality") in _QUALITIES:
        answer["quality"] = body["quality"]
    return answer


def _usage(request: ImageRequest, n: int) -> dict[str, Any]:
    text = count_texts([request.prompt])
    shown, output = _IMAGE_TOKENS * len(request.images), _IMAGE_TOKENS * n
    return {
        "input_tokens": text + shown,
        "output_tokens": output,
        "total_tokens": text + shown + output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": shown},
    }


async def _events(
    handler: RegisteredHandler, requests: list[ImageRequest], usage: dict[str, Any]
) -> AsyncGenerator[bytes]:
    """Yield the unfinished pictures of each request, then the finished one, with the usage of all."""
    for request in requests:
        body = request.body
        about = {
            "created_at": int(time.time()),
            "size": body["size"] if body.get("size") in _SIZES else "auto",
            "quality": body["quality"] if body.get("quality") in _QUALITIES else "auto",
            "background": body.get("background") or "auto",
            "output_format": body.get("output_format") or "png",
        }
        number, held = 0, None
        async with aclosing(_pictures(handler, request)) as pictures:
            async for picture in pictures:
                if held is not None:
                    yield _event(request, "partial_image", held, {"partial_image_index": number, **about})
                    number += 1
                held = picture
        if held is None:
            raise ValueError("the image handler made nothing")
        yield _event(request, "completed", held, {**about, "usage": usage})


def _event(request: ImageRequest, name: str, made: dict[str, Any], fields: dict[str, Any]) -> bytes:
    kind = f"{request.kind}.{name}"
    if "url" in made:
        raise TypeError("an image handler returned a URL for a stream, whose events carry the bytes of pictures")
    data = made["b64_json"] if "b64_json" in made else b64encode(made["bytes"]).decode()
    return event_of({"type": kind, "b64_json": data, **fields}, kind)


resolve_annotations(__name__)
