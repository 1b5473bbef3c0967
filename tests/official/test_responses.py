"""`responses.parse` and `.stream`: values of responses, events with all so far, and responses that end otherwise."""

from __future__ import annotations

import asyncio
import copy
import json
import typing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

import openaiasync
from conftest import run
from official.sequences import RESPONSE, RESPONSES, TEXT, function_call, message, response
from openaiasync import AsyncOpenAI, pydantic_responses_function_tool
from openaiasync.lib.streaming.responses import ResponseStreamState
from openaiasync.official import parsed_responses, response_stream
from openaiasync.official.parsing import ParseSpec
from openaiasync.types import responses as types
from scripted import LAST_CHUNK, STREAM_HEAD, Scripted, Seen, event, json_answer, scripted


class P(msgspec.Struct):
    x: int
    name: str


VALUE = P(1, "ab")
TOOL = pydantic_responses_function_tool(P)


@asynccontextmanager
async def serving(value: Any, end: bytes = LAST_CHUNK) -> AsyncIterator[tuple[Any, Scripted]]:
    """`client.responses` of a server that answers this: an object whole, a list as a stream."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if isinstance(value, list):
            writer.write(STREAM_HEAD + b"".join(map(event, value)) + end)
            if not end:
                writer.close()
        else:
            writer.write(json_answer(value))

    async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client.responses, server


class TestParse:
    def test_values(self) -> None:
        """A type is asked for as the text's format; texts and calls become values."""

        async def main() -> None:
            async with serving(response("completed", [message(TEXT), function_call(TEXT)])) as (responses, server):
                answer = await responses.parse(
                    model="m", input="q", text_format=P, tools=[TOOL], text={"verbosity": "low"}
                )
                assert isinstance(answer, types.ParsedResponse)
                assert answer.output_parsed == answer.output[0].content[0].parsed == VALUE
                assert answer.output[1].parsed_arguments == VALUE
                assert (answer.output_text, answer.meta.status) == (TEXT, 200)
                assert answer.to_dict() == response("completed", [message(TEXT), function_call(TEXT)])
                asked = server.seen[0].json()
                assert asked["text"]["verbosity"] == "low"
                assert asked["text"]["format"]["type"] == "json_schema"
                assert asked["text"]["format"]["name"] == asked["tools"][0]["name"] == "P"
                raw = await responses.with_raw_response.parse(model="m", input="q", text_format=P)
                assert raw.parse().output_parsed == VALUE

        run(main())

    def test_what_is_said_before_the_answer(self) -> None:
        """A message of another phase than the final answer has no value, and is not held to the type."""
        output = [message("hm", phase="commentary"), message(TEXT, phase="final_answer")]

        async def main() -> None:
            async with serving(response("completed", output)) as (responses, _):
                answer = await responses.parse(model="m", input="q", text_format=P)
                assert [item.content[0].parsed for item in answer.output] == [None, VALUE]
                assert answer.output_parsed == VALUE

        run(main())

    def test_arguments_as_an_object(self) -> None:
        """Small servers send a chat's without writing them as text first; anything else does not fit."""
        spec, given = ParseSpec(None, {"P": TOOL}), cast("Any", json.loads(TEXT))
        assert spec.arguments("P", given, None) == VALUE
        for wrong in (None, 5, "[" * 5_000):
            with pytest.raises(openaiasync.StructuredOutputError):
                spec.arguments("P", cast("Any", wrong), None)

    def test_functions_in_namespaces(self) -> None:
        """A call is of the function in its own namespace; a deferred one may be its own namespace."""
        space = {"type": "namespace", "name": "n", "description": "d", "tools": [TOOL]}
        calls = [function_call(TEXT, namespace=name) for name in ("n", "P", None, "other")]

        async def main() -> None:
            async with serving(response("completed", calls)) as (responses, _):
                for tools, found in (
                    ([space], [VALUE, None, None, None]),
                    ([TOOL], [None, VALUE, VALUE, None]),
                ):
                    answer = await responses.parse(model="m", input="q", tools=tools)
                    assert [call.parsed_arguments for call in answer.output] == found

        run(main())

    def test_formats_of_ones_own(self) -> None:
        """`parse_as` makes values where the format was asked for in another way."""
        plain = {"type": "json_schema", "name": "own", "schema": {"type": "object"}}

        async def main() -> None:
            async with serving(response("completed", [message(TEXT)])) as (responses, server):
                answer = await responses.parse(model="m", input="q", text={"format": plain}, parse_as=P)
                assert answer.output_parsed == VALUE
                assert server.seen[0].json()["text"] == {"format": plain}
                with pytest.raises(TypeError, match="mutually exclusive"):
                    await responses.parse(model="m", input="q", text={"format": plain}, text_format=P)
                assert len(server.seen) == 1

        run(main())

    def test_responses_that_do_not_fit(self) -> None:
        """They raise with the response, by what it says of its end."""
        cut: dict[str, Any] = {"incomplete_details": {"reason": "max_output_tokens"}}
        held = {"incomplete_details": {"reason": "content_filter"}}
        cases = [
            (response("completed", [message("no JSON")]), openaiasync.StructuredOutputError, "no JSON"),
            (response("completed", [function_call("{")]), openaiasync.StructuredOutputError, ""),
            (response("completed", [function_call('{"x": ' + "[" * 5_000)]), openaiasync.StructuredOutputError, ""),
            (response("incomplete", [message('{"x')], **cut), openaiasync.LengthFinishReasonError, '{"x'),
            (response("incomplete", [message('{"x')], **held), openaiasync.ContentFilterFinishReasonError, '{"x'),
        ]

        async def main() -> None:
            for came, kind, text in cases:
                async with serving(came) as (responses, _):
                    with pytest.raises(openaiasync.StructuredOutputError) as caught:
                        await responses.parse(model="m", input="q", text_format=P, tools=[TOOL])
                    assert type(caught.value) is kind
                    assert (caught.value.text, caught.value.answer.id) == (text, "r")
                    assert caught.value.usage is not None

        run(main())

    def test_refusals_and_lies(self) -> None:
        """Parts other than text, and malformed outputs, have no value and break nothing."""
        refusal = {**message(None), "content": [{"type": "refusal", "refusal": "No."}]}
        odd: list[Any] = [[refusal], None, [], ["text"], [{"type": "message", "content": None}], [{"type": "new"}]]

        async def main() -> None:
            for output in odd:
                async with serving({**response("completed"), "output": output}) as (responses, _):
                    answer = await responses.parse(model="m", input="q", text_format=P)
                    assert answer.output_parsed is None

        run(main())


