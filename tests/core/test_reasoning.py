"""Thinking told apart from text, in one piece and in any others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cputime import assert_linear, cpu_seconds
from openaiasync.core.codec.reasoning import (
    TAGS,
    AnswerJSON,
    ThinkSplitter,
    answers_in,
    drop_lone_reasoning,
    split_thinking,
)
from openaiasync.core.schema.structured import ShapeError, shape_of

TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "/", "thin", "k>", " ", "\n", "a", "é", "<think"]), max_size=12
).map("".join)


@pytest.mark.parametrize(
    ("text", "said", "thought"),
    [
        ("", "", ""),
        ("Hello.", "Hello.", ""),
        ("<think>Six times seven</think>\n\nForty-two.", "Forty-two.", "Six times seven"),
        (" \n<think>a</think>b", "b", "a"),
        ("<think>a</think> <think>b</think>c", "c", "ab"),
        ("<think></think>c", "c", ""),
        ("<think>never closed", "", "never closed"),
        ("<think>a</thin", "", "a</thin"),
        ("The tag <think> starts thinking</think>.", "The tag <think> starts thinking</think>.", ""),
        ("<thinking about>", "<thinking about>", ""),
        ("  leading space stays", "  leading space stays", ""),
        ("<think>a</think>  ", "", "a"),
        ("<thi", "<thi", ""),
        ("   ", "   ", ""),
        ("<think>a<think>b</think>c</think>", "c</think>", "a<think>b"),
    ],
)
def test_whole_texts(text: str, said: str, thought: str) -> None:
    """What an answer begins with between the tags is thinking; everything else is text."""
    assert split_thinking(text) == (said, thought)


@given(TEXTS, st.data())
def test_any_cut_gives_the_same(text: str, data: st.DataObject) -> None:
    """However a server cuts its text, the sums are those of the whole text."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    splitter = ThinkSplitter()
    got = [*map(splitter.feed, pieces), splitter.end()]
    assert ("".join(said for said, _ in got), "".join(thought for _, thought in got)) == split_thinking(text)


@given(TEXTS)
def test_nothing_is_invented_or_lost(text: str) -> None:
    """Text and thinking together are the text but for tags and white space around them."""
    said, thought = split_thinking(text)
    letters = "".join(text.split()).replace("<think>", "").replace("</think>", "")
    got = "".join((thought + said).split()).replace("<think>", "").replace("</think>", "")
    assert got == letters


def test_text_is_not_held_back() -> None:
    """A piece that can be no tag is passed on at once."""
    splitter = ThinkSplitter()
    assert splitter.feed("He") == ("He", "")
    assert splitter.feed("<think>") == ("<think>", "")
    splitter = ThinkSplitter()
    assert splitter.feed("<think>a") == ("", "a")
    assert splitter.feed("b </th") == ("", "b ")
    assert splitter.feed("ought") == ("", "</thought")


@pytest.mark.parametrize("piece", [" ", "<think>a</think>", "<think></think> "])
def test_telling_apart_is_linear(piece: str) -> None:
    """White space and blocks without end, in one piece or in many."""

    def feed(pieces: list[str]) -> None:
        splitter = ThinkSplitter()
        for one in pieces:
            splitter.feed(one)
        splitter.end()

    assert_linear(lambda count: feed([piece * count]), 16_000)
    assert_linear(lambda count: feed([piece] * count), 16_000)


@pytest.mark.parametrize("piece", [" ", "<think>a</think>", "a</think>", "<think>", "{<think>"])
def test_looking_for_the_answer_is_linear(piece: str) -> None:
    """Blocks and tags without end."""

    def look(count: int) -> None:
        answers_in(piece * count)
        growing = AnswerJSON()
        for _ in range(count):
            growing.feed(piece)

    assert_linear(look, 2_000)


