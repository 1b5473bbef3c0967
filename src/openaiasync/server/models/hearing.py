"""Finds the tones of `tones` in sound, by Goertzel's algorithm, and reads them back into texts with times."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi, sqrt
from operator import mul
from typing import Final

from .tones import (
    GAP,
    HEADER,
    HEADER_SYMBOL,
    PILOT,
    RATE,
    SPACING,
    VOICES,
    check_of_body,
    check_of_header,
    pitch_of,
)

__all__ = ["MIN_RATE", "Heard", "NotHeard", "hear"]

MIN_RATE: Final = 11_025  # samples a second; the highest tones need so many
_MAX_NOISE: Final = 60  # seconds of sound without the code before it is given up; false pilots count as one each
_SILENCE: Final = 8  # samples within so few steps are taken for silence
_CLEAR: Final = 0.3  # part of a window's energy in one tone that makes it this tone
_QUICK: Final = 4  # milliseconds of a symbol that are listened to first; in these the tones are orthogonal
_PILOT_RATE: Final = 5_500  # samples a second that are enough for the pilots, and for the tones; what lies above is
_TONE_RATE: Final = 11_000  # folded down as noise, which windows of one tone can bear


class NotHeard(ValueError):
    """There is no code in the sound, or it is damaged; the text is for people."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame: its text, when it starts and ends, when its first byte starts and how long a byte lasts (seconds).

    `voice` is the name of the voice, `continued` tells that the text goes on from the frame before, `clarity` is the
    part of the energy, up to 1, that was in the tones.
    """

    text: str
    start: float
    end: float
    first_byte: float
    per_byte: float
    voice: str
    continued: bool
    clarity: float


def hear(samples: array[int], rate: int) -> list[Heard]:
    """All frames in the sound. Raises `NotHeard` when there is none, or when one is damaged or cut off."""
    if rate < MIN_RATE:
        raise NotHeard(f"The sound has {rate:,} samples a second; the tones need {MIN_RATE:,} or more.")
    listener = _Listener(samples, rate)
    heard = list(listener.frames())
    if not heard:
        raise NotHeard("There is no speech in this sound that this model understands: it hears only demo-tts.")
    return heard


def _power(window: Sequence[float], coefficient: float) -> float:
    """The squared amplitude of one frequency in a window, times a quarter of the window's length squared."""
    last = before = 0.0
    for sample in window:
        last, before = sample + coefficient * last - before, last
    return last * last + before * before - coefficient * last * before


def _energy(window: Sequence[float]) -> float:
    return float(sum(map(mul, window, window)))


