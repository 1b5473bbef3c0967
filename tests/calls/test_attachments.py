"""Sound and images inside requests; images are held to what they become by test_vision.py."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync.calls.attachments import audio_parts, sources
from openaiasync.calls.binary import BinaryAnswer

WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(20)
MP3 = b"ID3\x04" + bytes(20)
FLAC = b"fLaC" + bytes(20)


def parts(given: Any) -> list[dict[str, Any]]:
    return run(audio_parts(sources(given, "sound", "say()"), "say()"))


def part(data: bytes, form: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


def test_sound_by_its_bytes(tmp_path: Path) -> None:
    """Paths, texts that are paths, bytes, files from their beginning, answers with sound; names are not asked."""
    path = tmp_path / "named.ogg"
    path.write_bytes(MP3)
    file = io.BytesIO(WAV)
    file.read(7)
    answer = BinaryAnswer(WAV, None)  # type: ignore[arg-type]
    given = [path, str(path), memoryview(WAV), bytearray(MP3), file, answer]
    assert parts(given) == [part(data, form) for data, form in [(MP3, "mp3")] * 2 + [(WAV, "wav")]] + [
        part(MP3, "mp3"),
        part(WAV, "wav"),
        part(WAV, "wav"),
    ]


@pytest.mark.parametrize(
    ("given", "kind", "complaint"),
    [
        (FLAC, ValueError, r"say\(\): the sound is no WAV or MP3 \(24 bytes, audio/flac\)"),
        (b"hello", ValueError, "5 bytes, none that is known"),
        (io.StringIO("x"), TypeError, "not open in binary mode"),
        ("missing.wav", FileNotFoundError, "missing.wav"),
        ([], ValueError, "there is no sound in the list"),
        ([b""], ValueError, "a sound is empty, or its path is"),
        (7, TypeError, "int is no sound; pass a path, bytes, or a file opened in binary mode"),
        ("data:audio/wav;base64,AAAA", ValueError, "cannot be a URL"),
    ],
)
def test_what_is_no_sound_says_so(given: Any, kind: Any, complaint: str) -> None:
    """With the way it was given and what it is."""
    with pytest.raises(kind, match=complaint):
        parts(given)
