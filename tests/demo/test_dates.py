"""Dates are reckoned from the conversation alone."""

from __future__ import annotations

from datetime import date

import pytest

from openaiasync.demo.answers import Question
from openaiasync.demo.dates import answer_date, find_dates


def test_find_dates() -> None:
    """Three ways of writing; impossible days are no dates."""
    text = "2026-03-14, 14 March 2026, March 14th, 2026, 1st of May 2020; not 2026-02-30 or 31 June 2026."
    assert find_dates(text) == [date(2026, 3, 14)] * 3 + [date(2020, 5, 1)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("If today is 2026-11-22, what day is it in ten days?", "It will be Wednesday, 2 December 2026."),
        ("Today is 28 February 2024. What date is tomorrow?", "Tomorrow is Thursday, 29 February 2024."),
        ("It is March 1, 2025; which day was yesterday?", "Yesterday was Friday, 28 February 2025."),
        ("What weekday is 2000-01-01?", "2000-01-01 is a Saturday."),
        ("When is three weeks after 2026-01-01?", "It will be Thursday, 22 January 2026."),
        ("What date was a fortnight before 2026-01-01?", "It was Thursday, 18 December 2025."),
        (
            "How many days are between 2026-01-01 and 2026-03-01?",
            "There are 59 days between 2026-01-01 and 2026-03-01.",
        ),
        ("What day is 999999 weeks after 2026-01-01?", "That is beyond the calendar."),
    ],
)
def test_questions(text: str, answer: str) -> None:
    said = answer_date(Question(text))
    assert said is not None
    assert said.text == answer


def test_date_from_earlier_messages() -> None:
    """The last one told counts, the system prompt's if the user gave none; without any there is nothing to say."""
    said = answer_date(
        Question("What day is tomorrow?", ["Today is 2026-01-01.", "No, 2026-01-02."], "It is 1999-12-31.")
    )
    assert said is not None
    assert said.text == "Tomorrow is Saturday, 3 January 2026."
    said = answer_date(Question("What day is tomorrow?", [], "It is 1999-12-31."))
    assert said is not None
    assert said.short == "2000-01-01"
    assert answer_date(Question("What day is tomorrow?")) is None
    assert answer_date(Question("I was born on 1999-12-31.")) is None
