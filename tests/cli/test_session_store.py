"""The files of sessions: the XDG state folder, valid names, the last session, the limit of unnamed ones."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from openaiasync.cli import session_store as state
from openaiasync.cli.console import CommandError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "openaiasync" / "sessions"


def test_the_folder(home: Path) -> None:
    """The folder is created when it is needed, for its owner only."""
    assert state.folder() == home
    assert home.is_dir()
    if sys.platform != "win32":
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize("given", ["", "relative/path"])
def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str) -> None:
    """Without the variable, or with a relative path in it, the folder is below ~/.local/state."""
    monkeypatch.setenv("XDG_STATE_HOME", given)
    assert state.folder() == tmp_path / "home" / ".local" / "state" / "openaiasync" / "sessions"


def test_no_folder_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in place of the folder is an error that names the variable."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(CommandError, match="XDG_STATE_HOME"):
        state.folder()


def test_names(home: Path) -> None:
    """A name is a file in the folder."""
    assert state.path_of("Überblick 2.0") == home / "Überblick 2.0.jsonl"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a/b", "slash"),
        ("../x", "slash"),
        ("a\\b", "backslash"),
        ("", "cannot be"),
        (".hidden", "cannot be"),
        ("-x", "cannot be"),
        ("unnamed-1", "cannot be"),
        ("a\nb", "cannot be"),
        ("a\0b", "cannot be"),
        ("x" * 101, "cannot be"),
    ],
)
def test_invalid_names(name: str, words: str) -> None:
    """A path, a control character, what would hide or be taken for an option: refused, with the reason."""
    with pytest.raises(CommandError, match=words):
        state.path_of(name)


def test_the_last_session(home: Path) -> None:
    """The last session is the one written last, named or not; without any it is an error."""
    with pytest.raises(CommandError, match="no session to continue"):
        state.last_session()
    for age, name in enumerate(["a", "b", "c"]):
        path = state.path_of(name)
        path.touch()
        os.utime(path, (1000.0 - age, 1000.0 - age))
    (home / "notes.txt").touch()
    assert state.names() == ["a", "b", "c"]
    os.utime(state.path_of("c"), (2000.0, 2000.0))
    assert state.last_session() == state.path_of("c")


def test_few_unnamed_ones_stay(home: Path) -> None:
    """A new unnamed file has a unique name; the oldest unnamed ones are removed, named ones never."""
    named = state.path_of("old")
    named.touch()
    os.utime(named, (1.0, 1.0))
    made: list[Path] = []
    for age in range(30):
        path = state.unnamed_path()
        path.touch()
        os.utime(path, (1000.0 + age, 1000.0 + age))
        made.append(path)
    assert len(set(made)) == 30
    left = sorted(home.glob("unnamed-*"))
    assert left == sorted(made[-20:])
    assert named.exists()
