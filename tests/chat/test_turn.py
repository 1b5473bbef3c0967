"""One turn against a server that plays every part: whole and streamed, tools, repairs, failures, leaving."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from conftest import run
from openaiasync import (
    APIError,
    Client,
    IncompleteStreamError,
    InternalServerError,
    LengthFinishReasonError,
    PartialObject,
    ReasoningPiece,
    RepairStarted,
    Reply,
    StructuredOutputError,
    TextPiece,
    ToolError,
    ToolFinished,
    ToolStarted,
    TooManyRoundsError,
    TurnStream,
    tool,
)
from openaiasync.chat.history import check_messages
from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, Scripted, Seen, event, events, json_answer, scripted

from .test_messages import call

HI: list[Any] = [{"role": "user", "content": "hi"}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def said(content: str | None = None, finish: str | None = None, **message: Any) -> dict[str, Any]:
    """A choice of a whole answer."""
    finish = finish or ("tool_calls" if message.get("tool_calls") else "stop")
    return {"finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def chunks(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """A whole answer's choice as a server streams it: texts letter by letter, calls with torn arguments."""
    message = dict(choice["message"])
    made = [delta(role=message.pop("role"))]
    made += [delta(reasoning_content=letter) for letter in message.pop("reasoning_content", None) or ""]
    made += [delta(content=letter) for letter in message.pop("content", None) or ""]
    for index, one in enumerate(message.pop("tool_calls", ())):
        function = one["function"]
        made.append(delta(tool_calls=[{"index": index, **one, "function": {**function, "arguments": ""}}]))
        made += [
            delta(tool_calls=[{"index": index, "function": {"arguments": part}}]) for part in function["arguments"]
        ]
    return [*made, delta(choice["finish_reason"], **message), {**delta(), "choices": [], "usage": USAGE}]


class Model:
    """Says what it is told to, one answer after another; keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        request = seen.json()
        check_messages(request["messages"])
        self.asked.append(request)
        answer = self.answers.pop(0)
        if callable(answer):
            await answer(seen, writer)
        elif isinstance(answer, bytes):
            writer.write(answer)
        elif request.get("stream"):
            writer.write(events(answer if isinstance(answer, list) else chunks(answer)))
        else:
            writer.write(json_answer({**CHAT, "choices": [{"index": 0, **answer}], "usage": USAGE}))


@asynccontextmanager
async def talking(model: Model, **options: Any) -> AsyncIterator[tuple[Client, Scripted]]:
    """A client of that model; at the end no place is held."""
    async with scripted(model) as server:
        async with Client(api_base=server.url, model="m", **{"max_retries": 0, **options}) as client:
            try:
                yield client, server
            finally:
                assert client.chat._calls.shared.limiter.used == 0


async def turn(client: Client, streamed: bool, **options: Any) -> Reply[Any]:
    """A turn in either way, its method by whether a type is asked for."""
    kind: Any = "parse" if "into" in options else "tools"
    if streamed:
        async with getattr(client.chat, f"stream_{kind}")("hi", **options) as stream:
            whole: Reply[Any] = await stream.final()
            return whole
    method: Any = client.chat.parse if kind == "parse" else client.chat.run_tools
    return cast("Reply[Any]", await method("hi", **options))


def ask(model: Model, streamed: bool = False, **options: Any) -> Reply[Any]:
    async def main() -> Reply[Any]:
        async with talking(model) as (client, _):
            return await turn(client, streamed, **options)

    return run(main())


def double(x: int) -> int:
    """Twice x."""
    return 2 * x


async def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


CALLS = said(
    "Let me see.", tool_calls=[call("a", "double", '{"x":4}'), call("b", "shout", '{"text":"é","times":null}')]
)
HISTORY = [
    {"role": "assistant", **CALLS["message"]},
    {"role": "tool", "tool_call_id": "a", "content": "8"},
    {"role": "tool", "tool_call_id": "b", "content": "É"},
    {"role": "assistant", "content": "Eight."},
]

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


# ---------------------------------------------------------------- the usual


@both_ways
def test_tools_are_called_until_words_come(streamed: bool) -> None:
    """The reply holds the words, what the tools did, the history, and the tokens of all rounds."""
    model = Model(CALLS, said("Eight.", reasoning_content="4 + 4"))
    reply = ask(model, streamed, tools=[double, shout], temperature=0)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Eight.", "4 + 4", "stop")
    assert reply.messages == HISTORY
    assert [(one.name, one.value, one.ok) for one in reply.tool_calls] == [("double", 8, True), ("shout", "É", True)]
    assert reply.usage is not None
    assert reply.usage.total_tokens == 10
    assert reply.meta.status == 200
    first, second = model.asked
    assert (first["messages"], second["messages"]) == (HI, HI + HISTORY[:3])
    assert [one["function"]["name"] for one in first["tools"]] == ["double", "shout"]
    assert (first["tools"], first["temperature"]) == (second["tools"], second["temperature"])


@both_ways
@pytest.mark.parametrize(
    "messages", ["hi", HI, tuple(HI), {"messages": HI, "temperature": 0}], ids=["text", "list", "tuple", "request"]
)
def test_what_can_be_asked(streamed: bool, messages: Any) -> None:
    """A text, messages, or the whole request; the caller's list stays as it is."""
    model = Model(CALLS, said("Eight."))

    async def main() -> None:
        async with talking(model) as (client, _):
            if streamed:
                await client.chat.stream_tools(messages, tools=[double, shout]).final()
            else:
                await client.chat.run_tools(messages, tools=[double, shout])

    run(main())
    assert [len(one["messages"]) for one in model.asked] == [1, 4]
    assert len(HI) == 1


