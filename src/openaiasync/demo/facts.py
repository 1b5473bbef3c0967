"""The facts and courtesies of `demo-chat`, some of them in four languages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from .answers import Question, RuleAnswer, pick, words_of

__all__ = ["answer_fact", "courtesy"]


@dataclass(frozen=True)
class _Fact:
    keywords: str  # all must occur, each as a pattern at the beginning of a word
    text: str
    short: str = ""
    translations: dict[str, str] = field(default_factory=dict[str, str])


_FACTS: Final = (
    _Fact(
        "sky blue",
        "Sunlight holds all colours. On its way through the air blue light is scattered far more than red, because its "
        "waves are shorter, and so blue reaches us from every direction.",
        "Scattering",
        {
            "fr": "L'air diffuse la lumière bleue bien plus que la rouge, et le bleu nous vient donc de partout.",
            "de": "Die Luft streut blaues Licht viel stärker als rotes, darum kommt das Blau von überall her.",
            "es": "El aire dispersa la luz azul mucho más que la roja; por eso el azul nos llega de todas partes.",
        },
    ),
    _Fact("grass|leaf|leaves green", "Leaves are green because chlorophyll takes red and blue and leaves green.",
          "Chlorophyll"),
    _Fact("rainbow", "A rainbow is sunlight that raindrops bend, split into colours and throw back.", "Refraction"),
    _Fact("sea|ocean salt", "Rivers wash salts out of the rocks; the water evaporates again, the salts stay.",
          "Rivers"),
    _Fact("tide", "The moon pulls the sea into two bulges, and the earth turns beneath them.", "Moon"),
    _Fact("season", "The earth's axis leans, so each half of the globe has its turn of more sun.", "Tilt"),
    _Fact("speed light", "Light travels 299,792,458 metres in a second.", "299,792,458"),
    _Fact("water boil", "At sea level water boils at 100 degrees Celsius.", "100"),
    _Fact("meaning life", "Some say 42. I would say: it is worth looking around.", "42"),
    _Fact("what python", "Python is a programming language made by Guido van Rossum, first released in 1991.",
          "Language"),
    _Fact("what asyncio", "asyncio is Python's library for doing many things at once in one thread: while one task "
          "waits, another runs.", "Concurrency"),
    _Fact("who|what are you", "I am demo-chat, a small set of rules inside openaiasync's built-in server. No model, "
          "no network.", "demo-chat"),
    _Fact("what can|help", "I can do arithmetic, reckon with dates, count and turn words, remember your name, tell a "
          "short story, write a little code, call your tools and fill your JSON schemas.", "Lots"),
)  # fmt: skip
_CAPITALS: Final = {
    "france": "Paris", "germany": "Berlin", "spain": "Madrid", "italy": "Rome", "japan": "Tokyo", "austria": "Vienna",
    "england": "London", "ireland": "Dublin", "portugal": "Lisbon", "norway": "Oslo", "sweden": "Stockholm",
    "finland": "Helsinki", "denmark": "Copenhagen", "poland": "Warsaw", "greece": "Athens", "egypt": "Cairo",
    "canada": "Ottawa", "australia": "Canberra", "brazil": "Brasília", "india": "New Delhi", "kenya": "Nairobi",
}  # fmt: skip
_COURTESIES: Final = (
    (
        r"(?:hi|hello|hey|good (?:morning|evening|afternoon|day)|greetings|bonjour|hallo|guten tag|hola)\b",
        ("Hello! What can I do for you?", "Hi there! What is on your mind?", "Good to see you. How can I help?"),
        {
            "fr": "Bonjour ! Que puis-je faire pour vous ?",
            "de": "Hallo! Was kann ich für Sie tun?",
            "es": "¡Hola! ¿En qué puedo ayudarle?",
        },
    ),
    (
        r"(?:thanks|thank you|thx|merci|danke|gracias)\b",
        ("You are welcome.", "My pleasure.", "Any time."),
        {"fr": "Avec plaisir.", "de": "Gern geschehen.", "es": "De nada."},
    ),
    (
        r"(?:bye|goodbye|good night|see you|au revoir|tschüss|adiós)\b",
        ("Goodbye!", "See you soon.", "Take care."),
        {"fr": "Au revoir !", "de": "Auf Wiedersehen!", "es": "¡Adiós!"},
    ),
)
_HOW_ARE_YOU = re.compile(r"\bhow (?:are you|do you do|is it going)\b", re.IGNORECASE)
_QUESTION = re.compile(
    r"[?]|^\s*(?:why|what|who|how|when|where|which|is|are|do|does|can|tell|explain)\b", re.IGNORECASE
)


def answer_fact(question: Question) -> RuleAnswer | None:
    """Answer one of the known questions."""
    if not _QUESTION.search(question.text):
        return None
    lower = question.text.lower()
    if "capital" in lower:
        for country, capital in _CAPITALS.items():
            if country in lower:
                return RuleAnswer(f"The capital of {country.title()} is {capital}.", capital)
    for fact in _FACTS:
        if all(re.search(rf"\b(?:{keyword})", lower) for keyword in fact.keywords.split(" ")):
            return RuleAnswer(fact.text, fact.short, fact.translations)
    return None


def courtesy(question: Question) -> RuleAnswer | None:
    """Return a greeting, thanks or a goodbye. A greeting with more text after it is left to the other rules."""
    if _HOW_ARE_YOU.search(question.text):
        return RuleAnswer("I am well, thank you. And you?", "Well")
    for pattern, texts, abroad in _COURTESIES:
        match = re.fullmatch(rf"\s*{pattern}[\s,!.]*(.*)", question.text, re.IGNORECASE | re.DOTALL)
        if match and len(match[1].split()) < 4:
            text = pick(texts, question.variant)
            return RuleAnswer(text, words_of(text)[0], abroad)
    return None
