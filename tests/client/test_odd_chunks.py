"""Chunks of chat answers that are not as described, and answers whose content is not a text."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conftest import run
from openaiasync import APIError, AsyncOpenAI, AsyncStream, Client, IncompleteStreamError
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from scripted import CHAT, Seen, answer, chunk, events, json_answer, scripted

HI: Any = [{"role": "user", "content": "hi"}]


def play(raw: bytes, act: Any, kind: Any = Client) -> Any:
    """What `act` makes of a client whose server answers every request with these bytes."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    async def main() -> Any:
        async with scripted(script) as server:
            options = {"api_base": server.url, "model": "m"}
            if kind is AsyncOpenAI:
                options = {"base_url": server.url, "api_key": "k"}
            async with kind(**options, max_retries=0) as client:
                return await act(client)

    return run(main())


async def loop(client: Any) -> str:
    """The texts as a loop over the official method reads them, which asks every choice for its delta."""
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
    return "".join([choice.delta.content or "" async for one in stream for choice in one.choices])


async def helper(client: Any) -> str:
    async with client.chat.completions.stream(model="m", messages=HI) as stream:
        return (await stream.get_final_completion()).choices[0].message.content or ""


async def final(client: Any) -> str:
    return (await client.chat.stream(HI).final()).text


async def session(client: Any) -> str:
    conversation = client.chat.session()
    async with conversation.stream("hi") as stream:
        answer = await stream.final()
    assert conversation.messages[-1]["content"] == answer.text
    return answer.text


FORMS = [(loop, AsyncOpenAI), (helper, AsyncOpenAI), (final, Client), (session, Client)]


def with_choice(**choice: Any) -> dict[str, Any]:
    return {**chunk(), "choices": [{"index": 0, "finish_reason": None, **choice}]}


WHOLE = {**CHAT, "base_resp": {"status_code": 0}}
SHAPES: dict[str, list[Any]] = {
    "Azure's content filter": [chunk("Hel"), with_choice(content_filter_offsets={"start": 0}), chunk("lo.", "stop")],
    "a null delta": [chunk("Hello."), with_choice(delta=None, finish_reason="stop")],
    "messages in place of deltas": [with_choice(message={"content": "Hel"}), with_choice(message={"content": "lo."})],
    "texts in place of deltas": [with_choice(text="Hel"), with_choice(text="lo.", finish_reason="stop")],
    "MiniMax's repetition": [chunk("Hel"), chunk("lo.", "stop"), WHOLE],
    "a repetition that ends": [chunk("Hel"), chunk("lo."), WHOLE],
    "a code of success": [{**chunk("Hel"), "error": {"code": 0, "message": ""}}, {**chunk("lo.", "stop"), "error": {}}],
    "empty values": ["[]", '""', chunk("Hello."), "[]", chunk(finish="stop"), '""'],
}
SHAPES["messages in place of deltas"].append(chunk(finish="stop"))


@pytest.mark.parametrize(("act", "kind"), FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_choices_without_a_delta(shape: str, act: Any, kind: Any) -> None:
    """Every choice that a loop sees has a delta, and every text is there once."""
    assert play(events(SHAPES[shape]), act, kind) == "Hello."


@pytest.mark.parametrize(("act", "kind"), FORMS)
@pytest.mark.parametrize(
    "words",
    [
        {"message": "out of memory", "type": "server_error"},
        {"msg": "out of memory", "type": "RuntimeException"},
        {"message": "out of memory"},
        {"detail": "out of memory", "id": "x"},
    ],
)
def test_words_in_the_place_of_the_rest(words: Any, act: Any, kind: Any) -> None:
    """An event that says in words why the answer ends early raises, where nothing says that it is complete."""
    with pytest.raises(APIError, match="out of memory"):
        play(events([chunk("Hel"), words]), act, kind)


def test_words_beside_a_complete_answer() -> None:
    """An event of words is passed over where the answer is complete."""
    came = [{"message": "searching"}, chunk("Hel"), {"message": "thinking"}, chunk("lo.", "stop")]
    assert play(events(came), final) == "Hello."


def test_two_choices_in_one_chunk() -> None:
    """They stay two, though one was asked for: what comes together is not one text."""
    both = {
        **chunk(),
        "choices": [{"index": i, "delta": {"content": t}, "finish_reason": "stop"} for i, t in [(0, "a"), (1, "b")]],
    }

    async def act(client: Client) -> Any:
        answer = await client.chat.stream(HI).final()
        return [choice.message.content for choice in answer.choices]

    assert play(events([both]), act) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"answer": 42}, '{"answer":42}'),
        (42, "42"),
        (["Hel", "lo."], "Hello."),
        ([{"type": "text", "text": "Hello."}], "Hello."),
        ({"type": "text", "text": "Hello."}, "Hello."),
        (None, ""),
    ],
)
def test_content_that_is_not_a_text(content: Any, text: str) -> None:
    """`.text` is the text, whole and streamed; the content itself stays unchanged."""
    whole = {
        **CHAT,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
    }

    async def act(client: Client) -> tuple[str, Any]:
        answer = await client.chat("hi")
        return answer.text, answer.choices[0].message.content

    assert play(json_answer(whole), act) == (text, content)
    assert play(events([with_choice(delta={"content": content}), chunk(finish="stop")]), final) == text


class TestAPathOfAMethod:
    """`client.post` with the type of the method's answer reads what the method reads."""

    @staticmethod
    async def post(client: Any) -> Any:
        return await client.post("/chat/completions", body={"model": "m", "messages": HI}, cast_to=ChatCompletion)

    def test_events_that_nobody_asked_for(self) -> None:
        for raw in (events([chunk("Hel"), chunk("lo.", "stop")]), events([CHAT])):
            assert play(raw, self.post, AsyncOpenAI).choices[0].message.content == "Hello."
        with pytest.raises(IncompleteStreamError):
            play(events([chunk("Hel")], done=False), self.post, AsyncOpenAI)
        with pytest.raises(APIError, match="boom"):
            play(events([chunk("Hel"), {"error": {"message": "boom"}}]), self.post, AsyncOpenAI)

    def test_an_answer_without_a_choice(self) -> None:
        with pytest.raises(APIError, match="empty"):
            play(json_answer({**CHAT, "choices": []}), self.post, AsyncOpenAI)

    def test_streams(self) -> None:
        async def act(client: Any) -> str:
            kind = AsyncStream[ChatCompletionChunk]
            stream = await client.post(
                "/chat/completions",
                body={"model": "m", "messages": HI, "stream": True},
                cast_to=ChatCompletionChunk,
                stream=True,
                stream_cls=kind,
            )
            return "".join([one.choices[0].delta.content or "" async for one in stream])

        for label in ("text/plain", "application/json"):
            raw = "".join(f"data: {json.dumps(one)}\n\n" for one in (chunk("Hel"), chunk("lo.", "stop"))).encode()
            assert play(answer(raw, content_type=label), act, AsyncOpenAI) == "Hello."


def test_a_completion_whose_chunks_have_deltas() -> None:
    """What stands where a chat answer has it is the text."""

    async def act(client: Any) -> str:
        stream = await client.completions.create(model="m", prompt="x", stream=True)
        return "".join([one.choices[0].text or "" async for one in stream])

    came = [{**one, "object": "text_completion"} for one in (chunk("Hel"), chunk("lo."), chunk(finish="stop"))]
    assert play(events(came), act, AsyncOpenAI) == "Hello."
