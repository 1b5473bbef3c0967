"""Colours by name, as prompts say them and as answers about pictures tell them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

__all__ = ["COLOURS", "SYNONYMS", "Colour", "colour_of", "name_of"]

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue from 0 to 255."""

COLOURS: Final[dict[str, Colour]] = {
    "black": (16, 16, 20),
    "white": (250, 250, 248),
    "grey": (128, 130, 134),
    "red": (212, 38, 42),
    "orange": (242, 134, 34),
    "yellow": (247, 212, 52),
    "green": (44, 152, 72),
    "turquoise": (46, 188, 180),
    "blue": (38, 92, 208),
    "purple": (122, 58, 170),
    "pink": (240, 136, 176),
    "brown": (122, 80, 46),
}
SYNONYMS: Final = {
    "gray": "grey", "silver": "grey", "gold": "yellow", "golden": "yellow", "crimson": "red", "scarlet": "red",
    "teal": "turquoise", "cyan": "turquoise", "navy": "blue", "violet": "purple", "magenta": "pink", "lime": "green",
}  # fmt: skip


def colour_of(word: str) -> str | None:
    """The name of the colour that a (lower-case) word stands for."""
    name = SYNONYMS.get(word, word)
    return name if name in COLOURS else None


@lru_cache(maxsize=4096)
def name_of(red: int, green: int, blue: int) -> str:
    """The named colour nearest to this one; black, grey or white if it has hardly any hue."""
    if max(red, green, blue) - min(red, green, blue) <= 20:
        return "black" if green < 64 else "grey" if green < 208 else "white"

    def distance(name: str) -> int:
        other = COLOURS[name]
        # Eyes tell greens apart best and blues worst.
        return 3 * (red - other[0]) ** 2 + 4 * (green - other[1]) ** 2 + 2 * (blue - other[2]) ** 2

    return min(COLOURS, key=distance)
