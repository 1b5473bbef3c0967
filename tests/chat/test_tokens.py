"""Counts of tokens: the server's where it counted, else the tokenizer's, else an estimate; and which of them it is."""

from __future__ import annotations

from typing import Any

import pytest

from openaiasync.chat.usage import TokenCounter


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_an_estimate_is_near() -> None:
    """About four letters of English a token, fewer of other scripts."""
    counter = TokenCounter()
    assert counter.source == "estimate"
    assert counter.text("Why is the sky blue? " * 100) == pytest.approx(600, rel=0.2)  # 6 tokens by cl100k
    assert counter.text("为什么天空是蓝色的?" * 100) == pytest.approx(1100, rel=0.2)
    assert counter.text("Почему небо голубое? " * 100) == pytest.approx(1000, rel=0.4)
    assert counter.text("\ud800") > 0


@pytest.mark.parametrize("tokenizer", [lambda text: len(text.split()), lambda text: text.split()])
def test_a_tokenizer_answers_tokens_or_their_number(tokenizer: Any) -> None:
    """Whatever `encode` function there is can be passed."""
    counter = TokenCounter(tokenizer)
    assert counter.source == "tokenizer"
    assert counter.weigh([message("one two three")]) == 3 + 4


@pytest.mark.parametrize("answer", [None, 1.5, True])
def test_a_tokenizer_that_answers_something_else_is_told(answer: Any) -> None:
    """The error names the option."""
    with pytest.raises(TypeError, match="tokenizer"):
        TokenCounter(lambda _: answer).text("x")
    with pytest.raises(TypeError, match="tokenizer must be a function"):
        TokenCounter("cl100k")  # type: ignore[arg-type]


def test_everything_that_a_message_holds_has_weight() -> None:
    """Texts, parts, images by how closely they are looked at, sound by its length, calls; not the letters of data."""
    counter = TokenCounter(lambda text: len(text.split()))

    def weight(**fields: Any) -> float:
        return counter.weigh([{"role": "user", **fields}]) - 4

    url = "data:image/png;base64," + "A" * 100_000
    assert weight(content=[{"type": "text", "text": "a b"}, {"type": "refusal", "refusal": "c"}]) == 3
    assert weight(content=[{"type": "image_url", "image_url": {"url": url}}]) == 1000
    assert weight(content=[{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]) == 85
    second = {"data": "A" * (32000 * 4 // 3), "format": "wav"}
    assert weight(content=[{"type": "input_audio", "input_audio": second}]) == pytest.approx(10, abs=1)
    assert weight(content=[{"type": "file", "file": {"file_id": "x"}}, "garbage", {"type": 3}]) == 2000
    assert weight(content=None, tool_calls=[{"function": {"name": "f", "arguments": "{} {}"}}]) == 2
    assert weight(content="", reasoning_content="a b c") == 3
    assert counter.params({"tools": [{"a": "b c"}], "response_format": None, "seed": 1}) == 2
    assert counter.params({"seed": 1}) == 0


def test_the_servers_count_is_the_basis() -> None:
    """What it counted stays; only what is new or gone is weighed."""
    counter = TokenCounter(lambda text: len(text.split()))
    counter.learn(100, 150, later=10, more=12)
    assert counter.source == "server"
    assert counter.tokens(110) == 166  # with the separators of the answer
    assert counter.tokens(115) == 171  # the 50 more may be the server's own prompt
    counter.learn(1000, 1500)
    assert counter.tokens(1100) == 1650  # two counts tell how its tokens are to the tokenizer's
    assert counter.tokens(900) == 1350
    counter.learn(1000, 90_000)
    assert counter.tokens(1010) == 90_160  # within limits
    assert counter.tokens(-90_000) == 1


def test_what_turns_add_is_counted_by_what_they_added_before() -> None:
    """A summary of few tokens a letter at the beginning of a request does not make the turns behind it look small."""
    counter = TokenCounter()
    counter.learn(100, 500)  # the first turn: five tokens for one of ours
    counter.learn(200, 1000)  # the second
    counter.learn(190, 600)  # its successor with a summary in the place of the first
    assert counter.tokens(290) == pytest.approx(1100, rel=0.01)
    assert counter.fork().tokens(290) == counter.tokens(290)


def test_a_fork_knows_the_same() -> None:
    """And learns alone."""
    counter = TokenCounter()
    counter.learn(10, 50)
    other = counter.fork()
    other.learn(10, 70)
    assert (counter.tokens(10), other.tokens(10)) == (50, 70)


def test_long_histories_are_weighed_once() -> None:
    """A tokenizer sees each message once, however often the history is counted; old ones are forgotten in time."""
    seen: list[str] = []

    def tokenizer(text: str) -> int:
        seen.append(text)
        return 1

    counter = TokenCounter(tokenizer)
    messages = [message(str(number)) for number in range(5000)]
    for _ in range(3):
        counter.weigh(messages)
        for one in messages:
            counter.weigh([one])
    assert len(seen) == 5000
    for number in range(20_000):
        counter.weigh([message(str(number))])
    assert len(counter._weights) < 20_000
