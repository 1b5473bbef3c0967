"""`vision`: images of every kind put into a chat request, told apart by their bytes, read when they are needed."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client
from scripted import Scripted, Seen, chat, scripted

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(20)


def url_of(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def with_server(act: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with scripted(chat) as server:
            async with Client(api_base=server.url, **{"model": "m", "max_retries": 0, **options}) as client:
                return await act(client, server)

    return run(main())


def asked(*args: Any, streamed: bool = False, **params: Any) -> dict[str, Any]:
    """The body of the request that these arguments make; the answer is that of a chat."""

    async def act(client: Client, server: Scripted) -> Seen:
        if streamed:
            async with client.vision.stream(*args, **params) as stream:
                words = "".join([chunk.text async for chunk in stream])
                assert words == stream.text == (await stream.final()).text == "Hello."
        else:
            answer = await client.vision(*args, **params)
            assert answer.text == "Hello."
            assert answer.meta.status == 200
        return server.seen[0]

    seen = with_server(act)
    assert (seen.method, seen.target) == ("POST", "/v1/chat/completions")
    body: dict[str, Any] = seen.json()
    return body


def urls(body: dict[str, Any]) -> list[str]:
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert message["content"][0] == {"type": "text", "text": "What is it?"}
    return [part["image_url"]["url"] for part in message["content"][1:]]


class TestImages:
    """What an image may be."""

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        ("image", "want"),
        [
            (PNG, url_of(PNG, "png")),
            (bytearray(JPEG), url_of(JPEG, "jpeg")),
            (io.BytesIO(WEBP), url_of(WEBP, "webp")),
            ("https://example.org/a.png", "https://example.org/a.png"),
            ("HTTP://example.org/a.png", "HTTP://example.org/a.png"),
            ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ],
    )
    def test_bytes_files_and_urls(self, image: Any, want: str, streamed: bool) -> None:
        """Bytes and files go into the request under their true type, URLs as they are."""
        assert urls(asked(image, "What is it?", streamed=streamed)) == [want]

    @pytest.mark.parametrize("as_text", [False, True])
    def test_paths(self, tmp_path: Path, as_text: bool) -> None:
        """A path, as text or not; the name's ending is not believed."""
        path = tmp_path / "photo.gif"
        path.write_bytes(JPEG)
        image: Any = str(path) if as_text else path
        assert urls(asked(image=image, prompt="What is it?")) == [url_of(JPEG, "jpeg")]

    def test_a_file_is_sent_from_its_start(self) -> None:
        """Where a file stands does not matter, as with uploads."""
        file = io.BytesIO(PNG)
        file.read()
        assert urls(asked(file, "What is it?")) == [url_of(PNG, "png")]

    def test_several(self, tmp_path: Path) -> None:
        """A list of images of any kinds, in order."""
        (tmp_path / "a").write_bytes(PNG)
        body = asked([tmp_path / "a", JPEG, "http://h/x"], "What is it?", detail="low")
        assert urls(body) == [url_of(PNG, "png"), url_of(JPEG, "jpeg"), "http://h/x"]
        assert all(part["image_url"]["detail"] == "low" for part in body["messages"][0]["content"][1:])


class TestRequest:
    """Everything beside the image."""

    def test_a_whole_request(self) -> None:
        """One dict; keywords win; other parameters are those of a chat."""
        body = asked({"image": PNG, "prompt": "no", "temperature": 1, "model": "other"}, prompt="What is it?", n=1)
        assert urls(body) == [url_of(PNG, "png")]
        assert {name: value for name, value in body.items() if name != "messages"} == {
            "temperature": 1,
            "model": "other",
            "n": 1,
        }

    @pytest.mark.parametrize(
        ("models", "want"),
        [
            ("one", "one"),
            ({"vision": "eyes", "chat": "talk"}, "eyes"),
            ({"chat": "talk"}, "talk"),
        ],
    )
    def test_the_default_model(self, models: Any, want: str) -> None:
        """The model for vision, else the one for chat."""

        async def act(client: Client, server: Scripted) -> list[Any]:
            await client.vision(PNG, "x")
            await client.vision.stream(PNG, "x").final()
            return [seen.json()["model"] for seen in server.seen]

        assert with_server(act, model=models) == [want, want]

    @pytest.mark.parametrize(
        ("args", "params", "kind", "match"),
        [
            ((), {"prompt": "x"}, TypeError, "'image'"),
            ((PNG,), {}, TypeError, "'prompt'"),
            ((None, "x"), {}, TypeError, "'image'"),
            ((3, "x"), {}, TypeError, "int is not a valid image"),
            (([PNG, None], "x"), {}, TypeError, "NoneType is not a valid image"),
            (([], "x"), {}, ValueError, "list of images is empty"),
            ((b"", "x"), {}, ValueError, "empty"),
            (("", "x"), {}, ValueError, "empty"),
            ((PNG, "x"), {"messages": []}, TypeError, "makes the messages from image="),
            ((PNG, "x"), {"stream": True}, TypeError, r"vision\.stream"),
            ((PNG, "x"), {"temprature": 1}, TypeError, "did you mean 'temperature'"),
            (({"image": PNG, "prompt": "x", "imagee": 1},), {}, TypeError, "imagee"),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    def test_mistakes(self, args: Any, params: Any, kind: type[Exception], match: str, streamed: bool) -> None:
        """Missing, unknown and impossible arguments are errors at once, also before a stream is opened."""

        async def act(client: Client, server: Scripted) -> None:
            method: Any = client.vision.stream if streamed else client.vision
            with pytest.raises(kind, match=match):
                await method(*args, **params)
            assert not server.seen

        with_server(act)

    @pytest.mark.parametrize(
        ("image", "kind", "match"),
        [
            (b"<svg/>", ValueError, "not a PNG, JPEG, GIF, WebP or BMP"),
            ("no/such.png", FileNotFoundError, "such.png"),
            (Path("."), IsADirectoryError, "directory"),
            (io.StringIO("text"), TypeError, "binary"),
        ],
    )
    @pytest.mark.parametrize("streamed", [False, True])
    def test_what_is_no_image(self, image: Any, kind: type[Exception], match: str, streamed: bool) -> None:
        """A file that is missing or no image is an error before anything is sent."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(kind, match=match):
                if streamed:
                    await client.vision.stream(image, "x").final()
                else:
                    await client.vision(image, "x")
            assert not server.seen
            assert client._calls.shared.limiter.used == 0

        with_server(act)

    def test_a_stream_reads_nothing_before_it_is_opened(self, tmp_path: Path) -> None:
        """The file may come to be after the stream was made."""
        path = tmp_path / "later.png"

        async def act(client: Client, server: Scripted) -> None:
            stream = client.vision.stream(path, "What is it?")
            await asyncio.to_thread(path.write_bytes, PNG)
            async with stream:
                assert (await stream.final()).text == "Hello."
            assert urls(server.seen[0].json()) == [url_of(PNG, "png")]

        with_server(act)

    def test_a_stream_that_was_closed_reads_nothing(self) -> None:
        """Closed before it was opened, it stays closed."""

        async def act(client: Client, server: Scripted) -> None:
            stream = client.vision.stream("no/such.png", "x")
            await stream.close()
            with pytest.raises(RuntimeError, match="closed"):
                await stream.final()

        with_server(act)