def test_the_pieces_of_a_turn() -> None:
    """Texts and reasoning as they come, tools as they start and finish; printing texts prints the answers."""

    async def main() -> list[Any]:
        async with talking(Model(CALLS, said("Eight.", reasoning_content="so"))) as (client, _):
            async with client.chat.stream_tools("hi", tools=[double, shout]) as stream:
                pieces = [piece async for piece in stream]
                assert (stream.text, stream.reasoning) == ("Eight.", "so")
                assert (await stream.final()).messages == HISTORY
                assert stream.meta.status == 200
                return pieces

    pieces = run(main())
    assert "".join(piece.text for piece in pieces) == "Let me see.Eight."
    assert "".join(piece.reasoning for piece in pieces) == "so"
    kinds = [type(piece) for piece in pieces if not isinstance(piece, TextPiece)]
    assert kinds == [ToolStarted, ToolStarted, ToolFinished, ToolFinished, ReasoningPiece, ReasoningPiece]
    started = [piece.call.id for piece in pieces if isinstance(piece, ToolStarted)]
    finished = {piece.result.id: piece.result.content for piece in pieces if isinstance(piece, ToolFinished)}
    assert (started, finished) == (["a", "b"], {"a": "8", "b": "É"})


A, B = ("double", '{"x":4}'), ("shout", '{"text":"é"}')


@pytest.mark.parametrize(
    "streamed",
    [
        [[{"index": 0, **call("a", *A)}, {"index": 1, **call("b", *B)}]],
        [[call("a", *A)], [call("b", *B)]],
        [[call(None, *A), call(None, *B)]],
        [[{"index": 0, **call("a", *A)}], [{"index": 0, **call("b", *B)}]],
        [[{"index": 0, **call("s", *A)}], [{"index": 0, **call("s", *B)}]],
        [
            [{"index": 0, "id": "a", "function": {"name": "double"}}, {"index": 0, "function": {"arguments": A[1]}}],
            [{"index": 1, "id": "b", "function": {"name": "shout"}}, {"index": 1, "function": {"arguments": B[1]}}],
        ],
        [[{"function": {"name": "double", "arguments": {"x": 4}}}, {"function": {"name": "shout", "arguments": B[1]}}]],
    ],
    ids=[
        "whole calls in one chunk",
        "without an index",
        "without index and id",
        "each with the index 0",
        "each with the same index and id",
        "several entries of one index",
        "an object for arguments, no type",
    ],
)
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_the_dialects_of_streams(streamed: list[Any], finish: str) -> None:
    """However a server marks its calls, both run, each once."""
    answer = [*(delta(tool_calls=entries) for entries in streamed), delta(finish)]
    reply = ask(Model(answer, said("Done.")), True, tools=[double, shout])
    assert [(one.name, one.content) for one in reply.tool_calls] == [("double", "8"), ("shout", "É")]
    check_messages(HI + reply.messages)


