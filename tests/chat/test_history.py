"""The history: valid for the API whatever happens to it, told apart in turns, and forks that do not see each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.chat.history import History, Turn, check_messages, plain_messages, sendable, split
from openaiasync.types.chat import ChatCompletionMessage

USER = {"role": "user", "content": "hi"}
SAID = {"role": "assistant", "content": "ho"}
SYSTEM = {"role": "system", "content": "be kind"}


def calls(*names: str) -> dict[str, Any]:
    made = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in names]
    return {"role": "assistant", "content": None, "tool_calls": made}


def result(name: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": "1"}


def turn(number: int) -> Turn:
    return Turn(({"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}))


class TestValidity:
    """What is refused, and that the message at fault is named."""

    @pytest.mark.parametrize(
        "messages",
        [
            [],
            [SYSTEM],
            [USER, SAID, USER, SAID],
            [SYSTEM, USER, calls("a", "b"), result("b"), result("a"), SAID],
            [USER, calls("a"), result("a"), calls("a"), result("a"), SAID],
            [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "refusal": "no"}],
            [USER, {"role": "assistant", "content": ""}],
        ],
    )
    def test_what_servers_take_is_taken(self, messages: list[Any]) -> None:
        """Parallel calls answered in any order, ids used again later, parts, refusals and empty answers are fine."""
        check_messages(messages)

    @pytest.mark.parametrize(
        ("messages", "complaint"),
        [
            ([USER, calls("a")], r"messages\[1\].*'a' is not answered"),
            ([USER, calls("a"), SAID], r"messages\[2\] comes before the tool call 'a'"),
            ([USER, calls("a"), USER], r"messages\[2\] comes before the tool call 'a'"),
            ([USER, calls("a", "b"), result("a")], r"messages\[2\].*'b' is not answered"),
            ([USER, calls("a"), result("a"), result("a")], r"messages\[3\] answers the tool call 'a', which"),
            ([USER, result("a")], r"messages\[1\] answers the tool call 'a', which"),
            ([USER, calls("a", "a")], r"messages\[1\] has a tool call with the id 'a'"),
            ([USER, {**calls("a"), "tool_calls": []}], r"messages\[1\] has tool_calls that are not a list"),
            ([USER, {"role": "assistant", "content": None}], r"messages\[1\] has neither content nor tool calls"),
            ([{"role": "user"}], r"messages\[0\] has no content"),
            ([{"role": "robot", "content": "x"}], r"messages\[0\] has the role 'robot'"),
            (["hi"], r"messages\[0\] must be a dict, not str"),
        ],
    )
    def test_what_no_server_takes_is_refused(self, messages: list[Any], complaint: str) -> None:
        """Each tool call answered exactly once, right after it; roles and contents there."""
        with pytest.raises(ValueError, match=complaint):
            check_messages(messages)

    def test_the_index_counts_from_where_it_is_said_to(self) -> None:
        """In a turn added later, the index is that of the whole history."""
        with pytest.raises(ValueError, match=r"messages\[11\]"):
            check_messages([USER, {"role": "x"}], 10)


class TestMaking:
    """Histories of messages that exist already."""

    def test_dicts_and_answers_become_dicts_of_their_own(self) -> None:
        """An answer's message is stored without its nulls; later changes of the caller's dicts have no effect."""
        mine: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
        answer = ChatCompletionMessage(role="assistant", content="ho", reasoning_content="hm")
        made = plain_messages((mine, answer))
        mine["content"][0]["text"] = "changed"
        assert made[0]["content"][0]["text"] == "hi"
        assert made[1] == {"role": "assistant", "content": "ho", "reasoning_content": "hm"}

    @pytest.mark.parametrize("given", ["hi", b"hi", {"role": "user", "content": "x"}, 3, ["hi"]])
    def test_what_is_no_list_of_messages_is_a_type_error(self, given: Any) -> None:
        """A text or a single message is told from a list of messages."""
        with pytest.raises(TypeError, match="messages"):
            History.of(given)

    def test_turns_begin_with_the_user(self) -> None:
        """System messages stand before; a model's greeting is a turn of its own; tool messages stay in their turn."""
        messages = [SYSTEM, SAID, USER, calls("a"), result("a"), SAID, USER, SAID]
        head, turns = split(messages)
        assert head == [SYSTEM]
        assert turns == [(SAID,), (USER, calls("a"), result("a"), SAID), (USER, SAID)]
        assert History.of(messages).messages() == messages

    def test_a_question_without_answer_is_for_say(self) -> None:
        """The last message cannot be the user's: the next turn would be a second one in a row."""
        with pytest.raises(ValueError, match=r"messages\[2\].*say\(\)"):
            History.of([USER, SAID, USER])

    def test_half_a_pair_of_surrogates_can_be_sent(self) -> None:
        """What JSON cannot carry does not make every later request impossible."""
        made = sendable([{"role": "assistant", "content": "a\ud83db", "parts": [{"text": "é\ude00"}]}])
        assert made == ({"role": "assistant", "content": "a\ufffdb", "parts": [{"text": "é\ufffd"}]},)