class TestStream:
    def test_events(self) -> None:
        """The server's events in their order, with all so far, what it makes, and values."""

        async def main() -> None:
            async with serving(RESPONSE) as (responses, server):
                async with responses.stream(model="m", input="q", text_format=P, tools=[TOOL]) as stream:
                    seen: list[Any] = []
                    async for one in stream:
                        seen.append(
                            (one.type, getattr(one, "snapshot", None), copy.deepcopy(getattr(one, "parsed", 0)))
                        )
                    final = await stream.get_final_response()
                assert [kind for kind, *_ in seen] == [one["type"] for one in RESPONSE]
                assert seen[4:7] == [
                    ("response.output_text.delta", TEXT[:8], {"x": 1}),
                    ("response.output_text.delta", TEXT, {"x": 1, "name": "ab"}),
                    ("response.output_text.done", None, VALUE),
                ]
                assert [snapshot for _, snapshot, _ in seen[10:12]] == [TEXT[:5], TEXT]
                assert (final.output_parsed, final.output[1].parsed_arguments) == (VALUE, VALUE)
                assert final.meta.status == 200
                assert server.seen[0].json()["stream"] is True

        run(main())

    def test_the_completed_event_has_values(self) -> None:
        """The last event's response is the one that `get_final_response` gives."""

        async def main() -> None:
            for name in ("complete", "without output at its end"):
                async with serving(RESPONSES[name]) as (responses, _):
                    async with responses.stream(model="m", input="q", text_format=P) as stream:
                        *_, last = [one async for one in stream]
                        assert last.response is await stream.get_final_response()
                        assert last.response.output_parsed == VALUE
                        assert last.response.output_text == TEXT

        run(main())

    def test_the_response_so_far(self) -> None:
        """At any time there is a response of the received events, in the form of a whole one."""

        async def main() -> None:
            async with serving(RESPONSE) as (responses, _):
                async with responses.stream(model="m", input="q") as stream:
                    assert stream.current_response_snapshot is None
                    texts: list[Any] = []
                    async for _ in stream:
                        snapshot = stream.current_response_snapshot
                        texts.append((snapshot.output_text, [getattr(one, "arguments", 0) for one in snapshot.output]))
                    assert texts[3:6] == [("", [0]), (TEXT[:8], [0]), (TEXT, [0])]
                    assert texts[10:12] == [(TEXT, [0, TEXT[:5]]), (TEXT, [0, TEXT])]

        run(main())

    def test_an_existing_response(self) -> None:
        """It is streamed from its beginning, what was seen before is not shown again, and it ends as a new one does."""

        async def main() -> None:
            async with serving(RESPONSE) as (responses, server):
                async with responses.stream(response_id="r/1", starting_after=10, text_format=P) as stream:
                    assert [one.sequence_number async for one in stream] == [11, 12, 13, 14]
                    assert (await stream.get_final_response()).output_parsed == VALUE
                (seen,) = server.seen
                assert (seen.method, seen.target) == ("GET", "/v1/responses/r%2F1?stream=true")

        run(main())

    def test_what_cannot_be_asked(self) -> None:
        """Parameters of a new response with an existing one, or the other way, are refused at once."""
        client = AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
        with pytest.raises(ValueError, match="does not take input, model"):
            client.responses.stream(response_id="r", model="m", input="q")
        with pytest.raises(ValueError, match="response_id="):
            client.responses.stream(starting_after=3, model="m", input="q")
        with pytest.raises(TypeError, match="temperature"):
            client.responses.stream(model="m", input="q", temprature=1)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="response_id"):
            client.responses.stream(response_id="", starting_after=3)

    def test_a_response_that_is_incomplete(self) -> None:
        """Its events come; there is no complete response, and the error for that holds what there is."""

        async def main() -> None:
            async with serving(RESPONSES["incomplete"]) as (responses, _):
                async with responses.stream(model="m", input="q", text_format=P) as stream:
                    *_, last = [one async for one in stream]
                    assert last.type == "response.incomplete"
                    with pytest.raises(openaiasync.UnfinishedResponseError, match="incomplete") as caught:
                        await stream.get_final_response()
                    assert isinstance(caught.value, RuntimeError)
                    assert caught.value.answer.output_text == TEXT[:8]

        run(main())

    @pytest.mark.parametrize("end", [b"", LAST_CHUNK])
    def test_a_stream_that_breaks_off(self, end: bytes) -> None:
        """What came is delivered, then `IncompleteStreamError` with the response so far."""

        async def main() -> None:
            async with serving(RESPONSE[:5], end) as (responses, _):
                async with responses.stream(model="m", input="q", text_format=P) as stream:
                    seen: list[str] = []
                    with pytest.raises(openaiasync.IncompleteStreamError) as caught:
                        async for one in stream:
                            seen.append(one.type)
                    assert len(seen) == 5
                    assert caught.value.partial.output_text == TEXT[:8]
                    with pytest.raises(openaiasync.IncompleteStreamError):
                        await stream.get_final_response()

        run(main())

    def test_a_text_that_does_not_fit(self) -> None:
        """It raises where the text is whole."""
        wrong = [*RESPONSE[:6], {**RESPONSE[6], "text": "no JSON"}]

        async def main() -> None:
            async with serving(wrong) as (responses, _):
                async with responses.stream(model="m", input="q", text_format=P) as stream:
                    with pytest.raises(openaiasync.StructuredOutputError):
                        await stream.until_done()
                    with pytest.raises(openaiasync.StructuredOutputError):
                        await anext(stream)

        run(main())

    def test_events_out_of_order(self) -> None:
        """Deltas of items that were never announced are kept all the same; unknown events go through."""
        odd = [RESPONSE[4], {"type": "response.new", "sequence_number": 1, "a": 2}, RESPONSE[10], RESPONSE[-1]]

        async def main() -> None:
            async with serving(odd) as (responses, _):
                async with responses.stream(model="m", input="q", text_format=P, tools=[TOOL]) as stream:
                    seen = [getattr(one, "snapshot", one.type) async for one in stream]
                    assert seen == [TEXT[:8], "response.new", TEXT[:5], "response.completed"]
                    assert (await stream.get_final_response()).output_parsed == VALUE

        run(main())

    def test_events_without_numbers(self) -> None:
        """llama.cpp numbers neither events nor items nor parts: they are told apart by their ids."""
        gone = ("sequence_number", "output_index", "content_index")
        bare = [{name: value for name, value in one.items() if name not in gone} for one in RESPONSE]

        async def main() -> None:
            async with serving(bare) as (responses, _):
                async with responses.stream(model="m", input="q", text_format=P, tools=[TOOL]) as stream:
                    found = [getattr(one, "snapshot", None) async for one in stream]
                    assert [one for one in found if one] == [TEXT[:8], TEXT, TEXT[:5], TEXT]
                    snapshot = stream.current_response_snapshot
                    assert [item.type for item in snapshot.output] == ["message", "function_call"]
                    assert (await stream.get_final_response()).output_parsed == VALUE
                async with responses.stream(response_id="r", starting_after=3) as stream:
                    assert len([one async for one in stream]) == len(bare)  # what has no number cannot be left out

        run(main())

    def test_leaving_early(self) -> None:
        """Leaving the block frees the connection at once; a manager is entered once."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(RESPONSE[0]))
            await writer.drain()
            await asyncio.sleep(60)

        async def main() -> None:
            async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                manager = client.responses.stream(model="m", input="q")
                assert not server.seen
                async with manager as stream:
                    await anext(stream)
                assert [one async for one in stream] == []
                with pytest.raises(RuntimeError, match="once"):
                    async with manager:
                        pass

        run(main())


def test_the_state_alone() -> None:
    """`ResponseStreamState` makes events of events that were got in any way."""

    async def main() -> None:
        async with serving(RESPONSE) as (responses, _):
            state = ResponseStreamState[P](text_format=P)
            async for one in await responses.create(model="m", input="q", stream=True):
                state.handle_event(one)
            assert state.final().output_parsed == VALUE

    run(main())


def test_the_unions_are_complete() -> None:
    """What type checkers see of events and items is what the description has, with ours in the place of some."""
    source = Path(str(response_stream.__file__)).read_text(encoding="utf-8")
    replaced = {kind.__name__ for kind in typing.get_args(types.ResponseStreamEvent)}
    assert [name for name in replaced if name not in source] == []
    source = Path(str(parsed_responses.__file__)).read_text(encoding="utf-8")
    items = {kind.__name__ for kind in typing.get_args(types.ResponseOutputItem)}
    assert [name for name in items if name not in source] == []
