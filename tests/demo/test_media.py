"""The demo's pictures and sounds: they are what was asked for, and what the demo made it recognises."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI, BadRequestError, Client
from openaiasync.demo import demo_app
from openaiasync.demo.draw import COLOURS
from openaiasync.demo.media import describe_image, describe_sound, encode_png, size_of_image, text_of_image
from openaiasync.server import serve

RED = encode_png(4, 4, 3, (b"\0" + bytes(COLOURS["red"]) * 4) * 4, "")
GIF = b"GIF89a" + struct.pack("<HH", 320, 200) + bytes(10)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(10) + b"\xff\xff\xc0\0\x11\x08" + struct.pack(">HH", 480, 640) + bytes(20)
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x03\0\xff\x01\0"
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 99 | 49 << 14)
LOSSY = b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 33, 44)
BMP = b"BM" + bytes(8) + bytes(4) + struct.pack("<Iii", 40, 7, -9) + bytes(20)
TWO = "How are you? I am well, thanks."


def client_of(server: Any, **more: Any) -> Client:
    return Client(api_base=server.base_url, model="demo", strict=True, **more)


def pixel(png: bytes, x: float, y: float) -> tuple[int, ...]:
    """The pixel at a place, both from 0 to 1, of a PNG without filters."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    channels = 4 if kind == 6 else 3
    packed, place = b"", 8
    while place < len(png):
        size = int.from_bytes(png[place : place + 4], "big")
        packed += png[place + 8 : place + 8 + size] if png[place + 4 : place + 8] == b"IDAT" else b""
        place += 12 + size
    rows = zlib.decompress(packed)
    start = int(y * height) * (width * channels + 1) + 1 + int(x * width) * channels
    return tuple(rows[start : start + channels])


