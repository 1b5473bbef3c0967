"""Images in chats: `client.vision` and `image_url` parts over a real socket."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import BadRequestError, Client
from openaiasync.server import demo_app, serve
from openaiasync.server.models.colours import COLOURS
from openaiasync.server.models.png import MAX_PIXELS, Picture, encode_png
from openaiasync.server.models.sight import look

PNG = encode_png(Picture(4, 4, 3, bytes(COLOURS["red"]) * 12 + bytes(COLOURS["blue"]) * 4))
GIF = b"GIF89a" + struct.pack("<HH", 320, 200) + bytes(10)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(10) + b"\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", 480, 640) + bytes(20)
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x01\0"
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 99 | 49 << 14)
LOSSY = b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 33, 44)
BMP = b"BM" + bytes(8) + bytes(4) + struct.pack("<Iii", 40, 7, -9) + bytes(20)


def client_of(server: Any) -> Client:
    return Client(api_base=server.base_url, model="demo-chat", strict=True)


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (PNG, ("PNG", 4, 4)),
        (GIF, ("GIF", 320, 200)),
        (JPEG, ("JPEG", 640, 480)),
        (WEBP, ("WebP", 1024, 512)),
        (LOSSLESS, ("WebP", 100, 50)),
        (LOSSY, ("WebP", 33, 44)),
        (BMP, ("BMP", 7, 9)),
    ],
)
def test_formats_and_sizes(data: bytes, seen: tuple[str, int, int]) -> None:
    """Told by the bytes alone."""
    sight = look(data)
    assert (sight.format, sight.width, sight.height) == seen


def test_pictures_that_are_not_decoded() -> None:
    """A PNG too large or of another kind still has a size; a damaged one, and heads without a size, have none."""
    wide = bytearray(PNG)
    wide[16:24] = struct.pack(">II", MAX_PIXELS, 2)
    wide[29:33] = struct.pack(">I", zlib.crc32(bytes(wide[12:29])))
    assert (look(bytes(wide)).width, look(bytes(wide)).colours) == (MAX_PIXELS, ())
    for bad in (b"", b"text", PNG[:-3], GIF[:6], JPEG[:12], WEBP[:20], LOSSY[:22], b"\xff\xd8\xff" + b"\xff" * 1000):
        with pytest.raises(ValueError, match=r"^it "):
            look(bad)


def test_answers_what_is_asked(tmp_path: Path) -> None:
    """Size, colours, format, or all of it; of paths, bytes and several images; whole and streamed."""
    path = tmp_path / "a.gif"
    path.write_bytes(GIF)

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            whole = "The image is a PNG of 4 by 4 pixels, mostly red (75%) and blue (25%)."
            assert (await client.vision(PNG, "What do you see?")).text == whole
            assert (await client.vision(PNG, "What is this?")).text == whole
            assert (
                await client.vision(PNG, "Which colours are there?")
            ).text == "The image is mostly red (75%) and blue (25%)."
            assert (
                await client.vision(str(path), "How big is this picture?")
            ).text == "The image is 320 by 200 pixels."
            both = await client.vision([PNG, path], "Describe the format.")
            assert both.text == "The first image is a PNG. The second image is a GIF."
            assert (await client.vision([PNG, path], "How many images?")).text == "There are 2 images."
            async with client.vision.stream(PNG, "Describe it") as stream:
                pieces = [chunk async for chunk in stream]
            assert (await stream.final()).text == whole
            assert len(pieces) > 10
            assert (await client.vision(PNG, "What is 2 + 2?")).text == "2 + 2 = 4."

    run(main())


def test_sees_what_was_drawn() -> None:
    """A picture that `demo-image` drew is recognised by `demo-chat`."""

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            drawn = await client.image_generate("a yellow sun on a blue sky", size="256x256", model="demo-image")
            assert drawn.data is not None
            answer = await client.vision(await drawn.data[0].bytes(), "What do you see?")
            assert answer.text.startswith("The image is a PNG of 256 by 256 pixels, mostly blue (")
            assert " and yellow (" in answer.text
            assert answer.usage is not None
            assert answer.usage.prompt_tokens > 85

    run(main())


def test_remembers_images() -> None:
    """A later question about the image is answered; other later questions are not taken for one."""
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    talk: list[Any] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        {"role": "assistant", "content": "Nice."},
    ]

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            later = await client.chat([*talk, {"role": "user", "content": "What format has the image?"}])
            assert later.text == "The image is a PNG."
            assert (await client.chat([*talk, {"role": "user", "content": "What is 3 * 3?"}])).text == "3 * 3 = 9."

    run(main())


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/a.png", "invalid_image_url"),
        ("data:", "invalid_image_url"),
        ("data:image/png;base64,", "invalid_image_url"),
        ("data:image/png;base64,????", "invalid_image_url"),
        ("data:image/png;base64,aGVsbG8=", "invalid_image"),
        (f"data:image/png;base64,{base64.b64encode(PNG[:-4]).decode()}", "invalid_image"),
    ],
)
def test_bad_urls(url: str, code: str) -> None:
    """Each is a 400 that names its place in the messages."""

    async def main() -> None:
        async with serve(demo_app()) as server, client_of(server) as client:
            with pytest.raises(BadRequestError) as caught:
                await client.vision(url, "What is this?")
            assert caught.value.param == "messages[0].content[1].image_url.url"
            assert caught.value.code == code

    run(main())
