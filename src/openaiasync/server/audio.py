"""Sound: speech from text, whole or in pieces, and transcripts of uploaded sound."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from ..core.model.media_types import audio_type
from ..lazy import resolve_annotations
from .context import RequestContext, event_of
from .errors import HTTPError
from .handlers import RegisteredHandler, open_handler
from .pieces import ContentDelta, plain
from .requests import SpeechRequest, TranscriptionRequest
from .tokens import count_texts
from .transcripts import WRITERS, Transcript, TranscriptSegment

if TYPE_CHECKING:
    from .app import Server

__all__ = ["create_speech", "create_transcription", "create_translation"]

_TEXT: Final = b"text/plain; charset=utf-8"
_BYTES_OF_A_TOKEN: Final = 2400  # bytes: 50 ms at 24 kHz, 16 bits
_MEDIA_TYPES: Final = {"pcm": b"audio/pcm", "mp3": b"audio/mpeg", "opus": b"audio/ogg", "aac": b"audio/aac"}


async def create_speech(app: Server, context: RequestContext) -> None:
    """Serve ``POST /audio/speech``: the handler returns or yields the bytes of the sound."""
    body = await app.read_body(context)
    handler = app.handlers.find("speech", body["model"])
    request = SpeechRequest(body, context)
    async with app.admitted(context):
        app.spend(context, count_texts([request.text]))
        if body.get("stream_format") == "sse":
            await context.send_events(_speech_events(handler, request))
        else:
            await context.send_pieces(_sound(handler, request), lambda first: _media_type(first, request.format))


def _media_type(first: bytes, requested_format: str | None) -> bytes:
    """Return the media type by the sound's first bytes, or else by the requested format."""
    found = audio_type(first)
    return (
        found.encode() if found is not None else _MEDIA_TYPES.get(requested_format or "", b"application/octet-stream")
    )


async def _sound(handler: RegisteredHandler, request: SpeechRequest) -> AsyncGenerator[bytes]:
    """Yield the bytes of the sound. Raises `TypeError` for anything else, `ValueError` if there are none."""
    made = False
    async with aclosing(open_handler(handler, request)) as items:
        async for item in items:
            data = item.tobytes() if hasattr(item, "tobytes") else item  # samples of NumPy and similar libraries
            if not isinstance(data, bytes | bytearray):
                raise TypeError(f"a speech handler returned or yielded {type(item).__name__} in place of bytes")
            if data:
                made = True
                yield bytes(data)
    if not made:
        raise ValueError("the speech handler made no sound")


