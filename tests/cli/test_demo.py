"""`openaiasync demo`: does the main job, counts honestly, ends cleanly."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from openaiasync.cli.command_line import run
from openaiasync.cli.console import CommandError
from openaiasync.cli.demo_command import SENTENCES, STEPS, Tally, WordWrap, nearest_pairs, questions_of, run_demo
from openaiasync.demo.embed import embed
from openaiasync.errors import APIConnectionError

from .command import COMMAND, Spy, call, environment, refused, started
from .glass import Glass


def summary(text: str) -> dict[str, str]:
    """The numbers of the last part, by their names."""
    _, _, rows = text.partition("count(row)\n")
    return dict(re.split(r"  +", line.strip()) for line in rows.strip().splitlines()[:8])


def test_the_whole_demo() -> None:
    """The demo shows all of its parts; a pipe gets plain text, and stderr stays empty."""
    began = time.monotonic()
    done = call("demo")
    assert time.monotonic() - began < 30
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    for word in ("http://127.0.0.1:", "demo-chat", "Sunlight holds all colours.", "Judy was the brave one"):
        assert word in done.stdout
    for answer in ("temperature says: 21.5.", "City(name='Ulm', people=130000)"):
        assert f"\n{answer}\n" in done.stdout
    (picture,) = re.findall(r"^/.*/circle\.png$", done.stdout, re.MULTILINE)
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(Path(picture).parent)
    found = summary(done.stdout)
    assert (found["calls"], found["in flight"], found["failed"]) == ("500", "32", "0")
    assert int(found["tokens"].replace(",", "")) > 500
    assert float(found["seconds"]) > 0
    assert float(found["calls/s"].replace(",", "")) == pytest.approx(500 / float(found["seconds"]), rel=0.2)
    assert 0 < float(found["p50 ms"]) <= float(found["p99 ms"])
    assert "What to try next" in done.stdout


@pytest.mark.commands
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_demo_on_a_terminal(columns: int, tmp_path: Path) -> None:
    """On narrow and wide terminals lines of code stay whole, and texts are broken between words."""
    pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")
    env = environment(TMPDIR=str(tmp_path))  # where the picture goes
    del env["COLUMNS"]
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "demo", "--calls", "20"],
        env=env,
        timeout=30,
        encoding="utf-8",
        dimensions=(50, columns),
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    glass = Glass(columns, 50)
    glass.feed(child.before)
    lines = glass.lines
    assert max(map(len, lines)) <= columns
    for title, code in STEPS:
        assert [title, "-" * len(title), *code.splitlines()] in windows(lines, 2 + len(code.splitlines()))
    story = " ".join(lines[lines.index('    print(piece.text, end="")') + 1 :])
    assert re.search(
        r"One morning Judy found a key made of glass\. +\S+It does not belong to us,", story.replace('"', "'")
    )
    assert re.search(r"^calls +20$", glass.text, re.MULTILINE)
    texts = " ".join(" ".join(lines).split())
    for sentence in (*SENTENCES, "Checks the connection to your server, named by OPENAI_BASE_URL and OPENAI_API_KEY."):
        assert sentence in texts
    # What is longer than a line is left whole: the terminal breaks it, and a copy of it is right.
    assert [path.name for path in tmp_path.rglob("*.png")] == ["circle.png"]


def windows(lines: list[str], size: int) -> list[list[str]]:
    return [lines[start : start + size] for start in range(len(lines))]


def test_code_fits_the_narrowest_terminal() -> None:
    """A line of 40 characters would make some terminals begin a new line behind it."""
    assert max(len(line) for _, code in STEPS for line in code.splitlines()) < 40


@pytest.mark.parametrize("size", [1, 3, 100])
def test_words_are_wrapped(size: int) -> None:
    """The same lines for pieces of any size; longer words stay whole; without a width nothing changes."""
    text = "one two three\nfour abcdefghijklm five six seven"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    wrapped, plain = WordWrap(10), WordWrap(None)
    lines = "".join([*map(wrapped.feed, pieces), wrapped.end()])
    assert lines == "one two\nthree\nfour\nabcdefghijklm\nfive six\nseven\n"
    assert "".join([*map(plain.feed, pieces), plain.end()]) == f"{text}\n"


@pytest.mark.commands
def test_the_demo_minds_its_own_business() -> None:
    """The user's key, address, headers and proxies are not used, even when they could not work."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        done = call(
            "demo", "--calls", "5",
            OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY="sk-secret", OPENAI_ORG_ID="me",
            OPENAI_CUSTOM_HEADERS="a: \x01",
            HTTP_PROXY=url, http_proxy=url, ALL_PROXY=url, NO_PROXY="",
        )  # fmt: skip
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert done.returncode == 0, done.stderr


