"""The conversation itself: remembering, stories, and turning a sentence back when nothing else fits."""

from __future__ import annotations

import re
from typing import Final

from .said import Said, Turn, pick
from .tokens import words_of

__all__ = ["names_in", "reflect", "remember", "tell_story"]

_STATED = re.compile(r"\bmy ([a-z]+(?: [a-z]+)?) (?:is|are|was) (?:called |named )?([^.!?,;\n]+)", re.IGNORECASE)
_CALLED = re.compile(r"\b(?:i am called|call me|i'm called|the name is)\s+([^.!?,;\n]+)", re.IGNORECASE)
_I_AM = re.compile(r"\b(?:I am|I'm|i am|i'm) ([A-Z][\w-]+)")
_ASKED = re.compile(r"\b(?:what(?:'s| is| was| are)|do you (?:know|remember)|tell me|who(?:'s| is))(?: what)? my "
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
_REFLECTED: Final = {
    "i": "you", "me": "you", "my": "your", "mine": "yours", "am": "are", "i'm": "you are", "you": "I", "your": "my",
    "yours": "mine", "i've": "you have", "i'll": "you will", "myself": "yourself", "was": "were",
}  # fmt: skip
_ELIZA: Final = (
    (r"\bi (?:feel|am feeling) (.+)", ("What makes you feel {}?", "Do you often feel {}?")),
    (r"\bi (?:need|want) (.+)", ("What would it mean to you to have {}?", "Why do you want {}?")),
    (r"\bi (?:can't|cannot) (.+)", ("What keeps you from it? How do you know you cannot {}?", "What if you could {}?")),
    (r"\b(?:i am|i'm) (.+)", ("How long have you been {}?", "What is it like to be {}?")),
    (r"\bbecause (.+)", ("Is that the only reason?", "What else could be behind it?")),
    (r"\bi think (.+)", ("What makes you think {}?", "And if it were otherwise?")),
    (r"\bmy (.+)", ("Tell me more about your {}.", "Why do you mention your {}?")),
    (r"\byou are (.+)", ("What makes you say that I am {}?", "Would you like me to be {}?")),
    (r"^why (.+?)\?*$", ("I do not know why {}. What is your guess?", "Good question. What do you think?")),
    (
        r"^(?:what|who|how|when|where|which)\b(.*)",
        ("I do not know that. What would you say?", "That is beyond my rules."),
    ),
)
_ELIZA_PATTERNS: Final = tuple((re.compile(pattern, re.IGNORECASE), texts) for pattern, texts in _ELIZA)
_LAST_RESORT: Final = (
    "Tell me more about {}.",
    "What comes to your mind when you think of {}?",
    "I see. Why does {} matter to you?",
)


def names_in(text: str) -> list[str]:
    """Capitalised words that are no usual beginning of a sentence, once each, in order."""
    return list(dict.fromkeys(name for name in _NAME.findall(text) if name not in _NO_NAMES))


def _facts_about(text: str) -> dict[str, str]:
    known = {match[1].lower(): match[2].strip() for match in _STATED.finditer(text)}
    name = _CALLED.search(text) or _I_AM.search(text)
    if name:
        known["name"] = name[1].strip()
    return known


def remember(turn: Turn) -> Said | None:
    """Recall what the user said of themselves earlier ("my name is Judy"), or take note of it now."""
    asked = "name" if _WHO_AM_I.search(turn.text) else ""
    match = _ASKED.search(turn.text)
    if match:
        asked = match[1].lower()
    if asked:
        known: dict[str, str] = {}
        for text in (*turn.earlier, turn.text):
            known.update(_facts_about(text))
        value = known.get(asked) or known.get(asked.split()[0])
        if value is None:
            return Said(f"You have not told me your {asked} yet.", "Unknown")
        return Said(pick((f"Your {asked} is {value}.", f"You told me: {value}."), turn.variant), value)
    told = _facts_about(turn.text)
    if not told or "?" in turn.text:
        return None
    if "name" in told:
        name = told["name"]
        return Said(pick((f"Nice to meet you, {name}.", f"Hello {name}, I shall remember that."), turn.variant), name)
    what, value = next(iter(told.items()))
    return Said(f"Noted: your {what} is {value}.", value)


def tell_story(turn: Turn) -> Said | None:
    """A short story around the names and the subject of the request."""
    if not _STORY.search(turn.text):
        return None
    names = names_in(turn.text) or ["Ada", "Milo"]
    first, second = (
        names[0],
        names[1] if len(names) > 1 else pick(("the old keeper", "a heron", "the tide"), turn.variant),
    )
    match = _SUBJECT.search(turn.text)
    subject = match[1].split(",")[0].strip() if match else ""
    if not subject or subject in names:
        subject = "two friends" if len(names) > 1 else "a traveller"
    treasure = pick(("a key made of glass", "a lamp that never went out", "a map without a name on it"), turn.variant)
    place = pick(
        ("a house at the edge of the sea", "a tower above the clouds", "the last street of the town"), turn.variant
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
    return Said(" ".join(story), first)


def _turned(text: str) -> str:
    words = [_REFLECTED.get(word.lower(), word) for word in text.strip(" .!?").split()]
    return " ".join(words)


def reflect(turn: Turn) -> Said:
    """Turn the user's sentence back, after Weizenbaum's ELIZA; always has an answer."""
    text = turn.text.strip()
    for pattern, texts in _ELIZA_PATTERNS:
        match = pattern.search(text)
        if match:
            return Said(pick(texts, turn.variant).format(_turned(match[1].split(". ")[0])))
    words = [word for word in words_of(text) if len(word) > 3]
    topic = max(words, key=len, default="that").lower() if words else "that"
    return Said(pick(_LAST_RESORT, turn.variant).format(topic))
