"""`demo-image`: pictures drawn from prompts, row by row, and uploaded pictures changed as a prompt asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import Final

from .base import Drawing, ImageModel
from .colours import COLOURS, colour_of
from .png import Picture
from .scene import Scene, Shape, plan_scene

__all__ = ["DemoImage", "enlarged", "resized"]

_LEVELS: Final = bytes(range(256))
_INVERTED: Final = bytes(range(255, -1, -1))
_CUES: Final = (
    (re.compile(r"\b(?:invert(?:ed)?|negative)\b"), "inverted"),
    (re.compile(r"\b(?:gr[ae]y(?:scale)?|black and white|monochrome)\b"), "grey"),
    (re.compile(r"\b(?:mirror(?:ed)?|flip(?:ped)?)\b"), "mirrored"),
    (re.compile(r"\b(?:upside down|turn(?:ed)? over)\b"), "upside down"),
)
_ADDING: Final = re.compile(r"\b(?:add|draw|put|with|paint an?)\b")


class DemoImage(ImageModel):
    """The image model of the built-in server."""

    def __init__(self, id: str = "demo-image", *, token_delay: float = 0.0) -> None:
        super().__init__(id, token_delay=token_delay)

    def draw(self, prompt: str, width: int, height: int, *, transparent: bool = False, variant: int = 0) -> Drawing:
        """Draw what the prompt names: shapes, colours, a background."""
        scene = plan_scene(prompt, variant)
        channels = 4 if transparent else 3
        pixels = b"".join(_row(scene, y, width, height, channels) for y in range(height))
        return Drawing(Picture(width, height, channels, pixels), scene.describe())

    def edit(self, picture: Picture, prompt: str, mask: Picture | None = None, variant: int = 0) -> Drawing:
        """Change a picture: invert, grey, mirror, tint, or draw on it. Where the mask is opaque, nothing changes."""
        lower = prompt.lower()
        told = [name for cue, name in _CUES if cue.search(lower)]
        changed = picture
        for name in told:
            changed = _CHANGES[name](changed)
        if not told and _ADDING.search(lower) and (scene := plan_scene(prompt, variant)).named:
            changed, told = _over(changed, scene), [f"with {scene.describe().partition(' on a ')[0].lower()}"]
        if not told:
            named = [found for word in re.findall(r"[a-z]+", lower) if (found := colour_of(word))]
            colour = named[0] if named else plan_scene(prompt, variant).shapes[0].colour
            changed, told = _tinted(picture, colour), [f"tinted {colour}"]
        if mask is not None:
            changed = _masked(picture, changed, mask)
        return Drawing(changed, f"The picture, {', '.join(told)}.")

    def vary(self, picture: Picture, variant: int = 0) -> Drawing:
        """Another picture with the same shapes: its colours rotated, mirrored for every other variant."""
        channels = picture.channels
        if channels < 3:
            changed = _inverted(picture)
        else:
            turn = variant % 2 + 1
            planes = [_plane(picture, (channel + turn) % 3) for channel in range(3)]
            changed = _joined(picture, planes)
        if variant // 2 % 2:
            changed = _mirrored(changed)
        return Drawing(changed, "The picture in other colours.")


# -------------------------------------------------------------------------------------------------- drawing


def _row(scene: Scene, y: int, width: int, height: int, channels: int) -> bytes:
    if channels == 4:
        row = bytearray(4 * width)
    else:
        part = y / max(height - 1, 1)
        ends = zip(COLOURS[scene.top], COLOURS[scene.bottom], strict=True)
        row = bytearray(bytes([round(top + (bottom - top) * part) for top, bottom in ends]) * width)
    for shape in scene.shapes:
        _paint(row, shape, y, width, height, channels)
    return bytes(row)


def _paint(row: bytearray, shape: Shape, y: int, width: int, height: int, channels: int) -> None:
    radius = shape.size * min(width, height)
    pixel = bytes([*COLOURS[shape.colour], 255][:channels])
    if channels < 3:
        red, green, blue = COLOURS[shape.colour]
        pixel = bytes([_grey(red, green, blue), 255][:channels])
    for left, right in shape.spans((y + 0.5 - shape.y * height) / radius):
        first = max(round(shape.x * width + left * radius), 0)
        last = min(round(shape.x * width + right * radius), width)
        if first < last:
            row[first * channels : last * channels] = pixel * (last - first)


def _over(picture: Picture, scene: Scene) -> Picture:
    size = picture.width * picture.channels
    rows: list[bytes] = []
    for y in range(picture.height):
        row = bytearray(picture.pixels[y * size : (y + 1) * size])
        for shape in scene.shapes:
            _paint(row, shape, y, picture.width, picture.height, picture.channels)
        rows.append(bytes(row))
    return _with(picture, b"".join(rows))


def enlarged(picture: Picture, factor: int) -> Picture:
    """Every pixel as a block of `factor` by `factor`."""
    return resized(picture, picture.width * factor, picture.height * factor)


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture in another size: each pixel is the nearest one of the original."""
    if (width, height) == (picture.width, picture.height):
        return picture
    channels, size = picture.channels, picture.width * picture.channels
    pick = itemgetter(
        *(x * picture.width // width * channels + channel for x in range(width) for channel in range(channels)), 0
    )
    rows: dict[int, bytes] = {}
    made: list[bytes] = []
    for y in range(height):
        source = y * picture.height // height
        if source not in rows:
            rows = {source: bytes(pick(picture.pixels[source * size : (source + 1) * size])[:-1])}
        made.append(rows[source])
    return Picture(width, height, channels, b"".join(made))


# -------------------------------------------------------------------------------------------------- changing


def _grey(red: int, green: int, blue: int) -> int:
    return (299 * red + 587 * green + 114 * blue) // 1000


def _with(picture: Picture, pixels: bytes) -> Picture:
    return Picture(picture.width, picture.height, picture.channels, pixels)


def _plane(picture: Picture, channel: int) -> bytes:
    return picture.pixels[channel :: picture.channels]


def _joined(picture: Picture, planes: list[bytes]) -> Picture:
    """The picture with other colour planes; its alpha stays."""
    pixels = bytearray(picture.pixels)
    for channel, plane in enumerate(planes):
        pixels[channel :: picture.channels] = plane
    return _with(picture, bytes(pixels))


def _colours(picture: Picture) -> int:
    return picture.channels - (picture.channels % 2 == 0)


def _inverted(picture: Picture) -> Picture:
    return _joined(picture, [_plane(picture, channel).translate(_INVERTED) for channel in range(_colours(picture))])


def _greyed(picture: Picture) -> Picture:
    if _colours(picture) == 1:
        return picture
    grey = bytes(map(_grey, *(_plane(picture, channel) for channel in range(3))))
    return _joined(picture, [grey] * 3)


def _mirrored(picture: Picture) -> Picture:
    size = picture.width
    planes: list[bytes] = []
    for channel in range(picture.channels):
        plane = _plane(picture, channel)
        planes.append(b"".join(plane[start : start + size][::-1] for start in range(0, len(plane), size)))
    return _joined(picture, planes)


def _turned_over(picture: Picture) -> Picture:
    size, pixels = picture.width * picture.channels, picture.pixels
    return _with(picture, b"".join(pixels[start : start + size] for start in range(len(pixels) - size, -1, -size)))


def _tinted(picture: Picture, colour: str) -> Picture:
    """Half of the picture's own colours, half of one."""
    wanted = COLOURS[colour]
    if _colours(picture) == 1:
        wanted = (_grey(*wanted),) * 3
    planes: list[bytes] = []
    for channel in range(_colours(picture)):
        table = bytes([(level + wanted[channel]) // 2 for level in _LEVELS])
        planes.append(_plane(picture, channel).translate(table))
    return _joined(picture, planes)


def _masked(before: Picture, after: Picture, mask: Picture) -> Picture:
    """`after` where the mask is fully transparent, else `before`: a choice of bits, made on all pixels at once."""
    alpha = _plane(mask, mask.channels - 1)
    chosen = alpha.translate(bytes([255]) + bytes(255))
    wide = bytearray(len(chosen) * before.channels)
    for channel in range(before.channels):
        wide[channel :: before.channels] = chosen
    bits = int.from_bytes(wide, "big")
    old = int.from_bytes(before.pixels, "big")
    new = int.from_bytes(after.pixels, "big")
    return _with(before, (old ^ ((old ^ new) & bits)).to_bytes(len(wide), "big"))


_CHANGES: Final[dict[str, Callable[[Picture], Picture]]] = {
    "inverted": _inverted,
    "grey": _greyed,
    "mirrored": _mirrored,
    "upside down": _turned_over,
}
