"""Prompts and answers on spans: nowhere unless it is switched on, then in the form of the conventions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from openaiasync import BadRequestError, Client
from openaiasync.core.codec.endpoint import Request
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE, RESPONSES_CREATE
from openaiasync.otel.content import Gathered, input_attributes
from scripted import CHAT, Scripted, Seen, chunk, events, json_answer

from .measured import Measured, attributes, measured

SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
PROMPT, ANSWER = "the prompt", "Hello."
PIXEL = "data:image/png;base64,aGVsbG8="


async def ask(client: Client, server: Scripted, into: Measured) -> None:
    await client.chat(PROMPT)
    async with client.chat.stream(PROMPT) as stream:
        async for _ in stream:
            pass


def everything(into: Measured) -> str:
    return " ".join(span.to_json() for span in into.spans)


def loaded(span: Any, name: str) -> Any:
    return json.loads(attributes(span)[f"gen_ai.{name}"])


class TestSwitch:
    """What decides."""

    @pytest.mark.parametrize(
        ("variable", "option", "captured"),
        [
            (None, None, False),
            ("", None, False),
            ("false", None, False),
            ("NO_CONTENT", None, False),
            ("EVENT_ONLY", None, False),
            ("true", None, True),
            ("SPAN_ONLY", None, True),
            ("span_and_event", None, True),
            ("true", False, False),
            (None, True, True),
        ],
    )
    def test_argument_and_environment(
        self, variable: str | None, option: bool | None, captured: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Off by default; the environment switches it on, and the argument wins over it."""
        if variable is not None:
            monkeypatch.setenv(SWITCH, variable)
        told = everything(measured(ask, capture_content=option))
        assert (PROMPT in told, ANSWER in told) == (captured, captured)

    @pytest.mark.parametrize("captured", [False, True])
    def test_what_a_server_repeats(self, captured: bool) -> None:
        """An error's own words may be the prompt's, so they are content; its type never is."""

        async def refused(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"error": {"message": f"I do not like {PROMPT!r}", "code": "no"}}, 400))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            with pytest.raises(BadRequestError):
                await client.chat(PROMPT)

        into = measured(act, refused, capture_content=captured)
        assert (PROMPT in (into.span.status.description or "")) == captured
        assert attributes(into.span)["error.type"] == "BadRequestError"


