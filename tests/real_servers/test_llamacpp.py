"""Our client against llama.cpp's own server: what it says with a scripted model is known word for word."""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    Client,
    InternalServerError,
    NotFoundError,
)

from .conftest import CONTEXT, KEY, SLOTS
from .processes import Running
from .tiny import TEXTS

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a town",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}
CLOCK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Time of a zone",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
SUM: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "sum",
        "schema": {
            "type": "object",
            "properties": {"sum": {"type": "integer"}},
            "required": ["sum"],
            "additionalProperties": False,
        },
    },
}


@asynccontextmanager
async def client_of(server: Running, **options: Any) -> AsyncIterator[Client]:
    options = {"api_key": KEY, "model": "tiny", "http_timeout": 20.0, **options}
    async with Client(api_base=f"{server.url}/v1", **options) as client:
        yield client


def asked_for(cue: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"#{cue}"}]


# ---------------------------------------------------------------- chat


@pytest.mark.parametrize("cue", ["hello", "json", "utf8", "broken", "controls", "nothing"])
def test_chat_gives_the_text_exactly(cue: str, llama: Running) -> None:
    """The text is the server's to the character: multi-byte, replaced, control, line-separating or none at all."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat(f"#{cue}")
            assert answer.text == TEXTS[cue]
            assert answer.choices[0].finish_reason == "stop"
            assert answer.message.role == "assistant"
            assert answer.meta.status == 200
            assert answer.meta.tries == 1

    run(main())


@pytest.mark.parametrize("cue", ["hello", "json", "utf8", "broken", "controls", "nothing"])
def test_a_stream_gives_the_same_text(cue: str, llama: Running) -> None:
    """Pieces add up to the whole text, none holds half a character, and the final answer is the whole one."""

    async def main() -> None:
        async with client_of(llama) as client:
            async with client.chat.stream(f"#{cue}") as stream:
                pieces = [chunk.text async for chunk in stream]
            assert "".join(pieces) == TEXTS[cue]
            if cue == "utf8":
                assert "€" in pieces
                assert "🦊" in pieces
            answer = await stream.final()
            assert answer.text == stream.text == TEXTS[cue]
            assert answer.choices[0].finish_reason == "stop"

    run(main())


def test_usage_is_told(llama: Running) -> None:
    """Token counts come with an answer, and with a stream that asks for them."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat("#hello")
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 7
            assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7
            options = {"include_usage": True}
            async with client.chat.stream("#hello", stream_options=options) as stream:
                final = await stream.final()
            assert final.usage is not None
            assert final.usage.completion_tokens == 7

    run(main())


def test_fields_that_only_llamacpp_sends_are_kept(llama: Running) -> None:
    """`timings` is no field of the API and is there all the same, in the answer and in its dump."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer: Any = await client.chat("#hello")
            assert answer.to_dict()["timings"]["predicted_n"] == 7
            timings = answer.timings
            assert (timings["predicted_n"] if isinstance(timings, dict) else timings.predicted_n) == 7

    run(main())


def test_reasoning_is_apart_from_the_text(llama: Running) -> None:
    """What the model thinks aloud is `.reasoning`, whole and streamed; the text is what it says."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat("#reason")
            assert (answer.reasoning, answer.text) == ("Six times seven", "Forty-two.")
            async with client.chat.stream("#reason") as stream:
                chunks = [chunk async for chunk in stream]
            assert "".join(chunk.reasoning or "" for chunk in chunks) == "Six times seven"
            assert "".join(chunk.text for chunk in chunks) == "Forty-two."
            final = await stream.final()
            assert (final.reasoning, final.text) == ("Six times seven", "Forty-two.")

    run(main())


def calls_of(message: Any) -> list[tuple[str, Any]]:
    assert all(call.type == "function" and call.id for call in message.tool_calls)
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


