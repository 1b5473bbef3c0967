"""Reasoning that a model writes into its text between ``<think>`` and ``</think>``, told apart as it comes."""

from __future__ import annotations

import re

__all__ = ["ThinkSplitter", "split_thinking"]

_OPEN = "<think>"
_CLOSE = "</think>"
_INK = re.compile(r"\S")


class ThinkSplitter:
    """Tells thinking from text in pieces, however they are cut; feed it, and `end` it.

    Only what an answer begins with is thinking (white space before it, several blocks one after another): a tag later
    on is text. White space after a block is dropped. A block that is never closed is thinking to the end.
    """

    __slots__ = ("_after", "_blank", "_held", "_inside", "_plain")

    def __init__(self) -> None:
        self._blank: list[str] = []  # white space before the first block or the text
        self._held = ""  # what may become a tag; shorter than one
        self._inside = False
        self._after = False  # a block has been closed
        self._plain = False  # the text has begun: no tag counts any more

    def feed(self, piece: str) -> tuple[str, str]:
        """The text and the thinking that a piece brings; either may be ""."""
        if self._plain:
            return piece, ""
        piece, self._held = self._held + piece, ""
        thinking: list[str] = []
        at = 0
        while at < len(piece) and not self._plain:
            at = self._close(piece, at, thinking) if self._inside else self._open(piece, at)
        return ("".join(self._leading()) + piece[at:] if self._plain else ""), "".join(thinking)

    def end(self) -> tuple[str, str]:
        """What is still held back: text, or thinking that was never closed."""
        held, self._held = self._held, ""
        return ("", held) if self._inside else ("".join(self._leading()) + held, "")

    def _leading(self) -> list[str]:
        """The white space before the text; it counts only where no block came before."""
        blank, self._blank = self._blank, []
        return [] if self._after else blank

    def _close(self, piece: str, at: int, thinking: list[str]) -> int:
        """Go on within a block from a place in the piece; the place up to which it was taken."""
        found = piece.find(_CLOSE, at)
        if found >= 0:
            thinking.append(piece[at:found])
            self._inside, self._after, self._blank = False, True, []
            return found + len(_CLOSE)
        cut = len(piece) - _overlap(piece, _CLOSE, at)
        thinking.append(piece[at:cut])
        self._held = piece[cut:]
        return len(piece)

    def _open(self, piece: str, at: int) -> int:
        """Go on before a block or the text from a place in the piece; the place up to which it was taken."""
        ink = _INK.search(piece, at)
        begin = len(piece) if ink is None else ink.start()
        self._blank.append(piece[at:begin])
        if piece.startswith(_OPEN, begin):
            self._inside = True
            return begin + len(_OPEN)
        if len(piece) - begin < len(_OPEN) and _OPEN.startswith(piece[begin:]):
            self._held = piece[begin:]
            return len(piece)
        self._plain = True
        return begin


def _overlap(text: str, tag: str, start: int) -> int:
    """How many characters at the end of a text, from `start` on, may be the beginning of a tag."""
    for length in range(min(len(tag) - 1, len(text) - start), 0, -1):
        if text.endswith(tag[:length]):
            return length
    return 0


def split_thinking(text: str) -> tuple[str, str]:
    """The text without the thinking it begins with, and the thinking."""
    splitter = ThinkSplitter()
    said, thought = splitter.feed(text)
    more_said, more_thought = splitter.end()
    return said + more_said, thought + more_thought
