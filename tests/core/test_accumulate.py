"""Chunks put together: text, reasoning, tool calls in every dialect, what real servers sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cputime import assert_linear
from openaiasync.core.codec.accumulate import BACKLOG, ChatAccumulator, CompletionAccumulator, ToolCalls
from openaiasync.core.codec.decode import decoder_for
from openaiasync.core.http.sse import SSEDecoder
from openaiasync.types import Completion
from openaiasync.types.chat import ChatCompletion, ChatCompletionChunk
from real_servers.transcripts import FOLDER, read_file


def chunk(*choices: dict[str, Any], **fields: Any) -> ChatCompletionChunk:
    body = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    return decoder_for(ChatCompletionChunk).decode(json.dumps(body).encode())


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> ChatCompletionChunk:
    return chunk({"index": index, "delta": fields, "finish_reason": finish})


def whole(*chunks: ChatCompletionChunk) -> ChatCompletion:
    sum_ = ChatAccumulator()
    for each in chunks:
        sum_.add(each)
    return sum_.final()


def calls(*deltas: list[dict[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """Id, name and arguments of the calls that come out of these `tool_calls` fields, a delta each."""
    answer = whole(*(delta(tool_calls=entries) for entries in deltas), delta("tool_calls"))
    made: Any = answer.message and answer.message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert all(call.type == "function" for call in made)
    return [(call.id, call.function.name, call.function.arguments) for call in made]


def entry(index: Any = None, id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    """An entry of `tool_calls` with just these fields."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": id, "function": function or None}
    return {key: value for key, value in fields.items() if value is not None}


