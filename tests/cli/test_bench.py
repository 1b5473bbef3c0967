"""`openaiasync bench` as a user runs it: the demo server under load, reports, errors, Ctrl-C, exit codes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from openaiasync.server import ServerThread

from .command import Answer, inside, one_line, refused, spied, started

pytestmark = pytest.mark.commands

QUICK = ("-n", "6", "--warmup", "0", "--max-tokens", "8", "-m", "demo-chat", "-c")


def test_a_closed_loop(server: ServerThread) -> None:
    """The figures are on stdout: latencies, throughput, the verdict; exit code 0."""
    done = inside("bench", server.base_url, *QUICK, "2", "--goal", "latency=60s")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    assert text.startswith("concurrency 2: 6 answers in ")
    for words in ("time to first token", "between chunks", "in flight", "throughput", "client: core ", "VERDICT: "):
        assert words in text
    assert "goodput 100.0 %" in text
    assert done.stderr == ""


def test_a_sweep_as_json_and_html(server: ServerThread, tmp_path: Path) -> None:
    """Each stage is in the JSON object and on the page; nothing on the page comes from another host."""
    page = tmp_path / "load.html"
    done = inside("bench", server.base_url, *QUICK, "1,3", "--json", "--html", str(page))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [stage["load"] for stage in report["stages"]] == ["concurrency 1", "concurrency 3"]
    assert all(stage["ok"] == 6 and stage["ttft"]["count"] == 6 for stage in report["stages"])
    assert all(stage["verdict"]["level"] in ("server", "strained", "client") for stage in report["stages"])
    assert report["model"] == "demo-chat"
    assert "uvloop" in report["versions"]
    text = page.read_text()
    assert text.count("<section>") == 2
    assert text.count("<svg") >= 5
    assert "Throughput by concurrency" in text
    assert not [word for word in ("<script", "src=", "href=", "@import", "url(") if word in text]


def test_an_open_loop_with_a_limit_on_a_narrow_terminal(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates take fractions, and no line is longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "34")
    done = inside(
        "bench", server.base_url, "-r", "20.5", "--arrivals", "constant", "--max-in-flight", "1", "-d", "0.4",
        "--warmup", "0", "--max-tokens", "4", "-m", "demo-chat", "--loop", "asyncio",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rate 20.5/s, at most 1 in")
    assert max(map(len, done.stdout.splitlines())) <= 34


def test_rows_of_a_file_and_parameters(tmp_path: Path) -> None:
    """`--input` sends the rows; `-o` adds JSON values or texts, which the rows may override."""
    rows = tmp_path / "rows.jsonl"
    body = {"model": "demo-chat", "messages": [{"role": "user", "content": "a"}]}
    rows.write_text(
        json.dumps({"url": "/v1/chat/completions", "body": {**body, "temperature": 0.5}})
        + "\n"
        + json.dumps({"url": "/v1/chat/completions", "body": body})
    )
    with spied() as (server, spy):
        done = inside(
            "bench", server.base_url, "-i", str(rows), "-n", "3", "-c", "1", "--warmup", "0", "--seed", "4",
            "-o", "temperature", "0", "-o", "user", "me", "-o", "stop", '["x"]',
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = [(one["temperature"], one["user"], one["stop"], one["stream"]) for one in spy.bodies("/chat/completions")]
    assert sent == [(0.5, "me", ["x"], True), (0, "me", ["x"], True)] * 2, "the first is the check"
    assert not [path for path, _ in spy.requests if path.endswith("/models")], "the rows name their model"


def test_lengths_percentiles_and_a_file_of_requests(tmp_path: Path) -> None:
    """Lengths are drawn from ranges, prompts share a prefix; the file has every request."""
    file = tmp_path / "requests.jsonl"
    with spied() as (server, spy):
        done = inside(
            "bench", server.base_url, "-m", "demo-chat", "-n", "5", "-c", "2", "--warmup", "0", "--input-tokens", "4-6",
            "--prefix-tokens", "10", "--max-tokens", "3-9", "--percentiles", "p50,99.9",
            "--save-requests", str(file),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["mean", "p50", "p99.9", "max"]
    bodies = spy.bodies("/chat/completions")
    assert all(3 <= body["max_tokens"] <= 9 for body in bodies)
    assert len({body["max_tokens"] for body in bodies}) > 1
    words = [body["messages"][0]["content"].split() for body in bodies]
    assert len({" ".join(one[:10]) for one in words}) == 1
    assert all(14 <= len(one) <= 16 for one in words)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 5
    assert all(line["load"] == "concurrency 2" and line["measured"] and line["ttft"] > 0 for line in lines)
    assert all(len(line["gaps"]) == line["chunks"] - 1 for line in lines)


def test_answers_that_go_on_to_their_limit() -> None:
    """`--ignore-eos` asks for them; a server that does not know it says so in answer to the first request."""
    with spied() as (server, spy):
        done = inside("bench", server.base_url, *QUICK, "2", "--ignore-eos")
    assert done.returncode == 1
    assert "ignore_eos" in done.stderr
    assert [body["ignore_eos"] for body in spy.bodies("/chat/completions")] == [True]


def test_words_of_the_server_are_no_markup(tmp_path: Path) -> None:
    """Neither on the page nor on the terminal, whatever the server says in its errors."""
    page, seen = tmp_path / "page.html", 0

    def sometimes(path: str, body: object) -> Answer:
        nonlocal seen
        seen += 1
        return refused("<script>alert(1)</script>\x1b[31m", 429) if seen > 1 else None

    with spied(sometimes) as (server, _):
        done = inside("bench", server.base_url, *QUICK, "1", "--html", str(page))
    assert done.returncode == 1, done.stderr
    assert "<script>alert(1)</script>" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.parametrize("operation", ["completion", "response", "embedding"])
def test_other_operations(operation: str, server: ServerThread) -> None:
    """Completions and responses are streamed as well; embeddings have only a latency."""
    model = {"embedding": "demo-embed", "completion": "demo-complete"}.get(operation, "demo-chat")
    done = inside(
        "bench", server.base_url, "--endpoint", operation, "-n", "3", "-c", "1", "--warmup", "0", "-m", model, "--json"
    )
    assert done.returncode == 0, done.stderr
    stage = json.loads(done.stdout)["stages"][0]
    assert stage["ok"] == 3
    assert (stage["ttft"] is None) == (operation == "embedding")
    assert stage["input_tokens"] > 0


def test_a_dead_server() -> None:
    """A server that cannot be reached ends with exit code 1 and one line, without figures."""
    done = inside("bench", "http://127.0.0.1:9/v1", "-m", "x", "-n", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr)
    assert "could not connect" in done.stderr


def test_a_refused_key() -> None:
    """The check before the test reports the error of every request; the key is not shown."""
    with spied(lambda path, body: refused("no such key", 401)) as (server, spy):
        done = inside("bench", server.base_url, "-m", "x", "--api-key", "sk-very-secret", "-n", "50")
    assert done.returncode == 1
    assert "no such key" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr
    assert len(spy.requests) == 1


def test_some_requests_fail() -> None:
    """429s are counted by kind with the server's words; exit code 3. If all fail, it is 1."""
    seen = 0

    def sometimes(path: str, body: object) -> Answer:
        nonlocal seen
        seen += 1
        return refused("slow down", 429) if seen > 1 and seen % 2 else None

    with spied(sometimes) as (server, _):
        done = inside("bench", server.base_url, *QUICK, "2")
    assert done.returncode == 3, done.stdout
    assert "× 429 RateLimitError: slow down" in done.stdout
    assert ", 3 failed" in done.stdout

    seen = -100

    def after_the_check(path: str, body: object) -> Answer:
        nonlocal seen
        seen += 1
        return refused("slow down", 429) if seen > -99 else None

    with spied(after_the_check) as (server, _):
        done = inside("bench", server.base_url, *QUICK, "2")
    assert done.returncode == 1
    assert "6 failed" in done.stdout