async def _speech_events(handler: RegisteredHandler, request: SpeechRequest) -> AsyncGenerator[bytes]:
    size = 0
    async with aclosing(_sound(handler, request)) as pieces:
        async for piece in pieces:
            size += len(piece)
            delta = {"type": "speech.audio.delta", "audio": b64encode(piece).decode()}
            yield event_of(delta, "speech.audio.delta")
    given, made = count_texts([request.text]), -(-size // _BYTES_OF_A_TOKEN)
    usage = {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
    yield event_of({"type": "speech.audio.done", "usage": usage}, "speech.audio.done")


async def create_transcription(app: Server, context: RequestContext) -> None:
    """Serve ``POST /audio/transcriptions``."""
    body = await app.read_body(context)
    await _transcribe(app, context, body, "transcription")


async def create_translation(app: Server, context: RequestContext) -> None:
    """Serve ``POST /audio/translations``, with the model's handler of transcriptions if it has none of translations."""
    body = await app.read_body(context)
    await _transcribe(app, context, body, "translation", "transcription")


async def _transcribe(app: Server, context: RequestContext, body: dict[str, Any], kind: str, other: str = "") -> None:
    translate = context.operation == "audio.translations.create"
    form = _check_format(body)
    handler = app.handlers.find(kind, body["model"], other)
    request = TranscriptionRequest(body, context, translate)
    async with app.admitted(context):
        if body.get("stream"):
            app.spend(context, count_texts([request.prompt or ""]))
            await context.send_events(_transcript_events(handler, request, diarized=form == "diarized_json"))
            return
        async with context.presence():
            transcript = await _transcript(handler, request)
        usage = transcript.count(request.prompt)
        app.spend(context, int(usage.get("total_tokens", 0)))
        if form in WRITERS:
            await context.send_bytes(WRITERS[form](transcript).encode(), _TEXT)
        elif form == "verbose_json":
            wanted = body.get("timestamp_granularities") or ("segment",)
            answer = transcript.as_verbose(words="word" in wanted, segments="segment" in wanted)
            await context.send_json({name: one for name, one in answer.items() if not translate or name != "usage"})
        elif form == "diarized_json":
            await context.send_json(transcript.as_diarized())
        elif translate:
            await context.send_json({"text": transcript.text})
        else:
            await context.send_json(transcript.as_json(logprobs=bool(body.get("include"))))


def _check_format(body: dict[str, Any]) -> str:
    """Return the requested format. Raises `HTTPError` (400) for fields that are not allowed with it."""
    form: str = body.get("response_format") or "json"

    def refusal(param: str, message: str) -> HTTPError:
        return HTTPError(400, message, param=param, code="invalid_value")

    if body.get("timestamp_granularities") and form != "verbose_json":
        raise refusal("timestamp_granularities", "'timestamp_granularities' require the format verbose_json.")
    if body.get("include") and form != "json":
        raise refusal("include", "'include' requires the format json.")
    if body.get("stream") and form not in ("json", "text", "diarized_json"):
        raise refusal("stream", f"The format {form} cannot be streamed; json, text and diarized_json can.")
    names, references = body.get("known_speaker_names") or (), body.get("known_speaker_references") or ()
    if len(names) != len(references):
        raise refusal(
            "known_speaker_names", "'known_speaker_names' and 'known_speaker_references' must have the same length."
        )
    return form


async def _transcript(handler: RegisteredHandler, request: TranscriptionRequest) -> Transcript:
    """Return the handler's results as one transcript."""
    segments: list[TranscriptSegment] = []
    whole: Any = None
    async with aclosing(open_handler(handler, request, whole=True)) as items:
        async for item in items:
            if isinstance(item, str | ContentDelta | TranscriptSegment):
                segments.append(_segment(item))
            else:
                whole = plain(item)
    return Transcript(segments) if whole is None else Transcript.of(whole)


def _segment(item: str | ContentDelta | TranscriptSegment) -> TranscriptSegment:
    if isinstance(item, TranscriptSegment):
        return item
    return TranscriptSegment(item) if isinstance(item, str) else TranscriptSegment(item.text, logprob=item.logprob)


async def _transcript_events(
    handler: RegisteredHandler, request: TranscriptionRequest, *, diarized: bool
) -> AsyncGenerator[bytes]:
    logprobs = bool(request.body.get("include"))
    segments: list[TranscriptSegment] = []
    whole: Transcript | None = None
    async with aclosing(open_handler(handler, request)) as items:
        async for item in items:
            if isinstance(item, str | ContentDelta | TranscriptSegment):
                found = [_segment(item)]
            else:
                whole = Transcript.of(plain(item))
                found = [] if segments else whole.segments
            for segment in found:
                yield _delta(segment, len(segments), logprobs=logprobs, diarized=diarized)
                segments.append(segment)
    transcript = whole or Transcript(segments)
    transcript.count(request.prompt)
    for event in transcript.last_events(logprobs=logprobs, diarized=diarized):
        yield event


def _delta(segment: TranscriptSegment, number: int, *, logprobs: bool, diarized: bool) -> bytes:
    delta: dict[str, Any] = {"type": "transcript.text.delta", "delta": segment.text}
    if logprobs and segment.logprob is not None:
        token = segment.text
        delta["logprobs"] = [{"token": token, "logprob": segment.logprob, "bytes": list(token.encode())}]
    if diarized:
        delta["segment_id"] = f"seg_{number}"
    return event_of(delta, "transcript.text.delta")


resolve_annotations(__name__)
