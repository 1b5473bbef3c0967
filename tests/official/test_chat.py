"""`chat.completions.parse` and `.stream`: values of answers, events of streams, and answers that make no value."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pytest

import openaiasync
from conftest import run
from official.sequences import CHATS, TEXT, piece
from openaiasync import APIResponseValidationError, AsyncOpenAI, Client, pydantic_function_tool
from openaiasync.demo import demo_app
from openaiasync.lib.streaming.chat import ChatCompletionStreamState
from openaiasync.server import serve, start_in_thread
from openaiasync.types.chat import ChatCompletion, ParsedChatCompletion, ParsedFunctionToolCall
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, event, events, json_answer, scripted


class P(msgspec.Struct):
    """Some words."""

    x: int
    name: str


@dataclass
class D:
    x: int
    name: str


class T(TypedDict):
    x: int
    name: str


TOOL = pydantic_function_tool(P)
HI: list[Any] = [{"role": "user", "content": "hi"}]


def answered(content: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat answer."""
    message = {"role": "assistant", "content": content, "refusal": None, **more}
    return {**CHAT, "choices": [{"index": 0, "finish_reason": finish, "message": message}]}


@asynccontextmanager
async def serving(value: Any) -> AsyncIterator[tuple[Any, Scripted]]:
    """`client.chat.completions` of a server that answers so: an object whole, a list as a stream, bytes as they are."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if isinstance(value, bytes):
            writer.write(value)
            writer.close()
        else:
            writer.write(events(value) if isinstance(value, list) else json_answer(value))

    async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client.chat.completions, server


class TestParse:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (P, TEXT, P(1, "ab")),
            (D, TEXT, D(1, "ab")),
            (T, TEXT, {"x": 1, "name": "ab"}),
            (list[int], '{"value":[1,2]}', [1, 2]),
            (Literal["a", "b"], '{"value":"b"}', "b"),
        ],
    )
    def test_values(self, kind: Any, text: str, value: Any) -> None:
        """A type is asked for as a strict schema, and the text becomes a value of it, whatever kind of type it is."""

        async def main() -> None:
            async with serving(answered(text)) as (completions, server):
                answer = await completions.parse(model="m", messages=HI, response_format=kind)
                assert isinstance(answer, ParsedChatCompletion)
                assert answer.choices[0].message.parsed == answer.parsed == value
                assert (answer.text, answer.meta.status) == (text, 200)
                asked = server.seen[0].json()["response_format"]
                assert (asked["type"], asked["json_schema"]["strict"]) == ("json_schema", True)
                assert "stream" not in server.seen[0].json()

        run(main())

    def test_pydantic(self) -> None:
        """A pydantic model is one of these types, and checks what it checks."""
        pydantic = pytest.importorskip("pydantic")
        model = pydantic.create_model("Model", x=(int, ...), name=(str, pydantic.Field(max_length=3)))

        async def main() -> None:
            async with serving(answered(TEXT)) as (completions, _):
                answer = await completions.parse(model="m", messages=HI, response_format=model)
                assert answer.parsed == model(x=1, name="ab")
            async with serving(answered('{"x":1,"name":"abcd"}')) as (completions, _):
                with pytest.raises(openaiasync.StructuredOutputError) as caught:
                    await completions.parse(model="m", messages=HI, response_format=model)
                assert isinstance(caught.value.problem, ValueError)

        run(main())

    def test_calls(self) -> None:
        """Arguments of a strict function become its type's, plain where it has none; others stay text."""
        plain = {"type": "function", "function": {"name": "plain", "strict": True, "parameters": {"type": "object"}}}
        calls = [
            {"id": str(n), "type": "function", "function": {"name": name, "arguments": TEXT}}
            for n, name in enumerate(("P", "plain", "unknown"))
        ]

        async def main() -> None:
            async with serving(answered(None, "tool_calls", tool_calls=calls)) as (completions, server):
                answer = await completions.parse(model="m", messages=HI, tools=iter([TOOL, plain]))
                found = answer.choices[0].message.tool_calls
                assert [one.function.parsed_arguments for one in found] == [P(1, "ab"), {"x": 1, "name": "ab"}, None]
                assert all(isinstance(one, ParsedFunctionToolCall) for one in found)
                assert answer.parsed is None
                assert [one["function"]["name"] for one in server.seen[0].json()["tools"]] == ["P", "plain"]

        run(main())

    @pytest.mark.parametrize(
        ("finish", "kind"),
        [
            ("length", openaiasync.LengthFinishReasonError),
            ("content_filter", openaiasync.ContentFilterFinishReasonError),
        ],
    )
    def test_answers_that_were_cut(self, finish: str, kind: type[openaiasync.StructuredOutputError]) -> None:
        """They are errors of their own, with the answer, even where their text would do."""

        async def main() -> None:
            async with serving(answered(TEXT, finish)) as (completions, _):
                with pytest.raises(kind) as caught:
                    await completions.parse(model="m", messages=HI, response_format=P)
                assert caught.value.completion.text == TEXT

        run(main())

    def test_answers_that_do_not_fit(self) -> None:
        """A text or arguments of another kind are an error that holds the answer and says what is wrong."""
        wrong = [{"id": "1", "type": "function", "function": {"name": "P", "arguments": '{"x":'}}]

        async def main() -> None:
            for value in (answered("no JSON"), answered('{"x":"1"}'), answered(None, tool_calls=wrong)):
                async with serving(value) as (completions, _):
                    with pytest.raises(openaiasync.StructuredOutputError) as caught:
                        await completions.parse(model="m", messages=HI, response_format=P, tools=[TOOL])
                    assert caught.value.answer.id == "chatcmpl-1"
                    assert caught.value.problem is caught.value.__cause__

        run(main())

    def test_a_refusal_has_no_value(self) -> None:
        """What the model says instead of an answer is not parsed."""

        async def main() -> None:
            async with serving(answered("{", refusal="No.")) as (completions, _):
                answer = await completions.parse(model="m", messages=HI, response_format=P)
                assert (answer.parsed, answer.choices[0].message.refusal) == (None, "No.")

        run(main())

    def test_lies(self) -> None:
        """An answer without a message is an error that shows it; one with half a message is unchanged."""
        bad: list[Any] = [None, [], [{"index": 0}], [{"index": 0, "message": "text"}], ["text"]]
        half: list[Any] = [[{"index": 0, "message": {}}], ["text", {"message": {"content": 5}}]]

        async def main() -> None:
            for choices in bad:
                async with serving({**CHAT, "choices": choices}) as (completions, _):
                    with pytest.raises(APIResponseValidationError, match="choices"):
                        await completions.parse(model="m", messages=HI, response_format=P)
            for choices in half:
                async with serving({**CHAT, "choices": choices}) as (completions, _):
                    answer = await completions.parse(model="m", messages=HI, response_format=P)
                    assert answer.parsed is None
                    assert answer.to_dict()["choices"] == choices

        run(main())

    def test_values_are_no_fields(self) -> None:
        """Dumps, equality and requests know nothing of values; copies and pickles keep them."""

        async def main() -> None:
            calls = [{"id": "1", "type": "function", "function": {"name": "P", "arguments": TEXT}}]
            came = answered(TEXT, tool_calls=calls)
            async with serving(came) as (completions, server):
                answer = await completions.parse(model="m", messages=HI, response_format=P, tools=[TOOL])
                assert answer.to_dict() == came
                assert "parsed" not in answer.to_json()
                message = answer.choices[0].message
                await completions.create(model="m", messages=[message])
                sent = server.seen[1].json()["messages"][0]
                assert "parsed" not in sent
                assert sent["tool_calls"] == calls
                for twin in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
                    assert twin == answer
                    assert twin.parsed == P(1, "ab")

        run(main())

    def test_raw_answers(self) -> None:
        """`with_raw_response.parse` answers raw, and its `parse()` gives the values; streamed alike."""

        async def main() -> None:
            async with serving(answered(TEXT)) as (completions, _):
                raw = await completions.with_raw_response.parse(model="m", messages=HI, response_format=P)
                assert raw.status_code == 200
                assert json.loads(raw.content) == answered(TEXT)
                assert raw.parse().parsed == P(1, "ab")
                assert type(raw.parse(to=ChatCompletion)) is ChatCompletion
                streaming = completions.with_streaming_response
                async with streaming.parse(model="m", messages=HI, response_format=P) as response:
                    assert (await response.parse()).parsed == P(1, "ab")
                assert not hasattr(completions.with_raw_response, "stream")

        run(main())

    def test_what_cannot_be_asked(self) -> None:
        """It is refused before anything is sent, and says what to do."""
        loose = {"type": "function", "function": {"name": "loose", "parameters": {}}}
        custom = {"type": "custom", "custom": {"name": "c"}}
        wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"tools": [loose]}, ValueError, "'loose' is not strict"),
            ({"tools": [custom]}, ValueError, "'custom'"),
            ({"response_format": {"type": "json_object"}}, TypeError, "create"),
            ({"response_format": object()}, TypeError, "schema"),
            ({"stream": True}, TypeError, "stream"),
            ({"temprature": 1}, TypeError, "temperature"),
        ]

        async def main() -> None:
            async with serving(answered(TEXT)) as (completions, server):
                for params, kind, words in wrong:
                    with pytest.raises(kind, match=words):
                        await completions.parse(model="m", messages=HI, **params)
                for kind in (P, D, T, list[int], int | str):
                    with pytest.raises(TypeError, match="parse"):
                        await completions.create(model="m", messages=HI, response_format=kind)
                assert not server.seen

        run(main())

    def test_the_older_name(self) -> None:
        """`client.beta.chat.completions` is the same."""

        async def main() -> None:
            async with serving(answered(TEXT)) as (_, server):
                client = AsyncOpenAI(base_url=server.url, api_key="k")
                answer = await client.beta.chat.completions.parse(model="m", messages=HI, response_format=P)
                assert answer.choices[0].message.parsed == P(1, "ab")
                await client.close()

        run(main())


