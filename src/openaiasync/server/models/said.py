"""What a rule of `demo-chat` answers, before style (language, case, length) is put on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Rule", "Said", "Turn", "pick"]


@dataclass(frozen=True, slots=True)
class Said:
    """`text` in full; `short` is the answer in one word, if there is one; `abroad` the text in other languages."""

    text: str
    short: str = ""
    abroad: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Turn:
    """What a rule sees: the user's last text, the user's earlier texts, the system prompt, which variant is wanted."""

    text: str
    earlier: Sequence[str] = ()
    system: str = ""
    variant: int = 0


class Rule(NamedTuple):
    """A way to answer: tried only on texts in which the `cue` is found, which is cheaper than to try them all."""

    cue: re.Pattern[str]
    answer: Callable[[Turn], Said | None]

    @classmethod
    def on(cls, cue: str, answer: Callable[[Turn], Said | None]) -> Rule:
        return cls(re.compile(cue, re.IGNORECASE), answer)


def pick(options: Sequence[str], variant: int) -> str:
    """One phrasing of several, by variant."""
    return options[variant % len(options)]
