"""The tokenizer loses nothing and counts what it splits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openaiasync.demo.answers import words_of
from openaiasync.demo.chat import token_chance_of
from openaiasync.server.tokens import count_prompt, count_tokens, split_tokens


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert all(tokens)
    assert count_tokens(text) == len(tokens)


def test_words_and_marks() -> None:
    assert split_tokens("Don't panic, it's 42!\n") == ["Don't", " panic", ",", " it's", " 42", "!", "\n"]
    assert words_of("Don't panic, it's 42!") == ["Don't", "panic", "it's", "42"]


def cost(message: dict[str, Any]) -> int:
    return count_prompt({"messages": [message]})


def test_messages_cost_their_text_and_their_calls() -> None:
    """Parts count as text does; a call counts its arguments."""
    plain = cost({"role": "user", "content": "one two three"})
    parts = cost({"role": "user", "content": [{"type": "text", "text": "one two three"}]})
    assert plain == parts == cost({"role": "user", "content": ""}) + 3
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert cost({"role": "assistant", "tool_calls": [call]}) > cost({"role": "assistant"})


@given(st.text(min_size=1), st.integers(0, 5000), st.integers(0, 20))
def test_chances_are_plausible(token: str, position: int, top: int) -> None:
    """Negative, in order, the token first, no alternative twice, and the same each time."""
    chance = token_chance_of(token, position, top)
    assert chance == token_chance_of(token, position, top)
    assert chance.logprob is not None
    assert chance.logprob < 0
    assert len(chance.top) == top
    assert len({other for other, _ in chance.top}) == top
    logprobs = [logprob for _, logprob in chance.top]
    assert logprobs == sorted(logprobs, reverse=True)
    if top:
        assert chance.top[0] == (token, chance.logprob)
