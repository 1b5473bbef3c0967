"""`openaiasync chat` with a question: as argument, through a pipe, streamed, as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openaiasync.demo import demo_app
from openaiasync.server import ServerThread, serve, start_in_thread

from .command import COMMAND, Answer, call, environment, inside, one_line, refused, spied, started

MODEL = ("-m", "demo-chat")


def chunk(text: str, finish: str | None = None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def streamed(*parts: bytes) -> Answer:
    return 200, b"".join(parts)


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX systems only")
def test_an_argument_in_another_locale(server: ServerThread) -> None:
    """UTF-8 in an argument is understood whatever the locale is; other bytes are named, and not sent."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [os.fsencode(part) for part in (*COMMAND, "chat", "-m", "demo-chat", "--base-url", server.base_url)]
    env = environment(**ascii_only)
    for asked, code, out in ((b"say caf\xc3\xa9", 0, b"caf?\n"), (b"say caf\xe9", 2, b"")):
        done = subprocess.run([*command, asked], stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False)
        assert (done.returncode, done.stdout) == (code, out)
    assert b"the question is not UTF-8 text" in done.stderr


def test_an_answer_on_stdout(server: ServerThread) -> None:
    """The answer and a newline are on stdout, the choice of the model is on stderr."""
    done = call("chat", "say hello world", "--base-url", server.base_url)
    assert done.stdout == "hello world\n"
    assert done.returncode == 0
    assert done.stderr == "Using demo-chat, one of 7 models; choose another with --model.\n"


@pytest.mark.parametrize(
    ("argument", "piped", "question"),
    [
        (["What is it?"], None, "What is it?"),
        ([], b"What is it?\n", "What is it?"),
        (["Summarise this."], b"A long\ntext.\n", "Summarise this.\n\nA long\ntext."),
        (["What is it?"], b"", "What is it?"),
        ([], "\ufeffGrüße\n".encode(), "Grüße"),
    ],
)
def test_where_the_question_comes_from(argument: list[str], piped: bytes | None, question: str) -> None:
    """Argument, pipe, or both, joined by a blank line."""
    with spied() as (server, spy):
        done = inside("chat", *argument, *MODEL, "--base-url", server.base_url, stdin=piped or b"")
    assert done.returncode == 0
    (body,) = spy.bodies("/chat/completions")
    assert body["messages"] == [{"role": "user", "content": question}]
    assert body["stream"] is True


def test_system_prompt() -> None:
    """`-s` comes before the question, with `--json` too."""
    with spied() as (server, spy):
        inside("chat", "hello", "-s", "Be brief.", *MODEL, "--base-url", server.base_url)
        inside("chat", "hello", "--system", "Be brief.", "--json", *MODEL, "--base-url", server.base_url)
    for body in spy.bodies("/chat/completions"):
        assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


def test_json_is_the_whole_answer(server: ServerThread) -> None:
    """`--json` prints only the answer object."""
    done = call("chat", "say Grüße", "--json", *MODEL, "--base-url", server.base_url)
    answer = json.loads(done.stdout)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Grüße"
    assert answer["usage"]["total_tokens"] > 0
    assert "Grüße" in done.stdout
    assert done.stderr == ""