@both_ways
def test_the_predecessor_of_tool_calls(streamed: bool) -> None:
    """A server that answers with `function_call` gets its result as a tool's."""
    old = said(None, "function_call", function_call={"name": "double", "arguments": '{"x":4}'})
    reply = ask(Model(old, said("Eight.")), streamed, tools=[double])
    assert [(one.name, one.content) for one in reply.tool_calls] == [("double", "8")]
    check_messages(HI + reply.messages)


@both_ways
def test_thinking_in_tags(streamed: bool) -> None:
    """Taken out of the text when asked, and not sent back."""
    model = Model(
        said("<think>Twice</think>\nSo:", tool_calls=[call("a", "double", '{"x":4}')]),
        said("<think>Got it.</think>\n\nEight."),
    )
    reply = ask(model, streamed, tools=[double], think_tags=True)
    assert (reply.text, reply.reasoning) == ("Eight.", "Got it.")
    assert model.asked[1]["messages"][1]["content"] == "So:"


@both_ways
def test_reasoning_goes_back_when_asked(streamed: bool) -> None:
    """Some models want to see within a turn what they thought before."""
    for keep in (False, True):
        model = Model(said(None, reasoning_content="hm", tool_calls=[call("a", "double", '{"x":4}')]), said("Eight."))
        ask(model, streamed, tools=[double], keep_reasoning=keep)
        assert model.asked[1]["messages"][1].get("reasoning_content") == ("hm" if keep else None)


def test_a_tool_may_use_the_client_itself() -> None:
    """While tools run, the turn holds no place in flight, not even the only one."""

    async def main() -> None:
        model = Model(said(None, tool_calls=[call("a", "inner")]), said("inner words"), said("Done."))
        async with talking(model, http_max_in_flight=1) as (client, _):

            async def inner() -> str:
                return (await client.chat("inner")).text

            reply = await client.chat.run_tools("hi", tools=[inner])
            assert [one.content for one in reply.tool_calls] == ["inner words"]
            model.answers += [said(None, tool_calls=[call("a", "inner")]), said("inner words"), said("Done.")]
            async with client.chat.stream_tools("hi", tools=[inner]) as stream:
                assert (await stream.final()).tool_calls[0].content == "inner words"

    run(main())


# ---------------------------------------------------------------- objects


@both_ways
def test_an_object_after_a_repair(streamed: bool) -> None:
    """The model sees what was wrong; the history has what was right."""
    model = Model(said('{"value": ["a"]}'), said('{"value": [1]}'))
    reply = ask(model, streamed, into=list[int])
    assert (reply.parsed, reply.messages) == ([1], [{"role": "assistant", "content": '{"value": [1]}'}])
    assert len(reply.answers) == 2
    assert model.asked[0]["response_format"]["type"] == "json_schema"
    assert "$.value[0]" in model.asked[1]["messages"][-1]["content"]


def test_an_object_grows() -> None:
    """Pieces of text, each with the object so far; after a repair all over again."""

    async def main() -> list[Any]:
        got: list[Any] = []
        async with talking(Model(said('{"value":7}'), said('{"value":"ab"}'))) as (client, _):
            async with client.chat.stream_parse("hi", into=str) as stream:
                async for piece in stream:
                    if isinstance(piece, PartialObject):
                        got.append(piece.value)
                    elif isinstance(piece, RepairStarted):
                        got.append(piece)
                assert (stream.text, (await stream.final()).parsed) == ('{"value":"ab"}', "ab")
        return got

    got = run(main())
    (place,) = [place for place, one in enumerate(got) if isinstance(one, RepairStarted)]
    assert set(got[:place]) <= {7}
    assert "$.value" in got[place].problem
    assert got[-3:] == ["ab", "ab", "ab"]
    assert "a" in got[place + 1 :]


