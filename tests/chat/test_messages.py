"""Answers of any dialect as a turn sees them, and as the history keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from openaiasync.chat.messages import ParsedAnswer, ids_in, read_answer
from openaiasync.core.model.lenient import builder_for
from openaiasync.types.chat import ChatCompletion


def answer(message: Any, finish: Any = "stop", **fields: Any) -> ChatCompletion:
    """An answer as a lenient decoder builds it."""
    choice = {"index": 0, "finish_reason": finish, "message": message}
    build: Any = builder_for(ChatCompletion)
    made: ChatCompletion = build(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}
    )
    return made


def call(id: Any = "a", name: Any = "f", arguments: Any = "{}", **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def read(message: Any, finish: Any = "tool_calls", **options: Any) -> ParsedAnswer:
    return read_answer(answer({"role": "assistant", **message}, finish), set(), **options)


def test_words() -> None:
    """A plain answer."""
    said = read({"content": "Hello."}, "stop")
    assert said == ParsedAnswer("Hello.", "", "", "stop", [], {"role": "assistant", "content": "Hello."})


def test_calls() -> None:
    """Calls as the hook sees them, and the message that waits for their answers."""
    said = read({"content": None, "tool_calls": [call("a", "f", '{"x":1}'), call("b", "g")]})
    assert [(one.id, one.name, one.arguments) for one in said.calls] == [("a", "f", '{"x":1}'), ("b", "g", "{}")]
    assert said.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("a", "f", '{"x":1}'), call("b", "g")],
    }


@pytest.mark.parametrize(
    ("given", "seen", "kept"),
    [
        ("", "", "{}"),
        (None, "", "{}"),
        ({"x": 1}, '{"x":1}', '{"x":1}'),
        ('{"x":', '{"x":', "{}"),
        ("[1]", "[1]", "{}"),
        ('"{\\"x\\":1}"', '{"x":1}', '{"x":1}'),
        ('"text"', '"text"', "{}"),
        ('"torn', '"torn', "{}"),
        ("[" * 100_000, "[" * 100_000, "{}"),
    ],
    ids=["empty", "null", "an object", "torn", "a list", "quoted twice", "a text", "a torn text", "too deep"],
)
def test_arguments_of_any_kind(given: Any, seen: str, kept: str) -> None:
    """The tool gets what the model wrote; the history only what every server can parse."""
    said = read({"tool_calls": [call(arguments=given)]})
    assert said.calls[0].arguments == seen
    assert said.message["tool_calls"][0]["function"]["arguments"] == kept


@pytest.mark.parametrize("ids", [(None, None), ("", ""), ("a", "a"), (7, {"x": 1})])
def test_ids_are_made_where_they_are_missing_or_doubled(ids: tuple[Any, Any]) -> None:
    """Each call of a turn has one of its own, the same in the history as for the hook."""
    taken = {"z"}
    said = read_answer(answer({"role": "assistant", "tool_calls": [call(one) for one in (*ids, "z")]}), taken)
    made = [one.id for one in said.calls]
    assert len({*made, "z"}) == 4
    assert made == [one["id"] for one in said.message["tool_calls"]]
    assert taken == {*made, "z"}


@pytest.mark.parametrize(("given", "kept"), [("get weather", "get_weather"), (None, "unknown"), ("é" * 9, "_")])
def test_names_that_no_api_takes_back(given: Any, kept: str) -> None:
    """A hallucinated name is answered as such, and does not spoil the next request."""
    said = read({"tool_calls": [call(name=given)]})
    assert said.calls[0].name == (given or "")
    assert said.message["tool_calls"][0]["function"]["name"] == kept


def test_what_servers_put_into_calls_goes_back_to_them() -> None:
    """Signatures of thoughts have to; the index of a stream must not."""
    said = read({"tool_calls": [call(index=0, extra_content={"google": {"thought_signature": "s"}})]})
    assert said.message["tool_calls"] == [call(extra_content={"google": {"thought_signature": "s"}})]


def test_the_predecessor_of_tool_calls() -> None:
    """A `function_call` becomes a tool call with an id."""
    said = read({"content": "", "function_call": {"name": "f", "arguments": '{"x":1}'}}, "function_call")
    (one,) = said.calls
    assert (one.name, one.arguments) == ("f", '{"x":1}')
    assert said.message == {"role": "assistant", "content": "", "tool_calls": [call(one.id, "f", '{"x":1}')]}


def test_custom_tools_have_a_text() -> None:
    """Their input is no JSON, and stays as it is."""
    entry = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "any text"}}
    said = read({"tool_calls": [entry]})
    assert said.calls[0].arguments == "any text"
    assert said.message["tool_calls"] == [entry]


def test_reasoning_is_apart() -> None:
    """Under any name and in tags when asked; it goes back only when asked."""
    message = {"content": "<think>hm</think>\n\nFour.", "reasoning_content": "so "}
    said = read(message, "stop", think_tags=True)
    assert (said.text, said.reasoning) == ("Four.", "so hm")
    assert said.message == {"role": "assistant", "content": "Four."}
    kept = read(message, "stop", think_tags=True, keep_reasoning=True)
    assert kept.text == "Four."
    assert kept.message == {"role": "assistant", **message}
    plain = read(message, "stop")
    assert (plain.text, plain.reasoning) == ("<think>hm</think>\n\nFour.", "so ")
    details = read({"content": "a", "reasoning": "b", "reasoning_details": [{"text": "b"}]}, keep_reasoning=True)
    assert details.message["reasoning_details"] == [{"text": "b"}]


def test_empty_is_not_absent() -> None:
    """What the server sent empty goes back empty: DeepSeek refuses a history without it. Null is absent."""
    calls = [call("a", "f", "{}")]
    for content in ("", None):
        said = read({"content": content, "reasoning_content": "", "tool_calls": calls}, keep_reasoning=True)
        assert said.message == {"role": "assistant", "content": content, "tool_calls": calls, "reasoning_content": ""}
    said = read({"content": "a", "reasoning_content": None, "reasoning_details": []}, keep_reasoning=True)
    assert said.message == {"role": "assistant", "content": "a", "reasoning_details": []}
    assert "reasoning_content" not in read({"content": "a", "reasoning_content": ""}).message


def test_what_a_message_is_made_of() -> None:
    """Refusals and audio go into the history as the API takes them, what else came does not."""
    said = read({"content": None, "refusal": "No.", "audio": {"id": "x", "data": "AA=="}, "annotations": [], "z": 1})
    assert (said.refusal, said.message) == (
        "No.",
        {"role": "assistant", "content": "", "refusal": "No.", "audio": {"id": "x"}},
    )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, ""),
        ("text", ""),
        ([], ""),
        ({}, ""),
        ({"content": 7}, "7"),
        ({"content": {}, "tool_calls": {}}, "{}"),
        ({"tool_calls": [None, 1, "x"]}, ""),
    ],
)
def test_garbled_answers_are_read_as_far_as_they_go(message: Any, text: str) -> None:
    """No answer breaks the reading. Content of another type than text is its JSON."""
    said = read_answer(answer(message, 7), set(), keep_reasoning=True, think_tags=True)
    assert (said.text, said.calls, said.finish_reason) == (text, [], None)
    assert said.message == {"role": "assistant", "content": text}


def test_an_answer_without_choices() -> None:
    """Says nothing."""
    for choices in (None, [], "x"):
        said = read_answer(answer({}, choices=choices), set())
        assert (said.text, said.calls) == ("", [])


@pytest.mark.parametrize("entry", [{"id": "a"}, {"id": "a", "function": None}, {"function": {}}, {"function": "f"}])
def test_garbled_calls_are_calls_of_no_tool(entry: dict[str, Any]) -> None:
    """They are answered, because the history would not be valid otherwise."""
    (one,) = read({"tool_calls": [entry]}).calls
    assert (one.name, one.arguments) == ("", "")


def test_ids_in_a_history() -> None:
    """Whatever the messages are."""
    history: list[Any] = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [call("a"), call("b"), 7]},
        {"role": "assistant", "tool_calls": None},
        object(),
    ]
    assert ids_in(history) == {"a", "b"}
