"""Images over a real socket: drawn from prompts, edited and varied from real uploads, whole, linked and streamed."""

from __future__ import annotations

import asyncio
import struct
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import AsyncOpenAI, BadRequestError, Client, NotFoundError
from openaiasync.server import (
    App,
    HTTPError,
    demo_app,
    serve,
)
from openaiasync.server.images import PictureStore
from openaiasync.server.models import DemoChat, DemoImage
from openaiasync.server.models.colours import COLOURS, name_of
from openaiasync.server.models.draw import enlarged, resized
from openaiasync.server.models.png import MAX_PIXELS, SIGNATURE, Picture, PngError, decode_png, encode_png

from .wire import Wire


def client_of(server: Any, **more: Any) -> Client:
    return Client(api_base=server.base_url, strict=True, **more)


def colour_at(picture: Picture, x: float, y: float) -> str:
    """The named colour at a place, both from 0 to 1."""
    place = (int(y * picture.height) * picture.width + int(x * picture.width)) * picture.channels
    pixel = picture.pixels[place : place + picture.channels]
    if picture.channels % 2 == 0 and pixel[-1] == 0:
        return "transparent"
    red, green, blue = pixel[:3] if picture.channels > 2 else pixel[:1] * 3
    return name_of(red, green, blue)


def filled(colour: str, width: int = 8, height: int = 6, channels: int = 3) -> Picture:
    pixel = bytes([*COLOURS[colour], 255])[:channels]
    return Picture(width, height, channels, pixel * (width * height))


RED = encode_png(filled("red"))


class TestPng:
    """The encoder and decoder on their own."""

    @given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.data())
    @settings(max_examples=60)
    def test_there_and_back_under_every_filter(self, width: int, height: int, channels: int, data: Any) -> None:
        """Any picture, its rows filtered in any way (ISO/IEC 15948, 9.2), comes back byte for byte."""
        size = width * channels
        pixels = data.draw(st.binary(min_size=size * height, max_size=size * height))
        picture = Picture(width, height, channels, pixels)
        assert decode_png(encode_png(picture)) == picture
        raw = bytearray()
        above = bytes(size)
        for start in range(0, len(pixels), size):
            row, kind = pixels[start : start + size], data.draw(st.integers(0, 4))
            raw.append(kind)
            raw += filtered(kind, row, above, channels)
            above = row
        assert decode_png(png(width, height, channels, zlib.compress(bytes(raw)))) == picture

    @pytest.mark.parametrize(
        "bad",
        [
            b"",
            b"GIF89a",
            SIGNATURE,
            RED[:-1],
            RED[:30] + b"\x01" + RED[31:],
            SIGNATURE + RED[33:],
        ],
    )
    def test_damaged_files(self, bad: bytes) -> None:
        with pytest.raises(PngError):
            decode_png(bad)

    @pytest.mark.parametrize(
        ("width", "height", "packed", "more"),
        [
            (0, 1, zlib.compress(b"\0"), {}),
            (2, 2, zlib.compress(bytes(13)), {}),
            (2, 2, zlib.compress(bytes(15)), {}),
            (2, 2, b"no zlib", {}),
            (2, 2, zlib.compress(b"\5" + bytes(13)), {}),
            (2, 2, zlib.compress(bytes(14)), {"depth": 16}),
            (2, 2, zlib.compress(bytes(14)), {"kind": 3}),
            (2, 2, zlib.compress(bytes(14)), {"interlacing": 1}),
            (MAX_PIXELS, 2, b"", {}),
            (2, 2, zlib.compress(bytes(100_000_000)), {}),
        ],
    )
    def test_impossible_pictures(self, width: int, height: int, packed: bytes, more: dict[str, int]) -> None:
        """Wrong sizes, kinds and filters are refused, and no bomb goes off."""
        with pytest.raises(PngError):
            decode_png(png(width, height, 3, packed, **more))


def png(
    width: int, height: int, channels: int, packed: bytes, depth: int = 8, kind: int | None = None, interlacing: int = 0
) -> bytes:
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if kind is None else kind
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlacing)),
        (b"tEXt", b"a\0b"),
        (b"IDAT", packed[:5]),
        (b"IDAT", packed[5:]),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def filtered(kind: int, row: bytes, above: bytes, channels: int) -> bytes:
    """The standard's filters, written from its formulas."""
    out = bytearray()
    for place, value in enumerate(row):
        a = row[place - channels] if place >= channels else 0
        b = above[place]
        c = above[place - channels] if place >= channels else 0
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, paeth)[kind]) & 255)
    return bytes(out)


