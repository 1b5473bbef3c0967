"""`openaiasync serve --upstream`: what it listens for, its keys, how it ends."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from openaiasync.testing import FakeServer

from .command import inside, one_line, started

pytestmark = pytest.mark.commands


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


def test_record_and_replay(tmp_path: Path) -> None:
    """What one process recorded until SIGTERM another one answers, without a server, and says what is missing."""
    path = tmp_path / "new" / "session.jsonl"
    with FakeServer() as upstream:
        upstream.reply("hello", times=None)
        with started("serve", "--port", "0", "--upstream", upstream.url, "--record", str(path)) as child:
            assert child.stdout is not None
            url = child.stdout.readline().decode().strip()
            first = inside("chat", "hi", "--base-url", url, "--api-key", "sk-secret-of-the-client", "--model", "m")
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0
    assert first.stdout == "hello\n"
    assert b"sk-secret" not in path.read_bytes()
    with started("serve", "--port", "0", "--replay", str(path)) as child:
        assert child.stdout is not None
        url = child.stdout.readline().decode().strip()
        for _ in range(2):
            done = inside("chat", "hi", "--base-url", url, "--api-key", "another", "--model", "m")
            assert done.stdout == "hello\n"
        done = inside("chat", "bye", "--base-url", url, "--api-key", "another", "--model", "m")
        assert done.returncode == 1
        assert "no recorded answer" in done.stderr


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    """What one front has answered another one answers at the same time, from the same file."""

    def ask(url: str, text: str) -> str | None:
        body = json.dumps({"model": "e", "input": text}).encode()
        request = urllib.request.Request(f"{url}/embeddings", body, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            assert json.load(answer)["data"][0]["embedding"] == [1.0, 2.0]
            hit: str | None = answer.headers["x-cache"]
            return hit

    with FakeServer() as upstream:
        upstream.reply(embeddings=[[1.0, 2.0]], times=None)
        arguments = ["--port", "0", "--upstream", upstream.url, "--cache", str(tmp_path / "cache.db")]
        with started("serve", *arguments) as one, started("serve", *arguments) as two:
            assert one.stdout is not None
            assert two.stdout is not None
            urls = [child.stdout.readline().decode().strip() for child in (one, two)]  # type: ignore[union-attr]
            for number in range(40):  # both write
                ask(urls[number % 2], f"text {number}")
            assert len(upstream.requests) == 40
            end = time.monotonic() + 10
            while ask(urls[0], "text 1") != "hit" or ask(urls[1], "text 0") != "hit":
                assert time.monotonic() < end
                time.sleep(0.1)
            one.send_signal(signal.SIGTERM)
            assert one.wait(10) == 0
            assert all(ask(urls[1], f"text {number}") == "hit" for number in range(40))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rpm", "3"], "--upstream"),
        (["--upstream", "http://x/v1", "module:app"], "exclude each other"),
        (["--upstream", "http://x/v1", "--api-key", "k"], "--key"),
        (["--upstream", "ftp://x"], "an upstream is an absolute http or https URL"),
        (["--upstream", "http://u:secret@x/v1", "--upstream-key", "env:NOT_THERE"], "--upstream-key 1"),
        (["--upstream", "ftp://u:secret@x/v1"], "an upstream is an absolute http or https URL"),
        (["--upstream", "http://x", "--record", "a", "--replay", "b"], "not both"),
        (["--replay", "/not/there"], "does not exist or is empty"),
        (["--upstream", "http://x", "--record", "/dev/null/a"], "cannot be opened: Not a directory"),
        (["--upstream", "http://x", "--record", __file__], "is not a cassette and is not replaced"),
        (["--upstream", "http://x", "--cache", __file__], "cannot be used as a cache"),
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
