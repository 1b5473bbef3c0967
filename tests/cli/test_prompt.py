"""The prompt of a conversation: editing, pasted lines, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openaiasync.cli.prompt import EditedPrompt, LinePrompt, prompt_for

pytest.importorskip("prompt_toolkit", reason="needs prompt_toolkit")

LEFT = "\x1b[D"


@contextmanager
def typed(keys: str) -> Iterator[EditedPrompt]:
    """A prompt with these keys typed."""
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    with create_pipe_input() as given, create_app_session(input=given, output=DummyOutput()):
        given.send_text(keys)
        yield EditedPrompt(["/undo", "/usage", "/retry"])


@pytest.mark.parametrize(
    ("keys", "read"),
    [
        ("hello\r", "hello"),
        ("  hello \n", "hello"),
        ("\r", ""),
        ("helo" + LEFT + "l\r", "hello"),
        ("a\x1b\rb\r", "a\nb"),
        ("\x1b[200~one\ntwo\r\n/three\n\x1b[201~\r", "one\ntwo\n/three"),
        ("/ret\t\r", "/retry"),
        ("half\x03", ""),
        ("\x04", None),
    ],
)
def test_keys(keys: str, read: str | None) -> None:
    """Enter submits, Alt-Enter breaks the line, a paste keeps its lines, Tab completes, Ctrl-C clears, Ctrl-D ends."""
    with typed(keys) as prompt:
        assert prompt.read() == read


@pytest.mark.parametrize(("given", "read"), [("hello \n", "hello"), ("\n", ""), ("", None)])
def test_lines(monkeypatch: pytest.MonkeyPatch, given: str, read: str | None) -> None:
    """Without line editing, plain lines are read; the prompt goes to stderr."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert LinePrompt().read() == read
    assert out.getvalue() == ""
    assert err.getvalue().startswith("> ")


def test_which_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are edited on a terminal only, and not on a dumb one."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def chosen(term: str, out: Any) -> type:
        monkeypatch.setenv("TERM", term)
        monkeypatch.setattr("sys.stdout", out)
        return type(prompt_for([]))

    with typed(""):
        assert chosen("xterm", Terminal()) is EditedPrompt
        assert chosen("dumb", Terminal()) is LinePrompt
        assert chosen("xterm", io.StringIO()) is LinePrompt
