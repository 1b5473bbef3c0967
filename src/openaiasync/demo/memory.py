"""The memory of `demo-chat`, its stories, and its questions in return when no other rule fits."""

from __future__ import annotations

import re
from typing import Final

from .answers import Question, RuleAnswer, pick, words_of

__all__ = ["names_in", "reflect", "remember", "tell_story"]

_STATED = re.compile(r"\bmy ([a-z]+(?: [a-z]+)?) (?:is|are|was) (?:called |named )?([^.!?,;\n]+)", re.IGNORECASE)
_CALLED = re.compile(r"\b(?:i am called|call me|i'm called|the name is)\s+([^.!?,;\n]+)", re.IGNORECASE)
_I_AM = re.compile(r"\b(?:I am|I'm|i am|i'm) ([A-Z][\w-]+)")
_QUESTION = re.compile(r"\b(?:what(?:'s| is| was| are)|do you (?:know|remember)|tell me|who(?:'s| is))(?: what)? my "
                    r"([a-z]+(?: [a-z]+)?)\b", re.IGNORECASE)  # fmt: skip
_WHO_AM_I = re.compile(r"\bwho am i\b|\bwhat am i called\b", re.IGNORECASE)
_STORY = re.compile(r"\b(?:tell|write|make up|give)\b.*\b(?:story|tale)\b", re.IGNORECASE | re.DOTALL)
_SUBJECT = re.compile(r"\b(?:story|tale) (?:of|about|on|with) ([^.!?:\n]+)", re.IGNORECASE)
_NAME = re.compile(r"\b[A-Z][a-zà-ÿ]+\b")
_BEGINNINGS = (
    "I A An The Tell Write Please Give Make Can Could Would What When Where Why Who How Is Are Do Does My Your It "
    "In On If And But Or Hi Hello Hey Once Story Let Use Call Find Get Show Answer Dear Ok Okay Yes No Not This "
    "That"
)
_NO_NAMES: Final = frozenset(_BEGINNINGS.split())
_LAST_RESORT: Final = (
    "Tell me more about {}.",
    "What comes to your mind when you think of {}?",
    "I see. Why does {} matter to you?",
)


def names_in(text: str) -> list[str]:
    """Return the capitalised words of a text, each once and in order, without words that commonly begin a sentence."""
    return list(dict.fromkeys(name for name in _NAME.findall(text) if name not in _NO_NAMES))


def _facts_about(text: str) -> dict[str, str]:
    known = {match[1].lower(): match[2].strip() for match in _STATED.finditer(text)}
    name = _CALLED.search(text) or _I_AM.search(text)
    if name:
        known["name"] = name[1].strip()
    return known


def remember(question: Question) -> RuleAnswer | None:
    """Recall what the user said earlier ("my name is Judy"), or acknowledge it now."""
    topic = "name" if _WHO_AM_I.search(question.text) else ""
    match = _QUESTION.search(question.text)
    if match:
        topic = match[1].lower()
    if topic:
        known: dict[str, str] = {}
        for text in (*question.earlier, question.text):
            known.update(_facts_about(text))
        value = known.get(topic) or known.get(topic.split()[0])
        if value is None:
            return RuleAnswer(f"You have not told me your {topic} yet.", "Unknown")
        return RuleAnswer(pick((f"Your {topic} is {value}.", f"You told me: {value}."), question.variant), value)
    facts = _facts_about(question.text)
    if not facts or "?" in question.text:
        return None
    if "name" in facts:
        name = facts["name"]
        return RuleAnswer(
            pick((f"Nice to meet you, {name}.", f"Hello {name}, I shall remember that."), question.variant), name
        )
    what, value = next(iter(facts.items()))
    return RuleAnswer(f"Noted: your {what} is {value}.", value)


def tell_story(question: Question) -> RuleAnswer | None:
    """Tell a short story with the names and the subject of the request."""
    if not _STORY.search(question.text):
        return None
    names = names_in(question.text) or ["Ada", "Milo"]
    first, second = (
        names[0],
        names[1] if len(names) > 1 else pick(("the old keeper", "a heron", "the tide"), question.variant),
    )
    match = _SUBJECT.search(question.text)
    subject = match[1].split(",")[0].strip() if match else ""
    if not subject or subject in names:
        subject = "two friends" if len(names) > 1 else "a traveller"
    treasure = pick(
        ("a key made of glass", "a lamp that never went out", "a map without a name on it"), question.variant
    )
    place = pick(
        ("a house at the edge of the sea", "a tower above the clouds", "the last street of the town"), question.variant
    )
    crowd = f" {', '.join(names[2:])} came along, too." if len(names) > 2 else ""
    story = (
        f"Once upon a time, in {place}, there was a story of {subject}. {first} was the brave one, and {second} knew",
        f"the way.{crowd} One morning {first} found {treasure}.",
        f'"It does not belong to us," said {second}, "but perhaps it was waiting for us."',
        "So they set out, over three hills and one river, and asked everybody they met. Nobody had lost it, but",
        f"everybody had something to tell. When they came home, {first} had learned a hundred stories, {second} had",
        f"told a hundred more, and {treasure} lay on the table and shone. They never found its owner. They kept",
        "looking all their lives, and that was the best of it.",
    )
    return RuleAnswer(" ".join(story), first)


def reflect(question: Question) -> RuleAnswer:
    """Ask a question about the longest word of the text. This rule always has an answer."""
    words = [word for word in words_of(question.text) if len(word) > 3]
    return RuleAnswer(pick(_LAST_RESORT, question.variant).format(max(words, key=len, default="that").lower()))
