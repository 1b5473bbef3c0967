"""Vectors of length one; what is said in similar words is near."""

from __future__ import annotations

from math import sqrt

import pytest

from openaiasync.demo.embed import embed

PAIRS = (
    ("The cat is sleeping on the sofa.", "A sleepy cat lies on our sofa."),
    ("How do I reset my password?", "I forgot my password and want to reset it."),
    ("The train to Vienna leaves at noon.", "At noon our train is leaving for Vienna."),
    ("She bakes fresh bread every morning.", "Every morning fresh bread is baked by her."),
    ("Python is a programming language.", "Programmers like the language Python."),
    ("It will rain tomorrow in the mountains.", "Rain is expected in the mountains tomorrow."),
    ("The doctor prescribed a new medicine.", "A new medicine was prescribed by my doctor."),
    ("Electric cars need charging stations.", "Charging stations are needed for an electric car."),
    ("The children play football in the garden.", "In the garden some children are playing football."),
    ("Where can I buy cheap flight tickets?", "I am looking for cheaper tickets for a flight."),
    ("The museum opens its doors at nine.", "At nine the doors of the museum are opened."),
    ("He repaired the broken kitchen window.", "The kitchen window was broken and he repairs it."),
    ("Stars shine brightly in the night sky.", "The sky at night is bright with shining stars."),
)


def near(one: str, other: str, dimensions: int = 256) -> float:
    return sum(a * b for a, b in zip(embed(one, dimensions), embed(other, dimensions), strict=True))


def test_every_paraphrase_is_nearer_than_any_other_sentence() -> None:
    """Thirteen pairs, 624 ordered non-pairs, not one of which ranks above a sentence's own paraphrase."""
    sentences = [sentence for pair in PAIRS for sentence in pair]
    lowest_pair = min(near(one, other) for one, other in PAIRS)
    highest_other = max(
        near(one, other)
        for place, one in enumerate(sentences)
        for other in sentences[place + 1 :]
        if (one, other) not in PAIRS
    )
    assert lowest_pair > highest_other + 0.05


@pytest.mark.parametrize("dimensions", [1, 2, 64, 256, 1536])
def test_length_is_one(dimensions: int) -> None:
    texts: list[str | list[int]] = ["The cat", "", "?!", "🦊", "a" * 5000, [1, 2, 3], "ab"]
    for text in texts:
        vector = embed(text, dimensions)
        assert len(vector) == dimensions
        assert sqrt(sum(value * value for value in vector)) == pytest.approx(1)


def test_deterministic_and_different() -> None:
    """Case and marks do not count, words do; token ids are words of their own."""
    assert embed("The Cat!", 256) == embed("the cat", 256)
    assert embed("dog", 256) != embed("cat", 256)
    assert embed([1, 2], 256) == embed([2, 1], 256) != embed([1, 3], 256)
    assert near("organise", "organised") > 0.5 > near("organise", "umbrella")
