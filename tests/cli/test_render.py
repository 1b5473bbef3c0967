"""How answers look while they come: however they are cut into pieces, the screen ends as the whole would look."""

from __future__ import annotations

import asyncio
import io
import random
from contextlib import redirect_stdout
from itertools import pairwise

import pytest

from conftest import run
from openaiasync.cli import render
from openaiasync.cli.render import MarkdownScreen, Screen, screen

from .glass import Glass

TEXT = """\
# Two stories

A paragraph with **bold** and `code`, <b>html</b>
and [a link](https://example.org/x).

1. one
   more
2. two

   continued

   ```
   inner
   ```
- other

> quoted
lazily

```python
def f(x):

    return x
```

| a | b |
|---|---|
| 1 | 2 |

<div>
shown
</div>
Setext
======
The end.
"""
SEEN = [
    "Two stories",
    "A paragraph with bold and code, <b>html</b> and a link (https://example.org/x).",
    " 1 one more",
    " 2 two",
    "   continued",
    "    inner",
    " • other",
    "▌ quoted lazily",
    " def f(x):",
    "     return x",
    " a  b",
    " ────",
    " 1  2",
    "<div> shown </div> Setext",
    "The end.",
]


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(render, "_PAUSE", 0.0)
    monkeypatch.setattr(render, "_REST", 0)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)
    return made


def as_driven(terminal: Terminal) -> str:
    """What was written, as a terminal's driver passes it on: a new line begins at the left."""
    return terminal.getvalue().replace("\n", "\r\n")


def shown(terminal: Terminal) -> Glass:
    """What stands on the terminal now, which is empty afterwards."""
    glass = Glass(100, 20)
    glass.feed(as_driven(terminal))
    terminal.seek(0)
    terminal.truncate()
    return glass


def drawn(terminal: Terminal, *pieces: str, thoughts: str = "") -> Glass:
    """What stands there after an answer of these pieces, each drawn."""

    async def show() -> None:
        made = screen()
        assert isinstance(made, MarkdownScreen)
        if thoughts:
            made.thought(thoughts)
            await asyncio.sleep(0.005)
        for piece in pieces:
            made.text(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        made.end()
        made.end()

    with redirect_stdout(terminal):
        run(show())
    return shown(terminal)


def test_markdown(terminal: Terminal) -> None:
    """Blocks are laid out; HTML is shown as it is, an address stands behind its link."""
    assert drawn(terminal, TEXT).text.splitlines() == SEEN


@pytest.mark.parametrize("seed", range(8))
def test_any_cut(terminal: Terminal, seed: int) -> None:
    """Pieces of any length make the same screen as the whole answer at once, with everything there once."""
    chance = random.Random(seed)
    start = chance.choice([0, chance.randrange(len(TEXT) // 2)])
    cuts = {chance.randrange(start + 1, len(TEXT)) for _ in range(chance.choice([3, 30, 60]))}
    text = TEXT[start:]
    places = [0, *sorted(cut - start for cut in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    assert drawn(terminal, *pieces).lines == drawn(terminal, text).lines


def test_longer_than_the_screen(terminal: Terminal) -> None:
    """A block longer than the terminal, and than what is laid out as it grows, scrolls; no line is lost or doubled."""
    code = "```\n" + "".join(f"line {number}\n" for number in range(300)) + "```\n"
    glass = drawn(terminal, *[code[at : at + 37] for at in range(0, len(code), 37)])
    assert glass.text.splitlines() == [f" line {number}" for number in range(300)]


def test_a_paragraph_without_end(terminal: Terminal) -> None:
    """One line of 30,000 words is drawn as it comes and laid out in the end, each word once."""
    words = [f"w{number} " for number in range(30_000)]
    glass = drawn(terminal, *["".join(words[at : at + 3000]) for at in range(0, 30_000, 3000)])
    assert " ".join(glass.text.split()) == "".join(words).strip()


def test_while_it_grows(terminal: Terminal) -> None:
    """Before its end an answer stands there as far as it has come, and the cursor comes back in the end."""

    async def show() -> None:
        made = screen()
        made.text("Half an ans")
        await asyncio.sleep(0.005)
        assert terminal.getvalue().count("\x1b[?25l") == 1
        glass = Glass()
        glass.feed(as_driven(terminal))
        assert glass.text == "Half an ans"
        made.end()
        assert terminal.getvalue().rstrip().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")

    with redirect_stdout(terminal):
        run(show())
    assert shown(terminal).text == "Half an ans"


def test_waiting_is_seen(terminal: Terminal) -> None:
    """Before anything has come, a sign that something is under way; nothing of it stays."""

    async def show() -> None:
        made = screen()
        made.begin()
        await asyncio.sleep(0.005)
        glass = Glass()
        glass.feed(as_driven(terminal))
        assert glass.text == "…"
        made.end()

    with redirect_stdout(terminal):
        run(show())
    assert shown(terminal).text == ""


def test_reasoning_is_seen_and_goes(terminal: Terminal) -> None:
    """Reasoning stands there until the answer begins, its last lines only; nothing of it stays."""

    async def show() -> None:
        made = screen()
        made.thought("\n".join(f"thought {number}" for number in range(9)))
        await asyncio.sleep(0.005)
        glass = Glass()
        glass.feed(as_driven(terminal))
        assert glass.text.splitlines() == ["thought 6", "thought 7", "thought 8"]
        made.end()

    with redirect_stdout(terminal):
        run(show())
    assert shown(terminal).text == ""
    assert drawn(terminal, "answer", thoughts="well").text == "answer"


def test_nothing_steers_the_terminal(terminal: Terminal) -> None:
    """Control characters of an answer are shown as replacement characters, in code and in reasoning too."""
    glass = drawn(terminal, "red \x1b[31m\x07 `\x9b2J`\n\n```\n\x1b]0;title\x07\n```\n", thoughts="\x1b[2J")
    assert glass.text.splitlines() == ["red \ufffd[31m\ufffd \ufffd2J", " \ufffd]0;title\ufffd"]


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_dumb_terminal_gets_no_escapes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    """Where the terminal's name says so, an answer is bare text, on its own line in the end."""
    monkeypatch.setenv("TERM", term)
    with redirect_stdout(terminal):
        made = screen()
        assert type(made) is Screen
        made.thought("hm")
        made.text("**a**\x1b[1m")
        made.end()
        made.end()
    assert terminal.getvalue() == "**a**\ufffd[1m\n"


def test_a_pipe_gets_the_text_as_it_is() -> None:
    """Not a byte is changed; the end of the line is added where it is missing."""
    pipe = io.StringIO()
    with redirect_stdout(pipe):
        made = screen()
        for piece in ("# a", "\x1b[1m\n", "b"):
            made.text(piece)
        made.end()
    assert pipe.getvalue() == "# a\x1b[1m\nb\n"


def test_only_line_feeds_end_lines_of_markdown() -> None:
    """U+2028, U+0085 and the like stand in texts: no block is cut in the wrong place because of them."""
    pytest.importorskip("rich")
    from openaiasync.cli.markdown import _blocks

    blocks = ["one\u2028two\x85three\x0b\n\n", "```\nfour\n\nfive\n```\n\n", "six\n"]
    assert _blocks("".join(blocks)) == blocks
