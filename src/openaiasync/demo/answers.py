"""The input and output of the rules of `demo-chat`: a question, and an answer before its style is applied."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Question", "Rule", "RuleAnswer", "pick", "words_of"]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """An answer: the full `text`, a one-word form (`short`) if there is one, and `translations` by language."""

    text: str
    short: str = ""
    translations: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Question:
    """The input of a rule: the user's last text, the earlier ones, the system prompt, and the variant to choose."""

    text: str
    earlier: Sequence[str] = ()
    system: str = ""
    variant: int = 0


class Rule(NamedTuple):
    """A way to answer. It is tried only on texts that match its cue, since most texts match few cues."""

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