def seen_events(name: str) -> list[tuple[str, Any]]:
    """Type and what matters most of each event but chunks."""

    async def main() -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        async with serving(CHATS[name]) as (completions, _):
            n = 2 if name == "two choices" else 1
            async with completions.stream(model="m", messages=HI, response_format=P, tools=[TOOL], n=n) as stream:
                async for one in stream:
                    match one.type:
                        case "content.delta":
                            found.append((one.type, (one.delta, one.snapshot, copy.deepcopy(one.parsed))))
                        case "content.done":
                            found.append((one.type, one.parsed))
                        case "refusal.delta":
                            found.append((one.type, (one.delta, one.snapshot)))
                        case "refusal.done":
                            found.append((one.type, one.refusal))
                        case "tool_calls.function.arguments.delta":
                            found.append((one.type, (one.index, one.arguments, copy.deepcopy(one.parsed_arguments))))
                        case "tool_calls.function.arguments.done":
                            found.append((one.type, (one.index, one.name, one.parsed_arguments)))
                        case "logprobs.content.delta" | "logprobs.content.done":
                            found.append((one.type, len(one.content)))
                        case "logprobs.refusal.delta" | "logprobs.refusal.done":
                            found.append((one.type, len(one.refusal)))
                        case "chunk":
                            assert one.snapshot.id == "c"
        return found

    return run(main())


