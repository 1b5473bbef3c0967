"""A code of tones for texts, as a modem has it: what `demo-tts` speaks and `demo-stt` hears.

A text is cut into frames of at most 255 bytes, about a sentence each. A frame is a pilot tone, a header and a body, in
symbols that carry four bits each as one of sixteen tones. Frequencies are counted from the voice's pitch, which is the
pilot's. The header has symbols of a fixed length and says how long those of the body are (that is the speed), how many
bytes it has, and whether it goes on with the text of the frame before; both have checksums.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from functools import lru_cache
from math import pi, sin
from typing import Final
from zlib import crc32

__all__ = [
    "GAP",
    "HEADER",
    "HEADER_SYMBOL",
    "PILOT",
    "RATE",
    "SPACING",
    "VOICES",
    "check_of_body",
    "check_of_header",
    "frames_of",
    "length_of_frame",
    "pitch_of",
    "sound_of_frame",
    "symbol_of",
]

RATE: Final = 24_000  # samples a second; times below are in samples at this rate
GAP: Final = 480  # silence before each frame
PILOT: Final = 1440
HEADER: Final = 8  # symbols: continued, length of a symbol (3), number of bytes (2), checksum (2)
HEADER_SYMBOL: Final = 384
_TRAILER: Final = 4  # symbols of the body's checksum
SPACING: Final = 250  # hertz between tones: orthogonal in the shortest symbol, of 4 ms
_LOWEST: Final = 600  # hertz, the lowest voice's pitch
_STEP: Final = 60  # hertz between voices
_LOUDNESS: Final = 12_000
_MAX_BYTES: Final = 240
VOICES: Final = (
    "onyx", "cedar", "echo", "ash", "ballad", "fable", "verse", "alloy", "sage", "marin", "coral", "nova", "shimmer",
)  # fmt: skip
"""From the lowest to the highest."""

_SENTENCE_END: Final = re.compile(r"(?<=[.!?…。！？\n])\s+")


def pitch_of(voice: int) -> int:
    """The frequency of a voice's pilot in hertz."""
    return _LOWEST + _STEP * voice


def symbol_of(speed: float) -> int:
    """The length of a body's symbol: 16 ms at speed 1."""
    return round(HEADER_SYMBOL / speed)


def frames_of(text: str) -> list[bytes]:
    """The text in UTF-8, cut behind sentences, and where these are long behind a space or between characters."""
    frames: list[bytes] = []
    start = 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    for end in [*ends, len(text)]:
        rest, start = text[start:end], end
        while rest:
            size = cut = _fitting(rest)
            if size < len(rest):
                cut = rest.rfind(" ", 0, size) + 1 or size
            frames.append(rest[:cut].encode())
            rest = rest[cut:]
    return frames


def _fitting(text: str) -> int:
    """How many characters fit into a frame."""
    data = text[:_MAX_BYTES].encode()
    return len(data[:_MAX_BYTES].decode(errors="ignore"))


def length_of_frame(size: int, symbol: int) -> int:
    """How long the frame of so many bytes is, the gap before it included."""
    return GAP + PILOT + HEADER * HEADER_SYMBOL + (2 * size + _TRAILER) * symbol


def check_of_header(nibbles: list[int]) -> int:
    """The header's checksum, one byte."""
    return crc32(bytes(nibbles)) & 0xFF


def check_of_body(continued: int, data: bytes) -> int:
    """The body's checksum, two bytes."""
    return crc32(data, continued) & 0xFFFF


@lru_cache(maxsize=128)
def _tones(pitch: int, length: int) -> tuple[bytes, ...]:
    """The sound of all sixteen symbols. They swell and fade within a few samples, so that nothing clicks."""
    ramp = max(length // 32, 3)
    shape = [min(1.0, (place + 1) / ramp, (length - place) / ramp) * _LOUDNESS for place in range(length)]
    made: list[bytes] = []
    for value in range(16):
        step = 2 * pi * (pitch + SPACING * (value + 1)) / RATE
        made.append(array("h", [round(sin(step * place) * shape[place]) for place in range(length)]).tobytes())
    return tuple(made)


@lru_cache(maxsize=len(VOICES))
def _pilot(pitch: int) -> bytes:
    step = 2 * pi * pitch / RATE
    return array("h", [round(sin(step * place) * _LOUDNESS) for place in range(PILOT)]).tobytes()


def sound_of_frame(data: bytes, continued: bool, voice: int, symbol: int) -> array[int]:
    """The samples of one frame, with the gap before it."""
    pitch = pitch_of(voice)
    header = [int(continued), symbol >> 8, symbol >> 4 & 15, symbol & 15, *_nibbles(bytes([len(data)]))]
    header += _nibbles(bytes([check_of_header(header)]))
    body = data + check_of_body(int(continued), data).to_bytes(2, "big")
    samples = array("h", bytes(2 * GAP))
    samples.frombytes(_pilot(pitch))
    fixed = _tones(pitch, HEADER_SYMBOL)
    tones = _tones(pitch, symbol)
    samples.frombytes(b"".join([fixed[value] for value in header]))
    samples.frombytes(b"".join([tones[value] for value in _nibbles(body)]))
    return samples


def _nibbles(data: bytes) -> Iterator[int]:
    for byte in data:
        yield byte >> 4
        yield byte & 15