def test_the_same_seed_asks_the_same() -> None:
    """The same seed gives the same questions, another seed others."""
    once, again, other = (list(questions_of(50, seed)) for seed in (1, 1, 2))
    assert once == again != other
    assert len(once) == 50


@pytest.mark.commands
def test_ctrl_c() -> None:
    """SIGINT ends the demo quickly with exit code 130 and an empty stderr."""
    with started("demo", "--calls", "1000000") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while b"count(row)" not in child.stdout.readline():
            pass
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert child.wait(15) == 130
        assert time.monotonic() - began < 10
        assert child.stderr.read() == b""


def test_failed_calls_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Calls that fail are in the table, the first with its reason on stderr, and the exit code is 3."""
    asked = 0

    def answer(path: str, body: Any) -> Any:
        nonlocal asked
        if path.endswith("/chat/completions") and not body.get("stream"):
            asked += 1
            return refused("not this one") if asked % 10 == 0 else None
        return None

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run_demo(100, 8, 0, Spy(answer)) == 3
    captured = capsys.readouterr()
    assert summary(captured.out)["calls"] == "100"
    assert summary(captured.out)["failed"] == "10"
    assert "10 of 100 calls failed" in captured.err
    assert "not this one" in captured.err


def test_an_early_failure_ends_the_demo() -> None:
    """The demo ends if its first question is not answered."""
    app = Spy(lambda path, body: refused("broken") if path.endswith("/chat/completions") else None)
    with pytest.raises(CommandError, match="broken") as caught:
        run_demo(10, 2, 0, app)
    assert caught.value.code == 3


def test_a_server_that_cannot_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a free port the demo ends with exit code 1 and one line."""

    async def refuse(self: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("openaiasync.server.HTTPServer.start", refuse)
    assert run(["demo"]) == 1
    assert "cannot start: Too many open files" in capsys.readouterr().err


def test_the_pairs_are_the_paraphrases() -> None:
    """The nearest six pairs of the twelve sentences are the six that say the same."""
    vectors = [embed(sentence, 256) for sentence in SENTENCES]
    pairs = nearest_pairs(vectors, 6)
    assert {(i, j) for _, i, j in pairs} == {(i, i + 1) for i in range(0, 12, 2)}
    assert [cosine for cosine, _, _ in pairs] == sorted((cosine for cosine, _, _ in pairs), reverse=True)


def test_cosines() -> None:
    """The cosine does not depend on lengths, and a vector of zeros is near nothing."""
    pairs = nearest_pairs([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [0.0, 0.0]], 6)
    assert pairs[0] == (1.0, 0, 1)
    assert all(cosine == 0.0 for cosine, _, _ in pairs[1:])


def test_percentiles() -> None:
    """Percentiles are by nearest rank; failed calls count as calls."""
    tally = Tally(latencies=[float(number) for number in range(100, 0, -1)])
    assert (tally.percentile(0.5), tally.percentile(0.99), tally.percentile(1.0)) == (50.0, 99.0, 100.0)
    assert Tally(latencies=[3.0]).percentile(0.99) == 3.0
    assert Tally().percentile(0.5) == 0.0
    assert Tally([1.0], errors=[APIConnectionError(request=None)]).calls == 2
