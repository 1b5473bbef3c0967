"""Output of the command line: data on stdout, everything else on stderr, colour only where the console supports it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Generator
from enum import IntEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

__all__ = [
    "CommandError",
    "Exit",
    "complain",
    "err",
    "json_bytes",
    "note",
    "note_lines",
    "out",
    "printable",
    "silence",
    "take_any_text",
    "write",
    "write_bytes",
]


class Exit(IntEnum):
    """The exit codes of commands."""

    OK = 0
    FAILED = 1  # the server or the network
    USAGE = 2
    ROWS_FAILED = 3
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with one line on stderr and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would exit the process: `run` decides how a command ends


def out() -> Console:
    """Return a console on stdout, for tables and headings."""
    return _Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def err() -> Console:
    """Return a console on stderr, for progress and notes."""
    return _Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def progress(
    label: str, *columns: ProgressColumn, total: int | None, shown: bool
) -> Generator[Callable[[int], None], None, None]:
    """Show a progress line on stderr during the block; yield a function that advances it. Not `shown`: no output."""
    if not shown:
        yield lambda steps: None
        return
    from rich.progress import Progress, TimeElapsedColumn

    with Progress(*columns, TimeElapsedColumn(), console=err(), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


def printable(text: str) -> str:
    """Replace control characters except newline and tab by U+FFFD, so that the text cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text)


def write(text: str) -> None:
    """Write a model's text to stdout at once: made printable on a terminal, unchanged into a pipe."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def take_any_text() -> None:
    """Make stdout write a question mark for what its encoding lacks, instead of raising an error."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # callers within a process may have replaced stdout
    if reconfigure is not None:
        reconfigure(errors="replace")


def write_bytes(data: bytes) -> None:
    """Write data to stdout at once, unchanged: JSON is UTF-8 whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def json_bytes(value: object) -> bytes:
    """Return indented JSON in UTF-8 with a final newline; a lone surrogate stays an escape."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def note(text: str) -> None:
    """Print a line for the user on stderr. Raises nothing."""
    _print_line(Text(_one_line(text), style="dim"))


def note_lines(text: str) -> None:
    """Print several lines for the user on stderr, such as a traceback. Raises nothing."""
    for line in text.splitlines():
        _print_line(Text(printable(line), style="dim"))


def complain(text: str) -> None:
    """Print an error as one line on stderr. Raises nothing."""
    _print_line(Text.assemble(("openaiasync: ", "bold red"), _one_line(text)))


def _print_line(line: Text) -> None:
    # The work goes on if stderr is closed, full, or a pipe without a reader: the exit code tells its result.
    with contextlib.suppress(OSError):
        err().print(line, soft_wrap=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def silence() -> None:
    """Discard what is still buffered for stdout after its reader has gone, so that exiting raises no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


resolve_annotations(__name__)
