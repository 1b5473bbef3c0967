"""Every operation under the names of the conventions: against the built-in server, and scripted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from conftest import run
from openaiasync import (
    Client,
)
from openaiasync.demo import demo_app
from openaiasync.otel.attributes import provider_of
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread
from scripted import Scripted, Seen, events, json_answer

from .measured import HI, Measured, attributes, measured

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
FIRST = "gen_ai.client.operation.time_to_first_chunk"
BETWEEN = "gen_ai.client.operation.time_per_output_chunk"


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with start_in_thread(serve(demo_app())) as server:
        yield server.base_url


def with_demo(base: str, act: Any, **options: Any) -> Measured:
    into = Measured()

    async def main() -> None:
        async with Client(api_base=base, **options) as client:
            into.instrument(client)
            await act(client)

    run(main())
    return into


class TestAgainstTheDemoServer:
    """Whole answers and streams of every kind that the built-in server has."""

    def test_a_chat(self, demo: str) -> None:
        """Request, answer and usage as attributes; the same labels on the metrics."""

        async def act(client: Client) -> None:
            rest: dict[str, Any] = {"temperature": 0, "top_p": 0.5, "seed": 7, "max_completion_tokens": 50, "n": 1}
            more: dict[str, Any] = {"presence_penalty": 0.1, "frequency_penalty": 0.2, "stop": ["##", "%%"]}
            said = await client.chat("hello", response_format={"type": "text"}, **rest, **more)
            nonlocal usage
            usage = said.usage

        usage: Any = None
        into = with_demo(demo, act, model="demo-chat")
        span = into.span
        assert (span.name, span.kind, span.status.status_code) == ("chat demo-chat", SpanKind.CLIENT, StatusCode.UNSET)
        found = attributes(span)
        assert found.pop("gen_ai.response.id").startswith("chatcmpl-")
        port = found.pop("server.port")
        assert f":{port}" in demo
        for name in ("openai.response.service_tier", "openai.response.system_fingerprint"):
            found.pop(name, None)
        assert found.pop("gen_ai.usage.cache_read.input_tokens", 0) == 0
        assert {name: value for name, value in found.items() if ".usage." not in name} == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.output.type": "text",
            "gen_ai.request.model": "demo-chat",
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.top_p": 0.5,
            "gen_ai.request.seed": 7,
            "gen_ai.request.max_tokens": 50,
            "gen_ai.request.presence_penalty": 0.1,
            "gen_ai.request.frequency_penalty": 0.2,
            "gen_ai.request.stop_sequences": ["##", "%%"],
            "gen_ai.response.model": "demo-chat",
            "gen_ai.response.finish_reasons": ["stop"],
            "openai.api.type": "chat_completions",
            "server.address": "127.0.0.1",
        }
        assert found["gen_ai.usage.input_tokens"] == usage.prompt_tokens
        assert found["gen_ai.usage.output_tokens"] == usage.completion_tokens
        (duration,) = into.points(DURATION)
        labels = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "demo-chat",
            "gen_ai.response.model": "demo-chat",
            "server.address": "127.0.0.1",
            "server.port": port,
        }
        told = {name: value for name, value in duration.attributes.items() if name != "openai.response.service_tier"}
        assert (told, duration.count) == (labels, 1)
        assert 0 < duration.sum < 30
        counts = {point.attributes["gen_ai.token.type"]: point.sum for point in into.points(TOKENS)}
        assert counts == {"input": usage.prompt_tokens, "output": usage.completion_tokens}
        assert into.points(FIRST) == []

    def test_a_stream(self, demo: str) -> None:
        """Measured to its end: usage, finish reason, time to the first chunk and between all others."""
        count = 0

        async def act(client: Client) -> None:
            nonlocal count
            async with client.chat.stream("hello", stream_options={"include_usage": True}) as stream:
                async for _ in stream:
                    count += 1

        into = with_demo(demo, act, model="demo-chat")
        found = attributes(into.span)
        assert found["gen_ai.request.stream"] is True
        assert found["gen_ai.response.finish_reasons"] == ["stop"]
        assert found["gen_ai.usage.output_tokens"] > 0
        (first,), (between,), (duration,) = into.points(FIRST), into.points(BETWEEN), into.points(DURATION)
        assert first.sum == found["gen_ai.response.time_to_first_chunk"]
        assert (first.count, between.count) == (1, count - 1)
        assert first.sum + between.sum <= duration.sum
        assert [point.attributes["gen_ai.response.model"] for point in (first, between)] == ["demo-chat"] * 2

    def test_every_kind_of_call(self, demo: str) -> None:
        """Each operation is a span and a duration: by the conventions' name, or by the method's own."""

        async def act(client: Client) -> None:
            await client.completion("Once", model="demo-complete", max_tokens=5)
            await client.embedding(["a", "b"], model="demo-embed", dimensions=8)
            await client.image_generate("a cat", model="demo-image", n=2)
            spoken = await client.text_to_speech("hello", model="demo-tts", voice="alloy")
            await client.speech_to_text(spoken, model="demo-stt")
            async with client.text_to_speech.stream("hello", model="demo-tts", voice="alloy") as sound:
                assert [piece async for piece in sound]
            await client.models.retrieve("demo-chat")
            async for _ in client.models.list():
                pass
            await client.chat.completions.with_raw_response.create(messages=HI, model="demo-chat")

        into = with_demo(demo, act)
        assert [span.name for span in into.spans] == [
            "text_completion demo-complete",
            "embeddings demo-embed",
            "images.generate demo-image",
            "audio.speech.create demo-tts",
            "audio.transcriptions.create demo-stt",
            "audio.speech.create demo-tts",
            "models.retrieve",
            "models.list",
            "chat demo-chat",
        ]
        assert sum(point.count for point in into.points(DURATION)) == len(into.spans)
        completion, embedding, image, speech, _, streamed, *_ = map(attributes, into.spans)
        assert completion["gen_ai.response.finish_reasons"] == ["length"]
        assert embedding["gen_ai.embeddings.dimension.count"] == 8
        assert embedding["gen_ai.request.encoding_formats"] == ["base64"]
        assert embedding["gen_ai.usage.input_tokens"] > 0
        assert "gen_ai.usage.output_tokens" not in embedding
        assert (image["gen_ai.output.type"], image["gen_ai.request.choice.count"]) == ("image", 2)
        assert speech["gen_ai.output.type"] == "speech"
        assert "gen_ai.response.time_to_first_chunk" not in speech
        assert streamed["gen_ai.response.time_to_first_chunk"] > 0


class TestOtherOperations:
    """What the built-in server does not have, scripted."""

    def test_responses(self) -> None:
        """Responses are chats of another API; their events end in one that carries the answer."""
        usage = {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 9,
        }
        begun = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m-1", "status": "in_progress"}
        done = {**begun, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": usage}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.method == "GET" or not seen.json().get("stream"):
                writer.write(json_answer({**done, "output": [], "service_tier": "flex"}))
            else:
                kinds = [("response.created", begun), ("response.incomplete", done)]
                writer.write(events([{"type": kind, "response": one} for kind, one in kinds]))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            more: dict[str, Any] = {"conversation": {"id": "conv_1"}, "service_tier": "flex", "max_output_tokens": 9}
            await client.responses.create(input="hi", model="m", text={"format": {"type": "json_object"}}, **more)
            async for _ in await client.responses.create(input="hi", model="m", stream=True):
                pass
            await client.responses.retrieve("resp_1")

        into = measured(act, script)
        whole, streamed, fetched = map(attributes, into.spans)
        assert [span.name for span in into.spans] == ["chat m", "chat m", "fetch_response"]
        for found in (whole, streamed):
            assert found["openai.api.type"] == "responses"
            assert found["gen_ai.response.finish_reasons"] == ["max_output_tokens"]
            assert {name.removeprefix("gen_ai.usage."): n for name, n in found.items() if ".usage." in name} == {
                "input_tokens": 5,
                "output_tokens": 4,
                "cache_read.input_tokens": 3,
                "cache_creation.input_tokens": 1,
                "reasoning.output_tokens": 2,
            }
            assert found["gen_ai.response.model"] == "m-1"
        assert whole["gen_ai.conversation.id"] == "conv_1"
        assert whole["gen_ai.output.type"] == "json"
        assert whole["gen_ai.request.max_tokens"] == 9
        assert (whole["openai.request.service_tier"], whole["openai.response.service_tier"]) == ("flex", "flex")
        assert not [name for name in fetched if ".usage." in name]
        assert {point.attributes["gen_ai.operation.name"] for point in into.points(TOKENS)} == {"chat"}

    def test_agents_and_retrieval(self) -> None:
        """Operations on things that have ids of their own name these."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"object": "list", "data": []} if "search" in seen.target else {"id": "x"}))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.vector_stores.search("vs_1", query="hello")
            await client.beta.threads.runs.create("thread_1", assistant_id="asst_1")
            await client.beta.assistants.create(model="m")

        into = measured(act, script)
        assert [span.name for span in into.spans] == ["retrieval vs_1", "invoke_agent", "create_agent m"]
        assert attributes(into.spans[0])["gen_ai.data_source.id"] == "vs_1"
        assert attributes(into.spans[1])["gen_ai.agent.id"] == "asst_1"

    @pytest.mark.parametrize(
        ("host", "provider"),
        [
            ("api.openai.com", "openai"),
            ("eu.api.openai.com", "openai"),
            ("mine.openai.azure.com", "azure.ai.openai"),
            ("api.groq.com", "groq"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "aws.bedrock"),
            ("localhost", "openai"),
            ("::1", "openai"),
            ("", "openai"),
        ],
    )
    def test_providers(self, host: str, provider: str) -> None:
        """By the host; who is unknown speaks OpenAI's dialect."""
        assert provider_of(host) == provider

    def test_a_provider_by_name(self) -> None:
        """The option wins, and then nothing claims to be OpenAI's."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat("hi", service_tier="flex")

        into = measured(act, provider="vllm")
        found = attributes(into.span)
        assert found["gen_ai.provider.name"] == "vllm"
        assert not [name for name in found if name.startswith("openai.")]
