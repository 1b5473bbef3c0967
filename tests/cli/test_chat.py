"""`openaiasync chat` with a question: as argument, through a pipe, streamed, as JSON."""

from __future__ import annotations

import json
import time

import pytest

from openaiasync.server import ServerThread, demo_app, serve, start_in_thread

from .command import Answer, call, inside, one_line, refused, spied, started

MODEL = ("-m", "demo-chat")


def chunk(text: str, finish: str | None = None, **delta: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def streamed(*parts: bytes) -> Answer:
    return 200, b"".join(parts)


def test_an_answer_on_stdout(server: ServerThread) -> None:
    """The words and a newline on stdout, the choice of the model on stderr."""
    done = call("chat", "say hello world", "--base-url", server.base_url)
    assert done.stdout == "hello world\n"
    assert done.returncode == 0
    assert done.stderr == "Using demo-chat, of 6 models; --model names another.\n"


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
    """`--json` gives the answer object, nothing else."""
    done = call("chat", "say Grüße", "--json", *MODEL, "--base-url", server.base_url)
    answer = json.loads(done.stdout)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Grüße"
    assert answer["usage"]["total_tokens"] > 0
    assert "Grüße" in done.stdout
    assert done.stderr == ""


def test_the_answer_streams() -> None:
    """Words are on stdout long before the answer is whole; when nobody reads them any more, the command ends."""
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
    """SIGINT in the middle of an answer: exit code 130, no traceback, the server rid of the call."""
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
    """Nothing to ask, or bytes that are no text, are wrong usage."""
    done = inside("chat", *arguments, *MODEL, "--base-url", "http://127.0.0.1:9/v1", stdin=piped or b"")
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert word in done.stderr


def test_a_refusal_of_the_server() -> None:
    """An error of the server is one line with its message, however many lines it has."""
    with spied(lambda path, body: refused("no such\nthing \x1b[31mhere")) as (server, _):
        done = inside("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "no such thing \ufffd[31mhere" in done.stderr


def test_an_answer_that_breaks_off() -> None:
    """What had come is on stdout and ends with a newline; the error and exit code 1 say that it is not all."""
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
    """An answer that is cut, filtered, refused or empty is explained on stderr, and is no error."""
    with spied(lambda path, body: answer) as (server, _):
        done = inside("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert words in done.stderr
    assert done.returncode == 0


def test_a_pipe_gets_the_text_untouched() -> None:
    """Control characters of an answer are the pipe's business; text that is no Unicode text ends nothing."""
    parts = (chunk("a\x1b[31m\ttab"), chunk("\ud83d", "stop"), b"data: [DONE]\n\n")
    with spied(lambda path, body: streamed(*parts)) as (server, _):
        done = call("chat", "hello", *MODEL, "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a\x1b[31m\ttab")
