"""`openaiasync embed`: order, failed lines, bounded input, and how it ends."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from openaiasync.server import ServerThread

from .command import Answer, call, inside, one_line, refused, spied, started

MODEL = ("-m", "demo-embed", "--dimensions", "8")


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_in_json_lines_out(server: ServerThread) -> None:
    """Each line of output has index, text and embedding; equal texts have equal vectors of the requested length."""
    done = call("embed", *MODEL, "--base-url", server.base_url, stdin="Grüße\nein Text\nGrüße".encode())
    rows = rows_of(done.stdout)
    assert [(row["index"], row["text"]) for row in rows] == [(0, "Grüße"), (1, "ein Text"), (2, "Grüße")]
    assert all(list(row) == ["index", "text", "embedding"] and len(row["embedding"]) == 8 for row in rows)
    assert rows[0]["embedding"] == rows[2]["embedding"] != rows[1]["embedding"]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file(server: ServerThread, tmp_path: Path) -> None:
    """A named file is read like stdin: the byte order mark and Windows line ends are not part of the text."""
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffone\r\n\r\n  \r\ntwo\r\n".encode())
    rows = rows_of(inside("embed", str(file), *MODEL, "--base-url", server.base_url).stdout)
    assert [(row["index"], row["text"]) for row in rows] == [(0, "one"), (3, "two")]


@pytest.mark.parametrize("name", ["nowhere.txt", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """A wrong file is wrong usage."""
    done = inside("embed", str(tmp_path / name), *MODEL, "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert one_line(done.stderr)


def test_nothing_in_nothing_out(server: ServerThread) -> None:
    """An empty input gives empty output and exit code 0."""
    done = inside("embed", *MODEL, "--base-url", server.base_url, stdin=b"\n\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_order_and_batches() -> None:
    """Each call has `--batch` lines, at most `--in-flight` calls run at the same time, and the order is kept."""
    lines = [f"line {number}" for number in range(100)]
    with spied() as (server, spy):
        done = inside(
            "embed", *MODEL, "--batch", "7", "--in-flight", "3", "--base-url", server.base_url,
            stdin="\n".join(lines).encode(),
        )  # fmt: skip
        assert server.server.peak_in_flight <= 3
    assert [row["text"] for row in rows_of(done.stdout)] == lines
    sizes = sorted(len(body["input"]) for body in spy.bodies("/embeddings"))
    assert sizes == [2] + [7] * 14


def refuse_bad(path: str, body: Any) -> Answer:
    return refused("bad text") if any("bad" in text for text in body["input"]) else None


def test_a_refused_line_fails_alone() -> None:
    """The other lines of the call get their vectors, the refused one has "error"; the exit code is 3."""
    lines = ["good 0", "good 1", "bad 2", "good 3", "good 4", "bad 5", "good 6"]
    with spied(refuse_bad) as (server, _):
        done = inside("embed", *MODEL, "--base-url", server.base_url, stdin="\n".join(lines).encode())
    rows = rows_of(done.stdout)
    assert done.returncode == 3
    assert [row["text"] for row in rows] == lines
    assert [row["index"] for row in rows if "error" in row] == [2, 5]
    assert "bad text" in rows[2]["error"]
    assert sum("embedding" in row for row in rows) == 5
    assert "2 of 7 lines failed" in done.stderr


def test_a_line_that_is_not_text(server: ServerThread) -> None:
    """It is not sent, and its error names the position of the byte."""
    done = inside("embed", *MODEL, "--base-url", server.base_url, stdin=b"good\nb\xffd\ngood")
    rows = rows_of(done.stdout)
    assert done.returncode == 3
    assert "UTF-8" in rows[1]["error"]
    assert ["embedding" in row for row in rows] == [True, False, True]


def test_a_request_that_is_wrong_altogether() -> None:
    """When the first call has every line refused, that is an error of the command, not of each line."""
    with spied(lambda path, body: refused("no such dimensions")) as (server, _):
        done = inside("embed", *MODEL, "--base-url", server.base_url, stdin=b"one\ntwo\n")
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert done.stdout == ""


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_error_that_concerns_every_call(status: int) -> None:
    """Finished lines stay; the rest is not sent."""

    def answer(path: str, body: Any) -> Answer:
        return refused("stop", status) if "line 3" in body["input"] else None

    text = "\n".join(f"line {number}" for number in range(1000)).encode()
    with spied(answer) as (server, spy):
        done = inside("embed", *MODEL, "--batch", "1", "--in-flight", "1", "--base-url", server.base_url, stdin=text)
    assert [row["index"] for row in rows_of(done.stdout)] == [0, 1, 2]
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert len(spy.requests) < 20


def test_a_server_that_forgets_a_vector() -> None:
    """Vectors are never given to the wrong text."""
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5]}]
    answer = {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    with spied(lambda path, body: (200, json.dumps(answer).encode())) as (server, _):
        done = inside("embed", *MODEL, "--base-url", server.base_url, stdin=b"one\ntwo\n")
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert done.stdout == ""


def test_results_come_before_the_input_ends(server: ServerThread) -> None:
    """A full batch is embedded at once; Ctrl-C while the pipe is silent ends with 130 and without a traceback."""
    with started("embed", *MODEL, "--batch", "2", "--base-url", server.base_url) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(b"one\ntwo\nthree\n")
        child.stdin.flush()
        assert [json.loads(child.stdout.readline())["text"] for _ in range(2)] == ["one", "two"]
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert child.wait(10) == 130
        assert time.monotonic() - began < 5
        assert child.stderr.read() == b""
