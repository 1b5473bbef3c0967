"""Sound and images inside requests; images are held to what they become by test_vision.py."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from faults.invariants import at_rest
from openaiasync import APITimeoutError, Client
from openaiasync.engine import attachments
from openaiasync.engine.attachments import ReadingTime, audio_parts, sources
from openaiasync.engine.binary import BinaryAnswer
from scripted import CHAT, json_answer
from wireserver import Peer, Server

WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(20)
MP3 = b"ID3\x04" + bytes(20)
FLAC = b"fLaC" + bytes(20)


def parts(given: Any) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        async with Client(api_base="http://127.0.0.1:1") as client:
            time = ReadingTime(client._calls, {}, "/chat/completions", "say()")
            return await audio_parts(sources(given, "sound", "say()"), "say()", time)

    return run(main())


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
        (FLAC, ValueError, r"say\(\): the sound is not a WAV or MP3, which chats accept \(24 bytes, audio/flac\)"),
        (b"hello", ValueError, "5 bytes, unknown format"),
        (io.StringIO("x"), TypeError, "not open in binary mode"),
        ("missing.wav", FileNotFoundError, "missing.wav"),
        ([], ValueError, "the list of sounds is empty"),
        ([b""], ValueError, "a sound is empty, or its path is"),
        (7, TypeError, "int is not a valid sound; pass a path, bytes, or a file opened in binary mode"),
        ("data:audio/wav;base64,AAAA", ValueError, "cannot be a URL"),
    ],
)
def test_what_is_no_sound_says_so(given: Any, kind: Any, complaint: str) -> None:
    """With the way it was given and what it is."""
    with pytest.raises(kind, match=complaint):
        parts(given)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
Way = Callable[[Client, Any, dict[str, Any]], Awaitable[Any]]


async def vision(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.vision(given, "what?", **options)


async def vision_stream(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.vision.stream(given, "what?", **options).final()


async def session_image(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.chat.session().say("what?", images=given, **options)


async def session_sound(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.chat.session().say("what?", audio=given, **options)


async def upload(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.files.create(file=given, purpose="batch", **options)


async def transcription(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.speech_to_text(given, model="m", **options)


async def parts_of_upload(client: Client, given: Any, options: dict[str, Any]) -> Any:
    return await client.uploads.upload_file_chunked(
        file=given, filename="a", mime_type="text/plain", purpose="batch", bytes=10, **options
    )


INSIDE: list[Way] = [vision, vision_stream, session_image, session_sound]
EVERY: list[Way] = [*INSIDE, upload, transcription, parts_of_upload]


def with_server(act: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def answering(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(json_answer(CHAT))

    async def main() -> None:
        async with Server(answering) as server:
            url = f"http://127.0.0.1:{server.port}/v1"
            async with Client(api_base=url, model="m", max_retries=0, **options) as client:
                await act(client)
                assert at_rest(client) == []

    run(main(), timeout=20)


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("what", ["pipe", "/dev/zero", "directory", "missing"])
def test_a_path_that_is_not_a_file(tmp_path: Path, way: Way, what: str) -> None:
    """`OSError` that names it, at once, wherever a path is taken: opening a pipe would wait for ever."""
    path = tmp_path / "odd"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what.startswith("/"):
        path = Path(what)

    async def act(client: Client) -> None:
        with pytest.raises(OSError, match=r"not a regular file|directory|No such file") as caught:
            await way(client, path, {})
        assert str(caught.value.filename) == str(path)

    with_server(act)


@pytest.mark.parametrize("way", INSIDE)
@pytest.mark.parametrize("form", ["path", "open", "growing"])
def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, form: str) -> None:
    """A sparse file of 3 GB by its size, an open one and an endless one while it is read."""
    path = tmp_path / "huge.png"
    path.write_bytes(PNG)
    os.truncate(path, 3_000_000_000)
    if form != "path":
        monkeypatch.setattr(attachments, "MAX_ATTACHMENT", 5_000_000)

    async def act(client: Client) -> None:
        with pytest.raises(ValueError, match=r"is larger than the limit of [0-9,]+ bytes"):
            await way(client, path if form == "path" else file, {})

    with open("/dev/zero" if form == "growing" else path, "rb") as file:
        with_server(act)


class Silent(io.RawIOBase):
    """An open file that gives nothing until it is let go, as a pipe whose writer sleeps."""

    name = "silent"

    def __init__(self) -> None:
        self.gone = threading.Event()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.gone.wait(15)
        return b""


@pytest.mark.parametrize("way", EVERY)
@pytest.mark.parametrize("where", ["call", "client"])
def test_reading_ends_with_the_deadline(way: Way, where: str) -> None:
    """Of the call or of the client; the thread that still reads holds up neither the loop's end nor other calls."""
    files: list[Silent] = []

    async def act(client: Client) -> None:
        began = asyncio.get_running_loop().time()
        files.append(Silent())
        with pytest.raises(APITimeoutError) as caught:
            await way(client, files[0], {"deadline": 0.3} if where == "call" else {})
        assert caught.value.clock == "deadline"
        assert asyncio.get_running_loop().time() - began < 5

    try:
        with_server(act, **({} if where == "call" else {"http_deadline": 0.3}))
    finally:
        for file in files:
            file.gone.set()


def test_many_blocked_reads_block_nobody_else(tmp_path: Path) -> None:
    """More than the event loop's executor has threads: a file on the disk is read all the same."""
    import asyncio

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    files = [Silent() for _ in range(40)]

    async def act(client: Client) -> None:
        blocked = [asyncio.create_task(client.vision(file, "what?")) for file in files]
        await asyncio.sleep(0.1)
        assert (await client.vision(path, "what?")).text == "Hello."
        for task in blocked:
            task.cancel()
        await asyncio.wait(blocked)

    try:
        with_server(act)
    finally:
        for file in files:
            file.gone.set()
