"""`demo-embed`: hashed words and parts of words. Texts that share words or stems are near one another."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import Final
from zlib import crc32

from .answers import words_of

__all__ = ["DIMENSIONS", "embed"]

DIMENSIONS: Final = 256
_STOPS: Final = (
    "a about all an and any are as at be been but by can could did do does for from had has have he her him his how i "
    "if in into is it its just me my no not of on or our she should so some than that the their them then there these "
    "they this those to too up us very was we were what when where which who why will with would you your"
)
_STOP_WORDS: Final = frozenset(_STOPS.split())
_STOP_WEIGHT: Final = 0.15
_GRAM_WEIGHT: Final = 0.35
_GRAMS: Final = (3, 4, 5)


@lru_cache(maxsize=20_000)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Return hashes and weights of a word and its n-grams; the low bit of a hash is the sign, so collisions cancel."""
    weight = _STOP_WEIGHT if word in _STOP_WORDS else 1.0
    found = [(crc32(word.encode("utf-8", "surrogatepass")), weight)]
    if weight == 1.0:
        framed = f"<{word}>"
        for size in _GRAMS:
            grams = [framed[start : start + size] for start in range(len(framed) - size + 1)]
            found += [(crc32(gram.encode("utf-8", "surrogatepass"), size), _GRAM_WEIGHT) for gram in grams]
    return tuple(found)


def embed(text: str | list[int], dimensions: int) -> list[float]:
    """Return the unit vector of a text, or of a list of token ids, each of which counts as a word."""
    words = words_of(text.lower()) if isinstance(text, str) else [f"#{number}" for number in text]
    vector = [0.0] * dimensions
    for word in words or [str(text)]:
        for hashed, weight in _features(word):
            vector[(hashed >> 1) % dimensions] += weight if hashed & 1 else -weight
    length = sqrt(sum(value * value for value in vector))
    if length == 0.0:  # everything cancelled: any fixed direction will do
        vector[0] = length = 1.0
    return [value / length for value in vector]
