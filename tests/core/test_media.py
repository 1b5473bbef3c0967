"""Media types told by how bytes begin, and only by that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.core.model.media_types import (
    SNIFFED,
    audio_type,
    extension,
    image_type,
)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
        (b"\xff\xd8\xff\xe0JFIF", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
        (b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00", "image/bmp"),
        (b"BMW is a make of cars, not an image", None),
        (b"RIFF\x01\x02\x03\x04WAVEfmt ", None),
        (b"\x89PNG", None),
        (b"<svg xmlns=", None),
        (b"", None),
    ],
)
def test_images(data: bytes, kind: str | None) -> None:
    """The image formats of the API are recognised; data that only resembles one is not."""
    assert image_type(data) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"RIFF\x01\x02\x03\x04WAVEfmt ", "audio/wav"),
        (b"ID3\x04\x00", "audio/mpeg"),
        (b"\xff\xfb\x90\x44", "audio/mpeg"),
        (b"\xff\xf3\x40\xc0", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xf9\x50\x80", "audio/aac"),
        (b"fLaC\x00", "audio/flac"),
        (b"OggS\x00", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3\x01", "audio/webm"),
        (b"\x00\x00\x00\x20ftypM4A ", "audio/mp4"),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff\xff\xff\xff", None),
        (b"\xff", None),
        (b"text", None),
        (b"", None),
    ],
)
def test_sound(data: bytes, kind: str | None) -> None:
    """The audio formats of the API are recognised; an image or text is not."""
    assert audio_type(data) == kind


@given(st.binary(max_size=200))
def test_the_beginning_is_enough(data: bytes) -> None:
    """Any bytes have an answer, and what follows the beginning does not change it."""
    assert image_type(data) == image_type(data[:SNIFFED])
    assert audio_type(data) == audio_type(data[:SNIFFED])
    assert image_type(data) is None or audio_type(data) is None


def test_endings_of_names() -> None:
    """Every type that is told has a usual ending; parameters and case do not matter."""
    assert extension("Audio/MPEG; rate=1") == "mp3"
    assert extension("audio/x-wav") == "wav"
    assert extension("image/jpeg") == "jpg"
    assert extension("application/octet-stream") is None