class TestPictures:
    """`image_generate`, edits and variations, and `vision` on what they make."""

    def test_shows_what_the_prompt_says(self) -> None:
        """Shapes and colours are where they should be; the same prompt gives the same picture, another another."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                prompt = "A red circle and a yellow square on a blue background"
                answer = await client.image_generate(prompt, size="256x256")
                assert answer.data is not None
                data = await answer.data[0].bytes()
                assert size_of_image(data) == (256, 256)
                assert pixel(data, 0.25, 0.5) == COLOURS["red"]
                assert pixel(data, 0.75, 0.5) == COLOURS["yellow"]
                assert pixel(data, 0.01, 0.01) == pixel(data, 0.5, 0.99) == COLOURS["blue"]
                assert text_of_image(data) == prompt
                assert answer.data[0].revised_prompt == "A red circle and a yellow square on a blue background."
                again = await client.image_generate(prompt, size="256x256")
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
                answer = await client.image_generate("a green square", background="transparent")
                assert answer.data is not None
                data = await answer.data[0].bytes()
                assert (size_of_image(data), answer.background) == ((1024, 1024), "transparent")
                assert pixel(data, 0.01, 0.01) == (0, 0, 0, 0)
                assert pixel(data, 0.5, 0.5) == (*COLOURS["green"], 255)
                wide = await client.image_generate("x", size="1792x1024")
                assert wide.data is not None
                assert size_of_image(await wide.data[0].bytes()) == (1792, 1024)

        run(main())

    def test_a_stream_becomes_clearer(self) -> None:
        """Unfinished pictures come before the whole one, which is the same as without a stream."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                prompt = "a purple diamond"
                async with client.image_generate.stream(prompt, partial_images=3, size="256x256") as stream:
                    events = [event async for event in stream]
                kinds = [event.type.partition(".")[2] for event in events]
                assert kinds == ["partial_image"] * 3 + ["completed"]
                pictures = [await event.bytes() for event in events]
                plain = await client.image_generate(prompt, size="256x256")
                assert plain.data is not None
                assert await plain.data[0].bytes() == pictures[-1]
                spots = [(x / 40, y / 40) for x in range(40) for y in range(40)]
                wrong = [sum(pixel(one, *spot) != pixel(pictures[-1], *spot) for spot in spots) for one in pictures]
                assert wrong == sorted(wrong, reverse=True)
                assert wrong[0] > wrong[-1] == 0

        run(main())

    def test_edits_say_what_was_added(self) -> None:
        """An edit and a variation are pictures of the upload's words, and `vision` recognises all of them."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                made = await client.image_generate("a yellow sun on a blue sky", size="256x256")
                assert made.data is not None
                sun = await made.data[0].bytes()
                edited = await client.images.edit(image=sun, prompt="a green tree", size="256x256")
                varied = await client.images.create_variation(image=sun, size="256x256")
                assert edited.data is not None
                assert varied.data is not None
                texts = [text_of_image(await one.data[0].bytes()) for one in (edited, varied) if one.data]
                assert texts == ["a yellow sun on a blue sky with a green tree", "a yellow sun on a blue sky"]
                seen = (await client.vision(sun, "What do you see?")).text
                assert seen == "The image is a PNG of 256 by 256 pixels that shows a yellow sun on a blue sky."

        run(main())


class TestVision:
    """`client.vision` and `image_url` parts: any image's format and size."""

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (RED, "a PNG of 4 by 4 pixels"),
            (GIF, "a GIF of 320 by 200 pixels"),
            (JPEG, "a JPEG of 640 by 480 pixels"),
            (WEBP, "a WebP of 1024 by 512 pixels"),
            (LOSSLESS, "a WebP of 100 by 50 pixels"),
            (LOSSY, "a WebP of 33 by 44 pixels"),
            (BMP, "a BMP of 7 by 9 pixels"),
        ],
    )
    def test_formats_and_sizes(self, data: bytes, said: str) -> None:
        """Told by the bytes alone."""
        assert describe_image(data) == said

    @pytest.mark.parametrize(
        "bad", [b"", b"text", RED[:-3], RED[:40] + b"x" + RED[41:], GIF[:6], JPEG[:12], WEBP[:20], LOSSY[:22],
                b"\xff\xd8\xff" + b"\xff" * 1000],
    )  # fmt: skip
    def test_damaged_images(self, bad: bytes) -> None:
        with pytest.raises(ValueError, match=r"^it "):
            describe_image(bad)

    def test_answers_what_is_asked(self, tmp_path: Path) -> None:
        """Of paths, bytes and several images; whole and streamed; other questions are answered as ever."""
        path = tmp_path / "a.gif"
        path.write_bytes(GIF)

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                whole = "The image is a PNG of 4 by 4 pixels."
                assert (await client.vision(RED, "What do you see?")).text == whole
                assert (await client.vision(RED, "What is this?")).text == whole
                both = await client.vision([RED, path], "Describe the format.")
                assert both.text == (
                    "The first image is a PNG of 4 by 4 pixels. The second image is a GIF of 320 by 200 pixels."
                )
                assert (await client.vision([RED, path], "How many images?")).text == "There are 2 images."
                assert (await client.vision.stream(RED, "Describe it").final()).text == whole
                assert (await client.vision(RED, "What is 2 + 2?")).text == "2 + 2 = 4."
                url = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
                talk: list[Any] = [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
                    {"role": "assistant", "content": "Nice."},
                ]
                later = await client.chat([*talk, {"role": "user", "content": "What format has the image?"}])
                assert later.text == whole
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
            (f"data:image/png;base64,{base64.b64encode(RED[:-4]).decode()}", "invalid_image"),
        ],
    )
    def test_bad_urls(self, url: str, code: str) -> None:
        """Each is a 400 that names its place in the messages."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                with pytest.raises(BadRequestError) as caught:
                    await client.vision(url, "What is this?")
                assert (caught.value.param, caught.value.code) == ("messages[0].content[1].image_url.url", code)

        run(main())


class TestSpeech:
    """`text_to_speech` makes sound, and `speech_to_text` knows it again."""

    @pytest.mark.parametrize(
        "text", ["hello", "Grüße aus Köln! 世界 🎉", "x" * 700, "No. Yes.  No? Yes!\n\nEnd", "é" * 301, "."]
    )
    def test_there_and_back(self, text: str) -> None:
        """Every text, over a real socket and a real upload."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                sound = await client.text_to_speech(text, voice="nova")
                assert (await client.speech_to_text(sound)).text == text

        run(main())

    def test_it_can_be_heard(self) -> None:
        """A valid WAV: as long as the text and the speed want, loud, without clicks at the ends of words."""

        async def main() -> tuple[bytes, bytes, bytes]:
            async with serve(demo_app()) as server, client_of(server) as client:
                slow = await client.text_to_speech(TWO, voice="alloy", speed=0.5)
                other = await client.text_to_speech(TWO, voice="onyx", speed=0.5)
                bare = await client.text_to_speech(TWO, voice="alloy", speed=0.5, response_format="pcm")
                assert (slow.content_type, bare.content_type) == ("audio/wav", "audio/pcm")
                return slow.bytes(), other.bytes(), bare.bytes()

        sound, other, bare = run(main())
        with wave.open(io.BytesIO(sound)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
            assert file.getnframes() == pytest.approx(len(TWO) * 0.12 * 24_000, rel=0.01)
            frames = file.readframes(file.getnframes())
        assert frames == bare
        assert frames != other[-len(frames) :]
        samples = struct.unpack(f"<{len(frames) // 2}h", frames)
        assert max(samples) > 8_000
        assert max(abs(one - next_one) for one, next_one in pairwise(samples)) < 5_000

    def test_streams(self) -> None:
        """Sound in pieces is the same sound; a transcript in pieces the same text."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                whole = (await client.text_to_speech(TWO, voice="alloy")).bytes()
                async with client.text_to_speech.stream(TWO, voice="alloy") as sound:
                    pieces = [piece async for piece in sound]
                assert b"".join(pieces) == whole
                async with client.speech_to_text.stream(whole) as stream:
                    events = [event async for event in stream]
                assert stream.text == (await stream.final()).text == TWO
                assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]

        run(main())

    def test_times(self) -> None:
        """Segments are sentences and words lie within the sound, in order."""

        async def main() -> None:
            async with serve(demo_app()) as server, client_of(server) as client:
                sound = await client.text_to_speech(TWO, voice="alloy")
                answer: Any = await client.speech_to_text(
                    sound, response_format="verbose_json", timestamp_granularities=["word", "segment"]
                )
                assert (answer.text, answer.language) == (TWO, "english")
                assert [segment.text for segment in answer.segments] == ["How are you? ", "I am well, thanks."]
                assert [word.word for word in answer.words] == TWO.split()
                times = [time for word in answer.words for time in (word.start, word.end)]
                assert times == sorted(times)
                assert times[-1] == pytest.approx(answer.duration, abs=0.01)

        run(main())

    def test_other_sound(self) -> None:
        """It is told what it is, by its head."""
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(8_000)
            file.writeframes(bytes(4 * 4_000))

        async def main() -> None:
            async with serve(demo_app()) as server, AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
                create = client.audio.transcriptions.create
                stereo = await create(model="m", file=buffer.getvalue(), response_format="text")
                assert stereo == f"Sound in WAV, 0.5 seconds at 8000 Hz, {len(buffer.getvalue())} bytes.\n"
                flac: Any = await create(model="m", file=b"fLaC" + bytes(96))
                assert flac.text == "Sound in FLAC, 100 bytes."
                with pytest.raises(BadRequestError, match="empty"):
                    await create(model="m", file=b"")

        run(main())

    @pytest.mark.parametrize("cut", range(0, 120, 7))
    def test_cut_heads(self, cut: int) -> None:
        """A file cut anywhere is described, not stumbled over."""
        from openaiasync.demo.speech import speak

        sound = b"".join(speak("hi", "alloy", 1.0, bare=False))
        text, seconds, about = describe_sound(sound[:cut])
        assert text in (None, "", "h", "hi")
        assert seconds >= 0
        assert about.startswith("Sound in ")