def test_text_role_and_finish_reason() -> None:
    """The usual stream makes the usual answer."""
    answer = whole(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        chunk(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    )
    assert type(answer) is ChatCompletion
    assert answer.to_dict() == {
        "id": "i",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    assert answer.text == "Hello"


def test_so_far() -> None:
    """Text, reasoning, usage and the partial answer are available at any time, and do not change afterwards."""
    sum_ = ChatAccumulator()
    assert (sum_.text, sum_.reasoning, sum_.usage, sum_.complete) == ("", "", None, False)
    assert sum_.partial().choices == []
    sum_.add(delta(reasoning_content="hm"))
    sum_.add(delta(content="a"))
    early = sum_.partial()
    assert (sum_.text, sum_.reasoning, sum_.complete) == ("a", "hm", False)
    sum_.add(delta(content="b"))
    sum_.add(delta("stop", reasoning_content="m"))
    assert (sum_.text, sum_.reasoning, sum_.complete) == ("ab", "hmm", True)
    assert (early.text, early.reasoning, early.choices[0].finish_reason) == ("a", "hm", None)
    assert (sum_.final().text, sum_.final().reasoning) == ("ab", "hmm")


def test_choices_are_kept_apart() -> None:
    """In whatever order their chunks come; complete is the answer when each has its finish reason."""
    sum_ = ChatAccumulator()
    for each in (delta(index=1, content="x"), delta(content="a"), delta(index=1, content="y"), delta("stop", index=1)):
        sum_.add(each)
    assert (sum_.text, sum_.complete) == ("a", False)
    sum_.add(delta("length", content="b"))
    assert sum_.complete
    first, second = sum_.final().choices
    assert (first.index, first.message.content, first.finish_reason) == (0, "ab", "length")
    assert (second.index, second.message.content, second.finish_reason) == (1, "xy", "stop")


def test_an_empty_finish_reason_is_none() -> None:
    """Some servers send "" until the end."""
    sum_ = ChatAccumulator()
    sum_.add(delta("", content="a"))
    assert not sum_.complete
    sum_.add(delta("stop"))
    assert sum_.complete


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_keeps_the_name_it_came_under(name: str) -> None:
    """And `.reasoning` finds it under both."""
    answer = whole(delta(**{name: "a"}), delta(**{name: "b"}), delta("stop", content="c"))
    assert answer.message is not None
    assert getattr(answer.message, name) == "ab"
    assert (answer.reasoning, answer.text) == ("ab", "c")


def test_refusal_and_the_old_function_call() -> None:
    """Both grow like text."""
    answer = whole(
        delta(refusal="I "),
        delta(refusal="won't"),
        delta(function_call={"name": "f", "arguments": '{"a"'}),
        delta("function_call", function_call={"arguments": ":1}"}),
    )
    message = answer.message
    assert message is not None
    assert (message.refusal, message.content) == ("I won't", None)
    assert message.function_call is not None
    assert (message.function_call.name, message.function_call.arguments) == ("f", '{"a":1}')


def test_logprobs_of_all_chunks() -> None:
    """One list of tokens, for contents and refusals."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    answer = whole(
        chunk({"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token], "refusal": None}}),
        chunk({"index": 0, "delta": {"content": "b"}, "logprobs": None}),
        chunk({"index": 0, "delta": {"content": "c"}, "logprobs": {"content": [{**token, "token": "c"}]}}),
    )
    logprobs: Any = answer.choices[0].logprobs
    assert [one.token for one in logprobs.content] == ["a", "c"]
    assert type(logprobs).__module__ == ChatCompletion.__module__
    assert logprobs.refusal is None


def test_fields_of_the_chunks_and_of_providers_are_kept() -> None:
    """The last value wins, but for the id; unknown fields of chunk, choice and delta find their place."""
    answer = whole(
        chunk(id="", model="", prompt_filter_results=[{"index": 0}]),
        chunk(
            {"index": 0, "delta": {"content": "a", "thought": "x", "details": [{"type": "t", "text": "p", "index": 0}]}}
        ),
        chunk(
            {
                "index": 0,
                "delta": {"thought": "y", "details": [{"type": "t", "text": "q", "index": 0}]},
                "token_ids": [1],
            }
        ),
        chunk(
            {
                "index": 0,
                "delta": {},
                "finish_reason": "stop",
                "stop_reason": 7,
                "token_ids": [2],
                "filter": {"hate": 1},
            },
            service_tier="default",
            system_fingerprint="fp",
            timings={"n": 2},
        ),
        chunk(id="other", obfuscation="zzz"),
    )
    assert (answer.id, answer.model, answer.service_tier, answer.system_fingerprint) == ("i", "m", "default", "fp")
    assert answer.timings == {"n": 2}
    assert answer.extra == {"prompt_filter_results": [{"index": 0}], "timings": {"n": 2}}
    choice = answer.choices[0]
    assert choice.extra == {"filter": {"hate": 1}, "stop_reason": 7, "token_ids": [1, 2]}
    assert (choice.stop_reason, choice.token_ids) == (7, [1, 2])
    assert choice.message.extra == {"thought": "xy", "details": [{"type": "t", "text": "pq", "index": 0}]}


def test_audio_grows_by_its_transcript_and_data() -> None:
    """Its id comes again and again and stays one."""
    answer = whole(
        delta(audio={"id": "x", "transcript": "Hel"}),
        delta(audio={"id": "x", "transcript": "lo", "data": "AAAA"}),
        delta("stop", audio={"data": "BBBB", "expires_at": 5}),
    )
    audio: Any = answer.message and answer.message.audio
    assert (audio.id, audio.transcript, audio.data, audio.expires_at) == ("x", "Hello", "AAAABBBB", 5)


WEATHER = ("a", "f", '{"x":1}')
TIME = ("b", "g", "{}")


@pytest.mark.parametrize(
    "deltas",
    [
        [
            [entry(0, "a", "f", "")],
            [entry(0, arguments='{"x"')],
            [entry(0, arguments=":1}")],
            [entry(1, "b", "g", "{}")],
        ],
        [[entry(0, "a", "f", '{"x":1}'), entry(1, "b", "g", "{}")]],
        [[entry(3, "a", "f", '{"x"')], [entry(7, "b", "g", "{}")], [entry(3, arguments=":1}")]],
        [[entry(None, "a", "f", '{"x"')], [entry(arguments=":1}")], [entry(None, "b", "g")], [entry(arguments="{}")]],
        [[entry(None, "a", "f", '{"x"')], [entry(None, "b", "g", "{}")], [entry(None, "a", None, ":1}")]],
        [[entry(0, "a", "f"), entry(0, None, None, '{"x":1}')], [entry(1, "b", "g"), entry(1, arguments="{}")]],
        [[entry(0, None, None, '{"x"'), entry(0, "a", "f", ":1}")], [entry(1, arguments="{}"), entry(1, "b", "g")]],
        [[entry(0, "a", "f", '{"x":1}')], [entry(0, "b", "g", "{}")]],
        [
            [entry(0, "a", "f", '{"x"')],
            [entry(0, "a", "f", ":1}")],
            [entry(1, "b", "g", "{")],
            [entry(1, "b", "g", "}")],
        ],
        [[entry(0, "a", "f", '{"x"')], [entry(0, "zz", None, ":1}")], [entry(1, "b", "g", "{}")]],
        [[entry(None, "a", "f", '{"x"')], [entry(0, "a", None, ":1}")], [entry(1, "b", "g", "{}")]],
        [[entry(0, "a", "f", {"x": 1})], [entry(1, "b", "g", {})]],
    ],
    ids=[
        "as OpenAI sends them",
        "whole calls in one delta",
        "indexes that do not start at 0, interleaved",
        "without index",
        "by id alone",
        "two entries of one index, the id in the first",
        "two entries of one index, the id in the second",
        "every call has the index 0",
        "id and name in every delta",
        "another id in every delta, without a name",
        "index only later",
        "arguments as objects",
    ],
)
def test_tool_calls_in_every_dialect(deltas: list[list[dict[str, Any]]]) -> None:
    """The same two calls come out."""
    assert calls(*deltas) == [WEATHER, TIME]


def test_whole_calls_without_index_and_id() -> None:
    """A name begins another call where nothing else tells them apart."""
    assert calls([entry(name="f", arguments="1"), entry(name="g", arguments="2")], [entry(name="h")]) == [
        (None, "f", "1"),
        (None, "g", "2"),
        (None, "h", ""),
    ]


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize("id", [None, "same"])
def test_whole_calls_that_share_index_and_id(index: int | None, id: str | None) -> None:
    """Nothing can follow a whole object: a name with another one is another call, and cut ones are told apart too."""
    first = [entry(index, id, "f", '{"x":1}'), entry(index, id, "f", '{"x":2}')]
    second = [[entry(index, id, "g", '{"y"')], [entry(index, id, None, ":{}")], [entry(index, id, None, "}")]]
    assert calls(first, *second) == [(id, "f", '{"x":1}'), (id, "f", '{"x":2}'), (id, "g", '{"y":{}}')]


def test_a_call_that_is_said_twice_is_one() -> None:
    """A server that repeats the whole call at the end, id included, does not make the caller run it again."""
    said = entry(0, "a", "f", '{"x":1}')
    assert calls([entry(0, "a", "f", '{"x"')], [entry(0, None, None, ":1}")], [said], [said]) == [WEATHER]


def test_null_names_ids_and_functions_do_no_harm() -> None:
    """Nulls bring nothing; neither do empty texts."""
    nulls = {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": None}}
    empty = {"index": 0, "id": "", "function": {"name": "", "arguments": ""}}
    odd: list[Any] = [5, None, {"index": 0, "function": None}, {"index": 0, "function": "text"}]
    assert calls([entry(0, "a", "f", "{")], [nulls], [empty], odd, [entry(0, arguments="}")]) == [("a", "f", "{}")]
    assert calls([entry(0, "a", "get_"), entry(0, name="weather", arguments="{}")]) == [("a", "get_weather", "{}")]


def test_call_and_finish_reason_in_one_chunk() -> None:
    """And the call's own unknown fields are kept."""
    whole_call = {**entry(0, "a", "f", "{}"), "type": "function", "extra_content": {"google": {"signature": "s"}}}
    answer = whole(delta("tool_calls", role="assistant", content=None, tool_calls=[whole_call]))
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls if answer.message and answer.message.tool_calls else ()
    assert call.extra == {"extra_content": {"google": {"signature": "s"}}}
    assert (answer.text, answer.message and answer.message.content) == ("", None)


def test_custom_tool_calls() -> None:
    """Their input grows as arguments do."""
    answer = whole(
        delta(tool_calls=[{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]),
        delta("tool_calls", tool_calls=[{"index": 0, "custom": {"input": "y"}}]),
    )
    call: Any = answer.message and answer.message.tool_calls and answer.message.tool_calls[0]
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "f", "xy")
    assert type(call).__name__ == "ChatCompletionMessageCustomToolCall"


@pytest.mark.parametrize(
    "choices",
    [None, "x", [], [3], [None], [{"index": 0}], [{"index": 0, "delta": None}], [{"index": [], "delta": 3}]],
)
def test_chunks_without_sense_are_passed_over(choices: Any) -> None:
    """A lenient chunk may hold anything; the chunks before and after it are accumulated."""
    odd = decoder_for(ChatCompletionChunk).decode(json.dumps({"id": 3, "choices": choices}).encode())
    answer = whole(delta(content="a"), odd, delta("stop", content="b"))
    assert (answer.text, answer.choices[0].finish_reason) == ("ab", "stop")


def test_content_in_parts_is_text() -> None:
    """Some servers send the delta's content as a list."""
    assert whole(delta(content=[{"type": "text", "text": "a"}]), delta("stop", content="b")).text == "ab"


def test_a_long_stream_is_worked_in_bit_by_bit() -> None:
    """Chunks do not pile up, and nothing of them is lost."""
    sum_ = ChatAccumulator()
    for number in range(3 * BACKLOG + 5):
        sum_.add(delta(content=str(number % 10)))
        assert len(sum_._pending) < BACKLOG
    assert sum_.text == "".join(str(number % 10) for number in range(3 * BACKLOG + 5))


def test_adding_is_linear() -> None:
    """Four times the chunks take about four times as long, whatever grows: text, arguments, audio."""
    piece = delta(
        content="x" * 50, reasoning="y" * 50, tool_calls=[entry(0, arguments="z" * 50)], audio={"data": "d" * 50}
    )

    def add(count: int) -> None:
        assert len(whole(*[piece] * count).text) == 50 * count

    assert_linear(add, 2_500)


CALLS: dict[str, Callable[[int], dict[str, Any]]] = {
    "calls of their own": lambda at: entry(at, f"id{at}", "f", '{"a": 1}'),
    "all at index 0": lambda at: entry(0, f"id{at}", "f", '{"a": 1}'),
    "without index or id": lambda at: entry(None, None, "f", '{"a": 1}'),
    "one, whose name comes with every piece": lambda at: entry(0, "id", "f", "{}," if at else '{"a": ['),
    "one, whose arguments are empty": lambda at: entry(0, "id", f"f{at % 2}", ""),
    "one, again and again": lambda at: entry(0, "id", "f", '{"a": 1}'),
}


@pytest.mark.parametrize("kind", CALLS)
def test_tool_calls_are_told_apart_in_linear_time(kind: str) -> None:
    """The cost is linear for any number in one stream, also if the state is read at every delta."""
    chunks = [delta(tool_calls=[CALLS[kind](at)]) for at in range(16_000)]
    entries: list[Any] = [chunk.choices[0].delta.tool_calls[0] for chunk in chunks]  # type: ignore[index]

    def tell_apart(count: int) -> None:
        told = ToolCalls()
        for one in entries[:count]:
            place = told.take(one)
            assert place is None or told.so_far(place)[0]

    assert_linear(tell_apart, 4_000)


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=4)), max_size=20), st.integers(1, 5))
def test_asking_in_between_changes_nothing(pieces: list[tuple[int, str]], every: int) -> None:
    """The sum does not depend on when somebody looked."""
    chunks = [delta(index=index, content=text) for index, text in pieces]
    asked = ChatAccumulator()
    for number, each in enumerate(chunks):
        asked.add(each)
        if number % every == 0:
            assert [choice.message.content for choice in asked.partial().choices if choice.index == 0] in (
                [],
                [asked.text],
            )
    assert asked.final() == whole(*chunks)
    for choice in asked.final().choices:
        assert choice.message.content == "".join(text for index, text in pieces if index == choice.index)


