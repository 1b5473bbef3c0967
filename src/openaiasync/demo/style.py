"""The style that the system prompt or the user requests of `demo-chat`: language, case, length, prefix, suffix."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .answers import RuleAnswer, words_of

__all__ = ["Style", "persona", "style_of"]

_LANGUAGES = {"french": "fr", "français": "fr", "german": "de", "deutsch": "de", "spanish": "es", "español": "es"}
_CUE = re.compile(rf"\b(?:{'|'.join(_LANGUAGES)}|upper|lower|cap|all caps|one|a single|1 word|just the|brief|be |begin|"
                  r"start|end|finish)", re.IGNORECASE)  # fmt: skip
_LANGUAGE = re.compile(rf"\bin ({'|'.join(_LANGUAGES)})\b|\b(?:only|always) (?:speak|use) ({'|'.join(_LANGUAGES)})\b",
                       re.IGNORECASE)  # fmt: skip
_ANSWERING = r"\b(?:answer|reply|respond|speak|write|say it|talk|use)\b[^.!?\n]*"
_UPPER = re.compile(_ANSWERING + r"\b(?:upper[- ]?case|capital letters|capitals|all caps)\b", re.IGNORECASE)
_LOWER = re.compile(_ANSWERING + r"\blower[- ]?case\b", re.IGNORECASE)
_ONE_WORD = re.compile(r"\b(?:one|a single|1) word\b|\bjust the (?:number|result|answer|name)\b", re.IGNORECASE)
_BRIEF = re.compile(r"\b(?:one|a single) (?:short )?sentence\b|\bbriefly\b|\bbe (?:brief|concise)\b", re.IGNORECASE)
_FRAME = re.compile(r"\b(begin|start|end|finish) (?:(?:every|each|your) (?:answers?|reply|replies|messages?))?"
                    r" ?with (?:the words? )?[\"'“]([^\"'”\n]{1,80})[\"'”]", re.IGNORECASE)  # fmt: skip
_PERSONA = re.compile(r"\b(?i:you are|your name is|you're)(?: called| named)? ([A-Z][\w-]+)")
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Style:
    """The changes to an answer before it is sent."""

    language: str = ""
    case: str = ""
    one_word: bool = False
    brief: bool = False
    first: str = ""
    last: str = ""

    def apply(self, said: RuleAnswer) -> str:
        """Return the text in this style. A language without a translation has no effect."""
        text = said.translations.get(self.language) or said.text
        if self.one_word:
            words = words_of(text)
            text = said.short or max(words, key=len, default=text)
        elif self.brief:
            sentence = _SENTENCE.match(text)
            text = sentence[0] if sentence else text
        text = " ".join(part for part in (self.first, text, self.last) if part)
        return text.upper() if self.case == "upper" else text.lower() if self.case == "lower" else text


_PLAIN = Style()


def style_of(system: str, user: str) -> Style:
    """Return the style that the system prompt requests, or the user in a text about the answer."""
    both = f"{system}\n{user}"
    if not _CUE.search(both):
        return _PLAIN
    language = _LANGUAGE.search(both)
    frames = {match[1].lower() in ("begin", "start"): match[2] for match in _FRAME.finditer(system)}
    return Style(
        language=_LANGUAGES[(language[1] or language[2]).lower()] if language else "",
        case="upper" if _UPPER.search(both) else "lower" if _LOWER.search(both) else "",
        one_word=_ONE_WORD.search(both) is not None,
        brief=_BRIEF.search(both) is not None,
        first=frames.get(True, ""),
        last=frames.get(False, ""),
    )


def persona(system: str) -> str:
    """Return the name that the system prompt gives the model, or ``""``."""
    match = _PERSONA.search(system)
    return match[1] if match else ""
