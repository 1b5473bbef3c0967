"""`client.text_to_speech(...)` and `client.speech_to_text(...)`: speech from text, and text from speech."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, cast

from ..core.codec.decode import keep
from ..core.codec.endpoint import Request
from ..core.codec.file_types import FileTypes
from ..core.model.lenient import builder_for
from ..core.model.plain import parse_json
from ..endpoints import AUDIO_SPEECH_CREATE, AUDIO_TRANSCRIPTIONS_CREATE
from ..engine import Namespace
from ..engine.accumulating import AccumulatingStream
from ..engine.binary import BinaryAnswer, ByteStream
from ..engine.codecs import TEXT_FORMATS
from ..engine.sealing import sealed
from ..lazy import resolve_annotations
from .common import MISSING, parameters

if TYPE_CHECKING:
    from ..core.model.meta import Meta
    from ..params.audio import SpeechParams, SpeechRest, TranscriptionParams, TranscriptionRest
    from ..params.audio.speech_create_params import Voice
    from ..types.audio import Transcription, TranscriptionCreateResponse, TranscriptionStreamEvent

    _Events = AccumulatingStream[TranscriptionStreamEvent, Transcription]
else:
    _Events = AccumulatingStream

__all__ = [
    "AudioAnswer",
    "AudioStream",
    "SpeechToTextMethods",
    "TextToSpeechMethods",
    "TranscriptionStream",
]

DEFAULT_VOICE = "alloy"  # the API requires a voice, and every server has this one


class AudioAnswer(BinaryAnswer):
    """Generated speech: `bytes()`, `stream_to_file(path)`, `content_type`; `speech_to_text` takes it as a file."""

    __slots__ = ()

    def bytes(self) -> builtins.bytes:
        """Return the audio, in the requested format."""
        return self.content


class AudioStream(ByteStream):
    """Speech while it is generated: iterate it for the bytes of the audio, or write them to a file."""


AudioFile: TypeAlias = str | FileTypes | BinaryAnswer
"""A path, bytes, an open binary file, an answer with audio, or ``(name, content[, media type[, header fields]])``."""


# -------------------------------------------------------------------------------------------------- text to speech


def _speech_parameters(main: Any, voice: Any, params: dict[str, Any]) -> dict[str, Any]:
    if voice is not MISSING:
        params["voice"] = voice
    made = parameters(AUDIO_SPEECH_CREATE, "text_to_speech", "input", main, params)
    made.setdefault("voice", DEFAULT_VOICE)
    if made.get("stream_format") == "sse":
        raise ValueError("text_to_speech() returns the audio itself; audio.speech.create() takes stream_format='sse'")
    return made


class TextToSpeechMethods(Namespace):
    """`client.text_to_speech(...)` and `client.text_to_speech.stream(...)`: speech from text."""

    @sealed
    async def __call__(
        self, input: str | SpeechParams = MISSING, *, voice: Voice = MISSING, **params: Unpack[SpeechRest]
    ) -> AudioAnswer:
        """Convert a text to speech and return the whole audio.

        `input` is the text, or the whole request as one dict; `voice` is "alloy" unless you choose another; further
        parameters are those of ``POST /audio/speech``. Raises `TypeError` for a parameter that is missing or unknown,
        and `OpenAIError`, such as `APIResponseValidationError` for an answer that is not audio.
        """
        made = _speech_parameters(input, voice, dict(params))
        answer: Any = await self._calls.run(AUDIO_SPEECH_CREATE, made)
        return AudioAnswer(answer.content, answer.meta) if type(answer) is BinaryAnswer else answer

    @sealed
    def stream(
        self, input: str | SpeechParams = MISSING, *, voice: Voice = MISSING, **params: Unpack[SpeechRest]
    ) -> AudioStream:
        """Return the same as a stream: ``async with ... as stream: async for piece in stream: ...``.

        Nothing is sent before it is entered or iterated. It holds a slot in flight until its end, or `close`.
        Reading raises `OpenAIError`, such as `IncompleteStreamError` if the audio is cut off.
        """
        made = _speech_parameters(input, voice, dict(params))
        return AudioStream(self._calls, self._calls.request(AUDIO_SPEECH_CREATE, made))


# -------------------------------------------------------------------------------------------------- speech to text


def _audio_file(value: Any) -> Any:
    """Return the file to upload; here a string is a path."""
    if isinstance(value, str):
        if not value:
            raise ValueError("speech_to_text(): an empty path names no file")
        return Path(value)
    return value


def _transcription_parameters(main: Any, params: dict[str, Any]) -> dict[str, Any]:
    made = parameters(AUDIO_TRANSCRIPTIONS_CREATE, "speech_to_text", "file", main, params)
    if "file" in made:
        made["file"] = _audio_file(made["file"])
    return made


class TranscriptAccumulator:
    """Accumulate the events of a transcript."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._done: TranscriptionStreamEvent | None = None

    reasoning = ""

    def add(self, event: TranscriptionStreamEvent) -> None:
        if event.type == "transcript.text.done":
            self._done = event
        elif event.type == "transcript.text.delta":
            self._words.append(event.delta)

    @property
    def text(self) -> str:
        done = self._done
        return "".join(self._words) if done is None else str(getattr(done, "text", ""))

    def partial(self) -> Transcription:
        from ..types.audio import Transcription

        fields = {} if self._done is None else self._done.to_dict()
        fields = {name: value for name, value in fields.items() if name not in ("type", "event_id")}
        return _built(Transcription, {**fields, "text": self.text})

    final = partial


