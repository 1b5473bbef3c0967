"""What the rules of `demo-chat` work on: a question, and an answer before its style is applied."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Question", "Rule", "RuleAnswer", "pick", "words_of"]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """`text` in full, `short` in one word if there is one, `translations` of the text by language."""

    text: str
    short: str = ""
    translations: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Question:
    """What a rule sees: the user's last text and earlier ones, the system prompt, which variant is wanted."""

    text: str
    earlier: Sequence[str] = ()
    system: str = ""
    variant: int = 0


class Rule(NamedTuple):
    """A way to answer, tried only on texts in which its cue is found: most texts have few of them."""

    cue: re.Pattern[str]
    answer: Callable[[Question], RuleAnswer | None]

    @classmethod
    def on(cls, cue: str, answer: Callable[[Question], RuleAnswer | None]) -> Rule:
        """Return a rule with a compiled cue."""
        return cls(re.compile(cue, re.IGNORECASE), answer)


def pick(options: Sequence[str], variant: int) -> str:
    """Return one phrasing of several, by variant."""
    return options[variant % len(options)]


def words_of(text: str) -> list[str]:
    """Return the words of a text as written."""
    return _WORD.findall(text)
