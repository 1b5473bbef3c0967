"""One cassette serves both clients: what ours recorded the official one replays, and the reverse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import AsyncOpenAI
from openaiasync.testing import Cassette, FakeServer, RecordingServer

pytestmark = pytest.mark.peers
openai = pytest.importorskip("openai")

KEY = "sk-a-key-of-this-test-0123456789"
SOUND = bytes(range(256)) * 300
CLIENTS = {"ours": AsyncOpenAI, "official": openai.AsyncOpenAI}
TOOLS: Any = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def script(upstream: FakeServer) -> None:
    for turn in range(10):
        upstream.reply(tool_calls=[{"name": "add", "arguments": {"a": turn, "b": 1}, "id": f"call_{turn}"}])
        upstream.stream([f"turn {turn} ", "is ", str(turn + 1)])
    upstream.reply(embeddings=[[0.5, -1.0]]).reply(content=SOUND, content_type="audio/wav").reply("said")
    upstream.reply("Blue it is.").fail(429, "slow down", retry_after=7).reply("after the pause")
    upstream.cut(after=2, text="one two three")


async def talk(client: Any) -> list[Any]:
    """Ten turns with tools, whole and streamed: every word of the conversation."""
    messages: list[Any] = []
    for turn in range(10):
        messages.append({"role": "user", "content": f"add one to {turn}"})
        whole = await client.chat.completions.create(messages=messages, model="m", tools=TOOLS, temperature=0)
        (call,) = whole.choices[0].message.tool_calls
        arguments = json.loads(call.function.arguments)
        function = {"name": call.function.name, "arguments": call.function.arguments}
        asked = {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
        told = {"role": "tool", "tool_call_id": call.id, "content": str(arguments["a"] + arguments["b"])}
        messages += [asked, told]
        stream = await client.chat.completions.create(messages=messages, model="m", stream=True)
        text = "".join([one.choices[0].delta.content or "" async for one in stream if one.choices])
        messages.append({"role": "assistant", "content": text})
    return messages


async def act(client: Any, module: Any) -> list[Any]:
    """Everything that is recorded: the conversation, other kinds of calls, an error, a retry, a cut."""
    result = await talk(client)
    result.append(list((await client.embeddings.create(input=["a"], model="m")).data[0].embedding))
    result.append((await client.audio.speech.create(input="hi", model="m", voice="alloy")).content == SOUND)
    result.append((await client.audio.transcriptions.create(file=("a.wav", b"RIFF" + SOUND), model="m")).text)
    result.append((await client.responses.create(input="sky", model="m")).output_text)
    question: Any = [{"role": "user", "content": "limited"}]
    with pytest.raises(module.RateLimitError) as limited:
        await client.chat.completions.create(messages=question, model="m")
    result.append(limited.value.response.headers["retry-after"])
    result.append((await client.chat.completions.create(messages=question, model="m")).choices[0].message.content)
    pieces: list[str] = []
    stream = await client.chat.completions.create(messages=[{"role": "user", "content": "x"}], model="m", stream=True)
    with pytest.raises(Exception, match=r"clos|onnection"):  # each client has its own error for this
        async for one in stream:
            pieces.append(one.choices[0].delta.content)
    return [*result, pieces]


@pytest.mark.parametrize("recorder", CLIENTS)
def test_each_replays_what_the_other_recorded(recorder: str, tmp_path: Path) -> None:
    """Every word, number, byte and error is the same for both, and no request is unmatched or left over."""
    import openaiasync

    modules = {"ours": openaiasync, "official": openai}
    path = tmp_path / "talk.jsonl"

    async def play(server: RecordingServer, name: str) -> list[Any]:
        async with CLIENTS[name](base_url=server.url, api_key=KEY, max_retries=0) as client:
            return await act(client, modules[name])

    async def main() -> None:
        async with FakeServer() as upstream:
            script(upstream)
            async with RecordingServer(Cassette(path), upstream.url) as server:
                recorded = await play(server, recorder)
        assert recorded[39]["content"] == "turn 9 is 10"
        assert KEY not in path.read_text(encoding="utf-8")
        for name in CLIENTS:
            async with RecordingServer(Cassette(path, "none"), "http://127.0.0.1:9/v1") as server:
                assert await play(server, name) == recorded
                assert server.cassette.unused == []

    run(main())


def test_the_synchronous_client(tmp_path: Path) -> None:
    """It blocks the test's thread; the server has its own. Breaking out of a stream is replayed, too."""
    path = tmp_path / "sky.jsonl"
    question: Any = [{"role": "user", "content": "Why?"}]

    def play(server: RecordingServer) -> list[Any]:
        with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=1) as client:
            whole = client.chat.completions.create(messages=question, model="m").choices[0].message.content
            with client.chat.completions.create(messages=question, model="m", stream=True) as stream:
                for event in stream:
                    if event.choices[0].delta.content:
                        break
        return [whole, event.choices[0].delta.content]

    with FakeServer() as upstream:
        upstream.fail(503, retry_after=0).reply("Blue.").stream(["a", 0.2, "b", 30.0, "c"])
        with RecordingServer(Cassette(path), upstream.url) as server:
            recorded = play(server)
    assert recorded == ["Blue.", "a"]
    with RecordingServer(Cassette(path, "none")) as server:
        assert play(server) == recorded
