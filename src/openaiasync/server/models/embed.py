"""`demo-embed`: hashed words and character n-grams. Texts that share words or stems are near one another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from zlib import crc32

from .base import EmbeddingModel
from .tokens import words_of

__all__ = ["DemoEmbed"]

_STOPS = (
    "a about all an and any are as at be been but by can could did do does for from had has have he her him his how i "
    "if in into is it its just me my no not of on or our she should so some than that the their them then there these "
    "they this those to too up us very was we were what when where which who why will with would you your"
)
_STOP_WORDS = frozenset(_STOPS.split())
_STOP_WEIGHT = 0.15
_GRAM_WEIGHT = 0.35
_GRAMS = (3, 4, 5)


@lru_cache(maxsize=20_000)
def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Hashes and weights of a word and of its n-grams. The low bit of a hash is the sign, so that collisions cancel."""
    weight = _STOP_WEIGHT if word in _STOP_WORDS else 1.0
    found = [(crc32(word.encode("utf-8", "surrogatepass")), weight)]
    if weight == 1.0:
        framed = f"<{word}>"
        for size in _GRAMS:
            grams = [framed[start : start + size] for start in range(len(framed) - size + 1)]
            share = _GRAM_WEIGHT * weight
            found += [(crc32(gram.encode("utf-8", "surrogatepass"), size), share) for gram in grams]
    return tuple(found)


class DemoEmbed(EmbeddingModel):
    """An embedding model of 256 dimensions (any number may be asked for); vectors have length one."""

    def __init__(self, id: str = "demo-embed", *, dimensions: int = 256) -> None:
        super().__init__(id, dimensions=dimensions, max_tokens=8192)

    def embed(self, text: str | list[int], dimensions: int) -> Sequence[float]:
        """The vector of a text, or of a list of token ids (each taken as a word)."""
        words = words_of(text.lower()) if isinstance(text, str) else [f"#{number}" for number in text]
        vector = [0.0] * dimensions
        for word in words or [str(text)]:
            for hashed, weight in _features(word):
                vector[(hashed >> 1) % dimensions] += weight if hashed & 1 else -weight
        length = sqrt(sum(value * value for value in vector))
        if length == 0.0:  # everything cancelled: any fixed direction will do
            vector[0] = length = 1.0
        return [value / length for value in vector]
