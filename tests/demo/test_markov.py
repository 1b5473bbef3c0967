"""Continuations: deterministic, from the learnt text, with the chain's own probabilities."""

from __future__ import annotations

from itertools import islice
from math import exp

import pytest

from openaiasync.demo.markov import _TEXT, continue_text
from openaiasync.server import ContentDelta


def tokens_of(prompt: str | list[int], size: int, seed: int = 0, variant: int = 0, top: int = 0) -> list[ContentDelta]:
    return list(islice(continue_text(prompt, seed, variant, top), size))


def text_of(prompt: str, size: int = 20, seed: int = 0, variant: int = 0) -> str:
    return "".join(token.text for token in tokens_of(prompt, size, seed, variant))


def test_deterministic() -> None:
    """By prompt, seed and variant, each of which makes a difference."""
    assert text_of("The sea") == text_of("The sea")
    texts = {text_of("The", 30, seed, variant) for seed in range(3) for variant in range(3)}
    assert len(texts) > 5


def test_goes_on_from_the_prompt() -> None:
    """Where the learnt text knows only one way, it is taken, also across the prompt's end."""
    assert text_of("One winter the wind", 3) == " took the bell"
    assert text_of("She gives them a drop", 4) == " of oil and a"


@pytest.mark.parametrize("prompt", ["", "zxq", "42!", "The end.", "\n\n", "🦊"])
def test_any_prompt(prompt: str) -> None:
    """An unknown one is followed by a new sentence."""
    tokens = tokens_of(prompt, 12)
    assert tokens
    known = set(_TEXT.replace(".", " . ").replace(",", " , ").replace(":", " : ").split())
    assert {token.text.strip() for token in tokens} <= known


def test_probabilities() -> None:
    """Those of all successors of a token sum to one; the one taken is among the likeliest when all are told."""
    for token in tokens_of("The", 40, 1, 0, 50):
        assert sum(exp(logprob) for _, logprob in token.top) == pytest.approx(1)
        assert (token.text, token.logprob) in token.top


def test_ends_by_itself() -> None:
    """The end of a paragraph is an end, and soon reached."""
    assert all(0 < len(tokens_of("The", 2000, seed)) < 2000 for seed in range(5))


def test_token_ids() -> None:
    """Any id is a word; the same ones go on in the same way."""
    assert tokens_of([5, 10**9, 5], 9) == tokens_of([5, 10**9, 5], 9)
