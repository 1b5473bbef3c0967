"""`image_generate`: images asked for, fetched and saved, whole and as they are made."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, APIResponseValidationError, APIStatusError, Client, IncompleteStreamError
from openaiasync.types import Image, ImagesResponse
from scripted import Script, Scripted, Seen, answer, events, head, json_answer, scripted

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
B64 = base64.b64encode(PNG).decode()

USAGE = {
    "total_tokens": 3,
    "input_tokens": 1,
    "output_tokens": 2,
    "input_tokens_details": {"text_tokens": 1, "image_tokens": 0},
}
REST = {"created_at": 7, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
PARTIAL = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "AAAA", **REST}
WHOLE = {"type": "image_generation.completed", "b64_json": B64, "usage": USAGE, **REST}


def with_script(script: Script | bytes, act: Any, **options: Any) -> Any:
    """The result of `act(client, server)` against a server with this script, or this answer."""

    async def always(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(script if isinstance(script, bytes) else b"")

    options = {"model": {"image_generate": "pic"}, "max_retries": 0, "api_key": "sk-secret", **options}

    async def main() -> Any:
        async with scripted(always if isinstance(script, bytes) else script) as server:
            async with Client(api_base=server.url, **options) as client:
                return await act(client, server)

    return run(main())


def linked(path: str, content: bytes = answer(PNG, content_type="image/png")) -> Script:
    """Answers with a link to ``path``, and answers that path with bytes of its own."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.method == "POST":
            host = f"http://{seen.headers['host']}"
            writer.write(json_answer({"created": 1, "data": [{"url": path.replace("HOST", host)}]}))
        else:
            writer.write(content)

    return script


class TestAsking:
    """What is sent and what is refused."""

    @pytest.mark.parametrize(
        ("args", "params", "sent"),
        [
            (("a cat",), {}, {"prompt": "a cat", "model": "pic"}),
            ((), {"prompt": "a cat", "n": 2, "model": "m"}, {"prompt": "a cat", "n": 2, "model": "m"}),
            (({"prompt": "a cat", "n": 2},), {"n": 3}, {"prompt": "a cat", "n": 3, "model": "pic"}),
            (("a cat",), {"extra_body": {"steps": 4}}, {"prompt": "a cat", "model": "pic", "steps": 4}),
        ],
    )
    def test_what_is_sent(self, args: Any, params: Any, sent: Any) -> None:
        """The prompt as first positional, keyword or in a whole request; the default model filled in."""

        async def act(client: Client, server: Scripted) -> tuple[Any, Seen]:
            return await client.image_generate(*args, **params), server.seen[0]

        got, seen = with_script(json_answer({"created": 1, "data": [{"b64_json": B64}]}), act)
        assert (seen.method, seen.target) == ("POST", "/v1/images/generations")
        assert seen.json() == sent
        assert type(got) is ImagesResponse
        assert got.meta.status == 200

    def test_mistakes(self) -> None:
        """Missing, unknown, `stream=True`: errors before anything is sent."""

        async def act(client: Client, server: Scripted) -> None:
            method: Any = client.image_generate
            for params, match in (
                ({}, "'prompt'"),
                ({"prompt": "x", "stream": True}, r"image_generate\.stream"),
                ({"prompt": "x", "sise": "1x1"}, "did you mean 'size'"),
            ):
                with pytest.raises(TypeError, match=match):
                    await method(**params)
            assert not server.seen

        with_script(b"", act)


