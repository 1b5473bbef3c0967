"""Starting and stopping child servers: a port that answers, a death that is told, nothing left behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from .conftest import missing
from .processes import NotStarted, serving

SERVE = "import http.server, sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]))"


def test_a_server_runs_until_the_block_ends(tmp_path: Path) -> None:
    """The server answers inside the block and is gone after it, even one that does not watch its stdin."""
    with serving(lambda port: [sys.executable, "-c", SERVE, str(port)], tmp_path / "log", health="/") as running:
        os.kill(running.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
    assert "GET /" in (tmp_path / "log").read_text()


def test_a_server_that_dies_says_why(tmp_path: Path) -> None:
    """A server that ends before it answers is an error with its exit code and log, after three tries."""
    log = tmp_path / "log"
    dying = serving(lambda port: [sys.executable, "-c", "print('no such model'); exit(3)"], log)
    with pytest.raises(NotStarted, match=r"(?s)exit code is 3.*no such model"), dying:
        pass
    assert log.read_text().count("no such model") == 3


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A server that runs but does not answer ends the wait, and is stopped."""
    silent = serving(lambda port: [sys.executable, "-c", "import time; time.sleep(99)"], tmp_path / "log", wait=0.3)
    with pytest.raises(NotStarted, match="exit code is None"), silent:
        pass


def test_a_missing_server_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server the tests skip and say why; in CI they fail."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no wheel"):
        missing("no wheel")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no wheel"):
        missing("no wheel")
