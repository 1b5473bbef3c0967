"""What a prompt asks a picture to show: shapes with colours on a background, found by words, the rest by a hash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import sqrt
from typing import Final

from .colours import COLOURS, colour_of

__all__ = ["Scene", "Shape", "plan_scene"]

_KINDS: Final = {
    "circle": "circle ball sun moon dot disc disk sphere apple wheel planet",
    "square": "square box cube house block window",
    "triangle": "triangle mountain pyramid tree roof hill",
    "diamond": "diamond star gem kite",
    "cross": "cross plus",
    "stripes": "stripe line bar",
}
_SHAPE_WORDS: Final = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_GROUND_WORDS: Final = frozenset({"background", "sky", "sea", "ground", "field", "wall", "backdrop", "night"})
_MAX_READ: Final = 2000  # characters of a prompt
_MAX_SHAPES: Final = 6
_CELLS: Final = 5  # the pattern of a prompt without shapes is so many cells wide and high, mirrored


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape around a centre, all in parts of the picture's width and height (`size` of the smaller of both)."""

    kind: str
    colour: str
    x: float
    y: float
    size: float
    digits: bytes = b""

    def spans(self, across: float) -> Iterator[tuple[float, float]]:
        """Where the shape is on a line: `across` and the spans go from -1 to 1 within the shape."""
        distance = abs(across)
        if distance > 1:
            return
        if self.kind == "circle":
            half = sqrt(1 - across * across)
            yield -half, half
        elif self.kind == "square":
            yield -1, 1
        elif self.kind == "triangle":
            yield -(across + 1) / 2, (across + 1) / 2
        elif self.kind == "diamond":
            yield distance - 1, 1 - distance
        elif self.kind == "cross":
            half = 1.0 if distance <= 1 / 3 else 1 / 3
            yield -half, half
        elif self.kind == "stripes":
            if int((across + 1) * 3.5) % 2 == 0:
                yield -1, 1
        else:
            row = min(int((across + 1) / 2 * _CELLS), _CELLS - 1)
            for column in range(_CELLS):
                if self.digits[row * _CELLS + min(column, _CELLS - 1 - column)] & 1:
                    yield 2 * column / _CELLS - 1, 2 * (column + 1) / _CELLS - 1


@dataclass(frozen=True, slots=True)
class Scene:
    """A background that shades from one colour into another, and shapes on it, the first one lowest."""

    top: str
    bottom: str
    shapes: tuple[Shape, ...]
    named: bool

    def describe(self) -> str:
        """The scene in words, as the answer's revised prompt."""
        said = [f"a {shape.colour} {shape.kind}" for shape in self.shapes]
        shown = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
        ground = self.top if self.top == self.bottom else f"{self.top} to {self.bottom}"
        return f"{shown[0].upper()}{shown[1:]} on a {ground} background."


def plan_scene(prompt: str, variant: int) -> Scene:
    """What to draw. The same prompt and variant give the same scene; another variant moves and mixes what was not said.

    A colour's word belongs to the next shape or ground named after it.
    """
    digest = sha256(f"{variant}\n{prompt}".encode("utf-8", "surrogatepass")).digest()
    names = list(COLOURS)
    found: list[tuple[str, str]] = []
    ground = colour = None
    for word in re.findall(r"[a-z]+", prompt[:_MAX_READ].lower()):
        singular = word.removesuffix("s") if word.removesuffix("s") in _SHAPE_WORDS else word
        if colour_of(word):
            colour = colour_of(word)
        elif word in _GROUND_WORDS:
            ground, colour = colour or ground, None
        elif singular in _SHAPE_WORDS and len(found) < _MAX_SHAPES:
            found.append((_SHAPE_WORDS[singular], colour or ""))
            colour = None
    leftover = colour  # a colour that belongs to nothing: the pattern's
    top = ground or names[digest[0] % len(names)]
    bottom = ground or names[digest[1] % len(names)]
    taken = {top, bottom}
    free = [name for name in names if name not in taken]
    shapes: list[Shape] = []
    for place, (kind, shape_colour) in enumerate(found):
        x = (place + 0.5) / len(found)
        y = 0.5 + (digest[2 + place] / 255 - 0.5) * 0.3
        size = min(0.42, 0.46 / len(found)) * (0.8 + digest[10 + place] / 1275)
        shapes.append(Shape(kind, shape_colour or free[digest[18 + place] % len(free)], x, y, size))
    if not shapes:
        mark = leftover or free[digest[2] % len(free)]
        shapes.append(Shape("pattern", mark, 0.5, 0.5, 0.36, digest[4:29]))
    return Scene(top, bottom, tuple(shapes), bool(found) or leftover is not None)
