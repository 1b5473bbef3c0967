"""Reasoning that a model writes into its text between ``<think>`` and ``</think>``, told apart as it comes."""

from __future__ import annotations

__all__ = ["ThinkSplitter", "split_thinking"]

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkSplitter:
    """Tells thinking from text in pieces, however they are cut; feed it, and `end` it.

    Only what an answer begins with is thinking (white space before it, several blocks one after another): a tag later
    on is text. White space after a block is dropped. A block that is never closed is thinking to the end.
    """

    __slots__ = ("_after", "_held", "_inside", "_plain")

    def __init__(self) -> None:
        self._held = ""  # what may become a tag, or is white space that may come before one
        self._inside = False
        self._after = False  # a block has been closed
        self._plain = False  # the text has begun: no tag counts any more

    def feed(self, piece: str) -> tuple[str, str]:
        """The text and the thinking that a piece brings; either may be ""."""
        if self._plain:
            return piece, ""
        self._held += piece
        thinking: list[str] = []
        while not self._plain:
            if self._inside:
                if not self._close(thinking):
                    break
            else:
                if not self._open():
                    break
        text = ""
        if self._plain:
            text, self._held = self._held, ""
        return text, "".join(thinking)

    def end(self) -> tuple[str, str]:
        """What is still held back: text, or thinking that was never closed."""
        held, self._held = self._held, ""
        if self._inside:
            return "", held
        return (held.lstrip() if self._after else held), ""

    def _close(self, thinking: list[str]) -> bool:
        """Go on within a block; whether its end was there."""
        before, tag, rest = self._held.partition(_CLOSE)
        if tag:
            thinking.append(before)
            self._held, self._inside, self._after = rest, False, True
            return True
        keep = _overlap(self._held, _CLOSE)
        cut = len(self._held) - keep
        thinking.append(self._held[:cut])
        self._held = self._held[cut:]
        return False

    def _open(self) -> bool:
        """Go on before a block or the text; whether either has begun."""
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._held, self._inside = begun[len(_OPEN) :], True
            return True
        if _OPEN.startswith(begun):  # also of nothing but white space
            return False
        self._plain = True
        if self._after:
            self._held = begun
        return True


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


def split_thinking(text: str) -> tuple[str, str]:
    """The text without the thinking it begins with, and the thinking."""
    splitter = ThinkSplitter()
    said, thought = splitter.feed(text)
    more_said, more_thought = splitter.end()
    return said + more_said, thought + more_thought
