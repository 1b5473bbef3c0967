"""Chat completions over a real socket: whole and streamed, strictly as the API's description says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from conftest import run
from openaiasync.core.codec.decode import decoder_for
from openaiasync.demo import demo_app
from openaiasync.endpoints import ENDPOINTS
from openaiasync.server import serve

from .wire import Answer, Wire

ROW = ENDPOINTS["chat.completions.create"]
WHOLE = decoder_for(ROW.load(ROW.type), strict=True)
CHUNK = decoder_for(ROW.load(ROW.event), strict=True)
CUSTOM = [{"type": "custom", "custom": {"name": "write_note", "description": "Write a note"}}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
]


def post(body: dict[str, Any], path: str = "/v1/chat/completions", *, strict: bool = False) -> Answer:
    async def main() -> Answer:
        async with serve(demo_app(strict=strict)) as server, Wire(server) as wire:
            return await wire.call("POST", path, body)

    return run(main())


def ask(text: str, **more: Any) -> dict[str, Any]:
    """The whole answer; checked against the description."""
    answer = post({"model": "demo-chat", "messages": [{"role": "user", "content": text}], **more})
    assert answer.status == 200, answer.body
    if not more.get("reasoning_effort"):  # a dialect's field is not in the description
        WHOLE.decode(answer.body)
    return dict(answer.json())


def stream(text: str, **more: Any) -> list[dict[str, Any]]:
    """The chunks; each checked against the description."""
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": text}], "stream": True, **more}
    chunks = post(body).events()
    if not (more.get("reasoning_effort") or more.get("tools") == CUSTOM):  # which the description does not know
        for chunk in chunks:
            CHUNK.decode(json.dumps(chunk).encode())
    assert len({chunk["id"] for chunk in chunks}) == 1
    return chunks


def gathered(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the chunks of each choice add up to, in the form of a whole answer's choices."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk["choices"]:
            index, delta = part["index"], part["delta"]
            if index not in choices:
                assert delta["role"] == "assistant"
                choices[index] = {
                    "index": index,
                    "text": "",
                    "reasoning": "",
                    "calls": {},
                    "logprobs": [],
                    "finish": None,
                }
            choice = choices[index]
            assert choice["finish"] is None, "nothing comes after the end of a choice"
            choice["text"] += delta.get("content") or ""
            choice["reasoning"] += delta.get("reasoning_content") or ""
            for piece in delta.get("tool_calls") or ():
                call = choice["calls"].setdefault(
                    piece["index"], {"id": piece.get("id"), "type": piece.get("type"), "text": ""}
                )
                [body] = [value for key, value in piece.items() if key in ("function", "custom")]
                call["name"] = body.get("name") or call["name"]
                call["text"] += body.get("arguments", body.get("input"))
            if part["logprobs"]:
                choice["logprobs"] += part["logprobs"]["content"]
            choice["finish"] = part["finish_reason"]
    return [choices[index] for index in sorted(choices)]


def test_whole_answer() -> None:
    completion = ask("What is 17 * 23?")
    [choice] = completion["choices"]
    assert choice["message"]["content"] == "17 * 23 = 391."
    assert (choice["finish_reason"], choice["logprobs"], completion["model"]) == ("stop", None, "demo-chat")
    usage = completion["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (12, 6)
    assert usage["total_tokens"] == 18


def test_stream_adds_up_to_the_whole_answer() -> None:
    """Word by word; finish reason at the end; usage only when asked for, in a chunk of its own."""
    whole = ask("Tell me a story")
    chunks = stream("Tell me a story", stream_options={"include_usage": True})
    [choice] = gathered(chunks)
    assert choice["text"] == whole["choices"][0]["message"]["content"]
    assert choice["finish"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len(chunks) == whole["usage"]["completion_tokens"] + 3
    assert all("usage" not in chunk for chunk in stream("Hello"))


def test_several_choices() -> None:
    """They differ, come interleaved in a stream, and are counted together."""
    whole = ask("Hello", n=3)
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    chunks = stream("Hello", n=3)
    assert [choice["text"] for choice in gathered(chunks)] == texts
    order = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"]]
    assert max(map(order.index, range(3))) < len(order) - 1 - max(map(order[::-1].index, range(3)))
    single = ask("Hello")["usage"]
    assert whole["usage"]["completion_tokens"] > 2 * single["completion_tokens"]
    assert whole["usage"]["prompt_tokens"] == single["prompt_tokens"]


def test_seed() -> None:
    """The same seed, the same answer; another one, another answer."""
    texts = [ask("Hello", seed=seed)["choices"][0]["message"]["content"] for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_stop_strings() -> None:
    """The answer ends before the first of them, wherever it stands in a token."""
    for stop, text in (("5", "1, 2, 3, 4, "), (["9", ", 4"], "1, 2, 3"), ("1", ""), ("zzz", "1, 2, 3, 4, 5, 6, 7.")):
        [choice] = ask("count to 7", stop=stop)["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
        assert gathered(stream("count to 7", stop=stop))[0]["text"] == text
    assert ask("say abcdef", stop="cd")["choices"][0]["message"]["content"] == "ab"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_token_limit(name: str) -> None:
    completion = ask("count to 100", **{name: 5})
    [choice] = completion["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1, 2, 3", "length")
    assert completion["usage"]["completion_tokens"] == 5
    assert gathered(stream("count to 100", **{name: 5}))[0]["finish"] == "length"
    assert ask("say one two", **{name: 2})["choices"][0]["finish_reason"] == "stop"


def test_logprobs() -> None:
    """One for each token, with as many alternatives as asked for; the same in a stream."""
    completion = ask("Hello", logprobs=True, top_logprobs=3)
    content = completion["choices"][0]["logprobs"]["content"]
    assert "".join(item["token"] for item in content) == completion["choices"][0]["message"]["content"]
    for item in content:
        assert bytes(item["bytes"]).decode() == item["token"]
        assert item["logprob"] < 0
        assert item["top_logprobs"][0]["logprob"] == item["logprob"]
        assert len(item["top_logprobs"]) == 3
    assert gathered(stream("Hello", logprobs=True, top_logprobs=3))[0]["logprobs"] == content
    assert ask("Hello", logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_tool_calls() -> None:
    """Whole and streamed in pieces: a function with JSON arguments, a custom tool with text."""
    for text, tools, name, kind, content in (
        ("What is the weather in Paris?", TOOLS, "get_weather", "function", '{"city": "Paris"}'),
        ("Write a note: milk", CUSTOM, "write_note", "custom", "Write a note: milk"),
    ):
        [choice] = ask(text, tools=tools)["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        [call] = choice["message"]["tool_calls"]
        assert (call["type"], call[kind]["name"]) == (kind, name)
        assert call[kind]["arguments" if kind == "function" else "input"] == content
        [streamed] = gathered(stream(text, tools=tools))
        assert streamed["finish"] == "tool_calls"
        [piece] = streamed["calls"].values()
        assert (piece["name"], piece["type"], piece["text"]) == (name, kind, content)
        assert piece["id"].startswith("call_")


def test_tool_result() -> None:
    """A second turn with the call and its result is answered in words."""
    first = ask("What is the weather in Paris?", tools=TOOLS)["choices"][0]["message"]
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        first,
        {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "Sunny"},
    ]
    answer = post({"model": "demo-chat", "messages": messages, "tools": TOOLS}).json()
    assert answer["choices"][0]["message"]["content"] == "get_weather says: Sunny."


def test_schema() -> None:
    """JSON that fits, also in a stream; a schema that cannot be followed is refused before a stream begins."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema, "strict": True}}
    text = "Three... no, 4 days in Rome"
    assert json.loads(ask(text, response_format=form)["choices"][0]["message"]["content"]) == {
        "city": "Rome",
        "days": 4,
    }
    assert json.loads(gathered(stream(text, response_format=form))[0]["text"]) == {"city": "Rome", "days": 4}
    form["json_schema"]["schema"] = {"$ref": "#/nowhere"}  # type: ignore[index]
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "x"}], "response_format": form}
    for streamed in (False, True):
        answer = post({**body, "stream": streamed})
        assert (answer.status, answer.error()["code"]) == (400, "invalid_schema")


