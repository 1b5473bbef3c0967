"""Tasks with words are carried out, not talked about."""

from __future__ import annotations

import pytest

from cputime import assert_linear
from openaiasync.demo.answers import Question
from openaiasync.demo.tasks import answer_task


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Reverse the word 'hello'", "olleh"),
        ('Spell "cat" backwards', "tac"),
        ("Reverse the words: one two three", "three two one"),
        ("uppercase: good morning", "GOOD MORNING"),
        ("Convert hello world to uppercase", "HELLO WORLD"),
        ('Put "Quiet Please" in lower case', "quiet please"),
        ("How many words are in 'one two three'?", "I count 3 words."),
        ("Count the words in: a b", "I count 2 words."),
        ('How many letters are there in "strawberry"?', "'strawberry' has 10 letters."),
        ('How many r\'s are in "strawberry"?', "The letter r is in 'strawberry' 3 times."),
        ("count to 5", "1, 2, 3, 4, 5."),
        ("Count from 3 up to 6", "3, 4, 5, 6."),
        ("Sort these words: pear, apple, fig", "apple, fig, pear."),
        ("Spell banana", "B-A-N-A-N-A."),
        ("Say hi there", "hi there"),
        ('Repeat after me: "I am a fish."', "I am a fish."),
        ("Name three colours", "Red, blue and green."),
        ("List two programming languages.", "Python and C."),
        ("Tell me 1 planet", "Mercury."),
        ("Give me 20 planets", "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune."),
    ],
)
def test_tasks(text: str, answer: str) -> None:
    said = answer_task(Question(text))
    assert said is not None
    assert said.text == answer


@pytest.mark.parametrize("text", ["Hello", "What is the capital of France?", "Reverse", "I said no", "Sort"])
def test_no_task(text: str) -> None:
    assert answer_task(Question(text)) is None


def test_counting_has_an_end() -> None:
    said = answer_task(Question("count to 99999"))
    assert said is not None
    assert said.text.endswith("9999, 10000.")


def test_long_texts_are_read_in_linear_time() -> None:
    """A text that asks for nothing, as load tests send it, takes time in proportion to its length."""
    assert_linear(lambda size: answer_task(Question("spelling right hour in result to group " * size)), 100)
