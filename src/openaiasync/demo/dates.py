"""Dates for `demo-chat`: computes with the dates in the conversation, never with today's, for repeatable answers."""

from __future__ import annotations

import re
from datetime import date, timedelta

from .answers import Question, RuleAnswer

__all__ = ["answer_date", "find_dates"]

_NAMED: str = "january|february|march|april|may|june|july|august|september|october|november|december"
_MONTHS = tuple(map(str, _NAMED.split("|")))
_DATE = re.compile(
    rf"\b(\d{{4}})-(\d\d)-(\d\d)\b|\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_NAMED}),? (\d{{4}})\b"
    rf"|\b({_NAMED}) (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b",
    re.IGNORECASE,
)
_SPAN = r"(\d{1,6}|an?|one|two|three|four|five|six|seven|ten) (day|week|fortnight)s?"
_AHEAD = re.compile(rf"\b(?:in {_SPAN}|{_SPAN} (?:from|after|later|hence))", re.IGNORECASE)
_BACK = re.compile(rf"\b{_SPAN} (?:ago|before|earlier)", re.IGNORECASE)
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "ten": 10}
_UNITS = {"day": 1, "week": 7, "fortnight": 14}
_ASKS = re.compile(r"\b(what|which) (day|date|weekday)|\bwhen\b|\bweekday\b|\bday of the week\b|\bhow many days\b"
                   r"|\btomorrow\b|\byesterday\b", re.IGNORECASE)  # fmt: skip


def find_dates(text: str) -> list[date]:
    """Return all dates in a text, written ``2026-03-14``, ``14 March 2026`` or ``March 14, 2026``."""
    found: list[date] = []
    for match in _DATE.finditer(text):
        iso_year, iso_month, iso_day, day, month, year, month_2, day_2, year_2 = match.groups()
        try:
            if iso_year:
                found.append(date(int(iso_year), int(iso_month), int(iso_day)))
            else:
                name = (month or month_2).lower()
                found.append(date(int(year or year_2), _MONTHS.index(name) + 1, int(day or day_2)))
        except ValueError:
            continue  # such as 30 February
    return found


def _days(match: re.Match[str]) -> int:
    given = [group for group in match.groups() if group]
    count = _NUMBERS.get(given[0].lower()) or int(given[0])
    return count * _UNITS[given[1].lower()]


def _shown(day: date) -> str:
    return f"{day:%A}, {day.day} {day:%B} {day.year}"


def answer_date(question: Question) -> RuleAnswer | None:
    """Answer "If today is 2026-11-22, what day is it in ten days?", weekdays, and days between two dates."""
    if not _ASKS.search(question.text):
        return None
    dates = (
        find_dates(question.text)
        or [day for text in (question.system, *question.earlier) for day in find_dates(text)][-1:]
    )
    if not dates:
        return None
    if len(dates) > 1 and re.search(r"how many days|how long", question.text, re.IGNORECASE):
        days = abs((dates[1] - dates[0]).days)
        return RuleAnswer(f"There are {days} days between {dates[0]} and {dates[1]}.", str(days))
    shift, lead = 0, ""
    if ahead := _AHEAD.search(question.text):
        shift, lead = _days(ahead), "It will be"
    elif back := _BACK.search(question.text):
        shift, lead = -_days(back), "It was"
    elif re.search(r"\btomorrow\b", question.text, re.IGNORECASE):
        shift, lead = 1, "Tomorrow is"
    elif re.search(r"\byesterday\b", question.text, re.IGNORECASE):
        shift, lead = -1, "Yesterday was"
    try:
        day = dates[0] + timedelta(days=shift)
    except OverflowError:
        return RuleAnswer("That is beyond the calendar.", "Never")
    if lead:
        return RuleAnswer(f"{lead} {_shown(day)}.", day.isoformat())
    return RuleAnswer(f"{dates[0]} is a {day:%A}.", f"{day:%A}")
