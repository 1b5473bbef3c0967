"""Arithmetic is exact, finds itself in a question, and is never too much."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.demo.answers import Question
from openaiasync.demo.arithmetic import TooLarge, answer_arithmetic, evaluate, find_expression, shown


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("2^3^2", 512),
        ("-2^2", -4),
        ("2^-2", Fraction(1, 4)),
        ("--3", 3),
        ("7 % 4", 3),
        ("10 / 4", Fraction(5, 2)),
        (".5 + 1.25", Fraction(7, 4)),
        ("12345678901234567890 * 98765432109876543210", 1219326311370217952237463801111263526900),
    ],
)
def test_evaluate(expression: str, value: int | Fraction) -> None:
    assert evaluate(expression) == value


@given(
    st.recursive(
        st.integers(0, 99).map(str),
        lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        max_leaves=12,
    )
)
def test_agrees_with_python(expression: str) -> None:
    """Whatever can be built from whole numbers, ``+``, ``-``, ``*`` and brackets."""
    assert evaluate(expression) == eval(expression)


@pytest.mark.parametrize(
    "expression", ["", "1 +", "(1", "1)", "1 2", "a", "1 + b", "*3", "1 ++* 2", "()", "(" * 100 + "1" + ")" * 100]
)
def test_malformed(expression: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        evaluate(expression)


@pytest.mark.parametrize("expression", ["9^9^9", "9^9999", "2^0.5", "10^-99999", "9" * 2000, "2^3999*2^3999"])
def test_too_large(expression: str) -> None:
    """Refused before it is computed."""
    start = time.thread_time()
    with pytest.raises(TooLarge):
        evaluate(expression)
    assert time.thread_time() - start < 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("What is 17 * 23?", "17 * 23 = 391."),
        ("what's 3 plus 4", "3 + 4 = 7."),
        ("7 times 6 please", "7 * 6 = 42."),
        ("10 divided by 4?", "10 / 4 = 2.5."),
        ("2 to the power of 10", "2 ^ 10 = 1024."),
        ("5 squared minus 1", "5 ^ 2 - 1 = 24."),
        ("4 x 5", "4 * 5 = 20."),
        ("1,000 + 1", "1000 + 1 = 1001."),
        ("Compute (2 + 3) × 4.", "(2 + 3) * 4 = 20."),
        ("1 / 3", "1 / 3 = 0.3333333333."),
        ("12 − 5", "12 - 5 = 7."),
        ("1/0", "Division by zero has no answer."),
        ("9^9^9", "That number is too large for me to write down."),
    ],
)
def test_questions(text: str, answer: str) -> None:
    said = answer_arithmetic(Question(text))
    assert said is not None
    assert said.text == answer


@pytest.mark.parametrize(
    "text", ["Hello", "I am 12 years old.", "Call 555-12345.", "On 2026-01-02.", "in 1999", "a+b", "- 5"]
)
def test_no_arithmetic(text: str) -> None:
    assert find_expression(text) is None


def test_variants_tell_the_same() -> None:
    texts = {said.text for variant in range(3) if (said := answer_arithmetic(Question("2+2", variant=variant)))}
    assert len(texts) == 3
    assert all("4" in text for text in texts)


def test_shown() -> None:
    assert (shown(3), shown(Fraction(6, 2)), shown(Fraction(1, 8)), shown(Fraction(-1, 3))) == (
        "3",
        "3",
        "0.125",
        "-0.3333333333",
    )