class TestStream:
    def test_text(self) -> None:
        """Each piece with all so far and what that makes; then the whole with its value."""
        assert seen_events("text") == [
            ("content.delta", ("", "", None)),
            ("content.delta", ('{"x"', '{"x"', {})),
            ("content.delta", (':1,"name":"ab"}', TEXT, {"x": 1, "name": "ab"})),
            ("content.done", P(1, "ab")),
        ]

    def test_calls(self) -> None:
        """The arguments of each call piece by piece; a call is whole when the next one begins, or the answer ends."""
        kind = "tool_calls.function.arguments."
        assert seen_events("tools") == [
            (kind + "delta", (0, "", None)),
            (kind + "delta", (0, '{"x":', {})),
            (kind + "delta", (0, '{"x":1,"name":"q"}', {"x": 1, "name": "q"})),
            (kind + "delta", (1, "", None)),
            (kind + "done", (0, "P", P(1, "q"))),
            (kind + "delta", (1, '{"x":2,"name":"r"}', {"x": 2, "name": "r"})),
            (kind + "done", (1, "P", P(2, "r"))),
        ]

    def test_refusals_and_log_probabilities(self) -> None:
        """They have events of their own, the last of each when the answer ends."""
        assert seen_events("refusal") == [
            ("refusal.delta", ("No", "No")),
            ("logprobs.refusal.delta", 1),
            ("refusal.delta", (", never", "No, never")),
            ("logprobs.refusal.delta", 2),
            ("refusal.done", "No, never"),
            ("logprobs.refusal.done", 3),
        ]
        assert [one for one in seen_events("log probabilities") if one[0].startswith("logprobs")] == [
            ("logprobs.content.delta", 2),
            ("logprobs.content.delta", 1),
            ("logprobs.content.done", 3),
        ]

    def test_choices_are_told_apart(self) -> None:
        """Each choice has its own text and its own end."""
        done = [value for kind, value in seen_events("two choices") if kind == "content.done"]
        assert done == [P(1, "a"), P(2, "b")]

    def test_the_whole_answer(self) -> None:
        """`get_final_completion` reads the rest and gives the answer with values, usage and facts of the call."""

        async def main() -> None:
            async with serving(CHATS["usage"]) as (completions, server):
                async with completions.stream(model="m", messages=HI, response_format=P) as stream:
                    assert (await anext(stream)).type == "chunk"
                    assert stream.current_completion_snapshot.choices[0].message.parsed is None
                    answer = await stream.get_final_completion()
                    assert stream.current_completion_snapshot.parsed == answer.parsed == P(1, "ab")
                    assert (answer.usage.total_tokens, answer.meta.status) == (3, 200)
                    assert answer == await stream.get_final_completion()
                    with pytest.raises(RuntimeError, match=r"read once; its get_final"):
                        _ = [one async for one in stream]
                    assert stream.response.status_code == 200
                assert server.seen[0].json()["stream"] is True
                assert server.seen[0].json()["response_format"]["type"] == "json_schema"

        run(main())

    def test_formats_that_are_no_types(self) -> None:
        """What the API itself takes is sent as it is, and the text stays text; without any, too."""

        async def main() -> None:
            for given in ({"response_format": {"type": "json_object"}}, {}):
                async with serving(CHATS["text"]) as (completions, server):
                    async with completions.stream(model="m", messages=HI, **given) as stream:
                        kinds = [(one.type, getattr(one, "parsed", None)) async for one in stream]
                        assert (await stream.get_final_completion()).parsed is None
                    assert kinds[-1] == ("content.done", None)
                    assert server.seen[0].json().get("response_format") == given.get("response_format")

        run(main())

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("length", openaiasync.LengthFinishReasonError),
            ("filter", openaiasync.ContentFilterFinishReasonError),
        ],
    )
    def test_answers_that_were_cut(self, name: str, kind: type[openaiasync.StructuredOutputError]) -> None:
        """Where a value is awaited the stream raises at once; where none is, the whole answer does, as officially."""

        async def main() -> None:
            async with serving(CHATS[name]) as (completions, _):
                async with completions.stream(model="m", messages=HI, response_format=P) as stream:
                    with pytest.raises(kind) as caught:
                        await stream.until_done()
                    assert caught.value.completion.text == '{"x'
                    with pytest.raises(kind):
                        await anext(stream)
                async with completions.stream(model="m", messages=HI) as stream:
                    await stream.until_done()
                    with pytest.raises(kind):
                        await stream.get_final_completion()

        run(main())

    def test_a_text_that_does_not_fit(self) -> None:
        """It raises where the text is whole, with the answer so far."""

        async def main() -> None:
            async with serving([piece({"content": "no JSON"}), piece({}, "stop")]) as (completions, _):
                async with completions.stream(model="m", messages=HI, response_format=P) as stream:
                    with pytest.raises(openaiasync.StructuredOutputError) as caught:
                        await stream.get_final_completion()
                    assert caught.value.answer.text == "no JSON"

        run(main())

    def test_a_stream_that_breaks_off(self) -> None:
        """What came is delivered, then `IncompleteStreamError` with the answer so far; it never looks whole."""
        half = STREAM_HEAD + b"".join(map(event, CHATS["text"][:2]))

        async def main() -> None:
            async with serving(half) as (completions, _):
                async with completions.stream(model="m", messages=HI, response_format=P) as stream:
                    kinds: list[str] = []
                    with pytest.raises(openaiasync.IncompleteStreamError) as caught:
                        async for one in stream:
                            kinds.append(one.type)
                    assert kinds == ["chunk", "content.delta"] * 2
                    assert isinstance(caught.value.partial, ParsedChatCompletion)
                    assert caught.value.partial.text == '{"x"'
                    with pytest.raises(openaiasync.IncompleteStreamError):
                        await stream.get_final_completion()

        run(main())

    def test_an_error_in_mid_stream(self) -> None:
        """An error object raises, and a status before the stream does when it is entered."""

        async def main() -> None:
            async with serving([CHATS["text"][0], {"error": {"message": "m", "code": "c"}}]) as (completions, _):
                async with completions.stream(model="m", messages=HI) as stream:
                    with pytest.raises(openaiasync.APIError, match="m"):
                        await stream.until_done()
            async with serving(json_answer({"error": {"message": "m"}}, 404)) as (completions, _):
                with pytest.raises(openaiasync.NotFoundError):
                    async with completions.stream(model="m", messages=HI):
                        pass

        run(main())

    def test_leaving_early(self) -> None:
        """Leaving the block frees the connection; a manager is entered once; one that is not entered sends nothing."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(CHATS["text"][1]))
            await writer.drain()
            await asyncio.sleep(60)

        async def main() -> None:
            async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                manager = client.chat.completions.stream(model="m", messages=HI)
                assert not server.seen
                async with manager as stream:
                    await anext(stream)
                assert [one async for one in stream if one.type == "chunk"] == []
                with pytest.raises(RuntimeError, match="once"):
                    async with manager:
                        pass

        run(main())

    def test_calls_of_other_dialects(self) -> None:
        """Whole calls in one chunk, without index, and an end in the same chunk: each is announced and ended once."""
        whole: Any = [{"id": "a", "type": "function", "function": {"name": "P", "arguments": TEXT}}]
        whole.append({"id": "b", "type": "function", "function": {"name": "P", "arguments": TEXT}})

        async def main() -> None:
            async with serving([piece({"tool_calls": whole}, "tool_calls")]) as (completions, _):
                async with completions.stream(model="m", messages=HI, tools=[TOOL]) as stream:
                    found = [(one.type.rpartition(".")[2], one.index) async for one in stream if one.type != "chunk"]
                    assert found == [("delta", 0), ("delta", 1), ("done", 0), ("done", 1)]
                    answer = await stream.get_final_completion()
                    calls = answer.choices[0].message.tool_calls
                    assert [one.function.parsed_arguments for one in calls] == [P(1, "ab"), P(1, "ab")]

        run(main())

    def test_lies(self) -> None:
        """Chunks that are no answer's bring no events but themselves, and notes of Azure's filter not even that."""
        odd: list[Any] = [
            {**piece({}), "choices": None},
            {**piece({}), "choices": [{"index": "0", "delta": None}]},
            {**piece({}), "choices": [{"index": 0, "delta": {"tool_calls": ["x", {"function": None}], "content": 1}}]},
            {**piece({"content": "hidden"}), "object": ""},
            piece({}, "stop"),
        ]

        async def main() -> None:
            async with serving(odd) as (completions, _):
                async with completions.stream(model="m", messages=HI) as stream:
                    kinds = [one.type async for one in stream]
                    assert kinds.count("chunk") == 4
                    assert "hidden" not in str(stream.current_completion_snapshot)

        run(main())


def test_the_state_alone() -> None:
    """`ChatCompletionStreamState` makes events of chunks that were got in any way."""

    async def main() -> None:
        async with serving(CHATS["text and tools"]) as (completions, _):
            state = ChatCompletionStreamState[P](response_format=P, input_tools=[TOOL])
            kinds: list[str] = []
            async for chunk in await completions.create(model="m", messages=HI, stream=True):
                kinds += [one.type for one in state.handle_chunk(chunk)]
            assert kinds.count("content.done") == kinds.count("tool_calls.function.arguments.done") == 1
            final = state.get_final_completion()
            assert final.choices[0].message.parsed == P(1, "ab")

    run(main())


def test_long_streams_are_cheap() -> None:
    """Looking at the value so far with every piece of a long text does not read the text again each time."""
    pieces = [piece({"content": '{"value":['})]
    pieces += [piece({"content": f"{n},"}) for n in range(4000)]
    pieces += [piece({"content": "0]}"}), piece({}, "stop")]
    state = ChatCompletionStreamState[Any](response_format=list[int])
    convert = msgspec.convert
    from openaiasync.types.chat import ChatCompletionChunk

    for one in pieces:
        for found in state.handle_chunk(convert(one, ChatCompletionChunk)):
            if found.type == "content.delta":
                last = found.parsed
    assert len(last) == 4001  # half an hour if it were read each time, by a Python parser
    assert len(state.get_final_completion().parsed or []) == 4001


class TestTools:
    def test_what_a_tool_says(self) -> None:
        """Name and docstring are the type's own where none are given; the schema is strict."""
        function = TOOL["function"]
        assert (function["name"], function.get("description"), function.get("strict")) == ("P", "Some words.", True)
        assert function["parameters"]["additionalProperties"] is False
        named = pydantic_function_tool(D, name="other", description="Other.")["function"]
        assert (named["name"], named["description"]) == ("other", "Other.")
        assert "description" not in pydantic_function_tool(D)["function"]
        assert json.loads(json.dumps(TOOL)) == TOOL

    def test_types_that_are_no_arguments(self) -> None:
        """What makes no object, or no strict schema, is refused with the reason."""
        for kind in (list[int], int, dict[str, int]):
            with pytest.raises(TypeError):
                pydantic_function_tool(kind)


def test_the_demo_server() -> None:
    """With our own server, which keeps to schemas: a value, a stream of it, and a call."""
    with start_in_thread(serve(demo_app())) as server:

        async def main() -> None:
            async with Client(api_base=server.base_url, api_key="k", model="demo-chat") as client:
                completions = client.chat.completions
                answer = await completions.parse(messages=HI, response_format=P)
                assert isinstance(answer.parsed, P)
                async with completions.stream(messages=HI, response_format=P) as stream:
                    texts = [one.snapshot async for one in stream if one.type == "content.delta"]
                    final = await stream.get_final_completion()
                assert isinstance(final.parsed, P)
                assert texts[-1] == final.text
                called_ = await completions.parse(messages=HI, tools=[TOOL], tool_choice="required")
                calls = called_.choices[0].message.tool_calls
                assert calls
                assert isinstance(calls[0].function.parsed_arguments, P)

        run(main())
