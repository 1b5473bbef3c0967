"""The official client, in both its forms, is served by script as ours is."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import run
from openaiasync.testing import FakeServer

pytestmark = pytest.mark.peers
openai = pytest.importorskip("openai")

HI: Any = [{"role": "user", "content": "Why is the sky blue?"}]
ADD = {"name": "add", "arguments": {"a": 1, "b": 2}}


def test_the_synchronous_client() -> None:
    """It blocks the test's thread; the server has its own."""
    with FakeServer() as server, openai.OpenAI(base_url=server.url, api_key="sk-test", max_retries=1) as client:
        server.fail(429, retry_after=0).reply("It scatters light.").stream(["It ", "scatters"])
        answer = client.chat.completions.create(messages=HI, model="m")
        assert (answer.choices[0].message.content, answer.usage.prompt_tokens) == ("It scatters light.", 5)
        chunks = list(client.chat.completions.create(messages=HI, model="m", stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["It ", "scatters", None]
        server.reply(embeddings=[[0.5, -1.0]]).reply("said")
        assert client.embeddings.create(input="x", model="m").data[0].embedding == [0.5, -1.0]
        assert client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="m").text == "said"
        assert [request.status for request in server.requests] == [429, 200, 200, 200, 200]


def test_the_asynchronous_client() -> None:
    """Its helpers accept every shape, tool calls and events of responses among them."""

    async def main() -> None:
        async with FakeServer() as server, openai.AsyncOpenAI(base_url=server.url, api_key="sk-test") as client:
            server.reply(tool_calls=[ADD], times=2)
            whole = (await client.chat.completions.create(messages=HI, model="m")).choices[0].message
            async with client.chat.completions.stream(messages=HI, model="m") as stream:
                final = (await stream.get_final_completion()).choices[0].message
            for message in (whole, final):
                (call,) = message.tool_calls
                assert (call.function.name, call.function.arguments) == ("add", '{"a": 1, "b": 2}')
            server.reply("Blue it is.", tool_calls=[ADD], times=2)
            answer = await client.responses.create(input="sky", model="m")
            async with client.responses.stream(input="sky", model="m") as events:
                streamed = await events.get_final_response()
            for response in (answer, streamed):
                assert response.output_text == "Blue it is."
                assert response.output[1].arguments == '{"a": 1, "b": 2}'

    run(main())


@pytest.mark.parametrize("what", ["json", "html", "http", "chunk"])
def test_what_is_malformed_fails(what: str) -> None:
    """In whatever way that client fails; the test sees the request."""
    with FakeServer() as server, openai.OpenAI(base_url=server.url, api_key="sk-test", max_retries=0) as client:
        server.malformed(what)
        try:
            answer = client.chat.completions.create(messages=HI, model="m")
        except Exception:
            pass
        else:
            assert not hasattr(answer, "choices"), "it hands out what it could not read"
        assert len(server.requests) == 1
