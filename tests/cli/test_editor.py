"""`/edit` and `!edit`: the question is written in the user's editor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from openaiasync.cli.console import CommandError
from openaiasync.cli.editor import edited_text

from .command import refused
from .seat import seat

pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(sys.platform == "win32", reason="the editors here are shell scripts"),
]


@pytest.fixture
def editor(tmp_path: Path) -> Path:
    """An editor that records the file's name, text and mode, and runs the script `edit` on it."""
    program = tmp_path / "my editor"
    program.write_text(
        f'#!/bin/sh\ncp "$2" "{tmp_path}/before"; stat -c %a "$2" > "{tmp_path}/mode"; echo "$2" > "{tmp_path}/name"\n'
        f'exec /bin/sh "{tmp_path}/edit" "$2"\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    (tmp_path / "edit").write_text('printf "say\\none two\\n" > "$1"', encoding="utf-8")
    return program


def test_a_question_from_the_editor(editor: Path, tmp_path: Path) -> None:
    """The lines are one question; the file had the given text, was readable by its owner only, and is removed."""
    with seat(EDITOR=f"'{editor}' --wait", VISUAL="") as me:
        assert "one two" in me.say("!edit begin with this")
        assert me.asked()[0][-1]["content"] == "say\none two"
        assert (tmp_path / "before").read_text(encoding="utf-8") == "begin with this"
        assert (tmp_path / "mode").read_text(encoding="utf-8") == "600\n"
        assert not os.path.exists((tmp_path / "name").read_text(encoding="utf-8").strip())
        (tmp_path / "edit").write_text(': > "$1"', encoding="utf-8")
        assert "nothing was sent" in me.say("/edit")
        (tmp_path / "edit").write_text("exit 3", encoding="utf-8")
        assert "ended with exit code 3; nothing was sent" in me.say("!edit")
        assert len(me.asked()) == 1
        assert me.leave() == 0


def test_a_question_that_failed_is_edited(editor: Path, tmp_path: Path) -> None:
    """Without a text the editor begins with the question that was not answered."""

    def answer(path: str, body: Any) -> Any:
        return refused("not that") if "bad" in str(body) else None

    with seat(EDITOR=f"'{editor}' -w", VISUAL="", answer=answer) as me:
        assert "not that" in me.say("say something bad")
        assert "one two" in me.say("!edit")
        assert (tmp_path / "before").read_text(encoding="utf-8") == "say something bad"
        assert me.leave() == 0


def test_ctrl_c_in_the_editor(editor: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the editor; the conversation goes on."""
    (tmp_path / "edit").write_text("echo editing; sleep 30", encoding="utf-8")
    with seat(EDITOR=f"'{editor}' -w", VISUAL="") as me:
        me.type("!edit\r")
        me.see("editing")
        me.type("\x03")
        me.see("nothing was sent")
        me.prompted(2)
        assert me.say("say still here").endswith("still here")
        assert me.leave() == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [("/no/such/editor", "cannot run the editor /no/such/editor"), ("'open", "EDITOR is not a command"),
     ("false", "exit code 1")],
)  # fmt: skip
def test_no_editor(command: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what cannot be run, and what to set."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", command)
    with pytest.raises(CommandError, match=words):
        edited_text("")
    monkeypatch.setenv("EDITOR", "")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError, match="set EDITOR"):
        edited_text("")


def test_what_the_editor_leaves(monkeypatch: pytest.MonkeyPatch, editor: Path, tmp_path: Path) -> None:
    """VISUAL wins; bytes that are not text, and a removed file, are errors."""
    monkeypatch.setenv("VISUAL", f"'{editor}' -w")
    monkeypatch.setenv("EDITOR", "false")
    assert edited_text("") == "say\none two"
    (tmp_path / "edit").write_text("printf '\\377' > \"$1\"", encoding="utf-8")
    with pytest.raises(CommandError, match="not UTF-8"):
        edited_text("")
    (tmp_path / "edit").write_text('rm "$1"', encoding="utf-8")
    with pytest.raises(CommandError, match="cannot read"):
        edited_text("")
