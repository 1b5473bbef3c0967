"""`demo-tts` and `demo-stt`: one note per word, and the text in the file's metadata, from which it is transcribed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from math import pi, sin
from struct import pack
from typing import Any, Final
from zlib import crc32

from ..server import HTTPError, Transcript, TranscriptSegment
from .media import describe_sound, wav_head

__all__ = ["RATE", "speak", "transcribe"]

RATE: Final = 24_000  # samples a second
_OF_CHARACTER: Final = 0.06  # seconds, at speed 1
_MAX_SECONDS: Final = 600
# semitones of a pentatonic scale, in which any two notes sound well together
_SCALE: Final = (0, 2, 4, 7, 9, 12, 14, 16)
_WORD: Final = re.compile(r"\s*\S+")
_SENTENCE: Final = re.compile(r"[^.!?]+[.!?]*\s*")
_VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")


@lru_cache(maxsize=256)
def _cycle(frequency: int, percent: int) -> bytes:
    """Return one period of a note of this loudness, a fundamental with two overtones."""
    size = RATE // frequency
    steps = [2 * pi * place / size for place in range(size)]
    wave = [sin(step) + 0.5 * sin(2 * step) + 0.25 * sin(3 * step) for step in steps]
    return pack(f"<{size}h", *(round(12_000 * percent / 100 * value / 1.75) for value in wave))


def _note(word: str, base: float, samples: int) -> bytes:
    semitones = _SCALE[crc32(word.strip().lower().encode("utf-8", "surrogatepass")) % len(_SCALE)]
    frequency = round(base * 2 ** (semitones / 12))
    count = max(samples * frequency // RATE, 1)
    # A few periods fade in and out: without them each word would begin and end with a click.
    levels = [min(100, 20 * (place + 1), 20 * (count - place)) for place in range(count)]
    sound = b"".join(_cycle(frequency, level) for level in levels)
    return sound[: 2 * samples].ljust(2 * samples, b"\0")


def _samples(word: str, speed: float) -> int:
    return int(len(word) * _OF_CHARACTER / speed * RATE)


def speak(text: str, voice: str, speed: float, *, bare: bool) -> Iterator[bytes]:
    """Yield a WAV file, or its bare samples, one word at a time. The voice decides the pitch.

    Raises `HTTPError` (400) for a text that would take longer than ten minutes.
    """
    words: list[str] = _WORD.findall(text)
    total = sum(_samples(word, speed) for word in words)
    if total > _MAX_SECONDS * RATE:
        message = f"'input' would take {total // RATE} seconds; the maximum is {_MAX_SECONDS}."
        raise HTTPError(400, message, param="input", code="string_above_max_length")
    known = voice.lower() in _VOICES
    base = 150.0 + 14 * (_VOICES.index(voice.lower()) if known else crc32(voice.encode()) % len(_VOICES))
    if not bare:
        yield wav_head(RATE, 2 * total, text)
    for word in words:
        yield _note(word, base, _samples(word, speed))


def transcribe(data: bytes, language: str | None) -> Transcript:
    """Return the transcript of a sound: the text that `speak` stored in it, or a description of the file."""
    if not data:
        raise HTTPError(400, "The 'file' is empty.", param="file", code="invalid_audio")
    text, seconds, about = describe_sound(data)
    said = about if text is None else text
    per_character = seconds / max(len(said), 1)
    words: list[dict[str, Any]] = [
        {
            "word": match[0].strip(),
            "start": round(match.start() * per_character, 3),
            "end": round(match.end() * per_character, 3),
        }
        for match in _WORD.finditer(said)
    ]
    segments = [
        TranscriptSegment(match[0], match.start() * per_character, match.end() * per_character, logprob=-0.01)
        for match in _SENTENCE.finditer(said)
    ]
    return Transcript(segments or [TranscriptSegment(said, 0.0, seconds)], seconds, language or "english", words)
