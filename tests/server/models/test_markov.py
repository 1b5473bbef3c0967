"""Continuations: deterministic, from the learnt text, with the chain's own probabilities."""

from __future__ import annotations

from math import exp

import pytest

from openaiasync.server.models import DemoComplete
from openaiasync.server.models.base import CompletionRequest
from openaiasync.server.models.markov import _TEXT

MODEL = DemoComplete()


def text_of(prompt: str, size: int = 20, seed: int = 0, variant: int = 0) -> str:
    return "".join(
        chance.token for chance in MODEL.continue_text(CompletionRequest(prompt, size, seed, variant)).tokens
    )


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
    continuation = MODEL.continue_text(CompletionRequest(prompt, 12))
    assert continuation.tokens
    assert len(continuation.tokens) == 12 or continuation.ended
    assert {chance.token.strip() for chance in continuation.tokens} <= set(
        _TEXT.replace(".", " . ").replace(",", " , ").replace(":", " : ").split()
    )


def test_probabilities() -> None:
    """Those of all successors of a token sum to one; the one taken is among the likeliest when all are told."""
    for chance in MODEL.continue_text(CompletionRequest("The", 40, 1, 0, 50)).tokens:
        assert sum(exp(logprob) for _, logprob in chance.top) == pytest.approx(1)
        assert (chance.token, chance.logprob) in chance.top


def test_ends_by_itself() -> None:
    """A paragraph's end is an end; a limit is none."""
    ended = [MODEL.continue_text(CompletionRequest("The", 400, seed)) for seed in range(5)]
    assert any(continuation.ended for continuation in ended)
    assert not MODEL.continue_text(CompletionRequest("The", 3)).ended
    assert MODEL.continue_text(CompletionRequest("The", 0)).tokens == []


def test_token_ids() -> None:
    """Any id is a word; the same one always the same."""
    assert MODEL.tokens_to_text([5, 10**9, 5]).count(MODEL.tokens_to_text([5])) >= 2
