"""The fields of requests for images, sound and files, and their checks."""

from __future__ import annotations

from typing import Any

from .errors import HTTPError
from .validation import (
    Fields,
    anything,
    flag,
    is_object,
    items,
    mapping,
    number,
    one_of,
    pattern,
    text,
    upload,
    whole,
    wrong,
)

__all__ = ["EDIT", "FILE", "GENERATE", "SPEECH", "TRANSCRIPTION", "TRANSLATION", "VARIATION", "check_voice"]

_SIZE = one_of(
    "auto", "256x256", "512x512", "1024x1024", "1024x1536", "1536x1024", "1024x1792", "1792x1024"
)  # fmt: skip
_PROMPT_LENGTH = 32_000  # characters


def _prompt(value: Any, param: str) -> None:
    text(value, param)
    if not 1 <= len(value) <= _PROMPT_LENGTH:
        message = f"'{param}' must have from 1 to {_PROMPT_LENGTH} characters, not {len(value)}."
        raise HTTPError(400, message, param=param, code="invalid_value")


def check_voice(value: Any, param: str) -> None:
    """A name, or an object with an id."""
    if is_object(value):
        text(value.get("id"), f"{param}.id")
    elif type(value) is not str:
        raise wrong(param, "a string or an object", value)


VARIATION: Fields = {
    "model": text,
    "image": items(upload, at_least=1, at_most=1),
    "n": whole(1, 10),
    "response_format": one_of("url", "b64_json"),
    "size": _SIZE,
    "user": text,
}

_IMAGE: Fields = {
    "model": text,
    "prompt": _prompt,
    "n": whole(1, 10),
    "background": one_of("transparent", "opaque", "auto"),
    "output_compression": whole(0, 100),
    "output_format": one_of("png"),
    "partial_images": whole(0, 3),
    "quality": one_of("standard", "hd", "low", "medium", "high", "auto"),
    "response_format": one_of("url", "b64_json"),
    "size": _SIZE,
    "stream": flag,
    "user": text,
}

GENERATE: Fields = {**_IMAGE, "moderation": one_of("low", "auto"), "style": one_of("vivid", "natural")}

EDIT: Fields = {
    **_IMAGE,
    "image": items(upload, at_least=1, at_most=16),
    "mask": upload,
    "input_fidelity": one_of("high", "low"),
}

SPEECH: Fields = {
    "model": text,
    "input": text,
    "voice": check_voice,
    "instructions": text,
    "response_format": one_of("wav", "pcm"),
    "speed": number(0.25, 4),
    "stream_format": one_of("sse", "audio"),
}

TRANSLATION: Fields = {
    "file": upload,
    "model": text,
    "prompt": text,
    "response_format": one_of("json", "text", "srt", "verbose_json", "vtt"),
    "temperature": number(0, 1),
}

TRANSCRIPTION: Fields = {
    **TRANSLATION,
    "chunking_strategy": anything,
    "include": items(one_of("logprobs")),
    "keywords": items(text),
    "known_speaker_names": items(text, at_most=4),
    "known_speaker_references": items(text, at_most=4),
    "language": pattern(r"[a-z]{2,3}(?:-[A-Za-z]{2,4})?", "a language's code (ISO 639-1)"),
    "languages": items(text),
    "response_format": one_of("json", "text", "srt", "verbose_json", "vtt", "diarized_json"),
    "stream": flag,
    "timestamp_granularities": items(one_of("word", "segment")),
}

FILE: Fields = {
    "file": upload,
    "purpose": one_of("assistants", "batch", "fine-tune", "vision", "user_data", "evals"),
    "expires_after": mapping,
}
