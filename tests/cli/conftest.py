"""The built-in server, started once for all commands, and folders for settings and state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openaiasync.demo import demo_app
from openaiasync.server import ServerThread, serve, start_in_thread


@pytest.fixture(scope="package")
def server() -> Iterator[ServerThread]:
    with start_in_thread(serve(demo_app(strict=True))) as running:
        yield running


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the folders of the user who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "openaiasync" / "sessions"