def test_ctrl_c_prints_what_there_is() -> None:
    """The first Ctrl-C ends the test with its figures; exit code 130."""
    arguments = ("-c", "2", "--warmup", "0", "-m", "demo-chat", "--max-tokens", "4")
    with spied() as (server, spy), started("bench", server.base_url, *arguments) as child:
        deadline = time.monotonic() + 20
        while len(spy.requests) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 130, err
    assert out.startswith(b"concurrency 2: ")
    assert b"VERDICT" in out
    assert b"Stopped" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-c", "2", "-r", "5"), "--concurrency"),
        (("-c", "0"), "--concurrency"),
        (("-c", "2,x"), "--concurrency"),
        (("-r", "nan"), "--rate"),
        (("--max-in-flight", "3"), "--max-in-flight"),
        (("--prompt", "a", "--input-tokens", "5"), "--input-tokens"),
        (("--input-tokens", "9-5"), "--input-tokens"),
        (("--input", "/nowhere.jsonl"), "/nowhere.jsonl"),
        (("--goal", "speed=5"), "--goal"),
        (("--html", "/nowhere/page.html"), "/nowhere/page.html"),
        (("--save-requests", "/nowhere/requests.jsonl"), "/nowhere/requests.jsonl"),
        (("--percentiles", "50,101"), "--percentiles"),
        (("--max-tokens", "0"), "--max-tokens"),
        (("--prompt", "a", "--prefix-tokens", "5"), "--prefix-tokens"),
        (("--duration", "inf"), "duration"),
        (("-c", "100000000"), "ulimit"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    """Wrong usage ends with exit code 2 and one line that names the option; nothing is sent."""
    done = inside("bench", "http://127.0.0.1:9/v1", "-m", "x", *arguments)
    assert done.returncode == 2, done.stderr
    assert one_line(done.stderr)
    assert words in done.stderr