class TestSaving:
    """Images by whatever way they come."""

    def test_base64(self, tmp_path: Path) -> None:
        """Decoded and written; also from a copy, and from an answer that was pickled."""

        async def act(client: Client, server: Scripted) -> ImagesResponse:
            got = await client.image_generate("x")
            assert got.data is not None
            await got.data[0].save(tmp_path / "a.png")
            await copy.copy(got.data[0]).save(str(tmp_path / "b.png"))
            await pickle.loads(pickle.dumps(got)).data[0].save(tmp_path / "c.png")
            assert len(server.seen) == 1
            return got

        got = with_script(json_answer({"created": 1, "data": [{"b64_json": B64}]}), act)
        assert [path.read_bytes() == PNG for path in sorted(tmp_path.iterdir())] == [True] * 3
        assert got.to_dict() == {"created": 1, "data": [{"b64_json": B64}]}
        assert got.data[0] == Image(b64_json=B64)

    @pytest.mark.parametrize("link", ["HOST/pics/1.png?sig=a%2Fb&x=1", "/pics/1.png?sig=a%2Fb&x=1"])
    def test_a_link_is_fetched_without_anything_of_the_caller(self, tmp_path: Path, link: str) -> None:
        """A plain GET to the link: no key, no organisation, no header fields of the client; its model stays its own."""

        async def act(client: Client, server: Scripted) -> Seen:
            official = client.with_options(default_headers={"X-Mine": "secret"}, organization="org")
            got = await official.image_generate("x")
            assert got.data is not None
            await got.data[0].save(tmp_path / "a.png")
            assert server.seen[0].headers["authorization"] == "Bearer sk-secret"
            return server.seen[1]

        seen = with_script(linked(link), act)
        assert (tmp_path / "a.png").read_bytes() == PNG
        assert (seen.method, seen.target) == ("GET", "/pics/1.png?sig=a%2Fb&x=1")
        assert set(seen.headers) == {"host", "accept", "user-agent"}
        assert seen.body == b""

    def test_official_names_know_their_client_too(self) -> None:
        """`images.generate`, `edit` and `create_variation` answer images that can be fetched."""

        async def act(client: Client, server: Scripted) -> None:
            images = client.images
            for got in (
                await images.generate(prompt="x"),
                await images.edit(image=PNG, prompt="x"),
                await images.create_variation(image=PNG),
            ):
                assert got.data is not None
                assert await got.data[0].bytes() == PNG

        with_script(linked("HOST/pics/1.png"), act)

    def test_redirects_are_followed(self) -> None:
        """A link may lead on, also to another origin."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.method == "POST":
                writer.write(json_answer({"created": 1, "data": [{"url": "/first"}]}))
            elif seen.target == "/first":
                port = seen.headers["host"].partition(":")[2]
                writer.write(head(302, "Found", Location=f"http://localhost:{port}/second", Content_Length="0"))
            else:
                writer.write(answer(PNG))

        async def act(client: Client, server: Scripted) -> None:
            got = await client.image_generate("x")
            assert got.data is not None
            assert await got.data[0].bytes() == PNG
            assert server.seen[2].headers["host"].startswith("localhost")

        with_script(script, act)

    def test_fetching_may_fail(self) -> None:
        """An expired link raises the error of its status; a link that is not http is refused."""

        async def act(client: Client, server: Scripted) -> None:
            got = await client.image_generate("x")
            assert got.data is not None
            with pytest.raises(APIStatusError) as caught:
                await got.data[0].bytes()
            assert caught.value.status_code == 403
            lost: Any = pickle.loads(pickle.dumps(got))
            with pytest.raises(RuntimeError, match="has no client to download"):
                await lost.data[0].bytes()

        with_script(linked("/gone", json_answer({}, status=403)), act)

        async def odd(client: Client, server: Scripted) -> None:
            got = await client.image_generate("x")
            assert got.data is not None
            with pytest.raises(ValueError, match="not an http URL"):
                await got.data[0].bytes()

        for link in ("file:///etc/passwd", "ftp://h/x", "http://[::1/x"):
            with_script(linked(link), odd)

    @pytest.mark.parametrize(
        ("image", "want"),
        [
            (Image(url=f"data:image/png;base64,{B64}"), PNG),
            (Image(b64_json=f"data:image/png;base64,{B64}"), PNG),
            (Image(url="data:text/plain,a%20b"), b"a b"),
            (Image(), "neither"),
            (Image(b64_json="no base64!"), "not base64"),
            (Image(b64_json=base64.encodebytes(PNG * 9).decode()), PNG * 9),
            (Image(url="data:broken"), "no data"),
            (Image.model_construct(b64_json=3, url=4), "neither"),
        ],
    )
    def test_what_servers_send_instead(self, image: Image, want: bytes | str) -> None:
        """Data URLs are decoded; nothing, or something else, is a `ValueError`."""
        if isinstance(want, bytes):
            assert run(image.bytes()) == want
        else:
            with pytest.raises(ValueError, match=want):
                run(image.bytes())

    def test_an_answer_without_images(self) -> None:
        """An answer without an image, whatever it has instead, is an error that shows the body."""
        for data in ({}, {"data": None}, {"data": []}, {"data": "odd"}, {"data": [None, 3]}, {"data": [{"url": None}]}):

            async def act(client: Client, server: Scripted) -> Any:
                with pytest.raises(APIResponseValidationError, match="created"):
                    await client.image_generate("x")

            with_script(json_answer({"created": 1, **data}), act)


class TestStream:
    """Images as they are made."""

    def test_events_and_the_whole(self, tmp_path: Path) -> None:
        """Typed events that can be saved, and at last what the plain call answers."""

        async def act(client: Client, server: Scripted) -> None:
            async with client.image_generate.stream("x", partial_images=1) as stream:
                partial = await anext(stream)
                assert partial.type == "image_generation.partial_image"
                await partial.save(tmp_path / "partial.png")
                assert stream.partial.data == [Image(b64_json="AAAA")]
                answer = await stream.final()
            assert answer.data == [Image(b64_json=B64)]
            assert await answer.data[0].bytes() == PNG
            assert (answer.created, answer.size, answer.usage.total_tokens) == (7, "1024x1024", 3)  # type: ignore[union-attr]
            assert answer.meta.status == 200
            assert server.seen[0].json() == {"prompt": "x", "partial_images": 1, "model": "pic", "stream": True}

        with_script(events([PARTIAL, WHOLE], done=False), act)
        assert (tmp_path / "partial.png").read_bytes() == bytes(3)

    def test_a_stream_that_breaks_off(self) -> None:
        """Without a whole image it raises; the partial one is kept."""

        async def act(client: Client, server: Scripted) -> None:
            with pytest.raises(IncompleteStreamError) as caught:
                await client.image_generate.stream("x").final()
            assert caught.value.partial.data == [Image(b64_json="AAAA")]

        with_script(events([PARTIAL], done=False), act)

    def test_an_error_in_the_stream(self) -> None:
        """An error event raises."""

        async def act(client: Client, server: Scripted) -> None:
            stream = client.image_generate.stream("x")
            assert stream.partial.data == []
            with pytest.raises(APIError, match="refused"):
                await stream.final()

        with_script(events([{"error": {"message": "refused"}}], done=False), act)
