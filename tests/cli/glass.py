"""A glass terminal for tests: what a person would see of what a program wrote, escape codes carried out.

It knows what rich and prompt_toolkit use (ECMA-48 cursor movement and erasing, xterm's modes), and raises on anything
else, so that no test looks at a screen that was drawn wrongly.
"""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[(?P<args>[?>\d;]*)(?P<final>[@-~])"
    r"|\x1b\](?P<osc>.*?)(?:\x07|\x1b\\)"
    r"|\x1b(?P<mode>[=>78(][B0]?)"
    r"|(?P<char>.)",
    re.DOTALL,
)
_IGNORED = frozenset("mhlnqtc")  # colours, modes, questions to the terminal


class Glass:
    """A screen of so many columns and rows, and all that has scrolled off it."""

    def __init__(self, columns: int = 100, rows: int = 40) -> None:
        self.columns = columns
        self.rows = rows
        self._lines: list[list[str]] = [[]]
        self._row = self._column = self._top = 0

    def feed(self, written: str) -> None:
        """Carry out what a program wrote."""
        for match in _SEQUENCE.finditer(written):
            if match["char"]:
                self._put(match["char"])
            elif match["final"]:
                self._control(match["args"], match["final"])

    @property
    def row(self) -> int:
        """The line of the cursor, from 0."""
        return self._row

    @property
    def lines(self) -> list[str]:
        """Every line, those that scrolled off included, without spaces at its end."""
        return ["".join(line).rstrip() for line in self._lines]

    @property
    def text(self) -> str:
        """The lines that are not empty."""
        return "\n".join(line for line in self.lines if line)

    def _put(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._down()
        elif char == "\b":
            self._column = max(0, self._column - 1)
        elif char == "\t":
            self._column += 8 - self._column % 8
        elif char >= " ":
            if self._column >= self.columns:
                self._column = 0
                self._down()
            line = self._lines[self._row]
            line.extend(" " * (self._column + 1 - len(line)))
            line[self._column] = char
            self._column += 1
        elif char != "\x07":
            raise AssertionError(f"the terminal got {char!r}")

    def _down(self, count: int = 1) -> None:
        self._row += count
        while len(self._lines) <= self._row:
            self._lines.append([])
        self._top = max(self._top, self._row - self.rows + 1)

    def _control(self, args: str, final: str) -> None:
        if args.startswith(("?", ">")) or final in _IGNORED:
            return
        numbers = [int(number) if number else 0 for number in args.split(";")]
        count = max(1, numbers[0])
        line = self._lines[self._row]
        if final == "A":
            self._row = max(self._top, self._row - count)
        elif final == "B":
            self._down(count)
        elif final == "C":
            self._column += count
        elif final == "D":
            self._column = max(0, self._column - count)
        elif final == "G":
            self._column = count - 1
        elif final == "H":
            self._row = self._top
            self._down(count - 1)
            self._column = (numbers[1] if len(numbers) > 1 and numbers[1] else 1) - 1
        elif final == "K":
            self._lines[self._row] = [] if numbers[0] == 2 else line[: self._column]
        elif final == "J":
            del self._lines[self._row + 1 :]
            self._lines[self._row] = line[: self._column] if numbers[0] == 0 else []
        elif final == "P":
            del line[self._column : self._column + count]
        elif final == "@":
            line[self._column : self._column] = " " * count
        else:
            raise AssertionError(f"the terminal got ESC [ {args}{final}")