DRAFT, ANSWER = '{"answer": 1}', '{"answer": 2}'
FENCED = f"Here it is:\n```json\n{ANSWER}\n```\nDone."
GPT_OSS = "<|channel|>analysis<|message|>"
FINAL = "<|start|>assistant<|channel|>final"
WITH_REASONING = [
    *(f"{pair.opening}Perhaps {DRAFT}?{pair.closing}{ANSWER}" for pair in TAGS),
    *(f"Perhaps {DRAFT}?\n{pair.closing}\n\n{ANSWER}" for pair in TAGS),
    *(f"{pair.opening}{DRAFT}{pair.closing}\n{FENCED}" for pair in TAGS),
    *(f"{pair.opening.upper()}{DRAFT}{pair.closing.upper()}{ANSWER}" for pair in TAGS),
    f"<think>{DRAFT}</think>\n<think>or {DRAFT}</think>{ANSWER}",
    f"<think>a</think>So I think again. <think>{DRAFT}</think> {ANSWER}",
    f"{DRAFT}<think>No.</think>{ANSWER}",
    f"{ANSWER}<think>That was right.</think>",
    f"{ANSWER}\n<think>Was that right? {DRAFT}",
    f"<think>The tag is </think> and {DRAFT}</think>{ANSWER}",
    f'I try {{"answer": "x </think>{ANSWER}',
    f'{{"answer": [1, </think>```json\n{ANSWER}\n```',
    f"I take the set {{a, b}} and [1] of it</think>{ANSWER}",
    f"{GPT_OSS}{DRAFT}<|end|>{FINAL}<|message|>{ANSWER}<|return|>",
    f"{GPT_OSS}{DRAFT}<|end|>{FINAL} <|constrain|>json<|message|>{ANSWER}",
    f"{GPT_OSS}a<|end|><|start|>assistant<|channel|>commentary<|message|>{DRAFT}<|end|>{FINAL}<|message|>{ANSWER}",
    f"analysisWe try {DRAFT}assistantfinal{ANSWER}",
    f"Here are my reasoning steps: {DRAFT}\n[BEGIN FINAL RESPONSE]\n{ANSWER}",
    f"Here is my thought process: {DRAFT}\n\nHere is my response: {ANSWER}",
    f"<think>{DRAFT}</think><answer>{ANSWER}</answer>",
    *(
        f"<{name}>{DRAFT}</{name}>{ANSWER}"
        for name in ("think ", "scratchpad", "analysis", "inner_thoughts", "o1_think")
    ),
    f"Perhaps {DRAFT}?</scratchpad>{ANSWER}",
    f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
]


@pytest.mark.parametrize("text", WITH_REASONING, ids=range(len(WITH_REASONING)))
def test_the_answer_follows_the_reasoning(text: str) -> None:
    """Whatever marks it, and however often the model drafts: the value is the answer's, whole and as it grows."""
    shape = shape_of({"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]})
    assert shape.decode(text) == {"answer": 2}
    for size in (1, 2, 3, 7, 1000):
        growing = shape.growing()
        for at in range(0, len(text), size):
            growing.feed(text[at : at + size])
        assert growing.value == {"answer": 2}, size


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{DRAFT}",
        f"<think>{DRAFT}</think>",
        f"{DRAFT}</think>",
        f"<think>{DRAFT}</think>I cannot say.",
        f"{GPT_OSS}{DRAFT}",
    ],
)
def test_a_draft_is_never_the_answer(text: str) -> None:
    """Where no answer follows, there is none."""
    with pytest.raises(ShapeError) as caught:
        shape_of({"type": "object"}).decode(text)
    assert not caught.value.is_json


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "said",
    [
        "</think>",
        "use <think> and </think>.",
        "<think>a</think> b",
        "[THINK]",
        "a </think> {b}",
        "<|channel|>final<|message|>x",
    ],
)
def test_tags_within_a_value_are_text(said: str, size: int) -> None:
    """A model may speak of them, bare or in a fence."""
    value = {"answer": said, "more": ["text", {"a": 1}]}
    for text in (json.dumps(value), f"```json\n{json.dumps(value)}\n```", f"<think>a</think>{json.dumps(value)}"):
        shape = shape_of({"type": "object"})
        assert shape.decode(text) == value
        growing = shape.growing()
        for at in range(0, len(text), size):
            growing.feed(text[at : at + size])
        assert growing.value == value


def test_drafts_are_not_shown() -> None:
    """The value that grows is the answer's from its first character on, where the reasoning has an opening tag."""
    shown: list[object] = []
    growing = AnswerJSON()
    for char in f"<think>{DRAFT} and {DRAFT}</think>{ANSWER}":
        growing.feed(char)
        if growing.value is not None and growing.value not in shown:
            shown.append(dict(growing.value))  # type: ignore[call-overload]
    assert shown == [{}, {"answer": 2}]


@pytest.mark.parametrize("pair", TAGS, ids=lambda pair: pair.opening)
def test_all_tags_are_told_apart(pair: Any) -> None:
    """The same for text."""
    assert split_thinking(f"{pair.opening}a{pair.closing}b") == ("b", "a")
    assert drop_lone_reasoning(f"a\n{pair.closing}\n\nb") == ("b", "a\n")
    text = f"the tag `{pair.closing}` ends it"
    assert drop_lone_reasoning(text) == (text, "")


def test_the_first_thousand_tags_count() -> None:
    """A value behind a thousand tags is found; a text of tags alone costs no more than that."""
    for tags, found in ((999, True), (1_000, False)):
        growing = shape_of(dict[str, int]).growing()
        growing.feed("</think>" * tags + '{"a": 1}</think>{"b": 2}')
        assert (growing.value == {"b": 2}) is found

    def feed(tags: int) -> None:
        shape_of(dict[str, int]).growing().feed('</think>{"a":1}' * tags)

    assert cpu_seconds(lambda: feed(8_000)) < 4 * cpu_seconds(lambda: feed(1_000))
