"""Sound: speech out of text, whole or in pieces, and text out of uploaded sound."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..core.http.media_types import audio_type
from .context import Event, RequestContext, event_of
from .errors import HTTPError, wrong_kind
from .form import UploadedFile
from .media_fields import SPEECH, TRANSCRIPTION, TRANSLATION
from .models import SpeechModel, TranscriptionModel
from .models.tokens import count_tokens
from .models.tones import RATE
from .models.wav import Sound, WavError, read_pcm, read_wav, wav_head
from .transcripts import Transcript, as_diarized, as_json, as_srt, as_text, as_verbose, as_vtt, transcript_events

if TYPE_CHECKING:
    from .app import App

__all__ = ["create_speech", "create_transcription", "create_translation"]

_MAX_INPUT: Final = 4096  # characters
_MAX_SECONDS: Final = 600
_TOKENS: Final = 20  # of sound, a second
_RAW: Final = ("audio/pcm", "audio/l16")
_TEXT: Final = b"text/plain; charset=utf-8"
_WRITERS: Final = {"text": as_text, "srt": as_srt, "vtt": as_vtt}


# -------------------------------------------------------------------------------------------------- speech


async def create_speech(app: App, call: RequestContext) -> None:
    body = await call.read_object()
    app.check(body, SPEECH, "model", "input", "voice")
    model = app.model(body["model"])
    if not isinstance(model, SpeechModel):
        raise wrong_kind(model.id, "speech")
    text, speed = body["input"], float(body.get("speed") or 1.0)
    voice = _voice(model, body["voice"])
    samples = _length(model, text, speed)
    sound = model.speak(text, voice, speed)
    head = wav_head(model.rate, 2 * samples) if body.get("response_format") != "pcm" else b""
    delay = call.token_delay(model.token_delay)
    usage = {"input_tokens": count_tokens(text), "output_tokens": -(-samples * _TOKENS // model.rate)}
    usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
    call.fields += app.allowance.spend(usage["total_tokens"])
    if body.get("stream_format") == "sse":
        await call.send_events(_speech_events(head, sound, usage), delay)
    else:
        await call.send_pieces(_speech_pieces(head, sound), delay, b"audio/wav" if head else b"audio/pcm")


def _voice(model: SpeechModel, value: Any) -> str:
    voice: str = value if isinstance(value, str) else value["id"]
    if voice not in model.voices:
        message = f"There is no voice {voice!r} here; there are {', '.join(sorted(model.voices))}."
        raise HTTPError(400, message, param="voice", code="invalid_value")
    return voice


def _length(model: SpeechModel, text: str, speed: float) -> int:
    """How many samples the text takes. Raises `HTTPError` (400) for nothing, and for too much."""
    if not text:
        raise HTTPError(400, "'input' is empty.", param="input", code="invalid_value")
    if len(text) > _MAX_INPUT:
        message = f"'input' has {len(text)} characters; at most {_MAX_INPUT} are spoken."
        raise HTTPError(400, message, param="input", code="string_above_max_length")
    samples = model.length(text, speed)
    if samples > _MAX_SECONDS * model.rate:
        message = f"'input' would take {samples // model.rate} seconds; at most {_MAX_SECONDS} are spoken."
        raise HTTPError(400, message, param="input", code="string_above_max_length")
    return samples


def _speech_pieces(head: bytes, sound: Iterator[tuple[bytes, str]]) -> Iterator[Event]:
    if head:
        yield head, 0
    for piece, text in sound:
        yield piece, count_tokens(text)


def _speech_events(head: bytes, sound: Iterator[tuple[bytes, str]], usage: dict[str, int]) -> Iterator[Event]:
    for piece, tokens in _speech_pieces(head, sound):
        delta = {"type": "speech.audio.delta", "audio": b64encode(piece).decode()}
        yield event_of(delta, tokens, named=True)
    yield event_of({"type": "speech.audio.done", "usage": usage}, named=True)


# -------------------------------------------------------------------------------------------------- transcripts


async def create_transcription(app: App, call: RequestContext) -> None:
    body = await call.read_form()
    app.check(body, TRANSCRIPTION, "file", "model")
    form = _check_format(body)
    model = _model(app, body)
    delay = call.token_delay(model.token_delay)
    known = [_reference(value, place) for place, value in enumerate(body.get("known_speaker_references") or ())]
    async with call.presence():
        transcript = await _listen(model, body)
        for place, name in enumerate(body.get("known_speaker_names") or ()):
            heard = await asyncio.to_thread(model.hear, known[place])
            transcript.name_speaker(heard[0].voice, name)
    call.fields += app.allowance.spend(transcript.usage["total_tokens"])
    if body.get("stream"):
        await call.send_events(transcript_events(transcript, form == "diarized_json"), delay)
        return
    await call.work(delay * transcript.usage["output_tokens"])
    if form in _WRITERS:
        await call.send_bytes(_WRITERS[form](transcript).encode(), _TEXT)
    elif form == "verbose_json":
        wanted = body.get("timestamp_granularities") or ("segment",)
        await call.send_json(as_verbose(transcript, "word" in wanted, "segment" in wanted))
    else:
        await call.send_json(as_diarized(transcript) if form == "diarized_json" else as_json(transcript))


async def create_translation(app: App, call: RequestContext) -> None:
    """Tones are no language: what was spoken comes as it is."""
    body = await call.read_form()
    app.check(body, TRANSLATION, "file", "model")
    model = _model(app, body)
    form = body.get("response_format") or "json"
    delay = call.token_delay(model.token_delay)
    async with call.presence():
        transcript = await _listen(model, body)
    call.fields += app.allowance.spend(transcript.usage["total_tokens"])
    await call.work(delay * transcript.usage["output_tokens"])
    if form in _WRITERS:
        await call.send_bytes(_WRITERS[form](transcript).encode(), _TEXT)
    elif form == "verbose_json":
        answer = as_verbose(transcript, words=False, segments=True)
        await call.send_json({name: value for name, value in answer.items() if name != "usage"})
    else:
        await call.send_json({"text": transcript.text})


def _model(app: App, body: dict[str, Any]) -> TranscriptionModel:
    model = app.model(body["model"])
    if not isinstance(model, TranscriptionModel):
        raise wrong_kind(model.id, "transcription")
    return model


def _check_format(body: dict[str, Any]) -> str:
    """The format asked for. Raises `HTTPError` (400) for what does not go with it."""
    form: str = body.get("response_format") or "json"

    def refuse(param: str, message: str) -> HTTPError:
        return HTTPError(400, message, param=param, code="invalid_value")

    if body.get("timestamp_granularities") and form != "verbose_json":
        raise refuse("timestamp_granularities", "'timestamp_granularities' need the format verbose_json.")
    if body.get("include") and form != "json":
        raise refuse("include", "'logprobs' need the format json.")
    if body.get("stream") and form not in ("json", "text", "diarized_json"):
        raise refuse("stream", f"The format {form} cannot be streamed; json, text and diarized_json can.")
    names, references = body.get("known_speaker_names") or (), body.get("known_speaker_references") or ()
    if len(names) != len(references):
        raise refuse("known_speaker_names", "There must be as many 'known_speaker_names' as references.")
    return form


async def _listen(model: TranscriptionModel, body: dict[str, Any]) -> Transcript:
    upload: UploadedFile = body["file"]
    raw = upload.media_type in _RAW or (upload.file_name or "").lower().endswith(".pcm")
    sound = _sound(upload.content, raw, "file")
    heard = await asyncio.to_thread(model.hear, sound)
    return Transcript(
        heard,
        sound.seconds,
        audio_tokens=int(sound.seconds * _TOKENS) + 1,
        text_tokens=count_tokens(body.get("prompt") or ""),
        language=body.get("language"),
        temperature=body.get("temperature") or 0.0,
        logprobs=bool(body.get("include")),
    )


def _sound(data: bytes, raw: bool, param: str) -> Sound:
    """The sound in an upload: a WAV file, or samples as ``pcm`` speech has them. Raises `HTTPError` (400)."""
    try:
        sound = read_pcm(data, RATE) if raw else read_wav(data)
    except WavError as error:
        kind = audio_type(data)
        found = f"it is {kind}; WAV and PCM are read here" if kind not in (None, "audio/wav") else str(error)
        raise HTTPError(400, f"The '{param}' cannot be used: {found}.", param=param, code="invalid_audio") from None
    if sound.seconds > _MAX_SECONDS:
        message = f"The '{param}' lasts {sound.seconds:.0f} seconds; at most {_MAX_SECONDS} are listened to."
        raise HTTPError(400, message, param=param, code="audio_too_long")
    return sound


def _reference(value: str, place: int) -> Sound:
    """The sample of a known speaker's voice in a data URL."""
    param = f"known_speaker_references[{place}]"
    kind, _, data = value.partition(";base64,")
    try:
        content = b64decode(data, validate=True)
    except ValueError:
        content = b""
    if not kind.startswith("data:") or not content:
        raise HTTPError(400, f"'{param}' is no data URL in base64.", param=param, code="invalid_value")
    return _sound(content, kind[5:].lower() in _RAW, param)