@pytest.mark.parametrize("streamed", [False, True])
def test_one_tool_call(streamed: bool, llama: Running) -> None:
    """A tool call comes with name, id and whole arguments; streamed, they are put together from fragments."""

    async def main() -> None:
        async with client_of(llama) as client:
            if streamed:
                async with client.chat.stream("What is the weather?", tools=[WEATHER]) as stream:
                    count = len([chunk async for chunk in stream if chunk.choices[0].delta.tool_calls])
                assert count > 3
                answer = await stream.final()
            else:
                answer = await client.chat("What is the weather?", tools=[WEATHER])
            assert calls_of(answer.message) == [("weather", {"town": "Bergen"})]
            assert answer.choices[0].finish_reason == "tool_calls"
            assert answer.text == ""

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_two_tool_calls_at_once(streamed: bool, llama: Running) -> None:
    """Two parallel calls stay apart and in order."""

    async def main() -> None:
        async with client_of(llama) as client:
            if streamed:
                async with client.chat.stream("#calls", tools=[WEATHER, CLOCK]) as stream:
                    answer = await stream.final()
            else:
                answer = await client.chat("#calls", tools=[WEATHER, CLOCK])
            assert calls_of(answer.message) == [("weather", {"town": "Lima"}), ("clock", {"zone": "UTC"})]
            assert len({call.id for call in answer.message.tool_calls}) == 2

    run(main())


def test_a_tool_result_goes_back(llama: Running) -> None:
    """An answer's own message can be sent back with the tool's result."""

    async def main() -> None:
        async with client_of(llama) as client:
            first = await client.chat("What is the weather?", tools=[WEATHER])
            call = first.message.tool_calls[0]
            messages = [
                {"role": "user", "content": "What is the weather?"},
                first.message,
                {"role": "tool", "tool_call_id": call.id, "content": "Rain #hello"},
            ]
            answer = await client.chat(messages, tools=[WEATHER])
            assert answer.text == TEXTS["hello"]

    run(main())


def test_two_choices(llama: Running) -> None:
    """`n=2` gives two choices with their indexes, whole and streamed."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat("#dice", n=2, max_tokens=6, seed=5)
            assert sorted(choice.index for choice in answer.choices) == [0, 1]
            async with client.chat.stream("#dice", n=2, max_tokens=6, seed=5) as stream:
                seen = {choice.index async for chunk in stream for choice in chunk.choices}
            assert seen == {0, 1}
            final = await stream.final()
            sides = {"one", "two", "three", "four", "five", "six"}
            assert [choice.index for choice in final.choices] == [0, 1]
            for choice in (*answer.choices, *final.choices):
                assert set((choice.message.content or "").split()) <= sides

    run(main())


def test_logprobs(llama: Running) -> None:
    """Log probabilities are typed: six equally likely sides have -log 6 each, with the alternatives asked for."""

    async def main() -> None:
        async with client_of(llama) as client:
            options: Any = {"max_tokens": 1, "logprobs": True, "top_logprobs": 6, "temperature": 1.0}
            answer = await client.chat("#dice", **options)
            logprobs = answer.choices[0].logprobs
            assert logprobs is not None
            assert logprobs.content is not None
            (token,) = logprobs.content
            assert token.logprob == pytest.approx(-math.log(6), abs=0.01)
            assert bytes(token.bytes or ()).decode() == token.token
            assert len(token.top_logprobs) == 6
            async with client.chat.stream("#dice", **options) as stream:
                final = await stream.final()
            streamed = final.choices[0].logprobs
            assert streamed is not None
            assert streamed.content is not None
            assert len(streamed.content[0].top_logprobs) == 6

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_json_by_grammar(streamed: bool, llama: Running) -> None:
    """A JSON schema goes through as a plain dict and the answer is an object of it."""

    async def main() -> None:
        async with client_of(llama) as client:
            if streamed:
                async with client.chat.stream("#json", response_format=SUM) as stream:
                    answer = await stream.final()
            else:
                answer = await client.chat("#json", response_format=SUM)
            assert json.loads(answer.text) == {"sum": 12}

    run(main())


def test_an_endless_answer_is_cut(llama: Running) -> None:
    """`max_tokens` ends an answer with the finish reason "length", whole and streamed."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat("#forever", max_tokens=5)
            assert (answer.text, answer.choices[0].finish_reason) == ("la li la li la", "length")
            async with client.chat.stream("#forever", max_tokens=5) as stream:
                final = await stream.final()
            assert (final.text, final.choices[0].finish_reason) == ("la li la li la", "length")

    run(main())