@both_ways
def test_an_object_that_never_fits(streamed: bool) -> None:
    """After all repairs the error holds the last answer and, as `partial`, all of them."""
    with pytest.raises(StructuredOutputError) as caught:
        ask(Model(said("no"), said("still no")), streamed, into=int)
    assert caught.value.text == "still no"
    assert [answer.text for answer in caught.value.partial.answers] == ["no", "still no"]
    assert caught.value.partial.messages == []


def refusal(param: str) -> bytes:
    return json_answer({"error": {"message": "?", "type": "invalid_request_error", "param": param}}, 400)


@both_ways
def test_a_server_without_schemas_is_asked_in_another_way(streamed: bool) -> None:
    """Down the ladder until it takes the request; what it took is remembered."""
    model = Model(refusal("response_format"), refusal("response_format"), said("```json\n[1]\n```"), said("[2]"))

    async def main() -> None:
        async with talking(model) as (client, _):
            assert (await turn(client, streamed, into=list[int])).parsed == [1]
            assert (await turn(client, streamed, into=list[int])).parsed == [2]

    run(main())
    formats = [one.get("response_format", {}).get("type") for one in model.asked]
    assert formats == ["json_schema", "json_object", None, None]
    assert "JSON schema" in model.asked[2]["messages"][-1]["content"]


@both_ways
def test_a_format_by_name(streamed: bool) -> None:
    """Nothing is tried out then."""
    model = Model(said("[1]"))
    assert ask(model, streamed, into=list[int], format="prompt").parsed == [1]
    with pytest.raises(APIError) as caught:
        ask(Model(refusal("response_format")), streamed, into=int, format="json_schema")
    assert caught.value.partial.answers == []


@both_ways
def test_tools_on_the_way_to_an_object(streamed: bool) -> None:
    """The tools' results come first, the object last."""
    model = Model(CALLS, said('{"value": 8}'))
    reply = ask(model, streamed, into=int, tools=[double, shout])
    assert (reply.parsed, len(reply.tool_calls)) == (8, 2)


# ---------------------------------------------------------------- failures keep what came


@both_ways
def test_a_server_that_fails_in_a_later_round(streamed: bool) -> None:
    """The error is the call's own; what was finished is in `partial`, and valid as a history."""
    down = json_answer({"error": {"message": "down"}}, 503)
    with pytest.raises(InternalServerError) as caught:
        ask(Model(CALLS, down), streamed, tools=[double, shout])
    partial = caught.value.partial
    assert partial.messages == HISTORY[:3]
    assert (partial.text, len(partial.answers)) == ("Let me see.", 1)
    check_messages(HI + partial.messages)


def test_a_stream_that_breaks_off() -> None:
    """What came is delivered first; the partial reply has the rounds before, and the beginning of the answer."""
    torn = STREAM_HEAD + b"".join(map(event, chunks(said("Eight."))[:4])) + LAST_CHUNK

    async def main() -> None:
        async with talking(Model(CALLS, torn)) as (client, _):
            stream = client.chat.stream_tools("hi", tools=[double, shout])
            words: list[str] = []
            with pytest.raises(IncompleteStreamError) as caught:
                async for piece in stream:
                    words.append(piece.text)
            assert "".join(words) == "Let me see.Eig"
            assert caught.value.partial.text == "Eig"
            assert caught.value.partial.messages == HISTORY[:3]
            assert (stream.text, stream.partial.messages) == ("Eig", HISTORY[:3])
            with pytest.raises(IncompleteStreamError) as again:
                await stream.final()
            assert again.value is caught.value

    run(main())


