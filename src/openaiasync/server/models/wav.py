"""Sound in WAV files (RIFF) of 16-bit PCM: heads for sound to be written, and sound out of files."""

from __future__ import annotations

import sys
from array import array
from struct import Struct, error
from typing import Final, NamedTuple

__all__ = ["Sound", "WavError", "pcm_bytes", "read_pcm", "read_wav", "wav_head"]

_FORMAT: Final = Struct("<HHIIHH")
_PCM: Final = 1
_EXTENSIBLE: Final = 0xFFFE
_UNKNOWN: Final = (0, 0xFFFFFFFF)  # sizes in heads that were written before the sound was there


class WavError(ValueError):
    """Not a WAV file, a damaged one, or one of a kind that is not read here; the text is for people."""


class Sound(NamedTuple):
    """One channel: how many samples a second, and the samples."""

    rate: int
    samples: array[int]

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def wav_head(rate: int, size: int) -> bytes:
    """What comes before `size` bytes of 16-bit samples of one channel."""
    form = _FORMAT.pack(_PCM, 1, rate, rate * 2, 2, 16)
    parts = (b"RIFF", (36 + size).to_bytes(4, "little"), b"WAVEfmt ", len(form).to_bytes(4, "little"), form)
    return b"".join((*parts, b"data", size.to_bytes(4, "little")))


def pcm_bytes(samples: array[int]) -> bytes:
    """The samples as little-endian bytes."""
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples.tobytes()


def read_pcm(data: bytes, rate: int) -> Sound:
    """Sound from bare little-endian samples; half a sample at the end is dropped."""
    samples = array("h", data[: len(data) & ~1])
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound(rate, samples)


def read_wav(data: bytes) -> Sound:
    """The first channel of a WAV file. Raises `WavError`."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError("it is no WAV file")
    rate = channels = 0
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8
        if kind == b"data":
            if not rate:
                raise WavError("its sound comes before its format")
            if size not in _UNKNOWN and place + size > len(data):
                raise WavError("it is cut off")
            sound = read_pcm(data[place : len(data) if size in _UNKNOWN else place + size], rate)
            return Sound(rate, sound.samples[::channels] if channels > 1 else sound.samples)
        if kind == b"fmt ":
            rate, channels = _read_format(data[place : place + size])
        place += size + size % 2
    raise WavError("it has no sound")


def _read_format(content: bytes) -> tuple[int, int]:
    try:
        kind, channels, rate, _, block, bits = _FORMAT.unpack_from(content)
    except error:
        raise WavError("its format is cut off") from None
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(content[24:26], "little")
    if kind != _PCM or bits != 16:
        raise WavError("only sound of 16-bit PCM is read here")
    if not channels or block != 2 * channels or not rate:
        raise WavError("its format makes no sense")
    return rate, channels
