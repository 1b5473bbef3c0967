"""`openaiasync serve --upstream`: what it listens for, its keys, how it ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from openaiasync.testing import FakeServer

from .command import inside, one_line, started


def test_a_front_for_a_server(tmp_path: Path) -> None:
    """The first line is its base URL; keys come from the environment and from files; SIGTERM ends it."""
    (tmp_path / "keys").write_text("# keys\n\nbob=sk-bob,rpm=100\n")
    with FakeServer() as upstream:
        upstream.reply("hello", times=None)
        arguments = ["--upstream", upstream.url, "--upstream-key", "env:UP", "--key", "alice=env:ALICE", "--port", "0"]
        arguments += ["--keys", str(tmp_path / "keys"), "--max-in-flight", "4", "--cache", str(tmp_path / "cache")]
        with started("serve", *arguments, UP="sk-up", ALICE="sk-alice") as child:
            assert child.stdout is not None
            assert child.stderr is not None
            url = child.stdout.readline().decode().strip()
            for key in ("sk-alice", "sk-bob"):
                done = inside("chat", "hi", "--base-url", url, "--api-key", key, "--model", "m")
                assert done.stdout == "hello\n"
            assert inside("chat", "hi", "--base-url", url, "--api-key", "sk-up", "--model", "m").returncode == 1
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0
            said = child.stderr.read().decode()
            assert f"127.0.0.1:{upstream.port}" in said
            assert "sk-" not in said
        assert [request.headers["authorization"] for request in upstream.requests] == ["Bearer sk-up"] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rpm", "3"], "--upstream"),
        (["--upstream", "http://x/v1", "module:app"], "exclude each other"),
        (["--upstream", "http://x/v1", "--api-key", "k"], "--key"),
        (["--upstream", "ftp://x"], "http"),
        (["--upstream", "http://x", "--upstream-key", "none", "--upstream-key", "none"], "one for each"),
        (["--upstream", "http://x", "--upstream-key", "env:NOT_THERE"], "NOT_THERE"),
        (["--upstream", "http://x", "--key", "sk-secret"], "NAME="),
        (["--upstream", "http://x", "--key", "a=file:/not/there"], "/not/there"),
        (["--upstream", "http://x", "--key", "a=sk-secret,rps=3"], "rpm="),
        (["--upstream", "http://x", "--key", "a=sk-secret,rpm=0"], "rpm"),
        (["--upstream", "http://x", "--keys", "/not/there"], "/not/there"),
    ],
)
def test_wrong_options(arguments: list[str], words: str) -> None:
    """One line that says what to do, exit code 2, and no secret in it."""
    done = inside("serve", "--port", "0", *arguments)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr
    assert "secret" not in done.stderr
