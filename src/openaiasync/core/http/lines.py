"""Lines of a text, ended by LF, CRLF or CR only.

`str.splitlines` also splits at U+2028, U+2029, U+0085 and a few control characters, all of which may be unescaped in a
JSON string, and so within one line of a JSONL file.
"""

from __future__ import annotations

import io
import re

__all__ = ["LineDecoder", "split_lines"]

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


def split_lines(text: str, *, keep_ends: bool = False) -> list[str]:
    """Return the lines of a whole text; an end of line at its end does not begin another line."""
    lines = _LINES.findall(text)
    return lines if keep_ends else [line.rstrip("\r\n") for line in lines]


class LineDecoder:
    """Returns the lines of a text that is fed in pieces."""

    __slots__ = ("_held", "_newlines")

    def __init__(self) -> None:
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._held: list[str] = []  # pieces of the line that has not ended

    def feed(self, text: str, *, final: bool = False) -> list[str]:
        """Return the lines that this piece completes, without their ends; with `final` also the last one."""
        first, *rest = self._newlines.decode(text, final=final).split("\n")
        self._held.append(first)
        lines: list[str] = []
        if rest:
            lines = ["".join(self._held), *rest[:-1]]
            self._held = [rest[-1]]
        if final and (last := "".join(self._held)):
            lines.append(last)
        return lines