def test_reasoning() -> None:
    """In a field of its own, counted apart, before the text in a stream, within the token limit."""
    completion = ask("Why is the sky blue?", reasoning_effort="high")
    message = completion["choices"][0]["message"]
    assert len(message["reasoning_content"]) > 20
    assert completion["usage"]["completion_tokens_details"]["reasoning_tokens"] > 10
    chunks = stream("Why is the sky blue?", reasoning_effort="high")
    [choice] = gathered(chunks)
    assert (choice["reasoning"], choice["text"]) == (message["reasoning_content"], message["content"])
    kinds = [next(iter(chunk["choices"][0]["delta"]), "") for chunk in chunks[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    cut = ask("Why is the sky blue?", reasoning_effort="high", max_tokens=5)["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("", "length")
    assert "reasoning_content" not in ask("Hello", reasoning_effort="none")["choices"][0]["message"]


def test_unsuitable_models() -> None:
    for model, code in (("other", "model_not_found"), ("demo-embed", "model_not_supported")):
        answer = post({"model": model, "messages": [{"role": "user", "content": "x"}]}, strict=True)
        assert (answer.status, answer.error()["code"], answer.error()["param"]) == (404, code, "model")


def test_too_long_messages() -> None:
    """Refused by count; far too long ones without counting."""
    for size in (130_000, 3_000_000):
        body = {"model": "demo-chat", "messages": [{"role": "user", "content": "a " * size}]}
        answer = post(body)
        assert (answer.status, answer.error()["code"]) == (400, "context_length_exceeded")
    assert ask("word " * 60_000)["usage"]["prompt_tokens"] > 60_000


def test_lone_surrogates() -> None:
    """They are no text: JSON that escapes one is refused or answered, but never a server error."""
    body = b'{"model":"demo-chat","messages":[{"role":"user","content":"say \\ud83d"}]}'

    async def main() -> int:
        async with serve(demo_app()) as server, Wire(server) as wire:
            return (await wire.call("POST", "/v1/chat/completions", body)).status

    assert run(main()) in (200, 400)


def test_a_call_cut_by_the_limit() -> None:
    """It ends with "length", as a model's would, and has what was said of it."""
    choice = ask("Weather in New York", tools=TOOLS, max_tokens=3)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"'
    [streamed] = gathered(stream("Weather in New York", tools=TOOLS, max_tokens=3))
    assert (streamed["finish"], streamed["calls"][0]["text"]) == ("length", '{"')
