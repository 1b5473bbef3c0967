"""The client's default model: for which methods, and which of several."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, omit
from scripted import Seen, answer, scripted


def test_a_string_is_for_every_method_and_an_argument_wins() -> None:
    """Calls that name a model use it, others the client's."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="mine") as client:
            await client.chat("hi")
            await client.chat("hi", model="other")
            await client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], model="third")
            assert [seen.json()["model"] for seen in server.seen] == ["mine", "other", "third"]

    run(main())


def test_a_mapping_is_by_method() -> None:
    """Methods that the mapping leaves out have no default, and say so."""

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model={"chat": "c"}) as client:
            await client.chat("hi")
            assert server.seen[0].json()["model"] == "c"
            with pytest.raises(TypeError, match="required parameter 'model'"):
                await client.embedding("hi")
            assert len(server.seen) == 1

    run(main())


def test_official_methods_use_it() -> None:
    """Every method whose model may be any that the client names; a stored prompt names its own."""
    models = {"chat": "c", "image_generate": "i", "speech_to_text": "s"}
    calls: list[tuple[Callable[[Client], Any], str | None]] = [
        (lambda client: client.responses.with_raw_response.create(input="hi"), "c"),
        (lambda client: client.responses.with_raw_response.create(input="hi", model=None), "c"),
        (lambda client: client.responses.with_raw_response.create(input="hi", model=omit), "c"),
        (lambda client: client.responses.with_raw_response.create(input="hi", model="x"), "x"),
        (lambda client: client.responses.with_raw_response.create(prompt={"id": "p"}), None),
        (lambda client: client.responses.with_raw_response.compact(input="hi"), "c"),
        (lambda client: client.responses.input_tokens.with_raw_response.count(input="hi"), "c"),
        (lambda client: client.chat.completions.with_raw_response.create(messages=[]), "c"),
        (lambda client: client.beta.assistants.with_raw_response.create(), "c"),
        (lambda client: client.images.with_raw_response.edit(image=b"GIF89a", prompt="hi"), "i"),
        (lambda client: client.audio.translations.with_raw_response.create(file=b"RIFF"), "s"),
        (lambda client: client.moderations.with_raw_response.create(input="hi"), None),
        (lambda client: client.videos.with_raw_response.create(prompt="hi"), None),
    ]

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}"))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model=models) as client:
            for number, (call, model) in enumerate(calls):
                await call(client)
                body = server.seen[number].body
                if body.startswith(b"{"):
                    assert server.seen[number].json().get("model") == model, number
                else:
                    sent = re.search(rb'name="model"\r\n\r\n(.*)\r\n', body)
                    assert (sent and sent[1].decode()) == model, number

    run(main())


def test_responses_have_a_default_of_their_own() -> None:
    """The mapping's `responses`, else its `chat`, else the one for every method."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"{}"))

    async def main() -> None:
        for models, wanted in (({"chat": "c", "responses": "r"}, "r"), ({"responses": "r"}, "r"), ("m", "m")):
            async with scripted(script) as server, Client(api_base=server.url, model=models) as client:
                await client.responses.with_raw_response.create(input="hi")
                assert server.seen[0].json()["model"] == wanted

    run(main())