def streams(pattern: str) -> list[Any]:
    """The events of every stream that the transcripts hold in full, in files that `pattern` names."""
    found = [exchange for path in sorted(FOLDER.glob(pattern)) for exchange in read_file(path)]
    return [
        pytest.param(SSEDecoder().feed(exchange.body), id=exchange.name)
        for exchange in found
        if exchange.heads and exchange.is_stream and not exchange.cut
    ]


@pytest.mark.parametrize("events", [*streams("*.stream.txt"), *streams("*.tools.txt")])
def test_chat_streams_of_real_servers(events: list[bytes]) -> None:
    """What a server streamed makes an answer that says all of it: texts by plain arithmetic on its JSON."""
    sum_, decoder = ChatAccumulator(), decoder_for(ChatCompletionChunk, strict=True).stream()
    texts: dict[int, str] = {}
    thoughts: dict[int, str] = {}
    arguments: dict[int, str] = {}
    usage = None
    for event in events[:-1] if events[-1] == b"[DONE]" else events:
        raw = json.loads(event)
        usage = raw.get("usage") or usage
        sum_.add(decoder.decode(event))
        for choice in raw["choices"]:
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
            thoughts[index] = thoughts.get(index, "") + (choice["delta"].get("reasoning_content") or "")
            for call in choice["delta"].get("tool_calls") or ():
                arguments[call["index"]] = arguments.get(call["index"], "") + call["function"]["arguments"]
    answer = sum_.final()
    assert sum_.complete
    assert {choice.index: choice.message.content or "" for choice in answer.choices} == texts
    assert {choice.index: choice.message.reasoning_content or "" for choice in answer.choices} == thoughts
    made: Any = (answer.message and answer.message.tool_calls) or ()
    assert [call.function.arguments for call in made] == list(arguments.values())
    assert all(call.id and call.function.name for call in made)
    if answer.choices[0].finish_reason == "tool_calls":
        assert all(isinstance(json.loads(call.function.arguments), dict) for call in made)
        assert made
    assert (answer.usage.to_dict() if answer.usage else None) == usage
    assert answer.choices[0].message.role == "assistant"


