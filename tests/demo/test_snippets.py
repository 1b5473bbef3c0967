"""The code that the demo model writes."""

from __future__ import annotations

import pytest

from openaiasync.cli.markdown import last_code_block
from openaiasync.demo.answers import Question
from openaiasync.demo.snippets import answer_code


def code_for(asked: str) -> str:
    """The code in the answer, as `chat -x` prints it."""
    answer = answer_code(Question(asked))
    assert answer is not None
    code = last_code_block(answer.text)
    assert code is not None
    assert code.strip() == answer.short
    return code


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("A shell command that lists files by size.", "ls -lS\n"),
        ("Write an SQL query that counts the rows.", "SELECT count(*) FROM table_name;\n"),
        ("A Python function that reverses a text, please.", "def reverse(text: str) -> str:\n    return text[::-1]\n"),
    ],
)
def test_code_is_in_a_block(asked: str, code: str) -> None:
    """A request for code that the model knows is answered with a fenced block."""
    assert code_for(asked) == code


def test_its_python_runs() -> None:
    """The functions do what they say."""
    names: dict[str, object] = {}
    for asked in ("a fibonacci function", "a function that adds two numbers", "a function that reverses text"):
        exec(code_for(asked), names)
    found = eval("[fibonacci(n) for n in range(8)], add(2, 40), reverse('abc')", names)
    assert found == ([0, 1, 1, 2, 3, 5, 8, 13], 42, "cba")


@pytest.mark.parametrize("asked", ["What is Python?", "Name three programming languages.", "Call your function."])
def test_other_questions_are_left_to_other_rules(asked: str) -> None:
    """A word about programs alone does not make an answer code."""
    assert answer_code(Question(asked)) is None
