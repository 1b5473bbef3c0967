"""Transcripts in all their formats and as events, from what a handler returns or yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from ..core.model.plain import is_dict
from .chat import token_chance
from .context import event_of
from .tokens import count_texts, count_tokens

__all__ = ["WRITERS", "Transcript", "TranscriptSegment"]


class TranscriptSegment(msgspec.Struct, frozen=True):
    """A part of a transcript, by one speaker. Times in seconds from the beginning of the sound."""

    text: str
    start: float = 0.0
    end: float = 0.0
    speaker: str = "A"
    logprob: float | None = None
    """The mean log probability of its tokens."""


class Transcript(msgspec.Struct):
    """A whole transcript: `segments` in order, `words` as dicts with ``word``, ``start`` and ``end`` (seconds).

    `duration` is the length of the sound in seconds, `language` its English name. Without `usage` the kit counts
    tokens.
    """

    segments: list[TranscriptSegment]
    duration: float = 0.0
    language: str = "english"
    words: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])
    usage: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, value: Any) -> Transcript:
        """Return a handler's result as a transcript: a transcript, a text, or a dict in the format ``verbose_json``."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls([TranscriptSegment(value)])
        if not is_dict(value):
            raise TypeError(f"a transcription handler returned {type(value).__name__}, which is not a transcript")
        found = [
            TranscriptSegment(
                one["text"],
                one.get("start", 0.0),
                one.get("end", 0.0),
                one.get("speaker", "A"),
                one.get("avg_logprob"),
            )
            for one in value.get("segments") or ()
        ]
        return cls(
            found or [TranscriptSegment(value["text"], 0.0, value.get("duration", 0.0))],
            value.get("duration", 0.0),
            value.get("language") or "english",
            value.get("words") or [],
            value.get("usage") or {},
        )

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(segment.text for segment in self.segments).strip()

    def count(self, prompt: str | None) -> dict[str, Any]:
        """Return the usage, counting it if the handler did not."""
        if not self.usage:
            audio, text, output = int(self.duration * 20) + 1, count_texts([prompt or ""]), count_tokens(self.text)
            self.usage = {
                "type": "tokens",
                "input_tokens": text + audio,
                "input_token_details": {"text_tokens": text, "audio_tokens": audio},
                "output_tokens": output,
                "total_tokens": text + audio + output,
            }
        return self.usage

    def as_json(self, *, logprobs: bool = False) -> dict[str, Any]:
        """Return the answer in the format ``json``."""
        answer: dict[str, Any] = {"text": self.text, "usage": self.usage}
        if logprobs:
            known = [segment for segment in self.segments if segment.logprob is not None]
            answer["logprobs"] = [token_chance(segment.text, segment.logprob or 0.0) for segment in known]
        return answer

    def as_verbose(self, *, words: bool, segments: bool) -> dict[str, Any]:
        """Return the answer in the format ``verbose_json``, with the requested timestamps."""
        duration = round(self.duration, 3)
        answer: dict[str, Any] = {"language": self.language, "duration": duration, "text": self.text}
        answer["usage"] = {"type": "duration", "seconds": duration}
        if words:
            answer["words"] = self.words
        if segments:
            answer["segments"] = [
                {
                    "id": number,
                    "seek": int(one.start * 100),  # Whisper counts frames of 10 ms
                    "start": round(one.start, 3),
                    "end": round(one.end, 3),
                    "text": one.text,
                    "tokens": [],
                    "temperature": 0.0,
                    "avg_logprob": one.logprob or 0.0,
                    "compression_ratio": 1.0,
                    "no_speech_prob": 0.0,
                }
                for number, one in enumerate(self.segments)
            ]
        return answer

    def as_diarized(self) -> dict[str, Any]:
        """Return the answer in the format ``diarized_json``."""
        answer = {"task": "transcribe", "duration": round(self.duration, 3), "text": self.text, "usage": self.usage}
        return {**answer, "segments": list(self._speeches())}

    def _speeches(self) -> Iterator[dict[str, Any]]:
        for number, one in enumerate(self.segments):
            times = {"start": round(one.start, 3), "end": round(one.end, 3)}
            about = {"type": "transcript.text.segment", "id": f"seg_{number}", "text": one.text.strip()}
            yield {**about, **times, "speaker": one.speaker}

    def last_events(self, *, logprobs: bool, diarized: bool) -> Iterator[bytes]:
        """Yield the events that end a stream of deltas."""
        if diarized:
            for speech in self._speeches():
                yield event_of(speech, speech["type"])
        yield event_of({"type": "transcript.text.done", **self.as_json(logprobs=logprobs)}, "transcript.text.done")

    def as_srt(self) -> str:
        """Return the transcript as SubRip subtitles."""
        cues = [
            f"{number}\n{_clock(one.start, ',')} --> {_clock(one.end, ',')}\n{_line(one.text)}\n"
            for number, one in enumerate(self.segments, 1)
        ]
        return "\n".join(cues)

    def as_vtt(self) -> str:
        """Return the transcript as WebVTT subtitles."""
        cues = [
            f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{_escaped(_line(one.text))}\n"
            for one in self.segments
        ]
        return "WEBVTT\n\n" + "\n".join(cues)


def _as_text(transcript: Transcript) -> str:
    return transcript.text + "\n"


WRITERS: Final[dict[str, Callable[[Transcript], str]]] = {
    "text": _as_text,
    "srt": Transcript.as_srt,
    "vtt": Transcript.as_vtt,
}
"""The formats that are plain text."""


def _line(text: str) -> str:
    """Return the text on one line: an empty line would end the cue."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