def test_the_answer_streams() -> None:
    """Pieces are on stdout before the answer is complete; the command ends when the reader of its output is gone."""
    app = demo_app(token_delay=0.02)
    with (
        start_in_thread(serve(app, grace=0.0)) as server,
        started("chat", "count to 2000", *MODEL, "--base-url", server.base_url) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.close()
        assert child.stdout.read(1) == b"1"
        assert child.poll() is None
        child.stdout.close()
        assert child.wait(10) == 0
        assert b"Traceback" not in child.stderr.read()


def test_ctrl_c_ends_a_question() -> None:
    """SIGINT during an answer ends with exit code 130, without a traceback, and cancels the call."""
    import signal

    app = demo_app(token_delay=0.02)
    with (
        start_in_thread(serve(app, grace=0.0)) as server,
        started("chat", "count to 2000", *MODEL, "--base-url", server.base_url) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.close()
        child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert child.stderr.read() == b""
        end = time.monotonic() + 5
        while server.server.in_flight and time.monotonic() < end:
            time.sleep(0.01)
        assert server.server.in_flight == 0


@pytest.mark.parametrize(
    ("arguments", "piped", "word"),
    [([], b"", "empty"), ([" "], None, "empty"), ([], b" \n", "empty"), ([], b"\xff\xfe\x00", "UTF-8")],
)
def test_no_question(arguments: list[str], piped: bytes | None, word: str) -> None:
    """An empty question and bytes that are not text are wrong usage."""
    done = inside("chat", *arguments, *MODEL, "--base-url", "http://127.0.0.1:9/v1", stdin=piped or b"")
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert word in done.stderr


def test_a_refusal_of_the_server() -> None:
    """An error of the server is printed as one line, however many lines its message has."""
    with spied(lambda path, body: refused("no such\nthing \x1b[31mhere")) as (server, _):
        done = inside("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "no such thing \ufffd[31mhere" in done.stderr


def test_an_answer_that_breaks_off() -> None:
    """The received part is on stdout and ends with a newline; the error and exit code 1 show that it is incomplete."""
    with spied(lambda path, body: streamed(chunk("Half an "), chunk("answer"))) as (server, _):
        done = inside("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert done.stdout == "Half an answer\n"
    assert done.returncode == 1
    assert one_line(done.stderr)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (streamed(chunk("cut", "length"), b"data: [DONE]\n\n"), "length limit"),
        (streamed(chunk("", "content_filter"), b"data: [DONE]\n\n"), "content filter"),
        (streamed(chunk("", "stop"), b"data: [DONE]\n\n"), "empty"),
        (streamed(chunk("", "stop", refusal="I will not."), b"data: [DONE]\n\n"), "refused: I will not."),
    ],
)
def test_why_there_is_less_to_read(answer: Answer, words: str) -> None:
    """An answer that is cut, filtered, refused or empty is explained on stderr, and the exit code is 0."""
    with spied(lambda path, body: answer) as (server, _):
        done = inside("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert words in done.stderr
    assert done.returncode == 0


def test_a_pipe_gets_the_text_untouched() -> None:
    """Control characters reach a pipe unchanged; lone surrogates do not end the command."""
    parts = (chunk("a\x1b[31m\ttab"), chunk("\ud83d", "stop"), b"data: [DONE]\n\n")
    with spied(lambda path, body: streamed(*parts)) as (server, _):
        done = call("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a\x1b[31m\ttab")


def seen(spy: Any) -> list[list[str]]:
    """The texts of every request."""
    return [[message["content"] for message in body["messages"]] for body in spy.bodies("/chat/completions")]


def test_a_session_of_questions(state_folder: Path) -> None:
    """`--session` continues the session of that name with its model and system prompt, `--continue` the last one."""
    with spied() as (server, spy):
        where = ("--base-url", server.base_url)
        for options in (
            ("say one", "--session", "a", "-s", "Be brief.", *MODEL),
            ("say two", "--session", "b", *MODEL),
            ("say three", "--session", "a"),
            ("say four", "-c"),
            ("say five", "-c", "-s", "Be long.", "--json"),
            ("say six", *MODEL),
        ):
            done = inside("chat", *options, *where)
            assert done.returncode == 0, done.stderr
            assert "Using" not in done.stderr
    a = ["Be brief.", "say one", "one", "say three", "three", "say four"]
    assert seen(spy)[2:] == [a[:4], a, ["Be long.", *a[1:], "four", "say five"], ["say six"]]
    assert sorted(path.name for path in state_folder.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_a_failed_question_is_not_kept(state_folder: Path) -> None:
    """A failed question is not saved, and no file is created for it."""
    with spied(lambda path, body: refused("no") if "bad" in str(body) else None) as (server, spy):
        options = ("--session", "a", *MODEL, "--base-url", server.base_url)
        assert inside("chat", "bad", *options).returncode == 1
        assert list(state_folder.iterdir()) == []
        inside("chat", "say one", *options)
        assert inside("chat", "bad", *options).returncode == 1
        inside("chat", "say two", *options)
    assert seen(spy)[-1] == ["say one", "one", "say two"]


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (["--session", "a/b"], "slash", 2),
        (["--session", "a", "--continue"], "use one of them", 2),
        (["--forget", "--continue"], "use one of them", 2),
        (["--continue"], "no session to continue", 2),
        (["--session", "other"], "not a saved session", 1),
        (["--tool", "nothing"], "module:function", 2),
        (["--tool", "no_such_module:f"], "no module 'no_such_module'", 2),
        (["--tool", "os.path:join"], "the tool os.path:join: ", 2),
        (["--schema", "none.json"], "cannot read the schema", 2),
        (["--schema", "text"], "is not JSON", 2),
        (["--image", "none.png"], "cannot read none.png", 2),
        (["--image", "text"], "is not an image", 2),
    ],
)
def test_wrong_options(
    options: list[str],
    words: str,
    code: int,
    tmp_path: Path,
    state_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each ends with one line that says what is wrong; nothing is sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "text").write_text("some text", encoding="utf-8")
    if "other" in options:
        state_folder.mkdir(parents=True)
        (state_folder / "other.jsonl").write_text('{"of": "another kind"}\n', encoding="utf-8")
    with spied() as (server, spy):
        done = inside("chat", "hello", *options, *MODEL, "--base-url", server.base_url)
        assert spy.requests == []
    assert done.returncode == code, done.stderr
    assert one_line(done.stderr)
    assert words in done.stderr


def test_a_tool_and_a_schema_in_a_pipe(tmp_path: Path) -> None:
    """Calls of tools are shown on stderr; with a schema, stdout is one JSON document."""
    (tmp_path / "sums_of_mine.py").write_text(
        'def add(a: int, b: int) -> int:\n    "Add two numbers."\n    return a + b\n', encoding="utf-8"
    )
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    (tmp_path / "s.json").write_text(json.dumps(schema), encoding="utf-8")

    def answer(path: str, body: Any) -> Answer:
        if body["messages"][-1]["role"] == "tool":
            return streamed(chunk("It is " + body["messages"][-1]["content"], "stop"), b"data: [DONE]\n\n")
        call = {"index": 0, "id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}}
        made: Any = {"tool_calls": [call]}
        return streamed(chunk("", "tool_calls", **made), b"data: [DONE]\n\n") if body.get("tools") else None

    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        with spied(answer) as (server, _):
            where = (*MODEL, "--base-url", server.base_url)
            done = call("chat", "one and two?", "--tool", "sums_of_mine:add", *where)
            assert done.stdout == "It is 3\n"
            assert done.stderr == 'add({"a":1,"b":2})\nadd: 3\n'
            done = call("chat", "one and two?", "--schema", "s.json", *where)
    finally:
        os.chdir(before)
    assert done.stderr == ""
    assert list(json.loads(done.stdout)) == ["sum"]


def test_an_image(tmp_path: Path) -> None:
    """Each image is part of the message: a file as its bytes, a URL unchanged."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with spied(lambda path, body: streamed(chunk("A.", "stop"), b"data: [DONE]\n\n")) as (server, spy):
        image = ("--image", str(tmp_path / "a.png"), "-i", "https://example.org/b.png")
        inside("chat", "What?", *image, *MODEL, "--base-url", server.base_url)
    (content,) = (message["content"] for message in spy.bodies("/chat/completions")[0]["messages"])
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]


@pytest.mark.commands
def test_two_commands_with_one_new_session(server: ServerThread, state_folder: Path) -> None:
    """Of two commands that start with the same new name, each keeps its answered turn or fails."""
    words = ("one", "two")
    for attempt in range(3):
        options = ("--session", f"new{attempt}", *MODEL, "--base-url", server.base_url)
        with ThreadPoolExecutor(2) as both:
            ends = list(both.map(lambda word, options=options: call("chat", f"say {word}", *options), words))
        text = (state_folder / f"new{attempt}.jsonl").read_text(encoding="utf-8")
        assert 0 in {done.returncode for done in ends}
        for word, done in zip(words, ends, strict=True):
            assert (done.returncode == 0) == (f"say {word}" in text), (done.stderr, text)
            assert done.returncode == 0 or "in use by another session" in done.stderr
