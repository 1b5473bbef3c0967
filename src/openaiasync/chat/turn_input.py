"""The user's message of a turn: words, images and sound, checked at once and read when the turn begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ..engine.attachments import (
    AudioSource,
    ImageSource,
    ReadingTime,
    audio_parts,
    image_urls,
    sources,
)
from ..engine.engine import Engine
from .history import Message, check_messages, plain_messages

__all__ = ["TurnInput"]


class TurnInput:
    """What the user says in one turn."""

    def __init__(
        self,
        text: str | Sequence[Any] | None,
        images: ImageSource | Sequence[ImageSource] | None,
        audio: AudioSource | Sequence[AudioSource] | None,
        where: str,
    ) -> None:
        """`TypeError` or `ValueError` for what can be no message; `where` begins their text."""
        self._where = where
        self._images: list[Any] = _given(images, "image", where)
        self._audio: list[Any] = _given(audio, "sound", where)
        self._content: str | list[Any] = _content(text, where)
        if not self._content and not self._images and not self._audio:
            raise ValueError(f"{where}: there is nothing to say: no text, no images, no audio")

    async def message(self, calls: Engine, params: Mapping[str, Any]) -> Message:
        """The message. Reads files: raises `OSError`, `ValueError` for what is no image or no sound, and a timeout."""
        if not self._images and not self._audio:
            return {"role": "user", "content": self._content}
        content = self._content
        parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) and content else []
        if not isinstance(content, str):
            parts += content
        time = ReadingTime(calls, params, "/chat/completions", self._where)
        urls = await image_urls(self._images, self._where, time)
        parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        parts += await audio_parts(self._audio, self._where, time)
        return {"role": "user", "content": parts}


def _given(value: Any, kind: str, where: str) -> list[Any]:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return []
    return sources(value, kind, where)


def _content(text: Any, where: str) -> str | list[Any]:
    if text is None or isinstance(text, str):
        return text or ""
    if isinstance(text, (list, tuple)):
        made = plain_messages([{"role": "user", "content": text}])
        check_messages(made)
        parts: list[Any] = made[0]["content"]
        if parts and all(isinstance(part, dict) and "type" in part for part in parts):
            return parts
    kind = type(cast("object", text)).__name__
    raise TypeError(f"{where} takes the user's words, or a list of content parts (dicts with a type), not {kind}")
