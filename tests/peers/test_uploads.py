"""Uploads of ours and of the official client, side by side against one recording server: the same forms on the wire."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI
from scripted import Seen, json_answer, scripted

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of operations
official = pytest.importorskip("openai")

ODD = 'h\u00e9 "1"\\\r\n\x01%.wav'
CASES: dict[str, Callable[[Any, Path], Any]] = {
    "bytes": lambda c, p: c.audio.transcriptions.create(file=b"abc", model="m"),
    "no bytes": lambda c, p: c.audio.transcriptions.create(file=b"", model="m"),
    "a path": lambda c, p: c.audio.transcriptions.create(file=p, model="m"),
    "an open file": lambda c, p: c.audio.transcriptions.create(file=opened(p), model="m"),
    "a read file": lambda c, p: c.audio.transcriptions.create(file=at_end(io.BytesIO(b"12345")), model="m"),
    "a named file": lambda c, p: c.audio.transcriptions.create(file=named(io.BytesIO(b"1"), "/a/n.mp3"), model="m"),
    "name": lambda c, p: c.audio.transcriptions.create(file=("x.wav", b"a"), model="m"),
    "name, type": lambda c, p: c.audio.transcriptions.create(file=("x.wav", b"a", "audio/foo"), model="m"),
    "name, fields": lambda c, p: c.files.create(file=("x", b"a", "a/b", {"X-A": "b"}), purpose="batch"),
    "name, type in fields": lambda c, p: c.files.create(
        file=("x.png", b"a", None, {"Content-Type": "a/b"}), purpose="batch"
    ),
    "an odd name": lambda c, p: c.files.create(file=(ODD, p), purpose="batch"),
    "an unknown ending": lambda c, p: c.files.create(file=("x.unknown", b"a"), purpose="batch"),
    "nested": lambda c, p: c.files.create(
        file=b"a", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    ),
    "arrays and numbers": lambda c, p: c.audio.transcriptions.create(
        file=b"a",
        model="m\u00e9\r\n",
        chunking_strategy={"type": "server_vad", "threshold": 1.0},
        include=["logprobs"],
        temperature=0.5,
        timestamp_granularities=["word", "segment"],
    ),
    "stream": lambda c, p: c.audio.transcriptions.create(file=b"a", model="m", stream=False),
    "extra body": lambda c, p: c.files.create(
        file=b"a", purpose="batch", extra_body={"z": [1, True], "n": None, "q": {"a": {"b": 3.5}}, "l": [{"k": 1}]}
    ),
    "text formats": lambda c, p: c.audio.translations.create(file=b"a", model="m", response_format="srt"),
    "images": lambda c, p: c.images.edit(prompt="x", n=2, image=[b"a", ("b.png", b"b"), p], mask=b"m"),
    "an image": lambda c, p: c.images.edit(image=b"a", prompt="x"),
    "a variation": lambda c, p: c.images.create_variation(image=b"a", n=1),
    "an upload part": lambda c, p: c.uploads.parts.create("u/1", data=b"q"),
    "skills": lambda c, p: c.skills.create(files=[b"a", ("d/b.txt", b"b")]),
    "a skill": lambda c, p: c.skills.create(files=b"z"),
    "a container's file": lambda c, p: c.containers.files.create("c", file=b"a"),
    "a container's file id": lambda c, p: c.containers.files.create("c", file_id="f"),
}


def opened(path: Path) -> io.BytesIO:
    file = named(io.BytesIO(path.read_bytes()), str(path))
    file.read(2)
    return file


def at_end(file: io.BytesIO) -> io.BytesIO:
    file.read()
    return file


def named(file: io.BytesIO, name: str) -> io.BytesIO:
    class Named(io.BytesIO):
        pass

    made = Named(file.getvalue())
    made.name = name  # type: ignore[attr-defined]
    return made


def normal(seen: Seen) -> tuple[str, str, str, list[bytes] | bytes]:
    """What matters of a request: a form's parts byte by byte, in any order of different names."""
    kind = seen.headers["content-type"]
    found = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{32})", kind)
    if found is None:
        return seen.method, seen.target, kind, seen.body
    boundary = found[1].encode()
    first, *parts, last = (b"\r\n" + seen.body).split(b"\r\n--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    assert int(seen.headers["content-length"]) == len(seen.body)

    def name(part: bytes) -> bytes:
        return part.partition(b'name="')[2].partition(b'"')[0]

    return seen.method, seen.target, "multipart", sorted(parts, key=name)  # stable: equal names keep their order


@pytest.mark.parametrize("case", CASES)
def test_the_same_form(case: str, tmp_path: Path) -> None:
    """Byte for byte the same parts, but for the boundary.

    A file without a name, ``(None, b"...")``, is not among them: it gets one here, see `tests/core/test_multipart.py`.
    """
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF\x00sound")

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"text": "x", "id": "f", "data": [{"b64_json": "eA=="}]}))

    async def main() -> list[Seen]:
        async with scripted(script) as server:
            for kind in (official.AsyncOpenAI, AsyncOpenAI):
                async with kind(base_url=server.url, api_key="k", max_retries=0) as client:
                    await CASES[case](client, path)
            return server.seen

    theirs, ours = run(main())
    assert normal(ours) == normal(theirs)


@pytest.mark.parametrize("file", ["text", 3, None, io.StringIO("x"), Path("/no/such/file"), Path("/")])
def test_the_same_files_are_refused(file: Any) -> None:
    """What the official client does not upload, we do not upload either: nothing is sent by any of both."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"id": "f"}))

    async def main() -> None:
        async with scripted(script) as server:
            for kind in (official.AsyncOpenAI, AsyncOpenAI):
                async with kind(base_url=server.url, api_key="k", max_retries=0) as client:
                    with pytest.raises((TypeError, OSError, RuntimeError)):
                        await client.files.create(file=file, purpose="batch")
            assert not server.seen

    run(main())