@both_ways
def test_rounds_without_end(streamed: bool) -> None:
    """Stopped after `max_rounds` answers."""
    model = Model(*[CALLS] * 5)
    with pytest.raises(TooManyRoundsError) as caught:
        ask(model, streamed, tools=[double, shout], max_rounds=3)
    assert len(model.asked) == 3
    assert len(caught.value.partial.messages) == 6
    assert caught.value.partial.answer.message.tool_calls is not None


@both_ways
def test_a_failing_tool(streamed: bool) -> None:
    """Told or raised."""

    def boom() -> None:
        raise LookupError("nothing there")

    calls = said("Let me.", tool_calls=[call("a", "boom")])
    model = Model(calls, said("Sorry."))
    assert ask(model, streamed, tools=[boom]).text == "Sorry."
    assert model.asked[1]["messages"][-1]["content"] == "Error: LookupError: nothing there"
    with pytest.raises(ToolError, match="The tool boom failed: LookupError") as caught:
        ask(Model(calls), streamed, tools=[boom], on_tool_error="raise")
    assert (caught.value.partial.text, caught.value.partial.messages) == ("Let me.", [])


@both_ways
def test_a_denied_tool(streamed: bool) -> None:
    """The model is told, and goes on."""
    model = Model(CALLS, said("Well then."))
    reply = ask(model, streamed, tools=[double, shout], permit=lambda call: call.name == "shout")
    assert [(one.denied, one.value) for one in reply.tool_calls] == [(True, None), (False, "É")]


@both_ways
def test_calls_that_the_length_limit_cut(streamed: bool) -> None:
    """Are not run."""
    torn = said("x", "length", tool_calls=[call("a", "double", '{"x":4}')])
    with pytest.raises(LengthFinishReasonError) as caught:
        ask(Model(torn), streamed, tools=[double])
    assert caught.value.partial.tool_calls == []
    assert caught.value.completion.choices[0].finish_reason == "length"


@both_ways
def test_no_key_reaches_the_model(streamed: bool) -> None:
    """An exception that quotes the client's key is told without it."""

    def leak() -> None:
        raise RuntimeError("request with key-of-the-client failed")

    model = Model(said(None, tool_calls=[call("a", "leak")]), said("Oh."))

    async def main() -> None:
        async with talking(model, api_key="key-of-the-client") as (client, _):
            await turn(client, streamed, tools=[leak])

    run(main())
    told = model.asked[1]["messages"][-1]["content"]
    assert told.startswith("Error: RuntimeError: request with ")
    assert "key-of-the-client" not in told


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "tools"),
        ({"tools": "weather"}, "tools must be a list of functions"),
        ({"tools": [double], "n": 2}, "does not accept n: "),
        ({"tools": [double], "temprature": 1}, "temprature"),
        ({"tools": [double], "stream": True}, "does not accept stream: "),
        ({"tools": [double], "functions": []}, "does not accept functions: "),
    ],
)
@both_ways
def test_wrong_words_are_refused_before_anything_is_sent(params: Any, reason: str, streamed: bool) -> None:
    """As `TypeError`, where the call is written or at the latest when it is made."""
    model = Model()
    with pytest.raises(TypeError, match=reason):
        run(_use(model, streamed, params))
    assert model.asked == []


async def _use(model: Model, streamed: bool, params: Any) -> None:
    async with talking(model) as (client, _):
        if streamed:
            await client.chat.stream_tools("hi", **params).final()
        else:
            await client.chat.run_tools("hi", **params)


@pytest.mark.parametrize("name", ["run_tools", "stream_tools", "parse", "stream_parse", "session", "load_session"])
def test_a_turn_has_no_raw_answer(name: str) -> None:
    """It is made of several calls: asked for, it is not there."""

    async def main() -> None:
        async with Client(api_base="http://localhost:1/v1", model="m") as client:
            assert callable(getattr(client.chat, name))
            for view in (client.chat.with_raw_response, client.chat.with_streaming_response):
                with pytest.raises(AttributeError, match="not a method with a raw answer"):
                    getattr(view, name)

    run(main())


