"""The code that `demo-chat` can write: a few commands and functions, each in a fenced block."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .answers import Question, RuleAnswer

__all__ = ["answer_code"]


class _Snippet(NamedTuple):
    language: str
    keywords: str  # all must occur, each as a pattern at the beginning of a word
    lead: str
    code: str


_SNIPPETS: Final = (
    _Snippet("sh", "command|shell list|files size|large|big", "This lists files, the largest first:", "ls -lS"),
    _Snippet("sh", "command|shell count|number lines", "This counts the lines of a file:", "wc -l FILE"),
    _Snippet("sh", "command|shell find|search|grep|text", "This finds a text below a folder:", "grep -rn TEXT FOLDER"),
    _Snippet("sh", "command|shell disk|space|usage", "This shows how much room folders take:", "du -sh * | sort -h"),
    _Snippet("python", "python|program|script|code hello", "The usual first program:", 'print("Hello, world!")'),
    _Snippet("python", "python|function|code fibonacci", "Each number is the sum of the two before it:",
             "def fibonacci(n: int) -> int:\n    a, b = 0, 1\n    for _ in range(n):\n"
             "        a, b = b, a + b\n    return a"),
    _Snippet("python", "python|function|code add|sum", "A function with type hints, which a model can call as a tool:",
             'def add(a: int, b: int) -> int:\n    """Add two numbers."""\n    return a + b'),
    _Snippet("python", "python|function|code revers", "Slices take a negative step:",
             "def reverse(text: str) -> str:\n    return text[::-1]"),
    _Snippet("sql", "sql|query count|many", "This counts the rows of a table:", "SELECT count(*) FROM table_name;"),
)  # fmt: skip


def answer_code(question: Question) -> RuleAnswer | None:
    """Return one of the known pieces of code, with a sentence in front of its block."""
    lower = question.text.lower()
    for snippet in _SNIPPETS:
        if all(re.search(rf"\b(?:{keyword})", lower) for keyword in snippet.keywords.split(" ")):
            return RuleAnswer(f"{snippet.lead}\n\n```{snippet.language}\n{snippet.code}\n```", snippet.code)
    return None
