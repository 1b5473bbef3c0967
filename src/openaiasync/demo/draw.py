"""`demo-image`: draws the shapes, colours and background that a prompt names; a hash of it decides the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from math import sqrt
from typing import Final, NamedTuple

from .media import encode_png

__all__ = ["COLOURS", "draw"]

COLOURS: Final = {
    "black": (16, 16, 20), "white": (250, 250, 248), "grey": (128, 130, 134), "red": (212, 38, 42),
    "orange": (242, 134, 34), "yellow": (247, 212, 52), "green": (44, 152, 72), "turquoise": (46, 188, 180),
    "blue": (38, 92, 208), "purple": (122, 58, 170), "pink": (240, 136, 176), "brown": (122, 80, 46),
}  # fmt: skip
_SYNONYMS: Final = {"gray": "grey", "silver": "grey", "gold": "yellow", "golden": "yellow", "violet": "purple"}
_KINDS: Final = {
    "circle": "circle ball sun moon dot disc disk sphere apple wheel planet",
    "square": "square box cube house block window",
    "triangle": "triangle mountain pyramid tree roof hill",
    "diamond": "diamond star gem kite",
}
_SHAPES: Final = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_GROUNDS: Final = frozenset({"background", "sky", "sea", "ground", "field", "wall", "backdrop", "night"})
_MAX_READ: Final = 2000  # characters of a prompt
_MAX_SHAPES: Final = 6


class _Figure(NamedTuple):
    """A shape around a centre, in fractions of the picture's width and height (`size`: of the smaller of the two)."""

    kind: str
    colour: str
    x: float
    y: float
    size: float

    def half(self, across: float) -> float:
        """Return half of the shape's width at a line, `across` from -1 (top) to 1; negative outside the shape."""
        if abs(across) > 1:
            return -1.0
        match self.kind:
            case "circle":
                return sqrt(1 - across * across)
            case "triangle":
                return (across + 1) / 2
            case "diamond":
                return 1 - abs(across)
            case _:
                return 1.0


def _plan(prompt: str, variant: int) -> tuple[str, list[_Figure]]:
    """Return the background and the shapes; the name of a colour applies to the next shape or background after it."""
    digest = sha256(f"{variant}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    found: list[tuple[str, str]] = []
    ground = colour = ""
    for word in re.findall(r"[a-z]+", prompt[:_MAX_READ].lower()):
        singular = word.removesuffix("s") if word not in _SHAPES else word
        named = _SYNONYMS.get(word, word)
        if named in COLOURS:
            colour = named
        elif word in _GROUNDS:
            ground, colour = colour or ground, ""
        elif singular in _SHAPES and len(found) < _MAX_SHAPES:
            found.append((_SHAPES[singular], colour))
            colour = ""
    ground = ground or list(COLOURS)[digest[0] % len(COLOURS)]
    free = [name for name in COLOURS if name != ground]
    shapes: list[_Figure] = []
    for place, (kind, own) in enumerate(found or [(list(_KINDS)[digest[1] % len(_KINDS)], colour)]):
        count = max(len(found), 1)
        y = 0.5 + (digest[2 + place] / 255 - 0.5) * 0.3
        shapes.append(_Figure(kind, own or free[digest[9 + place] % len(free)], (place + 0.5) / count, y, 0.4 / count))
    return ground, shapes


def draw(
    prompt: str, width: int, height: int, *, variant: int = 0, transparent: bool = False, coarse: int = 1
) -> tuple[bytes, str]:
    """Return a PNG of the shapes that the prompt names, and a caption, which the PNG has in its metadata.

    `coarse` is the size of a block in pixels. The same values give the same picture; `variant` varies all that the
    prompt leaves open.
    """
    ground, shapes = _plan(prompt, variant)
    channels = 4 if transparent else 3
    rows: list[bytes] = []
    for y in range(0, height, coarse):
        row = b"\0" + b"".join(_row(ground, shapes, y, width, height, channels, coarse))
        rows += [row] * min(coarse, height - y)
    said = [f"a {shape.colour} {shape.kind}" for shape in shapes]
    caption = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    caption = f"{caption[:1].upper()}{caption[1:]} on a {ground} background."
    return encode_png(width, height, channels, b"".join(rows), prompt or caption), caption


def _row(
    ground: str, shapes: list[_Figure], y: int, width: int, height: int, channels: int, coarse: int
) -> Iterator[bytes]:
    row = bytearray((bytes([*COLOURS[ground]]) if channels == 3 else bytes(4)) * width)
    for shape in shapes:
        radius = shape.size * min(width, height)
        half = shape.half((y + 0.5 - shape.y * height) / radius) * radius
        first = max(round((shape.x * width - half) / coarse) * coarse, 0)
        last = min(round((shape.x * width + half) / coarse) * coarse, width)
        if first < last:
            row[first * channels : last * channels] = bytes([*COLOURS[shape.colour], 255][:channels]) * (last - first)
    yield bytes(row)