@pytest.mark.parametrize("stop", [" a", [" nowhere", " a"]])
def test_stop(stop: Any, llama: Running) -> None:
    """A stop sequence ends the text before it, as string or as list."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat("#hello", stop=stop)
            assert (answer.text, answer.choices[0].finish_reason) == ("Good day from", "stop")

    run(main())


def test_official_names(llama: Running) -> None:
    """`AsyncOpenAI` and `chat.completions.create`, whole and streamed, do the same."""

    async def main() -> None:
        async with AsyncOpenAI(base_url=f"{llama.url}/v1", api_key=KEY) as client:
            create = client.chat.completions.create
            answer = await create(model="tiny", messages=[{"role": "user", "content": "#hello"}])
            assert answer.choices[0].message.content == TEXTS["hello"]
            text = ""
            stream = await create(model="tiny", messages=[{"role": "user", "content": "#hello"}], stream=True)
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            assert text == TEXTS["hello"]

    run(main())


def test_one_request_as_a_dict(llama: Running) -> None:
    """A whole request may be one dict, messages a sequence."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.chat({"messages": asked_for("hello"), "max_tokens": 2})
            assert answer.text == "Good day"

    run(main())


def test_many_at_once_over_few_slots(llama: Running) -> None:
    """More calls than the server has slots are all answered rightly, over as many connections as allowed."""

    async def main() -> None:
        async with client_of(llama, http_max_in_flight=8) as client:
            cues = ["hello", "utf8", "json", "controls"] * 10
            answers = await asyncio.gather(*(client.chat(f"#{cue}") for cue in cues))
            assert [answer.text for answer in answers] == [TEXTS[cue] for cue in cues]

    run(main(), 60)


# ---------------------------------------------------------------- completions, models


def test_completion(llama: Running) -> None:
    """A plain prompt is continued; the text comes untouched, whole and streamed."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.completion("Tell me", max_tokens=20)
            assert (answer.text, answer.choices[0].finish_reason) == (TEXTS["continued"], "stop")
            async with client.completion.stream("Tell me", max_tokens=20) as stream:
                pieces = [chunk.text async for chunk in stream]
            assert "".join(pieces) == TEXTS["continued"]
            assert (await stream.final()).text == TEXTS["continued"]
            created = await client.completions.create(model="tiny", prompt="Tell me", max_tokens=2)
            assert created.choices[0].text == " So it"

    run(main())


def test_several_prompts(llama: Running) -> None:
    """A list of prompts gives a choice each."""

    async def main() -> None:
        async with client_of(llama) as client:
            answer = await client.completion(["one", "two"], max_tokens=3)
            assert [choice.text for choice in answer.choices] == [" So it goes"] * 2

    run(main())


def test_models(llama: Running) -> None:
    """The server's models are listed, called or by the official name."""

    async def main() -> None:
        async with client_of(llama) as client:
            assert [model.id for model in (await client.models()).data] == ["tiny"]
            assert [model.id async for model in client.models.list()] == ["tiny"]

    run(main())


# ---------------------------------------------------------------- embeddings


def test_embeddings(llama_embeddings: Running) -> None:
    """Vectors come in order, normalised, the same for the same text, whether base64 or floats were asked for."""

    async def main() -> None:
        async with client_of(llama_embeddings) as client:
            answer = await client.embedding(["hello", "a pocket", "hello"])
            vectors = [list(vector) for vector in answer.vectors]
            assert [len(vector) for vector in vectors] == [128] * 3
            assert vectors[0] == pytest.approx(vectors[2])
            assert vectors[0] != pytest.approx(vectors[1])
            for vector in vectors:
                assert math.sqrt(sum(value * value for value in vector)) == pytest.approx(1, abs=1e-4)
            assert [one.index for one in answer.data] == [0, 1, 2]
            floats = await client.embedding(["hello", "a pocket"], encoding_format="float")
            assert list(floats.vectors[1]) == pytest.approx(vectors[1], abs=1e-6)
            official = await client.embeddings.create(model="tiny", input="a pocket")
            assert official.data[0].embedding == pytest.approx(vectors[1], abs=1e-6)

    run(main())


