"""docs/cli.md shows what `--help` really says. Run this file as a program to write it anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

from openaiasync.cli.command_line import application, run

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
COMMANDS = ["", *sorted(name for name in application() if not name.startswith("-"))]
BLOCK = re.compile(r"(<!-- help:(.*?)-->\n```text\n)(.*?)(?=^```$)", re.DOTALL | re.MULTILINE)
WIDTH = "100"  # columns


def help_of(command: str) -> str:
    """What the command prints for ``--help``, on a terminal of `WIDTH` columns without colours."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run([*command.split(), "--help"])
    assert code == 0
    return "".join(f"{line.rstrip()}\n" for line in said.getvalue().rstrip().splitlines())


def words(text: str) -> list[str]:
    """What a help text says, whatever the version of the library that lays it out."""
    return re.sub(r"[\u2500-\u257f]", " ", text).split()


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", WIDTH)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_every_command_is_shown() -> None:
    """The page has one block for the program and one for each of its commands, in that order."""
    shown = [match[2].strip() for match in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]
    assert shown == COMMANDS
    assert {"chat", "models", "embed", "serve", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "openaiasync")
def test_the_page_shows_the_real_help(command: str) -> None:
    """What the page shows is what the command prints."""
    page = PAGE.read_text(encoding="utf-8")
    (shown,) = (match[3] for match in BLOCK.finditer(page) if match[2].strip() == command)
    assert words(shown) == words(help_of(command)), "write it anew: python tests/test_docs_help.py"


def main() -> None:
    """Write the help texts into the page."""
    os.environ["COLUMNS"] = WIDTH
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda match: match[1] + help_of(match[2].strip()), page), encoding="utf-8")


if __name__ == "__main__":
    main()