def test_the_streams_of_real_servers_were_found() -> None:
    """So that the test above means something."""
    assert len(streams("*.stream.txt")) >= 16
    assert len(streams("*.tools.txt")) >= 5


@pytest.mark.parametrize("events", streams("*.completions.txt"))
def test_completion_streams_of_real_servers(events: list[bytes]) -> None:
    """Chunks of completions make one completion."""
    sum_, decoder = CompletionAccumulator(), decoder_for(Completion, strict=True).stream()
    texts = ""
    for event in events[:-1] if events[-1] == b"[DONE]" else events:
        sum_.add(decoder.decode(event))
        texts += json.loads(event)["choices"][0]["text"]
    answer = sum_.final()
    assert texts
    assert (sum_.text, answer.text, answer.choices[0].text) == (texts, texts, texts)
    assert (sum_.complete, sum_.reasoning, answer.object) == (True, "", "text_completion")
    assert answer.choices[0].finish_reason == "stop"
    assert sum_.usage is not None
    assert answer.usage == sum_.usage


def test_logprobs_of_completions() -> None:
    """Four parallel lists, each as long as the text has tokens."""

    def piece(text: str, finish: str | None = None) -> Completion:
        logprobs = {"tokens": [text], "token_logprobs": [-1.5], "top_logprobs": [{text: -1.5}], "text_offset": [3]}
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}
        body = {"id": "i", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
        return decoder_for(Completion, strict=True).decode(json.dumps(body).encode())

    sum_ = CompletionAccumulator()
    sum_.add(piece("a"))
    assert (sum_.partial().text, sum_.complete) == ("a", False)
    sum_.add(piece("b", "length"))
    logprobs = sum_.final().choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.token_logprobs) == (["a", "b"], [-1.5, -1.5])
    assert (logprobs.top_logprobs, logprobs.text_offset) == ([{"a": -1.5}, {"b": -1.5}], [3, 3])


def test_a_repeated_name_begins_a_call_only_after_a_whole_object() -> None:
    """Also where the arguments so far were asked for in between, and came in pieces."""
    pieces = ['{"a"', ": [{}", "]", "}", '{"b"', ": 2}"]
    told = ToolCalls()
    places: list[int | None] = []
    for text in pieces:
        (one,) = delta(tool_calls=[entry(0, None, "f", text)]).choices[0].delta.tool_calls or []
        places.append(told.take(one))
        assert told.so_far(places[-1] or 0)
    assert places == [0, 0, 0, 0, 1, 1]
    assert [told.so_far(place)[1] for place in (0, 1)] == ['{"a": [{}]}', '{"b": 2}']
