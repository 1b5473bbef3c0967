"""Images: made from prompts, edited and varied from uploads, as base64, as links, or event by event."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .context import Event, RequestContext, event_of
from .errors import HTTPError, wrong_kind
from .form import UploadedFile
from .media_fields import EDIT, GENERATE, VARIATION
from .models import ImageModel
from .models.base import Drawing
from .models.draw import enlarged, resized
from .models.png import Picture, PngError, decode_png, encode_png
from .models.tokens import count_tokens

if TYPE_CHECKING:
    from .app import App

__all__ = ["PICTURES", "PictureStore", "create_variation", "edit_images", "generate_images", "get_picture"]

PICTURES: Final = "/pictures/"  # the links to pictures lead below it
_MAX_KEPT: Final = 128 * 1024 * 1024  # bytes
_DEFAULT_SIZE: Final = (1024, 1024)
_SAID_SIZES: Final = ("1024x1024", "1024x1536", "1536x1024")  # the sizes that the type of answers knows
_COARSE: Final = (16, 8, 4)  # the last partial image shows every fourth pixel
_TILE: Final = 65_536  # pixels that count as one token of an image


class PictureStore:
    """Pictures that links lead to, by names that cannot be guessed; the oldest are forgotten when there is no room."""

    def __init__(self, max_kept: int = _MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._size = 0
        self._kept: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        """Keep a picture; its name."""
        name = f"{os.urandom(16).hex()}.png"
        self._kept[name] = data
        self._size += len(data)
        while self._size > self._max_kept and len(self._kept) > 1:
            self._size -= len(self._kept.pop(next(iter(self._kept))))
        return name

    def get(self, name: str) -> bytes:
        """The picture. Raises `HTTPError` (404)."""
        found = self._kept.get(name)
        if found is None:
            raise HTTPError(404, "There is no such picture here, or not any more.", code="not_found")
        return found


class _Made(NamedTuple):
    """A picture that was made, its PNG, and its partial images as PNG, each clearer than the one before."""

    drawing: Drawing
    png: bytes
    partial: list[bytes]


class _Task(NamedTuple):
    """One request: how each picture is made, and what is told about all of them."""

    model: ImageModel
    body: dict[str, Any]
    kind: str  # how its events are called
    make: Callable[[int], Drawing]
    inputs: tuple[Picture, ...]


async def generate_images(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, GENERATE, "prompt")
    width, height = _size(body) or _DEFAULT_SIZE
    transparent = body.get("background") == "transparent"
    model = _model(app, body)

    def make(variant: int) -> Drawing:
        return model.draw(body["prompt"], width, height, transparent=transparent, variant=variant)

    await _answer(app, call, _Task(model, body, "image_generation", make, ()))


async def edit_images(app: App, call: RequestContext) -> None:
    body = await call.read_form(arrays=("image",))
    app.check(body, EDIT, "image", "prompt")
    model = _model(app, body)
    inputs = tuple([await _picture(upload, "image") for upload in body["image"]])
    mask = await _picture(body["mask"], "mask") if body.get("mask") else None
    if mask is not None and (mask.width, mask.height) != (inputs[0].width, inputs[0].height):
        raise _bad_image("mask", "it has another size than the image")
    if mask is not None and mask.channels % 2:
        raise _bad_image("mask", "it has no alpha channel")
    size = _size(body)

    def make(variant: int) -> Drawing:
        drawing = model.edit(inputs[0], body["prompt"], mask, variant)
        return drawing if size is None else Drawing(resized(drawing.picture, *size), drawing.prompt)

    await _answer(app, call, _Task(model, body, "image_edit", make, inputs))


async def create_variation(app: App, call: RequestContext) -> None:
    body = await call.read_form(arrays=("image",))
    app.check(body, VARIATION, "image")
    model = _model(app, body)
    picture = await _picture(body["image"][0], "image")
    size = _size(body)

    def make(variant: int) -> Drawing:
        drawing = model.vary(picture, variant)
        return drawing if size is None else Drawing(resized(drawing.picture, *size), drawing.prompt)

    await _answer(app, call, _Task(model, body, "image_variation", make, (picture,)))


async def get_picture(app: App, call: RequestContext) -> None:
    await call.send_bytes(app.pictures.get(call.arguments["picture"]), b"image/png")


# -------------------------------------------------------------------------------------------------- what is asked


def _model(app: App, body: dict[str, Any]) -> ImageModel:
    """The model named, or the first that makes images."""
    if body.get("model") is None:
        for model in app.models.values():
            if isinstance(model, ImageModel):
                return model
        raise HTTPError(400, "You must give the parameter 'model'.", param="model", code="missing_required_parameter")
    named = app.model(body["model"])
    if not isinstance(named, ImageModel):
        raise wrong_kind(named.id, "images")
    return named


def _size(body: dict[str, Any]) -> tuple[int, int] | None:
    size = body.get("size")
    if size is None or size == "auto":
        return None
    width, _, height = size.partition("x")
    return int(width), int(height)


async def _picture(upload: UploadedFile, param: str) -> Picture:
    try:
        return await asyncio.to_thread(decode_png, upload.content)
    except PngError as error:
        raise _bad_image(param, str(error)) from None


def _bad_image(param: str, why: str) -> HTTPError:
    return HTTPError(400, f"The '{param}' cannot be used: {why}.", param=param, code="invalid_image")


# -------------------------------------------------------------------------------------------------- answers


async def _answer(app: App, call: RequestContext, task: _Task) -> None:
    body = task.body
    streamed = bool(body.get("stream"))
    if body.get("partial_images") and not streamed:
        raise HTTPError(400, "'partial_images' needs 'stream'.", param="partial_images", code="invalid_value")
    if streamed and body.get("response_format") == "url":
        raise HTTPError(400, "Events carry base64, no URLs.", param="response_format", code="invalid_value")
    if streamed and body.get("size") not in (None, "auto", *_SAID_SIZES):
        message = f"Images of {body['size']} are not streamed; {', '.join(_SAID_SIZES)} are."
        raise HTTPError(400, message, param="size", code="invalid_value")
    delay = call.token_delay(task.model.token_delay)
    async with call.presence():
        made = [await asyncio.to_thread(_make, task, variant) for variant in range(body.get("n") or 1)]
    usage = _usage(task, [each.drawing for each in made])
    call.fields += app.allowance.spend(usage["total_tokens"])
    if streamed:
        await call.send_events(_events(task, made, usage), delay)
        return
    await call.work(delay * usage["output_tokens"])
    data: list[dict[str, Any]] = []
    for each in made:
        if body.get("response_format") == "url":
            place: dict[str, Any] = {"url": _link(call, app.pictures.keep(each.png))}
        else:
            place = {"b64_json": b64encode(each.png).decode()}
        data.append({**place, "revised_prompt": each.drawing.prompt})
    picture = made[0].drawing.picture
    answer: dict[str, Any] = {"created": int(time.time()), "data": data, "output_format": "png", "usage": usage}
    answer["background"] = "opaque" if picture.channels % 2 else "transparent"
    size = f"{picture.width}x{picture.height}"
    if size in _SAID_SIZES:
        answer["size"] = size
    await call.send_json(answer)


def _usage(task: _Task, drawings: list[Drawing]) -> dict[str, Any]:
    text = count_tokens(task.body.get("prompt") or "")
    shown = sum(_cost(picture) for picture in task.inputs)
    output = sum(_cost(drawing.picture) for drawing in drawings)
    return {
        "input_tokens": text + shown,
        "output_tokens": output,
        "total_tokens": text + shown + output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": shown},
    }


def _cost(picture: Picture) -> int:
    return -(-picture.width * picture.height // _TILE)


def _link(call: RequestContext, name: str) -> str:
    host = (call.header(b"host") or b"localhost").decode("latin-1")
    return f"{call.scope.get('scheme', 'http')}://{host}/v1{PICTURES}{name}"


def _make(task: _Task, variant: int) -> _Made:
    drawing = task.make(variant)
    picture = drawing.picture
    partial: list[bytes] = []
    for factor in _COARSE[len(_COARSE) - (task.body.get("partial_images") or 0) :]:
        coarse = resized(picture, max(picture.width // factor, 1), max(picture.height // factor, 1))
        partial.append(encode_png(enlarged(coarse, factor)))
    return _Made(drawing, encode_png(picture), partial)


def _events(task: _Task, made: list[_Made], usage: dict[str, Any]) -> Iterator[Event]:
    """The partial images of each picture, then the whole one, with the usage of all."""
    quality = task.body.get("quality")
    for drawing, png, partial in made:
        size = f"{drawing.picture.width}x{drawing.picture.height}"
        about = {
            "created_at": int(time.time()),
            "size": size if size in _SAID_SIZES else "auto",
            "quality": quality if quality in ("low", "medium", "high") else "auto",
            "background": "opaque" if drawing.picture.channels % 2 else "transparent",
            "output_format": "png",
        }
        step = _cost(drawing.picture) // (len(partial) + 1)
        for index, data in enumerate(partial):
            event = {"type": f"{task.kind}.partial_image", "b64_json": b64encode(data).decode()}
            yield event_of({**event, "partial_image_index": index, **about}, step, named=True)
        event = {"type": f"{task.kind}.completed", "b64_json": b64encode(png).decode()}
        yield event_of({**event, **about, "usage": usage}, step, named=True)
