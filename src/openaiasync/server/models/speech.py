"""`demo-tts` and `demo-stt`: speech as a code of tones, and back. They sound like a modem, and lose nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import HTTPError
from .base import SpeechModel, TranscriptionModel
from .hearing import Heard, NotHeard, hear
from .tones import GAP, RATE, VOICES, frames_of, length_of_frame, sound_of_frame, symbol_of
from .wav import Sound, pcm_bytes

__all__ = ["DemoSpeech", "DemoTranscription"]


class DemoSpeech(SpeechModel):
    """The speech model of the built-in server. A voice is a pitch; the speed is the length of the tones."""

    def __init__(self, id: str = "demo-tts", *, token_delay: float = 0.0) -> None:
        super().__init__(id, rate=RATE, voices=VOICES, token_delay=token_delay)

    def length(self, text: str, speed: float) -> int:
        symbol = symbol_of(speed)
        return sum(length_of_frame(len(frame), symbol) for frame in frames_of(text)) + GAP

    def speak(self, text: str, voice: str, speed: float) -> Iterator[tuple[bytes, str]]:
        """One piece for each sentence or part of a long one; a bit of silence at the end."""
        symbol = symbol_of(speed)
        number = VOICES.index(voice)
        for place, frame in enumerate(frames_of(text)):
            yield pcm_bytes(sound_of_frame(frame, place > 0, number, symbol)), frame.decode()
        yield bytes(2 * GAP), ""


class DemoTranscription(TranscriptionModel):
    """The transcription model of the built-in server: it understands `demo-tts`, and refuses all other sound."""

    def __init__(self, id: str = "demo-stt", *, token_delay: float = 0.0) -> None:
        super().__init__(id, token_delay=token_delay)

    def hear(self, sound: Sound) -> list[Heard]:
        """What is spoken. Raises `HTTPError` (400) for sound without speech, or with damaged speech."""
        try:
            return hear(sound.samples, sound.rate)
        except NotHeard as error:
            raise HTTPError(400, str(error), param="file", code="invalid_audio") from None
