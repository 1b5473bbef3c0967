"""A turn without I/O: what is asked next, what is refused, and a history that is valid whatever the model does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync import (
    Client,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    RefusalError,
    StructuredOutputError,
    ToolResult,
    TooManyRoundsError,
)
from openaiasync.chat.format_fallback import FormatFallback
from openaiasync.chat.history import check_messages
from openaiasync.chat.tool_loop import ToolLoop
from openaiasync.chat.turn_options import TurnOptions, turn_keywords

from .test_messages import answer, call

HI: list[Any] = [{"role": "user", "content": "hi"}]


def f(x: int = 0) -> str:
    return "done"


def rounds(params: dict[str, Any] | None = None, messages: Any = HI, **options: Any) -> ToolLoop:
    made = TurnOptions(**options)
    ladder = None
    if made.into is not None:
        ladder = FormatFallback(Client(api_base="http://localhost:1/v1").chat._calls, made.into, "m", "json_schema")
    return ToolLoop(messages, params or {}, made, ladder)


def run_calls(turn: ToolLoop) -> None:
    turn.add_results([ToolResult(call=one, content=f"result of {one.name}") for one in turn.calls])


WORDS = answer({"role": "assistant", "content": "Done."})
CALLS = answer({"role": "assistant", "content": None, "tool_calls": [call("a"), call("b", "g")]}, "tool_calls")


def test_words_end_the_turn() -> None:
    """One round, one message."""
    turn = rounds({"model": "m", "temperature": 0})
    assert turn.params() == {"model": "m", "temperature": 0, "messages": HI}
    turn.take(WORDS)
    assert turn.done
    assert turn.reply().messages == [{"role": "assistant", "content": "Done."}]
    assert (turn.reply().text, turn.reply().answer) == ("Done.", WORDS)


def test_tools_are_told_and_the_model_is_asked_again() -> None:
    """The next request has the calls and their results, in their order."""
    turn = rounds(tools=[f])
    assert [one["function"]["name"] for one in turn.params()["tools"]] == ["f"]
    turn.take(CALLS)
    assert [one.id for one in turn.calls] == ["a", "b"]
    assert not turn.done
    run_calls(turn)
    assert turn.params()["messages"] == [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b", "g")]},
        {"role": "tool", "tool_call_id": "a", "content": "result of f"},
        {"role": "tool", "tool_call_id": "b", "content": "result of g"},
    ]
    turn.take(WORDS)
    reply = turn.reply()
    assert [one.name for one in reply.tool_calls] == ["f", "g"]
    assert len(reply.messages) == 4
    assert HI == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("choice", "later"),
    [
        ("required", "auto"),
        ({"type": "function", "function": {"name": "f"}}, "auto"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, "auto"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, None),
        ("auto", None),
        ("none", None),
    ],
)
def test_tools_are_forced_once(choice: Any, later: Any) -> None:
    """A model that must call a tool in every round would never end."""
    turn = rounds({"tool_choice": choice, "parallel_tool_calls": False}, tools=[f])
    assert turn.params()["tool_choice"] == choice
    turn.take(CALLS)
    run_calls(turn)
    assert turn.params()["tool_choice"] == (choice if later is None else later)
    assert turn.params()["parallel_tool_calls"] is False


@pytest.mark.parametrize("most", [1, 2, 3])
def test_rounds_are_bounded(most: int) -> None:
    """So many answers may ask for tools; the calls of the last one are not run, and the history stays valid."""
    turn = rounds(tools=[f], max_rounds=most)
    for _ in range(most - 1):
        turn.take(CALLS)
        run_calls(turn)
    with pytest.raises(TooManyRoundsError, match=rf"after {most} answers.*max_rounds"):
        turn.take(CALLS)
    partial = turn.partial()
    assert (len(partial.answers), len(partial.messages)) == (most, 3 * (most - 1))
    check_messages(HI + partial.messages)


@pytest.mark.parametrize(
    ("finish", "error"), [("length", LengthFinishReasonError), ("content_filter", ContentFilterFinishReasonError)]
)
def test_calls_that_were_cut_are_not_run(finish: str, error: type[LengthFinishReasonError]) -> None:
    """Half of their arguments may look whole."""
    torn = answer({"role": "assistant", "tool_calls": [call(arguments="{}")]}, finish)
    turn = rounds(tools=[f])
    with pytest.raises(error) as caught:
        turn.take(torn)
    assert caught.value.completion is torn
    assert turn.calls == []


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_words_that_were_cut_are_an_answer(finish: str) -> None:
    """The finish reason tells."""
    turn = rounds()
    turn.take(answer({"role": "assistant", "content": "Do"}, finish))
    assert (turn.done, turn.reply().finish_reason, turn.reply().text) == (True, finish, "Do")


def test_calls_count_whatever_the_finish_reason_says() -> None:
    """Some servers say "stop" after tool calls."""
    turn = rounds(tools=[f])
    turn.take(answer({"role": "assistant", "tool_calls": [call()]}, "stop"))
    assert len(turn.calls) == 1
    turn = rounds(tools=[f])
    turn.take(answer({"role": "assistant", "content": "x", "tool_calls": []}, "tool_calls"))
    assert turn.done


def test_an_object() -> None:
    """Is made of the text, thinking left out."""
    turn = rounds(into=list[int], think_tags=True)
    assert turn.params()["response_format"]["type"] == "json_schema"
    turn.take(answer({"role": "assistant", "content": '<think>[7]</think>{"value": [1, 2]}'}))
    assert turn.reply().parsed == [1, 2]
    assert turn.reply().messages == [{"role": "assistant", "content": '{"value": [1, 2]}'}]


def test_repairs() -> None:
    """The model is shown what was wrong; the history has only what was right."""
    turn = rounds(into=list[int], repair=2)
    turn.take(answer({"role": "assistant", "content": "none"}))
    assert "not valid JSON" in turn.problem
    said, asked = turn.params()["messages"][1:]
    assert (said, asked["role"]) == ({"role": "assistant", "content": "none"}, "user")
    assert turn.problem in asked["content"]
    turn.take(answer({"role": "assistant", "content": '{"value": "x"}'}))
    assert not turn.done
    turn.take(answer({"role": "assistant", "content": '{"value": [3]}'}))
    assert (turn.done, turn.problem, turn.reply().parsed) == (True, "", [3])
    assert turn.reply().messages == [{"role": "assistant", "content": '{"value": [3]}'}]
    assert len(turn.reply().answers) == 3


def test_repairs_end() -> None:
    """The error holds the last answer and the reason."""
    turn = rounds(into=list[int], repair=0)
    with pytest.raises(StructuredOutputError, match=r"\$\.value") as caught:
        turn.take(answer({"role": "assistant", "content": '{"value": "x"}'}))
    assert caught.value.text == '{"value": "x"}'
    assert caught.value.problem is caught.value.__cause__


def test_objects_that_cannot_be_made() -> None:
    """A refusal and a cut are no reason to try again."""
    with pytest.raises(RefusalError, match="No way") as refused:
        rounds(into=int).take(answer({"role": "assistant", "content": None, "refusal": "No way."}))
    assert refused.value.refusal == "No way."
    with pytest.raises(LengthFinishReasonError):
        rounds(into=int).take(answer({"role": "assistant", "content": '{"value": 1}'}, "length"))
    with pytest.raises(ContentFilterFinishReasonError):
        rounds(into=int).take(answer({"role": "assistant", "content": ""}, "content_filter"))


def test_tools_on_the_way_to_an_object() -> None:
    """Also after a repair: the history then has the calls, their results and the object."""
    turn = rounds(into=int, tools=[f], repair=1)
    turn.take(answer({"role": "assistant", "content": "?"}))
    turn.take(CALLS)
    run_calls(turn)
    check_messages(turn.params()["messages"])
    turn.take(answer({"role": "assistant", "content": '{"value": 5}'}))
    assert turn.reply().parsed == 5
    assert [message["role"] for message in turn.reply().messages] == ["assistant", "tool", "tool", "assistant"]


@pytest.mark.parametrize(
    ("name", "value"), [("n", 2), ("tools", []), ("functions", []), ("function_call", "auto"), ("stream", True)]
)
def test_parameters_that_a_turn_decides_itself(name: str, value: Any) -> None:
    """Said with what to do instead, before anything is sent."""
    with pytest.raises(TypeError, match=rf"^f\(\) does not accept {name}: "):
        turn_keywords("f()", {"messages": HI, name: value}, None)


def test_parameters_that_do_no_harm() -> None:
    """Are left out; a format of one's own is one's own, unless a type is asked for."""
    given = {"messages": HI, "n": 1, "stream": False, "tools": None}
    assert turn_keywords("f()", given, None) == (HI, {}, TurnOptions())
    kept = {"type": "json_object"}
    assert turn_keywords("f()", {"messages": HI, "response_format": kept}, None)[1] == {"response_format": kept}
    with pytest.raises(TypeError, match=r"^f\(\) does not accept response_format together with into"):
        turn_keywords("f()", {"messages": HI, "response_format": kept}, None, int)


@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({"max_rounds": 0}, ValueError, "max_rounds must be at least 1, not 0"),
        ({"max_rounds": 2.5}, TypeError, "max_rounds must be an integer"),
        ({"max_rounds": True}, TypeError, "max_rounds must be an integer"),
        ({"repair": -1}, ValueError, "repair must be at least 0"),
        ({"permit": True}, TypeError, "permit must be a function"),
        (
            {"on_tool_error": "ignore"},
            ValueError,
            "on_tool_error must be 'tell', .*'raise' or a function, not 'ignore'",
        ),
        ({"format": "xml"}, ValueError, "one of 'json_schema', 'json_object', 'prompt', not 'xml'"),
        ({"tools": [f, f]}, ValueError, "Two tools"),
        ({"into": object()}, TypeError, "schema"),
    ],
)
def test_options_that_cannot_be(options: Any, kind: type[Exception], reason: str) -> None:
    """Refused when they are given."""
    with pytest.raises(kind, match=reason):
        TurnOptions(**options)


IDS = st.none() | st.sampled_from(["", "a", "b", "call_1"])
ENTRIES = st.builds(
    call, IDS, st.sampled_from(["f", "g", "", None, "no tool"]), st.sampled_from(["", "{}", "{", '{"x":1}', {"x": 1}])
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": st.none() | st.sampled_from(["", "x", '{"value": 1}', "<think>a</think>b"]),
    },
    optional={
        "tool_calls": st.none() | st.lists(ENTRIES, max_size=3),
        "function_call": st.just({"name": "f", "arguments": "{}"}),
        "reasoning_content": st.just("r"),
        "refusal": st.none() | st.just("no"),
    },
)
ANSWERS = st.builds(answer, MESSAGES, st.sampled_from(["stop", "tool_calls", "length", None]))


@given(st.lists(ANSWERS, max_size=6), st.booleans(), st.booleans())
def test_the_history_is_valid_whatever_the_model_does(answers: list[Any], into: bool, keep: bool) -> None:
    """At any time: each call answered exactly once and in order, no message without content, no id twice."""
    turn = rounds(tools=[f], max_rounds=4, into=int if into else None, think_tags=True, keep_reasoning=keep)
    ids: list[str] = []
    for one in answers:
        check_messages(turn.params()["messages"])
        try:
            turn.take(one)
        except (TooManyRoundsError, StructuredOutputError):
            break
        if turn.calls:
            ids += [each.id for each in turn.calls]
            run_calls(turn)
        if turn.done:
            break
    messages = turn.partial().messages
    check_messages([*HI, *messages])
    assert len(set(ids)) == len(ids)
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == ids
    if turn.done:
        assert messages[-1]["role"] == "assistant"