def _built(kind: type[Transcription], fields: dict[str, Any]) -> Transcription:
    build = builder_for(kind)
    assert build is not None
    return cast("Transcription", build(fields))


class TranscriptionStream(_Events):
    """A transcript in progress: iterate its events; `.text` is the text so far, `await final()` the whole."""


class SpeechToTextMethods(Namespace):
    """`client.speech_to_text(...)` and `client.speech_to_text.stream(...)`: text from speech."""

    @sealed
    async def __call__(
        self, file: AudioFile | TranscriptionParams = MISSING, **params: Unpack[TranscriptionRest]
    ) -> TranscriptionCreateResponse:
        """Transcribe speech; the answer has the words in `.text`, whatever the format.

        `file` is a path (also as text), bytes, an open binary file, an `AudioAnswer`, or the whole request as one
        dict; further parameters are those of ``POST /audio/transcriptions``. ``response_format`` "verbose_json" and
        "diarized_json" give answers with segments; for "text", "srt" and "vtt" `.text` is the body.
        Raises `OSError` for a file that cannot be read, before anything is sent, `TypeError`, and `OpenAIError`.
        """
        made = _transcription_parameters(file, dict(params))
        request = self._calls.request(AUDIO_TRANSCRIPTIONS_CREATE, made)
        if request.response_format not in TEXT_FORMATS:
            answer: TranscriptionCreateResponse = await self._calls.answer(request)
            return answer
        meta, body = await self._calls.fetch(request)
        return _of_text(request, meta, self._calls.decode(request, meta, body))

    @sealed
    def stream(
        self, file: AudioFile | TranscriptionParams = MISSING, **params: Unpack[TranscriptionRest]
    ) -> TranscriptionStream:
        """Return the same as a stream of events; nothing is read or sent before it is entered or iterated.

        Reading raises `OSError` for a file that cannot be read, and `OpenAIError`, `IncompleteStreamError` among them.
        """
        made = _transcription_parameters(file, dict(params))
        request = self._calls.request(AUDIO_TRANSCRIPTIONS_CREATE, made, stream=True)
        return TranscriptionStream(self._calls, request, TranscriptAccumulator())


def _of_text(request: Request, meta: Meta, text: str) -> Transcription:
    """Return the answer for a transcript in plain text, or for an object that a server sent instead of text."""
    from ..types.audio import Transcription

    if text.lstrip().startswith("{"):  # an object, although text was requested
        try:
            found: object = parse_json(text.encode())
        except (ValueError, RecursionError):
            found = None
        inner = cast("dict[str, Any]", found).get("text") if isinstance(found, dict) else None
        text = inner if isinstance(inner, str) else text
    if request.response_format == "text":
        text = text.removesuffix("\n")  # the newline at the end is not part of the transcript
    return keep(_built(Transcription, {"text": text}), None, meta)


resolve_annotations(__name__)