class TestChats:
    """Messages in and out."""

    def test_whole_and_streamed(self) -> None:
        """One shape for both."""
        into = measured(ask, capture_content=True)
        for span in into.spans:
            assert loaded(span, "input.messages") == [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]
            said = {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
            assert loaded(span, "output.messages") == [said]

    def test_tools_and_reasoning(self) -> None:
        """Calls of tools with their arguments, what tools answered, tools by name, and reasoning."""
        call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
            writer.write(json_answer({**CHAT, "choices": [choice]}))

        messages: Any = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "name": "Ann", "content": "Weather?"},
            {**message, "tool_calls": [{**call, "function": {"name": "weather", "arguments": "{oops"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ]
        tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat(messages, tools=tools)

        span = measured(act, script, capture_content=True).span
        thought = {"type": "reasoning", "content": "Hm."}
        part = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}
        assert loaded(span, "input.messages") == [
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "Weather?"}], "name": "Ann"},
            {"role": "assistant", "parts": [thought, {**part, "arguments": "{oops"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
        ]
        assert loaded(span, "output.messages") == [
            {"role": "assistant", "parts": [thought, part], "finish_reason": "tool_calls"}
        ]
        assert loaded(span, "tool.definitions") == [{"type": "function", "name": "weather"}]

    def test_media(self) -> None:
        """Media are named, never repeated."""
        content: Any = [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image_url", "image_url": {"url": PIXEL}},
            {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "strange", "of": "a server's own"},
        ]

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat([{"role": "user", "content": content}])

        into = measured(act, capture_content=True)
        assert loaded(into.span, "input.messages")[0]["parts"] == [
            {"type": "text", "content": "Look:"},
            {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
            {"type": "blob", "modality": "image", "content": "", "size": len(PIXEL)},
            {"type": "blob", "modality": "audio", "content": "", "size": 8},
            {"type": "file", "modality": "document", "file_id": "file-1"},
            {"type": "strange"},
        ]
        assert "aGVsbG8" not in everything(into)

    def test_a_stream_that_is_left(self) -> None:
        """The received part is recorded as the answer."""

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            async with client.chat.stream(PROMPT) as stream:
                await stream.__anext__()

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(events([chunk("Hel"), chunk("lo."), chunk(finish="stop")]))

        (said,) = loaded(measured(act, script, capture_content=True).span, "output.messages")
        assert said["parts"] == [{"type": "text", "content": "Hel"}]

    def test_what_utf_8_cannot_carry(self) -> None:
        """A lone surrogate is replaced: exporters lose everything over one."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            message = {"role": "assistant", "content": "a\ud800"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            writer.write(json_answer({**CHAT, "id": "\ud800", "choices": [choice]}))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat(PROMPT)

        span = measured(act, script, capture_content=True).span
        assert span.to_json().encode()
        assert attributes(span)["gen_ai.response.id"] == "?"
        assert loaded(span, "output.messages")[0]["parts"][0]["content"] == "a?"

    def test_refusals(self) -> None:
        """A refusal is a part of its own kind."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            message = {"role": "assistant", "content": None, "refusal": "No."}
            writer.write(json_answer({**CHAT, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.chat(PROMPT)

        (said,) = loaded(measured(act, script, capture_content=True).span, "output.messages")
        assert said["parts"] == [{"type": "refusal", "content": "No."}]


class TestOthers:
    """Operations with other words for the same."""

    def test_responses(self) -> None:
        """Instructions stand apart; items of input and output become messages."""
        output = [
            {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "function_call", "id": "f1", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": ANSWER, "annotations": []}]},
        ]  # fmt: skip
        done = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = {**done, "output": output}
            if seen.json().get("stream"):
                writer.write(events([{"type": "response.completed", "response": body}]))
            else:
                writer.write(json_answer(body))

        given: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": PROMPT}]},
            {"type": "function_call", "call_id": "c0", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c0", "output": "rain"},
            {"type": "item_reference", "id": "i1"},
        ]

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.responses.create(input=given, model="m", instructions="Be brief.")
            async for _ in await client.responses.create(input=PROMPT, model="m", stream=True):
                pass

        whole, streamed = measured(act, script, capture_content=True).spans
        call = {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {}}
        assert loaded(whole, "system_instructions") == [{"type": "text", "content": "Be brief."}]
        assert loaded(whole, "input.messages") == [
            {"role": "user", "parts": [{"type": "text", "content": PROMPT}]},
            {"role": "assistant", "parts": [{**call, "id": "c0"}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c0", "response": "rain"}]},
            {"role": "assistant", "parts": [{"type": "item_reference", "id": "i1"}]},
        ]
        parts = [{"type": "reasoning", "content": "Hm."}, call, {"type": "text", "content": ANSWER}]
        for span in (whole, streamed):
            said = {"role": "assistant", "parts": parts, "finish_reason": "completed"}
            assert loaded(span, "output.messages") == [said]
        assert loaded(streamed, "input.messages") == [{"role": "user", "parts": [{"type": "text", "content": PROMPT}]}]

    def test_completions_images_transcripts_searches(self) -> None:
        """Prompts, texts and queries."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.target.endswith("/completions"):
                choice = {"index": 0, "finish_reason": "stop", "text": ANSWER, "logprobs": None}
                whole = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
                writer.write(events([whole]) if seen.json().get("stream") else json_answer(whole))
            elif seen.target.endswith("/search"):
                writer.write(json_answer({"object": "list", "data": []}))
            elif seen.target.endswith("/generations"):
                writer.write(json_answer({"created": 1, "data": [{"b64_json": "aGVsbG8="}]}))
            else:
                writer.write(json_answer({"text": ANSWER}))

        async def act(client: Client, server: Scripted, into: Measured) -> None:
            await client.completion(PROMPT)
            async with client.completion.stream(PROMPT) as stream:
                async for _ in stream:
                    pass
            await client.speech_to_text(b"RIFF")
            await client.vector_stores.search("vs", query=PROMPT)
            await client.image_generate(PROMPT)

        into = measured(act, script, capture_content=True)
        completion, streamed, transcript, search, image = into.spans
        for span in (completion, streamed):
            assert loaded(span, "input.messages")[0]["parts"][0]["content"] == PROMPT
            assert loaded(span, "output.messages")[0]["parts"] == [{"type": "text", "content": ANSWER}]
        assert loaded(transcript, "output.messages")[0]["parts"] == [{"type": "text", "content": ANSWER}]
        assert attributes(search)["gen_ai.retrieval.query.text"] == PROMPT
        assert loaded(image, "input.messages")[0]["parts"] == [{"type": "text", "content": PROMPT}]
        assert "aGVsbG8" not in everything(into)


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3)
KEYS = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "name",
        "tool_calls",
        "function",
        "arguments",
        "id",
        "image_url",
        "url",
        "data",
        "refusal",
        "file",
        "input",
        "summary",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("messages", "input", "prompt", "tools", "instructions"), VALUES))
)
@settings(max_examples=150, deadline=None)
def test_any_request_can_be_told(body: dict[str, Any]) -> None:
    """Whatever a request holds becomes attributes that are texts, or none."""
    for endpoint in (CHAT_COMPLETIONS_CREATE, RESPONSES_CREATE):
        found = input_attributes(Request(endpoint, "/x", json.dumps(body).encode()))
        assert all(isinstance(value, str) for value in found.values())


@given(VALUES)
@settings(max_examples=80, deadline=None)
def test_any_body_can_be_told(body: Any) -> None:
    """So does any JSON, and any other text."""
    assert isinstance(input_attributes(Request(CHAT_COMPLETIONS_CREATE, "/x", json.dumps(body).encode())), dict)
    for content in (b"{", b"", b"\xff"):
        assert input_attributes(Request(CHAT_COMPLETIONS_CREATE, "/x", content)) == {}


@pytest.mark.parametrize("answer", [None, 3, "text", b"bytes", [], {}, object()])
def test_answers_that_are_no_objects(answer: Any) -> None:
    """An answer of another kind has no messages."""
    gathered = Gathered(Request(CHAT_COMPLETIONS_CREATE, "/x", b"{}"))
    gathered.take(answer)
    assert gathered.attributes() == {}