def test_embeddings_of_nothing_are_refused(llama_embeddings: Running) -> None:
    """An empty input is the server's 400."""

    async def main() -> None:
        async with client_of(llama_embeddings) as client:
            with pytest.raises(BadRequestError, match="cannot be empty"):
                await client.embedding("")

    run(main())


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        (BadRequestError, {"temperature": "hot"}),
        (BadRequestError, {"n": 0}),
        (BadRequestError, {"response_format": {"type": "nope"}}),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_bad_request_says_what_is_wrong(kind: type[Exception], extra: Any, streamed: bool, llama: Running) -> None:
    """The server's refusal is the class of its status, with its message, whether a stream was asked for or not."""

    async def main() -> None:
        async with client_of(llama) as client:
            ask = client.chat.stream("#hello", **extra).final if streamed else lambda: client.chat("#hello", **extra)
            with pytest.raises(kind) as caught:
                await ask()
            error: Any = caught.value
            assert error.status_code == 400
            assert error.side == "caller"
            assert not error.retryable
            assert next(iter(extra)) in str(error)

    run(main())


def test_a_prompt_over_the_context_is_refused(llama: Running) -> None:
    """Too long a prompt is a bad request that holds the server's own numbers."""

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(BadRequestError) as caught:
                await client.chat("x " * CONTEXT)
            assert caught.value.type == "exceed_context_size_error"
            body: Any = caught.value.body
            assert body["n_ctx"] == CONTEXT

    run(main())


def test_an_unsupported_endpoint(llama: Running) -> None:
    """A server for text answers embeddings with 501: a server's fault, of the class of 5xx."""

    async def main() -> None:
        async with client_of(llama, max_retries=0) as client:
            with pytest.raises(InternalServerError) as caught:
                await client.embedding("hello")
            assert caught.value.status_code == 501
            assert caught.value.side == "server"

    run(main())


def test_a_wrong_key(llama: Running) -> None:
    """A wrong key is an authentication error that does not quote the key."""

    async def main() -> None:
        async with client_of(llama, api_key="sk-wrong-key") as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.chat("#hello")
            assert caught.value.status_code == 401
            assert "sk-wrong-key" not in f"{caught.value!r} {caught.value} {caught.value.body}"

    run(main())


def test_an_unknown_model_by_id(llama: Running) -> None:
    """llama.cpp has no endpoint for one model: 404."""

    async def main() -> None:
        async with client_of(llama) as client:
            with pytest.raises(NotFoundError):
                await client.models.retrieve("nope")

    run(main())


# ---------------------------------------------------------------- cancellation


def busy_slots(server: Running) -> int:
    """How many slots the server is working in, asked without our client."""
    request = urllib.request.Request(f"{server.url}/slots", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return sum(slot["is_processing"] for slot in json.load(response))


async def wait_for_slots(server: Running, busy: int) -> None:
    """Wait until so many slots are busy; an endless answer alone would hold its slot for many seconds more."""
    end = time.monotonic() + 5
    while (now := await asyncio.to_thread(busy_slots, server)) != busy:
        assert time.monotonic() < end, f"{now} slots are busy, not {busy}"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", ["break", "close", "cancel", "client closed"])
def test_leaving_a_stream_frees_the_servers_slot(way: str, llama: Running) -> None:
    """However an endless stream is left, the server notices at once and its slot is free again."""

    async def main() -> None:
        async with client_of(llama) as client:
            started = asyncio.Event()

            async def read() -> None:
                stream = client.chat.stream("#forever")
                async with stream:
                    async for _ in stream:
                        started.set()
                        if way == "break":
                            await wait_for_slots(llama, 1)
                            break
                        if way == "close":
                            await wait_for_slots(llama, 1)
                            await stream.close()
                            return

            task = asyncio.create_task(read())
            await started.wait()
            if way == "cancel":
                await wait_for_slots(llama, 1)
                task.cancel()
            if way == "client closed":
                await client.aclose()
            await asyncio.wait([task])
            if way == "client closed":
                assert task.exception() is not None
            else:
                assert task.cancelled() == (way == "cancel")
            await wait_for_slots(llama, 0)

    run(main())


def test_a_cancelled_call_frees_the_servers_slot(llama: Running) -> None:
    """A call that waits for its whole answer and is cancelled leaves no work behind, and the client goes on."""

    async def main() -> None:
        async with client_of(llama) as client:
            tasks = [asyncio.create_task(client.chat("#forever")) for _ in range(SLOTS)]
            await wait_for_slots(llama, SLOTS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks)
            assert (await client.chat("#hello")).text == TEXTS["hello"]
            await wait_for_slots(llama, 0)

    run(main())
