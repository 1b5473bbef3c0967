"""Sounds and images without a name: every method gives them a name and a type by their first bytes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client
from openaiasync.core.model.media_types import audio_type, media_type_of
from openaiasync.endpoints import AUDIO_TRANSCRIPTIONS_CREATE
from openaiasync.engine.uploads import with_upload
from scripted import CHAT, Seen, json_answer, scripted

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
ANSWERS = {
    "audio": {"text": "hello"},
    "images": {"created": 1, "data": [{"b64_json": "QQ=="}]},
    "files": {"id": "f", "object": "file"},
    "chat": CHAT,
}


class Pipe(io.RawIOBase):
    """What cannot be rewound, and gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(max(20, min(size, 50)))


class Spooled(io.BytesIO):
    """A `SpooledTemporaryFile` has no name."""

    name = None


def pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 40):
        yield data[at : at + 40]


FORMS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "BytesIO": io.BytesIO,
    "a spooled file": Spooled,
    "a tuple without a name": lambda data: (None, data),
    "a tuple with an empty name": lambda data: ("", data),
    "a tuple with a file": lambda data: (None, io.BytesIO(data)),
}
CALLS: dict[str, tuple[bytes, str, str, Callable[[Any, Any], Any]]] = {
    "speech_to_text": (WAV, "upload.wav", "audio/wav", lambda c, f: c.speech_to_text(f)),
    "transcriptions": (WAV, "upload.wav", "audio/wav", lambda c, f: c.audio.transcriptions.create(model="m", file=f)),
    "translations": (WAV, "upload.wav", "audio/wav", lambda c, f: c.audio.translations.create(model="m", file=f)),
    "edit": (PNG, "upload.png", "image/png", lambda c, f: c.images.edit(model="m", image=f, prompt="x")),
    "several": (PNG, "upload.png", "image/png", lambda c, f: c.images.edit(model="m", image=[f], prompt="x")),
    "variation": (PNG, "upload.png", "image/png", lambda c, f: c.images.create_variation(model="m", image=f)),
    "files": (PNG, "upload.png", "image/png", lambda c, f: c.files.create(file=f, purpose="vision")),
}


async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(json_answer(next(value for name, value in ANSWERS.items() if f"/v1/{name}" in seen.target)))


async def sent(act: Callable[[Any], Any], *, official: bool = False) -> bytes:
    async with scripted(script) as server:
        if official:
            async with AsyncOpenAI(base_url=server.url, api_key="k") as theirs:
                await act(theirs)
        else:
            async with Client(api_base=server.url, model="m") as client:
                await act(client)
        return server.seen[0].body


async def written(endpoint: Any, params: dict[str, Any]) -> bytes:
    """What the body of a request without a length is."""
    request = await with_upload(endpoint.request(params))
    return b"".join([piece async for piece in request.body.open()])


@pytest.mark.parametrize("form", FORMS)
def test_unnamed_files(form: str) -> None:
    """Whatever holds it, an unnamed sound or image goes out as a file that says what it is, whole."""

    async def main() -> None:
        for name, (data, file_name, kind, call) in CALLS.items():
            for official in (False, True):
                if official and name == "speech_to_text":
                    continue
                file = FORMS[form](data)
                body = await sent(lambda client, call=call, file=file: call(client, file), official=official)
                head = f'filename="{file_name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
                assert head + data + b"\r\n" in body, name

    run(main())


def test_what_cannot_be_rewound_is_named_when_it_is_sent() -> None:
    """Pipes and generators are read once: their first bytes name them on the way."""
    head = b'name="file"; filename="upload.wav"\r\nContent-Type: audio/wav\r\n\r\n'

    async def main() -> None:
        for file in (Pipe(WAV), (None, Pipe(WAV)), pieces(WAV)):
            assert head + WAV + b"\r\n" in await written(AUDIO_TRANSCRIPTIONS_CREATE, {"model": "m", "file": file})
        with pytest.raises(TypeError, match="must be bytes, not str"):
            await written(AUDIO_TRANSCRIPTIONS_CREATE, {"model": "m", "file": iter([b"x", "y"])})
        body = await sent(lambda client: client.images.edit(image=(one for one in (PNG, PNG)), prompt="x"))
        assert body.count(b'name="image[]"; filename="upload.png"') == 2

    run(main())


def test_names_that_were_given_stay(tmp_path: Path) -> None:
    """A path or a file without an ending gets one; what the caller named is sent as it is named."""
    bare = tmp_path / "recording"
    bare.write_bytes(WAV)
    odd = tmp_path / "talk.mp3"
    odd.write_bytes(WAV)

    async def main() -> None:
        files: list[tuple[Any, str, str]] = [
            (bare, "recording.wav", "audio/wav"),
            (odd, "talk.mp3", "audio/mpeg"),
            (("mine", WAV), "mine", "audio/wav"),
            (("mine.bin", WAV), "mine.bin", "application/octet-stream"),
            ((None, WAV, "audio/flac"), "upload.flac", "audio/flac"),
            (b"neither", "upload", "application/octet-stream"),
        ]
        with bare.open("rb") as opened:
            for file, name, kind in [*files, (opened, "recording.wav", "audio/wav")]:
                body = await sent(lambda client, file=file: client.speech_to_text(file))
                assert f'filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode() in body

    run(main())


def test_named_images_in_a_request() -> None:
    """`vision` takes the tuples that uploads take, and what is iterated is several images."""

    async def main() -> None:
        for image, count in (((None, PNG), 1), (("a.png", io.BytesIO(PNG)), 1), (iter([PNG, (None, PNG)]), 2)):
            body = await sent(lambda client, image=image: client.vision(image, "What is it?"))
            assert body.count(b"data:image/png;base64,") == count

    run(main())


def test_images_in_the_boxes_of_sound() -> None:
    """AVIF and HEIC begin like MP4, and are not sound."""
    assert audio_type(b"\0\0\0\x20ftypM4A \0\0\0\0") == "audio/mp4"
    for brand in (b"avif", b"heic", b"mif1"):
        assert media_type_of(b"\0\0\0\x20ftyp" + brand) is None