def test_messages_are_needed() -> None:
    """Said as such."""

    async def main() -> None:
        async with Client(api_base="http://localhost:1/v1", model="m") as client:
            with pytest.raises(TypeError, match="missing the required argument 'messages'"):
                await client.chat.run_tools(tools=[double])

    run(main())


# ---------------------------------------------------------------- leaving


class Endless:
    """A tool that only ends when it is cancelled."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()
        self.ended = 0

    async def __call__(self) -> None:
        self.runs.set()
        try:
            await asyncio.sleep(60)
        finally:
            self.ended += 1


ENDLESS = said("One moment.", tool_calls=[call("a", "endless"), call("b", "endless")])


@both_ways
def test_a_cancelled_turn_cancels_its_tools(streamed: bool) -> None:
    """Its `CancelledError` holds the part received so far."""

    async def main() -> None:
        endless = Endless()
        async with talking(Model(ENDLESS)) as (client, _):

            async def asking() -> Any:
                try:
                    await turn(client, streamed, tools=[tool(endless, name="endless")])
                except asyncio.CancelledError as error:
                    return error

            task = asyncio.create_task(asking())
            await endless.runs.wait()
            task.cancel()
            error = await task
            assert (error.partial.text, error.partial.messages) == ("One moment.", [])
            assert endless.ended == 2

    run(main())


@both_ways
def test_a_turn_cancelled_while_the_server_thinks(streamed: bool) -> None:
    """The connection is dropped at once."""

    async def main() -> None:
        asked = asyncio.Event()

        async def hang(seen: Seen, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await asyncio.sleep(60)

        async with talking(Model(CALLS, hang)) as (client, _):
            task = asyncio.create_task(turn(client, streamed, tools=[double, shout]))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


@pytest.mark.parametrize("how", ["close", "break", "raise", "forget"])
def test_a_stream_that_is_left_cancels_its_tools(how: str) -> None:
    """By closing, breaking out, raising in the body, or dropping it."""

    async def main() -> None:
        endless = Endless()
        async with talking(Model(ENDLESS)) as (client, _):
            stream: TurnStream[Any] | None = client.chat.stream_tools("hi", tools=[tool(endless, name="endless")])
            assert stream is not None
            async for piece in stream:
                if isinstance(piece, ToolStarted):
                    break
            await endless.runs.wait()
            if how == "forget":
                stream = None
                gc.collect()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            elif how == "raise":
                with pytest.raises(ZeroDivisionError):
                    async with stream:
                        raise ZeroDivisionError
            elif how == "break":
                async with stream:
                    async for _ in stream:
                        break
            else:
                await stream.close()
                await stream.close()
            assert endless.ended == 2
            if stream is not None:
                assert stream.partial.text == "One moment."
                with pytest.raises(RuntimeError, match="closed before its end"):
                    await stream.final()

    run(main())


def test_what_had_come_stays_when_a_stream_is_left() -> None:
    """The beginning of the answer is in `partial`, after the rounds before it."""

    async def main() -> None:
        async with talking(Model(CALLS, said("Eight."))) as (client, _):
            async with client.chat.stream_tools("hi", tools=[double, shout]) as stream:
                async for _piece in stream:
                    if stream.text == "Eig":
                        break
            partial = stream.partial
            assert (partial.text, partial.messages, len(partial.answers)) == ("Eig", HISTORY[:3], 2)
            assert partial.finish_reason is None

    run(main())


@pytest.mark.parametrize("tool_runs", [False, True])
def test_a_stream_has_one_reader(tool_runs: bool) -> None:
    """A second one is told so, and does no harm."""

    async def main() -> None:
        here, go = asyncio.Event(), asyncio.Event()

        async def wait(seen: Seen, writer: asyncio.StreamWriter) -> None:
            here.set()
            await go.wait()
            writer.write(events(chunks(said("Done."))))

        async def waits() -> None:
            here.set()
            await go.wait()

        answers = [said(None, tool_calls=[call("a", "waits")]), said("Done.")] if tool_runs else [wait]
        async with talking(Model(*answers)) as (client, _):
            stream = client.chat.stream_tools("hi", tools=[waits])
            task = asyncio.create_task(stream.final())
            await here.wait()
            with pytest.raises(RuntimeError, match="one reader"):
                await stream.__anext__()
            go.set()
            assert (await task).text == "Done."

    run(main())


STREAMS = {
    "chat.stream": lambda client: client.chat.stream("hi"),
    "chat.stream_tools": lambda client: client.chat.stream_tools("hi", tools=[double]),
    "session.stream": lambda client: client.chat.session().stream("hi"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_second_pass_over_a_stream_is_an_error(name: str) -> None:
    """A second pass would look like an empty answer; `final()` can be called any number of times."""

    async def main() -> None:
        async with talking(Model(said("one two", "stop"), said("three", "stop"))) as (client, _):
            stream: Any = STREAMS[name](client)
            assert "".join([piece.text async for piece in stream]) == "one two"
            with pytest.raises(RuntimeError, match=r"has ended.*read once; final\(\)"):
                [piece async for piece in stream]
            assert (await stream.final()).text == (await stream.final()).text == "one two"
            stream = STREAMS[name](client)
            await stream.final()
            with pytest.raises(RuntimeError, match="has ended"):
                [piece async for piece in stream]

    run(main())


@pytest.mark.parametrize("name", STREAMS)
def test_a_second_loop_goes_on_where_the_first_was_left(name: str) -> None:
    """One pass may be made in several loops, the last of which finds the end."""

    async def main() -> None:
        async with talking(Model(said("one two", "stop"))) as (client, _):
            found: list[str] = []
            stream: Any = STREAMS[name](client)
            async for piece in stream:
                found.append(piece.text)
                break
            async for piece in stream:
                found.append(piece.text)
            assert "".join(found) == "one two"

    run(main())


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_awaited(name: str) -> None:
    """Says how it is used instead; nothing is sent."""

    async def main() -> None:
        model = Model(said("one", "stop"))
        async with talking(model) as (client, _):
            with pytest.raises(
                TypeError, match=r"Stream is not awaited: enter it with 'async with', or await its final"
            ):
                await STREAMS[name](client)
        assert model.asked == []

    run(main())


def test_nothing_is_sent_before_a_stream_is_used() -> None:
    """It can be made and thrown away; it shows its state."""

    async def main() -> None:
        async with talking(Model(said("Hi."))) as (client, server):
            stream = client.chat.stream_tools("hi", tools=[double])
            with pytest.raises(RuntimeError, match="no answer has started yet"):
                _ = stream.meta
            assert (repr(stream), stream.text, stream.partial.answers) == ("<TurnStream not sent>", "", [])
            assert server.seen == []
            async with stream:
                assert repr(stream) == "<TurnStream open>"
                async with stream:
                    pass
                assert repr(stream) == "<TurnStream closed>"
            assert len(server.seen) == 1

    run(main())


def test_entering_raises_what_the_call_raises() -> None:
    """With the turn so far."""

    async def main() -> None:
        async with talking(Model(json_answer({"error": {"message": "down"}}, 500))) as (client, _):
            with pytest.raises(InternalServerError) as caught:
                async with client.chat.stream_tools("hi", tools=[double]):
                    pass
            assert caught.value.partial.messages == []

    run(main())


def test_plain_chat_loads_none_of_this() -> None:
    """A first call pays only for what it uses."""
    code = (
        "import sys, asyncio\nfrom openaiasync import Client\n"
        "async def main():\n"
        "    async with Client(api_base='http://127.0.0.1:1/v1', api_key='k', model='m', max_retries=0) as client:\n"
        "        try:\n            await client.chat('hi')\n"
        "        except Exception as error:\n            print(type(error).__name__)\n"
        "asyncio.run(main())\n"
        "print(sorted(name for name in sys.modules if name.startswith('openaiasync.chat')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split("\n")[:2] == ["APIConnectionError", "[]"]
