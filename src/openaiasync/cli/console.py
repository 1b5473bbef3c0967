"""Where the words go: data to stdout as it is, everything else to stderr; colour only where the console takes it."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable, Generator
from enum import IntEnum

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TimeElapsedColumn
from rich.text import Text

__all__ = [
    "CommandError",
    "Exit",
    "complain",
    "err",
    "note",
    "out",
    "printable",
    "silence",
    "take_any_text",
    "write",
    "write_bytes",
]


class Exit(IntEnum):
    """What a command ends with."""

    OK = 0
    FAILED = 1  # the server or the network
    USAGE = 2
    ROWS_FAILED = 3
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with one line on stderr and this exit code."""

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit by itself: `run` decides how a command ends


def out() -> Console:
    """A console on stdout, for what is laid out: tables and headings."""
    return _Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def err() -> Console:
    """A console on stderr, for progress and notes."""
    return _Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def progress(
    label: str, *columns: ProgressColumn, total: int | None, shown: bool
) -> Generator[Callable[[int], None], None, None]:
    """A progress line on stderr while the block runs; gives a function that moves it on. Not `shown`: no byte of it."""
    if not shown:
        yield lambda steps: None
        return
    with Progress(*columns, TimeElapsedColumn(), console=err(), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


def printable(text: str) -> str:
    """The text without what would steer a terminal: control characters but newline and tab are replaced by U+FFFD."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text)


def write(text: str) -> None:
    """A model's words to stdout at once; made harmless for a terminal, untouched into a pipe."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def take_any_text() -> None:
    """Let stdout write what its encoding cannot: as a question mark, not as an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # whoever runs this in a process may have put another in
    if reconfigure is not None:
        reconfigure(errors="replace")


def write_bytes(data: bytes) -> None:
    """Data to stdout at once, byte for byte. JSON is UTF-8, whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A line for the user, on stderr."""
    err().print(Text(_one_line(text), style="dim"), soft_wrap=True)


def complain(text: str) -> None:
    """What went wrong, as one line on stderr."""
    err().print(Text.assemble(("openaiasync: ", "bold red"), _one_line(text)), soft_wrap=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def silence() -> None:
    """Whoever read stdout has gone: what is still buffered goes nowhere, without a complaint at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