class _Listener:
    def __init__(self, samples: array[int], rate: int) -> None:
        self._samples = samples
        self._rate = rate
        self._scale = rate / RATE  # our samples for each of the code's
        self._pilots = [self._coefficient(pitch_of(voice), 1) for voice in range(len(VOICES))]
        self._coarse = rate // _PILOT_RATE  # every so many-th sample is looked at for pilots, and for tones
        self._fine = rate // _TONE_RATE
        self._coarse_pilots = [self._coefficient(pitch_of(voice), self._coarse) for voice in range(len(VOICES))]
        self._noise = 0.0

    def frames(self) -> Iterator[Heard]:
        place = 0.0
        while place < len(self._samples):
            found = self._expected(place) or self._search(place)
            if found is None:
                return
            voice, start, header = found
            heard, place = self._body(voice, start, header)
            yield heard

    # ---------------------------------------------------------------- finding a frame

    def _expected(self, place: float) -> tuple[int, float, list[int]] | None:
        """The frame that follows at once, as in sound that nobody cut; `place` is where its gap begins."""
        pilot = self._cut(place + GAP * self._scale, PILOT * self._scale)
        voice = self._pilot_in(pilot[: len(pilot) // 2])
        if voice is None or voice != self._pilot_in(pilot[len(pilot) // 2 :]):
            return None
        start = place + (GAP + PILOT) * self._scale
        header = self._header(voice, start)
        return None if header is None else (voice, start, header)

    def _search(self, place: float) -> tuple[int, float, list[int]] | None:
        """The next frame anywhere: a pilot that fills two windows in a row, its end, and a header behind it."""
        step = self._rate // 50
        before: int | None = None
        at = int(place)
        while at + step <= len(self._samples):
            window = self._samples[at : at + step]
            if max(window) - min(window) >= _SILENCE:
                self._noise += 0.02
                if self._noise > _MAX_NOISE:
                    raise NotHeard("Too much of the sound is nothing that this model understands.")
            voice = self._pilot_in(window)
            if voice is not None and voice == before:
                found = self._after_pilot(voice, at)
                if found is not None:
                    return (voice, *found)
                self._noise += 1
            before = voice
            at += step
        return None

    def _pilot_in(self, samples: array[int]) -> int | None:
        """The voice whose pilot fills the window."""
        coarse = samples[:: self._coarse]
        if not coarse or max(coarse) - min(coarse) < _SILENCE:
            return None
        window = list(map(float, coarse))
        powers = [_power(window, pilot) for pilot in self._coarse_pilots]
        best = max(powers)
        return powers.index(best) if best * 2 >= _CLEAR * _energy(window) * len(window) else None

    def _after_pilot(self, voice: int, at: int) -> tuple[float, list[int]] | None:
        """Where the header begins, and what it says. In a short window the pilot halves at its end."""
        short = self._rate // 250
        step = max(self._rate // 2000, 1)
        limit = at + int((PILOT * 1.2 + HEADER_SYMBOL) * self._scale)
        full = last = 0.0
        for start in range(at, min(limit, len(self._samples) - short), step):
            amplitude = sqrt(max(_power(self._samples[start : start + short], self._pilots[voice]), 0.0))
            full = max(full, amplitude)
            if amplitude < full / 2:
                part = (last - full / 2) / max(last - amplitude, 1e-9)
                return self._aligned(voice, start - step + part * step + short / 2)
            last = amplitude
        return None

    def _aligned(self, voice: int, edge: float) -> tuple[float, list[int]] | None:
        """The header near an edge, and its start to a quarter of a millisecond: where its tones are clearest."""
        quarter = self._rate / 4000
        for shift in (0, 1, -1, 2, -2, 4, -4):
            header = self._header(voice, edge + shift * quarter)
            if header is not None:
                starts = [edge + (shift + fine / 2) * quarter for fine in range(-6, 7)]
                return max(starts, key=lambda start: self._match(voice, start, header)), header
        return None

    def _match(self, voice: int, start: float, values: list[int]) -> float:
        """How much of these header symbols is in the sound at this place."""
        length = HEADER_SYMBOL * self._scale
        total = 0.0
        for number, value in enumerate(values):
            window = self._cut(start + number * length, length)
            total += sqrt(max(_power(window, self._tone(voice, value, 1)), 0.0))
        return total

    # ---------------------------------------------------------------- reading a frame

    def _cut(self, start: float, length: float) -> array[int]:
        first = max(round(start), 0)
        return self._samples[first : first + round(length)]

    def _coefficient(self, frequency: int, stride: int) -> float:
        return 2 * cos(2 * pi * frequency * stride / self._rate)

    def _tone(self, voice: int, value: int, stride: int) -> float:
        return self._coefficient(pitch_of(voice) + SPACING * (value + 1), stride)

    def _read(
        self, voice: int, start: float, count: int, length: float, used: float, stride: int = 1
    ) -> tuple[list[int], float]:
        """So many symbols, each by every `stride`-th of the middle `used` samples of its `length`; and their mean
        clarity."""
        tones = [self._tone(voice, value, stride) for value in range(16)]
        values: list[int] = []
        clear = 0.0
        start += (length - used) / 2
        for number in range(count):
            window = list(map(float, self._cut(start + number * length, used)[::stride]))
            powers = [_power(window, tone) for tone in tones]
            best = max(powers)
            values.append(powers.index(best))
            clear += min(2 * best / max(_energy(window) * len(window), 1.0), 1.0)
        return values, clear / max(count, 1)

    def _header(self, voice: int, start: float) -> list[int] | None:
        """The header at this place, if there is one: its checksum fits and its values can be."""
        length = HEADER_SYMBOL * self._scale
        if start < 0 or start + HEADER * length > len(self._samples) + length / 4:
            return None
        values, clarity = self._read(voice, start, HEADER, length, length * 0.75, self._fine)
        check = values[6] << 4 | values[7]
        symbol = values[1] << 8 | values[2] << 4 | values[3]
        sound = clarity >= _CLEAR / 2 and values[0] <= 1 and HEADER_SYMBOL // 4 <= symbol <= HEADER_SYMBOL * 4
        return values if sound and check == check_of_header(values[:6]) else None

    def _body(self, voice: int, start: float, header: list[int]) -> tuple[Heard, float]:
        """The frame's text, and where the frame ends. Raises `NotHeard` for a damaged one."""
        continued, size = header[0], header[4] << 4 | header[5]
        length = (header[1] << 8 | header[2] << 4 | header[3]) * self._scale
        first = start + HEADER * HEADER_SYMBOL * self._scale
        count = 2 * size + 4
        end = first + count * length
        where = f"at {start / self._rate:.2f} s"
        if end > len(self._samples) + length / 2:
            raise NotHeard(f"The speech {where} is cut off: the sound ends before its frame does.")
        # A few milliseconds tell the tones apart in clear sound; only noise needs all of them.
        for used, stride in ((min(length, _QUICK * self._rate / 1000), self._fine), (length * 0.95, 1)):
            values, clarity = self._read(voice, first, count, length, used, stride)
            data = bytes(values[place] << 4 | values[place + 1] for place in range(0, count, 2))
            if check_of_body(continued, data[:-2]) == int.from_bytes(data[-2:], "big"):
                break
        else:
            raise NotHeard(f"The speech {where} is damaged: its checksum is wrong.")
        try:
            text = data[:-2].decode()
        except UnicodeDecodeError:
            raise NotHeard(f"The speech {where} is damaged: it is no text.") from None
        begin = start - PILOT * self._scale
        rate = self._rate
        return (
            Heard(text, max(begin, 0.0) / rate, end / rate, first / rate, 2 * length / rate, VOICES[voice],
                  bool(continued), clarity),
            end,
        )  # fmt: skip
