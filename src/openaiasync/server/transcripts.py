"""Transcripts in all their formats, and as events: out of what a model heard."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from math import log
from typing import Any, Final

from .context import Event, event_of
from .models.hearing import Heard
from .models.tokens import count_tokens, split_tokens

__all__ = [
    "Transcript",
    "as_diarized",
    "as_json",
    "as_srt",
    "as_text",
    "as_verbose",
    "as_vtt",
    "transcript_events",
]

_WORD: Final = re.compile(r"\S+")
_LANGUAGES: Final = {
    "ar": "arabic", "de": "german", "el": "greek", "en": "english", "es": "spanish", "fr": "french", "he": "hebrew",
    "hi": "hindi", "it": "italian", "ja": "japanese", "ko": "korean", "pt": "portuguese", "ru": "russian",
    "th": "thai", "zh": "chinese",
}  # fmt: skip
# The code of tones says nothing of languages: scripts do, in this order (Japanese mixes kana with Han).
_SCRIPTS: Final = (
    (re.compile("[\u3040-\u30ff]"), "ja"), (re.compile("[\uac00-\ud7a3]"), "ko"), (re.compile("[\u4e00-\u9fff]"), "zh"),
    (re.compile("[\u0400-\u04ff]"), "ru"), (re.compile("[\u0370-\u03ff]"), "el"), (re.compile("[\u0590-\u05ff]"), "he"),
    (re.compile("[\u0600-\u06ff]"), "ar"), (re.compile("[\u0900-\u097f]"), "hi"), (re.compile("[\u0e00-\u0e7f]"), "th"),
    (re.compile(r"\b(?:und|der|die|das|ist|nicht|ich)\b|ß", re.IGNORECASE), "de"),
    (re.compile(r"\b(?:et|les|est|je|vous|une)\b|ç", re.IGNORECASE), "fr"),
    (re.compile(r"\b(?:el|los|es|una|qué|y)\b|[ñ¿¡]", re.IGNORECASE), "es"),
)  # fmt: skip


class Transcript:
    """What was heard in a sound of so many seconds; what goes on in a new frame goes on in the text."""

    def __init__(
        self,
        heard: Sequence[Heard],
        seconds: float,
        *,
        audio_tokens: int,
        text_tokens: int = 0,
        language: str | None = None,
        temperature: float = 0.0,
        logprobs: bool = False,
    ) -> None:
        self.heard = heard
        self.seconds = seconds
        self.temperature = temperature
        self.pieces: list[str] = [
            part.text if part.continued or not place else f" {part.text}" for place, part in enumerate(heard)
        ]
        self.text: str = "".join(self.pieces)
        self.logprobs = logprobs
        code = language or next((code for script, code in _SCRIPTS if script.search(self.text)), "en")
        self.language: str = _LANGUAGES.get(code, code)
        output = count_tokens(self.text)
        self.usage: dict[str, Any] = {
            "type": "tokens",
            "input_tokens": text_tokens + audio_tokens,
            "input_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
            "output_tokens": output,
            "total_tokens": text_tokens + audio_tokens + output,
        }
        self._speakers: dict[str, str] = {}

    def name_speaker(self, voice: str, name: str) -> None:
        """Call the speaker with this voice so."""
        self._speakers[voice] = name

    def speaker(self, voice: str) -> str:
        """The speaker's name, or a letter for each voice that has none, in the order they are heard."""
        unnamed = list(dict.fromkeys(part.voice for part in self.heard if part.voice not in self._speakers))
        return self._speakers.get(voice) or chr(ord("A") + unnamed.index(voice))

    def segments(self) -> Iterator[dict[str, Any]]:
        """One segment for each frame, with its speaker."""
        for number, part in enumerate(self.heard):
            yield {
                "type": "transcript.text.segment",
                "id": f"seg_{number}",
                "start": round(part.start, 3),
                "end": round(part.end, 3),
                "text": part.text.strip(),
                "speaker": self.speaker(part.voice),
            }

    def chances(self, number: int) -> list[dict[str, Any]]:
        """The tokens of a frame with their log probabilities: how clear its tones were."""
        chance = round(log(max(self.heard[number].clarity, 1e-9)), 6)
        tokens = split_tokens(self.pieces[number])
        return [{"token": token, "logprob": chance, "bytes": list(token.encode())} for token in tokens]


def as_json(transcript: Transcript) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": transcript.text, "usage": transcript.usage}
    if transcript.logprobs:
        answer["logprobs"] = [
            chance for number in range(len(transcript.heard)) for chance in transcript.chances(number)
        ]
    return answer


def as_text(transcript: Transcript) -> str:
    return transcript.text + "\n"


def as_verbose(transcript: Transcript, words: bool, segments: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "language": transcript.language,
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": {"type": "duration", "seconds": round(transcript.seconds, 3)},
    }
    if words:
        answer["words"] = [word for part in transcript.heard for word in _words(part)]
    if segments:
        answer["segments"] = [_segment(transcript, number) for number in range(len(transcript.heard))]
    return answer


def _words(part: Heard) -> Iterator[dict[str, Any]]:
    for match in _WORD.finditer(part.text):
        start, end = (len(part.text[:place].encode()) for place in match.span())
        yield {
            "word": match[0],
            "start": round(part.first_byte + start * part.per_byte, 3),
            "end": round(part.first_byte + end * part.per_byte, 3),
        }


def _segment(transcript: Transcript, number: int) -> dict[str, Any]:
    part = transcript.heard[number]
    data = part.text.encode()
    return {
        "id": number,
        "seek": int(part.start * 100),  # Whisper counts frames of 10 ms
        "start": round(part.start, 3),
        "end": round(part.end, 3),
        "text": transcript.pieces[number],
        "tokens": [zlib.crc32(token.encode()) % 50_000 for token in split_tokens(part.text)],
        "temperature": transcript.temperature,
        "avg_logprob": round(log(max(part.clarity, 1e-9)), 6),
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3),
        "no_speech_prob": round(1 - part.clarity, 6),
    }


def as_diarized(transcript: Transcript) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": list(transcript.segments()),
        "usage": transcript.usage,
    }


def as_srt(transcript: Transcript) -> str:
    cues = [
        f"{number}\n{_clock(part.start, ',')} --> {_clock(part.end, ',')}\n{_line(part.text)}\n"
        for number, part in enumerate(transcript.heard, 1)
    ]
    return "\n".join(cues)


def as_vtt(transcript: Transcript) -> str:
    cues = [
        f"{_clock(part.start, '.')} --> {_clock(part.end, '.')}\n{_escaped(_line(part.text))}\n"
        for part in transcript.heard
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def _line(text: str) -> str:
    """The text on one line: an empty one would end the cue."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def transcript_events(transcript: Transcript, diarized: bool) -> Iterator[Event]:
    """The transcript token by token, with speakers segment by segment, and at the end whole."""
    segments = list(transcript.segments()) if diarized else []
    for number in range(len(transcript.heard)):
        for chance in transcript.chances(number):
            delta: dict[str, Any] = {"type": "transcript.text.delta", "delta": chance["token"]}
            if transcript.logprobs:
                delta["logprobs"] = [chance]
            if diarized:
                delta["segment_id"] = segments[number]["id"]
            yield event_of(delta, 1, named=True)
        if diarized:
            yield event_of(segments[number], named=True)
    answer = as_json(transcript)
    yield event_of({"type": "transcript.text.done", **answer}, named=True)