class TestHistory:
    """Turns come and go whole."""

    def test_messages_are_the_callers(self) -> None:
        """Changing what `messages` gave changes nothing."""
        history = History.of([SYSTEM, USER, SAID])
        history.messages()[1]["content"] = "changed"
        history.messages().clear()
        assert history.messages() == [SYSTEM, USER, SAID]

    def test_an_invalid_turn_is_not_added(self) -> None:
        """The history stays as it was."""
        history = History.of([USER, SAID])
        with pytest.raises(ValueError, match=r"messages\[3\]"):
            history.append(Turn((USER, calls("a"))))
        assert history.messages() == [USER, SAID]

    def test_the_system_prompt_is_the_first_message(self) -> None:
        """It can be set, replaced in its own role, and removed."""
        history = History.of([{"role": "developer", "content": [{"type": "text", "text": "x"}]}, USER, SAID])
        assert history.system == "x"
        history.system = "y"
        assert history.messages()[0] == {"role": "developer", "content": "y"}
        history.system = None
        assert (history.system, history.messages()) == (None, [USER, SAID])
        history.system = "z"
        assert history.messages()[0] == {"role": "system", "content": "z"}

    def test_the_index_of_a_users_message_names_its_turn(self) -> None:
        """From the front or from the end; anything else says what to do instead."""
        history = History.of([SYSTEM, USER, calls("a"), result("a"), SAID, USER, SAID])
        assert [history.turn_at(index) for index in (1, 5, -2, -6)] == [0, 1, 1, 0]
        for index in (7, -8):
            with pytest.raises(IndexError, match=r"no message -?\d: the session has 7"):
                history.turn_at(index)
        with pytest.raises(ValueError, match=r"session\.system"):
            history.turn_at(0)
        with pytest.raises(ValueError, match="the role tool; only messages of the user"):
            history.turn_at(3)
        history.append(Turn((USER, SAID, USER, SAID)))
        with pytest.raises(ValueError, match="does not start its turn"):
            history.turn_at(9)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["say", "keep", "system", "fork"])), max_size=30))
def test_forks_do_not_see_each_other(steps: list[tuple[int, str]]) -> None:
    """Whatever happens to one history, every other is what a full copy would have been."""
    forks: list[History] = [History()]
    models: list[list[Any]] = [[None, []]]  # system prompt and turns of each
    for number, (which, what) in enumerate(steps):
        history, model = forks[which % len(forks)], models[which % len(forks)]
        if what == "say":
            history.append(turn(number))
            model[1] = [*model[1], turn(number)]
        elif what == "keep":
            count = max(0, len(history) - 1)
            assert history.keep(count) == model[1][count:]
            model[1] = model[1][:count]
        elif what == "system":
            history.system = model[0] = f"s{number}"
        else:
            forks.append(history.fork())
            models.append([*model])
        for one, (system, turns) in zip(forks, models, strict=True):
            assert one.system == system
            assert list(one.turns) == turns
            check_messages(one.messages())


def test_a_fork_shares_until_one_changes() -> None:
    """Forking copies no turn, and the list of turns only when it has to."""
    history = History(turns=[turn(number) for number in range(100)])
    other = history.fork()
    assert other.turns is history.turns
    other.append(turn(100))
    assert len(history) == 100
    assert all(mine is its for mine, its in zip(history.turns, other.turns, strict=False))
