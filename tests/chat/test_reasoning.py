"""Thinking told apart from text, in one piece and in any others."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.chat.reasoning import ThinkSplitter, split_thinking

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
        ("<thinking>", "<thinking>", ""),
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

    def seconds(count: int, whole: bool) -> float:
        splitter = ThinkSplitter()
        pieces = [piece * count] if whole else [piece] * count
        began = time.process_time()
        for one in pieces:
            splitter.feed(one)
        splitter.end()
        return time.process_time() - began

    for whole in (True, False):
        small = min(seconds(4_000, whole) for _ in range(3))
        assert seconds(64_000, whole) < 16 * 4 * small + 0.05