class TestGenerate:
    """`image_generate` and `images.generate`."""

    def test_shows_what_the_prompt_says(self, tmp_path: Path) -> None:
        """Shapes and colours are where they should be; the same prompt gives the same picture, another another."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                prompt = "A red circle and a yellow square on a blue background"
                answer = await client.image_generate(prompt, size="256x256")
                assert answer.data is not None
                await answer.data[0].save(tmp_path / "a.png")
                data = (tmp_path / "a.png").read_bytes()
                picture = decode_png(data)
                assert (picture.width, picture.height) == (256, 256)
                assert colour_at(picture, 0.25, 0.5) == "red"
                assert colour_at(picture, 0.75, 0.5) == "yellow"
                assert colour_at(picture, 0.01, 0.01) == colour_at(picture, 0.5, 0.99) == "blue"
                assert answer.data[0].revised_prompt == "A red circle and a yellow square on a blue background."
                again = await client.images.generate(prompt=prompt, size="256x256", model="demo-image")
                assert again.data is not None
                assert await again.data[0].bytes() == data
                other = await client.image_generate("owls", size="256x256", n=3)
                assert other.data is not None
                assert len({await image.bytes() for image in other.data} | {data}) == 4

        run(main())

    def test_sizes_and_grounds(self) -> None:
        """By default 1,024 square; a transparent ground is one."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                answer = await client.image_generate("a green triangle", background="transparent")
                assert answer.data is not None
                picture = decode_png(await answer.data[0].bytes())
                assert (picture.width, picture.height, answer.size) == (1024, 1024, "1024x1024")
                assert (answer.background, answer.output_format) == ("transparent", "png")
                assert (colour_at(picture, 0.01, 0.01), colour_at(picture, 0.5, 0.5)) == ("transparent", "green")
                assert answer.usage is not None
                assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0
                wide = await client.image_generate("x", size="1792x1024")
                assert wide.size is None
                assert wide.data is not None
                assert decode_png(await wide.data[0].bytes()).width == 1792

        run(main())

    def test_links(self) -> None:
        """A link leads to the picture, for anybody, without the key; a wrong one is 404."""

        async def main() -> None:
            async with serve(demo_app(api_key="secret")) as server, client_of(server, api_key="secret") as client:
                answer = await client.image_generate("a house", size="256x256", response_format="url")
                assert answer.data is not None
                link = answer.data[0].url or ""
                data = await answer.data[0].bytes()
                assert decode_png(data).width == 256

                def fetch() -> tuple[str | None, bytes]:
                    with urllib.request.urlopen(link, timeout=10) as got:
                        return got.headers["content-type"], got.read()

                assert await asyncio.to_thread(fetch) == ("image/png", data)
                async with Wire(server) as wire:
                    assert (await wire.call("GET", "/v1/pictures/0.png")).error()["code"] == "not_found"
                    assert (await wire.call("GET", "/v1/models")).status == 401

        run(main())

    def test_stream(self) -> None:
        """Partial images become clearer; the last event has the whole one, the same as without a stream."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                prompt = "a purple diamond"
                async with client.image_generate.stream(prompt, partial_images=3) as stream:
                    events = [event async for event in stream]
                final = await stream.final()
                assert [event.type.partition(".")[2] for event in events] == ["partial_image"] * 3 + ["completed"]
                plain = await client.image_generate(prompt)
                assert final.data is not None
                assert plain.data is not None
                whole = await plain.data[0].bytes()
                assert await final.data[0].bytes() == whole
                target = decode_png(whole).pixels[::999]
                wrong = [
                    sum(map(int.__ne__, decode_png(await event.bytes()).pixels[::999], target)) for event in events
                ]
                assert wrong == sorted(wrong, reverse=True)
                assert wrong[0] > wrong[-1] == 0

        run(main())

    @pytest.mark.parametrize(
        ("params", "param", "code"),
        [
            ({"prompt": ""}, "prompt", "invalid_value"),
            ({"size": "1x1"}, "size", "invalid_value"),
            ({"n": 11}, "n", "invalid_value"),
            ({"output_format": "jpeg"}, "output_format", "invalid_value"),
            ({"partial_images": 1}, "partial_images", "invalid_value"),
            ({"model": "demo-chat"}, "model", "model_not_supported"),
            ({"model": "dall-e-9"}, "model", "model_not_found"),
            ({"extra_body": {"seed": 1}}, "seed", "unknown_parameter"),
        ],
    )
    def test_refused(self, params: dict[str, Any], param: str, code: str) -> None:
        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                whole: Any = {"prompt": "x", **params}
                with pytest.raises((BadRequestError, NotFoundError)) as caught:
                    await client.image_generate(whole)
                assert (caught.value.param, caught.value.code) == (param, code)

        run(main())

    @pytest.mark.parametrize(
        ("params", "param"), [({"size": "256x256"}, "size"), ({"response_format": "url"}, "response_format")]
    )
    def test_refused_streams(self, params: dict[str, Any], param: str) -> None:
        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                with pytest.raises(BadRequestError) as caught:
                    async with client.image_generate.stream("x", **params):
                        pass
                assert caught.value.param == param

        run(main())

    def test_without_an_image_model(self) -> None:
        """A server without one says that a model has to be named."""

        async def main() -> None:
            async with serve(App([DemoChat()])) as server, client_of(server) as client:
                with pytest.raises(BadRequestError) as caught:
                    await client.image_generate("x")
                assert caught.value.param == "model"

        run(main())

    def test_links_are_forgotten_when_there_is_no_room(self) -> None:
        store = PictureStore(max_kept=10)
        first, second = store.keep(b"x" * 6), store.keep(b"y" * 6)
        assert store.get(second) == b"y" * 6
        with pytest.raises(HTTPError):
            store.get(first)


class TestEdit:
    """`images.edit` and `images.create_variation`, with real uploads."""

    @pytest.mark.parametrize(
        ("prompt", "colour"),
        [
            ("Invert it", "turquoise"),
            ("make it grey", "grey"),
            ("paint it blue", "purple"),
            ("Add a green square", "green"),
        ],
    )
    def test_edits(self, prompt: str, colour: str, tmp_path: Path) -> None:
        """The upload is decoded, changed as the prompt says, and comes back in its own size."""
        path = tmp_path / "red.png"
        path.write_bytes(RED)

        async def main() -> None:
            async with serve(demo_app()) as server:
                async with AsyncOpenAI(
                    base_url=server.base_url, api_key="k", _strict_response_validation=True
                ) as client:
                    answer = await client.images.edit(image=path, prompt=prompt)
                    assert answer.data is not None
                    picture = decode_png(await answer.data[0].bytes())
                    assert (picture.width, picture.height) == (8, 6)
                    assert colour_at(picture, 0.5, 0.5) == colour

        run(main())

    def test_mask_spares_what_is_opaque(self) -> None:
        """Only where the mask is transparent the picture changes."""
        rows = b"".join((bytes(3) + b"\xff") * 4 + bytes(16) for _ in range(6))
        mask = encode_png(Picture(8, 6, 4, rows))

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                answer = await client.images.edit(image=[RED, RED], mask=mask, prompt="invert", n=2, size="256x256")
                assert answer.data is not None
                assert len(answer.data) == 2
                picture = decode_png(await answer.data[0].bytes())
                assert (picture.width, picture.height) == (256, 256)
                assert (colour_at(picture, 0.2, 0.5), colour_at(picture, 0.8, 0.5)) == ("red", "turquoise")
                assert answer.usage is not None
                assert answer.usage.input_tokens_details.image_tokens == 2

        run(main())

    def test_edits_stream(self) -> None:
        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                stream = await client.images.edit(image=RED, prompt="invert", stream=True, partial_images=1)
                events = [event async for event in stream]
                assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
                assert colour_at(decode_png(await events[1].bytes()), 0.5, 0.5) == "turquoise"

        run(main())

    def test_variations(self) -> None:
        """Other colours, not the same twice; grey pictures too."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                answer = await client.images.create_variation(image=RED, n=2)
                assert answer.data is not None
                pictures = [decode_png(await image.bytes()) for image in answer.data]
                assert [colour_at(picture, 0.5, 0.5) == "red" for picture in pictures] == [False, False]
                assert pictures[0] != pictures[1]
                grey = encode_png(Picture(1, 1, 1, b"\x20"))
                answer = await client.images.create_variation(image=grey, response_format="url")
                assert answer.data is not None
                assert decode_png(await answer.data[0].bytes()).pixels == b"\xdf"

        run(main())

    @pytest.mark.parametrize(
        ("params", "param"),
        [
            ({"image": b"no image"}, "image"),
            ({"image": RED[:-20]}, "image"),
            ({"mask": RED}, "mask"),
            ({"mask": encode_png(filled("red", 1, 1, 4))}, "mask"),
            ({"output_format": "webp"}, "output_format"),
            ({"prompt": ""}, "prompt"),
            ({"n": 0}, "n"),
        ],
    )
    def test_refused(self, params: dict[str, Any], param: str) -> None:
        """What is no PNG, damaged, or does not fit is named."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                with pytest.raises(BadRequestError) as caught:
                    await client.images.edit(**{"image": RED, "prompt": "invert", **params})
                assert caught.value.param == param

        run(main())

    def test_every_change_fits_every_kind(self) -> None:
        """Grey, grey with alpha, RGB and RGBA come back as what they are, alpha untouched; twice over is nothing."""
        model = DemoImage()
        for channels in range(1, 5):
            picture = Picture(3, 2, channels, bytes(range(10, 10 + 6 * channels)))
            for prompt in ("invert", "mirrored", "upside down", "grey", "blue", "add a red circle", "what?"):
                changed = model.edit(picture, prompt).picture
                assert (changed.channels, len(changed.pixels)) == (channels, len(picture.pixels))
                if channels % 2 == 0 and prompt in ("invert", "grey", "blue"):
                    assert changed.pixels[channels - 1 :: channels] == picture.pixels[channels - 1 :: channels]
                if prompt in ("invert", "mirrored", "upside down"):
                    assert changed != picture
                    assert model.edit(changed, prompt).picture == picture
            assert resized(enlarged(picture, 3), 3, 2) == picture
